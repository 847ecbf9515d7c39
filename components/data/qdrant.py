"""Qdrant: a database of vectors, for the chat's documents if its setting says so, and for programs."""

from components.context import Platform
from components.images import QDRANT, Image, Machine
from components.service import TEMPORARY, Container, DataVolume, Health, Metrics, Network, Service, http_health
from settings import SettingsError

PORT = 6333
KEY = "qdrant-api-key"
"""Name of the generated secret that every request must carry."""

HOME = "/qdrant"


class Qdrant(Service):
    """The vector database. Nobody reaches it without its key, and nobody but those on its network at all."""

    name = "qdrant"
    area = "data"

    @property
    def image(self) -> Image:
        """Qdrant."""
        return QDRANT

    def wanted(self) -> bool:
        """Return whether the settings ask for it."""
        return self.settings.qdrant.deploy != "off"

    def left_out(self, machine: Machine) -> str:
        """Return why a machine cannot have it.

        Raises:
            SettingsError: its setting, or the chat's, demands it all the same.
        """
        reason = super().left_out(machine)
        demands = {
            "qdrant-deploy is on": self.settings.qdrant.deploy == "on",
            "chat-vectors is qdrant": self.settings.chat.vectors == "qdrant",
        }
        problems = tuple(
            f"{demand}, but images are built on this machine and {reason}: "
            "set qdrant-deploy to auto or off and chat-vectors to pgvector, or toolchain-images to official."
            for demand, made in demands.items()
            if made
        )
        if reason and problems:
            raise SettingsError(problems)
        return reason

    def metrics(self) -> tuple[Metrics, ...]:
        """Return its own measurements."""
        return (Metrics(port=PORT, secret=KEY),)

    def container(self, platform: Platform) -> Container:
        """Return the database's container; collections and their snapshots are data."""
        return Container(
            command=("./entrypoint.sh",),
            environment={
                "QDRANT_INIT_FILE_PATH": f"{TEMPORARY}/.qdrant-initialized",
                "QDRANT__STORAGE__STORAGE_PATH": f"{HOME}/storage",
                "QDRANT__STORAGE__SNAPSHOTS_PATH": f"{HOME}/snapshots",
                "QDRANT__STORAGE__TEMP_PATH": f"{HOME}/storage/temporary",
                "QDRANT__TELEMETRY_DISABLED": "true",
            },
            secret_environment={"QDRANT__SERVICE__API_KEY": platform.secret(KEY)},
            health=Health(command=http_health(PORT, "/readyz"), interval_seconds=10, start_seconds=60),
            networks=(Network.VECTORS, Network.OBSERVABILITY),
            volumes=(
                DataVolume(name="qdrant-data", path=f"{HOME}/storage"),
                DataVolume(name="qdrant-snapshots", path=f"{HOME}/snapshots"),
            ),
            memory_mb=self.settings.qdrant.memory_mb,
            temporary={TEMPORARY: 64},
            stop_seconds=30,
        )
