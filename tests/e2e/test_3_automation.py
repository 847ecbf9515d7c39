"""The automation: people reach the editor as themselves, programs call webhooks, and workers lose nothing."""

import threading
import time
from typing import Any

import pytest
from playwright.sync_api import expect

from components.service import TEMPORARY
from tests.e2e.conftest import Deployed, Person
from tests.e2e.test_3_services import crash, redis, sql

WHO = "async () => (await (await fetch('/rest/login')).json()).data"
MEGABYTE = "redis.call('SET', KEYS[1], string.rep('x', 1048576), 'EX', 600)"

FORGE = """
import sys, urllib.error, urllib.request as request
headers = {"X-Signed-In-Email": "YWRtaW5AZXhhbXBsZS5vcmc", "X-Signed-In-Subject": "YQ", "X-Signed-In-Key": sys.argv[1]}
try: print(request.urlopen(request.Request("http://n8n:5678/rest/login", headers=headers), timeout=5).status)
except urllib.error.HTTPError as error: print(error.code)
"""


def ask(platform: Deployed, question: str = "Who are you?", **headers: str) -> Any:
    with platform.client() as client:
        return client.post(
            f"{platform.url('n8n')}/webhook/ask", json={"question": question}, headers=headers, timeout=90
        )


def key(platform: Deployed) -> dict[str, str]:
    return {"X-Api-Key": platform.run("n8n", "cat", "/run/secrets/sample-webhook-key")}


@pytest.mark.spec("BASE-03", "SSO-07", "SSO-08", "SSO-09", "SSO-22")
def test_the_administrator_owns_the_samples_and_signs_out_of_everything(platform: Deployed, person: Person) -> None:
    page, address = person.page, platform.url("n8n")
    person.sign_in(f"{address}/home/workflows", "admin")
    page.get_by_text("Ask a model over a webhook").first.wait_for()
    who = page.evaluate(WHO)
    assert (who["email"], who["role"]) == (platform.settings.keycloak.administrator_email, "global:owner")
    stored = page.evaluate("async () => (await (await fetch('/rest/credentials')).json()).data")
    assert {item["name"] for item in stored} >= {"Models of the platform", "PostgreSQL for workflows"}
    # The editor hears of what happens while it happens.
    page.goto(f"{address}/workflow/aikitRows0000001")
    page.locator('[data-test-id="execute-workflow-button"]').click()
    page.get_by_text("Workflow executed successfully").first.wait_for()
    assert int(sql(platform, "workflows", "SELECT count(*) FROM starts")) >= 1
    page.goto(platform.url("chat"))
    page.locator("#chat-input").wait_for()
    token = page.evaluate("() => localStorage.token")
    page.goto(f"{address}/signout")
    page.locator("#username").wait_for()
    # The chat is told, too: what it gave is worth nothing any more.
    deadline = time.monotonic() + 30
    with platform.client() as client:
        known = f"{platform.url('chat')}/api/v1/auths/"
        while client.get(known, headers={"Authorization": f"Bearer {token}"}).status_code != 401:
            assert time.monotonic() < deadline, "the chat's own token outlives the sign-out"
            time.sleep(0.5)
    page.goto(platform.url("metrics"), wait_until="domcontentloaded")
    page.locator("#username").wait_for()
    # The next person at the same browser is another one.
    person.sign_in(address, "edith")
    page.wait_for_url(f"{address}/**")
    who = page.evaluate(WHO)
    assert (who["email"], who["role"]) == ("edith@example.org", "global:member")
    workflows = page.evaluate("async () => (await (await fetch('/rest/workflows')).json()).data")
    assert workflows == []
    people = sql(
        platform, "n8n", "SELECT count(*) FROM \"user\" WHERE email IN ('admin@example.org', 'edith@example.org')"
    )
    assert people == "2"


@pytest.mark.spec("SSO-22")
def test_viewers_and_forged_headers_are_refused(platform: Deployed, person: Person) -> None:
    person.sign_in(platform.url("n8n"), "victor")
    expect(person.page.get_by_role("heading", name="Not allowed")).to_be_visible()
    for guess in ("", "x" * 32):
        assert platform.run("open-webui", "python3", "-c", FORGE, guess).strip() == "401"
    with platform.client() as client:
        forged = {"X-Signed-In-Email": "YWRtaW5AZXhhbXBsZS5vcmc", "X-Signed-In-Subject": "YQ"}
        for path in ("/rest/login", "/webhook/../rest/login", "/webhook/%2e%2e/rest/login"):
            answer = client.get(f"{platform.url('n8n')}{path}", headers=forged)
            assert answer.status_code in {302, 400, 401, 404}, path
            assert "global:" not in answer.text


