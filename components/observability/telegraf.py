"""Telegraf: processor, memory and network of each container, and the memory of each loaded model."""

import json

from components.ai import ollama
from components.context import Platform
from components.edge import haproxy
from components.images import TELEGRAF, Image
from components.observability import docker_api
from components.service import FILES, Alert, Container, Health, Metrics, Network, Service, Severity, http_health

PORT = 9273

DOCKER_SECONDS = 10
"""Containers are measured no more often than this: Docker takes about two seconds for it."""

FIELDS = (
    "io_service_bytes_recursive_read",
    "io_service_bytes_recursive_write",
    "limit",
    "restart_count",
    "rx_bytes",
    "tx_bytes",
    "uptime_ns",
    "usage",
    "usage_percent",
    "usage_total",
)
"""What is kept of the hundred numbers that Docker has for each container."""


class Telegraf(Service):
    """The exporter of what has no metrics of its own: Docker and Ollama are asked, and their answers become metrics."""

    name = "telegraf"
    area = "observability"

    @property
    def image(self) -> Image:
        """Telegraf."""
        return TELEGRAF

    def metrics(self) -> tuple[Metrics, ...]:
        """Return the measurements of containers and models."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of containers."""
        if not self.settings.monitoring.docker_socket:
            return ()
        limit = self.settings.monitoring.container_memory_percent
        return (
            Alert(
                name="ContainerMemoryHigh",
                # Every container has a limit; what Docker calls the percentage is of that.
                expression=f"docker_container_mem_usage_percent > {limit}",
                seconds=300,
                severity=Severity.WARNING,
                kind="memory",
                service="{{ $labels.aikit_service }}",
                summary="{{ $labels.aikit_service }} uses {{ $value | printf `%.0f` }} % of its memory",
                description=f"More than {limit} % of the container's limit for 5 minutes; at 100 % a process of it is killed.",
            ),
            Alert(
                name="ContainerRestarts",
                expression="increase(docker_container_status_restart_count[10m]) > 1",
                seconds=0,
                severity=Severity.WARNING,
                kind="restarts",
                service="{{ $labels.aikit_service }}",
                summary="{{ $labels.aikit_service }} was restarted {{ $value | printf `%.0f` }} times",
                description="Docker started the container again more than once in 10 minutes, because its process ended.",
            ),
            Alert(
                name="ContainersNotMeasured",
                expression=f'up{{job="{self.name}"}} == 1 unless on () docker_container_mem_usage',
                seconds=300,
                severity=Severity.WARNING,
                kind="measuring",
                summary="Containers are not measured",
                description="Telegraf gets no answers of Docker's API for 5 minutes, so panels and alerts of containers are empty.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return Telegraf's container. It answers when something was measured or not, so it waits for nothing."""
        socket = bool(self.settings.monitoring.docker_socket)
        return Container(
            entrypoint=("telegraf",),
            command=(f"--config={FILES}/telegraf.conf",),
            files={"telegraf.conf": configuration(platform)},
            health=Health(command=http_health(PORT, "/metrics"), interval_seconds=15, start_seconds=30),
            networks=(Network.OBSERVABILITY, *((Network.ENGINE,) if socket else ())),
            user="65534",
            memory_mb=128,
        )


def configuration(platform: Platform) -> str:
    """Return ``telegraf.conf``."""
    seconds = platform.settings.monitoring.scrape_seconds
    containers = (
        f"""
[[inputs.docker]]
  interval = "{max(seconds, DOCKER_SECONDS)}s"
  endpoint = "tcp://{docker_api.DockerApi.name}:{docker_api.PORT}"
  timeout = "10s"
  container_name_include = [{json.dumps(f"{platform.prefix}-*")}]
  container_state_include = ["running", "restarting"]
  docker_label_include = ["aikit.service"]
  perdevice_include = []
  total_include = ["cpu", "network", "blkio"]
  taginclude = ["aikit.service"]
  namepass = ["docker_container_*"]
  fieldinclude = [{", ".join(json.dumps(field) for field in FIELDS)}]
"""
        if platform.settings.monitoring.docker_socket
        else ""
    )
    models = "".join(_loaded(name) for name in ollama.servers(platform.settings.ollama))
    return f"""\
[agent]
  interval = "{seconds}s"
  flush_interval = "{min(seconds, 10)}s"
  omit_hostname = true
{containers}{models}
[[outputs.prometheus_client]]
  listen = ":{PORT}"
  metric_version = 2
  string_as_label = false
  collectors_exclude = ["gocollector"]
  # What is gone, a container or a loaded model, is not shown for longer than two measurements.
  expiration_interval = "{max(seconds, DOCKER_SECONDS) * 2 + 10}s"
"""


def _loaded(server: str) -> str:
    """Return the part that asks one of Ollama's servers which models are loaded. The queue lets this question pass at once."""
    return f"""
[[inputs.http]]
  urls = ["http://{haproxy.Haproxy.name}:{haproxy.QUEUE_PORT}/api/ps?{haproxy.SERVER}={server}"]
  timeout = "5s"
  data_format = "json_v2"
  tagexclude = ["url"]
  [inputs.http.tags]
    server = "{server}"
  [[inputs.http.json_v2]]
    measurement_name = "{ollama.Ollama.name}_model"
    [[inputs.http.json_v2.object]]
      path = "models"
      included_keys = ["name", "size", "size_vram", "context_length"]
      tags = ["name"]
      [inputs.http.json_v2.object.renames]
        name = "model"
        size = "memory_bytes"
        size_vram = "gpu_memory_bytes"
"""
