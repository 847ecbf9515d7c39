"""The Docker daemon: used where it answers, started where it doesn't, installed where a person agrees."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

from toolchain.errors import ToolchainError
from toolchain.packages import install_packages
from toolchain.processes import exclusive, run

LOG = Path(".aikit/logs/dockerd.log")
START_SECONDS = 60.0
POLL_SECONDS = 0.5
SYSTEMD = Path("/run/systemd/system")
"""It exists exactly where systemd is the first process (sd_booted(3))."""


def ensure_docker(report: Callable[[str], None], confirm: Callable[[str], bool], log: Path = LOG) -> None:
    """Return when the Docker daemon answers; start or install it where it doesn't.

    `confirm` is asked before anything is installed. `log` takes what a daemon started here prints.

    Raises:
        ToolchainError: there is no daemon to be had; the message says what to do.
    """
    problem = _problem()
    if problem is None:
        return
    if os.environ.get("DOCKER_HOST"):
        raise ToolchainError(
            f"The Docker daemon at DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer: start it, or unset DOCKER_HOST."
        )
    if isinstance(_root_cause(problem), PermissionError):
        raise ToolchainError(
            "This user may not use the Docker daemon: add it to the group docker (usermod -aG docker NAME) and log in again."
        )
    if not shutil.which("dockerd"):
        _install(report, confirm)
    # Installing may have started it; that takes a moment.
    if _problem() is not None:
        _start(report, log)


def _problem() -> Exception | None:
    """Say why the daemon doesn't answer; nothing where it does."""
    try:
        client = docker.from_env(timeout=10)
        try:
            client.ping()
        finally:
            client.close()
    except (DockerException, requests.RequestException) as error:
        return error
    return None


def _root_cause(error: BaseException) -> BaseException:
    seen = {id(error)}
    while True:
        inner = next(
            (each for each in (error.__cause__, error.__context__, *error.args) if isinstance(each, BaseException)),
            None,
        )
        if inner is None or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner


def _install(report: Callable[[str], None], confirm: Callable[[str], bool]) -> None:
    if not shutil.which("apt-get"):
        raise ToolchainError("Docker is not installed: install it with your package manager, then try again.")
    if os.geteuid() != 0:
        raise ToolchainError("Docker is not installed: run as root 'apt-get update && apt-get install -y docker.io'.")
    if not confirm("Docker is not installed. Install Debian's package docker.io now?"):
        raise ToolchainError(
            "Docker is not installed: agree to its installation, or install it yourself, then try again."
        )
    report("installing docker.io")
    # What it recommends mounts the control groups where systemd does not.
    install_packages(("docker.io",), purpose="install Docker (install it yourself, then try again)", recommended=True)


def _start(report: Callable[[str], None], log: Path) -> None:
    if os.geteuid() != 0:
        raise ToolchainError("The Docker daemon is not running: start it as root (systemctl start docker).")
    if SYSTEMD.is_dir():
        report("starting the Docker daemon with systemctl")
        run(["systemctl", "start", "docker"], purpose="start the Docker daemon (see: journalctl -u docker)")
        _wait(None, "see: journalctl -u docker")
        return
    report(f"starting the Docker daemon, its log is {log}")
    with exclusive(log.with_suffix(".lock")):
        # Another process may have started it while this one waited; two daemons destroy each other's networks.
        if _problem() is None:
            return
        with log.open("ab") as stream:
            daemon = subprocess.Popen(
                ["dockerd"],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                # It outlives this program and its terminal.
                start_new_session=True,
                cwd="/",
            )
        _wait(daemon, f"see {log}")


def _wait(daemon: "subprocess.Popen[bytes] | None", cure: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if _problem() is None:
            return
        if daemon is not None and daemon.poll() is not None:
            raise ToolchainError(f"The Docker daemon ended at once with code {daemon.returncode}: {cure}.")
        time.sleep(POLL_SECONDS)
    raise ToolchainError(f"The Docker daemon does not answer after {START_SECONDS:.0f} s: {cure}.")
