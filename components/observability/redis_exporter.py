"""Redis exporter: memory, hits and commands of the cache server, and of the automation's queue."""

import json

import pulumi

from components.context import Platform
from components.data import redis, redis_queue
from components.images import REDIS_EXPORTER, Image
from components.service import SECRETS, Alert, Container, Health, Metrics, Network, Service, Severity

PORT = 9121

PASSWORDS = "passwords.json"
"""File with the passwords of the servers, which it is told with each question."""


class RedisExporter(Service):
    """The exporter of Redis' measurements."""

    name = "redis-exporter"
    area = "observability"

    @property
    def image(self) -> Image:
        """Redis exporter."""
        return REDIS_EXPORTER

    def metrics(self) -> tuple[Metrics, ...]:
        """Return the measurements of each server."""
        return tuple(Metrics(port=PORT, path="/scrape", target=target) for target in self._servers())

    def _servers(self) -> dict[str, str]:
        """Return the name of each server's password, by its address."""
        servers = {redis.Redis.name: redis.PASSWORD}
        if self.settings.n8n.deploy:
            servers[redis_queue.RedisQueue.name] = redis_queue.PASSWORD
        return {f"redis://{name}:{redis.PORT}": password for name, password in servers.items()}

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
                summary="{{ $labels.instance }} is down",
                description="The exporter cannot connect to the cache server, where people's sessions are, or to the automation's queue.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the exporter's container. In the official image the program is in the root folder, which is not searched."""
        passwords = pulumi.Output.all(
            **{target: platform.secret(password) for target, password in self._servers().items()}
        )
        return Container(
            command=(
                "sh",
                "-c",
                'PATH="$PATH:/"; exec redis_exporter "$@"',
                "sh",
                f"-web.listen-address=:{PORT}",
                f"-redis.password-file={SECRETS}/{PASSWORDS}",
            ),
            # It need not measure any by itself.
            environment={"REDIS_ADDR": ""},
            secrets={PASSWORDS: passwords.apply(lambda known: json.dumps(known, sort_keys=True))},
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/health"),
                interval_seconds=15,
                start_seconds=15,
            ),
            networks=(Network.DATA, Network.OBSERVABILITY),
            user="65534",
            memory_mb=64,
        )
