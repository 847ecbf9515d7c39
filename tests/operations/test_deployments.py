"""History, rollback, drift and messages, with real deployments of the tiny stack.

Rollbacks run the real launcher in a folder that is a project of its own: this repository with the tiny stack for its platform.
"""

import io
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from operations import history
from operations.history import Entry, History, Result
from operations.project import Project
from tests.operations import tiny
from tests.operations.conftest import ROOT, Inbox, Outcome, Tiny, free_port, wait_for, without_own_environment

PLATFORM = '''\
"""The tiny stack in place of the platform; the first label of the domain names a further container."""

import os

from components.images import Machine as Machine
from tests.operations import tiny


def deploy(settings, machine, stack):
    first, _, rest = settings.domain.partition(".")
    # Nothing of the run that failed, whose process began this one.
    for name in [name for name in os.environ if name.startswith("TINY_")]:
        del os.environ[name]
    os.environ.update({variables} | ({{"TINY_MORE": first}} if rest else {{}}))
    tiny.deploy(settings, machine, stack)
'''


@dataclass(frozen=True)
class Checkout(Tiny):
    """A project of its own, with a program that can be released anew."""

    def __call__(self, *arguments: str) -> Outcome:
        """Run the project's own launcher."""
        done = subprocess.run(
            [self.root / "aikit", arguments[0], "--stack", self.name, *arguments[1:]],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def release(self, **variables: str) -> str:
        """Change the program, commit it where there is git, and return the revision."""
        (self.root / "components" / "platform.py").write_text(PLATFORM.format(variables=variables))
        if not (self.root / ".git").exists():
            return ""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A release")
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        """Run git in the project."""
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True
        ).stdout

    def history(self) -> list[dict[str, Any]]:
        """Return the deployments, the last one first."""
        return json.loads(self("history", "--json").out)

    def put(self, content: bytes) -> None:
        """Write a file into the data volume."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("accounts")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        assert self.docker.containers.get(f"tiny-{self.name}-app").put_archive("/data", archive.getvalue())

    def data(self) -> tuple[str, bytes]:
        """Return the data volume's birth and the file in it."""
        volume = self.docker.volumes.get(f"tiny-{self.name}-data")
        chunks, _ = self.docker.containers.get(f"tiny-{self.name}-app").get_archive("/data/accounts")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            file = tar.extractfile("accounts")
            assert file
            return volume.attrs["CreatedAt"], file.read()


