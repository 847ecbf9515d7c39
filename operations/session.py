"""Prepares a run of the engine: what it needs is chosen, made and told here, in one place."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from operations import origins, state
from operations.console import reporter, say
from operations.errors import Exit, Failure, tools
from operations.locks import RunLock
from operations.passphrase import passphrase
from operations.progress import HEARTBEAT_SECONDS, Progress
from operations.project import Project
from operations.providers import ProviderServers
from settings import PROJECT, Accelerator, OllamaModel, Settings, SettingsError

if TYPE_CHECKING:
    from components.platform import Machine
    from operations.engine import QuickStack

RELEASES = ("trixie", "bookworm")
"""Debian releases that built images start from."""

PROGRAM_END_SECONDS = 5.0
"""How long the program may go on after the engine has ended: it only has to notice that."""

SMALL_ANSWER_TOKENS = 1024
"""Longest answer of the small model, which sometimes finds no end."""

SMALL_TEMPERATURE = 0.2
"""What the authors of the small model ask it with (its model card); with Ollama's own 0.8 it often talks nonsense."""


@dataclass
class Session:
    """A stack, and everything to run the engine on it."""

    project: Project
    name: str
    settings: Settings
    machine: "Machine"
    stack: "QuickStack"
    log: Path
    left_out: tuple[str, ...]
    """What was said of services that are not deployed."""

    def state(self) -> state.State:
        """Read the stack's state as it is now."""
        path = self.project.state(self.name)
        if path is not None:
            return state.read(path) or state.State()
        return state.from_deployment(self.stack.export_stack().deployment)

    def run(self, progress: Progress, operation: Callable[..., Any], **options: Any) -> Any:
        """Run an operation of the stack, such as ``stack.up``, and show its progress.

        Raises:
            Failure: one message for each resource that failed.
        """
        from pulumi.automation.errors import CommandError

        loops: list[asyncio.AbstractEventLoop] = []

        async def program() -> None:
            loops.append(asyncio.get_running_loop())
            _forget_outputs()
            self.project.deploy(self.settings, self.machine, self.name)
            await _outputs()

        self.stack.workspace.program = program
        try:
            with progress, _silent_python(), _without_debug_messages():
                try:
                    return operation(on_event=progress, **options)
                finally:
                    _wait_for_end(loops)
        except CommandError as error:
            self._write_log(progress, str(error))
            raise Failure(*self._reasons(progress, str(error))) from error

    def _write_log(self, progress: Progress, text: str) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("\n".join([*progress.transcript, "", text, ""]), encoding="utf-8")

    def _reasons(self, progress: Progress, text: str) -> list[str]:
        of_resources = {
            urn: reasons
            for urn, reasons in progress.failures.items()
            if urn and not urn.endswith(f"::{PROJECT}-{self.name}")
        }
        reasons = [
            f"{progress.name(urn)}: {' '.join(messages) or 'failed without a reason'}"
            for urn, messages in of_resources.items()
        ]
        if not reasons:
            # The program itself failed, or the engine before it began.
            reasons = [message for messages in progress.failures.values() for message in messages]
        if not reasons:
            reasons = _engine_errors(text)
        return [*reasons, f"The whole transcript is in {self.log}."]


def _wait_for_end(loops: Sequence[asyncio.AbstractEventLoop]) -> None:
    """Wait until a program whose engine has ended has cancelled all it was waiting for.

    The Automation API does not. What is left then is finished by the garbage collector at any later moment, also in the middle of the
    next run of this process, which takes its failure for an own one.
    """
    deadline = time.monotonic() + PROGRAM_END_SECONDS
    while not all(loop.is_closed() for loop in loops) and time.monotonic() < deadline:
        time.sleep(0.005)


def _forget_outputs() -> None:
    """Forget what an earlier run of this process left unfinished when it failed: it would be waited for, and never come."""
    from pulumi.runtime.settings import SETTINGS

    tracked: Any = SETTINGS
    known = asyncio.get_running_loop()
    with tracked.lock:
        tracked.outputs.difference_update([task for task in tracked.outputs if task.get_loop() is not known])


async def _outputs() -> None:
    """Wait for every output of the program at once.

    The SDK would wait for the first of them again and again, which is quadratic: seconds for a hundred resources. It still sees what
    failed, as failed outputs stay in its list.
    """
    from pulumi.runtime.settings import SETTINGS

    tracked: Any = SETTINGS
    while True:
        with tracked.lock:
            tasks = list(tracked.outputs)
        pending = [task for task in tasks if not task.done()]
        if not pending or any(task.done() and (task.cancelled() or task.exception()) for task in tasks):
            return
        await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)


