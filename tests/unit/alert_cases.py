"""For each alert: measurements by which it fires, and others, just inside what is allowed, by which it stays quiet.

The thresholds are those of the default settings. One measurement is made each minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.observability import rules
from components.service import Service

Series = Mapping[str, str]
"""Values by series, as promtool writes them: ``0+2x60`` begins at 0 and grows by 2 sixty times."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One alert's proof."""

    fires: Series
    quiet: tuple[Series, ...]
    minute: int = 10
    """When to look."""
    service: str = ""
    """Service of the alert if it depends on the series."""
    also: tuple[str, ...] = field(default=())
    """Other alerts that fire by the same measurements."""


def cpu(idle: float) -> Series:
    """Return the processor with so many per cent idle."""
    return {
        'node_cpu_seconds_total{cpu="0",mode="idle"}': f"0+{idle * 0.5:g}x600",
        'node_cpu_seconds_total{cpu="0",mode="iowait"}': f"0+{idle * 0.1:g}x600",
        'node_cpu_seconds_total{cpu="0",mode="user"}': f"0+{60 - idle * 0.6:g}x600",
    }


def memory(available: int) -> Series:
    return {"node_memory_MemAvailable_bytes": f"{available}x600", "node_memory_MemTotal_bytes": "100x600"}


def disk(available: int) -> Series:
    labels = '{device="/dev/sda1",mountpoint="/etc/hostname"}'
    return {
        f"node_filesystem_avail_bytes{labels}": f"{available}x600",
        f"node_filesystem_size_bytes{labels}": "100x600",
    }


def chat(failed_per_mille: float, up: str = "1x600") -> Series:
    """Return the chat's requests, a thousand a minute, and for how long there have been measurements."""
    return {
        'up{job="haproxy"}': up,
        'haproxy_backend_http_responses_total{proxy="chat",code="2xx"}': f"0+{1000 - failed_per_mille:g}x600",
        'haproxy_backend_http_responses_total{proxy="chat",code="5xx"}': f"0+{failed_per_mille:g}x600",
    }


def gpu_memory(used: int) -> Series:
    return {'DCGM_FI_DEV_FB_USED{gpu="0"}': f"{used}x600", 'DCGM_FI_DEV_FB_FREE{gpu="0"}': f"{100 - used}x600"}


def gpu_use(percent: int, answering: int) -> Series:
    """Return how busy a card is, and how many questions are being answered."""
    return {
        'DCGM_FI_DEV_GPU_UTIL{gpu="0"}': f"{percent}x600",
        'haproxy_backend_current_sessions{proxy="ollama"}': f"{answering}x600",
    }


TEMPERATURE = 'DCGM_FI_DEV_GPU_TEMP{gpu="0"}'
CONTAINER_MEMORY = 'docker_container_mem_usage_percent{aikit_service="redis"}'
RESTARTS = 'docker_container_status_restart_count{aikit_service="redis"}'
TELEGRAF = 'up{job="telegraf",instance="telegraf:9273"}'
QUEUE = 'haproxy_backend_current_queue{proxy="ollama"}'
OLLAMA = 'haproxy_server_status{proxy="ollama",server="ollama",state="UP"}'
OLLAMA_2 = 'haproxy_server_status{proxy="ollama",server="ollama-2",state="UP"}'
REFUSED = 'haproxy_backend_http_responses_total{proxy="ollama",code="5xx"}'
CONNECTIONS = 'pg_stat_database_numbackends{datname="open-webui"}'
SIZE = 'pg_database_size_bytes{datname="open-webui"}'
PROBE = 'probe_success{instance="https://chat.localhost/health",service="open-webui"}'
EXPIRY = 'probe_ssl_earliest_cert_expiry{instance="https://chat.localhost/health"}'
KEYCLOAK = 'up{job="keycloak",instance="keycloak:9000"}'
FAILED = 'keycloak_user_events_total{event="login",error="invalid_user_credentials",realm="aikit"}'
UNSEALED = 'vault_core_unsealed{job="vault",instance="vault:8202",cluster="%s"}'
WAITING = 'n8n_scaling_mode_queue_jobs_waiting{instance="n8n:5678"}'
LOST = 'n8n_scaling_mode_queue_jobs_failed{instance="n8n:5678"}'
DAY = 86_400


