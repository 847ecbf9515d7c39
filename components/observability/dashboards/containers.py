"""Panels about single containers, which are only drawn where Docker is asked about them."""

from components.observability.dashboards.panels import RATE, Column, Panel, Query, Sources, curves, rising, rows
from components.observability.docker_api import DockerApi

LABEL = "aikit_service"
"""Label with the name of the service that a container belongs to."""

CORES = "docker_container_cpu_usage_percent / 100"
"""Processor cores that each container uses."""

MEMORY = "docker_container_mem_usage"


def measured(sources: Sources) -> bool:
    """Return whether there are measurements of containers."""
    return DockerApi.name in sources.services


def processor() -> Panel:
    """Return the processor cores that each container uses, over time."""
    return curves(
        "Processor by container", "short", Query(CORES, f"{{{{{LABEL}}}}}"), stacked=True, about="Cores in use."
    )


def memory() -> Panel:
    """Return the memory that each container uses, over time."""
    return curves("Memory by container", "bytes", Query(MEMORY, f"{{{{{LABEL}}}}}"), stacked=True)


def network() -> Panel:
    """Return the traffic of each container, over time."""
    return curves(
        "Network by container",
        "Bps",
        Query(f"rate(docker_container_net_rx_bytes{RATE})", f"{{{{{LABEL}}}}} in"),
        Query(f"rate(docker_container_net_tx_bytes{RATE})", f"{{{{{LABEL}}}}} out"),
    )


def table() -> Panel:
    """Return a table of all containers."""
    return rows(
        "Containers",
        LABEL,
        "service",
        Column("processor", f"max by ({LABEL}) ({CORES})", "percentunit"),
        Column("memory", f"max by ({LABEL}) ({MEMORY})", "bytes"),
        Column("of its limit", f"max by ({LABEL}) (docker_container_mem_usage_percent)", "percent"),
        Column("running for", f"max by ({LABEL}) (docker_container_status_uptime_ns) / 1e9", "s"),
        Column("restarts", f"max by ({LABEL}) (docker_container_status_restart_count)", "none"),
        about="100 % of processor is one core.",
    )


def fullest(percent: float) -> Panel:
    """Return how close each container is to its memory limit, over time."""
    return curves(
        "Memory of the limit",
        "percent",
        Query("docker_container_mem_usage_percent", f"{{{{{LABEL}}}}}"),
        steps=rising(percent, 100),
        maximum=100,
    )