def _engine_errors(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        head, mark, message = line.strip().partition("error: ")
        if mark and head in {"", "stderr: "} and message not in found:
            found.append(message)
    return found or ["The engine failed without a reason."]


@contextlib.contextmanager
def _silent_python() -> Generator[None]:
    """Keep what asyncio and gRPC say of an interrupted program off the screen; it is in the log where it matters."""
    import logging
    import sys

    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        sys.unraisablehook = hook


@contextlib.contextmanager
def _without_debug_messages() -> Generator[None]:
    """Keep the SDK from telling the engine what nobody reads: a call that it waits for, twenty times a resource."""
    from pulumi import log

    debug = log.debug
    log.debug = lambda *_, **__: None
    try:
        yield
    finally:
        log.debug = debug


def choose(project: Project, name: str, settings: Settings) -> origins.Origins:
    """Choose where the engine, the plugins, the images and the models of a run come from, and say so.

    Args:
        project: the project's folder and program.
        name: the stack.
        settings: of the stack.

    Raises:
        Failure: a forced choice is not possible here, or the state can't be read.
    """
    path = project.state(name)
    began = path is None or state.read(path) is not None
    chosen = origins.choose(settings, project.local / f"{name}.origins.json", began=began)
    for line in chosen.lines():
        say(line)
    if chosen.models and chosen.models.origin == "package":
        for model in settings.models:
            if model.from_library:
                say(f"model {model.name}: not deployed ({chosen.models.reason})")
    return chosen


@contextmanager
def open_session(
    project: Project,
    name: str,
    settings: Settings,
    lock: RunLock,
    *,
    command: str,
    chosen: origins.Origins | None = None,
) -> Generator[Session]:
    """Make everything ready for the engine; servers and scratch files end with the context.

    Args:
        project: the project's folder and program.
        name: the stack.
        settings: of the stack.
        lock: held by the caller.
        command: for the name of the log file.
        chosen: where everything comes from; chosen here by default.

    Raises:
        Failure: something that the run needs can't be had.
    """
    before = state.read(project.state(name))
    secret = passphrase(project.local / "passphrase", state_exists=bool(before and before.salt))
    chosen = chosen or choose(project, name, settings)
    with ExitStack() as closing:
        pending = before.unfinished() if before else ()
        servers = closing.enter_context(ProviderServers(pending)) if chosen.plugins.origin == "built" else None
        # The engine's SDK is imported here: commands that do not need it start a second earlier, and the servers do so beside it.
        from operations.engine import Engine, QuickStack, QuickWorkspace, write_plugin

        environment = {
            "PULUMI_BACKEND_URL": _engines_backend(project.backend),
            "PULUMI_CONFIG_PASSPHRASE": secret,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "false" if chosen.plugins.origin == "official" else "true",
            "PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK": "true",
            # It writes the whole state twice for each resource; collecting the garbage of that seldom spares an eighth of its work.
            "GOGC": os.environ.get("GOGC", "400"),
        }
        _local_backend(project.backend)
        left_out = _left_out(project, settings, chosen)
        for line in left_out:
            say(line)
        machine, engine_and_version = _make(project, chosen)
        if settings.accelerator is Accelerator.AUTO:
            machine = replace(machine, accelerator=tell_accelerator(_docker_info()))
        if servers:
            environment["PULUMI_DEBUG_PROVIDERS"] = servers.environment()
        if chosen.engine.origin == "built":
            tools = project.local / "bin"
            write_plugin(tools)
            environment |= {
                "PULUMI_HOME": str(project.local / "home"),
                "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            }
        engine = Engine(*engine_and_version, lock)
        work = project.local / "work" / name
        _write_work(work, project.root / f"Pulumi.{name}.yaml", name, before.salt if before else None)
        workspace = QuickWorkspace(
            work_dir=str(work), env_vars=environment, pulumi_command=engine, program=lambda: None
        )
        stack = _stack(QuickStack, workspace, name, exists=before is not None)
        log = project.local / "logs" / f"{name}-{command}.log"
        yield Session(project, name, settings, machine, stack, log, left_out)


def _engines_backend(url: str) -> str:
    """Return a backend's address as the engine is told of it.

    Beside each file of a local one it would keep the file's checksum, which nothing reads; for a large state, written twice for each
    resource, that is a quarter of the engine's work.
    """
    return f"{url}?metadata=skip" if url.startswith("file://") and "?" not in url else url


def _local_backend(url: str) -> None:
    """Make the folder of a backend in local files, which the engine expects to find."""
    if url.startswith("file://"):
        Path(url.removeprefix("file://")).expanduser().mkdir(parents=True, exist_ok=True, mode=0o700)


def _left_out(project: Project, settings: Settings, chosen: origins.Origins) -> tuple[str, ...]:
    """Return a line for each service that this machine does not get."""
    from components.platform import Machine

    try:
        reasons = project.left_out(settings, Machine(images=chosen.images.origin))
    except SettingsError as error:
        raise Failure(*error.problems, code=Exit.USAGE) from error
    return tuple(f"{name}: not deployed ({reason})" for name, reason in reasons.items())


def _make(project: Project, chosen: origins.Origins) -> tuple["Machine", tuple[Path, Sequence[int]]]:
    """Make what is built, at the same time where both the engine and base images are missing."""
    from components.platform import Machine

    with ThreadPoolExecutor(max_workers=2 + len(RELEASES), thread_name_prefix="make") as executor:
        bases: Mapping[str, Future[str]] = {}
        if chosen.images.origin == "built":
            bases = {release: executor.submit(_base, release) for release in RELEASES}
        engine = executor.submit(_engine, project, chosen.engine.origin)
        small = None
        if chosen.models and chosen.models.origin == "package":
            small = executor.submit(_small_model, project)
        made: dict[Future[Any], str] = {engine: "engine", **({small: "model"} if small else {})}
        wait_for_all(made | {base: f"base image {release}" for release, base in bases.items()})
        return Machine(
            images=chosen.images.origin,
            bases={release: base.result() for release, base in bases.items()},
            small_model=small and small.result(),
        ), engine.result()


def wait_for_all(made: Mapping[Future[Any], str]) -> None:
    """Wait until everything is made, and say from time to time what is not: an engine takes minutes on a small machine."""
    began = time.monotonic()
    while waiting := wait(made, timeout=HEARTBEAT_SECONDS).not_done:
        names = ", ".join(sorted(made[each] for each in waiting))
        say(f"  still making {names} ({time.monotonic() - began:.0f} s)")


def tell_accelerator(docker_info: Mapping[str, Any]) -> Accelerator:
    """Return what the setting ``auto`` means with what Docker says of itself, and say so."""
    from operations.accelerator import find

    found, reason = find(docker_info)
    say(f"accelerator: {found} ({reason})")
    return found


def _docker_info() -> Mapping[str, Any]:
    from operations.containers import connect

    client = connect()
    try:
        return client.info()
    finally:
        client.close()


def _base(release: str) -> str:
    from operations.containers import connect
    from toolchain.base import base_image

    client = connect()
    try:
        with tools():
            return base_image(client, release, reporter(f"base image {release}"))  # pyright: ignore[reportArgumentType]  # one of RELEASES
    finally:
        client.close()


def _small_model(project: Project) -> OllamaModel:
    """Have the model that is there where Ollama's library is out of reach."""
    from toolchain.small_model import NAME, SHA256, small_model

    with tools():
        path = small_model(project.cache, reporter(f"model {NAME}"))
    chosen = {
        "name": NAME,
        "file": str(path),
        "sha256": SHA256,
        "answer_tokens": SMALL_ANSWER_TOKENS,
        "temperature": SMALL_TEMPERATURE,
    }
    return OllamaModel.model_validate(chosen)


def _engine(project: Project, origin: origins.Origin) -> tuple[Path, Sequence[int]]:
    """Have the engine, and know its version."""
    if origin == "built":
        from toolchain.engine import VERSION, engine

        with tools():
            path = engine(project.cache, reporter("engine")) / "pulumi"
        return path, [int(part) for part in VERSION.split(".")]
    found = origins.installed_engine()
    if found and found[1] >= origins.OLDEST_ENGINE:
        return found
    from pulumi.automation import PulumiCommand

    say("downloading the Pulumi engine")
    try:
        path = Path(PulumiCommand.install(root=str(project.cache / "pulumi")).command)
        return path, origins.version(path)
    except Exception as error:
        # Whatever the download's shell script came to.
        raise Failure(
            f"The Pulumi engine could not be downloaded from {origins.RELEASES}: {error}. "
            "Install the Pulumi CLI, or set aikit:toolchain-engine to built."
        ) from error


def _stack(kind: type["QuickStack"], workspace: Any, name: str, *, exists: bool) -> "QuickStack":
    from pulumi.automation._stack import StackInitMode
    from pulumi.automation.errors import CommandError, StackAlreadyExistsError

    try:
        if not exists:
            with contextlib.suppress(StackAlreadyExistsError):
                return kind(name, workspace, StackInitMode.CREATE)
        return kind(name, workspace, StackInitMode.SELECT)
    except CommandError as error:
        raise Failure(*_engine_errors(str(error))) from error


def _write_work(folder: Path, stack_file: Path, name: str, salt: str | None) -> None:
    """Write the folder that the engine works in: the stack's settings, and the salt, which must not get into the project's files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": PROJECT, "runtime": "python"}))
    target = folder / f"Pulumi.{name}.yaml"
    content: dict[str, Any] = yaml.safe_load(stack_file.read_text(encoding="utf-8")) or {}
    if salt is None and target.exists():
        # The engine has made one, but no state with it yet.
        salt = (yaml.safe_load(target.read_text(encoding="utf-8")) or {}).get("encryptionsalt")
    if salt:
        content["encryptionsalt"] = salt
    draft = folder / f".{secrets.token_hex(4)}"
    draft.write_text(yaml.safe_dump(content))
    draft.replace(target)
