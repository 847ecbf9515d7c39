"""When the Docker daemon is left alone, started or installed, and what is said when that is impossible."""

import subprocess
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from toolchain import docker_engine as module
from toolchain import packages
from toolchain.docker_engine import ensure_docker
from toolchain.errors import ToolchainError


class Machine:
    """A machine of which each test says what it has; nothing is really run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.answers = False
        self.programs: set[str] = set()
        self.ran: list[list[str]] = []
        self.asked = 0
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setattr(module, "_problem", lambda: None if self.answers else DockerException("no"))
        monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}" if name in self.programs else None)
        monkeypatch.setattr(module.os, "geteuid", lambda: 0)
        monkeypatch.setattr(module, "SYSTEMD", tmp_path / "no-systemd")
        monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(packages, "run", self.run)
        monkeypatch.setattr(module, "START_SECONDS", 1.0)
        self.log = tmp_path / "logs/dockerd.log"

    def run(self, command: list[str], **_: object) -> str:
        """Stand in for the real one: note the command and let it have its effect."""
        self.ran.append(command)
        if command[-1] == "docker.io":
            self.programs.add("dockerd")
            self.answers = True
        if command[0] == "systemctl":
            self.answers = True
        return ""

    def agree(self, question: str) -> bool:
        """Answer yes and count the question."""
        assert "docker.io" in question
        self.asked += 1
        return True

    def ensure(self) -> None:
        """Call what is tested."""
        ensure_docker(lambda _: None, self.agree, self.log)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_running_daemon_is_left_alone(machine: Machine) -> None:
    machine.answers = True
    machine.ensure()
    assert not machine.ran
    assert not machine.asked


def test_installs_after_asking(machine: Machine) -> None:
    machine.programs = {"apt-get"}
    machine.ensure()
    assert machine.asked == 1
    assert machine.ran[-1][-1] == "docker.io"


def test_no_means_no(machine: Machine) -> None:
    machine.programs = {"apt-get"}
    with pytest.raises(ToolchainError, match="agree"):
        ensure_docker(lambda _: None, lambda _: False, machine.log)
    assert not machine.ran


def test_without_root_it_says_the_command(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    machine.programs = {"apt-get"}
    with pytest.raises(ToolchainError, match=r"apt-get install -y docker\.io"):
        machine.ensure()
    machine.programs = {"dockerd"}
    with pytest.raises(ToolchainError, match="systemctl start docker"):
        machine.ensure()


def test_other_systems(machine: Machine) -> None:
    with pytest.raises(ToolchainError, match="package manager"):
        machine.ensure()


def test_remote_daemon_is_not_replaced_by_a_local_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2376")
    machine.programs = {"dockerd", "apt-get"}
    with pytest.raises(ToolchainError, match="DOCKER_HOST"):
        machine.ensure()
    assert not machine.ran


def test_starts_with_systemd(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SYSTEMD", tmp_path)
    machine.programs = {"dockerd"}
    machine.ensure()
    assert machine.ran == [["systemctl", "start", "docker"]]


def test_starts_a_daemon_of_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, object]] = []

    class Daemon:
        returncode = None

        def __init__(self, command: list[str], **options: object) -> None:
            started.append({"command": command, **options})
            machine.answers = True

        def poll(self) -> None:
            return None

    monkeypatch.setattr(subprocess, "Popen", Daemon)
    machine.programs = {"dockerd"}
    machine.ensure()
    assert started[0]["command"] == ["dockerd"]
    assert started[0]["start_new_session"] is True
    assert machine.log.exists()


def test_daemon_that_ends_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen(["false"], **options))
    machine.programs = {"dockerd"}
    with pytest.raises(ToolchainError, match=r"code 1: see .*dockerd\.log"):
        machine.ensure()


def test_missing_permission_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise DockerException("Error while fetching server API version") from PermissionError(13, "Permission denied")

    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker, "from_env", refuse)
    with pytest.raises(ToolchainError, match="usermod"):
        ensure_docker(lambda _: None, lambda _: False)
