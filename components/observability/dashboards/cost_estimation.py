"""Costs: what is used, by the prices of the settings."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards import containers
from components.observability.dashboards.ai_models_performance import ANSWERED
from components.observability.dashboards.panels import (
    RATE,
    Column,
    Panel,
    Query,
    Sources,
    board,
    curves,
    note,
    number,
    rows,
)
from components.observability.nvidia_exporter import NvidiaExporter
from settings import Costs

GB, HOURS_A_DAY, DAYS_A_MONTH = 1e9, 24, 30


def cores(span: str) -> str:
    """Return the processor cores in use, on average over a span."""
    return f'sum(rate(node_cpu_seconds_total{{mode!~"idle|iowait"}}{span}))'


def per_hour(prices: Costs, span: str, *, cards_measured: bool) -> dict[str, str]:
    """Return what an hour costs, by what is paid for, on average over a span such as ``[1h]``."""
    memory = f"avg_over_time(node_memory_MemTotal_bytes{span}) - avg_over_time(node_memory_MemAvailable_bytes{span})"
    busy = prices.busy_watts - prices.idle_watts
    watts = f'({prices.idle_watts} + {busy} * {cores(span)} / scalar(count(node_cpu_seconds_total{{mode="idle"}})))'
    return {
        "processor": f"{prices.cpu_hour} * {cores(span)}",
        "memory": f"{prices.memory_gb_hour} * sum({memory}) / {GB:g}",
        "electricity": f"{prices.kwh} * {watts} / 1000",
        **(
            {"graphics cards": f"{prices.kwh} * sum(avg_over_time(DCGM_FI_DEV_POWER_USAGE{span})) / 1000"}
            if cards_measured
            else {"graphics cards, at most": f"vector({prices.kwh} * {prices.gpu_watts} / 1000)"}
            if prices.gpu_watts
            else {}
        ),
    }


def total(parts: dict[str, str]) -> str:
    """Return the sum of expressions with one value each."""
    return " + ".join(f"({part})" for part in parts.values())


def total_per_hour(sources: Sources, span: str) -> str:
    """Return what an hour of the whole platform costs, on average over a span."""
    measured = NvidiaExporter.name in sources.services
    return total(per_hour(sources.settings.costs, span, cards_measured=measured))


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard; each amount is a measurement times a price."""
    prices = sources.settings.costs
    unit = f"currency{prices.currency}"
    hour, day = total_per_hour(sources, "[1h]"), total_per_hour(sources, "[24h]")
    parts = per_hour(prices, RATE, cards_measured=NvidiaExporter.name in sources.services)
    shown = total_per_hour(sources, "[$__range]")
    busy = "increase(ollama_generated_seconds_total[$__range])"
    share = f"sum by (model) ({busy}) / scalar(sum({busy}) > 0)"
    generated = "(sum by (model) (increase(ollama_generated_tokens_total[$__range])) > 0)"
    return board(
        "cost-estimation",
        "Costs",
        "What the platform uses, by the prices of the settings aikit:costs-*.",
        [
            number("An hour", hour, unit, about="At the last hour's rate."),
            number("A day", f"{HOURS_A_DAY} * ({day})", unit, about="At the last 24 hours' rate."),
            number(
                "A month", f"{HOURS_A_DAY * DAYS_A_MONTH} * ({day})", unit, about="30 days at the last 24 hours' rate."
            ),
            number(
                "What is shown", f"($__range_s / 3600) * ({shown})", unit, about="The time span that is chosen above."
            ),
            number(
                "A request to a model",
                f"({shown}) * $__range_s / 3600 / ({ANSWERED} > 0)",
                unit,
                about="All costs of the time span that is shown, divided by the requests that were answered in it.",
            ),
        ],
        [
            curves("Costs of an hour", unit, *(Query(part, name) for name, part in parts.items()), stacked=True),
            curves(
                "Used",
                "short",
                Query(cores(RATE), "cores"),
                Query(f"sum(node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes) / {GB:g}", "GB of memory"),
            ),
        ],
        [
            _services(prices, unit)
            if containers.measured(sources)
            else rows(
                "Services that measure themselves",
                "job",
                "service",
                Column(
                    "processor, a day",
                    f"{HOURS_A_DAY} * {prices.cpu_hour} * sum by (job) (rate(process_cpu_seconds_total[1h]))",
                    unit,
                ),
                Column(
                    "memory, a day",
                    f"{HOURS_A_DAY} * {prices.memory_gb_hour} * sum by (job) (avg_over_time(process_resident_memory_bytes[1h])) / {GB:g}",
                    unit,
                ),
                about="At the last hour's rate.",
            ),
            rows(
                "Models",
                "model",
                "model",
                Column(
                    "costs",
                    f"{share} * scalar(($__range_s / 3600) * ({shown}))",
                    unit,
                ),
                Column(
                    "a million tokens", f"1e6 * {share} * scalar(($__range_s / 3600) * ({shown})) / {generated}", unit
                ),
                about="All costs of the time span that is shown, by the time that each model generated.",
            ),
            *_cloud(prices, day),
            note("Prices", _prices(prices)),
        ],
        hours=24,
    )


def _services(prices: Costs, unit: str) -> Panel:
    """Return what each container costs."""
    return rows(
        "Services",
        containers.LABEL,
        "service",
        Column(
            "processor, a day",
            f"{HOURS_A_DAY} * {prices.cpu_hour} * sum by ({containers.LABEL})"
            " (avg_over_time(docker_container_cpu_usage_percent[1h])) / 100",
            unit,
        ),
        Column(
            "memory, a day",
            f"{HOURS_A_DAY} * {prices.memory_gb_hour} * sum by ({containers.LABEL})"
            f" (avg_over_time({containers.MEMORY}[1h])) / {GB:g}",
            unit,
        ),
        about="At the last hour's rate.",
    )


def _cloud(prices: Costs, day: str) -> list[Panel]:
    """Return the comparison with a cloud: from how many tokens on the own machine is the cheaper one."""
    if not prices.cloud_million_tokens:
        return []
    return [
        number(
            "As many tokens a day cost the same in a cloud",
            f"{HOURS_A_DAY} * ({day}) / {prices.cloud_million_tokens} * 1e6",
            "short",
            about="With more tokens than this a day the own machine is cheaper.",
        )
    ]


def _prices(prices: Costs) -> str:
    """Return the prices that the panels compute with, as a table in Markdown."""
    lines = {
        "core in use, an hour": f"{prices.cpu_hour} {prices.currency}",
        "GB of memory in use, an hour": f"{prices.memory_gb_hour} {prices.currency}",
        "kWh": f"{prices.kwh} {prices.currency}",
        "power of the machine": f"{prices.idle_watts} W idle, {prices.busy_watts} W busy",
        "power of graphics cards": f"{prices.gpu_watts} W at most",
        "a million tokens in a cloud": f"{prices.cloud_million_tokens} {prices.currency}",
    }
    return "\n".join(["| what | price |", "|---|---|", *(f"| {what} | {price} |" for what, price in lines.items())])