def answers(late: int, minutes: str = "x60") -> Series:
    """Return a model's answers, a hundred a minute, of which some begin after 15 to 20 seconds and the others within 5."""
    names = {"5": 100 - late, "10": 100 - late, "20": 100, "+Inf": 100}
    return {
        f'ollama_first_byte_seconds_bucket{{model="tiny",consumer="chat",le="{limit}"}}': f"0+{number}{minutes}"
        for limit, number in names.items()
    }


CASES: Mapping[str, Case] = {
    "AlertsNotDelivered": Case(
        fires={'alertmanager_notifications_failed_total{integration="slack"}': "0+1x60"},
        quiet=({'alertmanager_notifications_failed_total{integration="slack"}': "5x60"},),
    ),
    "AutomationFails": Case(fires={LOST: "0x8 1x60"}, quiet=({LOST: "7x60"},)),
    "AutomationQueueLong": Case(fires={WAITING: "51x60"}, quiet=({WAITING: "50x60"}, {WAITING: "0x6 90x3 0x30"})),
    "CertificateExpires": Case(
        fires={EXPIRY: f"{14 * DAY}x60"}, quiet=({EXPIRY: f"{14 * DAY + 3600}x60"},), service="haproxy"
    ),
    "ContainerMemoryHigh": Case(
        fires={CONTAINER_MEMORY: "91x60"}, quiet=({CONTAINER_MEMORY: "90x60"},), service="redis"
    ),
    "ContainerRestarts": Case(
        fires={RESTARTS: "3x5 6x60"}, quiet=({RESTARTS: "3x5 4x60"}, {RESTARTS: "_x5 6x60"}), service="redis"
    ),
    "ContainersNotMeasured": Case(
        fires={TELEGRAF: "1x60"},
        quiet=({TELEGRAF: "1x60", 'docker_container_mem_usage{aikit_service="redis"}': "1x60"}, {TELEGRAF: "0x60"}),
    ),
    "ChatBudgetBurns": Case(fires=chat(7), quiet=(chat(5), chat(500, up="_x50 1x20")), minute=60),
    "ChatBudgetBurnsFast": Case(
        fires=chat(20),
        quiet=(
            chat(13),
            # The trouble was great and has been over for ten minutes.
            {
                'up{job="haproxy"}': "1x600",
                'haproxy_backend_http_responses_total{proxy="chat",code="2xx"}': "0+500x60 30500+1000x60",
                'haproxy_backend_http_responses_total{proxy="chat",code="5xx"}': "0+500x60 30000+0x60",
            },
        ),
        minute=72,
        also=("ChatBudgetBurns",),
    ),
    "ChatBudgetBurnsSlowly": Case(fires=chat(2), quiet=(chat(0.5), chat(500, up="_x100 1x600")), minute=400),
    "GpuHot": Case(fires={TEMPERATURE: "81x60"}, quiet=({TEMPERATURE: "80x60"}, {TEMPERATURE: "60x8 90x2 60x30"})),
    "GpuMemoryFull": Case(fires=gpu_memory(91), quiet=(gpu_memory(90),)),
    "GpuUnderused": Case(fires=gpu_use(79, 2), quiet=(gpu_use(81, 2), gpu_use(5, 0)), minute=20),
    "HostCpuCritical": Case(fires=cpu(4), quiet=(cpu(6),), also=("HostCpuHigh",)),
    "HostCpuHigh": Case(fires=cpu(19), quiet=(cpu(21),)),
    "HostDiskCritical": Case(fires=disk(4), quiet=(disk(5),), also=("HostDiskLow",)),
    "HostDiskLow": Case(fires=disk(14), quiet=(disk(15),)),
    "HostMemoryCritical": Case(fires=memory(4), quiet=(memory(6),), also=("HostMemoryHigh",)),
    "HostMemoryHigh": Case(fires=memory(14), quiet=(memory(15),)),
    "ModelsQueueLong": Case(
        fires={QUEUE: "21x60"},
        # The second one is long for a minute only.
        quiet=({QUEUE: "20x60"}, {QUEUE: "0x8 50x1 0x30"}),
    ),
    "ModelsRefused": Case(fires={REFUSED: "0+1x60"}, quiet=({REFUSED: "7x60"},)),
    "ModelsSlow": Case(
        fires=answers(6),
        # Few are late; and they were, and nobody asks any more.
        quiet=(answers(4), answers(100, "x2 200x60")),
    ),
    "OllamaNotAnswering": Case(
        fires={OLLAMA: "0x60", OLLAMA_2: "0x60"}, quiet=({OLLAMA: "1x60"}, {OLLAMA: "0x60", OLLAMA_2: "1x60"})
    ),
    "OllamaServerDown": Case(
        fires={OLLAMA: "1x60", OLLAMA_2: "0x60"}, quiet=({OLLAMA: "1x60", OLLAMA_2: "1x60"}, {OLLAMA: "0x60"})
    ),
    "PostgreSQLDown": Case(fires={"pg_up": "0x60"}, quiet=({"pg_up": "1x60"},)),
    "PostgreSQLHighConnections": Case(fires={CONNECTIONS: "81x60"}, quiet=({CONNECTIONS: "80x60"},)),
    "PostgreSQLLargeDatabase": Case(
        fires={SIZE: f"{10 * 1024**3 + 1}x100"}, quiet=({SIZE: f"{10 * 1024**3}x100"},), minute=62
    ),
    "ProbeFailed": Case(fires={PROBE: "0x60"}, quiet=({PROBE: "1x60"}, {PROBE: "1x9 0x0 1x30"}), service="open-webui"),
    "LoginsFail": Case(
        # A kind of failure that was never seen before begins a series.
        fires={KEYCLOAK: "1x60", FAILED: "_x7 21x60"},
        quiet=(
            {KEYCLOAK: "1x60", FAILED: "_x7 20x60"},
            {KEYCLOAK: "1x60", FAILED: "500x60"},
            # Keycloak began again, or Prometheus has just begun.
            {KEYCLOAK: "1x60", FAILED: "500x7 3x60"},
            {KEYCLOAK: "_x7 1x60", FAILED: "_x7 500x60"},
        ),
    ),
    "RedisDown": Case(fires={"redis_up": "0x60"}, quiet=({"redis_up": "1x60"},)),
    "RulesFail": Case(
        fires={"prometheus_rule_evaluation_failures_total": "0+1x60"},
        quiet=({"prometheus_rule_evaluation_failures_total": "3x60"},),
    ),
    "VaultSealed": Case(
        fires={UNSEALED % "": "0x60", UNSEALED % "vault-cluster-1": "0x60"},
        # What it counted under no name while it started stays.
        quiet=({UNSEALED % "": "0x60", UNSEALED % "vault-cluster-1": "1x60"}, {UNSEALED % "": "0x1 _x60"}),
    ),
}
"""By the alert's name. The alerts of ``up`` and the watchdog follow from the services."""


