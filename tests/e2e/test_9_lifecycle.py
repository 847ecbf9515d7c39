"""The life of a deployment: nothing to change, one change, things removed by hand, a killed run, an end. It runs last."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from playwright.sync_api import Browser

import settings
from operations import locks
from tests.e2e.conftest import ASK_MODEL, KEEP, STACK, Deployed, Person, aikit
from tests.e2e.test_3_services import crash
from toolchain import docker_engine
from toolchain.docker_engine import SYSTEMD

DAEMON = Path("/var/run/docker.pid")
"""Where Docker's daemon says which process it is."""

DATA = (
    "alertmanager-data",
    "ollama-models",
    "open-webui-data",
    "postgres-data",
    "prometheus-data",
    "redis-data",
    "redis-queue-data",
    "vault-data",
    "vault-key",
)
"""Volumes with what people or services made; all others are written by the deployment."""

LABEL: dict[str, str | list[str] | bool] = {"label": f"aikit.stack={STACK}"}


def identities(platform: Deployed) -> dict[str, str | None]:
    containers = platform.docker.containers.list(filters={"label": f"aikit.stack={STACK}"})
    return {container.labels["aikit.service"]: container.id for container in containers}


@pytest.mark.spec("INF-04")
def test_a_second_up_changes_nothing_and_says_so(platform: Deployed) -> None:
    before = identities(platform)
    assert "nothing to change" in aikit("up", "--yes").stderr
    assert identities(platform) == before
    aikit("preview", "--refresh", "--expect-no-changes")


@pytest.mark.spec("OPS-01", "CFG-04")
def test_a_changed_setting_changes_only_what_depends_on_it(platform: Deployed) -> None:
    file = settings.ROOT / f"Pulumi.{STACK}.yaml"
    original = file.read_text()
    before = identities(platform)
    document = yaml.safe_load(original)
    document["config"]["aikit:redis-max-memory-mb"] = 128
    try:
        file.write_text(yaml.safe_dump(document))
        aikit("up", "--yes")
        after = identities(platform)
        assert {name for name in after if after[name] != before.get(name)} == {"redis"}
    finally:
        file.write_text(original)
    aikit("up", "--yes")


@pytest.mark.spec("OPS-02")
def test_a_wrong_setting_changes_nothing(platform: Deployed) -> None:
    file = settings.ROOT / f"Pulumi.{STACK}.yaml"
    original = file.read_text()
    before = identities(platform)
    try:
        file.write_text(original + "  aikit:edge-requests-per-10-seconds: many\n")
        refused = aikit("up", "--yes", check=False)
    finally:
        file.write_text(original)
    assert refused.returncode == 2
    assert "edge-requests-per-10-seconds" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert identities(platform) == before


@pytest.mark.spec("K-08")
def test_what_was_removed_by_hand_comes_back(platform: Deployed) -> None:
    platform.container("redis").remove(force=True)
    platform.container("open-webui").stop(timeout=1)
    aikit("up", "--yes")
    health = platform.health()
    assert (health["redis"], health["open-webui"]) == ("healthy", "healthy")
    aikit("preview", "--refresh", "--expect-no-changes")


@pytest.mark.spec("K-08", "MNT-01")
def test_everything_that_crashes_comes_back_by_itself(platform: Deployed) -> None:
    before = identities(platform)
    crash(platform, *before)
    assert identities(platform) == before
    assert platform.run("open-webui", "python3", "-c", ASK_MODEL).strip() == "200"


