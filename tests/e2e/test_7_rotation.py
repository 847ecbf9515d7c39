"""Rotation on the running platform: while people and programs use it, with failures of one reload at most, and nothing old left."""

import dataclasses
import html
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

import settings
from components.identity.names import CLIENT_SECRET
from components.secrets import names
from components.service import SECRETS
from operations import users
from operations.lifecycle import Options
from operations.project import Project
from tests.e2e.conftest import STACK, Deployed, Person, aikit
from tests.e2e.test_3_automation import ask, key
from tests.e2e.test_3_services import sql
from tests.e2e.test_6_secrets import Caller, sign_in

ANSWER_SECONDS = 10
"""A caller who waits longer has given up."""

PAUSE_SECONDS = 1

REPORT = settings.ROOT / ".aikit" / "rotation.json"
"""Where the measured failures are kept for docs/secrets.md."""


@dataclasses.dataclass
class Client:
    """Someone who asks for the same again and again."""

    name: str
    request: Callable[[httpx.Client], httpx.Response]
    status: int
    needs: frozenset[str]
    """Services without which there is no answer."""
    tries: list[tuple[float, float, str]] = dataclasses.field(default_factory=list[tuple[float, float, str]])
    """Begin, end and what was wrong of each."""

    def run(self, platform: Deployed, ended: threading.Event) -> None:
        """Ask until told to stop."""
        while not ended.is_set():
            began, wrong = time.monotonic(), ""
            try:
                with platform.client() as client:
                    client.timeout = httpx.Timeout(ANSWER_SECONDS)
                    answer = self.request(client)
                if answer.status_code != self.status:
                    wrong = str(answer.status_code)
            except httpx.HTTPError as error:
                wrong = type(error).__name__
            self.tries.append((began, time.monotonic(), wrong))
            ended.wait(PAUSE_SECONDS)

    def longest(self) -> float:
        """Return how long the longest stretch of failures was, in seconds."""
        return max((window[-1][1] - window[0][0] for window in self.windows()), default=0.0)

    def windows(self) -> list[list[tuple[float, float, str]]]:
        """Return the failures, those without a success between them together."""
        found: list[list[tuple[float, float, str]]] = []
        failing = False
        for each in self.tries:
            if each[2]:
                if not failing:
                    found.append([])
                found[-1].append(each)
            failing = bool(each[2])
        return found


