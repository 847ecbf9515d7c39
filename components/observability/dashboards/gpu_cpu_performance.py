"""Performance of processor and graphics cards."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards import containers
from components.observability.dashboards.panels import (
    CPU,
    MEMORY,
    RATE,
    Panel,
    Query,
    Sources,
    bars,
    board,
    choice,
    curves,
    falling,
    number,
    rising,
)
from components.observability.nvidia_exporter import NvidiaExporter

CORES = 'count(node_cpu_seconds_total{mode="idle"})'
GPU_MEMORY = "100 * DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)"


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard; without an NVIDIA card that is measured it has no panels about one."""
    limits = sources.settings.monitoring
    measured = NvidiaExporter.name in sources.services
    processor = rising(limits.cpu_percent, limits.cpu_critical_percent)
    memory = rising(limits.memory_percent, limits.memory_critical_percent)
    return board(
        "gpu-cpu-performance",
        "Processor and graphics cards",
        "What computes the answers, and where it is short of anything.",
        [
            number("Processor", CPU, "percent", processor),
            number("Cores", CORES, "none"),
            number("Load of a core", f"scalar(node_load5) / {CORES}", "short", rising(1, 2), "Five minutes' average."),
            number("Memory", MEMORY, "percent", memory),
            number("Memory of the machine", "node_memory_MemTotal_bytes", "bytes"),
            number("Swapped out", "node_memory_SwapTotal_bytes - node_memory_SwapFree_bytes", "bytes"),
        ],
        *(_graphics_cards(limits.gpu_celsius, limits.gpu_memory_percent, limits.gpu_busy_percent) if measured else ()),
        *(
            [[containers.processor(), containers.memory(), containers.fullest(limits.container_memory_percent)]]
            if containers.measured(sources)
            else []
        ),
        [
            curves(
                "Processor by kind of work",
                "short",
                Query(f'sum by (mode) (rate(node_cpu_seconds_total{{mode!="idle"}}{RATE}))', "{{mode}}"),
                stacked=True,
                about="Cores in use.",
            ),
            curves(
                "Each core",
                "percentunit",
                Query(
                    f'1 - sum by (cpu) (rate(node_cpu_seconds_total{{cpu=~"$core",mode=~"idle|iowait"}}{RATE}))',
                    "core {{cpu}}",
                ),
                maximum=1,
            ),
            curves(
                "Time lost by waiting",
                "percentunit",
                Query(f"rate(node_pressure_cpu_waiting_seconds_total{RATE})", "for the processor"),
                Query(f"rate(node_pressure_io_waiting_seconds_total{RATE})", "for the disk"),
                Query(f"rate(node_pressure_memory_waiting_seconds_total{RATE})", "for memory"),
                about="Share of the time in which at least one process waited.",
            ),
        ],
        [
            curves(
                "Memory",
                "bytes",
                Query("node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes", "in use"),
                Query("node_memory_Cached_bytes + node_memory_Buffers_bytes", "files"),
                Query("node_memory_MemTotal_bytes", "all"),
            ),
            curves(
                "Pages read back from the disk",
                "short",
                Query(f"rate(node_vmstat_pgmajfault{RATE})", "a second"),
                about="Much of this while a model answers: the model does not fit into memory.",
            ),
            curves(
                "The models' queue",
                "short",
                Query('haproxy_backend_current_sessions{proxy="ollama"}', "answering"),
                Query('haproxy_backend_current_queue{proxy="ollama"}', "waiting"),
            ),
        ],
        choices=[choice("core", "Core", 'node_cpu_seconds_total{mode="idle"}', "cpu")],
    )


def _graphics_cards(celsius: int, memory_percent: int, busy_percent: int) -> tuple[list[Panel], list[Panel]]:
    """Return the lines about NVIDIA's cards, as many as there are."""
    heat = rising(celsius - 10, celsius)
    full = rising(memory_percent - 20, memory_percent)
    return (
        [
            bars(
                "Cards in use",
                "percent",
                Query("DCGM_FI_DEV_GPU_UTIL", "card {{gpu}}"),
                falling(busy_percent / 2, busy_percent),
                about=f"The aim while questions are answered is more than {busy_percent} %.",
            ),
            bars("Their memory", "percent", Query(GPU_MEMORY, "card {{gpu}}"), full),
            bars("Their temperature", "celsius", Query("DCGM_FI_DEV_GPU_TEMP", "card {{gpu}}"), heat),
            bars("Their power", "watt", Query("DCGM_FI_DEV_POWER_USAGE", "card {{gpu}}")),
        ],
        [
            curves("Cards in use", "percent", Query("DCGM_FI_DEV_GPU_UTIL", "card {{gpu}}"), maximum=100),
            curves("Memory of the cards", "percent", Query(GPU_MEMORY, "card {{gpu}}"), steps=full, maximum=100),
            curves("Temperature", "celsius", Query("DCGM_FI_DEV_GPU_TEMP", "card {{gpu}}"), steps=heat),
        ],
    )
