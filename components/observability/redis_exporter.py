"""Redis exporter: memory, hits and commands of the cache server."""

from components.context import Platform
from components.data import redis
from components.images import REDIS_EXPORTER, Image
from components.service import Alert, Container, Health, Metrics, Network, Service, Severity

PORT = 9121


class RedisExporter(Service):
    """The exporter of Redis' measurements."""

    name = "redis-exporter"
    area = "observability"

    @property
    def image(self) -> Image:
        """Redis exporter."""
        return REDIS_EXPORTER

    def metrics(self) -> tuple[Metrics, ...]:
        """Return Redis' measurements."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the cache server."""
        return (
            Alert(
                name="RedisDown",
                expression="redis_up == 0",
                seconds=60,
                severity=Severity.CRITICAL,
                service="redis",
                kind="availability",
                summary="Redis is down",
                description="The exporter cannot connect to the cache server; people's sessions are kept there.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the exporter's container. In the official image the program is in the root folder, which is not searched."""
        return Container(
            command=("sh", "-c", 'PATH="$PATH:/"; exec redis_exporter "$@"', "sh", f"-web.listen-address=:{PORT}"),
            environment={"REDIS_ADDR": "redis://redis:6379"},
            secret_environment={"REDIS_PASSWORD": platform.secret(redis.PASSWORD)},
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/health"),
                interval_seconds=15,
                start_seconds=15,
            ),
            networks=(Network.DATA, Network.OBSERVABILITY),
            user="65534",
            memory_mb=64,
        )
