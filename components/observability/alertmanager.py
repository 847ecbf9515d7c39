"""Alertmanager: groups the alerts, mutes those that another explains, and sends them to people."""

from typing import Any

import pulumi
import yaml

from components.context import Platform
from components.images import ALERTMANAGER, Image
from components.observability.rules import WATCHDOG
from components.service import (
    FILES,
    SECRETS,
    Alert,
    Container,
    DataVolume,
    Health,
    Metrics,
    Network,
    Route,
    Service,
    Severity,
)
from settings import Monitoring, Role, read_file

HOST = "alerts"
PORT = 9093
WEBHOOK = "webhook"
SLACK = "slack-webhook"
DISCORD = "discord-webhook"
EMAIL = "email-password"


class Alertmanager(Service):
    """The service that tells people."""

    name = "alertmanager"
    area = "observability"

    @property
    def image(self) -> Image:
        """Alertmanager."""
        return ALERTMANAGER

    def routes(self) -> tuple[Route, ...]:
        """Return the address of its page, for administrators: whoever sees it can silence alerts."""
        title = "Alertmanager: alerts"
        return (Route(host=HOST, port=PORT, health_path="/-/healthy", title=title, roles=(Role.ADMIN,)),)

    def metrics(self) -> tuple[Metrics, ...]:
        """Return Alertmanager's own measurements."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alert that other alerts do not arrive; it can still arrive by another channel."""
        return (
            Alert(
                name="AlertsNotDelivered",
                expression="increase(alertmanager_notifications_failed_total[5m]) > 0",
                seconds=60,
                severity=Severity.WARNING,
                kind="delivery",
                summary="Alerts do not arrive by {{ $labels.integration }}",
                description="In the last 5 minutes Alertmanager could not deliver by this channel.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return Alertmanager's container; it has a way out only if there is somebody outside to tell."""
        chosen = self.settings.monitoring
        return Container(
            entrypoint=("alertmanager",),
            command=(
                f"--config.file={FILES}/alertmanager.yml",
                "--storage.path=/alertmanager",
                # Full, with its scheme, or the server does not start.
                f"--web.external-url={platform.url(HOST)}/",
                f"--web.listen-address=:{PORT}",
                # One server: no cluster to find.
                "--cluster.listen-address=",
            ),
            files={"alertmanager.yml": configuration(chosen)},
            secrets=_secrets(platform, chosen),
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/-/healthy"),
                interval_seconds=10,
                start_seconds=20,
            ),
            networks=(Network.OBSERVABILITY, *((Network.EDGE,) if _outside(chosen) else ())),
            volumes=(DataVolume(name="alertmanager-data", path="/alertmanager"),),
            user="65534",
            memory_mb=128,
        )


def _outside(chosen: Monitoring) -> bool:
    """Whether anybody is told at all."""
    return bool(
        chosen.webhooks
        or chosen.webhook_file
        or chosen.watchdog_webhook
        or chosen.slack_webhook_file
        or chosen.discord_webhook_file
        or chosen.email_to
    )


def _secrets(platform: Platform, chosen: Monitoring) -> dict[str, pulumi.Output[str]]:
    """Return the secret files: addresses of webhooks are secrets, too, because whoever knows one can write there."""
    files = {
        WEBHOOK: ("monitoring-webhook-file", chosen.webhook_file),
        SLACK: ("monitoring-slack-webhook-file", chosen.slack_webhook_file),
        DISCORD: ("monitoring-discord-webhook-file", chosen.discord_webhook_file),
        EMAIL: ("monitoring-email-password-file", chosen.email_password_file),
    }
    return {
        name: platform.given(f"alertmanager-{name}", pulumi.Output.secret(read_file(setting, path)))
        for name, (setting, path) in files.items()
        if path
    }


def configuration(chosen: Monitoring) -> str:
    """Return ``alertmanager.yml``; it holds no secret. Without any channel, alerts are only shown by the server."""
    receiver: dict[str, Any] = {"name": "people"}
    addresses: list[dict[str, Any]] = [{"url": url} for url in chosen.webhooks]
    if chosen.webhook_file:
        addresses.append({"url_file": f"{SECRETS}/{WEBHOOK}"})
    if addresses:
        receiver["webhook_configs"] = [{**address, "send_resolved": True} for address in addresses]
    if chosen.slack_webhook_file:
        receiver["slack_configs"] = [
            {
                "api_url_file": f"{SECRETS}/{SLACK}",
                "send_resolved": True,
                "title": TITLE,
                "text": TEXT,
            }
        ]
    if chosen.discord_webhook_file:
        receiver["discord_configs"] = [
            {
                "webhook_url_file": f"{SECRETS}/{DISCORD}",
                "send_resolved": True,
                "title": TITLE,
                "message": TEXT,
            }
        ]
    if chosen.email_to:
        receiver["email_configs"] = [
            {
                "to": chosen.email_to,
                "from": chosen.email_from,
                "smarthost": chosen.email_server,
                "require_tls": chosen.email_tls,
                "send_resolved": True,
                "headers": {"Subject": TITLE},
                "html": "",
                "text": TEXT,
                **(
                    {"auth_username": chosen.email_user, "auth_password_file": f"{SECRETS}/{EMAIL}"}
                    if chosen.email_user
                    else {}
                ),
            }
        ]
    watchdog: dict[str, Any] = {"name": "watchdog"}
    if chosen.watchdog_webhook:
        watchdog["webhook_configs"] = [{"url": chosen.watchdog_webhook, "send_resolved": False}]
    return yaml.safe_dump(
        {
            "global": {"resolve_timeout": "5m"},
            "route": {
                "receiver": "people",
                "group_by": ["alertname", "service"],
                "group_wait": "10s",
                "group_interval": "30s",
                "repeat_interval": "4h",
                "routes": [
                    {
                        "receiver": "watchdog",
                        "matchers": [f'alertname="{WATCHDOG}"'],
                        "group_interval": "1m",
                        "repeat_interval": "5m",
                    }
                ],
            },
            "receivers": [receiver, watchdog],
            "inhibit_rules": [
                {
                    "source_matchers": ['severity="critical"'],
                    "target_matchers": ['severity="warning"'],
                    "equal": ["service", "kind"],
                },
                {
                    # Without the proxy no page can be used: one alert says it.
                    "source_matchers": ['alertname="HaproxyDown"'],
                    "target_matchers": ['alertname="ProbeFailed"'],
                },
            ],
        },
        sort_keys=False,
    )


TITLE = "[{{ .Status }}] {{ .CommonLabels.service }}: {{ .CommonLabels.alertname }}"
"""Subject of a message."""

TEXT = (
    "{{ range .Alerts }}{{ .Labels.severity }}: {{ .Annotations.summary }}\n{{ .Annotations.description }}\n"
    "What to do: {{ .Annotations.runbook }}\n\n{{ end }}"
)
"""Text of a message: every alert of the group."""
