"""Whether an `up` would only repeat the last one, so that its result is known without asking the engine.

Without ``--refresh`` the engine compares what the program declares with the state, and takes seconds to find that nothing has changed. So
an `up` that succeeds leaves a note beside the state: a digest of everything that its result depends on. As long as all of that is the
same, and in Docker is what the state names, the next one has nothing to do. What can't be read or told for certain counts as changed: then
the engine is asked, as it is without a note.
"""

import hashlib
import json
import os
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from operations import accelerator, state
from operations.containers import HEALTHY, Container, StackInDocker
from operations.errors import Failure
from operations.origins import Origins
from operations.passphrase import Cipher, WrongPassphraseError, cipher, passphrase
from operations.project import Project
from settings import FILES_ROOT, ROOT, Accelerator, Settings, named_files

LONGEST = timedelta(hours=24)
"""How long a note holds: at least once a day the engine has a look of its own."""

READ_BYTES = 5_000_000
"""A larger file counts as the same while its size and times are: models have gigabytes."""

OF_THE_SHELL = frozenset(
    {
        *("_", "SHLVL", "PWD", "OLDPWD", "TERM", "COLUMNS", "LINES", "STY", "TMUX", "TMUX_PANE", "WINDOWID"),
        *("SSH_AUTH_SOCK", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "XDG_SESSION_ID"),
        *("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"),
    }
)
"""Variables that differ from one terminal or timer to the next and say nothing to a deployment. All others count, because the program, the
engine and the providers may read any of them."""


class _Note(BaseModel):
    """What is kept of a run. Its seal is a digest, made with the state's key: nobody can guess from it what a secret file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made: AwareDatetime
    """When the run ended."""
    left_out: tuple[str, ...]
    """What it said of services that it did not deploy."""
    seal: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """The result of a run that would repeat the last one."""

    left_out: Sequence[str]
    """What the last one said of services that it did not deploy."""
    containers: Sequence[Container]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of `up`, by what its result depends on beside the state and Docker."""

    project: Project
    stack: str
    inputs: bytes | None
    """What it started from; None where that can't be told, so that nothing is known of its result."""

    @classmethod
    def of(
        cls, project: Project, stack: str, settings: Settings, origins: Origins, docker_info: Mapping[str, Any]
    ) -> Self:
        """Take down what a run starts from. To be called before the program is loaded: what changes later is then a change.

        Args:
            project: the project's folder and program.
            stack: its name.
            settings: of the stack.
            origins: where the engine, the plugins, the images and the models come from.
            docker_info: what Docker says of itself.
        """
        try:
            found = _inputs(project, settings, origins, docker_info)
            inputs = json.dumps(found, sort_keys=True).encode()
        except (OSError, ValueError):
            inputs = None
        return cls(project=project, stack=stack, inputs=inputs)

    def known(self, in_docker: StackInDocker, *, at: datetime | None = None) -> Known | None:
        """Return the result if this run would only repeat the last one that succeeded; None if the engine has to be asked.

        Args:
            in_docker: what the stack has in Docker.
            at: the time; now by default.
        """
        now = at or datetime.now(UTC)
        try:
            note = _Note.model_validate_json(self._file.read_bytes())
            content, deployed = self._state()
        except (OSError, ValidationError, Failure):
            return None
        if (
            self.inputs is None
            or deployed is None
            or not note.made <= now < min(note.made + LONGEST, _renewal(deployed))
        ):
            return None
        containers = in_docker.containers()
        if not _settled(deployed) or not _in_docker(deployed, in_docker, containers):
            return None
        opened = self._cipher(deployed)
        if opened is None or note.seal != opened.seal(_sealed(note.made, note.left_out, self.inputs, content)):
            return None
        return Known(left_out=note.left_out, containers=containers, outputs=deployed.outputs())

    def keep(self, left_out: Sequence[str], *, at: datetime | None = None) -> None:
        """Note that this run succeeded; where that can't be noted, the next one asks the engine.

        Args:
            left_out: what it said of services that it did not deploy.
            at: the time; now by default.
        """
        made = at or datetime.now(UTC)
        try:
            content, deployed = self._state()
            opened = deployed and self._cipher(deployed)
            if self.inputs is None or deployed is None or opened is None or not _settled(deployed):
                return
            seal = opened.seal(_sealed(made, left_out, self.inputs, content))
            note = _Note(made=made, left_out=tuple(left_out), seal=seal)
            draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(note.model_dump_json(indent=2))
            draft.replace(self._file)
        except (OSError, Failure):
            return

    @property
    def _file(self) -> Path:
        return self.project.local / f"{self.stack}.unchanged.json"

    def _state(self) -> tuple[bytes, state.State | None]:
        """Return the state, as its file's bytes and read; None with another backend than local files, or before the first run."""
        path = self.project.state(self.stack)
        content = path.read_bytes() if path else b""
        return content, state.read(path)

    def _cipher(self, deployed: state.State) -> Cipher | None:
        """Return what seals notes; None where the state is not encrypted with the passphrase of this stack."""
        if deployed.salt is None:
            return None
        try:
            return cipher(passphrase(self.project.local / "passphrase", state_exists=True), deployed.salt)
        except (Failure, ValueError, WrongPassphraseError):
            return None


def _sealed(made: datetime, left_out: Iterable[str], inputs: bytes, content: bytes) -> bytes:
    digests = [hashlib.sha256(part).hexdigest() for part in (inputs, content)]
    return json.dumps([made.isoformat(), *left_out, *digests]).encode()


