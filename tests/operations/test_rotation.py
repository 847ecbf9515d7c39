"""Rotation of secrets, with real deployments of the tiny stack."""

import hashlib
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from operations import lifecycle, state
from tests.operations.conftest import Inbox, Tiny


def value(stack: Tiny) -> str:
    """Return the present value of the secret."""
    return stack("outputs", "administratorPassword", "--show-secrets").out.strip()


def used(stack: Tiny, container: str = "app") -> str:
    """Return the digest of the value that a container uses."""
    return stack.docker.containers.get(f"tiny-{stack.name}-{container}").labels["password"]


def digest(secret: str) -> str:
    """Return what a container says of a value that it uses."""
    return hashlib.sha256(secret.encode()).hexdigest()


def age(stack: Tiny, days: int) -> None:
    """Make every secret older, as only time does otherwise."""
    document = json.loads(stack.state_file.read_text())
    for resource in document["checkpoint"]["latest"]["resources"]:
        if resource["type"] == state.PASSWORD:
            # A minute more: the fraction of the second would be in the future now and then.
            made = datetime.now(UTC) - timedelta(days=days, minutes=1)
            resource["created"] = f"{made:%Y-%m-%dT%H:%M:%S.123456789Z}"
    stack.state_file.write_text(json.dumps(document))


@pytest.mark.spec("VLT-13", "VLT-14", "VLT-15")
def test_what_is_due_gets_a_new_value_and_everybody_is_told(
    stack: Tiny, monkeypatch: pytest.MonkeyPatch, inbox: Inbox
) -> None:
    monkeypatch.setenv("TINY_SECRETS", "key=forced first=never young=periodic")
    monkeypatch.setenv("AIKIT_MESSAGES", inbox.address)
    assert stack("up", "--yes").code == 0
    first = value(stack)
    assert used(stack) == digest(first)
    told = len(inbox.messages)
    before = stack.state_file.read_bytes()

    nothing = stack("rotate", "--due", "--yes")
    assert nothing.code == 0
    assert "no secret is due; the next is on" in nothing.err
    assert stack.state_file.read_bytes() == before
    assert len(inbox.messages) == told
    assert len(json.loads(stack("history", "--json").out)) == 1

    age(stack, 91)
    listed = {each["name"]: each for each in json.loads(stack("rotate", "--list", "--json").out)["secrets"]}
    assert {name: each["due"] for name, each in listed.items()} == {
        "password": True,
        "young": True,
        "key": False,
        "first": False,
    }
    assert (listed["password"]["ageDays"], listed["password"]["periodDays"]) == (91, 90)
    assert listed["password"]["services"] == ["app"]
    assert "due" in stack("rotate", "--list").out

    done = stack("rotate", "--due", "--yes")
    assert done.code == 0, done.err
    assert "new values for password, young" in done.err
    second = value(stack)
    assert second != first
    assert used(stack) == digest(second)
    assert "no secret is due" in stack("rotate", "--due", "--yes").err, "its age begins anew"
    last = json.loads(stack("history", "--json").out)[0]
    assert (last["result"], last["rotates"], last["rotated"]) == (
        "succeeded",
        ["password", "young"],
        ["password", "young"],
    )
    assert "new values: password, young" in stack("history").out
    assert inbox.messages[-1]["title"] == f"Stack {stack.name}: rotation of secrets succeeded"
    assert "Secrets with new values: password, young." in inbox.messages[-1]["message"]
    said = done.out + done.err + json.dumps(inbox.messages) + json.dumps(last) + stack.state_file.read_text()
    assert first not in said
    assert second not in said

    # A failure is told, too, and what has a new value keeps it.
    monkeypatch.setenv("TINY_IMAGE", "aikit-test/nowhere:1")
    failed = stack("rotate", "password", "--yes")
    assert failed.code == 1
    last = json.loads(stack("history", "--json").out)[0]
    assert (last["result"], last["rotated"]) == ("failed", ["password"])
    assert inbox.messages[-1]["title"].endswith("rotation of secrets failed")
    monkeypatch.delenv("TINY_IMAGE")
    after = stack("up", "--yes")
    assert after.code == 0, after.err
    assert used(stack) == digest(value(stack)) != digest(second)


