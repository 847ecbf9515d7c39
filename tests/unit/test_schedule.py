"""The timer that rotates due secrets, judged by systemd's own programs; systemd itself need not run here."""

import dataclasses
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from operations import cli, schedule
from operations.project import Project

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd's programs are not installed")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project in a folder with a name that needs quoting."""
    root = tmp_path / 'a "kit", 100% mine $HOME'
    root.mkdir()
    (root / "Pulumi.dev.yaml").write_text("config: {}\n")
    return dataclasses.replace(Project(), root=root)


@needs_systemd
@pytest.mark.spec("VLT-13", "VLT-14")
def test_systemd_understands_the_units(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    for file, text in schedule.units(project, "dev", {"PATH": "/usr/bin:/bin", "AIKIT_HOME": "/a b"}).items():
        (folder / file).write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, folder.iterdir())],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    assert verified.returncode == 0, verified.stderr
    assert "aikit-rotate" not in verified.stderr, verified.stderr
    (folder / "aikit-rotate-dev.timer").write_text("[Timer]\nOnCalendar=sometimes\n")
    broken = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder / "aikit-rotate-dev.timer")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "sometimes" in broken.stderr, "what systemd would not understand is seen here"


@pytest.mark.spec("VLT-14")
def test_one_command_installs_the_timer_and_one_removes_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    units, calls = tmp_path / "system", tmp_path / "calls"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n[ -z "$FAILS" ] || {{ echo "no bus" >&2; exit 1; }}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(schedule, "_folder", lambda: units)

    monkeypatch.setattr(schedule, "RUNNING", tmp_path / "nowhere")
    assert cli.run(["rotate", "--schedule"], project) == 1
    assert "cron or a pipeline call `./aikit rotate --due --yes --stack dev`" in capsys.readouterr().err
    assert not units.exists()

    monkeypatch.setattr(schedule, "RUNNING", tmp_path)
    for _ in range(2):
        assert cli.run(["rotate", "--schedule"], project) == 0
    user = ["--user "] if os.geteuid() else [""]
    assert calls.read_text().splitlines() == [
        f"{user[0]}{each}" for each in ("daemon-reload", "enable --now aikit-rotate-dev.timer") * 2
    ]
    assert {file.name for file in units.iterdir()} == {"aikit-rotate-dev.service", "aikit-rotate-dev.timer"}
    assert "rotate --due --yes --stack dev\n" in (units / "aikit-rotate-dev.service").read_text()

    monkeypatch.setenv("FAILS", "1")
    assert cli.run(["rotate", "--schedule"], project) == 1
    assert "failed: no bus." in capsys.readouterr().err
    monkeypatch.delenv("FAILS")

    assert cli.run(["rotate", "--unschedule"], project) == 0
    assert not list(units.iterdir())
    assert cli.run(["rotate", "--unschedule"], project) == 0
    assert "there is no timer" in capsys.readouterr().err
    assert cli.run(["rotate", "--schedule", "--due"], project) == 2
    assert cli.run(["rotate", "--schedule", "--stack", "nowhere"], project) == 2
