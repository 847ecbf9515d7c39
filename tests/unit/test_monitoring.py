"""What Prometheus and Alertmanager are told: nothing is forgotten, nothing is named that is not there."""

import re
from typing import Any

import pytest
import yaml

import settings
from components.observability import alertmanager, blackbox_exporter, grafana, prometheus, rules
from components.registry import SERVICES
from components.service import Service, Severity
from settings import ROOT, SettingsError
from tests.unit.alert_cases import cases, promtool_tests
from tests.unit.test_platform import variant

RUNBOOKS = ROOT / "docs" / "runbooks"
PROBES = {"https://chat.example.org/health": "open-webui", "https://auth.example.org:8443/realms/master": "keycloak"}


def services(**values: Any) -> list[Service]:
    chosen = settings.parse({key.replace("_", "-"): value for key, value in values.items()})
    return [kind(chosen) for kind in SERVICES]


def scraped(**values: Any) -> dict[str, dict[str, Any]]:
    everything = services(**values)
    document = yaml.safe_load(prometheus.configuration(everything[0].settings.monitoring, everything, PROBES))
    return {job["job_name"]: job for job in document["scrape_configs"]}


@pytest.mark.spec("BASE-07")
def test_every_service_with_metrics_is_scraped() -> None:
    jobs = scraped()
    measured = {service.name: service for service in services() if service.metrics()}
    assert set(jobs) == {*measured, blackbox_exporter.JOB}
    assert {"haproxy", "keycloak", "node-exporter", "postgres-exporter", "redis-exporter"} <= set(measured)
    assert {"prometheus", "alertmanager", "blackbox-exporter"} <= set(measured)
    for name, service in measured.items():
        found = [(group["targets"], group["labels"]["__metrics_path__"]) for group in jobs[name]["static_configs"]]
        assert found == [([f"{metrics.host or name}:{metrics.port}"], metrics.path) for metrics in service.metrics()]


@pytest.mark.spec("BASE-07", "K-07")
def test_every_worker_of_several_is_scraped_and_what_is_scraped_is_a_container() -> None:
    plan = variant("dev", n8n_workers=3)
    names = {str(planned.properties.get("name")) for planned in plan.resources}
    jobs = scraped(n8n_workers=3)
    (targets,) = [
        [target for group in job["static_configs"] for target in group["targets"]]
        for name, job in jobs.items()
        if name == "n8n-worker"
    ]
    assert targets == ["n8n-worker:5678", "n8n-worker-2:5678", "n8n-worker-3:5678"]
    assert {f"aikit-dev-{target.partition(':')[0]}" for target in targets} <= names


@pytest.mark.spec("ALR-03", "MET-02")
def test_what_people_cannot_use_is_told_within_two_minutes() -> None:
    """The worst case by the files: a probe has just been made, and the evaluation, too."""
    everything = services()
    document = yaml.safe_load(prometheus.configuration(everything[0].settings.monitoring, everything, PROBES))
    common = document["global"]
    probes = scraped()[blackbox_exporter.JOB]

    def seconds(text: str) -> int:
        return int(text.removesuffix("s"))

    probe_timeout = seconds(yaml.safe_load(blackbox_exporter.configuration())["modules"]["page"]["timeout"])
    evaluation = seconds(common["evaluation_interval"])
    group_wait = seconds(
        yaml.safe_load(alertmanager.configuration(everything[0].settings.monitoring))["route"]["group_wait"]
    )
    for service, alert in rules.alerts(everything):
        if alert.kind != "availability":
            continue
        of_probe = alert.name == "ProbeFailed"
        measured = (
            seconds(probes["scrape_interval"]) + probe_timeout if of_probe else 2 * seconds(common["scrape_interval"])
        )
        waits = -(-alert.seconds // evaluation) * evaluation
        assert measured + evaluation + waits + group_wait <= 120, (service, alert.name)


@pytest.mark.spec("TLS-10")
def test_every_public_page_is_probed_with_the_service_it_belongs_to() -> None:
    groups = scraped()[blackbox_exporter.JOB]["static_configs"]
    assert {group["targets"][0]: group["labels"]["service"] for group in groups} == PROBES
    module = yaml.safe_load(blackbox_exporter.configuration())["modules"][blackbox_exporter.MODULE]
    assert module["http"]["tls_config"] == {"ca_file": "/etc/aikit/authority.pem"}
    assert "insecure_skip_verify" not in str(module)


@pytest.mark.parametrize("seconds", [1, 2, 15, 60])
def test_no_measurement_takes_longer_than_the_time_between_two(seconds: int) -> None:
    everything = services(monitoring_scrape_seconds=seconds)
    document = yaml.safe_load(prometheus.configuration(everything[0].settings.monitoring, everything, PROBES))
    common = document["global"]
    for job in document["scrape_configs"]:
        interval = int(job.get("scrape_interval", common["scrape_interval"])[:-1])
        assert int(job.get("scrape_timeout", common["scrape_timeout"])[:-1]) <= interval
    assert common["evaluation_interval"] == f"{seconds}s"


@pytest.mark.spec("ALR-02")
def test_every_alert_has_labels_a_page_and_a_name_of_its_own() -> None:
    alerts = [rule for group in rules.document(services())["groups"] for rule in group["rules"] if "alert" in rule]
    names = [rule["alert"] for rule in alerts]
    assert len(names) == len(set(names))
    for rule in alerts:
        name = rule["alert"]
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]+", name)
        assert rule["labels"]["severity"] in set(Severity), name
        assert rule["labels"]["service"], name
        assert rule["labels"]["kind"], name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["description"], name
        page = ROOT / rule["annotations"]["runbook"]
        assert page.read_text(encoding="utf-8").startswith(f"# {name}\n"), name
    # A page without an alert is a leftover.
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*names, grafana.ALERT}


