"""The Pulumi engine of a run, driven through the Automation API."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi.automation import LocalWorkspace, PulumiCommand, Stack
from pulumi.automation._cmd import CommandResult
from pulumi.automation.errors import create_command_error
from semver import VersionInfo

from operations.locks import RunLock

PLUGIN = '#!/bin/sh\nexec python3 -u -m pulumi.dynamic "$@"\n'
"""The plugin for resources that are written in Python, which an official engine brings along and a built one lacks."""


class Engine(PulumiCommand):
    """The engine as a child that outlives nothing unnoticed: it inherits the run lock, and signals reach it once and in order."""

    def __init__(self, path: Path, version: Sequence[int], lock: RunLock) -> None:
        # Not the base's constructor, which asks the engine for its version: that takes a third of a second.
        self.command = str(path)
        self.version = VersionInfo(*version[:3])
        self._lock = lock

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,
        on_error: Callable[[str], Any] | None = None,
    ) -> CommandResult:
        """Run one command of the engine to its end.

        Raises:
            pulumi.automation.errors.CommandError: it failed.
            KeyboardInterrupt: the person interrupted it; it has ended in an orderly way.
        """
        environment = {**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"}
        command = [self.command, "--non-interactive", *args]
        # In a process group of its own: a terminal's Ctrl-C goes to this process, which passes it on. The engine takes a second one
        # as an order to give up at once.
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=(self._lock.descriptor,),
        )
        self._lock.note(process.pid)
        interrupted: BaseException | None = None
        while True:
            try:
                output, errors = process.communicate()
                break
            except (KeyboardInterrupt, SystemExit) as error:
                interrupted = error
                process.send_signal(signal.SIGINT)
        self._lock.note(None)
        if interrupted:
            raise interrupted
        for text, callback in ((output, on_output), (errors, on_error)):
            for line in text.splitlines() if callback else ():
                callback(line) if callback else None
        result = CommandResult(output.rstrip(), errors.rstrip(), process.returncode)
        if process.returncode:
            raise create_command_error(result)
        return result


class QuickWorkspace(LocalWorkspace):
    """A workspace that spares the engine calls whose answers are known: each costs a good half second."""

    def select_stack(self, stack_name: str) -> None:
        """Do nothing: every command names its stack."""


class QuickStack(Stack):
    """A stack that does not ask for its outputs and history after each update, which nothing here uses."""

    def outputs(self) -> Any:
        """Return nothing; `operations.state` reads them where they are needed."""
        return {}

    def unprotect(self, urn: str) -> None:
        """Let the engine forget or delete a resource; an update by a program that protects it protects it again.

        Raises:
            pulumi.automation.errors.CommandError: there is no such resource.
        """
        self._run_pulumi_cmd_sync(["state", "unprotect", urn, "--yes"])

    def info(self, show_secrets: bool = True) -> Any:
        """Return an empty summary."""
        del show_secrets
        return {}


def write_plugin(folder: Path) -> None:
    """Put the plugin for Python resources into ``folder``, which then goes on the PATH."""
    path = folder / "pulumi-resource-pulumi-python"
    if path.is_file() and path.read_text() == PLUGIN:
        return
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(PLUGIN)
    draft.chmod(0o755)
    draft.replace(path)
