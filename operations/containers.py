"""What a stack has in Docker, found by its labels; the one place that asks Docker beside the providers."""

import os
import re
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

BUILT, BASE = "aikit/", "aikit/base"
"""What the names of images begin with that were built here, and the name of those that they start from."""

HEALTHY = frozenset({"healthy", "running", "done"})
"""Health words that ask for nothing."""

STARTING = "starting"
"""Health word of a container that has not passed its check yet."""

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
        # A socket has no proxy; looking for one takes a fifth of each call.
        client.api.trust_env = not is_local()
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
    ports: tuple[int, ...]
    """Of the machine, while it runs."""
    raw: Any
    """The SDK's object, which knows its id only until it is reloaded."""
    restarts: int | None = None
    """None where it was not measured."""
    memory_mb: float | None = None
    """None where it was not measured, or does not run."""


class StackInDocker:
    """Everything in Docker that carries the stack's label."""

    def __init__(self, client: docker.DockerClient, stack: str) -> None:
        self._client = client
        self._filter: dict[str, Any] = {"label": f"{STACK_LABEL}={stack}"}

    def containers(self, *, measured: bool = False) -> list[Container]:
        """Return the containers, by service; ``measured`` with restarts and memory, which takes Docker a second or two.

        Those that Docker calls starting are looked at: since it looked last, a whole interval ago, they may have become healthy.
        """
        # The list alone: to inspect each of forty containers takes a quarter of a second, several times in each run.
        listed: list[dict[str, Any]] = self._client.api.containers(all=True, filters=self._filter)
        found = [
            Container(
                id=each["Id"],
                name=each["Names"][0].removeprefix("/"),
                service=each["Labels"].get(SERVICE_LABEL, ""),
                status=each["State"],
                health=_health(each),
                ports=tuple({int(port["PublicPort"]) for port in each["Ports"] if "PublicPort" in port}),
                raw=self._client.containers.prepare_model({"Id": each["Id"]}),
            )
            for each in listed
        ]
        with ThreadPoolExecutor(max_workers=16) as executor:
            if measured:
                found = list(executor.map(_measure, found))
            found = list(executor.map(self._look, found))
        return sorted(found, key=lambda container: (container.service, container.name))

    def _look(self, container: Container) -> Container:
        if container.health != STARTING:
            return container
        from providers.docker.health import passes

        try:
            well = passes(self._client, self._client.api.inspect_container(container.id))
        except NotFound:
            return container
        return replace(container, health="healthy") if well else container

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

    def missing_volumes(self, names: Iterable[str]) -> set[str]:
        """Return those of these volumes that are not there, whoever made them."""
        return set(names) - {volume.name for volume in self._client.volumes.list()}

    def has_images(self, images: Iterable[str]) -> bool:
        """Whether all these images, by tag or identifier, are on the machine, whatever stack they are of."""
        listed: list[dict[str, Any]] = self._client.api.images()
        return set(images) <= {name for each in listed for name in (each["Id"], *(each["RepoTags"] or ()))}

    def remove_containers(self, groups: Sequence[Iterable[Container]], report: Callable[[str], None]) -> None:
        """Stop and remove containers, group after group, those of a group at the same time.

        Raises:
            Failure: Docker refuses.
        """

        def remove(container: Container) -> None:
            if container.status in {"running", "restarting", "paused"}:
                container.raw.reload()
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

    def remove_built(self, names: Iterable[str], report: Callable[[str], None]) -> None:
        """Remove images that were built, also those of earlier versions; base images go with the last that starts from them.

        What a container uses is kept, and said.

        Args:
            names: of the present ones, with their tags.
            report: takes a line for each.
        """
        repositories = {_repository(name) for name in names if name.startswith(BUILT)}
        self._remove_images((tag for tag in self._built() if _repository(tag) in repositories), report)
        left = self._built()
        if repositories and all(_repository(tag) == BASE for tag in left):
            self._remove_images(left, report)

    def _built(self) -> list[str]:
        listed: list[dict[str, Any]] = self._client.api.images()
        return [str(tag) for each in listed for tag in each["RepoTags"] or () if str(tag).startswith(BUILT)]

    def _remove_images(self, names: Iterable[str], report: Callable[[str], None]) -> None:
        for name in sorted(set(names)):
            try:
                self._client.images.remove(name)
            except NotFound:
                continue
            except APIError as error:
                report(f"kept image {name}: {error.explanation or error}")
            else:
                report(f"removed image {name}")


def _repository(image: str) -> str:
    return image.rpartition(":")[0]


def _health(listed: dict[str, Any]) -> str:
    """Read a container's health from what the list says, such as ``Up 5 minutes (healthy)`` or ``Exited (0) 2 hours ago``."""
    state, said = str(listed["State"]), str(listed["Status"])
    if state == "running":
        check = re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)$", said)
        return check[1] if check else "running"
    # What has no network only carries files, and is never started; all else that is only created could not start.
    done = state == "created" and listed["HostConfig"]["NetworkMode"] == "none"
    return "done" if done or (state == "exited" and said.startswith("Exited (0)")) else state


def _measure(container: Container) -> Container:
    try:
        container.raw.reload()
        restarts = int(container.raw.attrs["RestartCount"])
        if container.status != "running":
            return replace(container, restarts=restarts)
        stats: dict[str, Any] = container.raw.stats(stream=False, one_shot=True)["memory_stats"]
    except (APIError, KeyError):
        return container
    # As `docker stats`: the page cache that the kernel would give back does not count.
    cache = stats.get("stats", {}).get("inactive_file", stats.get("stats", {}).get("total_inactive_file", 0))
    return replace(container, restarts=restarts, memory_mb=round((stats.get("usage", 0) - cache) / 2**20, 1))


def _gone_is_fine(action: Callable[[Any], None], thing: Any) -> None:
    try:
        action(thing)
    except NotFound:
        return
    except APIError as error:
        if error.status_code == 409 and "already in progress" in str(error.explanation):  # noqa: PLR2004  # HTTP's conflict
            return
        raise Failure(f"Docker does not remove {thing.name}: {error.explanation or error}.") from error
