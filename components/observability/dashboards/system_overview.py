"""System overview: the machine and the services on it."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards import containers
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
    board,
    choice,
    curves,
    number,
    rising,
    rows,
    state,
)


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard; its thresholds are those of the alerts."""
    limits = sources.settings.monitoring
    processor = rising(limits.cpu_percent, limits.cpu_critical_percent)
    memory = rising(limits.memory_percent, limits.memory_critical_percent)
    disk = rising(100 - limits.disk_free_percent, 100 - limits.disk_free_critical_percent)
    return board(
        "system-overview",
        "System overview",
        "The machine and the services on it.",
        [
            number("Processor", CPU, "percent", processor),
            number("Memory", MEMORY, "percent", memory),
            number("Docker's disk", DISK, "percent", disk),
            number("Machine up for", "time() - node_boot_time_seconds", "s"),
            number("Targets down", "count(up == 0) or vector(0)", "none", NONE_ALLOWED),
            number("Alerts", FIRING, "none", NONE_ALLOWED),
            state("PostgreSQL", "pg_up"),
            state("Redis", "min(redis_up)"),
        ],
        [
            curves("Processor", "percent", Query(CPU, "used"), steps=processor, maximum=100),
            curves("Memory", "percent", Query(MEMORY, "used"), steps=memory, maximum=100),
            curves(
                "Docker's disk",
                "percent",
                Query(DISK, "used"),
                steps=disk,
                maximum=100,
                about="The disk of Docker's data.",
            ),
        ],
        [
            curves(
                "Load",
                "short",
                Query("node_load1", "1 min"),
                Query("node_load5", "5 min"),
                Query("node_load15", "15 min"),
                Query('count(node_cpu_seconds_total{mode="idle"})', "cores"),
            ),
            curves(
                "Disk reads and writes",
                "Bps",
                Query(f'rate(node_disk_read_bytes_total{{device=~"$device"}}{RATE})', "{{device}} read"),
                Query(f'rate(node_disk_written_bytes_total{{device=~"$device"}}{RATE})', "{{device}} written"),
            ),
            curves(
                "Through the proxy",
                "Bps",
                Query(f'sum(rate(haproxy_frontend_bytes_in_total{{proxy="https"}}{RATE}))', "from people"),
                Query(f'sum(rate(haproxy_frontend_bytes_out_total{{proxy="https"}}{RATE}))', "to people"),
                about="The network traffic of the platform's pages.",
            ),
        ],
        *(
            ([containers.processor(), containers.memory()], [containers.table(), containers.network()])
            if containers.measured(sources)
            else ()
        ),
        [
            curves(
                "Processor of the services that measure it",
                "short",
                Query(f"sum by (job) (rate(process_cpu_seconds_total{RATE}))", "{{job}}"),
                about="Cores in use.",
            ),
            curves(
                "Memory of the services that measure it",
                "bytes",
                Query("sum by (job) (process_resident_memory_bytes)", "{{job}}"),
                Query("redis_memory_used_rss_bytes", "{{instance}}"),
                Query("sum(jvm_memory_used_bytes)", "keycloak (Java's own)"),
            ),
        ],
        [
            rows(
                "Services",
                "job",
                "service",
                Column("up", "min by (job) (up)", "bool_yes_no"),
                Column("running for", "time() - max by (job) (process_start_time_seconds)", "s"),
                Column("samples", "sum by (job) (scrape_samples_post_metric_relabeling)", "none"),
                Column("measuring takes", "max by (job) (scrape_duration_seconds)", "s"),
            )
        ],
        choices=[choice("device", "Disk", "node_disk_read_bytes_total", "device")],
    )