def _settled(deployed: state.State) -> bool:
    """Whether the engine has nothing left to finish."""
    return (
        bool(deployed.resources)
        and not deployed.pending
        and not deployed.outdated_logins()
        and not any(resource.get("delete") or resource.get("taint") for resource in deployed.resources)
    )


def _renewal(deployed: state.State) -> datetime:
    """Return when the first certificate is to be renewed, which the provider decides by the clock; long ago if that can't be told."""
    times = [datetime.max.replace(tzinfo=UTC)]
    for resource in deployed.resources:
        outputs: Mapping[str, Any] = resource.get("outputs") or {}
        if "validityEndTime" in outputs:
            try:
                early = timedelta(hours=float(outputs.get("earlyRenewalHours") or 0))
                times.append(datetime.fromisoformat(outputs["validityEndTime"]).astimezone(UTC) - early)
            except (TypeError, ValueError, OverflowError):
                return datetime.min.replace(tzinfo=UTC)
    return min(times)


def _in_docker(deployed: state.State, in_docker: StackInDocker, containers: Iterable[Container]) -> bool:
    """Whether everything that the state names is in Docker, with all containers healthy, and nothing else runs of the stack."""
    named = {kind: {str(each.get("id")) for each in deployed.of_type(kind)} for kind in _IN_DOCKER}
    # A destroy that kept the data leaves the outputs.
    services = {str(service["container"]) for service in deployed.outputs().get("services") or ()}
    images = [
        str((each.get("outputs") or {}).get(name))
        for kind, name in ((state.IMAGE, "imageName"), (state.REMOTE_IMAGE, "imageId"))
        for each in deployed.of_type(kind)
    ]
    return (
        named[state.CONTAINER] == {each.id for each in containers}
        and all(each.health in HEALTHY for each in containers)
        and services <= {each.name for each in containers}
        and named[state.NETWORK] == {each.id for each in in_docker.networks()}
        and named[state.VOLUME] <= {each.name for each in in_docker.volumes()}
        and in_docker.has_images(images)
    )


_IN_DOCKER = (state.CONTAINER, state.NETWORK, state.VOLUME)


def _inputs(project: Project, settings: Settings, origins: Origins, docker_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run starts from.

    Raises:
        OSError: a file can't be read.
        ValueError: something has a form that is not known here.
    """
    return {
        "folders": [str(path) for path in (project.root, project.local, project.cache, ROOT, FILES_ROOT.absolute())],
        "program": f"{project.deploy.__module__}.{project.deploy.__qualname__}",
        "settings": settings.model_dump_json(),
        "files": [_tree(root, project.local) for root in dict.fromkeys((project.root, ROOT))],
        "named files": [[str(path), str(path.resolve()), _file(path)] for path in named_files(settings)],
        "environment": {name: value for name, value in os.environ.items() if name not in OF_THE_SHELL},
        "python": [sys.version, sys.prefix, _packages()],
        "origins": {what: choice.origin for what, choice in origins.by_name().items()},
        "engine": _engine() if origins.engine.origin == "official" else "",
        "bases": _bases() if origins.images.origin == "built" else [],
        "small model": _small_model(project) if origins.models and origins.models.origin == "package" else [],
        "accelerator": accelerator.find(docker_info) if settings.accelerator is Accelerator.AUTO else "",
        "docker": [docker_info.get(name) for name in ("ID", "ServerVersion", "Architecture", "OSType", "NCPU")],
    }


def _tree(root: Path, local: Path) -> list[list[Any]]:
    """Return every file below a program's folder, also what git ignores: the program may read it, or an image be built of it.

    Folders at the top whose names begin with a dot are those of tools, and ``local`` is that of the runs themselves.
    """
    return [[str(path.relative_to(root)), _file(path)] for path in _walk(root, local)]


def _walk(root: Path, local: Path) -> Iterator[Path]:
    """Yield the files of a program's folder, sorted.

    Raises:
        OSError: a folder can't be read.
        ValueError: a link leads to a folder, whose files would not be seen.
    """
    for folder, folders, files in os.walk(root, onerror=_raise):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if (here != root or name[0] != ".") and here / name != local)
        if links := [name for name in folders if (here / name).is_symlink()]:
            raise ValueError(links[0])
        yield from (here / name for name in sorted(files))


def _raise(error: OSError) -> None:
    raise error


def _file(path: Path) -> list[Any]:
    """Return what tells whether a file is still the same; where it is a link, both the link and what that leads to."""
    link = str(path.readlink()) if path.is_symlink() else ""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(path)
    if found.st_size > READ_BYTES:
        return [link, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return [link, found.st_mode, hashlib.sha256(path.read_bytes()).hexdigest()]


def _packages() -> list[str]:
    """Return the installed packages with their versions."""
    return sorted(name for name in os.listdir(sysconfig.get_path("purelib")) if name.endswith(".dist-info"))  # noqa: PTH208  # names


def _engine() -> list[Any]:
    """Return what tells the installed engine from another one; its version would take a third of a second."""
    found = shutil.which("pulumi")
    return [found, *_file(Path(found))] if found else []


def _bases() -> list[str]:
    """Return the tags of the base images that this machine would build from."""
    from toolchain.base import Release, authorities, base_tag, mirrors

    sources, certificates = mirrors(), authorities()
    return [base_tag(release, sources, certificates) for release in get_args(Release)]


def _small_model(project: Project) -> list[Any]:
    from toolchain.small_model import location

    path = location(project.cache)
    return [str(path), *_file(path)]
