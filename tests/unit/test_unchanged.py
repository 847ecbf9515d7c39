"""When an `up` need not ask the engine: whatever its result depends on is changed once, and each change must be seen."""

import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from operations import unchanged
from operations.containers import StackInDocker
from operations.origins import Choice, Origins
from operations.passphrase import ROUNDS
from operations.project import Deploy, Project, platform
from settings import parse

SECRET = "correct horse battery staple"
NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEFT_OUT = ["grafana: not deployed (its image can't be had)"]
INFO: dict[str, Any] = {"ID": "daemon", "ServerVersion": "28", "Architecture": "x86_64", "OSType": "linux", "NCPU": 2}
BUILT = Choice("built", "as in the runs before")
ORIGINS = Origins(engine=BUILT, plugins=BUILT, images=Choice("official", "it answers"), models=None)


@pytest.fixture(scope="session")
def salt() -> str:
    """What the engine writes into a state to check the passphrase by."""
    key = PBKDF2HMAC(SHA256(), 32, b"12345678", ROUNDS).derive(SECRET.encode())
    sample = AESGCM(key).encrypt(b"123456789012", b"pulumi", None)
    parts = [base64.b64encode(part).decode() for part in (b"12345678", b"123456789012", sample)]
    return f"v1:{parts[0]}:v1:{parts[1]}:{parts[2]}"


def resource(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": f"urn:pulumi:dev::aikit::{kind}::{name}", "type": kind, "id": name, **more}


@dataclass
class World:
    """A deployed stack, all of it made up; a test changes something and asks."""

    root: Path
    salt: str
    monkeypatch: pytest.MonkeyPatch
    values: dict[str, Any] = field(
        default_factory=lambda: {
            "certificates-source": "files",
            "certificates-certificate-file": ".aikit/edge.pem",
            "certificates-key-file": ".aikit/edge.key",
            "models": [{"name": "own", "file": ".aikit/own.gguf"}],
        }
    )
    origins: Origins = ORIGINS
    deploy: Deploy = platform
    info: dict[str, Any] = field(default_factory=lambda: dict(INFO))
    resources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pending: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    listed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    networks: list[str] = field(default_factory=lambda: ["network"])
    volumes: list[str] = field(default_factory=lambda: ["data", "another program's"])
    images: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"Id": "sha256:1", "RepoTags": ["aikit/redis:1"]},
            {"Id": "sha256:2", "RepoTags": None},
        ]
    )

    def __post_init__(self) -> None:
        """Write the program's files and the state."""
        for name in ("settings.py", "components/edge.py", "services/redis/Containerfile", "services/redis/.hidden/a"):
            self.write(name, name)
        for name in ("edge.pem", "edge.key", "own.gguf", "passphrase"):
            self.write(f".aikit/{name}", SECRET if name == "passphrase" else name)
        self.resources = [
            resource("pulumi:pulumi:Stack", "aikit-dev", outputs={"services": [{"name": "app", "container": "app"}]}),
            resource("docker:index/container:Container", "app"),
            resource("docker:index/container:Container", "job"),
            resource("docker:index/network:Network", "network"),
            resource("docker:index/volume:Volume", "data"),
            resource("docker:index/image:Image", "redis", outputs={"imageName": "aikit/redis:1"}),
            resource("docker:index/remoteImage:RemoteImage", "vault", outputs={"imageId": "sha256:2"}),
            resource(
                "tls:index/locallySignedCert:LocallySignedCert",
                "edge",
                outputs={"validityEndTime": "2030-06-01T20:00:00Z", "earlyRenewalHours": 2},
            ),
        ]
        self.listed = [listed("app", "Up 5 minutes (healthy)"), listed("job", "Exited (0) 2 hours ago", "exited")]
        self.save()

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def project(self) -> Project:
        """The project."""
        return Project(root=self.root, deploy=self.deploy, cache=self.root / ".cache")

    @property
    def note(self) -> Path:
        """The file of the note."""
        return self.project.local / "dev.unchanged.json"

    @property
    def state(self) -> Path:
        """The file of the state."""
        path = self.project.state("dev")
        assert path
        return path

    def save(self) -> None:
        """Write the state."""
        provider = {"type": "passphrase", "state": {"salt": self.salt}}
        latest = {"resources": self.resources, "pending_operations": self.pending, "secrets_providers": provider}
        self.write(str(self.state.relative_to(self.root)), json.dumps({"checkpoint": {"latest": latest}}))

    def run(self) -> unchanged.Run:
        """Begin a run."""
        return unchanged.Run.of(self.project, "dev", parse(self.values), self.origins, self.info)

    def known(self, at: datetime = NOW + HOUR) -> unchanged.Known | None:
        """Begin a run, and ask for its result."""
        client = SimpleNamespace(
            api=SimpleNamespace(
                containers=lambda **_: self.listed,
                images=lambda: self.images,
                # Its check can't be run.
                inspect_container=lambda _: {"Config": {}},
            ),
            containers=SimpleNamespace(prepare_model=lambda attrs: attrs),
            networks=SimpleNamespace(list=lambda **_: [SimpleNamespace(id=name) for name in self.networks]),
            volumes=SimpleNamespace(list=lambda **_: [SimpleNamespace(name=name) for name in self.volumes]),
        )
        return self.run().known(StackInDocker(cast("Any", client), "dev"), at=at)