@contextmanager
def load(platform: Deployed, clients: list[Client]) -> Generator[None]:
    """Let the clients ask while something happens, and some seconds before and after."""
    ended = threading.Event()
    threads = [threading.Thread(target=client.run, args=(platform, ended)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        time.sleep(5)
        yield
        time.sleep(10)
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def sign_in_by_hand(client: httpx.Client, chat: str, username: str, password: str) -> httpx.Response:
    """Sign in to the chat from nothing, page by page; answers 200 once the chat has given its own token."""
    page = client.get(f"{chat}/oauth/oidc/login", follow_redirects=True)
    form = re.search(r'action="([^"]+)"', page.text)
    if page.status_code != 200 or form is None:
        return httpx.Response(page.status_code if page.status_code != 200 else 500)
    given = {"username": username, "password": password, "credentialId": ""}
    answer = client.post(html.unescape(form[1]), data=given)
    while answer.is_redirect and "token" not in client.cookies:
        answer = client.get(answer.headers["location"])
    return httpx.Response(200 if "token" in client.cookies else 500)


def identities(platform: Deployed) -> Mapping[str, str]:
    """Return the identifier of each service's container."""
    return {service.name: str(platform.container(service.name).id) for service in platform.services}


def secret(platform: Deployed, service: str, file: str) -> str:
    """Return what a service's file holds."""
    return platform.run(service, "cat", f"{SECRETS}/{file}")


def refused_by_keycloak(platform: Deployed, client_id: str, value: str) -> bool:
    """Whether Keycloak takes a client's secret for wrong; the code that goes with it is wrong in any case."""
    with platform.client() as client:
        realm = f"{platform.url('auth')}/realms/{platform.settings.keycloak.realm}"
        form = {"grant_type": "authorization_code", "code": "none", "redirect_uri": platform.url("n8n")}
        answer = client.post(
            f"{realm}/protocol/openid-connect/token", data={**form, "client_id": client_id, "client_secret": value}
        )
    assert answer.json()["error"] in {"unauthorized_client", "invalid_client", "invalid_grant"}, answer.text
    return answer.json()["error"] != "invalid_grant"


def stored(platform: Deployed, browser: Browser, service: str) -> tuple[int, dict[str, str]]:
    """Return the version of a service's entry in Vault, and its secrets."""
    data = administrator(platform, browser).read(f"{names.MOUNT}/data/{names.entry(service)}")
    return int(data["metadata"]["version"]), data["data"]


def administrator(platform: Deployed, browser: Browser) -> Caller:
    """Return an administrator who has signed in to Vault."""
    answer = sign_in(platform, browser, "admin", names.ADMIN)
    assert answer.status_code == 200, answer.text
    return Caller(platform=platform, token=answer.json()["auth"]["client_token"])


def psql(platform: Deployed, role: str, password: str) -> int:
    """Log in to a database by network, and return the exit code."""
    command = ["psql", "--host=127.0.0.1", f"--username={role}", f"--dbname={role}", "-c", "SELECT 1"]
    done = platform.container("postgres").exec_run(command, environment={"PGPASSWORD": password})
    return int(done.exit_code)


@pytest.mark.spec("VLT-13", "VLT-14", "VLT-15", "SSO-02")
def test_secrets_are_rotated_under_load(platform: Deployed, browser: Browser, person: Person) -> None:
    chat, automation = platform.url("chat"), platform.url("n8n")
    person.sign_in(chat, "edith")
    person.page.wait_for_url(f"{chat}/")
    person.page.wait_for_function("() => localStorage.token")
    token = {"Authorization": f"Bearer {person.page.evaluate('() => localStorage.token')}"}
    webhook = key(platform)
    realm = f"{platform.url('auth')}/realms/{platform.settings.keycloak.realm}"
    clients = [
        Client("chat", lambda client: client.get(f"{chat}/health"), 200, frozenset({"open-webui"})),
        Client(
            "chat, signed in",
            lambda client: client.get(f"{chat}/api/v1/auths/", headers=token),
            200,
            frozenset({"open-webui", "redis", "postgres"}),
        ),
        Client(
            "webhook",
            lambda client: client.post(f"{automation}/webhook/ask", json={"question": "?"}, headers=webhook),
            200,
            frozenset({"n8n", "n8n-worker", "redis-queue", "postgres", "ollama"}),
        ),
        Client(
            "chat, signing in",
            lambda client: sign_in_by_hand(client, chat, "victor", platform.passwords["victor"]),
            200,
            frozenset({"open-webui", "keycloak", "redis", "postgres"}),
        ),
        # The proxy in front believes in the sign-in proxy as long as n8n answers through it.
        Client("sign-in", lambda client: client.get(automation), 302, frozenset({"sign-in-proxy", "n8n"})),
        Client(
            "Keycloak",
            lambda client: client.get(f"{realm}/.well-known/openid-configuration"),
            200,
            frozenset({"keycloak", "postgres"}),
        ),
    ]
    before = identities(platform)
    former = {
        "redis": secret(platform, "redis", "password"),
        "postgres": secret(platform, "n8n", "database-password"),
        "sign-in-proxy": stored(platform, browser, "sign-in-proxy")[1]["n8n-client-secret"],
    }
    versions = {name: stored(platform, browser, name)[0] for name in ("redis", "postgres", "sign-in-proxy", "vault")}
    began = time.monotonic()
    with load(platform, clients):
        done = aikit("rotate", "postgres-n8n-password", "redis-password", "n8n-client-secret", "--yes")
    took = time.monotonic() - began

    # Failures: for each service that was replaced one window, and none where none was.
    after = identities(platform)
    replaced = {name for name in before if before[name] != after[name]}
    users = {"n8n", "n8n-worker", "open-webui", "redis", "redis-exporter", "sign-in-proxy"}
    assert replaced == {*users, *names.AGENTS}
    report = {
        client.name: {
            "requests": len(client.tries),
            "failed": [
                {
                    "at": round(window[0][0] - began, 1),
                    "until": round(window[-1][1] - began, 1),
                    "as": sorted({each[2] for each in window}),
                    "count": len(window),
                }
                for window in client.windows()
            ],
        }
        for client in clients
    }
    REPORT.write_text(json.dumps({"seconds": round(took, 1), **report}, indent=1), encoding="utf-8")
    for client in clients:
        assert len(client.windows()) <= len(client.needs & replaced), json.dumps(report[client.name])
        assert len(client.tries) > 10
        assert not client.tries[0][2], f"{client.name}: {client.tries[0][2]} before anything was rotated"
        assert not client.tries[-1][2], f"{client.name}: {client.tries[-1][2]} at the end"
        # Redis, n8n and its worker are replaced one after the other; all else waits for one start.
        assert client.longest() < (150 if client.name == "webhook" else 60), json.dumps(report[client.name])

    # The old ones open nothing, the new ones do, and Vault has them.
    present = {name: stored(platform, browser, name) for name in versions}
    assert {name: version - versions[name] for name, (version, _) in present.items()} == {
        "redis": 1,
        "postgres": 0,
        "sign-in-proxy": 1,
        "vault": 0,
    }
    check = 'REDISCLI_AUTH="$1" redis-cli ping 2>&1'
    assert "WRONGPASS" in platform.run("redis", "sh", "-c", check, "sh", former["redis"])
    assert platform.run("redis", "sh", "-c", check, "sh", present["redis"][1]["redis-password"]).strip() == "PONG"
    assert psql(platform, "n8n", former["postgres"])
    database = administrator(platform, browser).read(names.database_credentials("n8n"))["password"]
    assert (
        secret(platform, "n8n", "database-password") == secret(platform, "n8n-worker", "database-password") == database
    )
    assert psql(platform, "n8n", database) == 0
    assert refused_by_keycloak(platform, "n8n", former["sign-in-proxy"])
    assert not refused_by_keycloak(platform, "n8n", present["sign-in-proxy"][1]["n8n-client-secret"])
    values = {database, *former.values(), *present["redis"][1].values(), *present["sign-in-proxy"][1].values()}
    last = aikit("history", "--json").stdout
    assert not any(value in done.stdout + done.stderr + last for value in values)
    assert json.loads(last)[0]["rotated"] == ["postgres-n8n-password", "redis-password", "n8n-client-secret"]

    # People sign in, and who was signed in at the chat still is.
    with platform.client() as client:
        assert client.get(f"{chat}/api/v1/auths/", headers=token).json()["email"] == "edith@example.org"
    person.page.goto(f"{automation}/home/workflows")
    person.page.wait_for_url(f"{automation}/**")
    who = person.page.evaluate("async () => (await (await fetch('/rest/login')).json()).data")
    assert who["email"] == "edith@example.org"


@pytest.mark.spec("VLT-05", "VLT-14", "TLS-17", "SSO-02")
def test_what_was_taken_at_the_first_start_only_is_rotated_too(platform: Deployed, browser: Browser) -> None:
    """The deployment's own logins, the superuser, the samples' secrets, and the private key of the public certificate."""
    rotated = (
        "postgres-password",
        "postgres-keycloak-password",
        "postgres-workflows-password",
        names.DATABASE_SECRET,
        "n8n-sample-webhook-key",
        CLIENT_SECRET,
        names.DEPLOYMENT_SECRET,
        names.AGENT_SECRET,
        "certificate-key",
    )
    former = {name: secret(platform, service, file) for name, service, file in SUPERUSER_AND_SAMPLE}
    logins = stored(platform, browser, "vault")[1]
    serial, keycloak, realm = certificate(platform), platform.container("keycloak").id, known_to_keycloak(platform)
    aikit("rotate", *rotated, "--yes")

    # Another Keycloak on the same database: everybody and every client is who it was.
    assert platform.container("keycloak").id != keycloak
    assert known_to_keycloak(platform) == realm

    present = {name: secret(platform, service, file) for name, service, file in SUPERUSER_AND_SAMPLE}
    assert psql(platform, "postgres", former["postgres-password"])
    assert psql(platform, "postgres", present["postgres-password"]) == 0
    assert ask(platform, **{"X-Api-Key": former["n8n-sample-webhook-key"]}).status_code == 403
    assert ask(platform, **{"X-Api-Key": present["n8n-sample-webhook-key"]}).status_code == 200
    assert certificate(platform) != serial
    address = f"http://127.0.0.1:{platform.settings.vault.port}/v1/auth/approle/login"
    for role, name in ((names.DEPLOYMENT, names.DEPLOYMENT_SECRET), (names.AGENT, names.AGENT_SECRET)):
        assert httpx.post(address, json={"role_id": role, "secret_id": logins[name]}).status_code == 400
    # The deployment itself still gets in everywhere, and nothing is left to do.
    assert aikit("users", "list").returncode == 0
    assert aikit("preview", "--refresh", "--expect-no-changes").returncode == 0
    renewed = platform.container("n8n-samples").logs().decode()
    for name in ("PostgreSQL for workflows", "Key of the sample webhook"):
        assert f'the secret of "{name}" was renewed' in renewed
    assert sql(platform, "n8n", "SELECT count(*) FROM credentials_entity WHERE id LIKE 'aikit%'") == "3"


SUPERUSER_AND_SAMPLE = (
    ("postgres-password", "postgres", "password"),
    ("n8n-sample-webhook-key", "n8n", "sample-webhook-key"),
)


def known_to_keycloak(platform: Deployed) -> dict[str, str]:
    """Return the identifiers of the realm's clients and people, by name."""
    realm = ("realms", platform.settings.keycloak.realm)
    with users.administration(Options(Project(), STACK)) as admin:
        clients, people = admin.get(*realm, "clients"), admin.get(*realm, "users", max="100")
    return {each["clientId"]: each["id"] for each in clients} | {each["username"]: each["id"] for each in people}


def certificate(platform: Deployed) -> Any:
    """Return what the proxy shows."""
    return ssl.get_server_certificate(("127.0.0.1", platform.settings.https_port))


@pytest.mark.spec("VLT-13")
def test_the_list_tells_of_every_secret(platform: Deployed) -> None:
    del platform
    listed = {each["name"]: each for each in json.loads(aikit("rotate", "--list", "--json").stdout)["secrets"]}
    assert listed["redis-password"]["ageDays"] == 0
    assert not any(each["due"] for each in listed.values())
    refused = aikit("rotate", "n8n-encryption-key", "--yes", check=False)
    assert refused.returncode == 2
    assert "n8n encrypts the credentials" in refused.stderr
    assert f"stack {STACK}: no secret is due" in aikit("rotate", "--due", "--yes").stderr
