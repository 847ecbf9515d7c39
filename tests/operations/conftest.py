"""Stacks of the real engine on the real Docker, in folders of their own."""

import gc
import io
import json
import re
import secrets
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from operations import cli
from tests.operations import tiny

ROOT = Path(__file__).parents[2]

LIBRARY = re.compile(r"(/\S+)")


@pytest.fixture(autouse=True)
def leftovers() -> Generator[None]:
    """Finish what failed runs left in memory now: CPython 3.11 stumbles over it in the middle of compiling something else."""
    yield
    gc.collect()


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Tiny:
    """A tiny stack of a name of its own."""

    root: Path
    name: str
    docker: docker.DockerClient
    _capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Outcome:
        """Run a command of ``./aikit`` on the stack, in this process."""
        self._capture.readouterr()
        code = cli.run([arguments[0], "--stack", self.name, *arguments[1:]], tiny.project(self.root))
        said = self._capture.readouterr()
        return Outcome(code, said.out, said.err)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a command in a process of its own."""
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.operations.tiny",
                str(self.root),
                arguments[0],
                "--stack",
                self.name,
                *arguments[1:],
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def set(self, **settings: Any) -> None:
        """Write the stack's settings; ports that are free, and nothing built but engine and plugins, unless given otherwise."""
        chosen = {
            "http-port": free_port(),
            "https-port": free_port(),
            "admin-port": free_port(),
            "vault-port": free_port(),
            "toolchain-engine": "built",
            "toolchain-plugins": "built",
            "toolchain-images": "official",
        } | {name.replace("_", "-"): value for name, value in settings.items()}
        self.file.write_text(yaml.safe_dump({"config": {f"aikit:{name}": value for name, value in chosen.items()}}))

    @property
    def file(self) -> Path:
        """The file of its settings."""
        return self.root / f"Pulumi.{self.name}.yaml"

    @property
    def state_file(self) -> Path:
        """The file of its state."""
        return self.root / ".aikit" / "state" / ".pulumi" / "stacks" / "aikit" / f"{self.name}.json"

    def resources(self) -> dict[str, dict[str, Any]]:
        """Return what is in the state, by type."""
        latest = json.loads(self.state_file.read_text())["checkpoint"]["latest"]
        return {resource["type"]: resource for resource in latest.get("resources", [])}

    def things(self) -> dict[str, list[str]]:
        """Return what is in Docker."""
        filters: dict[str, Any] = {"label": f"aikit.stack={self.name}"}
        return {
            "containers": sorted(
                str(each.name) for each in self.docker.containers.list(all=True, filters=filters, ignore_removed=True)
            ),
            "networks": sorted(str(each.name) for each in self.docker.networks.list(filters=filters)),
            "volumes": sorted(str(each.name) for each in self.docker.volumes.list(filters=filters)),
        }

    def clear(self) -> None:
        """Remove everything from Docker."""
        filters: dict[str, Any] = {"label": f"aikit.stack={self.name}"}
        for container in self.docker.containers.list(all=True, filters=filters, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in self.docker.networks.list(filters=filters):
            network.remove()
        for volume in self.docker.volumes.list(filters=filters):
            volume.remove()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def wait_for(stack: Tiny, container: str, process: "subprocess.Popen[str]") -> None:
    """Wait until a container is there that ``process`` makes."""
    deadline = time.monotonic() + 60
    while not stack.docker.containers.list(all=True, filters={"name": container}, ignore_removed=True):
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="session")
def client() -> Generator[docker.DockerClient]:
    connected = docker.from_env()
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def tiny_image(client: docker.DockerClient) -> str:
    """Make an image without any download: this machine's ``sleep`` and its libraries."""
    if not client.images.list(name=tiny.IMAGE):
        linked = subprocess.run(["ldd", "/bin/sleep"], capture_output=True, text=True, check=True).stdout
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
            for file in {"/bin/sleep", *LIBRARY.findall(linked)}:
                archive.add(file)
        repository, _, tag = tiny.IMAGE.partition(":")
        client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
    return tiny.IMAGE


@pytest.fixture
def stack(
    tmp_path: Path,
    client: docker.DockerClient,
    tiny_image: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Generator[Callable[..., Outcome]]:
    del tiny_image
    without_own_environment(monkeypatch)
    made = Tiny(tmp_path, f"t{secrets.token_hex(4)}", client, capsys)
    made.set()
    yield made
    made.clear()


def without_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what this shell says about stacks."""
    for name in (
        *("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_BACKEND_URL"),
        *("AIKIT_STACK", "AIKIT_HOME", "AIKIT_FILES", "AIKIT_MESSAGES"),
    ):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Inbox:
    """A local receiver of messages."""

    address: str
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@pytest.fixture
def inbox() -> Generator[Inbox]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made = Inbox(f"json://127.0.0.1:{server.server_port}/t0ken")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
