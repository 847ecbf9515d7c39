"""The rules of Prometheus: what it computes in advance, and what it alerts about.

Each service declares its own alerts in its own file; here are those that concern all, and the objective of the chat.
"""

from collections.abc import Sequence
from typing import Any

from components.service import Alert, Service, Severity

OBJECTIVE = 0.999
"""Share of the chat's requests that must not fail because of the platform."""

AVAILABILITY, AIM = "slo:chat_availability:ratio_rate3d", "slo:chat_availability:objective"
"""Names of the series with the share of the chat's requests that succeeded, and with what it has to be at least."""

WATCHDOG = "Watchdog"
"""Name of the alert that always fires."""

SELF = "prometheus"
"""The one service that cannot tell that it is down: the watchdog's silence does."""

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
"""Time spans of the objective's error ratios."""

BURN_RATES = (
    ("ChatBudgetBurnsFast", "1h", "5m", 14.4, Severity.CRITICAL, "two per cent of a month's errors in an hour"),
    ("ChatBudgetBurns", "6h", "30m", 6, Severity.CRITICAL, "five per cent of a month's errors in six hours"),
    ("ChatBudgetBurnsSlowly", "3d", "6h", 1, Severity.WARNING, "ten per cent of a month's errors in three days"),
)
"""Name, long and short window, how many times quicker than allowed, and what that means; the short one ends it soon after the trouble."""


def down_name(service: str) -> str:
    """Return the name of the alert that a service cannot be measured."""
    return "".join(part.capitalize() for part in service.split("-")) + "Down"


def alerts(services: Sequence[Service]) -> list[tuple[str, Alert]]:
    """Return every alert with the service that it concerns."""
    found = [
        (
            service.name,
            Alert(
                name=down_name(service.name),
                expression=f'up{{job="{service.name}"}} == 0',
                seconds=60,
                severity=Severity.CRITICAL,
                kind="availability",
                summary=f"{service.name} is down",
                description=f"Prometheus gets no measurements of {service.name} from {{{{ $labels.instance }}}}.",
            ),
        )
        for service in services
        if service.metrics() and service.name != SELF
    ]
    found += [(alert.service or service.name, alert) for service in services for alert in service.alerts()]
    found += [("open-webui", alert) for alert in _burn_rates()]
    found.append(
        (
            SELF,
            Alert(
                name=WATCHDOG,
                expression="vector(1)",
                seconds=0,
                severity=Severity.NONE,
                kind="watchdog",
                summary="The path of the alerts works",
                description="This alert always fires. When it stops arriving, alerts do not arrive either.",
            ),
        )
    )
    return found


def error_ratio(window: str) -> str:
    """Return the name of the series with the share of the chat's requests that failed."""
    return f"slo:chat_errors:ratio_rate{window}"


def _burn_rates() -> list[Alert]:
    budget = 1 - OBJECTIVE
    return [
        Alert(
            name=name,
            expression=(
                f"{error_ratio(long)} > {factor * budget:.6g} and {error_ratio(short)} > {factor * budget:.6g}"
                # Measurements must go back further than the short window, or errors of a first start fill the long one.
                f' and on () present_over_time(up{{job="haproxy"}}[10m] offset {short})'
            ),
            seconds=120,
            severity=severity,
            kind="objective",
            summary="{{ $value | humanizePercentage }} of the chat's requests fail",
            description=f"At this rate {meaning} are used up; {OBJECTIVE:.1%} of the requests must succeed.",
        )
        for name, long, short, factor, severity, meaning in BURN_RATES
    ]


def recordings() -> dict[str, str]:
    """Return what is computed in advance: name of the series and expression."""
    responses = "haproxy_backend_http_responses_total"
    failed = f'sum(rate({responses}{{proxy="chat",code="5xx"}}[%s])) / sum(rate({responses}{{proxy="chat"}}[%s]))'
    return {
        "host:cpu_used:percent": (
            '100 * (1 - sum(rate(node_cpu_seconds_total{mode=~"idle|iowait"}[5m]))'
            " / sum(rate(node_cpu_seconds_total[5m])))"
        ),
        "host:memory_used:percent": "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
        "host:disk_free:percent": "100 * node_filesystem_avail_bytes / node_filesystem_size_bytes",
        **{error_ratio(window): failed % (window, window) for window in WINDOWS},
        AVAILABILITY: f"1 - {error_ratio('3d')}",
        AIM: f"vector({OBJECTIVE})",
    }


def document(services: Sequence[Service]) -> dict[str, Any]:
    """Return the file of rules."""
    return {
        "groups": [
            {
                "name": "recordings",
                "rules": [{"record": name, "expr": expression} for name, expression in recordings().items()],
            },
            {"name": "alerts", "rules": [_rule(service, alert) for service, alert in alerts(services)]},
        ]
    }


def _rule(service: str, alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        **({"for": f"{alert.seconds}s"} if alert.seconds else {}),
        "labels": {"severity": str(alert.severity), "service": service, "kind": alert.kind},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook": f"docs/runbooks/{alert.name}.md",
        },
    }
