"""Stacks that the real engine runs against the provider servers of this process."""

# Values come from systems without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import dataclasses
import io
import json
import secrets
import tarfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker import DockerClient
from docker.models.containers import Container
from pulumi import automation

from providers.catalogue import PROVIDERS
from providers.keycloak.client import Keycloak, Settings
from providers.server import serve
from toolchain.engine import engine

IMAGE = "aikit-test/busybox:1"
CLIENT_ID = "pulumi"
CLIENT_SECRET = "bootstrap-7d1c"
Program = Callable[[], None]


@dataclasses.dataclass
class Run:
    """One stack; its program may be changed between operations."""

    stack: automation.Stack
    name: str
    directory: Path

    def up(self, program: Program | None = None, *, refresh: bool = False) -> Mapping[str, int]:
        """Deploy and return the number of resources by operation; another program takes the place of the old one."""
        self._use(program)
        summary = self.stack.up(refresh=refresh).summary.resource_changes or {}
        return {str(getattr(kind, "value", kind)): count for kind, count in summary.items()}

    def up_fails(self, program: Program | None = None) -> str:
        """Deploy, expect it to fail, and return what the engine printed."""
        self._use(program)
        with pytest.raises(automation.CommandError) as caught:
            self.stack.up()
        return str(caught.value)

    def preview(self, program: Program | None = None) -> Mapping[str, int]:
        """Return the number of resources by planned operation."""
        self._use(program)
        summary = self.stack.preview().change_summary
        return {str(getattr(kind, "value", kind)): count for kind, count in summary.items()}

    def refresh(self) -> None:
        """Take what is in the systems into the state."""
        self.stack.refresh()

    def destroy(self) -> None:
        """Delete every resource."""
        self.stack.destroy()

    def state(self) -> list[dict[str, Any]]:
        """Return the resources of the state, secrets encrypted."""
        # The file itself, because an export would decrypt the secrets.
        file = self.directory / "state" / ".pulumi" / "stacks" / "providers" / f"{self.name}.json"
        return json.loads(file.read_text())["checkpoint"]["latest"].get("resources", [])

    def outputs(self, name: str) -> dict[str, Any]:
        """Return the outputs of the resource ``name`` in the state."""
        return next(item.get("outputs", {}) for item in self.state() if item["urn"].endswith(f"::{name}"))

    def identifiers(self) -> dict[str, str]:
        """Return the identifier of each resource in the systems, by name."""
        return {
            item["urn"].rpartition("::")[2]: item["id"]
            for item in self.state()
            if "id" in item and not item["type"].startswith("pulumi:")
        }

    def _use(self, program: Program | None) -> None:
        if program is not None:
            self.stack.workspace.program = program


@pytest.fixture(scope="session")
def providers_environment() -> Generator[str]:
    with serve([provider() for provider in PROVIDERS]) as servers:
        yield servers.environment


class _Everything:
    """Every resource there is."""

    def __contains__(self, urn: object) -> bool:
        return True


@pytest.fixture
def killed(stack: Callable[[Program], Run]) -> Generator[Callable[[Program], Run]]:
    """Make stacks whose former run was killed while it made everything that they have."""
    with contextlib.ExitStack() as ended:
        servers = ended.enter_context(serve([provider() for provider in PROVIDERS], _Everything()))

        def make(program: Program) -> Run:
            run = stack(program)
            usual = run.stack.workspace.env_vars
            run.stack.workspace.env_vars = {**usual, "PULUMI_DEBUG_PROVIDERS": servers.environment}
            ended.callback(setattr, run.stack.workspace, "env_vars", usual)
            return run

        yield make


@pytest.fixture(scope="session")
def engine_binary() -> Path:
    return engine(Path.home() / ".cache/aikit", lambda _: None) / "pulumi"


@pytest.fixture
def stack(providers_environment: str, engine_binary: Path, tmp_path: Path) -> Generator[Callable[[Program], Run]]:
    """Make stacks with a file backend of their own; what they deployed is destroyed in the end."""
    runs: list[Run] = []

    def make(program: Program) -> Run:
        name = f"t{secrets.token_hex(3)}"
        home = tmp_path / name
        (home / "state").mkdir(parents=True)
        (home / "bin").mkdir()
        (home / "bin" / "pulumi").symlink_to(engine_binary)
        made = automation.create_or_select_stack(
            stack_name=name,
            project_name="providers",
            program=program,
            opts=automation.LocalWorkspaceOptions(
                pulumi_home=str(home / "home"),
                pulumi_command=automation.PulumiCommand(str(home)),
                project_settings=automation.ProjectSettings(
                    name="providers", runtime="python", backend=automation.ProjectBackend(f"file://{home / 'state'}")
                ),
                env_vars={
                    "PULUMI_CONFIG_PASSPHRASE": "only for tests",
                    "PULUMI_DEBUG_PROVIDERS": providers_environment,
                    "PULUMI_SKIP_UPDATE_CHECK": "true",
                    "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                },
            ),
        )
        runs.append(Run(made, name, home))
        return runs[-1]

    yield make
    for run in runs:
        run.destroy()


@pytest.fixture(scope="session")
def client() -> Generator[DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def busybox(client: DockerClient) -> str:
    """Make an image of the host's static busybox, because a registry need not answer."""
    if client.images.list(name=IMAGE):
        return IMAGE
    binary = Path("/bin/busybox").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(binary), 0o755
        archive.addfile(entry, io.BytesIO(binary))
        for applet in ("sh", "sleep", "cat", "echo", "test", "nc", "nslookup", "touch", "ls", "stat"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    client.api.import_image_from_data(buffer.getvalue(), repository="aikit-test/busybox", tag="1")
    return IMAGE


@dataclasses.dataclass(frozen=True)
class Server:
    """A Keycloak that answers."""

    url: str
    admin: Keycloak


@pytest.fixture(scope="session")
def server() -> Generator[Server]:
    """Run the newest local Keycloak image with a database in memory."""
    engine = docker.from_env()
    images = engine.images.list(name="aikit/keycloak")
    if not images:
        pytest.skip("there is no local image aikit/keycloak; build the images first")
    newest = max(images, key=lambda image: str(image.attrs["Created"]))
    container = engine.containers.run(
        newest.tags[0],
        ["start-dev"],
        detach=True,
        auto_remove=True,
        ports={"8080/tcp": ("127.0.0.1", 0)},
        environment={
            "KC_DB": "dev-mem",
            "KC_BOOTSTRAP_ADMIN_CLIENT_ID": CLIENT_ID,
            "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": CLIENT_SECRET,
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC",
        },
    )
    try:
        url = _wait(container)
        yield Server(url, Keycloak(Settings(url=url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)))
    finally:
        container.kill()


def _wait(container: Container) -> str:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        container.reload()
        if bindings := container.ports.get("8080/tcp"):
            url = f"http://127.0.0.1:{bindings[0]['HostPort']}"
            try:
                if httpx.get(f"{url}/realms/master", timeout=10).is_success:
                    return url
            except httpx.HTTPError:
                pass
        time.sleep(1)
    raise TimeoutError(container.logs(tail=20).decode())
