"""Deploys the kept program of an earlier deployment again, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from operations.console import say
from operations.errors import Exit, Failure
from operations.history import Entry, History
from operations.project import Project


def deploy_again(project: Project, entry: Entry) -> Exit:
    """Deploy the program and the settings of an earlier deployment against the present state, and wait for its end.

    The whole program of then does it, with the packages of then: what it deploys may not fit to the operations of today.

    Args:
        project: whose state and whose files are used. Files that settings name by relative paths, such as certificates, are not part of
            the program: they are those of today.
        entry: the deployment; its program is kept.

    Returns:
        The exit code of that run, which has said everything itself.

    Raises:
        Failure: the program can't be started.
        KeyboardInterrupt: the person interrupted it; it has ended in an orderly way.
    """
    program = History(project, entry.stack).program(entry)
    _share_packages(program)
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {
        **os.environ,
        "AIKIT_HOME": str(project.local),
        "AIKIT_FILES": str(project.root),
        # The launcher put this program's folder there.
        "PYTHONPATH": os.pathsep.join(path for path in inherited if path and Path(path) != project.root),
    }
    command = [str(program / "aikit"), "up", "--stack", entry.stack, "--yes", "--returns-to", str(entry.number)]
    try:
        # In a session of its own: a terminal's Ctrl-C goes to this process, which passes it on once. What it prints is about the run,
        # so it goes to standard error.
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
    except OSError as error:
        raise Failure(f"The program of deployment {entry.number} in {program} can't be started: {error}.") from error
    interrupted: BaseException | None = None
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt as error:
            interrupted = error
            process.send_signal(signal.SIGINT)
    if interrupted:
        raise interrupted
    return Exit(code) if code in set(Exit) else Exit.FAILED


def announce(entry: Entry) -> None:
    """Say which program comes back, and that the project's files stay as they are."""
    say(
        f"returning stack {entry.stack} to deployment {entry.number} ({entry.revision}); this folder's files stay as they are"
    )


def _share_packages(program: Path) -> None:
    """Let a kept program use this one's Python environment where both ask for the same packages; else its launcher makes one."""
    present = Path(sys.prefix)
    wanted, installed = program / "requirements.lock", present / "aikit" / "requirements.lock"
    link = program / ".venv"
    if link.is_symlink():
        link.unlink()
    if not link.exists() and wanted.is_file() and installed.is_file() and wanted.read_bytes() == installed.read_bytes():
        link.symlink_to(present)