@pytest.fixture
def checkout(
    tmp_path: Path,
    client: docker.DockerClient,
    tiny_image: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Generator[Checkout]:
    del tiny_image
    without_own_environment(monkeypatch)
    root = tmp_path / "a project"
    for folder in ("components", "operations", "policies", "providers", "toolchain", "tests/operations"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("aikit", "settings.py", "requirements.lock", ".gitignore", "Pulumi.yaml", "tests/__init__.py"):
        shutil.copy(ROOT / file, root / file)
    # The policies are about the platform; this is another one.
    (root / "policies" / "catalogue.py").write_text("POLICIES = ()\nBY_ID = {}\n")
    (root / ".venv").symlink_to(sys.prefix)
    made = Checkout(root, f"t{secrets.token_hex(4)}", client, capsys)
    made.set()
    yield made
    made.clear()


@pytest.mark.spec("CI-03")
def test_a_release_that_breaks_is_rolled_back_by_itself(checkout: Checkout) -> None:
    """A health check that fails brings back the last good program and its settings, and the data stays what it was."""
    checkout.git("init", "--quiet")
    good = checkout.release(TINY_HEALTH="0")
    first = checkout("up", "--yes")
    assert first.code == 0, first.err
    checkout.put(b"ada, edith")
    before = checkout.data()

    bad = checkout.release(TINY_HEALTH="broken", TINY_PROTECTS="1", TINY_VOLUMES="archive")
    checkout.set(domain="worker.localhost")
    broken = checkout("up", "--yes", "--rollback-on-failure")
    assert broken.code == 1, broken.err
    assert "error: container app:" in broken.err
    assert f"returned to deployment 1 ({good[:12]}" in broken.err
    assert checkout.things()["containers"] == [f"tiny-{checkout.name}-app"], "the settings are those of then, too"
    app = checkout.docker.containers.get(f"tiny-{checkout.name}-app")
    assert app.attrs["Config"]["Healthcheck"]["Test"] == ["CMD", "/bin/sleep", "0"]
    (described,) = json.loads(checkout("status", "--json").out)["services"]
    assert described["health"] == "healthy"
    assert checkout.data() == before
    volumes = [f"tiny-{checkout.name}-archive", f"tiny-{checkout.name}-data"]
    assert checkout.things()["volumes"] == volumes, "what the bad release kept its data in is not removed, either"
    assert "worker.localhost" in checkout.file.read_text(), "the folder's files are nobody's but the person's"

    back, failed, up = checkout.history()
    assert (up["result"], up["commit"], up["changes"]) == ("succeeded", good, {"created": 4})
    assert (failed["result"], failed["commit"], failed["modified"]) == ("failed", bad, True)
    assert "container app" in failed["reason"]
    assert (back["result"], back["command"], back["returns_to"], back["commit"]) == ("succeeded", "rollback", 1, good)


@pytest.mark.spec("SEC-04", "CI-02", "OPS-05")
def test_a_violation_of_a_mandatory_policy_is_never_deployed(checkout: Checkout) -> None:
    """Neither by `up` nor under the name of a return; `plan` and `policies` end with 1, for pipelines."""
    (checkout.root / "policies" / "catalogue.py").write_text(
        "from policies.containers import POLICIES as CONTAINERS\n"
        "POLICIES = tuple(policy for policy in CONTAINERS if policy.id == 'health-check')\n"
        "BY_ID = {policy.id: policy for policy in POLICIES}\n"
    )
    checkout.release()
    for command in (["plan"], ["policies"], ["up", "--yes"], ["up", "--yes", "--rollback-on-failure"]):
        refused = checkout(*command)
        assert refused.code == 1, refused.err
        assert "health-check: app: " in refused.out + refused.err
    assert "breaks a mandatory policy (see above); nothing was changed" in refused.err
    assert checkout.things() == {"containers": [], "networks": [], "volumes": []}
    assert not checkout.state_file.exists()

    checkout.release(TINY_HEALTH="0")
    for command in (["plan"], ["policies"], ["up", "--yes"]):
        allowed = checkout(*command)
        assert allowed.code == 0, allowed.err
    assert [entry["result"] for entry in checkout.history()] == ["succeeded", "failed", "failed"]

    checkout.release()
    disguised = checkout("up", "--yes", "--returns-to", "3")
    assert disguised.code == 2, disguised.err
    assert f"run `./aikit rollback 3 --stack {checkout.name}`" in disguised.err
    app = checkout.docker.containers.get(f"tiny-{checkout.name}-app")
    assert app.attrs["Config"]["Healthcheck"]["Test"] == ["CMD", "/bin/sleep", "0"]


@pytest.mark.spec("CI-03", "OPS-05")
def test_rollback_goes_back_step_by_step_and_to_a_number(checkout: Checkout) -> None:
    """Without git, too: the program is kept by its files."""
    name = checkout.name
    checkout.release()
    for domain in ("localhost", "second.localhost", "third.localhost"):
        checkout.set(domain=domain)
        assert checkout("up", "--yes").code == 0
    volume = checkout.docker.volumes.get(f"tiny-{name}-data").attrs["CreatedAt"]

    def further() -> list[str]:
        return [each.rpartition("-")[2] for each in checkout.things()["containers"]]

    assert further() == ["app", "third"]
    back = checkout("rollback", "--yes")
    assert back.code == 0, back.err
    assert further() == ["app", "second"]
    assert checkout("rollback", "--yes").code == 0
    assert further() == ["app"], "a second time it goes on, not to and fro"
    assert checkout("rollback", "3", "--yes").code == 0
    assert further() == ["app", "third"]
    assert [entry["returns_to"] for entry in checkout.history()] == [3, 1, 2, None, None, None]
    assert {entry["commit"] for entry in checkout.history()} == {""}
    assert checkout.docker.volumes.get(f"tiny-{name}-data").attrs["CreatedAt"] == volume

    unknown = checkout("rollback", "99", "--yes")
    assert unknown.code == 2
    assert "those that succeeded and are kept: 1, 2, 3, 4, 5, 6" in unknown.err
    assert further() == ["app", "third"]

    # A program that would replace the data volume does not come back.
    checkout.release(TINY_TEAM="research")
    assert checkout("up", "--yes").code == 0
    refused = checkout("rollback", "1", "--yes")
    assert refused.code == 1
    assert "Going back would replace volume data, which holds data; nothing was changed" in refused.err
    assert further() == ["app", "third"]
    assert checkout.history()[0]["result"] == "failed"


def entries(stack: Tiny) -> list[Entry]:
    return History(tiny.project(stack.root), stack.name).entries()


@pytest.mark.spec("OPS-05")
def test_history_tells_who_when_what_and_how_it_ended(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Success, failure, a killed run and one that nobody agreed to."""
    monkeypatch.setenv("GITLAB_USER_LOGIN", "edith")
    monkeypatch.setenv("CI_JOB_URL", "https://git.example.org/jobs/7")
    assert stack("up", "--yes").code == 0
    monkeypatch.setenv("TINY_IMAGE", "aikit-test/nowhere:1")
    assert stack("up", "--yes").code == 1
    monkeypatch.delenv("TINY_IMAGE")
    monkeypatch.setenv("TINY_MORE", "one two three four five six")
    process = stack.start("up", "--yes")
    wait_for(stack, f"tiny-{stack.name}-one", process)
    assert json.loads(stack("history", "--json").out)[0]["result"] == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()

    good, failed, killed = entries(stack)
    assert [each.result for each in (good, failed, killed)] == [Result.SUCCEEDED, Result.FAILED, Result.INTERRUPTED]
    assert good.changes == {"created": 4}
    assert good.who.startswith("edith@")
    assert good.run == "https://git.example.org/jobs/7"
    assert good.seconds
    assert good.seconds > 0
    assert "nowhere" in failed.reason
    assert killed.seconds is None
    assert len({each.program for each in (good, failed, killed)}) == 1, "the same files are the same program"
    shown = stack("history").out
    assert "interrupted" in shown
    assert "edith@" in shown

    # A person who does not agree has deployed nothing.
    monkeypatch.setattr("operations.lifecycle.interactive", lambda: True)
    monkeypatch.setattr("operations.lifecycle._approve", lambda *_, **__: False)
    assert stack("up").code == 1
    assert entries(stack)[-1].result is Result.DECLINED
    # With no other program there is nothing to return to.
    assert "no earlier good deployment" in stack("rollback", "--yes").err


@pytest.mark.spec("CI-03")
def test_what_is_unhealthy_at_the_end_has_failed(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the engine did not wait for it."""
    monkeypatch.setenv("TINY_HEALTH", "broken")
    monkeypatch.setenv("TINY_HASTE", "1")
    done = stack("up", "--yes")
    assert done.code == 3, done.err
    assert f"Container tiny-{stack.name}-app is unhealthy after the deployment" in done.err
    assert entries(stack)[-1].result is Result.FAILED


def test_ten_programs_and_the_last_good_one_are_kept(stack: Tiny) -> None:
    """The oldest go, but never the one that a failure returns to."""
    deployments = History(tiny.project(stack.root), stack.name)
    for number in range(history.KEPT_PROGRAMS + 3):
        (stack.root / "program.py").write_text(f"number = {number}")
        with pytest.raises(RuntimeError) if number != 1 else nullcontext(), deployments.begin():
            if number != 1:
                raise RuntimeError("broken")
    kept = [entry.number for entry in entries(stack) if deployments.program(entry).is_dir()]
    assert kept == [2, *range(4, history.KEPT_PROGRAMS + 4)]
    good = deployments.last_good()
    assert good
    assert (deployments.program(good) / "program.py").read_text() == "number = 1"


def test_the_policies_judge_a_program_once_a_day(tmp_path: Path) -> None:
    """Only what was deployed, with every file the same and on the same day: exemptions end, and settings change the plan."""
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {}\n")
    deployments = History(Project(root=tmp_path), "dev")

    def deploy(result: Result) -> Entry:
        record = deployments.begin()
        deployments.end(record.entry.model_copy(update={"result": result}))
        return record.entry

    assert not deployments.judged(deploy(Result.FAILED))
    first = deploy(Result.SUCCEEDED)
    again = deploy(Result.FAILED)
    assert deployments.judged(again)
    assert not deployments.judged(again.model_copy(update={"started": again.started + timedelta(days=1)}))
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {'aikit:http-port': 81}\n")
    changed = deploy(Result.FAILED)
    assert changed.program != first.program
    assert not deployments.judged(changed)


def test_what_is_no_program_is_not_kept(tmp_path: Path) -> None:
    """Neither what runs make nor secrets nor data, whether git tells or not."""
    for file in ("settings.py", ".aikit/passphrase", ".venv/bin/python", "edge.key", "model.gguf", "notes.txt"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    with (tmp_path / "model.gguf").open("wb") as model:
        model.truncate(history.LARGEST_BYTES + 1)
    assert set(history.program_files(tmp_path)) == {"settings.py", "notes.txt"}
    (tmp_path / ".gitignore").write_text("/.aikit/\n/.venv/\n*.key\n")
    for command in (["init", "--quiet"], ["add", "settings.py"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert set(history.program_files(tmp_path)) == {"settings.py", "notes.txt", ".gitignore"}


@pytest.mark.spec("INF-04")
def test_drift_tells_what_was_changed_by_hand_and_nothing_else(stack: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Properties with both values, missing and foreign things; the state stays byte for byte."""
    monkeypatch.setenv("TINY_MORE", "other")
    never = stack("drift")
    assert never.code == 1
    assert "never deployed" in never.err
    assert stack("up", "--yes").code == 0
    same = stack("drift", "--json")
    assert (same.code, json.loads(same.out)["differences"]) == (0, []), same.err
    state = stack.state_file.read_bytes()

    app = stack.docker.containers.get(f"tiny-{stack.name}-app")
    app.update(mem_limit="512m", memswap_limit="512m", cpuset_cpus="0", cpu_quota=50_000)
    changed = stack("drift", "--json")
    assert changed.code == 3, changed.err
    [difference] = json.loads(changed.out)["differences"]
    assert (difference["kind"], difference["name"], difference["by"]) == ("changed", "container app", "host")
    assert {"path": "memory", "expected": 256, "found": 512} in difference["properties"]
    assert {item["path"] for item in difference["properties"]} == {"memory", "memorySwap", "cpuSet", "cpuQuota"}
    assert "memory: 512 instead of 256" in stack("drift").err

    stack.docker.containers.get(f"tiny-{stack.name}-other").remove(force=True)
    stack.docker.networks.create(f"tiny-{stack.name}-mine", labels={"aikit.stack": stack.name})
    more = json.loads(stack("drift", "--json").out)
    assert more["complete"] is False
    assert {(each["kind"], each["name"]) for each in more["differences"]} == {
        ("changed", "container app"),
        ("missing", "container other"),
        ("unknown", f"network tiny-{stack.name}-mine"),
    }
    assert stack.state_file.read_bytes() == state

    # up makes it right, and then a change of the program is told apart from one by hand.
    assert stack("up", "--yes").code == 0
    assert stack("drift").code == 0
    monkeypatch.setenv("TINY_HEALTH", "0")
    program = json.loads(stack("drift", "--json").out)["differences"]
    assert {(each["name"], each["by"]) for each in program} == {
        ("container app", "program"),
        ("container other", "program"),
    }


@pytest.mark.spec("CI-04")
def test_messages_arrive_and_a_dead_receiver_changes_nothing(
    stack: Tiny, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the settings' file and the environment, for success and failure."""
    dead = f"json://127.0.0.1:{free_port()}/t0ken"
    receivers = stack.root / "receivers"
    receivers.write_text(f"# operators\n\n{inbox.address}\n")
    stack.set(deployments_messages_file=str(receivers))
    monkeypatch.setenv("AIKIT_MESSAGES", dead)
    monkeypatch.setenv("CI_JOB_URL", "https://git.example.org/jobs/7")

    made = stack("up", "--yes")
    assert made.code == 0, made.err
    assert "did not reach address 1 of AIKIT_MESSAGES" in made.err
    [message] = inbox.messages
    assert message["title"] == f"Stack {stack.name}: deployment succeeded"
    assert message["type"] == "success"
    for word in ("Deployment 1 of files ", "4 created", "https://git.example.org/jobs/7"):
        assert word in message["message"]

    monkeypatch.setenv("TINY_IMAGE", "aikit-test/nowhere:1")
    failed = stack("up", "--yes")
    assert failed.code == 1
    assert inbox.messages[1]["type"] == "failure"
    assert "aikit-test/nowhere" in inbox.messages[1]["message"]
    assert "t0ken" not in made.err + made.out + failed.err + failed.out, "whoever knows an address can write there"

    monkeypatch.setenv("AIKIT_MESSAGES", "no address")
    wrong = stack("up", "--yes")
    assert wrong.code == 2
    assert "address 1 of AIKIT_MESSAGES is no address of a receiver" in wrong.err
    stack.set(deployments_messages_file="nowhere")
    monkeypatch.delenv("AIKIT_MESSAGES")
    assert "aikit:deployments-messages-file is 'nowhere'" in stack("up", "--yes").err
    assert len(inbox.messages) == 2
    assert len(entries(stack)) == 2, "what was refused beforehand is no deployment"


@pytest.mark.spec("CI-03", "CI-04")
def test_people_are_told_of_a_rollback(checkout: Checkout, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message for the failure and what came of it, and one for a rollback that a person orders, also with broken settings."""
    monkeypatch.setenv("AIKIT_MESSAGES", inbox.address)
    checkout.release()
    assert checkout("up", "--yes").code == 0
    checkout.release(TINY_IMAGE="aikit-test/nowhere:1")
    assert checkout("up", "--yes", "--rollback-on-failure").code == 1
    assert [message["title"].partition(": ")[2] for message in inbox.messages] == [
        "deployment succeeded",
        "deployment failed, return to deployment 1 succeeded",
    ]
    assert inbox.messages[1]["type"] == "warning"
    assert checkout("rollback", "1", "--yes").code == 0
    assert inbox.messages[2]["title"].endswith("return to deployment 1 succeeded")
    checkout.file.write_text("config: {aikit:nonsense: 1}")
    back = checkout("rollback", "1", "--yes")
    assert back.code == 0, back.err
    assert "Nobody is told of this" in back.err
