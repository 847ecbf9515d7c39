"""Running programs and keeping two runs of the same work apart."""

import fcntl
import os
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from toolchain.errors import ToolchainError

LAST_LINES = 15


@contextmanager
def exclusive(path: Path) -> Generator[None, None, None]:
    """Hold the lock file at `path`, waiting for another process (or thread) that has it; the kernel frees it at a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def run(
    command: Sequence[str],
    *,
    purpose: str,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run `command` to its end and return what it printed.

    `purpose` completes the sentence "Can't ...". `environment` is added to this process's own.

    Raises:
        ToolchainError: it can't be started or failed; the message carries its last lines.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ToolchainError(f"Can't {purpose}: {command[0]} does not start ({error.strerror}).") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise ToolchainError(f"Can't {purpose}: {command[0]} failed with code {done.returncode}, it said:\n{tail}")
    return done.stdout