def own_daemon(platform: Deployed) -> psutil.Process:
    """Return Docker's daemon, which this test is about to end; skip where that would be somebody else's loss."""
    others = [
        str(container.name)
        for container in platform.docker.containers.list(ignore_removed=True)
        if container.labels.get("aikit.stack") != STACK
    ]
    reasons = {
        "it restarts Docker's daemon, so it runs only where the variable CI is true": os.environ.get("CI") != "true",
        f"it would stop other containers: {', '.join(others)}": bool(others),
        "the daemon is systemd's or another machine's, not one that ./aikit started": (
            SYSTEMD.is_dir() or "DOCKER_HOST" in os.environ or os.geteuid() != 0 or not DAEMON.is_file()
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            pytest.skip(reason)
    daemon = psutil.Process(int(DAEMON.read_text()))
    if daemon.cmdline() != ["dockerd"]:
        pytest.skip(f"the daemon has options of its own: {' '.join(daemon.cmdline())}")
    return daemon


@pytest.mark.spec("K-08", "RED-02")
def test_a_restart_of_docker_brings_everything_back_with_its_data(platform: Deployed, person: Person) -> None:
    daemon = own_daemon(platform)
    database = ("postgres", "psql", "-U", "postgres", "-d", "open-webui", "-Atc")
    password = 'export REDISCLI_AUTH="$(cat /run/secrets/password)"; exec redis-cli "$@"'
    cache = ("redis", "sh", "-c", password, "sh")
    counted = (*database, 'SELECT (SELECT count(*) FROM "user"), (SELECT count(*) FROM chat)')
    platform.run(*database, "CREATE TABLE restarted (at text); INSERT INTO restarted VALUES ('before')")
    platform.run(*cache, "SET", "restarted", "before")
    # What Redis has not written to its log within a second may be lost in a crash, but this is none.
    people, models = platform.run(*counted), platform.run("ollama", "ollama", "list")
    before = identities(platform)

    process = locks.identity(daemon.pid)
    daemon.terminate()
    deadline = time.monotonic() + 120
    # Not psutil's wait, which waits for ever where nobody reaps orphans.
    while locks.alive(process):
        assert time.monotonic() < deadline, "Docker's daemon does not end"
        time.sleep(0.1)
    docker_engine.ensure_docker(lambda _: None, lambda _: False, log=settings.ROOT / docker_engine.LOG)

    deadline = time.monotonic() + 300
    while True:
        containers = platform.docker.containers.list(filters=LABEL, ignore_removed=True)
        waiting = [each.name for each in containers if each.attrs["State"].get("Health", {}).get("Status") != "healthy"]
        if not waiting and len(containers) == len(before):
            break
        assert time.monotonic() < deadline, f"not healthy: {waiting}, {len(containers)} of {len(before)} run"
        time.sleep(1)
    assert identities(platform) == before
    assert platform.run(*database, "SELECT at FROM restarted").strip() == "before"
    assert platform.run(*cache, "GET", "restarted").strip() == "before"
    assert platform.run(*counted) == people
    assert [line.split()[:2] for line in platform.run("ollama", "ollama", "list").splitlines()] == [
        line.split()[:2] for line in models.splitlines()
    ]
    platform.run(*database, "DROP TABLE restarted")
    platform.run(*cache, "DEL", "restarted")
    person.sign_in(platform.url("chat"), "admin")
    person.page.locator("#chat-input").wait_for()
    assert platform.run("open-webui", "python3", "-c", ASK_MODEL).strip() == "200"
    aikit("preview", "--refresh", "--expect-no-changes")


def begin_up() -> "subprocess.Popen[bytes]":
    """Begin to deploy in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "operations", "up", "--yes"],
        cwd=settings.ROOT,
        env={**os.environ, "AIKIT_STACK": STACK, "PYTHONPATH": str(settings.ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.skipif(KEEP, reason="a kept stack is not torn down")
@pytest.mark.spec("BKP-04")
def test_destroy_keeps_data_and_a_killed_up_is_finished_by_the_next(platform: Deployed, person: Person) -> None:
    before = json.loads(aikit("outputs", "--json", "--show-secrets").stdout)
    aikit("destroy", "--yes", "--keep-images")
    assert not platform.docker.containers.list(all=True, filters=LABEL)
    assert not platform.docker.networks.list(filters=LABEL)
    kept = {volume.name for volume in platform.docker.volumes.list(filters=LABEL)}
    assert kept == {f"aikit-{STACK}-{name}" for name in DATA}
    run = begin_up()
    deadline = time.monotonic() + 180
    while not platform.docker.containers.list(filters=LABEL) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    aikit("up", "--yes")
    after = json.loads(aikit("outputs", "--json", "--show-secrets").stdout)
    assert after == before
    person.sign_in(platform.url("chat"), "admin")
    person.page.locator("#chat-input").wait_for()
    history = person.page.evaluate(
        "async () => (await fetch('/api/v1/chats/', {headers: {Authorization: 'Bearer ' + localStorage.token}})).json()"
    )
    assert history, "the conversations of before are gone"


@pytest.mark.skipif(KEEP, reason="a kept stack is not torn down")
@pytest.mark.spec("OPS-01")
def test_a_first_up_that_is_killed_in_the_middle_of_vault_and_of_the_realm_is_finished(
    platform: Deployed, browser: Browser
) -> None:
    """All of its processes end at once, as they do when the power fails; what they had made has no entry in the state."""
    aikit("destroy", "--yes", "--data", "--keep-images")
    for prefix in ("vault:index/audit", "vault:", "keycloak:", "keycloak:"):
        run = begin_up()
        wait_until_made(run, prefix)
        processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)
        run.wait()
    aikit("up", "--yes")
    assert set(platform.health().values()) <= {"healthy", "done"}
    aikit("preview", "--refresh", "--expect-no-changes")
    outputs = json.loads(aikit("outputs", "--json", "--show-secrets").stdout)
    # Another platform has another authority, which the tests' browser does not know.
    context = browser.new_context(ignore_https_errors=True)
    anew = dataclasses.replace(platform, outputs=outputs)
    person = Person(platform=anew, context=context, page=context.new_page())
    person.sign_in(anew.url("chat"), "admin")
    person.page.locator("#chat-input").wait_for(timeout=60_000)
    context.close()


def wait_until_made(run: "subprocess.Popen[bytes]", prefix: str) -> None:
    """Wait until something of a provider is being made, by the state, which the engine may be writing."""
    file = settings.ROOT / ".aikit" / "state" / ".pulumi" / "stacks" / settings.PROJECT / f"{STACK}.json"
    deadline = time.monotonic() + 300
    while True:
        assert run.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        try:
            pending = json.loads(file.read_text())["checkpoint"]["latest"].get("pending_operations") or ()
        except (ValueError, KeyError, TypeError, OSError):
            pending = ()
        if any(each["type"] == "creating" and each["resource"]["type"].startswith(prefix) for each in pending):
            return
        time.sleep(0.005)


@pytest.mark.skipif(KEEP, reason="a kept stack is not torn down")
def test_destroy_with_data_leaves_nothing(platform: Deployed) -> None:
    aikit("destroy", "--yes", "--data", "--keep-images")
    assert not platform.docker.containers.list(all=True, filters=LABEL)
    assert not platform.docker.networks.list(filters=LABEL)
    assert not platform.docker.volumes.list(filters=LABEL)
