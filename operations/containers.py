"""What a stack has in Docker, found by its labels; the one place that asks Docker beside the providers."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from operations.errors import Failure

STACK_LABEL = "aikit.stack"
SERVICE_LABEL = "aikit.service"
DATA_LABEL = "aikit.data"
"""Label of the volumes that hold what people made."""

HEALTHY = frozenset({"healthy", "running", "done"})
"""Health words that ask for nothing."""

GRACE_SECONDS = 30
"""How long a container may take to stop, where it does not say so itself."""

TIMEOUT_SECONDS = 120
"""How long Docker may take to answer."""


def connect() -> docker.DockerClient:
    """Connect to Docker.

    Raises:
        Failure: it can't be reached.
    """
    client = None
    try:
        client = docker.from_env(timeout=TIMEOUT_SECONDS)
        client.ping()
    except (DockerException, OSError) as error:
        if client:
            client.close()
        raise Failure(f"Docker can't be reached at {address()}: {_reason(error)}. {_cure()}") from error
    return client


def address() -> str:
    """Return where Docker is looked for."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def is_local() -> bool:
    """Whether Docker runs on this machine, so that its ports, memory and disk are this machine's."""
    return address().startswith("unix:")


def _reason(error: BaseException) -> str:
    text = str(error)
    if "No such file" in text or "FileNotFoundError" in text:
        return "it is not running there"
    if "Permission denied" in text:
        return "this user may not"
    if "refused" in text:
        return "nothing answers there"
    if "Name or service" in text or "resolve" in text:
        return "its name does not resolve"
    return text.splitlines()[0][:200]


def _cure() -> str:
    if os.environ.get("DOCKER_HOST"):
        return "Correct DOCKER_HOST, or unset it to use this machine's Docker."
    return "Start it (systemctl start docker), or let this user use it (usermod -aG docker USER, then log in anew)."


@dataclass(frozen=True)
class Container:
    """A container of the stack."""

    id: str
    name: str
    service: str
    status: str
    """Docker's word for it: running, exited, restarting ..."""
    health: str
    """healthy, starting, unhealthy; running without a health check; done for a job that ended well; else as `status`."""
    restarts: int
    memory_mb: float | None
    ports: tuple[int, ...]
    raw: Any
    """The SDK's object."""


class StackInDocker:
    """Everything in Docker that carries the stack's label."""

    def __init__(self, client: docker.DockerClient, stack: str) -> None:
        self._client = client
        self._filter: dict[str, Any] = {"label": f"{STACK_LABEL}={stack}"}

    def containers(self, *, memory: bool = False) -> list[Container]:
        """Return the containers, by service; with ``memory``, how much each uses, which takes Docker a second or two."""
        found: list[Container] = []
        for raw in self._client.containers.list(all=True, filters=self._filter, ignore_removed=True):
            state: dict[str, Any] = raw.attrs["State"]
            bindings: dict[str, Any] = raw.attrs["HostConfig"].get("PortBindings") or {}
            found.append(
                Container(
                    id=str(raw.id),
                    name=str(raw.name),
                    service=raw.labels.get(SERVICE_LABEL, ""),
                    status=state["Status"],
                    health=_health(state),
                    restarts=int(raw.attrs.get("RestartCount", 0)),
                    memory_mb=None,
                    ports=tuple(
                        int(binding["HostPort"])
                        for each in bindings.values()
                        for binding in each or ()
                        if binding.get("HostPort")
                    ),
                    raw=raw,
                )
            )
        if memory:
            with ThreadPoolExecutor(max_workers=16) as executor:
                used = list(executor.map(_memory_mb, found))
            found = [replace(container, memory_mb=amount) for container, amount in zip(found, used, strict=True)]
        return sorted(found, key=lambda container: (container.service, container.name))

    def networks(self) -> list[Any]:
        """Return the networks, as the SDK's objects."""
        return self._client.networks.list(filters=self._filter)

    def volumes(self, *, data: bool = True) -> list[Any]:
        """Return the volumes, as the SDK's objects; without ``data`` only those whose content the program makes."""
        return [
            volume
            for volume in self._client.volumes.list(filters=self._filter)
            if data or DATA_LABEL not in (volume.attrs["Labels"] or {})
        ]

    def remove_containers(self, groups: Sequence[Iterable[Container]], report: Callable[[str], None]) -> None:
        """Stop and remove containers, group after group, those of a group at the same time.

        Raises:
            Failure: Docker refuses.
        """

        def remove(container: Container) -> None:
            if container.status in {"running", "restarting", "paused"}:
                container.raw.stop(timeout=container.raw.attrs["Config"].get("StopTimeout") or GRACE_SECONDS)
            # With the volumes that its image asks for and nobody named; named ones stay.
            container.raw.remove(force=True, v=True)
            report(f"removed container {container.name}")

        with ThreadPoolExecutor(max_workers=16) as executor:
            for group in groups:
                for attempt in [executor.submit(_gone_is_fine, remove, container) for container in group]:
                    attempt.result()

    def remove_networks(self, report: Callable[[str], None], keep: frozenset[str] = frozenset()) -> None:
        """Remove the networks but those with an id in ``keep``.

        Raises:
            Failure: Docker refuses, as for a network that a foreign container is on.
        """
        for network in self.networks():
            if network.id not in keep:
                _gone_is_fine(lambda network: network.remove(), network)
                report(f"removed network {network.name}")

    def remove_volumes(self, report: Callable[[str], None], *, data: bool) -> None:
        """Remove the volumes; those with people's data only if ``data``.

        Raises:
            Failure: Docker refuses, as for a volume that a foreign container uses.
        """
        for volume in self.volumes(data=data):
            _gone_is_fine(lambda volume: volume.remove(), volume)
            report(f"removed volume {volume.name}")

    def remove_images(self, names: Iterable[str], report: Callable[[str], None]) -> None:
        """Remove images that no container uses."""
        for name in sorted(set(names)):
            try:
                self._client.images.remove(name)
            except NotFound:
                continue
            except APIError as error:
                report(f"kept image {name}: {error.explanation or error}")
            else:
                report(f"removed image {name}")


def _health(state: dict[str, Any]) -> str:
    if state["Status"] == "running":
        return str((state.get("Health") or {}).get("Status") or "running").replace("none", "running")
    if state["Status"] in {"exited", "created"} and state.get("ExitCode") == 0:
        return "done"
    return str(state["Status"])


def _memory_mb(container: Container) -> float | None:
    if container.status != "running":
        return None
    try:
        stats: dict[str, Any] = container.raw.stats(stream=False, one_shot=True)["memory_stats"]
    except (APIError, KeyError):
        return None
    # As `docker stats`: the page cache that the kernel would give back does not count.
    cache = stats.get("stats", {}).get("inactive_file", stats.get("stats", {}).get("total_inactive_file", 0))
    return round((stats.get("usage", 0) - cache) / 2**20, 1)


def _gone_is_fine(action: Callable[[Any], None], thing: Any) -> None:
    try:
        action(thing)
    except NotFound:
        return
    except APIError as error:
        if error.status_code == 409 and "already in progress" in str(error.explanation):  # noqa: PLR2004  # HTTP's conflict
            return
        raise Failure(f"Docker does not remove {thing.name}: {error.explanation or error}.") from error
