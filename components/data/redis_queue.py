"""The automation's queue: a Redis of its own, in which nothing is ever dropped.

In a cache, full memory costs an answer; here it would cost an execution, or the lock of one that runs.
"""

from components.context import Platform
from components.data import redis
from components.images import REDIS, Image
from components.service import Container, Network, Service

PASSWORD = "redis-queue-password"  # noqa: S105 -- the name of a secret


class RedisQueue(Service):
    """The server of the queue."""

    name = "redis-queue"
    area = "data"

    @property
    def image(self) -> Image:
        """Redis 8."""
        return REDIS

    def wanted(self) -> bool:
        """Return whether there is an automation."""
        return self.settings.n8n.deploy

    def container(self, platform: Platform) -> Container:
        """Return the server's container. Who adds to a full queue gets an error."""
        return redis.server(
            platform.secret(PASSWORD),
            memory_mb=self.settings.n8n.queue_memory_mb,
            eviction="noeviction",
            volume="redis-queue-data",
            networks=(Network.DATA,),
        )
