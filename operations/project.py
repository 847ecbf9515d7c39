"""The project that is operated on, and where a run keeps its files."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from operations.errors import Exit, Failure
from settings import PROJECT, ROOT, Settings, SettingsError, load

if TYPE_CHECKING:
    from components.platform import Machine

Deploy = Callable[[Settings, "Machine", str], None]
"""Declares the resources of a stack in the running Pulumi program."""

LeftOut = Callable[[Settings, "Machine"], Mapping[str, str]]
"""Returns why services are not deployed on a machine, by name."""


def platform(settings: Settings, machine: "Machine", stack: str) -> None:
    """Declare the platform; its modules are imported only by the commands that run it."""
    from components.platform import deploy

    deploy(settings, machine, stack)


def left_out(settings: Settings, machine: "Machine") -> Mapping[str, str]:
    """Return which of the platform's services a machine does not get."""
    from components.registry import left_out as reasons

    return reasons(settings, machine)


@dataclass(frozen=True)
class Project:
    """A folder with settings, and the program that is deployed from them."""

    root: Path = ROOT
    deploy: Deploy = platform
    left_out: LeftOut = left_out
    cache: Path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aikit"
    """What several checkouts share: the built engine."""

    @property
    def local(self) -> Path:
        """Where runs keep everything: state, passphrase, history, logs.

        Beside the project and not in git, unless ``AIKIT_HOME`` names another folder, as for a pipeline, whose checkout is cleaned.
        """
        return Path(os.environ.get("AIKIT_HOME") or self.root / ".aikit").absolute()

    @property
    def backend(self) -> str:
        """The engine's backend: local files, unless ``PULUMI_BACKEND_URL`` names another."""
        return os.environ.get("PULUMI_BACKEND_URL") or f"file://{self.local / 'state'}"

    def state(self, stack: str) -> Path | None:
        """Return the stack's state file; None with a backend that is not local files."""
        if not self.backend.startswith("file://"):
            return None
        folder = Path(self.backend.removeprefix("file://")).expanduser()
        return folder / ".pulumi" / "stacks" / PROJECT / f"{stack}.json"

    def engine_locks(self, stack: str) -> Path | None:
        """Return the folder in which the engine keeps its own locks of a stack."""
        state = self.state(stack)
        return state and state.parents[2] / "locks" / "organization" / PROJECT / stack

    def settings(self, stack: str) -> Settings:
        """Read the stack's settings.

        Raises:
            Failure: each problem a message; exit code 2.
        """
        try:
            return load(stack, self.root)
        except SettingsError as error:
            raise Failure(*error.problems, code=Exit.USAGE) from error
