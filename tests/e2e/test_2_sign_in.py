"""One login: people sign in at Keycloak and are themselves in the chat."""

import dataclasses
import json
import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import Deployed, Person, aikit
from tests.e2e.test_4_monitoring import query

WHO = "async () => (await fetch('/api/v1/auths/', {headers: {Authorization: 'Bearer ' + localStorage.token}})).json()"
ASK = """async (model) => {
  const answer = await fetch('/api/chat/completions', {method: 'POST',
    headers: {Authorization: 'Bearer ' + localStorage.token, 'Content-Type': 'application/json'},
    body: JSON.stringify({model, stream: false, messages: [{role: 'user', content: 'Hello'}]})});
  return [answer.status, await answer.json()];
}"""


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


@pytest.mark.spec("SSO-24", "SSO-25")
def test_discovery_is_keycloaks_own_and_the_same_for_browsers_and_containers(platform: Deployed) -> None:
    address = f"{platform.url('auth')}/realms/aikit/.well-known/openid-configuration"
    with platform.client() as client:
        outside = client.get(address).json()
        assert client.get(outside["userinfo_endpoint"]).status_code == 401
    inside = platform.run(
        "open-webui",
        "python3",
        "-c",
        "import json,ssl,sys,urllib.request as u; print(json.dumps(json.load(u.urlopen(sys.argv[1], timeout=10,"
        " context=ssl.create_default_context(cafile='/etc/aikit/authority.pem')))))",
        address,
    )
    assert json.loads(inside) == outside
    assert outside["issuer"] == f"{platform.url('auth')}/realms/aikit"


@pytest.mark.spec("SSO-02", "K-03", "SEC-08")
def test_nobody_signs_in_past_keycloak(platform: Deployed) -> None:
    with platform.client() as client:
        chat = platform.url("chat")
        body = {"email": "admin@example.org", "password": "x", "name": "x"}
        assert client.post(f"{chat}/api/v1/auths/signin", json=body).status_code in {400, 401, 403}
        assert client.post(f"{chat}/api/v1/auths/signup", json=body).status_code in {400, 401, 403}
        token = f"{platform.url('auth')}/realms/aikit/protocol/openid-connect/token"
        password = {
            "grant_type": "password",
            "client_id": "open-webui",
            "username": "admin",
            "password": platform.outputs["administratorPassword"],
        }
        assert client.post(token, data=password).status_code in {400, 401}
        master = f"{platform.url('auth')}/realms/master/protocol/openid-connect/token"
        for user in ("admin", "pulumi"):
            grant = {**password, "client_id": "admin-cli", "username": user}
            assert "access_token" not in client.post(master, data=grant).json()


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
    page.locator("#username").fill("ada")
    page.locator("#password").fill(added["password"])
    page.locator("#kc-login").click()
    chosen = "a password of her own"
    page.locator("#password-new").fill(chosen)
    page.locator("#password-confirm").fill(chosen)
    page.keyboard.press("Enter")
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
    page.locator("#username").fill("ada")
    page.locator("#password").fill(chosen)
    page.locator("#kc-login").click()
    page.locator("#chat-input").wait_for()
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
    listed = {row["username"]: row for row in json.loads(aikit("users", "list", "--json").stdout)}
    assert (listed["ada"]["enabled"], listed["ada"]["declared"]) == (False, False)
    assert {name: row["role"] for name, row in listed.items()} == {
        "ada": "editor",
        "admin": "admin",
        "edith": "editor",
        "victor": "viewer",
    }
    person.open_sign_in(chat)
    page.locator("#username").fill("ada")
    page.locator("#password").fill(chosen)
    page.locator("#kc-login").click()
    expect(page.get_by_text("Account is disabled")).to_be_visible()
    log = platform.container("keycloak").logs(tail=400).decode()
    for event in ('type=\\"LOGIN\\"', 'type=\\"LOGIN_ERROR\\"', 'type=\\"LOGOUT\\"'):
        assert event in log, event
    refused = 'sum by (job) (keycloak_user_events_total{event="login",error="user_disabled"}) >= 1'
    wait_for(lambda: "keycloak" in query(platform, refused))
    # A user name that is taken is no other person's.
    again = aikit("users", "add", "ada", "--email", "other@example.org", check=False)
    assert (again.returncode, "is taken" in again.stderr) == (2, True)