def listed(name: str, said: str, status: str = "running") -> dict[str, Any]:
    return {
        "Id": name,
        "Names": [f"/{name}"],
        "Labels": {"aikit.service": name},
        "State": status,
        "Status": said,
        "Ports": [],
        "HostConfig": {"NetworkMode": "app"},
    }


@pytest.fixture
def world(tmp_path: Path, salt: str, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("AIKIT_HOME", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(unchanged, "ROOT", tmp_path)
    monkeypatch.setattr("settings.FILES_ROOT", tmp_path)
    return World(tmp_path, salt, monkeypatch)


def test_what_is_as_the_last_run_left_it_is_known(world: World) -> None:
    assert world.known() is None, "nothing was deployed yet"
    world.run().keep(LEFT_OUT, at=NOW)
    known = world.known()
    assert known
    assert list(known.left_out) == LEFT_OUT
    assert [(each.name, each.health) for each in known.containers] == [("app", "healthy"), ("job", "done")]
    assert known.outputs["services"] == [{"name": "app", "container": "app"}]
    assert world.known(), "however often"


def test_what_a_terminal_and_tools_leave_does_not_count(world: World) -> None:
    world.run().keep((), at=NOW)
    world.monkeypatch.setenv("SHLVL", "7")
    world.monkeypatch.setenv("SSH_TTY", "/dev/pts/7")
    world.write(".ruff_cache/entry", "a cache")
    world.write(".aikit/logs/dev-up.log", "a log")
    world.origins = replace(world.origins, images=Choice("official", "as in the runs before"))
    assert world.known()


def test_runs_may_keep_their_files_in_the_project(world: World) -> None:
    world.monkeypatch.setenv("AIKIT_HOME", str((world.root / ".aikit").rename(world.root / "runs")))
    world.values.clear()
    world.run().keep((), at=NOW)
    world.write("runs/logs/dev-up.log", "a log")
    assert world.known()


def with_(**values: Any) -> Callable[[World], None]:
    return lambda world: world.values.update({name.replace("_", "-"): value for name, value in values.items()})


def other(what: str, origin: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.origins = replace(world.origins, **{what: Choice(origin, "for a test")})

    return change


def lasting(change: Callable[[World], None]) -> Callable[[World], None]:
    """Return a change of the state that is written."""

    def changed(world: World) -> None:
        change(world)
        world.save()

    return changed


def a_link_to_a_folder(world: World) -> None:
    (world.root / "services" / "linked").symlink_to(world.root / ".aikit")


def another_program(world: World) -> None:
    world.deploy = lambda settings, machine, stack: None


def executable(world: World) -> None:
    (world.root / "services/redis/Containerfile").chmod(0o755)


CHANGES: dict[str, Callable[[World], Any]] = {
    "a file of the program": lambda world: world.write("components/edge.py", "changed"),
    "a new file": lambda world: world.write("components/new.py", ""),
    "a file that is gone": lambda world: (world.root / "components/edge.py").unlink(),
    "a file that git would ignore": lambda world: world.write("services/redis/edge.pem", ""),
    "a hidden file in an image's folder": lambda world: world.write("services/redis/.hidden/a", "changed"),
    "the mode of a file": executable,
    "a link whose folder is not looked into": a_link_to_a_folder,
    "the program": another_program,
    "a setting": with_(http_port=81),
    "a certificate": lambda world: world.write(".aikit/edge.pem", "renewed"),
    "a key": lambda world: world.write(".aikit/edge.key", "renewed"),
    "a model's file": lambda world: world.write(".aikit/own.gguf", "another"),
    "a model's file that is gone": lambda world: (world.root / ".aikit/own.gguf").unlink(),
    "a variable": lambda world: world.monkeypatch.setenv("VAULT_NAMESPACE", "another"),
    "a variable that is gone": lambda world: world.monkeypatch.delenv("PATH"),
    "the engine's origin": other("engine", "official"),
    "the plugins' origin": other("plugins", "official"),
    "the images' origin": other("images", "built"),
    "the models' origin": other("models", "library"),
    "another daemon": lambda world: world.info.update(ID="other"),
    "another version of Docker": lambda world: world.info.update(ServerVersion="29"),
    "a graphics card": lambda world: world.info.update(Runtimes={"nvidia": {}}),
    "a package of Python": lambda world: world.monkeypatch.setattr(unchanged, "_packages", lambda: ["new-1.dist-info"]),
    "the state": lasting(lambda world: world.resources.append(resource("random:index/randomPassword:X", "more"))),
    "a pending operation": lasting(lambda world: world.pending.append({"type": "creating"})),
    "no state": lambda world: world.state.unlink(),
    "a broken state": lambda world: world.state.write_text("{"),
    "a remote backend": lambda world: world.monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://somewhere"),
    "a passphrase that is gone": lambda world: (world.root / ".aikit/passphrase").unlink(),
    "another passphrase": lambda world: world.write(".aikit/passphrase", "another"),
    "another version of Python": lambda world: world.monkeypatch.setattr("sys.version", "3.14.0"),
    "an orphan": lambda world: world.listed.append(listed("orphan", "Up 5 minutes")),
    "a container that is gone": lambda world: world.listed.pop(),
    "another container": lambda world: world.listed[0].update(Id="other"),
    "an unhealthy container": lambda world: world.listed[0].update(Status="Up 5 minutes (unhealthy)"),
    "a container that starts": lambda world: world.listed[0].update(Status="Up 5 seconds (health: starting)"),
    "a job that failed": lambda world: world.listed[1].update(Status="Exited (1) 2 hours ago"),
    "a container that was renamed": lambda world: world.listed[0].update(Names=["/renamed"]),
    "another network": lambda world: world.networks.append("orphan"),
    "a network that is gone": lambda world: world.networks.clear(),
    "a volume that is gone": lambda world: world.volumes.remove("data"),
    "an image that is gone": lambda world: world.images.pop(),
    "the tag of an image that is gone": lambda world: world.images[0].update(RepoTags=[]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_after_any_change_the_engine_is_asked(world: World, change: Callable[[World], Any]) -> None:
    world.run().keep(LEFT_OUT, at=NOW)
    assert world.known()
    change(world)
    assert world.known() is None


def larger(world: World) -> None:
    with (world.root / ".aikit/own.gguf").open("r+b") as model:
        model.truncate(unchanged.READ_BYTES + 2)


def touched(world: World) -> None:
    os.utime(world.root / ".aikit/own.gguf", ns=(1, 1))


@pytest.mark.parametrize("change", [larger, touched])
def test_a_large_file_is_known_by_its_size_and_times(world: World, change: Callable[[World], None]) -> None:
    with (world.root / ".aikit/own.gguf").open("r+b") as model:
        model.truncate(unchanged.READ_BYTES + 1)
    world.run().keep((), at=NOW)
    assert world.known()
    change(world)
    assert world.known() is None


@pytest.mark.parametrize(
    ("origins", "change"),
    [
        pytest.param(
            replace(ORIGINS, images=BUILT),
            lambda world: world.monkeypatch.setattr("toolchain.base.authorities", lambda: [world.root / "settings.py"]),
            id="base images trust another authority",
        ),
        pytest.param(
            replace(ORIGINS, models=Choice("package", "")),
            lambda world: world.write(".cache/model", "another"),
            id="the small model",
        ),
        pytest.param(
            replace(ORIGINS, engine=Choice("official", "")),
            lambda world: world.write(".cache/bin/pulumi", "another").chmod(0o755),
            id="the installed engine",
        ),
    ],
)
def test_what_a_machine_has_counts_where_it_is_used(
    world: World, origins: Origins, change: Callable[[World], Any]
) -> None:
    model = world.write(".cache/model", "one")
    world.monkeypatch.setattr("toolchain.small_model.location", lambda _: model)
    world.monkeypatch.setattr("toolchain.base.authorities", list[Path])
    engine = world.write(".cache/bin/pulumi", "one")
    engine.chmod(0o755)
    world.monkeypatch.setenv("PATH", str(engine.parent))
    world.origins = origins
    world.run().keep((), at=NOW)
    assert world.known()
    change(world)
    assert world.known() is None


@pytest.mark.parametrize(
    ("end", "early", "at", "known"),
    [
        pytest.param("2030-06-01T20:00:00Z", 2, timedelta(hours=5, minutes=59), True, id="before the renewal"),
        pytest.param("2030-06-01T20:00:00Z", 2, timedelta(hours=6), False, id="at the renewal"),
        pytest.param("2030-06-01T13:00:00Z", 0, timedelta(hours=1), False, id="at the end, without early renewal"),
        pytest.param("2040-06-01T20:00:00Z", 2, timedelta(hours=23, minutes=59), True, id="within a day"),
        pytest.param("2040-06-01T20:00:00Z", 2, timedelta(hours=24), False, id="after a day"),
        pytest.param("2040-06-01T20:00:00Z", 2, timedelta(seconds=-1), False, id="before it was noted"),
        pytest.param("some day", 2, timedelta(hours=1), False, id="a time that can't be read"),
        pytest.param("2040-06-01T20:00:00Z", "soon", timedelta(hours=1), False, id="a period that can't be read"),
    ],
)
def test_time_asks_the_engine_too(world: World, end: str, early: object, at: timedelta, known: bool) -> None:
    world.resources[-1]["outputs"] = {"validityEndTime": end, "earlyRenewalHours": early}
    world.save()
    world.run().keep((), at=NOW)
    assert bool(world.known(NOW + at)) is known


@pytest.mark.parametrize("key", ["made", "left_out", "seal"])
def test_a_note_that_was_changed_is_none(world: World, key: str) -> None:
    world.run().keep(LEFT_OUT, at=NOW)
    note = json.loads(world.note.read_text())
    changed = {"made": (NOW + HOUR / 2).isoformat(), "left_out": ["another line"], "seal": "0" * 64}
    world.note.write_text(json.dumps({**note, key: changed[key]}))
    assert world.known() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"made": 1, "left_out": 2}'])
def test_a_corrupted_note_is_as_none(world: World, content: bytes) -> None:
    world.run().keep(LEFT_OUT, at=NOW)
    world.note.write_bytes(content)
    assert world.known() is None
    world.run().keep(LEFT_OUT, at=NOW)
    assert world.known(), "the next run writes a good one"


def half_rotated(world: World) -> None:
    """Let a provider log in with a secret that has got a new value since."""
    secret = resource("random:index/randomPassword:RandomPassword", "login", created="2030-05-02T00:00:00Z")
    told = {"modified": "2030-05-01T00:00:00Z", "dependencies": [secret["urn"]]}
    world.resources += [secret, resource("pulumi:providers:keycloak", "keycloak", **told)]


@pytest.mark.parametrize(
    "unfinished",
    [
        lambda world: world.pending.append({"type": "creating"}),
        lambda world: world.resources[1].update(delete=True),
        lambda world: world.resources[1].update(taint=True),
        lambda world: world.resources.clear(),
        half_rotated,
    ],
    ids=["pending", "to be deleted", "tainted", "empty", "half rotated"],
)
def test_what_the_engine_has_to_finish_is_not_known(world: World, unfinished: Callable[[World], Any]) -> None:
    unfinished(world)
    world.save()
    world.run().keep((), at=NOW)
    assert not world.note.exists()


def test_a_moved_project_is_another(world: World) -> None:
    """Images are built of folders, which the state knows by their paths."""
    world.values.clear()
    world.run().keep((), at=NOW)
    assert world.known()
    world.root = world.root.rename(world.root.with_name("moved"))
    world.monkeypatch.setattr(unchanged, "ROOT", world.root)
    assert world.known() is None


def test_what_changed_while_the_run_went_on_is_a_change(world: World) -> None:
    begun = world.run()
    world.write("components/edge.py", "edited meanwhile")
    begun.keep((), at=NOW)
    assert world.known() is None


def test_a_note_holds_no_secret_and_is_for_its_owner_alone(world: World) -> None:
    world.monkeypatch.setenv("AIKIT_MESSAGES", "jsons://example.org/t0ken")
    world.run().keep(LEFT_OUT, at=NOW)
    assert world.note.stat().st_mode & 0o777 == 0o600
    text = world.note.read_text()
    assert set(json.loads(text)) == {"made", "left_out", "seal"}
    assert not any(secret in text for secret in (SECRET, "t0ken", "edge.key"))
    assert not list(world.note.parent.glob("dev.unchanged.json.*")), "it is written in one step"


def test_a_note_that_cannot_be_written_changes_nothing(world: World) -> None:
    world.note.mkdir()
    world.run().keep(LEFT_OUT, at=NOW)
    assert world.known() is None
