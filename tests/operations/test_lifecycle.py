"""up, preview, refresh and destroy on a real stack: what they change, what they keep, and how they recover."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from operations import lifecycle
from tests.operations import tiny
from tests.operations.conftest import Outcome, Tiny, wait_for

PASSWORD = "random:index/randomPassword:RandomPassword"


def test_from_nothing_to_nothing(stack: Tiny) -> None:
    """One story, because each step starts from the one before."""
    name = stack.name
    made = stack("up", "--yes")
    assert made.code == 0, made.err
    assert "engine: built (aikit:toolchain-engine says so)" in made.err
    assert "4 resources changed" in made.err
    assert "App" in made.out
    assert "running" in made.out
    assert stack.things() == {
        "containers": [f"tiny-{name}-app"],
        "networks": [f"tiny-{name}"],
        "volumes": [f"tiny-{name}-data"],
    }
    container = stack.docker.containers.get(f"tiny-{name}-app").id

    again = stack("up", "--yes")
    assert again.code == 0, again.err
    assert f"stack {name}: nothing to change" in again.err
    assert stack.docker.containers.get(f"tiny-{name}-app").id == container
    assert stack("preview", "--refresh", "--expect-no-changes").code == 0

    # What a person changed in one that runs is another matter: it is looked for when asked for.
    stack.docker.containers.get(f"tiny-{name}-app").update(mem_limit="512m", memswap_limit="512m")
    assert "nothing to change" in stack("up", "--yes").err
    assert "1 resource changed" in stack("up", "--yes", "--refresh").err
    assert stack("preview", "--refresh", "--expect-no-changes").code == 0

    secret = stack("outputs", "administratorPassword", "--show-secrets")
    assert len(secret.out.strip()) == 20
    hidden = stack("outputs", "administratorPassword")
    assert (hidden.code, hidden.out) == (2, "")
    assert "--show-secrets" in hidden.err
    assert secret.out.strip() not in stack("outputs").out + stack.state_file.read_text()
    assert json.loads(stack("outputs", "--json").out)["administratorPassword"] == "[secret]"

    status = stack("status", "--json")
    assert status.code == 0
    [service] = json.loads(status.out)["services"]
    assert (service["service"], service["health"], service["restarts"]) == ("app", "running", 0)
    assert service["memoryMb"] is not None

    # What a person removed is noticed, and comes back.
    stack.docker.containers.get(f"tiny-{name}-app").remove(force=True)
    assert stack("status").code == 3
    assert stack("preview", "--refresh", "--expect-no-changes").code == 3
    back = stack("up", "--yes")
    assert back.code == 0, back.err
    assert "1 resource changed" in back.err

    # Without --data, what holds or opens data stays.
    gone = stack("destroy", "--yes")
    assert gone.code == 0, gone.err
    assert stack.things() == {"containers": [], "networks": [], "volumes": [f"tiny-{name}-data"]}
    assert PASSWORD in stack.resources()
    assert stack("status").code == 3
    volume = stack.docker.volumes.get(f"tiny-{name}-data").attrs["CreatedAt"]

    assert stack("up", "--yes").code == 0
    assert stack("outputs", "administratorPassword", "--show-secrets").out == secret.out
    assert stack.docker.volumes.get(f"tiny-{name}-data").attrs["CreatedAt"] == volume
    assert stack("preview", "--refresh", "--expect-no-changes").code == 0

    everything = stack("destroy", "--yes", "--data")
    assert everything.code == 0, everything.err
    assert stack.things() == {"containers": [], "networks": [], "volumes": []}
    assert not stack.state_file.exists()
    assert "nothing to remove" in stack("destroy", "--yes", "--data").err

    assert stack("up", "--yes").code == 0
    assert stack("outputs", "administratorPassword", "--show-secrets").out != secret.out


def test_the_engine_is_asked_only_where_something_changed(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a change neither engine nor program nor providers start; said, shown and written down is what they would have led to."""
    asked = 0
    begin = lifecycle.open_session

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return begin(*arguments, **options)

    monkeypatch.setattr(lifecycle, "open_session", counted)

    def up(*options: str, asks: bool) -> Outcome:
        before = asked
        done = stack("up", "--yes", *options)
        assert done.code == 0, done.err
        assert (asked > before) is asks, done.err
        return done

    up(asks=True)
    asking = up("--refresh", asks=True)
    state = stack.state_file.read_bytes()
    again = up(asks=False)
    assert re.sub(r"\([0-9.]+ s\)", "", again.err) == re.sub(r"\([0-9.]+ s\)", "", asking.err)
    assert again.out == asking.out
    assert stack.state_file.read_bytes() == state
    last, before = json.loads(stack("history", "--json").out)[:2]
    assert last["number"] == before["number"] + 1
    assert {key: last[key] for key in ("result", "changes", "program")} == {
        key: before[key] for key in ("result", "changes", "program")
    }
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "interactive", lambda: True)
        unasked = stack("up")
    assert unasked.code == 0, "there is nothing to agree to"
    assert json.loads(up("--json", asks=False).out)["services"][0]["service"] == "app"

    monkeypatch.setenv("TINY_MORE", "more")
    assert "1 resource changed" in up(asks=True).err
    up(asks=False)
    stack.docker.containers.get(f"tiny-{stack.name}-more").stop()
    stack.docker.networks.create(f"tiny-{stack.name}-lost", labels={"aikit.stack": stack.name})
    assert "1 resource changed" in up(asks=True).err
    assert stack.things()["networks"] == [f"tiny-{stack.name}"]
    up(asks=False)

    assert stack("rotate", "password", "--yes").code == 0
    up(asks=False)
    note = stack.root / ".aikit" / f"{stack.name}.unchanged.json"
    note.write_bytes(note.read_bytes()[:-20])
    assert "nothing to change" in up(asks=True).err

    # A run that fails leaves no note, and what was noted before it does not hold for the state that it leaves.
    monkeypatch.setenv("TINY_MORE", "more other")
    monkeypatch.setenv("TINY_IMAGE", "aikit-test/nowhere:1")
    for _ in range(2):
        assert stack("up", "--yes").code == 1