@pytest.mark.spec("ALR-01", "ALR-12")
def test_every_measured_service_has_an_alert_that_it_is_down() -> None:
    jobs = set(scraped()) - {blackbox_exporter.JOB, rules.SELF}
    assert {rules.down_name(job) for job in jobs} <= {alert.name for _, alert in rules.alerts(services())}
    assert rules.down_name("postgres-exporter") == "PostgresExporterDown"


@pytest.mark.spec("ALR-02")
def test_no_rule_names_a_job_or_a_recorded_series_that_there_is_not() -> None:
    jobs = set(scraped())
    recorded = set(rules.recordings())
    expressions = [*rules.recordings().values(), *(alert.expression for _, alert in rules.alerts(services()))]
    for expression in expressions:
        assert set(re.findall(r'job="([^"]+)"', expression)) <= jobs, expression
        assert set(re.findall(r"\b(?:host|slo):\w+:\w+", expression)) <= recorded, expression


@pytest.mark.spec("ALR-02")
def test_every_alert_has_a_proof_that_it_fires_and_stays_quiet() -> None:
    everything = services()
    assert set(cases(everything)) | {rules.WATCHDOG} == {alert.name for _, alert in rules.alerts(everything)}
    proofs = [test["name"] for test in promtool_tests(everything, "rules.yml")["tests"]]
    for name in cases(everything):
        assert f"{name} fires" in proofs
        assert f"{name} is quiet" in proofs


@pytest.mark.spec("ALR-09", "ALR-10", "ALR-11", "ALR-13", "ALR-14", "MET-02", "MET-03")
def test_thresholds_are_settings() -> None:
    changed = services(
        monitoring_cpu_percent=61,
        monitoring_cpu_critical_percent=62,
        monitoring_memory_percent=63,
        monitoring_memory_critical_percent=64,
        monitoring_disk_free_percent=33,
        monitoring_disk_free_critical_percent=32,
        monitoring_certificate_days=7,
        monitoring_database_connections=65,
        monitoring_waiting_requests=66,
        monitoring_container_memory_percent=67,
        monitoring_database_gb=3,
        monitoring_gpu_celsius=68,
        monitoring_gpu_memory_percent=69,
        monitoring_gpu_busy_percent=70,
        monitoring_failed_logins=71,
        monitoring_answer_seconds=20,
        n8n_waiting_executions=72,
    )
    expressions = {alert.name: alert.expression for _, alert in rules.alerts(changed)}
    assert expressions["HostCpuHigh"].endswith("> 61")
    assert expressions["HostCpuCritical"].endswith("> 62")
    assert expressions["HostMemoryHigh"].endswith("> 63")
    assert expressions["HostMemoryCritical"].endswith("> 64")
    assert expressions["HostDiskLow"].endswith("< 33")
    assert expressions["HostDiskCritical"].endswith("< 32")
    assert expressions["CertificateExpires"].endswith("< 604800")
    assert expressions["PostgreSQLHighConnections"].endswith("> 65")
    assert expressions["ModelsQueueLong"].endswith("> 66")
    assert expressions["ContainerMemoryHigh"].endswith("> 67")
    assert expressions["PostgreSQLLargeDatabase"].endswith(f"> {3 * 1024**3}")
    assert expressions["GpuHot"].endswith("> 68")
    assert expressions["GpuMemoryFull"].endswith("> 69")
    assert "[10m])) < 70 and" in expressions["GpuUnderused"]
    assert "> 71" in expressions["LoginsFail"]
    assert "20" in expressions["ModelsSlow"]
    assert expressions["AutomationQueueLong"].endswith("> 72")
    assert "> 0.0144 and" in expressions["ChatBudgetBurnsFast"]


