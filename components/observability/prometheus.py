"""Prometheus: measures every service that says how, keeps the measurements, and evaluates the rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from components.context import Platform
from components.images import PROMETHEUS, Image
from components.observability import alertmanager, blackbox_exporter, rules
from components.service import (
    FILES,
    SECRETS,
    TEMPORARY,
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
from settings import Monitoring, Role

HOST = "metrics"
PORT = 9090
KEPT = "__tmp_kept"
"""Mark of a measurement that is kept in any case. Labels of this prefix are never stored."""

TIMEOUT_SECONDS = 10
"""How long a measurement may take, if it is not made more often than that."""
PROBE_SECONDS = 15
"""A page is asked for no more often than this: probes pass the proxy's limits as people do."""


class Prometheus(Service):
    """The service that measures."""

    name = "prometheus"
    area = "observability"
    # Measuring begins when the slow ones are up, or every first start would be an outage.
    needs = ("alertmanager", "keycloak", "open-webui")

    @property
    def image(self) -> Image:
        """Prometheus 2.53, the long-term release."""
        return PROMETHEUS

    def routes(self) -> tuple[Route, ...]:
        """Return the address of its pages, for administrators: whoever may ask it anything can also make it busy."""
        title = "Prometheus: measurements"
        return (Route(host=HOST, port=PORT, health_path="/-/healthy", title=title, roles=(Role.ADMIN,)),)

    def metrics(self) -> tuple[Metrics, ...]:
        """Return Prometheus' own measurements."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts about measuring itself, as far as it can tell."""
        return (
            Alert(
                name="RulesFail",
                expression="increase(prometheus_rule_evaluation_failures_total[5m]) > 0",
                seconds=60,
                severity=Severity.WARNING,
                kind="rules",
                summary="Rules cannot be evaluated",
                description="In the last 5 minutes evaluations of rules failed, so alerts may be missing.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return Prometheus' container."""
        chosen = self.settings.monitoring
        services = list(platform.services.values())
        probes = {
            platform.url(route.host) + route.health_path: service.name
            for service in services
            for route in service.routes()
        }
        return Container(
            entrypoint=("prometheus",),
            command=(
                f"--config.file={FILES}/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                f"--storage.tsdb.retention.time={chosen.retention_hours}h",
                f"--storage.tsdb.retention.size={chosen.retention_mb}MB",
                f"--web.external-url={platform.url(HOST)}/",
                f"--web.listen-address=:{PORT}",
            ),
            # The garbage collector works harder before the limit instead of the kernel killing at it.
            environment={"GOMEMLIMIT": f"{chosen.memory_mb * 9 // 10}MiB"},
            files={
                "prometheus.yml": configuration(chosen, services, probes),
                "rules.yml": yaml.safe_dump(rules.document(services), sort_keys=False, allow_unicode=True, width=1000),
            },
            secrets={
                metrics.secret: platform.secret(metrics.secret)
                for service in services
                for metrics in service.metrics()
                if metrics.secret
            },
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/-/healthy"),
                interval_seconds=10,
                start_seconds=60,
            ),
            networks=(Network.OBSERVABILITY,),
            volumes=(DataVolume(name="prometheus-data", path="/prometheus"),),
            user="65534",
            memory_mb=chosen.memory_mb,
            # For promtool, which tries rules out in a storage of its own.
            temporary={TEMPORARY: 64},
            stop_seconds=60,
        )


def configuration(chosen: Monitoring, services: Sequence[Service], probes: Mapping[str, str]) -> str:
    """Return ``prometheus.yml``; ``probes`` is the service by the address of each public page."""
    interval = chosen.scrape_seconds
    jobs = [_job(service) for service in services if service.metrics()]
    jobs.append(_probes(probes, max(interval, PROBE_SECONDS)))
    return yaml.safe_dump(
        {
            "global": {
                "scrape_interval": f"{interval}s",
                "scrape_timeout": f"{min(interval, TIMEOUT_SECONDS)}s",
                "evaluation_interval": f"{interval}s",
            },
            "rule_files": [f"{FILES}/rules.yml"],
            "alerting": {
                "alertmanagers": [
                    {"static_configs": [{"targets": [f"{alertmanager.Alertmanager.name}:{alertmanager.PORT}"]}]}
                ]
            },
            "scrape_configs": jobs,
        },
        sort_keys=False,
    )


def _job(service: Service) -> dict[str, Any]:
    """Return the measuring of one service."""
    measured = service.metrics()
    secret = next((metrics.secret for metrics in measured if metrics.secret), "")
    drops = [metrics.drop for metrics in measured if metrics.drop]
    keeps = [metrics.keep for metrics in measured if metrics.keep]
    return {
        "job_name": service.name,
        "static_configs": [
            {
                "targets": [f"{metrics.host or service.name}:{metrics.port}"],
                "labels": _target_labels(metrics),
            }
            for metrics in measured
        ],
        **({"authorization": {"credentials_file": f"{SECRETS}/{secret}"}} if secret else {}),
        **(
            {
                "metric_relabel_configs": [
                    *(
                        {"source_labels": ["__name__"], "regex": regex, "target_label": KEPT, "replacement": "yes"}
                        for regex in keeps
                    ),
                    # The mark comes first and must be empty; Prometheus removes it at the end.
                    {"source_labels": [KEPT, "__name__"], "regex": f";({'|'.join(drops)})", "action": "drop"},
                ]
            }
            if drops
            else {}
        ),
    }


def _target_labels(metrics: Metrics) -> dict[str, str]:
    told = (
        {"__param_target": metrics.target, "instance": metrics.target.rpartition("/")[2].partition(":")[0]}
        if metrics.target
        else {}
    )
    return {"__metrics_path__": metrics.path, **told}


def _probes(probes: Mapping[str, str], interval: int) -> dict[str, Any]:
    """Return the job that asks for each page by way of the blackbox exporter."""
    exporter = f"{blackbox_exporter.BlackboxExporter.name}:{blackbox_exporter.PORT}"
    return {
        "job_name": blackbox_exporter.JOB,
        "metrics_path": "/probe",
        "params": {"module": [blackbox_exporter.MODULE]},
        "scrape_interval": f"{interval}s",
        "scrape_timeout": f"{TIMEOUT_SECONDS}s",
        "static_configs": [
            {"targets": [address], "labels": {"service": service}} for address, service in sorted(probes.items())
        ],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": exporter},
        ],
    }
