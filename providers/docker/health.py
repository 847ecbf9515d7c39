"""Health checks beside Docker's own schedule: it waits a whole interval before the first and between them, which adds up in a chain."""

# The SDK for Python is typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import time
from collections.abc import Mapping
from typing import Any

import docker.errors
from docker import DockerClient

from providers.resource import pause

_POLL_SECONDS = 0.05
_TIMEOUT_SECONDS = 30.0
"""Docker's own for a check that says none."""


def passes(client: DockerClient, found: Mapping[str, Any]) -> bool:
    """Run a container's own health check once, and tell whether it passes; one that can't be run or takes too long does not.

    Args:
        client: of the daemon.
        found: what the daemon says about the container.
    """
    check: Mapping[str, Any] = found["Config"].get("Healthcheck") or {}
    test: list[str] = check.get("Test") or ["NONE"]
    if test[0] not in {"CMD", "CMD-SHELL"}:
        return False
    command = ["/bin/sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
    end = time.monotonic() + ((check.get("Timeout") or 0) / 1e9 or _TIMEOUT_SECONDS)
    try:
        run = client.api.exec_create(found["Id"], command, stdout=False, stderr=False)["Id"]
        client.api.exec_start(run, detach=True)
        while time.monotonic() < end:
            state = client.api.exec_inspect(run)
            if not state["Running"] and state["ExitCode"] is not None:
                return state["ExitCode"] == 0
            pause(_POLL_SECONDS)
    except docker.errors.DockerException:
        return False
    return False


class Schedule:
    """When to run the check of a container that is starting: soon at first, then less often, and never less often than Docker does."""

    _FIRST_SECONDS = 0.25
    _GROWTH = 1.6
    _LONGEST_SECONDS = 2.0
    """A check takes up to a tenth of a second of processor time, and what waits for the container may be most of a deployment."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        interval = (found["Config"]["Healthcheck"].get("Interval") or 0) / 1e9 or _TIMEOUT_SECONDS
        self._longest = min(interval, self._LONGEST_SECONDS)
        self._seconds = self._FIRST_SECONDS
        self._next = time.monotonic() + self._seconds

    def due(self) -> bool:
        """Whether to run it now; the next time is then later."""
        if time.monotonic() < self._next:
            return False
        self._seconds = min(self._seconds * self._GROWTH, self._longest)
        self._next = time.monotonic() + self._seconds
        return True
