"""One run at a time on a stack, and an end to what a killed run left running."""

import contextlib
import fcntl
import json
import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from operations.console import say
from operations.errors import Failure

PATIENCE_SECONDS = 15
"""How long the engine of a killed run may take to end by itself before it is killed, too."""


class RunLock:
    """The right to change a stack; held by this process and by the engine that it starts, freed by the kernel when both have ended."""

    def __init__(self, path: Path, command: str) -> None:
        self._path = path
        self._command = command
        self.descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            Failure: another living process holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._try():
            holder = self._holder()
            if alive(holder.get("process")):
                os.close(self.descriptor)
                raise Failure(
                    f"Stack {self._path.stem} is being changed by another ./aikit {holder.get('command')} "
                    f"(process {holder['process']['pid']}, since {holder.get('since')}): "
                    "wait until it has ended, or stop it with Ctrl-C there."
                )
            self._end_engine(holder, overdue=time.monotonic() > deadline)
        self.note(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    def note(self, engine: int | None) -> None:
        """Write down who holds the lock; ``engine`` is the process that inherits it."""
        holder = {
            "command": self._command,
            "since": datetime.now().astimezone().strftime("%H:%M:%S"),
            "process": identity(os.getpid()),
            "engine": identity(engine) if engine else None,
        }
        content = json.dumps(holder).encode()
        os.pwrite(self.descriptor, content, 0)
        os.ftruncate(self.descriptor, len(content))

    def _try(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except ValueError:
            return {}  # It is being written.
        return found if isinstance(found, dict) else {}

    def _end_engine(self, holder: dict[str, Any], *, overdue: bool) -> None:
        engine: dict[str, float] | None = holder.get("engine")
        if engine and alive(engine):
            # It lost the program that it ran and its providers, so it can only end: asked to, it writes the state first.
            say("waiting for the engine of an interrupted run to end")
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(engine["pid"]))
                process.kill() if overdue else process.terminate()
            deadline = time.monotonic() + PATIENCE_SECONDS
            # Not psutil's wait: where nobody reaps orphans, an ended process stays as a zombie, and it would wait for nothing.
            while alive(engine) and time.monotonic() < deadline:
                time.sleep(0.05)
            if alive(engine):
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(int(engine["pid"])).kill()
        elif overdue:
            os.close(self.descriptor)
            raise Failure(
                f"{self._path} is locked by a process that can't be told: end it, found with `fuser {self._path}`."
            )
        time.sleep(0.1)


def identity(pid: int) -> dict[str, float] | None:
    """Return what tells a process from a later one of the same number; None if there is none."""
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return None


def alive(process_identity: dict[str, float] | None) -> bool:
    """Whether the process still runs; numbers are given anew, so its start has to fit, too."""
    if not process_identity:
        return False
    try:
        process = psutil.Process(int(process_identity["pid"]))
        return abs(process.create_time() - process_identity["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check_engine_locks(folder: Path | None, *, clear: bool) -> None:
    """Check that no other engine works on the stack.

    Args:
        folder: where the engine keeps its locks; None with another backend than local files.
        clear: remove locks whose process is gone, which the holder of the run lock may.

    Raises:
        Failure: a plain ``pulumi`` works on the stack, here or on another machine.
    """
    for path in sorted(folder.glob("*.json")) if folder else []:
        try:
            lock = json.loads(path.read_text())
            pid, host = int(lock["pid"]), str(lock["hostname"])
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            pid, host = 0, os.uname().nodename  # Torn: whoever wrote it was killed while writing.
        if host != os.uname().nodename:
            raise Failure(
                f"The state is locked by process {pid} on {host}: wait until it has ended, or remove {path} if that machine is gone."
            )
        if _is_engine(pid):
            raise Failure(f"The state is locked by a pulumi that runs as process {pid}: wait until it has ended.")
        if clear:
            path.unlink(missing_ok=True)


def _is_engine(pid: int) -> bool:
    try:
        process = psutil.Process(pid) if pid > 0 else None
        return process is not None and "pulumi" in process.name() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
