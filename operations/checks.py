"""What has to be true before a stack is changed; each check says what is wrong, why, and how to cure it."""

import errno
import functools
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import requests

from components.ai.names import job_name, tagged
from operations import accelerator, locks, passphrase, state
from operations.containers import Container, StackInDocker, connect, is_local
from operations.errors import Failure
from operations.project import Project
from settings import Accelerator, OllamaModel, Settings, named_file

FRESH_DISK_GB = 15
"""Free disk for a first deployment: images take 10 GB, the rest is for their build and the first data."""

RUNNING_DISK_GB = 2
"""Free disk for a change of a stack that runs: a new version of its largest image."""

MEMORY_SHARE = 0.5
"""Share of all memory limits that must be free: services rarely come near their limits, but in less than half of them the first
start of all at once runs out of memory."""

SIZE_SECONDS = 3
"""How long an answer about a model's size is waited for; a machine without internet must not wait long."""

LIBRARY = "registry.ollama.ai"
"""Host of the models that are named without one."""

Level = Literal["ok", "advice", "error"]


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    name: str
    level: Level
    message: str


@dataclass(frozen=True)
class Subject:
    """What is checked."""

    project: Project
    stack: str
    settings: Settings
    docker: Any
    """The connected client."""

    @functools.cached_property
    def info(self) -> Mapping[str, Any]:
        """What Docker says of itself; asked once, because that takes it a moment."""
        return self.docker.info()

    @property
    def accelerator(self) -> Accelerator:
        """What computes the models' answers, not ``auto``."""
        wanted = self.settings.accelerator
        return accelerator.find(self.info)[0] if wanted is Accelerator.AUTO else wanted

    def in_docker(self) -> StackInDocker:
        """Return what the stack has in Docker."""
        return StackInDocker(self.docker, self.stack)


def examine(subject: Subject, *, clear: bool = False) -> list[Check]:
    """Run every check that needs Docker and settings, at the same time; ``clear`` as for `check_state`."""
    containers = subject.in_docker().containers()
    checks: list[Callable[[], Check]] = [
        lambda: check_state(subject.project, subject.stack, clear=clear),
        lambda: check_ports(subject, containers),
        lambda: check_memory(subject.settings, containers),
        lambda: check_disk(subject, containers),
        lambda: check_names(subject.settings),
        lambda: check_accelerator(subject),
        lambda: check_models(subject, containers),
    ]
    with ThreadPoolExecutor(max_workers=len(checks)) as executor:
        return list(executor.map(lambda check: check(), checks))


def check_docker() -> tuple[Any, Check]:
    """Connect to Docker; None and the reason if that fails."""
    try:
        client = connect()
    except Failure as error:
        return None, Check("docker", "error", str(error))
    return client, Check("docker", "ok", f"version {client.version()['Version']} answers")


