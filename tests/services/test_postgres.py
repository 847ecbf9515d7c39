"""PostgreSQL's container as the platform runs it: its superuser has the password of the file, whatever the data has."""

# Docker's library is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import dataclasses
import io
import secrets
import tarfile
import time
from collections.abc import Generator
from typing import Any

import docker
import pytest

from components.service import FILES, SECRETS
from settings import ROOT

DATA = "/var/lib/postgresql/data"


@pytest.fixture(scope="module")
def image() -> str:
    """Return the newest local image of PostgreSQL."""
    images = docker.from_env().images.list(name="aikit/postgres")
    if not images:
        pytest.skip("there is no local image aikit/postgres; build the images first")
    return max(images, key=lambda item: str(item.attrs["Created"])).tags[0]


@dataclasses.dataclass
class Server:
    """A database server whose container may be replaced by one with another password."""

    docker: Any
    image: str
    container: Any = None
    identity: str = dataclasses.field(default_factory=lambda: f"aikit-postgres-test-{secrets.token_hex(4)}")

    def start(self, password: str) -> None:
        """Make a container on the same data, hardened as the platform's, and wait until it answers."""
        self.remove()
        self.container = self.docker.containers.create(
            self.image,
            ["sh", f"{FILES}/start.sh", "postgres", "-c", "shared_buffers=16MB"],
            user="999:0",
            read_only=True,
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            mem_limit="256m",
            tmpfs={"/var/run/postgresql": "size=8m,mode=1777", "/tmp": "size=64m,mode=1777"},  # noqa: S108
            environment={
                "POSTGRES_PASSWORD_FILE": "/run/secrets/password",
                "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C --auth-host=scram-sha-256",
            },
            volumes={
                f"{self.identity}-data": {"bind": DATA, "mode": "rw"},
                f"{self.identity}-files": {"bind": FILES, "mode": "ro"},
                f"{self.identity}-secrets": {"bind": SECRETS, "mode": "ro"},
            },
            network_mode="none",
        )
        self._put("files", FILES, "start.sh", (ROOT / "services" / "postgres" / "start.sh").read_text())
        self._put("secrets", SECRETS, "password", password)
        self.container.start()
        deadline = time.monotonic() + 60
        while self.container.exec_run(["pg_isready", "--quiet", "--host=127.0.0.1"]).exit_code:
            self.container.reload()
            assert self.container.status == "running", self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def _put(self, kind: str, folder: str, name: str, text: str) -> None:
        carrier = self.docker.containers.create(
            self.image,
            entrypoint=["true"],
            volumes={f"{self.identity}-{kind}": {"bind": folder, "mode": "rw"}},
        )
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o440
            archive.addfile(entry, io.BytesIO(text.encode()))
        carrier.put_archive(folder, buffer.getvalue())
        carrier.remove(v=True)

    def ask(self, password: str, statement: str) -> tuple[int, str]:
        """Log in by network, as the platform does, and return how a statement ended and what it gave."""
        command = ["psql", "--host=127.0.0.1", "--username=postgres", "--no-align", "--tuples-only", "-c", statement]
        done = self.container.exec_run(command, environment={"PGPASSWORD": password})
        return done.exit_code, done.output.decode().strip()

    def log(self) -> str:
        """Return what the container said."""
        return self.container.logs().decode()

    def remove(self, *, kill: bool = False) -> None:
        """Remove the container; the volumes stay."""
        if self.container:
            if not kill:
                self.container.stop(timeout=30)
            self.container.remove(force=True, v=True)
            self.container = None


@pytest.fixture
def server(image: str) -> Generator[Server]:
    client = docker.from_env()
    made = Server(client, image)
    yield made
    made.remove(kill=True)
    for kind in ("data", "files", "secrets"):
        client.volumes.get(f"{made.identity}-{kind}").remove()
    client.close()


@pytest.mark.spec("VLT-14")
def test_the_superuser_has_the_password_of_the_file(server: Server) -> None:
    server.start("first0first0")
    assert server.ask("first0first0", "CREATE TABLE kept AS SELECT 7 AS number") == (0, "SELECT 1")
    server.start("second0second0")
    assert server.ask("second0second0", "SELECT number FROM kept") == (0, "7")
    code, said = server.ask("first0first0", "SELECT 1")
    assert code
    assert "password authentication failed" in said
    assert "second0second0" not in server.log()

    # Also after a crash, whose recovery the change of the password makes.
    assert server.ask("second0second0", "UPDATE kept SET number = 8")[0] == 0
    server.remove(kill=True)
    server.start("third0third0")
    assert server.ask("third0third0", "SELECT number FROM kept") == (0, "8")
    assert server.ask("second0second0", "SELECT 1")[0]

    server.start("third0third0")
    assert server.ask("third0third0", "SELECT number FROM kept") == (0, "8")
    assert "start:" not in server.log(), "nothing is to be done twice"
