"""Grafana: the dashboards, for everyone who may sign in, with the rights of their role."""

import configparser
import io
from collections.abc import Mapping

import pulumi
import yaml

from components.context import Platform
from components.identity import keycloak, realm
from components.images import GRAFANA, Image, Machine
from components.observability import alertmanager, prometheus
from components.secrets.rotation import Replacement, Rotation
from components.service import (
    FILES,
    SECRETS,
    TEMPORARY,
    Container,
    Database,
    Health,
    Metrics,
    Network,
    OidcClient,
    Route,
    Service,
    Severity,
)
from settings import Role, SettingsError

HOST = "grafana"
PORT = 3000
CLIENT = "grafana"
DATA = "/var/lib/grafana"
PROVISIONING = f"{FILES}/provisioning"
DASHBOARDS = f"{FILES}/dashboards"
FOLDER = "AI Kit"
PROMETHEUS_UID = "prometheus"
"""What the dashboards name their data source by."""

ALERT = "PrometheusDown"
"""Name of the alert that Grafana evaluates."""

ENCRYPTION = Rotation(
    replacement=Replacement.FORCED,
    reason="Grafana encrypts what people store in data sources with this key; without it that is lost.",
)

ROLES = {Role.ADMIN: "GrafanaAdmin", Role.EDITOR: "Editor", Role.VIEWER: "Viewer"}
"""What each of the platform's roles is in Grafana."""


class Grafana(Service):
    """The dashboards. Everything but people's own is made by the deployment, so its container keeps no data."""

    name = "grafana"
    area = "observability"
    needs = ("postgres", "keycloak", "prometheus")

    @property
    def image(self) -> Image:
        """Grafana."""
        return GRAFANA

    def wanted(self) -> bool:
        """Return whether the settings ask for Grafana."""
        return self.settings.grafana.deploy != "off"

    def left_out(self, machine: Machine) -> str:
        """Return why a machine cannot have Grafana.

        Raises:
            SettingsError: its setting demands it all the same.
        """
        reason = super().left_out(machine)
        if self.settings.grafana.deploy == "on" and reason:
            raise SettingsError(
                (
                    f"grafana-deploy is on, but images are built on this machine and {reason}: "
                    "set it to auto or off, or toolchain-images to official.",
                )
            )
        return reason

    def routes(self) -> tuple[Route, ...]:
        """Return the address of the dashboards."""
        return (Route(host=HOST, port=PORT, health_path="/api/health", title="Grafana: dashboards"),)

    def databases(self) -> tuple[Database, ...]:
        """Return Grafana's database."""
        return (Database(name="grafana"),)

    def clients(self) -> tuple[OidcClient, ...]:
        """Return Grafana's client: each of the platform's roles is one of Grafana's."""
        return (
            OidcClient(
                client_id=CLIENT,
                title="Grafana",
                host=HOST,
                redirect_paths=("/login/generic_oauth",),
                roles={str(role): (role,) for role in ROLES},
            ),
        )

    def metrics(self) -> tuple[Metrics, ...]:
        """Return Grafana's own measurements; the latencies of its every page and query are most of them."""
        return (Metrics(port=PORT, drop="(go|grafana)_.*_bucket"),)

    def container(self, platform: Platform) -> Container:
        """Return Grafana's container; one file configures it, and secrets are files that it names."""
        # Building the dashboards takes a library that nothing else needs.
        from components.observability.dashboards import catalogue

        dashboards = catalogue.render(self.settings, frozenset(platform.services))
        return Container(
            entrypoint=("grafana", "server"),
            command=("--homepath=/usr/share/grafana", f"--config={FILES}/grafana.ini"),
            files={
                "grafana.ini": configuration(platform),
                "authority.pem": pulumi.Output.from_input(platform.certificates.authority),
                "provisioning/datasources/aikit.yaml": data_sources(self.settings.monitoring.scrape_seconds),
                "provisioning/dashboards/aikit.yaml": dashboard_folder(),
                "provisioning/alerting/aikit.yaml": alerting(),
                **{f"dashboards/{uid}.json": text for uid, text in dashboards.items()},
            },
            secrets={
                "client-secret": realm.client_secret(platform, CLIENT),
                "database-password": platform.database_password("grafana"),
                "secret-key": platform.secret("grafana-secret-key", 48, rotation=ENCRYPTION),
            },
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/api/health"),
                interval_seconds=10,
                start_seconds=120,
            ),
            networks=(Network.APPLICATIONS, Network.DATA, Network.OBSERVABILITY),
            user="472",
            memory_mb=self.settings.grafana.memory_mb,
            temporary={DATA: 64, TEMPORARY: 64},
        )