def check_state(project: Project, stack: str, *, clear: bool = False) -> Check:
    """Check that the state can be read, is not locked by another, and opens with the passphrase.

    ``clear`` removes what locks a killed engine left; only for the holder of the run lock.
    """
    salt = ""
    try:
        found = state.read(project.state(stack))
        locks.check_engine_locks(project.engine_locks(stack), clear=clear)
        if found is None or found.salt is None:
            return Check("state", "ok", "none yet")
        salt = found.salt
        secret = passphrase.passphrase(project.local / "passphrase", state_exists=True)
        passphrase.cipher(secret, salt)
    except Failure as error:
        return Check("state", "error", str(error))
    except ValueError:
        return Check(
            "state", "error", f"The state of stack {stack} is encrypted in a way that is not known here: {salt[:20]}..."
        )
    except passphrase.WrongPassphraseError:
        source = next(
            (name for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE") if name in os.environ), None
        )
        where = f"the one in {source}" if source else f"the one in {project.local / 'passphrase'}"
        cure = (
            f"correct or unset {source}" if source else "put the right one back there, or set PULUMI_CONFIG_PASSPHRASE"
        )
        return Check(
            "state",
            "error",
            f"The passphrase is wrong for the state of stack {stack}: {where} does not open it; {cure}.",
        )
    return Check("state", "ok", f"{len(found.resources)} resources, readable with the passphrase")


def decrypter(project: Project, stack: str, salt: str) -> Callable[[str], str]:
    """Return what decrypts the secrets of a stack's state.

    Raises:
        Failure: the state is not readable, locked, or the passphrase is another.
    """
    checked = check_state(project, stack)
    if checked.level == "error":
        raise Failure(checked.message)
    return passphrase.cipher(passphrase.passphrase(project.local / "passphrase", state_exists=True), salt).open


def ports(settings: Settings) -> dict[str, tuple[int, bool]]:
    """Return the ports that the platform publishes, by setting, and whether on 127.0.0.1 only."""
    return {
        "aikit:http-port": (settings.http_port, False),
        "aikit:https-port": (settings.https_port, False),
        "aikit:admin-port": (settings.admin_port, True),
        "aikit:vault-port": (settings.vault.port, True),
    }


def check_ports(subject: Subject, containers: list[Container]) -> Check:
    """Check that the ports are free, or the stack's own."""
    if not is_local():
        return Check("ports", "ok", "not checked: Docker runs on another machine")
    own = {port for container in containers for port in container.ports}
    problems: list[str] = []
    for setting, (port, loopback) in ports(subject.settings).items():
        if port in own:
            continue
        holder = _holder(subject, port, loopback=loopback)
        if holder:
            problems.append(
                f"Port {port} ({setting}) is taken by {holder}: stop that, or set {setting} to a free port in Pulumi.{subject.stack}.yaml."
            )
    if problems:
        return Check("ports", "error", " ".join(problems))
    return Check(
        "ports",
        "ok",
        f"{', '.join(str(port) for port, _ in ports(subject.settings).values())} are free or the stack's own",
    )


def _holder(subject: Subject, port: int, *, loopback: bool) -> str | None:
    """Return who listens on a port that we are about to publish; None if nobody does."""
    for container in subject.docker.containers.list(filters={"publish": str(port)}, ignore_removed=True):
        return f"container {container.name}"
    if not _taken(port, loopback=loopback):
        return None
    try:
        listeners = [
            each
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port
        ]
    except psutil.AccessDenied:
        return "another process"
    for listener in listeners:
        if listener.pid:
            return f"process {listener.pid} ({psutil.Process(listener.pid).name()})"
    return "another process"


def _taken(port: int, *, loopback: bool) -> bool:
    with socket.socket() as probe:
        # As a server would, so that connections which just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1" if loopback else "", port))
        except OSError as error:
            # A port below 1024 is refused to an ordinary user, but Docker's to give.
            return error.errno == errno.EADDRINUSE
    return False


def memory_limits_mb(settings: Settings) -> int:
    """Return the sum of the memory limits that the settings name, in MiB; that of Ollama counts for each of its servers."""

    def limits(model: Any) -> Iterator[int]:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if name == "memory_mb":
                yield int(value)
            elif hasattr(type(value), "model_fields"):
                yield from limits(value)

    return sum(limits(settings)) + (settings.ollama.replicas - 1) * settings.ollama.memory_mb


def check_memory(settings: Settings, containers: list[Container]) -> Check:
    """Check that the services will find memory; those that run already have theirs."""
    if not is_local():
        return Check("memory", "ok", "not checked: Docker runs on another machine")
    if any(container.status == "running" for container in containers):
        return Check("memory", "ok", "the stack runs already")
    needed = int(memory_limits_mb(settings) * MEMORY_SHARE)
    free = psutil.virtual_memory().available >> 20
    if free < needed:
        return Check(
            "memory",
            "error",
            f"{free} MiB of memory are free, {needed} are needed ({MEMORY_SHARE:.0%} of all memory limits): "
            "end other programs, or lower the settings aikit:*-memory-mb.",
        )
    return Check("memory", "ok", f"{free} MiB are free, {needed} are needed")


def check_disk(subject: Subject, containers: list[Container]) -> Check:
    """Check that Docker's disk has room for images and data."""
    if not is_local():
        return Check("disk", "ok", "not checked: Docker runs on another machine")
    folder = Path(subject.info["DockerRootDir"])
    while not folder.exists():
        folder = folder.parent
    needed = RUNNING_DISK_GB if containers else FRESH_DISK_GB
    free = shutil.disk_usage(folder).free / 10**9
    if free < needed:
        return Check(
            "disk",
            "error",
            f"{free:.1f} GB are free below {folder}, {needed} are needed: make room, for example with `docker system prune`, "
            "or move Docker's data-root to a larger disk.",
        )
    return Check("disk", "ok", f"{free:.0f} GB are free, {needed} are needed")


def check_accelerator(subject: Subject) -> Check:
    """Check that Docker has the graphics card that the settings ask for."""
    wanted = subject.settings.accelerator
    problem = accelerator.problem(wanted, subject.info) or accelerator.too_few(
        subject.accelerator, subject.settings.ollama, subject.info
    )
    if problem:
        return Check("accelerator", "error", problem)
    if wanted is Accelerator.AUTO:
        found, reason = accelerator.find(subject.info)
        return Check("accelerator", "ok", f"{found}: {reason}")
    return Check("accelerator", "ok", f"{wanted}, as aikit:accelerator says")


def check_models(subject: Subject, containers: list[Container]) -> Check:
    """Check that the files of models are there, and that each model fits into the memory that Ollama may use.

    A file's size is exact. That of an address or of Ollama's library is asked for there, if the model is not deployed yet; where
    nobody answers, the model's own job refuses it as soon as it learns the size.
    """
    chosen, models = subject.settings.ollama, subject.settings.models
    limit, which = chosen.memory_mb, "aikit:ollama-memory-mb"
    if subject.accelerator is Accelerator.CPU and (all_mb := subject.info["MemTotal"] >> 20) < limit:
        limit, which = all_mb, "all the memory there is"
    deployed = {container.service for container in containers if container.health == "done"}
    with ThreadPoolExecutor(max_workers=8) as executor:
        sizes = dict(zip(models, executor.map(lambda model: _size(model, deployed), models), strict=True))
    problems: list[str] = []
    unknown: list[str] = []
    for model, size in sizes.items():
        if isinstance(size, str):
            problems.append(size)
        elif size is None:
            unknown.append(model.name)
        elif size >> 20 > limit:
            cure = (
                "take a smaller quantization"
                if limit < chosen.memory_mb
                else "raise that, or take a smaller quantization"
            )
            problems.append(f"Model {model.name} has {size >> 20} MiB, but Ollama may use {limit} ({which}): {cure}.")
    if problems:
        return Check("models", "error", " ".join(problems))
    later = f"; not known yet how large: {', '.join(unknown)}" if unknown else ""
    return Check("models", "ok", f"{len(models)} in the settings{later}")


def _size(model: OllamaModel, deployed: Set[str]) -> int | str | None:
    """Return the bytes of a model; what is wrong with its file; or None if it is deployed or nobody tells."""
    if model.file:
        path = named_file(model.file)
        if not path.is_file():
            return f"Model {model.name}: the file {path} that aikit:models names does not exist."
        return path.stat().st_size
    if job_name(model) in deployed or (model.url.startswith("http:") and not is_local()):
        return None
    try:
        if model.url:
            answer = requests.head(model.url, timeout=SIZE_SECONDS, allow_redirects=True)
            length = answer.headers.get("Content-Length") if answer.ok else None
            return int(length) if length else None
        answer = requests.get(library_address(tagged(model.name)), timeout=SIZE_SECONDS)
        return sum(layer["size"] for layer in answer.json()["layers"]) if answer.ok else None
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None


def library_address(name: str) -> str:
    """Return where the library of a model, ``[[host/]namespace/]model:tag``, says what it consists of."""
    path, _, tag = name.rpartition(":")
    parts = path.split("/")
    host, space, model = [LIBRARY, "library"][: 3 - len(parts)] + parts
    return f"https://{host}/v2/{space}/{model}/manifests/{tag}"


def check_names(settings: Settings) -> Check:
    """Check that the host names lead somewhere; only advice, as names can be given after the deployment."""
    name = f"chat.{settings.domain}"
    if settings.domain == "localhost" or settings.domain.endswith(".localhost"):
        return Check("names", "ok", f"browsers resolve {name} by themselves")
    try:
        found = sorted(
            {str(entry[4][0]) for entry in socket.getaddrinfo(name, settings.https_port, type=socket.SOCK_STREAM)}
        )
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        return Check(
            "names",
            "advice",
            f"{name} does not resolve ({reason}): add DNS records for *.{settings.domain} that lead to this machine.",
        )
    return Check("names", "ok", f"{name} leads to {', '.join(found)}")