@pytest.mark.spec("BASE-03", "RED-12", "TLS-14")
def test_a_webhook_is_answered_by_a_model_through_a_worker(platform: Deployed) -> None:
    assert ask(platform).status_code == 403
    answer = ask(platform, **key(platform))
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"].strip(), answer.text
    last = "SELECT id, status, mode FROM execution_entity WHERE \"workflowId\" = 'aikitAskModel001' ORDER BY id DESC LIMIT 1"
    number, status, mode = sql(platform, "n8n", last).split("|")
    assert (status, mode) == ("success", "webhook")
    assert f"Worker finished execution {number} " in platform.container("n8n-worker").logs(tail=200).decode()
    for service in ("n8n", "n8n-worker"):
        assert "sqlite" not in platform.run(service, "find", TEMPORARY, "-type", "f"), "the state is in PostgreSQL"


@pytest.mark.spec("RED-06", "RED-12")
def test_an_execution_waits_through_full_memory_until_a_worker_comes(platform: Deployed) -> None:
    """The cache's memory is filled, and then the queue's own, which drops nothing and refuses more."""
    worker, answers = platform.container("n8n-worker"), []
    headers = key(platform)
    evicted = int(redis(platform, "INFO", "stats").partition("evicted_keys:")[2].split()[0])
    worker.stop()
    try:
        caller = threading.Thread(target=lambda: answers.append(ask(platform, **headers)))
        caller.start()
        deadline = time.monotonic() + 30
        while redis(platform, "LLEN", "bull:jobs:wait", server="redis-queue") != "1":
            assert time.monotonic() < deadline, "the execution is not in the queue"
            time.sleep(0.2)
        fill = (
            'export REDISCLI_AUTH="$(cat /run/secrets/password)"; for i in $(seq 300); do '
            f'redis-cli -n 3 EVAL "{MEGABYTE}" 1 "fill:$i" >/dev/null; done'
        )
        platform.run("redis", "sh", "-c", fill)
        assert int(redis(platform, "INFO", "stats").partition("evicted_keys:")[2].split()[0]) > evicted
        refused = platform.container("redis-queue").exec_run(["sh", "-c", fill.replace(" >/dev/null", "")])
        assert b"OOM command not allowed" in refused.output
        assert redis(platform, "LLEN", "bull:jobs:wait", server="redis-queue") == "1"
        assert "evicted_keys:0" in redis(platform, "INFO", "stats", server="redis-queue")
    finally:
        redis(platform, "-n", "3", "FLUSHDB")
        redis(platform, "-n", "3", "FLUSHDB", server="redis-queue")
        worker.start()
    caller.join(timeout=90)
    assert [answer.status_code for answer in answers] == [200]


@pytest.mark.spec("K-08", "MNT-01")
def test_a_killed_worker_comes_back(platform: Deployed) -> None:
    crash(platform, "n8n-worker")
    answer = ask(platform, **key(platform))
    assert answer.status_code == 200, answer.text


def test_samples_are_imported_once(platform: Deployed) -> None:
    """What a person changed stays, and what was deleted stays away; a sample that is new to the database is added."""
    changed = "UPDATE workflow_entity SET name = '{}' WHERE id = 'aikitRows0000001' RETURNING name"
    there = "SELECT count(*) FROM credentials_entity WHERE id = 'aikitPostgres001'"
    before = sql(platform, "n8n", "SELECT name FROM workflow_entity WHERE id = 'aikitRows0000001'")
    sql(platform, "n8n", changed.format("Mine"))
    sql(platform, "n8n", "DELETE FROM credentials_entity WHERE id = 'aikitPostgres001'")
    workflows = "workflows: 0 imported, 2 left as they are"
    assert imported(platform) == ["credentials: 0 imported, 3 left as they are", workflows]
    assert sql(platform, "n8n", there) == "0"
    assert sql(platform, "n8n", "SELECT name FROM workflow_entity WHERE id = 'aikitRows0000001'") == "Mine"
    sql(platform, "n8n", changed.format(before))
    sql(platform, "n8n", "DELETE FROM settings WHERE key = 'aikit.sample.aikitPostgres001'")
    assert imported(platform) == ["credentials: 1 imported, 2 left as they are", workflows]
    assert sql(platform, "n8n", there) == "1"


def imported(platform: Deployed) -> list[str]:
    """Run the import again and return what it says of each kind."""
    job = platform.container("n8n-samples")
    job.start()
    assert job.wait()["StatusCode"] == 0
    return [line for line in job.logs(tail=20).decode().splitlines() if "left as they are" in line][-2:]