def configuration(platform: Platform) -> str:
    """Return ``grafana.ini``; it names the files of the secrets and holds none."""
    realm_address = keycloak.issuer(platform)
    openid = f"{realm_address}/protocol/openid-connect"
    address = platform.url(HOST)
    mapping = " || ".join(f"contains({realm.CLAIM}[*], '{role}') && '{name}'" for role, name in ROLES.items())
    sections: Mapping[str, Mapping[str, str]] = {
        "paths": {
            "data": DATA,
            "logs": f"{DATA}/log",
            "plugins": f"{DATA}/plugins",
            "provisioning": PROVISIONING,
        },
        "server": {
            "http_port": str(PORT),
            "domain": platform.host(HOST),
            "root_url": f"{address}/",
            "enable_gzip": "true",
        },
        "database": {
            "type": "postgres",
            "host": "postgres:5432",
            "name": "grafana",
            "user": "grafana",
            "password": f"$__file{{{SECRETS}/database-password}}",
            "ssl_mode": "disable",
            "max_open_conn": "20",
        },
        "security": {
            # Nobody signs in past Keycloak, so there is no first account with a password.
            "disable_initial_admin_creation": "true",
            "secret_key": f"$__file{{{SECRETS}/secret-key}}",
            "cookie_secure": "true",
            "cookie_samesite": "lax",
            "disable_gravatar": "true",
            "content_security_policy": "true",
        },
        "users": {"allow_sign_up": "false", "allow_org_create": "false"},
        "auth": {
            "disable_login_form": "true",
            "signout_redirect_url": f"{openid}/logout?client_id={CLIENT}&post_logout_redirect_uri={address}/",
        },
        "auth.anonymous": {"enabled": "false"},
        "auth.basic": {"enabled": "false"},
        "auth.generic_oauth": {
            "enabled": "true",
            "name": "Keycloak",
            "auto_login": "true",
            "allow_sign_up": "true",
            "client_id": CLIENT,
            "client_secret": f"$__file{{{SECRETS}/client-secret}}",
            "scopes": "openid email profile",
            "auth_url": f"{openid}/auth",
            "token_url": f"{openid}/token",
            "api_url": f"{openid}/userinfo",
            "use_pkce": "true",
            "use_refresh_token": "true",
            "tls_client_ca": f"{FILES}/authority.pem",
            "login_attribute_path": "preferred_username",
            "email_attribute_path": "email",
            "name_attribute_path": "name",
            "role_attribute_path": mapping,
            # Without a role there is no account.
            "role_attribute_strict": "true",
            "allow_assign_grafana_admin": "true",
        },
        "log": {"mode": "console", "level": "info"},
        "log.console": {"format": "json"},
        "metrics": {"enabled": "true"},
        "analytics": {
            "reporting_enabled": "false",
            "check_for_updates": "false",
            "check_for_plugin_updates": "false",
            "feedback_links_enabled": "false",
        },
        "news": {"news_feed_enabled": "false"},
        "plugins": {"plugin_admin_enabled": "false", "preinstall_disabled": "true"},
        "snapshots": {"external_enabled": "false"},
    }
    # Grafana reads values as they are: neither % nor $ means anything to the writer.
    parser = configparser.RawConfigParser()
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def data_sources(scrape_seconds: int) -> str:
    """Return the file of the data sources; nobody changes them in the browser."""
    return yaml.safe_dump(
        {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "Prometheus",
                    "uid": PROMETHEUS_UID,
                    "type": "prometheus",
                    "access": "proxy",
                    "url": f"http://{prometheus.Prometheus.name}:{prometheus.PORT}",
                    "isDefault": True,
                    "editable": False,
                    "jsonData": {
                        "httpMethod": "POST",
                        "manageAlerts": True,
                        "alertmanagerUid": "alertmanager",
                        # Rates need two measurements; Grafana would take them for 15 s apart.
                        "timeInterval": f"{scrape_seconds}s",
                    },
                },
                {
                    "name": "Alertmanager",
                    "uid": "alertmanager",
                    "type": "alertmanager",
                    "access": "proxy",
                    "url": f"http://{alertmanager.Alertmanager.name}:{alertmanager.PORT}",
                    "editable": False,
                    "jsonData": {"implementation": "prometheus"},
                },
            ],
        },
        sort_keys=False,
    )


def dashboard_folder() -> str:
    """Return the file that tells where the dashboards are; who changes one in the browser saves a copy."""
    return yaml.safe_dump(
        {
            "apiVersion": 1,
            "providers": [
                {
                    "name": "aikit",
                    "folder": FOLDER,
                    "folderUid": "aikit",
                    "type": "file",
                    "disableDeletion": True,
                    "allowUiUpdates": False,
                    "options": {"path": DASHBOARDS},
                }
            ],
        },
        sort_keys=False,
    )


def alerting() -> str:
    """Return the file of Grafana's own alert, and of the way that its alerts go: Alertmanager's, like all others.

    It is the one that Prometheus cannot raise: that it does not answer. No answer is an alert, too.
    """
    rule = {
        "uid": "prometheus-down",
        "title": ALERT,
        "condition": "down",
        "data": [
            {
                "refId": "up",
                "relativeTimeRange": {"from": 300, "to": 0},
                "datasourceUid": PROMETHEUS_UID,
                "model": {"refId": "up", "expr": f'up{{job="{prometheus.Prometheus.name}"}}', "instant": True},
            },
            {
                "refId": "down",
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "down",
                    "type": "threshold",
                    "expression": "up",
                    "conditions": [{"evaluator": {"type": "lt", "params": [1]}}],
                },
            },
        ],
        "noDataState": "Alerting",
        "execErrState": "Alerting",
        "for": "1m",
        "labels": {
            "severity": str(Severity.CRITICAL),
            "service": prometheus.Prometheus.name,
            "kind": "availability",
        },
        "annotations": {
            "summary": "Prometheus does not answer",
            "description": "Grafana gets no measurements, so nothing is measured and no other alert can fire.",
            "runbook": f"docs/runbooks/{ALERT}.md",
        },
    }
    address = f"http://{alertmanager.Alertmanager.name}:{alertmanager.PORT}"
    return yaml.safe_dump(
        {
            "apiVersion": 1,
            "contactPoints": [
                {
                    "orgId": 1,
                    "name": "Alertmanager",
                    "receivers": [
                        {"uid": "alertmanager", "type": "prometheus-alertmanager", "settings": {"url": address}}
                    ],
                }
            ],
            "policies": [{"orgId": 1, "receiver": "Alertmanager", "group_by": ["alertname", "service"]}],
            "groups": [{"orgId": 1, "name": "aikit", "folder": FOLDER, "interval": "1m", "rules": [rule]}],
        },
        sort_keys=False,
    )
