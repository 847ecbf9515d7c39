"""Shows what the engine does, as it happens, and keeps why something failed."""

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from operations.console import notes

if TYPE_CHECKING:
    from pulumi.automation.events import EngineEvent, StepEventMetadata

HEARTBEAT_SECONDS = 15
"""How often the work under way is named where no live display can show it."""

CHANGES = {
    "create": ("creating", "created"),
    "create-replacement": ("creating anew", "created anew"),
    "update": ("updating", "updated"),
    "delete": ("deleting", "deleted"),
    "delete-replaced": ("deleting the old", "deleted the old"),
    "replace": ("replacing", "replaced"),
    "read": ("reading", "read"),
    "import": ("importing", "imported"),
    "discard": ("forgetting", "forgot"),
}
"""Steps that are shown, in the words while and after they run; checks of what stays the same are not."""

_QUIET = frozenset({"replace", "read", "discard"})
"""Steps that are only bookkeeping of the engine."""

_NOISE = (
    "an unhandled error occurred",
    "update failed",
    "preview failed",
    "destroy failed",
    "refresh failed",
    "resource monitor shut down",
)


def title(urn: str, kind: str) -> str:
    """Name a resource for people: "container postgres" for ``...::docker:index/container:Container::postgres``."""
    last = kind.rpartition(":")[2]
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in last).strip()
    return f"{words} {urn.rpartition('::')[2]}"


@dataclass
class _Work:
    doing: str
    since: float = field(default_factory=time.monotonic)
    note: str = ""


class Progress:
    """A display of one engine operation; also a context manager, which draws while it is open."""

    def __init__(self, task: str, *, planning: bool = False) -> None:
        self.changed: dict[str, str] = {}
        """What was changed, or with ``planning`` would be, as the last step of each resource by URN."""
        self.failures: dict[str, list[str]] = {}
        """Why it failed: messages by URN, those of no resource under the empty one."""
        self.warnings: list[str] = []
        self.transcript: list[str] = []
        """Everything the engine said, for the log file."""
        self._task = task
        self._planning = planning
        self._work: dict[str, _Work] = {}
        self._kinds: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live = (
            Live(get_renderable=self._draw, console=notes, transient=True, refresh_per_second=4)
            if notes.is_terminal
            else None
        )
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start() if self._live else self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End drawing; nothing of it stays on the screen."""
        self._ended.set()
        if self._live:
            self._live.stop()

    def report(self, line: str) -> None:
        """Print a line above the display."""
        notes.print(line, markup=False)

    def name(self, urn: str) -> str:
        """Name a resource for people."""
        return title(urn, self._kinds.get(urn) or urn.rpartition("::")[0].rpartition("$")[2].rpartition("::")[2])

    def __call__(self, event: "EngineEvent") -> None:
        """Take up one event of the engine; called from its own thread."""
        if event.resource_pre_event:
            self._begin(event.resource_pre_event.metadata)
        elif event.res_outputs_event:
            self._end(event.res_outputs_event.metadata)
        elif event.res_op_failed_event:
            metadata = event.res_op_failed_event.metadata
            self._kinds[metadata.urn] = metadata.type
            self._drop(metadata.urn)
            self.failures.setdefault(metadata.urn, [])
        elif event.diagnostic_event:
            diagnostic = event.diagnostic_event
            self._say(
                diagnostic.severity, diagnostic.message, diagnostic.urn or "", ephemeral=bool(diagnostic.ephemeral)
            )

    def _begin(self, metadata: "StepEventMetadata") -> None:
        step = str(getattr(metadata.op, "value", metadata.op))
        self._kinds[metadata.urn] = metadata.type
        if step not in CHANGES or metadata.type.startswith("pulumi:"):
            return
        if step != "read":
            self.changed[metadata.urn] = (
                step if self.changed.get(metadata.urn) not in {"replace", "create-replacement"} else "replace"
            )
        if step in _QUIET or self._planning or not _tangible(metadata.type):
            return
        with self._lock:
            self._work[metadata.urn] = _Work(f"{CHANGES[step][0]} {title(metadata.urn, metadata.type)}")

    def _end(self, metadata: "StepEventMetadata") -> None:
        work = self._drop(metadata.urn)
        if work:
            step = str(getattr(metadata.op, "value", metadata.op))
            done = CHANGES.get(step, ("", "finished"))[1]
            self.report(f"  {done} {title(metadata.urn, metadata.type)} ({time.monotonic() - work.since:.1f} s)")

    def _drop(self, urn: str) -> _Work | None:
        with self._lock:
            return self._work.pop(urn, None)

    def _say(self, severity: str, message: str, urn: str, *, ephemeral: bool) -> None:
        text = message.strip()
        if severity == "debug" or not text:
            return
        self.transcript.append(f"{severity} {urn} {text}")
        if ephemeral or severity.startswith("info"):
            with self._lock:
                if work := self._work.get(urn):
                    work.note = text.splitlines()[-1]
            return
        if severity == "warning" and "pending operations" not in text:
            self.warnings.append(text)
        elif severity == "error" and not text.startswith(_NOISE):
            known = self.failures.setdefault(urn, [])
            if (line := readable(text)) not in known:
                known.append(line)

    def _draw(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        now = time.monotonic()
        with self._lock:
            grid.add_row(Spinner("dots", Text(f"{self._task} ({now - self._started:.0f} s)")))
            for work in list(self._work.values())[: max(3, notes.height - 5)]:
                grid.add_row(
                    Text(f"  {work.doing} ({now - work.since:.0f} s) {work.note}", overflow="ellipsis", no_wrap=True)
                )
        return grid

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            now = time.monotonic()
            with self._lock:
                lines = [
                    f"{work.doing} ({now - work.since:.0f} s){f': {work.note}' if work.note else ''}"
                    for work in self._work.values()
                ]
            self.report(f"  still {self._task}: {'; '.join(lines) or f'{now - self._started:.0f} s'}")


def _tangible(kind: str) -> bool:
    """Whether a resource is a thing outside; components and providers only group them."""
    return not kind.startswith(("pulumi:", "aikit:"))


def readable(text: str) -> str:
    """Return a failure without what only a programmer can use: tracebacks and the names of the transport."""
    head, traceback, rest = text.partition("Traceback (most recent call last)")
    message = head.strip()
    for noise in (
        "python inline source runtime error:",
        "Program failed with an unhandled exception:",
        "rpc error: code = Unknown desc =",
    ):
        message = message.replace(noise, "").strip()
    if traceback and not message:
        message = rest.strip().splitlines()[-1].strip()
    return message
