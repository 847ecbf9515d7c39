"""Where the engine, the provider plugins, the images and the models of a run come from, and why.

A stack keeps what it began with: a registry that is out of reach for an hour must not replace every container. Only models begin to come
from Ollama's library as soon as that answers. A setting (``aikit:toolchain-engine``, ``-plugins``, ``-images``, ``-models``) overrides
all this.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from operations.errors import Exit, Failure
from settings import Settings

Origin = Literal["official", "built"]
Models = Literal["library", "package"]

OLDEST_ENGINE = (3, 206, 0)
"""The oldest installed engine that is used: older ones send no events over gRPC, which the progress is shown from."""

PROBE_SECONDS = 3
"""How long an address may take to answer before it counts as out of reach."""

IMAGE_REGISTRY = "https://registry-1.docker.io/v2/"
RELEASES = "https://get.pulumi.com/"
MODEL_LIBRARY = "https://registry.ollama.ai/v2/"

PACKAGES = ("pulumi-docker", "pulumi-keycloak", "pulumi-random", "pulumi-tls", "pulumi-vault")
"""The distributions whose provider plugins the program needs."""


_Origin = TypeVar("_Origin", Origin, Models)


@dataclass(frozen=True)
class Choice(Generic[_Origin]):
    """What was chosen, and the reason that is shown."""

    origin: _Origin
    reason: str


@dataclass(frozen=True)
class Origins:
    """The choices of one run."""

    engine: Choice[Origin]
    plugins: Choice[Origin]
    images: Choice[Origin]
    models: Choice[Models] | None
    """None where the settings name none that is fetched by its name."""

    def by_name(self) -> dict[str, Choice[Origin] | Choice[Models]]:
        """Return what was chosen, by what it is for."""
        return {what: choice for what, choice in vars(self).items() if choice}

    def lines(self) -> list[str]:
        """Return a line for each, to be shown at the start of a run."""
        return [f"{what}: {choice.origin} ({choice.reason})" for what, choice in self.by_name().items()]


def choose(settings: Settings, memory: Path, *, began: bool) -> Origins:
    """Choose for one run and remember it in ``memory``.

    Args:
        settings: whose ``toolchain`` group forces a choice, where it is not ``auto``.
        memory: file that keeps the choices of a stack.
        began: whether the stack has a state, which its remembered choices then belong to.

    Raises:
        Failure: a forced choice is not possible here.
    """
    before = _recall(memory) if began else {}
    forced = settings.toolchain
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="probe") as executor:
        probes = _Probes(executor)
        engine = _engine(forced.engine, before.get("engine"), probes)
        plugins = _plugins(forced.plugins, before.get("plugins"), engine.origin, probes)
        images = _images(forced.images, before.get("images"), probes)
        asked = any(model.from_library for model in settings.models)
        models = _models(forced.models, before.get("models"), probes) if asked else None
    memory.parent.mkdir(parents=True, exist_ok=True)
    chosen = Origins(engine, plugins, images, models)
    draft = memory.with_name(f"{memory.name}.{os.getpid()}")
    draft.write_text(json.dumps({what: choice.origin for what, choice in chosen.by_name().items()}))
    draft.replace(memory)
    return chosen


class _Probes:
    """Addresses asked at most once in a run, all at the same time."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._asked: dict[str, Future[str | None]] = {}

    def __call__(self, address: str) -> str | None:
        """Return why ``address`` is out of reach, None if it answers."""
        if address not in self._asked:
            self._asked[address] = self._executor.submit(unreachable, address)
        return self._asked[address].result()