def cases(services: Sequence[Service]) -> dict[str, Case]:
    """Return the proof of every alert but the watchdog's, which never is quiet."""
    found = dict(CASES)
    for service in services:
        if service.metrics() and service.name != rules.SELF:
            series = f'up{{job="{service.name}",instance="{service.name}:1"}}'
            found[rules.down_name(service.name)] = Case(
                fires={series: "0x60"}, quiet=({series: "1x60"}, {series: "1x9 0x0 1x30"})
            )
    return found


def promtool_tests(services: Sequence[Service], rule_file: str) -> dict[str, Any]:
    """Return the file for ``promtool test rules`` that proves every alert."""
    declared = {alert.name: (service, alert) for service, alert in rules.alerts(services)}
    tests: list[dict[str, Any]] = []

    def add(name: str, series: Series, minute: int, expected: str, firing: int) -> None:
        queries = {f'sum by (service, severity) (ALERTS{{alertname="{name}",alertstate="firing"}})': (expected, 1)}
        if expected:
            # No other alert fires by the same measurements, but the watchdog and those that must.
            queries['count(ALERTS{alertstate="firing"})'] = ("{}", firing)
        tests.append(
            {
                "name": f"{name} {'fires' if expected else 'is quiet'}",
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": labels, "value": value}] if labels else [],
                    }
                    for query, (labels, value) in queries.items()
                ],
            }
        )

    for name, case in cases(services).items():
        service, alert = declared[name]
        labels = f'{{service="{case.service or service}",severity="{alert.severity}"}}'
        add(name, case.fires, case.minute, labels, 2 + len(case.also))
        for quiet in case.quiet:
            add(name, quiet, case.minute, "", 0)
    service, alert = declared[rules.WATCHDOG]
    add(rules.WATCHDOG, {}, 5, f'{{service="{service}",severity="{alert.severity}"}}', 1)
    return {"rule_files": [rule_file], "evaluation_interval": "1m", "tests": tests}
