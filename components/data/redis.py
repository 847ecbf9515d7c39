"""Redis: sessions and websockets of the chat, and the queue of the automation."""

import pulumi

from components.context import Platform
from components.images import REDIS, Image
from components.service import FILES, SECRETS, Container, DataVolume, Health, Network, Service

PASSWORD = "redis-password"  # noqa: S105 -- the name of a secret
ANSWERS_PASSWORD = "redis-answers-password"  # noqa: S105 -- the name of a secret
"""Of the user ``answers``, who may keep answers of the models and nothing else: the proxy, which the internet reaches."""

PORT = 6379


def address(platform: Platform, database: int) -> pulumi.Output[str]:
    """Return the address of one of the numbered databases; secret."""
    return pulumi.Output.concat("redis://:", platform.secret(PASSWORD), f"@redis:{PORT}/{database}")


class Redis(Service):
    """The cache server; every write is on disk within a second, and a snapshot is made from time to time."""

    name = "redis"
    area = "data"

    @property
    def image(self) -> Image:
        """Redis 8."""
        return REDIS

    def container(self, platform: Platform) -> Container:
        """Return the server's container."""
        limits = self.settings.redis
        configuration = (
            "bind * -::*\nprotected-mode yes\ndir /data\nappendonly yes\nappendfsync everysec\nsave 900 1 300 100 60 10000\n"
            f"maxmemory {limits.max_memory_mb}mb\nmaxmemory-policy {limits.eviction}\ninclude {SECRETS}/password.conf\n"
        )
        return Container(
            command=("docker-entrypoint.sh", "redis-server", f"{FILES}/redis.conf"),
            files={"redis.conf": configuration},
            secrets={
                "password": platform.secret(PASSWORD),
                "password.conf": pulumi.Output.concat(
                    *("requirepass ", platform.secret(PASSWORD), "\n"),
                    *("user answers on >", platform.secret(ANSWERS_PASSWORD), " ~answer:* -@all +get +set\n"),
                ),
            },
            health=Health(
                # The exit code of redis-cli is 0 even for an error, so the answer is compared.
                command=("sh", "-c", f'REDISCLI_AUTH="$(cat {SECRETS}/password)" redis-cli ping | grep -q PONG'),
                interval_seconds=5,
            ),
            networks=(Network.CACHE, Network.DATA),
            volumes=(DataVolume(name="redis-data", path="/data"),),
            user="999",
            # A snapshot copies changed pages: up to twice the data.
            memory_mb=limits.max_memory_mb * 2 + 64,
        )