def unreachable(address: str) -> str | None:
    """Return why nothing answers at ``address`` within `PROBE_SECONDS`; None if something does, be it a refusal to the anonymous."""
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "aikit"})  # noqa: S310  # the addresses are constants
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        # A proxy that forbids the address answers, too, but with another code than these.
        return None if error.code in {401, 405} else f"HTTP {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, socket.gaierror):
            return "its name does not resolve"
        if isinstance(reason, TimeoutError):
            return f"no answer in {PROBE_SECONDS} s"
        return "its certificate is not trusted" if isinstance(reason, ssl.SSLError) else str(reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


def installed_engine() -> tuple[Path, tuple[int, ...]] | None:
    """Return the `pulumi` on the PATH and its version; None if there is none, or it does not say."""
    found = shutil.which("pulumi")
    if found is None:
        return None
    return Path(found), version(Path(found))


def version(engine: Path) -> tuple[int, ...]:
    """Ask an engine for its version; empty if it does not say."""
    try:
        said = subprocess.run(
            [engine, "version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        ).stdout.strip()
        return tuple(int(part) for part in said.removeprefix("v").split("-")[0].split("+")[0].split("."))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ()


def _engine(forced: str, before: Origin | None, probes: Callable[[str], str | None]) -> Choice[Origin]:
    if forced == "built":
        return _forced("engine", "built")
    if forced == "auto" and before == "built":
        return Choice("built", "as in the runs before")
    found = installed_engine()
    if found and found[1] >= OLDEST_ENGINE:
        return Choice("official", f"{'.'.join(map(str, found[1]))} is installed")
    why = (
        "none is installed"
        if found is None
        else f"the installed one, {'.'.join(map(str, found[1]))}, is older than {'.'.join(map(str, OLDEST_ENGINE))}"
    )
    problem = probes(RELEASES)
    if problem is None:
        return Choice("official", f"{why}; its download answers")
    if forced == "official":
        raise Failure(
            f"aikit:toolchain-engine is official, but {why} and {RELEASES} can't be reached ({problem}): "
            "install the Pulumi CLI, or set it to auto or built.",
            code=Exit.USAGE,
        )
    return Choice("built", f"{why} and {RELEASES} can't be reached: {problem}")


def _plugins(forced: str, before: Origin | None, engine: Origin, probes: Callable[[str], str | None]) -> Choice[Origin]:
    if forced == "built":
        return _forced("plugins", "built")
    if forced == "auto" and engine == "built":
        return Choice("built", "the engine is built, too")
    if forced == "auto" and before == "built":
        return Choice("built", "as in the runs before")
    missing = missing_plugins()
    if not missing:
        return Choice("official", "they are installed")
    problem = probes(RELEASES)
    if problem is None:
        return Choice("official", f"{', '.join(missing)} will be downloaded")
    if forced == "official":
        raise Failure(
            f"aikit:toolchain-plugins is official, but {', '.join(missing)} are not installed and {RELEASES} can't be reached ({problem}): "
            "install them with `pulumi plugin install`, or set it to auto or built.",
            code=Exit.USAGE,
        )
    return Choice("built", f"{', '.join(missing)} are not installed and {RELEASES} can't be reached: {problem}")


def missing_plugins() -> list[str]:
    """Return the provider plugins, as name and version, that the engine's home lacks."""
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "plugins"
    wanted = [(package.removeprefix("pulumi-"), metadata.version(package)) for package in PACKAGES]
    return [f"{name} {number}" for name, number in wanted if not (home / f"resource-{name}-v{number}").is_dir()]


def _images(
    forced: Literal["auto"] | Origin, before: Origin | None, probes: Callable[[str], str | None]
) -> Choice[Origin]:
    if forced != "auto":
        return _forced("images", forced)
    if before:
        return Choice(before, "as in the runs before")
    problem = probes(IMAGE_REGISTRY)
    if problem is None:
        return Choice("official", "the image registry answers")
    return Choice("built", f"the image registry can't be reached: {problem}")


def _models(
    forced: Literal["auto"] | Models, before: str | None, probes: Callable[[str], str | None]
) -> Choice[Models]:
    if forced != "auto":
        return _forced("models", forced)
    if before == "library":
        return Choice("library", "as in the runs before")
    problem = probes(MODEL_LIBRARY)
    if problem is None:
        return Choice("library", "Ollama's library answers")
    return Choice("package", f"Ollama's library can't be reached: {problem}")


def _forced(what: str, origin: _Origin) -> Choice[_Origin]:
    return Choice(origin, f"aikit:toolchain-{what} says so")


def _recall(memory: Path) -> dict[str, Any]:
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    known = {*get_args(Origin), *get_args(Models)}
    return {what: origin for what, origin in found.items() if origin in known} if isinstance(found, dict) else {}