def test_destroy_leaves_neither_images_that_were_built_nor_volumes_without_a_name(
    stack: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "Containerfile").write_text(f"FROM {tiny.IMAGE}\nVOLUME /unnamed\n")
    monkeypatch.setenv("TINY_BUILD", str(tmp_path / "image"))
    assert stack("up", "--yes").code == 0
    image = f"aikit/{stack.name}:1"
    mounts = stack.docker.containers.get(f"tiny-{stack.name}-app").attrs["Mounts"]
    unnamed = {mount["Name"] for mount in mounts if mount["Destination"] == "/unnamed"}
    assert len(unnamed) == 1
    assert stack("destroy", "--yes", "--keep-images").code == 0
    assert unnamed.isdisjoint(str(volume.name) for volume in stack.docker.volumes.list())
    assert stack.docker.images.list(image)
    assert stack("up", "--yes").code == 0
    # One of an earlier version, and one that somebody else's container uses.
    stack.docker.images.get(image).tag(f"aikit/{stack.name}", "0")
    (tmp_path / "image" / "Containerfile").write_text(f"FROM {tiny.IMAGE}\nVOLUME /{stack.name}\n")
    used = f"aikit/{stack.name}:2"
    stack.docker.images.build(path=str(tmp_path / "image"), dockerfile="Containerfile", tag=used)
    container: Any = stack.docker.containers.run(used, ["/bin/sleep", "120"], detach=True)
    try:
        gone = stack("destroy", "--yes", "--data")
    finally:
        container.remove(v=True, force=True)
    assert gone.code == 0
    for number in (0, 1):
        assert f"removed image aikit/{stack.name}:{number}" in gone.err
    assert f"kept image {used}" in gone.err
    assert [tag for each in stack.docker.images.list(f"aikit/{stack.name}") for tag in each.tags] == [used]
    stack.docker.images.remove(used)


def test_nothing_is_written_beside_the_state_that_nobody_reads(stack: Tiny) -> None:
    assert stack("up", "--yes").code == 0
    assert {file.name for file in stack.state_file.parent.iterdir()} == {
        stack.state_file.name,
        f"{stack.state_file.name}.bak",
    }