@pytest.mark.parametrize(
    "values",
    [
        {"monitoring-cpu-percent": 95},
        {"monitoring-disk-free-percent": 5},
        {"monitoring-memory-critical-percent": 80},
        {"monitoring-email-user": "ada"},
        {"monitoring-email-to": "ada@example.org"},
        {"monitoring-watchdog-webhook": "example.org"},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        settings.parse(values)


def receivers(**values: Any) -> dict[str, dict[str, Any]]:
    chosen = settings.parse({f"monitoring-{key.replace('_', '-')}": value for key, value in values.items()})
    document = yaml.safe_load(alertmanager.configuration(chosen.monitoring))
    return {receiver["name"]: receiver for receiver in document["receivers"]}


@pytest.mark.spec("ALR-05", "ALR-06", "ALR-07", "ALR-08")
def test_channels_follow_the_settings_and_hold_no_secret() -> None:
    assert receivers() == {"people": {"name": "people"}, "watchdog": {"name": "watchdog"}}
    found = receivers(
        webhooks=["https://example.org/hook"],
        watchdog_webhook="https://example.org/alive",
        slack_webhook_file="slack.txt",
        discord_webhook_file="discord.txt",
        email_to="ada@example.org",
        email_from="kit@example.org",
        email_server="mail.example.org:587",
        email_user="kit",
        email_password_file="password.txt",
    )
    people = found["people"]
    assert people["webhook_configs"] == [{"url": "https://example.org/hook", "send_resolved": True}]
    assert people["slack_configs"][0]["api_url_file"] == "/run/secrets/slack-webhook"
    assert people["discord_configs"][0]["webhook_url_file"] == "/run/secrets/discord-webhook"
    assert people["email_configs"][0]["auth_password_file"] == "/run/secrets/email-password"
    assert people["email_configs"][0]["require_tls"] is True
    assert found["watchdog"]["webhook_configs"][0]["url"] == "https://example.org/alive"


@pytest.mark.spec("ALR-04")
def test_grafana_alerts_when_prometheus_does_not_answer_and_tells_alertmanager() -> None:
    document = yaml.safe_load(grafana.alerting())
    (group,) = document["groups"]
    (rule,) = group["rules"]
    asked, judged = rule["data"]
    assert rule["condition"] == judged["refId"]
    assert judged["model"]["expression"] == asked["refId"]
    assert asked["datasourceUid"] in {
        source["uid"] for source in yaml.safe_load(grafana.data_sources(15))["datasources"]
    }
    # Prometheus away is an error or no data, hardly ever a zero.
    assert (rule["noDataState"], rule["execErrState"]) == ("Alerting", "Alerting")
    assert rule["labels"] == {"severity": "critical", "service": "prometheus", "kind": "availability"}
    (contact,) = document["contactPoints"]
    assert {policy["receiver"] for policy in document["policies"]} == {contact["name"]}
    (receiver,) = contact["receivers"]
    assert receiver["settings"]["url"] == f"http://{alertmanager.Alertmanager.name}:{alertmanager.PORT}"


@pytest.mark.spec("ALR-03")
def test_a_critical_alert_mutes_the_warnings_of_the_same_kind() -> None:
    document = yaml.safe_load(alertmanager.configuration(settings.parse({}).monitoring))
    route = document["route"]
    assert route["group_by"] == ["alertname", "service"]
    assert (route["group_wait"], route["group_interval"], route["repeat_interval"]) == ("10s", "30s", "4h")
    assert document["inhibit_rules"][0]["equal"] == ["service", "kind"]
    found = rules.alerts(services())
    muted = {
        (critical.name, warning.name)
        for owner, critical in found
        for other, warning in found
        if (critical.severity, warning.severity) == (Severity.CRITICAL, Severity.WARNING)
        and (owner, critical.kind) == (other, warning.kind)
    }
    assert muted == {
        ("HostCpuCritical", "HostCpuHigh"),
        ("HostMemoryCritical", "HostMemoryHigh"),
        ("HostDiskCritical", "HostDiskLow"),
        ("ChatBudgetBurnsFast", "ChatBudgetBurnsSlowly"),
        ("OllamaNotAnswering", "OllamaServerDown"),
        ("ChatBudgetBurns", "ChatBudgetBurnsSlowly"),
    }


def test_a_secret_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="monitoring-slack-webhook-file is 'no-such-file'"):
        variant("dev", monitoring_slack_webhook_file="no-such-file")
