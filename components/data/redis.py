"""Redis: sessions and websockets of the chat, and answers that are kept."""

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


def server(
    password: pulumi.Output[str],
    *,
    memory_mb: int,
    eviction: str,
    volume: str,
    networks: tuple[Network, ...],
    users: pulumi.Input[str] = "",
) -> Container:
    """Return the container of a server: every write is on disk within a second, and a snapshot is made from time to time.

    Args:
        password: of who may do everything.
        memory_mb: for data, in MiB.
        eviction: what is dropped when that is full, as Redis names it.
        volume: name of the volume with the data.
        networks: that it is on.
        users: lines that give others a part of it; secret.
    """
    configuration = (
        "bind * -::*\nprotected-mode yes\ndir /data\nappendonly yes\nappendfsync everysec\nsave 900 1 300 100 60 10000\n"
        f"maxmemory {memory_mb}mb\nmaxmemory-policy {eviction}\ninclude {SECRETS}/password.conf\n"
    )
    return Container(
        command=("docker-entrypoint.sh", "redis-server", f"{FILES}/redis.conf"),
        files={"redis.conf": configuration},
        secrets={
            "password": password,
            "password.conf": pulumi.Output.concat("requirepass ", password, "\n", users),
        },
        health=Health(
            # The exit code of redis-cli is 0 even for an error, so the answer is compared.
            command=("sh", "-c", f'REDISCLI_AUTH="$(cat {SECRETS}/password)" redis-cli ping | grep -q PONG'),
            interval_seconds=5,
        ),
        networks=networks,
        volumes=(DataVolume(name=volume, path="/data"),),
        user="999",
        # A snapshot copies changed pages: up to twice the data.
        memory_mb=memory_mb * 2 + 64,
    )


class Redis(Service):
    """The cache server."""

    name = "redis"
    area = "data"

    @property
    def image(self) -> Image:
        """Redis 8."""
        return REDIS

    def container(self, platform: Platform) -> Container:
        """Return the server's container."""
        limits = self.settings.redis
        return server(
            platform.secret(PASSWORD),
            memory_mb=limits.max_memory_mb,
            eviction=limits.eviction,
            volume="redis-data",
            networks=(Network.CACHE, Network.DATA),
            users=pulumi.Output.concat(
                "user answers on >", platform.secret(ANSWERS_PASSWORD), " ~answer:* -@all +get +set\n"
            ),
        )