def test_killed_up_is_finished_by_the_next(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while containers are made: Docker has some that the state does not know."""
    monkeypatch.setenv("TINY_MORE", "one two three four five six")
    process = stack.start("up", "--yes")
    wait_for(stack, f"tiny-{stack.name}-", process)
    process.send_signal(signal.SIGKILL)
    process.wait()

    after = stack("up", "--yes")
    assert after.code == 0, after.err
    assert len(stack.things()["containers"]) == 7
    latest = json.loads(stack.state_file.read_text())["checkpoint"]["latest"]
    assert not latest.get("pending_operations")
    assert stack("preview", "--refresh", "--expect-no-changes").code == 0


def test_orphans_and_pending_operations_are_cleared(stack: Tiny) -> None:
    """The worst case of a kill, made by hand: a container and a network of which only Docker knows, and a torn lock."""
    assert stack("up", "--yes").code == 0
    labels = {"aikit.stack": stack.name, "aikit.service": "lost"}
    stack.docker.networks.create(f"tiny-{stack.name}-lost", labels=labels)
    stack.docker.containers.create(
        "aikit-test/tiny:1", ["/bin/sleep", "1"], name=f"tiny-{stack.name}-lost", labels=labels
    )
    document = json.loads(stack.state_file.read_text())
    urn = f"urn:pulumi:{stack.name}::aikit::docker:index/container:Container::lost"
    document["checkpoint"]["latest"]["pending_operations"] = [
        {"type": "creating", "resource": {"urn": urn, "custom": True, "type": "docker:index/container:Container"}}
    ]
    stack.state_file.write_text(json.dumps(document))
    locks = stack.root / ".aikit" / "state" / ".pulumi" / "locks" / "organization" / "aikit" / stack.name
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "torn.json").write_text('{"pid": 12')

    after = stack("up", "--yes")
    assert after.code == 0, after.err
    assert "removing what an interrupted run left behind" in after.err
    assert stack.things()["containers"] == [f"tiny-{stack.name}-app"]
    assert stack.things()["networks"] == [f"tiny-{stack.name}"]
    assert not json.loads(stack.state_file.read_text())["checkpoint"]["latest"].get("pending_operations")
    assert not list(locks.iterdir())


def test_interrupted_up_ends_in_order(stack: Tiny) -> None:
    process = stack.start("up", "--yes")
    wait_for(stack, f"tiny-{stack.name}-app", process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode in {0, 130}, said
    assert "Traceback" not in said
    assert stack("up", "--yes").code == 0


def test_protected_data_is_not_destroyed(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_PROTECTS", "1")
    assert stack("up", "--yes").code == 0
    refused = stack("destroy", "--yes", "--data")
    assert refused.code == 1
    assert "aikit:protect-data" in refused.err
    assert stack.things()["containers"]
    assert stack("destroy", "--yes").code == 0
    assert stack.things()["volumes"]


def test_failures_are_told_by_resource(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_IMAGE", "aikit-test/nowhere:1")
    failed = stack("up", "--yes")
    assert failed.code == 1
    assert "error: container app:" in failed.err
    assert "aikit-test/nowhere" in failed.err
    assert "Traceback" not in failed.err
    assert "rpc error" not in failed.err

    monkeypatch.delenv("TINY_IMAGE")
    monkeypatch.setenv("TINY_RAISES", "the program has a mistake")
    raised = stack("up", "--yes")
    assert raised.code == 1
    assert "error: the program has a mistake" in raised.err
    assert "Traceback" not in raised.err
    log = stack.root / ".aikit" / "logs" / f"{stack.name}-up.log"
    assert "Traceback" in log.read_text(), "the whole story is kept for whoever wrote the program"


def test_logs_of_a_service(stack: Tiny) -> None:
    assert stack("up", "--yes").code == 0
    assert stack("logs", "app").code == 0
    # Else a connection that its other side has closed would end the whole process without a word.
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    missing = stack("logs", "nothing")
    assert missing.code == 2
    assert "there are: app" in missing.err


def test_a_data_volume_that_a_person_removed_is_made_again_as_declared(stack: Tiny) -> None:
    """Docker alone would make one without labels, which neither a backup nor `destroy` knows for data."""
    assert stack("up", "--yes").code == 0
    assert stack("destroy", "--yes").code == 0
    volume = f"tiny-{stack.name}-data"
    stack.docker.volumes.get(volume).remove()
    assert stack("up", "--yes").code == 0
    assert stack.docker.volumes.get(volume).attrs["Labels"]["aikit.data"] == "true"
    assert stack("preview", "--refresh", "--expect-no-changes").code == 0


@pytest.mark.parametrize(("argument", "health"), [("0", "healthy"), ("never", "starting")])
def test_what_docker_has_not_looked_at_yet_is_looked_at(
    stack: Tiny, tiny_image: str, argument: str, health: str
) -> None:
    from operations.containers import StackInDocker

    # sleep ends well with a number, and badly with anything else.
    check: dict[str, Any] = {"test": ["CMD", "/bin/sleep", argument], "interval": 60_000_000_000}
    made: Any = stack.docker.containers.run(
        tiny_image, ["/bin/sleep", "60"], detach=True, labels={"aikit.stack": stack.name}, healthcheck=check
    )
    try:
        made.reload()
        assert made.attrs["State"]["Health"]["Status"] == "starting"
        assert [each.health for each in StackInDocker(stack.docker, stack.name).containers()] == [health]
    finally:
        made.remove(force=True)
