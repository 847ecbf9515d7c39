"""The deployments of a stack: who made which one of what, how it ended, and the programs to return to.

Beside the state lies, for each stack::

    history/<stack>/<number>.json         a deployment, written when it begins and again when it ends
    history/<stack>/programs/<digest>/    the program and the settings of deployments, as they were

A program is kept as a copy of its files, not as a revision of git: that also holds for changes that nobody has committed, for a
downloaded archive, and when a pipeline's checkout or a branch is gone.
"""

import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import click
import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from operations.console import warn
from operations.errors import Exit, Failure
from operations.locks import alive, identity
from operations.project import Project

KEPT_PROGRAMS = 10
"""Programs that can be returned to; that of the last good deployment is kept in any case."""

KEPT_ENTRIES = 500
"""Deployments that are remembered; each takes less than a kilobyte."""

LARGEST_BYTES = 5_000_000
"""A larger file that is not in git is data, such as a model, and no part of the program."""

_NOT_PROGRAM = frozenset({".aikit", ".git", ".venv", ".venv.lock", "__pycache__", "node_modules", ".env"})
_NOT_PROGRAM_SUFFIXES = frozenset({".key", ".pem", ".pyc"})
"""What is left out where git does not tell what belongs to the program: what runs make, and secrets."""

_ACTORS = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER_ID", "SUDO_USER")
"""Variables that name the person on whose behalf this process runs, in pipelines and under sudo."""

_KINDS: Mapping[str, str] = {
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "create-replacement": "replaced",
    "delete-replaced": "replaced",
    "delete": "deleted",
}


class Result(StrEnum):
    """How a deployment ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Stopped by a person or a signal, or killed."""
    DECLINED = "declined"
    """The person did not agree to the changes."""


class Process(BaseModel):
    """The process that deploys."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float
    """Seconds since 1970; numbers are given anew."""


class Entry(BaseModel):
    """One deployment."""

    model_config = ConfigDict(frozen=True)

    number: int
    """Counted from 1 in each stack."""
    stack: str
    command: Literal["up", "rollback"]
    returns_to: int | None = None
    """Number of the deployment whose program was deployed again; None for the project's own program."""
    program: str
    """Digest of the program's files, settings among them."""
    commit: str = ""
    """Git's revision of the program; empty without git."""
    modified: bool = False
    """Whether files differed from that revision."""
    who: str
    run: str = ""
    """Address of the pipeline's run; empty outside of one."""
    started: datetime
    seconds: float | None = None
    """How long it took; None while it runs, and if it was killed."""
    result: Result = Result.RUNNING
    rotates: tuple[str, ...] = ()
    """Names of the secrets that it was to give new values."""
    rotated: tuple[str, ...] = ()
    """Those of them that have one; who uses them has it, too, only after a deployment that succeeded."""
    changes: Mapping[str, int] = {}
    """How many resources were created, updated, replaced and deleted."""
    reason: str = ""
    """Why it failed."""
    process: Process | None = None

    @property
    def revision(self) -> str:
        """The program for people: git's revision, or the digest of the files where there is none."""
        if not self.commit:
            return f"files {self.program[:12]}"
        return f"{self.commit[:12]}{' with changes' if self.modified else ''}"

    @property
    def good(self) -> bool:
        """Whether it can be returned to."""
        return self.result is Result.SUCCEEDED

    @property
    def change_text(self) -> str:
        """The counts for people."""
        return ", ".join(f"{number} {kind}" for kind, number in self.changes.items()) or "nothing changed"

    @property
    def rotation_text(self) -> str:
        """The secrets for people; empty for a deployment that rotates none."""
        if self.seconds is None and self.rotates:
            # It runs, or was killed and could not say how far it got.
            return f"new values asked for: {', '.join(self.rotates)}"
        missing = [name for name in self.rotates if name not in self.rotated]
        parts = {"new values": self.rotated, "former values still": missing}
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def counts(steps: Iterable[str]) -> dict[str, int]:
    """Count the engine's steps by what they did; what is only bookkeeping does not count."""
    found = [_KINDS[step] for step in steps if step in _KINDS]
    return {kind: found.count(kind) for kind in dict.fromkeys(_KINDS.values()) if kind in found}


