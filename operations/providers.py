"""The Python provider servers as a process: in this one they would share the interpreter's lock with the program that they serve."""

import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from operations.errors import Failure
from settings import ROOT

END_SECONDS = 10
"""How long the process may take to end."""


class ProviderServers:
    """The servers, starting; they end with this process, too.

    Args:
        pending: URNs of the resources that a run was making when it was killed.
    """

    def __init__(self, pending: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "providers", *pending],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # The engine ends in order after a Ctrl-C, and needs them for that.
            start_new_session=True,
        )

    def environment(self) -> str:
        """Wait until they serve, and return the value of ``PULUMI_DEBUG_PROVIDERS`` that makes the engine use them.

        Raises:
            Failure: they ended.
        """
        said = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not said:
            raise Failure(f"The provider servers ended with code {self._process.wait()}; what they said is above.")
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
