"""Node exporter: processor, memory and disk of the machine."""

from components.context import Platform
from components.images import NODE_EXPORTER, Image
from components.service import Alert, Container, Health, Metrics, Network, Service, Severity

PORT = 9100

COLLECTORS = ("cpu", "diskstats", "filefd", "filesystem", "loadavg", "meminfo", "pressure", "stat", "uname", "vmstat")
"""What the machine shows to every container. Network interfaces are not among it: a container sees its own."""

DISK = "/etc/hostname"
"""Docker puts this file into every container from its own data folder, so its free space is that of volumes, images and logs."""


class NodeExporter(Service):
    """The exporter of the machine's measurements.

    It mounts nothing of the machine: processor and memory are the machine's in every container, and so is the disk of one file.
    """

    name = "node-exporter"
    area = "observability"

    @property
    def image(self) -> Image:
        """Node exporter."""
        return NODE_EXPORTER

    def metrics(self) -> tuple[Metrics, ...]:
        """Return the machine's measurements."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the machine: each resource with a warning and a critical threshold."""
        limits = self.settings.monitoring
        return (
            *_pair(
                "HostCpu",
                "host:cpu_used:percent > ",
                (limits.cpu_percent, limits.cpu_critical_percent),
                "The processor is {{ $value | printf `%.0f` }} % busy",
            ),
            *_pair(
                "HostMemory",
                "host:memory_used:percent > ",
                (limits.memory_percent, limits.memory_critical_percent),
                "{{ $value | printf `%.0f` }} % of the memory is used",
            ),
            *_pair(
                "HostDisk",
                "host:disk_free:percent < ",
                (limits.disk_free_percent, limits.disk_free_critical_percent),
                "{{ $value | printf `%.0f` }} % of Docker's disk is free",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the exporter's container."""
        del platform
        return Container(
            entrypoint=("node_exporter",),
            command=(
                "--collector.disable-defaults",
                *(f"--collector.{name}" for name in COLLECTORS),
                f"--collector.filesystem.mount-points-include=^{DISK}$",
                # Whatever the file system is called: there is only the one.
                "--collector.filesystem.fs-types-exclude=^$",
                f"--web.listen-address=:{PORT}",
            ),
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/"),
                interval_seconds=15,
                start_seconds=15,
            ),
            networks=(Network.OBSERVABILITY,),
            user="65534",
            memory_mb=64,
        )


def _pair(name: str, comparison: str, thresholds: tuple[int, int], summary: str) -> tuple[Alert, Alert]:
    """Return the warning after 5 minutes and the critical alert after 2."""
    kind = name.removeprefix("Host").lower()
    warning, critical = thresholds
    return (
        Alert(
            name=f"{name}High" if ">" in comparison else f"{name}Low",
            expression=f"{comparison}{warning}",
            seconds=300,
            severity=Severity.WARNING,
            service="host",
            kind=kind,
            summary=summary,
            description=f"The threshold is {warning} % for 5 minutes.",
        ),
        Alert(
            name=f"{name}Critical",
            expression=f"{comparison}{critical}",
            seconds=120,
            severity=Severity.CRITICAL,
            service="host",
            kind=kind,
            summary=summary,
            description=f"The threshold is {critical} % for 2 minutes.",
        ),
    )