class History:
    """The deployments of one stack."""

    def __init__(self, project: Project, stack: str) -> None:
        self._project = project
        self._stack = stack
        self._folder = project.local / "history" / stack

    def entries(self) -> list[Entry]:
        """Return all deployments, oldest first; one that was killed reads as interrupted."""
        found: list[Entry] = []
        for path in sorted(self._folder.glob("[0-9]*.json")):
            try:
                entry = Entry.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                warn(f"{path} can't be read as a deployment and is passed over.")
                continue
            if entry.result is Result.RUNNING and not alive(entry.process and entry.process.model_dump()):
                entry = entry.model_copy(update={"result": Result.INTERRUPTED})
            found.append(entry)
        return found

    def last_good(self, *, before: int | None = None, unlike: str = "") -> Entry | None:
        """Return the last deployment that succeeded and whose program is still kept.

        Args:
            before: number that it must be below; None is no limit.
            unlike: digest of a program that it must not have.
        """
        for entry in reversed(self.entries()):
            if (
                entry.good
                and (before is None or entry.number < before)
                and entry.program != unlike
                and self.program(entry).is_dir()
            ):
                return self._origin(entry)
        return None

    def target(self, number: int | None) -> Entry:
        """Return the deployment to return to.

        Args:
            number: of the deployment; None is the last good one before the present one that had another program.

        Raises:
            Failure: there is none, it did not succeed, or its program is no longer kept.
        """
        entries = self.entries()
        possible = [entry for entry in entries if entry.good and self.program(entry).is_dir()]
        known = ", ".join(str(entry.number) for entry in possible) or "none"
        if number is not None:
            chosen = next((entry for entry in possible if entry.number == number), None)
            if chosen is not None:
                return self._origin(chosen)
            raise Failure(
                f"Stack {self._stack} can't be returned to deployment {number}; those that succeeded and are kept: {known}.",
                code=Exit.USAGE,
            )
        present = next((entry for entry in reversed(entries) if entry.result is not Result.DECLINED), None)
        # Asked for again, it goes further back instead of to and fro.
        before = present and (present.returns_to or present.number)
        found = self.last_good(before=before, unlike=present.program if present else "")
        if found is None:
            raise Failure(
                f"Stack {self._stack} has no earlier good deployment of another program; those that succeeded and are kept: {known}."
            )
        return found

    def _origin(self, entry: Entry) -> Entry:
        """Return the deployment that a return repeated, so that going back further goes on from there."""
        return next((each for each in self.entries() if each.number == entry.returns_to), entry)

    def judged(self, entry: Entry) -> bool:
        """Whether the same program was deployed earlier on the same day, so that the policies would say the same.

        The day counts because exemptions end.
        """
        return any(
            each.good
            and each.program == entry.program
            and each.started.astimezone().date() == entry.started.astimezone().date()
            for each in self.entries()
            if each.returns_to is None
        )

    def program(self, entry: Entry) -> Path:
        """Return the folder with the program of a deployment."""
        return self._folder / "programs" / entry.program

    def begin(self, *, returns_to: int | None = None, rotates: Sequence[str] = ()) -> "Record":
        """Write down that a deployment begins, and keep what it deploys.

        Args:
            returns_to: number of the deployment that is repeated; None for the project's own program.
            rotates: names of the secrets that get new values.

        Raises:
            Failure: it can't be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if returns_to is None:
                origin: dict[str, str | bool] = {"program": self._keep(), **_revision(self._project.root)}
            else:
                origin = self.target(returns_to).model_dump(include={"program", "commit", "modified"})
            process = identity(os.getpid())
            number = max((entry.number for entry in self.entries()), default=0) + 1
            while True:
                entry = Entry.model_validate(
                    {
                        **origin,
                        "number": number,
                        "stack": self._stack,
                        "command": "up" if returns_to is None else "rollback",
                        "returns_to": returns_to,
                        "rotates": tuple(rotates),
                        "who": _who(),
                        "run": _run(),
                        "started": datetime.now(UTC),
                        "process": process,
                    }
                )
                try:
                    self._write(entry, new=True)
                    break
                except FileExistsError:
                    number += 1
            self._forget()
        except OSError as error:
            raise Failure(
                f"The deployment can't be written down in {self._folder} ({error}): make room there, and let this user write."
            ) from error
        return Record(self, entry)

    def end(self, entry: Entry) -> None:
        """Write down how a deployment ended."""
        self._write(entry, new=False)

    def _write(self, entry: Entry, *, new: bool) -> None:
        """Write a deployment in one step, so that no reader meets half of it; with ``new``, only if its number is free."""
        path = self._path(entry.number)
        draft = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(entry.model_dump_json(indent=2))
        if not new:
            draft.replace(path)
            return
        try:
            path.hardlink_to(draft)
        finally:
            draft.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.json"

    def _keep(self) -> str:
        """Copy the program's files unless they are here already, and return their digest."""
        root = self._project.root
        files = sorted(file for file in program_files(root) if not (root / file).is_relative_to(self._project.local))
        digest = hashlib.sha256()
        for file in files:
            path = root / file
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            mark = f"{file}\0{path.is_symlink()}\0{path.lstat().st_mode & 0o100}\0{len(content)}\0"
            digest.update(mark.encode() + content)
        name = digest.hexdigest()
        kept = self._folder / "programs" / name
        if not kept.is_dir():
            draft = kept.with_name(f".{name}.{os.getpid()}")
            for file in files:
                (draft / file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                shutil.copy2(root / file, draft / file, follow_symlinks=False)
            draft.replace(kept)
        return name

    def _forget(self) -> None:
        """Remove the oldest entries, and the programs that too few of the last deployments had."""
        entries = self.entries()
        for entry in entries[:-KEPT_ENTRIES]:
            self._path(entry.number).unlink()
        recent = list(dict.fromkeys(entry.program for entry in reversed(entries)))[:KEPT_PROGRAMS]
        good = self.last_good()
        for folder in (self._folder / "programs").iterdir():
            if folder.name.startswith(".") and psutil.pid_exists(int(folder.suffix[1:])):
                continue  # Another run is copying it.
            if folder.name not in recent and not (good and folder.name == good.program):
                shutil.rmtree(folder)


class Record:
    """A deployment under way; as a context manager it writes down how it ends."""

    def __init__(self, history: History, entry: Entry) -> None:
        self._history = history
        self._started = time.monotonic()
        self.entry = entry
        self.began = False
        """Whether anything may have been changed."""

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write down the end: failed or interrupted with an exception, otherwise what `end` was told, or success."""
        if isinstance(error, (KeyboardInterrupt, click.Abort)):
            self._end(Result.INTERRUPTED)
        elif error is not None:
            self._end(Result.FAILED, reason="\n".join(error.messages) if isinstance(error, Failure) else str(error))
        elif self.entry.result is Result.RUNNING:
            self._end(Result.SUCCEEDED)

    def count(self, steps: Iterable[str]) -> None:
        """Keep what the engine's steps changed."""
        self.entry = self.entry.model_copy(update={"changes": counts(steps)})

    def rotate(self, names: Iterable[str]) -> None:
        """Keep which secrets have new values."""
        self.entry = self.entry.model_copy(update={"rotated": tuple(names)})

    def decline(self) -> None:
        """Write down that the person did not agree."""
        self._end(Result.DECLINED)

    def _end(self, result: Result, *, reason: str = "") -> None:
        self.entry = self.entry.model_copy(
            update={
                "result": result,
                "reason": reason,
                "seconds": round(time.monotonic() - self._started, 1),
                "process": None,
            }
        )
        try:
            self._history.end(self.entry)
        except OSError as error:
            # The deployment itself has ended; its exit code is not to say otherwise.
            warn(f"How deployment {self.entry.number} ended could not be written down: {error}.")


def program_files(root: Path) -> Iterator[str]:
    """Yield the files of a program, relative to its folder: what git has or would take, without git all but what runs make."""
    tracked = _git(root, "ls-files", "-z", "--cached")
    if tracked:
        others = _git(root, "ls-files", "-z", "--others", "--exclude-standard") or ""
        yield from (file for file in tracked.split("\0") if file and _is_file(root / file))
        candidates: Iterable[str] = (file for file in others.split("\0") if file)
    else:
        candidates = _walk(root)
    for file in candidates:
        path = root / file
        if _is_file(path) and path.lstat().st_size <= LARGEST_BYTES:
            yield file


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_PROGRAM]
        for name in files:
            path = Path(folder, name)
            if name not in _NOT_PROGRAM and path.suffix not in _NOT_PROGRAM_SUFFIXES:
                yield str(path.relative_to(root))


def _is_file(path: Path) -> bool:
    """Whether a path is there and neither a folder, as git's submodules are, nor a socket or the like."""
    return path.is_symlink() or path.is_file()


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git says; None without git or outside of a checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _revision(root: Path) -> dict[str, str | bool]:
    commit = (_git(root, "rev-parse", "HEAD") or "").strip() if _git(root, "ls-files", "--cached") else ""
    return {"commit": commit, "modified": bool(commit and _git(root, "status", "--porcelain"))}


def _who() -> str:
    named = next((os.environ[name] for name in _ACTORS if os.environ.get(name)), None)
    try:
        user = named or getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _run() -> str:
    if found := os.environ.get("CI_JOB_URL") or os.environ.get("BUILD_URL"):
        return found
    parts = [os.environ.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else ""
