"""Whatever is wrong ends in a clear message that names cause and cure, before anything was changed."""

import http.server
import json
import os
import shutil
import signal
import socket
import string
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import settings as configuration
from operations import checks, cli, passphrase
from operations.errors import Failure
from tests.operations import tiny
from tests.operations.conftest import Outcome, Tiny, free_port

EMPTY: dict[str, list[str]] = {"containers": [], "networks": [], "volumes": []}


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` returns, in bytes."""

    total: int
    used: int
    free: int


def refused(stack: Tiny, outcome: Outcome, *words: str, code: int = 1) -> None:
    """Check that a command ended with one clear message and changed nothing."""
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.err
    assert "Traceback" not in outcome.err
    assert stack.things() == EMPTY


@pytest.mark.parametrize("command", ["up", "preview", "destroy", "refresh", "status", "outputs"])
def test_wrong_settings(stack: Tiny, command: str) -> None:
    agreed = ["--yes"] if command in {"up", "destroy"} else []
    stack.set(http_port=70000, chat_titel="x")
    wrong = stack(command, *agreed)
    refused(stack, wrong, "chat-titel is not a setting; did you mean chat-title?", code=2)
    stack.set(http_port=70000)
    wrong = stack(command, *agreed)
    refused(stack, wrong, "http-port is 70000", code=2)
    assert len(wrong.err.strip().splitlines()) == 1
    assert not (stack.root / ".aikit").exists()


def test_unknown_stack(stack: Tiny) -> None:
    stack.file.unlink()
    refused(stack, stack("up", "--yes"), f"stack {stack.name} has no file Pulumi.{stack.name}.yaml", code=2)


def test_wrong_command_line(stack: Tiny) -> None:
    assert cli.run(["upp"], tiny.project(stack.root)) == 2
    assert stack("up", "--nope").code == 2


def test_port_taken(stack: Tiny) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        stack.set(https_port=port)
        name = psutil.Process().name()
        taken = stack("up", "--yes")
        cure = f"set aikit:https-port to a free port in Pulumi.{stack.name}.yaml"
        refused(stack, taken, f"Port {port} (aikit:https-port) is taken by process {os.getpid()} ({name})", cure)


def test_little_memory_and_disk(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100 << 20}))
    refused(stack, stack("up", "--yes"), "100 MiB of memory are free", "aikit:*-memory-mb")
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**9))
    refused(stack, stack("up", "--yes"), "1.0 GB are free below", "docker system prune")


class Large(http.server.BaseHTTPRequestHandler):
    """Says that a file has 9 GiB, and has it moved once."""

    def do_HEAD(self) -> None:
        """Answer without the file."""
        here = self.path == "/here"
        self.send_response(200 if here else 302)
        self.send_header(*(("Content-Length", str(9 << 30)) if here else ("Location", "/here")))
        self.end_headers()


@pytest.mark.spec("K-09")
def test_models_that_are_missing_or_cannot_fit(stack: Tiny, tmp_path: Path) -> None:
    """Files have holes in the place of gigabytes."""
    file = tmp_path / "large.gguf"
    model = {"name": "large", "file": str(file)}
    stack.set(models=[model])
    refused(stack, stack("up", "--yes"), f"Model large: the file {file} that aikit:models names does not exist")
    with file.open("wb") as content:
        content.truncate(8193 << 20)
    refused(stack, stack("up", "--yes"), "Model large has 8193 MiB, but Ollama may use 8192 (aikit:ollama-memory-mb)")
    with file.open("wb") as content:
        content.truncate(1 << 42)
    stack.set(models=[model], accelerator="cpu", ollama_memory_mb=4 << 20)
    refused(
        stack, stack("up", "--yes"), f"Model large has {4 << 20} MiB, but Ollama may use", "all the memory there is"
    )
    file.unlink()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Large) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/model.gguf"
        stack.set(models=[{"name": "far", "url": address, "sha256": "0" * 64}], ollama_memory_mb=8192)
        refused(stack, stack("up", "--yes"), "Model far has 9216 MiB, but Ollama may use 8192")
        server.shutdown()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("unix:///nowhere/docker.sock", "it is not running there"),
        (f"tcp://127.0.0.1:{free_port()}", "nothing answers there"),
        ("nonsense://x", "nonsense"),
    ],
)
def test_no_docker(stack: Tiny, monkeypatch: pytest.MonkeyPatch, host: str, reason: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    for command in ("up", "status", "destroy"):
        missing = stack(command, *(["--yes"] if command != "status" else []))
        refused(stack, missing, f"Docker can't be reached at {host}: ", reason, "DOCKER_HOST")
    examined = stack("doctor", "--json")
    assert examined.code == 1
    assert {"docker"} == {each["name"] for each in json.loads(examined.out) if each["level"] == "error"}


def test_nobody_to_ask(stack: Tiny) -> None:
    refused(stack, stack("up"), "--yes", code=2)


def test_wrong_missing_and_unreadable_passphrase(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stack("up", "--yes").code == 0
    file = stack.root / ".aikit" / "passphrase"
    assert file.stat().st_mode & 0o777 == 0o600
    before = stack.state_file.read_bytes()
    right = file.read_text()

    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
    wrong = stack("up", "--yes")
    assert wrong.code == 1
    assert "The passphrase is wrong" in wrong.err
    assert "the one in PULUMI_CONFIG_PASSPHRASE does not open it" in wrong.err
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", right.strip())
    assert stack("doctor").code == 0
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")

    file.write_text("another\n")
    wrong = stack("up", "--yes")
    assert wrong.code == 1
    assert str(file) in wrong.err
    assert stack("outputs", "--show-secrets").code == 1
    file.unlink()
    missing = stack("up", "--yes")
    assert missing.code == 1
    assert "its passphrase is missing" in missing.err
    assert not file.exists(), "a new one would not open the old state"
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", str(stack.root / "nowhere"))
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" in stack("up", "--yes").err
    assert stack.state_file.read_bytes() == before


def test_an_empty_passphrase_encrypts_nothing(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "")
    refused(stack, stack("up", "--yes"), "PULUMI_CONFIG_PASSPHRASE is empty")


def test_corrupted_state(stack: Tiny) -> None:
    assert stack("up", "--yes").code == 0
    things = stack.things()
    whole = stack.state_file.read_bytes()
    backup = stack.state_file.with_name(f"{stack.state_file.name}.bak")
    for broken in (whole[:-200], b"", b"[]", b'{"checkpoint": {"latest": {"resources": [{}]}}}', b"\xff\xfe"):
        stack.state_file.write_bytes(broken)
        for command in ("up", "destroy"):
            corrupted = stack(command, "--yes")
            assert corrupted.code == 1
            assert f"The state file {stack.state_file} can't be read" in corrupted.err
            assert f"The last good copy is {backup}" in corrupted.err
            assert "Traceback" not in corrupted.err
        assert stack("status").code == 1
    assert stack.things() == things
    shutil.copy(backup, stack.state_file)
    assert stack("up", "--yes").code == 0, "the cure works"


def test_locked_by_another_run(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_MORE", "a b c d e f g h")
    other = stack.start("up", "--yes")
    run_lock = stack.root / ".aikit" / f"{stack.name}.run"
    deadline = time.monotonic() + 60
    while not run_lock.exists() or not run_lock.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    locked = stack("up", "--yes")
    assert locked.code == 1
    assert f"is being changed by another ./aikit up (process {other.pid}, since " in locked.err
    other.send_signal(signal.SIGTERM)
    said, _ = other.communicate(timeout=60)
    assert "Traceback" not in said


def test_locked_by_a_plain_pulumi_elsewhere(stack: Tiny) -> None:
    locks = stack.root / ".aikit" / "state" / ".pulumi" / "locks" / "organization" / "aikit" / stack.name
    locks.mkdir(parents=True)
    (locks / "other.json").write_text(json.dumps({"pid": 7, "hostname": "elsewhere", "username": "ada"}))
    refused(stack, stack("up", "--yes"), "locked by process 7 on elsewhere")
    assert list(locks.iterdir()), "it is not ours to remove"


def test_containers_of_another_checkout(stack: Tiny) -> None:
    labels = {"aikit.stack": stack.name, "aikit.service": "app"}
    made = stack.docker.containers.create(tiny.IMAGE, ["/bin/sleep", "1"], name=f"tiny-{stack.name}-app", labels=labels)
    foreign = stack("up", "--yes")
    assert foreign.code == 1
    assert "this folder has no state of it" in foreign.err
    assert stack.things()["containers"] == [made.name]
    assert stack("destroy", "--yes").code == 0
    assert stack.things() == EMPTY


def test_forced_origin_that_is_out_of_reach(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.origins.unreachable", lambda _: "its name does not resolve")
    monkeypatch.setattr("operations.origins.installed_engine", lambda: None)
    stack.set(toolchain_engine="official")
    refused(stack, stack("up", "--yes"), "aikit:toolchain-engine is official, but none is installed", "built", code=2)


@pytest.mark.parametrize("passed", ["", "x", "pässwörd 🔑", string.printable])
def test_cipher_refuses_every_other_passphrase(passed: str) -> None:
    salt = "v1:Z8qXcmobZeI=:v1:Z4LyXJbana4zb9oL:AZtq+idTU22nUyQJ76OKhGP5WsOlTA=="  # Made by the engine for "x".
    if passed == "x":
        passphrase.cipher(passed, salt)
    else:
        with pytest.raises(passphrase.WrongPassphraseError):
            passphrase.cipher(passed, salt)


def test_passphrase_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "passphrase"
    made = passphrase.passphrase(file, state_exists=False)
    assert len(made) >= passphrase.BYTES
    assert passphrase.passphrase(file, state_exists=True) == made
    assert [path.name for path in file.parent.iterdir()] == ["passphrase"]
    file.unlink()
    with pytest.raises(Failure, match="passphrase is missing"):
        passphrase.passphrase(file, state_exists=True)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([name for name, _, _ in configuration.declarations()]) | st.text(max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.dictionaries(NAMES.map("aikit:{}".format) | st.text(max_size=12), VALUES, max_size=4))
def test_no_settings_end_in_a_traceback(tmp_path: Path, chosen: dict[str, Any]) -> None:
    """Whatever a file says, either it makes settings, or each problem is told; the check of them runs without an exception."""
    (tmp_path / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": chosen}), encoding="utf-8")
    failure = None
    made = configuration.parse({})
    try:
        made = tiny.project(tmp_path).settings("dev")
    except Failure as error:
        failure = error
    if failure:
        assert failure.code == 2
        assert all(message.strip() for message in failure.messages)
    else:
        assert checks.memory_limits_mb(made) > 0
        assert len(checks.ports(made)) == 4


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(alphabet="aikit:-{}[]&*!|>#%@`\"'\n \t0", max_size=60).map(str.encode))
def test_no_file_ends_in_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_bytes(content)
    assert cli.run(["outputs"], tiny.project(tmp_path)) in {1, 2}
