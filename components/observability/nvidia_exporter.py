"""NVIDIA exporter: use, memory, temperature and power of the graphics cards."""

from components.ai import ollama
from components.context import Platform
from components.images import NVIDIA_EXPORTER, Image
from components.service import (
    TEMPORARY,
    Alert,
    Container,
    Health,
    Metrics,
    Network,
    Service,
    Severity,
    http_health,
)
from settings import Accelerator

PORT = 9400


class NvidiaExporter(Service):
    """The exporter of NVIDIA's own measurements; there is none without such a card."""

    name = "nvidia-exporter"
    area = "observability"

    @property
    def image(self) -> Image:
        """NVIDIA's exporter of its data center GPU manager."""
        return NVIDIA_EXPORTER

    def wanted(self) -> bool:
        """Return whether there are such cards."""
        return self.settings.accelerator is Accelerator.NVIDIA

    def metrics(self) -> tuple[Metrics, ...]:
        """Return the cards' measurements."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the cards."""
        limits = self.settings.monitoring
        return (
            Alert(
                name="GpuHot",
                expression=f"DCGM_FI_DEV_GPU_TEMP > {limits.gpu_celsius}",
                seconds=300,
                severity=Severity.WARNING,
                service="ollama",
                kind="temperature",
                summary="Graphics card {{ $labels.gpu }} is at {{ $value }} degrees",
                description=f"The threshold is {limits.gpu_celsius} degrees Celsius for 5 minutes.",
            ),
            Alert(
                # Loading a model needs no card, so what counts is a long time with questions under way.
                name="GpuUnderused",
                expression=(
                    f"avg by (gpu) (avg_over_time(DCGM_FI_DEV_GPU_UTIL[10m])) < {limits.gpu_busy_percent}"
                    ' and on () (min_over_time(haproxy_backend_current_sessions{proxy="ollama"}[10m]) > 0)'
                ),
                seconds=60,
                severity=Severity.INFO,
                service="ollama",
                kind="gpu-use",
                summary="Graphics card {{ $labels.gpu }} is used to {{ $value | printf `%.0f` }} % while questions are answered",
                description=f"For 10 minutes there were always questions under way; {limits.gpu_busy_percent} % is the aim.",
            ),
            Alert(
                name="GpuMemoryFull",
                expression=(
                    "100 * DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)"
                    f" > {limits.gpu_memory_percent}"
                ),
                seconds=300,
                severity=Severity.WARNING,
                service="ollama",
                kind="gpu-memory",
                summary="{{ $value | printf `%.0f` }} % of graphics card {{ $labels.gpu }}'s memory is used",
                description=f"The threshold is {limits.gpu_memory_percent} % for 5 minutes.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the exporter's container; it sees the cards that Ollama has."""
        del platform
        return Container(
            entrypoint=("dcgm-exporter",),
            command=("--address", f":{PORT}"),
            health=Health(command=http_health(PORT, "/health"), interval_seconds=15, start_seconds=60),
            networks=(Network.OBSERVABILITY,),
            memory_mb=256,
            temporary={TEMPORARY: 16},
            extra=ollama.devices(
                self.settings.accelerator, self.settings.ollama, ollama.all_device_ids(self.settings.ollama)
            ),
        )