@pytest.mark.spec("VLT-13", "VLT-14")
def test_what_must_not_be_replaced_blindly_is_not(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_SECRETS", "key=forced first=never")
    early = stack("rotate", "password", "--yes")
    assert early.code == 1
    assert f"was never deployed: run `./aikit up --stack {stack.name}`" in early.err
    assert stack("up", "--yes").code == 0
    before = stack.state_file.read_bytes()
    for arguments, said in (
        (["passwrod"], "no generated secret passwrod; did you mean password?"),
        (["key"], "key is rotated with --force only: it is forced."),
        (["password", "first"], "first is not rotated: it is never."),
        (["first", "--force"], "first is not rotated"),
        ([], "Say what to rotate"),
        (["password", "--due"], "Say what to rotate"),
        (["--due", "--force"], "--force goes with names only"),
    ):
        refused = stack("rotate", *arguments, "--yes")
        assert refused.code == 2, refused.err
        assert said in refused.err
    unasked = stack("rotate", "password")
    assert unasked.code == 2
    assert "run it with --yes" in unasked.err
    assert stack.state_file.read_bytes() == before
    forced = stack("rotate", "key", "--force", "--yes")
    assert forced.code == 0, forced.err
    assert "warning: key: it is forced." in forced.err
    assert json.loads(stack("history", "--json").out)[0]["rotated"] == ["key"]

    assert stack("destroy", "--yes").code == 0
    age(stack, 91)
    gone = stack("rotate", "--due", "--yes")
    assert gone.code == 0
    assert "not deployed, so nothing is rotated" in gone.err
    assert stack.things()["containers"] == []


@pytest.mark.spec("VLT-14")
def test_a_killed_rotation_is_finished_by_the_next_up(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL as soon as the state has the new value: it is neither lost nor made once more, and reaches everybody."""
    monkeypatch.setenv("TINY_MORE", "one two three four five six")
    assert stack("up", "--yes").code == 0
    first, born = value(stack), made(stack)
    process = stack.start("rotate", "password", "--yes")
    deadline = time.monotonic() + 120
    while made(stack) == born:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    began = made(stack)
    containers = ("app", "one", "two", "three", "four", "five", "six")

    after = stack("up", "--yes")
    assert after.code == 0, after.err
    second = value(stack)
    assert second != first
    assert made(stack) == began, "it was made once more"
    assert {used(stack, name) for name in containers} == {digest(second)}
    entries = json.loads(stack("history", "--json").out)
    assert [(each["result"], each["rotates"]) for each in entries[:2]] == [
        ("succeeded", []),
        ("interrupted", ["password"]),
    ]
    assert "new values asked for: password" in stack("history").out
    assert stack("preview", "--refresh", "--expect-no-changes").code == 0


def made(stack: Tiny) -> str:
    """Return when the secret was made, by the state; the engine may be writing it."""
    while True:
        try:
            resources = json.loads(stack.state_file.read_text())["checkpoint"]["latest"]["resources"]
        except (ValueError, FileNotFoundError):
            continue
        [found] = [
            str(each["created"])
            for each in resources
            if each["urn"].endswith("::password") and each["type"] == state.PASSWORD and not each.get("delete")
        ]
        return found


@pytest.mark.spec("VLT-14")
def test_a_login_is_outdated_while_its_provider_knows_the_former_secret() -> None:
    """Then nobody asks its service for anything before the next `up`, which could not log in."""
    secret = {
        "urn": "urn:pulumi:a::b::random:index/randomPassword:RandomPassword::login",
        "type": state.PASSWORD,
        "created": "2026-01-02T00:00:00.9Z",
    }
    provider = {
        "urn": "urn:pulumi:a::b::pulumi:providers:vault::provider",
        "type": "pulumi:providers:vault",
        "created": "2026-01-01T00:00:00Z",
        "modified": "2026-01-02T00:00:01.123456789Z",
        "dependencies": [secret["urn"]],
    }
    assert not state.State(resources=(secret, provider)).outdated_logins()
    late = {**secret, "created": "2026-01-02T00:00:01.2Z"}
    former = {**secret, "delete": True}
    known = state.State(resources=(late, former, provider))
    assert known.outdated_logins()
    assert not lifecycle.everything_runs(known, [])
    told = {**provider, "modified": "2026-01-02T00:00:02Z"}
    assert not state.State(resources=(late, former, told)).outdated_logins()
