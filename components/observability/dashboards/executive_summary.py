"""Executive summary: is the platform well, is it used, and what does it cost."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards.cost_estimation import HOURS_A_DAY, total_per_hour
from components.observability.dashboards.panels import (
    CPU,
    DISK,
    FIRING,
    MEMORY,
    NONE_ALLOWED,
    RATE,
    Column,
    Query,
    Sources,
    bars,
    board,
    curves,
    falling,
    number,
    rising,
    rows,
    state,
)
from components.observability.rules import AVAILABILITY, OBJECTIVE


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard."""
    limits = sources.settings.monitoring
    objective = 100 * OBJECTIVE
    available = falling(objective - 0.9, objective)
    return board(
        "executive-summary",
        "Executive summary",
        "Is the platform well, is it used, and what does it cost?",
        [
            number(
                "The chat's availability",
                f"100 * {AVAILABILITY}",
                "percent",
                available,
                f"Three days; the objective is {objective:g} %.",
            ),
            number("Alerts", FIRING, "none", NONE_ALLOWED),
            state("Models", 'max(haproxy_server_status{proxy="ollama",state="UP"})'),
            number(
                "Questions in a day",
                "sum(increase(ollama_answer_seconds_count[24h])) or vector(0)",
                "short",
                about="Requests that the models answered.",
            ),
            number(
                "Costs of a day",
                f"{HOURS_A_DAY} * ({total_per_hour(sources, '[24h]')})",
                f"currency{sources.settings.costs.currency}",
            ),
            number(
                "Certificate ends in",
                "min(probe_ssl_earliest_cert_expiry) - time()",
                "s",
                falling(limits.certificate_days * 86400 / 2, limits.certificate_days * 86400),
            ),
        ],
        [
            number("Processor", CPU, "percent", rising(limits.cpu_percent, limits.cpu_critical_percent)),
            number("Memory", MEMORY, "percent", rising(limits.memory_percent, limits.memory_critical_percent)),
            number(
                "Docker's disk",
                DISK,
                "percent",
                rising(100 - limits.disk_free_percent, 100 - limits.disk_free_critical_percent),
            ),
            number("Pages that work", "sum(probe_success)", "none"),
            number("Pages", "count(probe_success)", "none"),
            number("Targets measured", "count(up == 1)", "none"),
        ],
        [
            curves("Processor and memory", "percent", Query(CPU, "processor"), Query(MEMORY, "memory"), maximum=100),
            curves(
                "Through the proxy",
                "Bps",
                Query(f'sum(rate(haproxy_frontend_bytes_out_total{{proxy="https"}}{RATE}))', "to people"),
            ),
            curves(
                "Requests",
                "reqps",
                Query(f'sum(rate(haproxy_frontend_http_requests_total{{proxy="https"}}{RATE}))', "pages"),
                Query(f'sum(rate(haproxy_backend_http_requests_total{{proxy="ollama"}}{RATE}))', "models"),
            ),
        ],
        [
            bars(
                "Pages, in the last 24 hours",
                "percent",
                Query("100 * avg by (service) (avg_over_time(probe_success[24h]))", "{{service}}"),
                available,
                "How much of the time each page could be used, as the probes found.",
            ),
            rows(
                "Pages",
                "service",
                "service",
                Column("works", "min by (service) (probe_success)", "bool_yes_no"),
                Column("answers after", "max by (service) (probe_duration_seconds)", "s"),
                Column("certificate ends in", "min by (service) (probe_ssl_earliest_cert_expiry) - time()", "s"),
            ),
        ],
        hours=24,
    )
