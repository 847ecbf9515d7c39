"""One login: people sign in at Keycloak and are themselves in the chat."""

import base64
import dataclasses
import json
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from components.ai.open_webui import FIRST_ACCOUNT
from components.service import SECRETS, clients_of
from operations import users
from operations.lifecycle import Options
from operations.project import Project
from settings import ROOT, Role
from tests.authorization import code_request
from tests.e2e.conftest import STACK, Deployed, Person, aikit
from tests.e2e.test_3_services import sql
from tests.e2e.test_4_monitoring import query

WHO = "async () => (await fetch('/api/v1/auths/', {headers: {Authorization: 'Bearer ' + localStorage.token}})).json()"
ASK = """async (model) => {
  const answer = await fetch('/api/chat/completions', {method: 'POST',
    headers: {Authorization: 'Bearer ' + localStorage.token, 'Content-Type': 'application/json'},
    body: JSON.stringify({model, stream: false, messages: [{role: 'user', content: 'Hello'}]})});
  return [answer.status, await answer.json()];
}"""

FETCH = """
import json, ssl, sys, urllib.request
known = ssl.create_default_context(cafile="/etc/aikit/authority.pem")
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]} if sys.argv[2] else {})
print(json.dumps(json.load(urllib.request.urlopen(request, timeout=10, context=known))))
"""
"""Asks for a document, in a container that trusts the platform's authority."""
PAGES = {"api": "/v1/models", "metrics": "/graph"}
"""What is asked for where the first page is none, or only leads elsewhere."""


@pytest.mark.spec("SSO-17", "SSO-06")
def test_a_viewer_who_comes_first_is_no_administrator(platform: Deployed, person: Person) -> None:
    """The chat itself would make the very first one who signs in its administrator."""
    assert sql(platform, "open-webui", 'SELECT email FROM "user"') == FIRST_ACCOUNT, "somebody was here before"
    person.sign_in(platform.url("chat"), "victor")
    person.page.locator("#chat-input").wait_for()
    who = person.page.evaluate(WHO)
    assert (who["email"], who["role"]) == ("victor@example.org", "user")


@pytest.mark.spec("BASE-01", "BASE-02", "SSO-01", "SSO-06", "SSO-14", "SSO-15", "SSO-18")
def test_the_administrator_signs_in_and_gets_an_answer_from_a_model(platform: Deployed, person: Person) -> None:
    person.sign_in(platform.url("chat"), "admin")
    person.page.locator("#chat-input").wait_for()
    who = person.page.evaluate(WHO)
    assert (who["email"], who["role"]) == (platform.settings.keycloak.administrator_email, "admin")
    person.screenshot("chat")
    person.ask("Hello")
    answer = person.page.locator("#response-content-container").first
    expect(answer).to_have_text(re.compile(r"\S"), timeout=90_000)
    expect(person.page.get_by_text("does not support tools")).to_have_count(0)
    # Nor is anyone shown release notes first.
    expect(person.page.get_by_role("dialog")).to_have_count(0)
    person.screenshot("answer")
    status, completion = person.page.evaluate(ASK, "tiny:latest")
    assert status == 200, completion
    assert completion["choices"][0]["message"]["content"].strip()


@pytest.mark.spec("SSO-06", "SSO-16", "SSO-17", "SSO-19")
@pytest.mark.parametrize("username", ["edith", "victor"])
def test_others_get_accounts_of_their_own_without_administration(
    platform: Deployed, person: Person, username: str
) -> None:
    person.sign_in(platform.url("chat"), username)
    person.page.locator("#chat-input").wait_for()
    who = person.page.evaluate(WHO)
    assert (who["email"], who["role"]) == (f"{username}@example.org", "user")
    status = person.page.evaluate(
        "async () => (await fetch('/api/v1/users/', {headers: {Authorization: 'Bearer ' + localStorage.token}})).status"
    )
    assert status in {401, 403}
    status, completion = person.page.evaluate(ASK, "tiny:latest")
    assert status == 200, completion


@pytest.mark.spec("SSO-01")
def test_a_wrong_password_is_refused(platform: Deployed, person: Person) -> None:
    person.open_sign_in(platform.url("chat"))
    person.page.locator("#username").fill("admin")
    person.page.locator("#password").fill("not the password")
    person.screenshot("sign-in")
    person.page.locator("#kc-login").click()
    expect(person.page.get_by_text("Invalid username or password.")).to_be_visible()
    assert person.page.url.startswith(platform.url("auth"))


@pytest.mark.spec("WUI-02")
def test_the_sign_in_page_speaks_spanish_to_those_who_do(platform: Deployed, browser: Browser) -> None:
    context = browser.new_context(locale="es-ES")
    page = context.new_page()
    page.goto(platform.url("chat"), wait_until="domcontentloaded")
    expect(page.get_by_role("button", name=re.compile("Iniciar|Acceder|Entrar"))).to_be_visible(timeout=30_000)
    expect(page.locator("#kc-header-wrapper")).to_have_text(platform.settings.chat.title)
    context.close()


@pytest.mark.spec("SSO-24")
def test_discovery_is_keycloaks_own_and_the_same_for_browsers_and_containers(platform: Deployed) -> None:
    address = f"{platform.url('auth')}/realms/aikit/.well-known/openid-configuration"
    with platform.client() as client:
        outside = client.get(address).json()
    assert json.loads(platform.run("open-webui", "python3", "-c", FETCH, address, "")) == outside
    assert outside["issuer"] == f"{platform.url('auth')}/realms/aikit"


@pytest.mark.spec("SSO-25")
@pytest.mark.parametrize(("username", "roles"), [("edith", ["user"]), ("victor", ["user"]), ("admin", ["admin"])])
def test_userinfo_says_who_the_caller_is_from_outside_and_from_a_container(
    platform: Deployed, person: Person, username: str, roles: list[str]
) -> None:
    token = access_token(platform, person, username)
    address = f"{platform.url('auth')}/realms/aikit/protocol/openid-connect/userinfo"
    with platform.client() as client:
        assert client.get(address).status_code == 401
        answer = client.get(address, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    known = answer.json()
    assert (known["preferred_username"], known["email"], known["email_verified"], known["roles"]) == (
        username,
        f"{username}@example.org",
        True,
        roles,
    )
    assert json.loads(platform.run("open-webui", "python3", "-c", FETCH, address, token)) == known
    # What somebody may do elsewhere is nothing that this client's tokens tell.
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert set(claims.get("resource_access", {})) <= {"open-webui"}
    assert "admin" not in claims.get("realm_access", {}).get("roles", [])


def access_token(platform: Deployed, person: Person, username: str) -> str:
    """Return a token of the chat's client, by the same steps as the chat gets one."""
    realm = f"{platform.url('auth')}/realms/aikit/protocol/openid-connect"
    back = f"{platform.url('chat')}/oauth/oidc/callback"
    asked, verifier = code_request(back)
    # The chat gets the code, too, and does nothing with it: it never asked for it.
    with person.page.expect_request(lambda request: request.url.startswith(back), timeout=60_000) as returned:
        person.sign_in(f"{realm}/auth?{urlencode(asked)}", username)
    code = parse_qs(urlsplit(returned.value.url).query)["code"][0]
    given = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
    with platform.client() as client:
        answer = client.post(f"{realm}/token", data=given, auth=("open-webui", client_secret(platform)))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def client_secret(platform: Deployed) -> str:
    """Return the secret of the chat's client, as the chat has it."""
    return platform.run("open-webui", "sh", "-c", f'. {SECRETS}/environment; printf %s "$OAUTH_CLIENT_SECRET"')


@pytest.mark.spec("SSO-01", "SSO-14", "SSO-15", "SSO-16", "SSO-17", "SSO-20")
@pytest.mark.parametrize("username", ["admin", "edith", "victor"])
def test_one_login_opens_what_the_role_may_enter_and_nothing_else(
    platform: Deployed, person: Person, username: str
) -> None:
    """Every host that people sign in to, against docs/access.md: the password is typed once."""
    role = {"admin": Role.ADMIN, "edith": Role.EDITOR, "victor": Role.VIEWER}[username]
    clients = [client for service in platform.services for client in clients_of(service)]
    person.sign_in(platform.url("chat"), username)
    person.page.locator("#chat-input").wait_for()
    table = (ROOT / "docs" / "access.md").read_text()
    entered: dict[str, bool] = {}
    for client in clients:
        if client.host in {"chat", "vault"}:
            continue  # Entered above; Vault's page shows nothing before it is asked to sign in.
        page = person.context.new_page()
        # A service that has nothing at / is entered all the same.
        answer = page.goto(f"{platform.url(client.host)}{PAGES.get(client.host, '/')}")
        assert answer is not None
        assert page.url.startswith(platform.url(client.host)), "the password is asked for again"
        entered[client.host] = answer.status == 200
        assert answer.status in {200, 403}
        page.close()
        row = next(line for line in table.splitlines() if f"| `{client.host}.<domain>` |" in line)
        cell = row.split("|")[3 + list(Role).index(role)].strip()
        assert entered[client.host] == (cell != "refused"), row
    assert entered.keys() >= {"n8n", "alerts", "metrics", "api"}


@pytest.mark.spec("SEC-05", "SEC-08")
def test_nobody_signs_in_past_keycloaks_page(platform: Deployed) -> None:
    """Not with the right password either, at no client: there no second factor could be asked for."""
    with platform.client() as client:
        chat = platform.url("chat")
        body = {"email": "admin@example.org", "password": platform.passwords["admin"], "name": "x"}
        assert client.post(f"{chat}/api/v1/auths/signin", json=body).status_code in {400, 401, 403}
        assert client.post(f"{chat}/api/v1/auths/signup", json=body).status_code in {400, 401, 403}
        secret = platform.run("open-webui", "sh", "-c", f'. {SECRETS}/environment; printf %s "$WEBUI_ADMIN_PASSWORD"')
        first = {"email": FIRST_ACCOUNT, "password": secret}
        assert client.post(f"{chat}/api/v1/auths/signin", json=first).status_code in {400, 401, 403}
        token = f"{platform.url('auth')}/realms/aikit/protocol/openid-connect/token"
        password = {"grant_type": "password", "username": "admin", "password": platform.passwords["admin"]}
        refused = client.post(token, data=password, auth=("open-webui", client_secret(platform)))
        assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")
        # Keycloak makes this client, which may do it, in every realm; what the realm lets it do is nothing.
        refused = client.post(token, data={**password, "client_id": "admin-cli"})
        assert refused.status_code == 401, refused.text
        assert "access_token" not in refused.text


@pytest.mark.spec("SSO-04", "K-03")
def test_the_bootstrap_administrator_is_gone_and_all_clients_are_declared(platform: Deployed) -> None:
    """Nobody has an account in the realm that manages all others; the deployment's client is all that is in it."""
    with users.administration(Options(Project(), STACK)) as admin:
        assert admin.get("realms", "master", "users") == []
        known = {client["clientId"]: client for client in admin.get("realms", "master", "clients")}
    assert {name for name, client in known.items() if client.get("serviceAccountsEnabled")} == {"pulumi"}
    listed = {row["name"]: row for row in json.loads(aikit("users", "clients", "--json").stdout)}
    declared = {client.client_id for service in platform.services for client in clients_of(service)}
    assert declared | {"program-reports"} <= listed.keys()
    for name in declared:
        assert (listed[name]["ways"], listed[name]["enabled"]) == (["authorization code"], True)
        assert all(address.startswith(("https://", "http://localhost:")) for address in listed[name]["redirects"])
    assert listed["program-reports"]["ways"] == ["client credentials"]
    # Those that are not declared are Keycloak's own.
    own = {"account", "account-console", "admin-cli", "broker", "realm-management", "security-admin-console"}
    assert listed.keys() - declared - {"program-reports"} == own


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.spec("SSO-04", "SSO-19", "SEC-03", "SEC-08")
def test_someone_is_added_signs_in_signs_out_and_is_locked_out(platform: Deployed, person: Person) -> None:
    added = json.loads(aikit("users", "add", "ada", "--email", "ada@example.org", "--role", "editor", "--json").stdout)
    chat, page = platform.url("chat"), person.page
    person.open_sign_in(chat)
    person.give("ada", added["password"])
    chosen = "a password of her own"
    person.choose_password(chosen)
    page.locator("#chat-input").wait_for()
    assert page.evaluate(WHO)["role"] == "user"
    editor = platform.url("n8n")

    def enters() -> bool:
        """Whether n8n's page comes to the browser's session, and not a way to the login."""
        with platform.client() as client:
            client.cookies.update(
                {str(cookie.get("name")): str(cookie.get("value")) for cookie in person.context.cookies(editor)}
            )
            return client.get(f"{editor}/").status_code == 200

    page.goto(editor, wait_until="domcontentloaded")
    assert enters()
    page.goto(chat)
    page.locator("#chat-input").wait_for()

    # Signing out of the chat is signing out of everything.
    leave = page.evaluate(
        "async () => (await fetch('/api/v1/auths/signout', {method: 'POST',"
        " headers: {Authorization: 'Bearer ' + localStorage.token}})).json()"
    )
    # In another page: the chat's own notices that it was signed out, and leaves, too.
    person = dataclasses.replace(person, page=person.context.new_page())
    page.close()
    page = person.page
    page.goto(leave["redirect_url"])
    page.evaluate("() => localStorage.clear()")
    wait_for(lambda: not enters())
    person.open_sign_in(chat)
    person.give("ada", chosen)
    person.arrive_at_chat()
    token = page.evaluate("() => localStorage.token")
    with platform.client() as client:

        def asked() -> int:
            return client.get(f"{chat}/api/v1/auths/", headers={"Authorization": f"Bearer {token}"}).status_code

        page.goto(editor, wait_until="domcontentloaded")
        assert asked() == 200
        assert enters()
        # They hear of it from Keycloak, while the page is open.
        aikit("users", "disable", "ada")
        wait_for(lambda: asked() == 401)
        wait_for(lambda: not enters())
    # Let in again, given another role and a new password: each is a command, and each ends what was open.
    assert json.loads(aikit("users", "enable", "ada", "--json").stdout)["enabled"] is True
    assert json.loads(aikit("users", "set-role", "ada", "viewer", "--json").stdout)["role"] == "viewer"
    renewed = json.loads(aikit("users", "reset", "ada", "--json").stdout)
    person.open_sign_in(chat)
    person.give("ada", chosen)
    expect(page.get_by_text("Invalid username or password.")).to_be_visible()
    person.give("ada", renewed["password"])
    chosen = "another one of her own"
    person.choose_password(chosen)
    person.arrive_at_chat()
    refused = person.context.new_page().goto(editor)
    assert refused is not None
    assert refused.status == 403
    last = aikit("users", "disable", "admin", check=False)
    assert (last.returncode, "no other administrator is left" in last.stderr) == (2, True)
    assert json.loads(aikit("users", "set-role", "ada", "editor", "--json").stdout)["role"] == "editor"
    aikit("users", "disable", "ada")
    listed = {row["username"]: row for row in json.loads(aikit("users", "list", "--json").stdout)}
    assert (listed["ada"]["enabled"], listed["ada"]["declared"]) == (False, False)
    assert {name: row["role"] for name, row in listed.items()} == {
        "ada": "editor",
        "admin": "admin",
        "edith": "editor",
        "victor": "viewer",
    }
    person.open_sign_in(chat)
    person.give("ada", chosen)
    expect(page.get_by_text("Account is disabled")).to_be_visible()
    log = platform.container("keycloak").logs(tail=400).decode()
    for event in ('type=\\"LOGIN\\"', 'type=\\"LOGIN_ERROR\\"', 'type=\\"LOGOUT\\"'):
        assert event in log, event
    refused = 'sum by (job) (keycloak_user_events_total{event="login",error="user_disabled"}) >= 1'
    wait_for(lambda: "keycloak" in query(platform, refused))
    # What Keycloak keeps of it has what people did and what was done to their accounts.
    kept = json.loads(aikit("users", "events", "ada", "--json", "--count", "100").stdout)
    assert {(each["what"], each["error"]) for each in kept} >= {
        ("login", ""),
        ("login", "user_disabled"),
        ("login", "invalid_user_credentials"),
        ("create user", ""),
        ("update user", ""),
    }
    changed = next(each for each in kept if each["what"] == "update user")
    assert (changed["who"], changed["of"]) == ("the deployment", "users/ada")
    assert "edith" not in json.dumps(kept)
    # Changes are counted, the new account among them.
    made = 'sum by (job) (http_server_requests_seconds_count{method="POST",outcome="SUCCESS",uri="/admin/realms/{realm}/users"})'
    wait_for(lambda: query(platform, made).get("keycloak", 0) >= len(listed))
    # A user name that is taken is no other person's.
    again = aikit("users", "add", "ada", "--email", "other@example.org", check=False)
    assert (again.returncode, "is taken" in again.stderr) == (2, True)
