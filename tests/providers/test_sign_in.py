"""The platform's realm on a real Keycloak by the real engine: who gets in by what, judged at its login pages."""

import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pulumi
import pulumi_random as random
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from playwright.sync_api import Page, sync_playwright

from components.ai.open_webui import OpenWebui
from components.context import Platform
from components.identity import realm
from components.images import Machine
from operations.errors import Failure
from operations.users import People
from settings import Role, User, parse
from tests.authorization import code_request
from tests.providers.conftest import CLIENT_ID, CLIENT_SECRET, Program, Run, Server

Stacks = Callable[[Program], Run]
_Answer = TypeVar("_Answer")
REALM = "people"
PARTNER = "partner"
CHAT = "https://chat.localhost"
CALLBACK = f"{CHAT}/oauth/oidc/callback"
PERIOD = 30
"""Seconds that a one-time password is for."""

SETTLE_SECONDS = 20
"""How long Keycloak may take to count a login."""


@dataclass
class _Form:
    """A form of a page: where it is sent, the names of its fields, and those values that are there already."""

    action: str
    names: set[str] = field(default_factory=set[str])
    filled: dict[str, str] = field(default_factory=dict[str, str])


class _Forms(HTMLParser):
    """The forms of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[_Form] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(_Form(values.get("action", "")))
        elif tag in {"input", "button"} and self.found and "name" in values:
            form = self.found[-1]
            form.names.add(values["name"])
            if values.get("type") in {"hidden", "text", "email"}:
                form.filled[values["name"]] = values.get("value", "")

    def of(self, names: Iterable[str]) -> _Form:
        """Return the first form that has these fields; a page may have another one for passkeys."""
        return next(form for form in self.found if set(names) <= form.names)


class _SafeMachine(httpx.HTTPTransport):
    """Takes this machine for safe without TLS, as browsers do: cookies for safe connections are kept."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        answer.headers = httpx.Headers(
            [(name, value.replace(";Secure", "")) for name, value in answer.headers.multi_items()]
        )
        return answer


@dataclass
class Visitor:
    """Someone with a browser, as far as login pages need one."""

    server: Server
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, transport=_SafeMachine()))
    page: str = ""

    def arrive(self, **query: str) -> str:
        """Go to the chat's login; return the code that the chat gets, empty if Keycloak asks something."""
        asked, _ = code_request(CALLBACK)
        return self._follow(
            "GET", f"{self.server.url}/realms/{REALM}/protocol/openid-connect/auth?{urlencode(asked | query)}"
        )

    def answer(self, **values: str) -> str:
        """Fill in the form of the page and send it; return as `arrive` does."""
        form = _Forms(self.page).of(values)
        return self._follow("POST", form.action, form.filled | values)

    def sign_in(self, username: str, password: str, **query: str) -> str:
        """Arrive and give name and password; return as `arrive` does."""
        assert self.arrive(**query) == ""
        return self.answer(username=username, password=password)

    def click(self, pattern: str) -> str:
        """Follow the link whose address matches; return as `arrive` does."""
        found = re.search(rf'href="([^"]*{pattern}[^"]*)"', self.page)
        assert found, self.page
        return self._follow("GET", f"{self.server.url}{found[1].replace('&amp;', '&')}")

    def enrol(self) -> str:
        """Set up the one-time password that the page asks for; return its secret."""
        assert "kc-totp-settings-form" in self.page, self.page
        secret = _Forms(self.page).of(["totp"]).filled["totpSecret"]
        assert self.answer(totp=one_time_password(secret), userLabel="phone"), self.page
        return secret

    def _follow(self, method: str, url: str, form: Mapping[str, str] | None = None) -> str:
        answer = self.client.request(method, url, data=form)
        while answer.is_redirect:
            address = answer.headers["Location"]
            if address.startswith(CALLBACK):
                return parse_qs(urlsplit(address).query).get("code", [""])[0]
            answer = self.client.get(address)
        self.page = answer.text
        return ""


def one_time_password(secret: str, *, later: int = 0) -> str:
    """Return the password of now, or of a period later, which Keycloak takes, too: none works twice."""
    # Keycloak's own secrets are short.
    generator = TOTP(secret.encode(), 6, SHA1(), PERIOD, enforce_key_length=False)  # noqa: S303 -- what all phones know
    return generator.generate(time.time() + later * PERIOD).decode()


def soon(ask: Callable[[], _Answer]) -> _Answer:
    """Return the first answer that says yes, else the last one.

    Keycloak counts a login after it answered, and refuses all others of that account until it has:
    https://github.com/keycloak/keycloak/pull/52429.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


@dataclass
class Identity:
    """A realm that was deployed, and can be deployed anew with other settings."""

    server: Server
    run: Run
    settings: dict[str, Any]

    def up(self, **changed: Any) -> dict[str, int]:
        """Deploy with changed settings; return what was done, without what stayed."""
        self.settings |= {name.replace("_", "-"): value for name, value in changed.items()}
        return {kind: count for kind, count in self.run.up().items() if kind != "same"}

    @property
    def passwords(self) -> Mapping[str, str]:
        """Password of each person."""
        return self.run.stack.outputs()["passwords"].value

    def get(self, *path: str, **query: str) -> Any:
        """Ask the realm's admin API."""
        return self.server.admin.get("realms", REALM, *path, **query)

    def counted(self, username: str, failures: int) -> bool:
        """Whether Keycloak has counted that many failed logins of someone, or lets them wait already for guessing so fast."""
        (user,) = self.get("users", username=username, exact="true")
        status = self.get("attack-detection", "brute-force", "users", user["id"])
        return status["disabled"] or status["numFailures"] == failures

    def people(self) -> People:
        """Return the accounts as `./aikit users` works on them."""
        return People(self.server.admin, parse(self.settings), "test")


@pytest.fixture
def identity(server: Server, stack: Stacks) -> Generator[Identity]:
    chosen: dict[str, Any] = {
        "keycloak-realm": REALM,
        "users": [
            {"username": "edith", "email": "edith@example.org", "role": "editor"},
            {"username": "victor", "email": "victor@example.org"},
        ],
    }

    def program() -> None:
        settings = parse(chosen)
        platform = Platform(settings, Machine(), "test", [OpenWebui(settings)])
        there = random.RandomPassword("server", random.RandomPasswordArgs(length=8))
        realm.deploy(
            platform,
            parent=pulumi.ComponentResource("aikit:test:Identity", "identity"),
            server=there,
            url=server.url,
            client_id=CLIENT_ID,
            client_secret=pulumi.Output.secret(CLIENT_SECRET),
        )
        names = {"admin": "administrator-password", "edith": "user-edith-password", "victor": "user-victor-password"}
        pulumi.export("passwords", {name: platform.secret(secret, 20) for name, secret in names.items()})

    made = Identity(server, stack(program), chosen)
    yield made
    # The stack's own end leaves the realm there, as it does when the server goes.
    server.admin.delete("realms", REALM)


@pytest.mark.spec("SEC-05", "SEC-08", "SSO-14", "SSO-18", "SSO-19")
def test_a_second_factor_is_asked_of_those_who_need_it_and_set_up_at_the_first_login(
    server: Server, identity: Identity
) -> None:
    identity.up()
    identity.run.refresh()
    assert identity.up() == {}
    passwords = identity.passwords
    for name in ("admin", "victor"):
        assert Visitor(server).sign_in(name, passwords[name])

    identity.up(keycloak_multi_factor="admins")
    assert Visitor(server).sign_in("victor", passwords["victor"])
    first = Visitor(server)
    assert first.sign_in("admin", passwords["admin"]) == ""
    # Going elsewhere instead does not let in, nor does beginning anew.
    assert first.sign_in("admin", passwords["admin"]) == ""
    secret = first.enrol()
    assert first.arrive(), "whoever has a session is not asked again"
    again = Visitor(server)
    assert again.sign_in("admin", passwords["admin"]) == ""
    assert again.answer(otp="000000") == ""
    assert "Invalid authenticator code" in again.page
    assert again.answer(otp=one_time_password(secret, later=1))

    # Nor does a program that sends name and password itself, which nothing could ask for the second factor.
    direct = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": passwords["admin"]}
    refused = httpx.post(f"{server.url}/realms/{REALM}/protocol/openid-connect/token", data=direct, timeout=60)
    assert (refused.status_code, "access_token" in refused.text) == (401, False)

    identity.up(keycloak_multi_factor="everyone")
    other = Visitor(server)
    assert other.sign_in("edith", passwords["edith"]) == ""
    other.enrol()
    assert {action["alias"] for action in identity.get("authentication", "required-actions") if action["enabled"]} >= {
        "CONFIGURE_TOTP",
        "webauthn-register",
        "webauthn-register-passwordless",
    }

    # Taking it back takes nothing from those who have one.
    identity.up(keycloak_multi_factor="optional")
    assert Visitor(server).sign_in("victor", passwords["victor"])
    assert Visitor(server).sign_in("edith", passwords["edith"]) == ""


@pytest.mark.spec("SSO-04", "SSO-19", "SEC-03", "SEC-08")
def test_people_are_added_given_roles_locked_out_and_let_in_again(server: Server, identity: Identity) -> None:
    identity.up(keycloak_sessions_per_person=2, keycloak_login_failures=3)
    people = identity.people()
    password = people.add(User(username="ada", email="ada@example.org", role=Role.EDITOR))
    visitor = Visitor(server)
    assert visitor.sign_in("ada", password) == ""
    assert "kc-passwd-update-form" in visitor.page
    for refused in ("short", "ada", "ada@example.org"):
        assert visitor.answer(**{"password-new": refused, "password-confirm": refused}) == ""
    chosen = "long enough to be hers"
    assert visitor.answer(**{"password-new": chosen, "password-confirm": chosen})
    found = {person.username: person for person in people.all()}
    assert {name: person.role for name, person in found.items()} == {
        "ada": Role.EDITOR,
        "admin": Role.ADMIN,
        "edith": Role.EDITOR,
        "victor": Role.VIEWER,
    }
    assert [name for name, person in found.items() if not person.declared] == ["ada"]

    # One session more than allowed ends the oldest, and a new role ends them all.
    others = [Visitor(server), Visitor(server)]
    # Keycloak knows the age of sessions in whole seconds.
    time.sleep(1.1)
    for other in others:
        assert soon(lambda other=other: other.sign_in("ada", chosen))
    assert visitor.arrive() == ""
    assert others[0].arrive()
    people.set_role("ada", Role.VIEWER)
    assert people.one("ada").role is Role.VIEWER
    assert others[1].arrive() == ""

    people.set_enabled("ada", enabled=False)
    assert Visitor(server).sign_in("ada", chosen) == ""
    people.set_enabled("ada", enabled=True)
    assert soon(lambda: Visitor(server).sign_in("ada", chosen))
    assert Visitor(server).sign_in("ada", people.reset("ada")) == ""
    assert Visitor(server).sign_in("ada", chosen) == ""

    # Guessing is slowed down, for the one account only, and all of this is recorded.
    for guesses in range(1, 4):
        assert Visitor(server).sign_in("victor", "guessed") == ""
        assert soon(lambda guesses=guesses: identity.counted("victor", guesses))
    assert Visitor(server).sign_in("victor", identity.passwords["victor"]) == ""
    assert Visitor(server).sign_in("edith", identity.passwords["edith"])
    events = identity.get("events", max="100")
    assert "edith" in [event["details"]["username"] for event in events if event["type"] == "LOGIN"]
    errors = {event["error"] for event in events if event["type"] == "LOGIN_ERROR"}
    assert {"invalid_user_credentials", "user_temporarily_disabled", "user_disabled"} <= errors
    people.set_enabled("victor", enabled=True)
    assert soon(lambda: Visitor(server).sign_in("victor", identity.passwords["victor"]))
    changes = {(each["operationType"], each["resourceType"]) for each in identity.get("admin-events", max="500")}
    assert changes >= {("CREATE", "USER"), ("UPDATE", "USER"), ("CREATE", "GROUP_MEMBERSHIP")}

    # Another deployment takes nothing of that back.
    identity.run.refresh()
    assert identity.up() == {}

    for refused, words in (
        (
            lambda: people.add(User(username="ada", email="other@example.org", role=Role.VIEWER)),
            "name or the address is taken",
        ),
        (
            lambda: people.add(User(username="other", email="ada@example.org", role=Role.VIEWER)),
            "name or the address is taken",
        ),
        (lambda: people.set_role("nobody", Role.ADMIN), "no user nobody"),
        (lambda: people.set_role("edith", Role.ADMIN), "aikit:users in Pulumi.test.yaml"),
        (lambda: people.set_enabled("admin", enabled=False), "no other administrator"),
    ):
        with pytest.raises(Failure, match=words):
            refused()


@pytest.fixture
def visit(server: Server) -> Generator[Callable[[], Page]]:
    """Return what opens a browser with a security key of its own in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )

        def open_page() -> Page:
            page = browser.new_context(locale="en-US").new_page()
            page.set_default_timeout(60_000)
            # Asks for a name of the new key.
            page.on("dialog", lambda dialog: dialog.accept("my key"))
            session = page.context.new_cdp_session(page)
            session.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
            session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
            return page

        yield open_page
        browser.close()


@pytest.mark.spec("SEC-05", "SEC-07")
def test_a_security_key_is_a_second_factor_and_a_passkey_is_both(
    server: Server, identity: Identity, visit: Callable[[], Page]
) -> None:
    # Browsers have keys for names only, not for addresses.
    home = server.url.replace("127.0.0.1", "localhost")
    account = f"{home}/realms/{REALM}/account/"

    def sign_in(page: Page, name: str = "", action: str = "") -> None:
        page.context.clear_cookies()
        query = {
            "client_id": "account-console",
            "redirect_uri": account,
            "response_type": "code",
            "scope": "openid",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
            **({"kc_action": action} if action else {}),
        }
        page.goto(f"{home}/realms/{REALM}/protocol/openid-connect/auth?{urlencode(query)}")
        if name:
            page.locator("#username").fill(name)
            page.locator("#password").fill(identity.passwords[name])
            page.locator("#kc-login").click()

    def press(page: Page, button: str) -> None:
        page.locator(button).wait_for()
        # A script of the page's own, which may come later than the button, does what the button is for.
        page.wait_for_load_state("load")
        page.locator(button).click()

    def arrived(page: Page) -> bool:
        page.wait_for_url(f"{account}*", wait_until="commit")
        return True

    identity.up()
    key, passkey = visit(), visit()
    sign_in(key, "edith", "webauthn-register")
    press(key, "#registerWebAuthn")
    assert arrived(key)
    sign_in(passkey, "victor", "webauthn-register-passwordless")
    press(passkey, "#registerWebAuthn")
    assert arrived(passkey)

    identity.up(keycloak_multi_factor="everyone")
    sign_in(key, "edith")
    press(key, "#authenticateWebAuthnButton")
    assert arrived(key)
    sign_in(passkey)
    # A browser that offers the passkey by itself needs no click.
    passkey.locator("#authenticateWebAuthnButton").or_(passkey.locator("body")).first.wait_for()
    if passkey.locator("#authenticateWebAuthnButton").is_visible():
        press(passkey, "#authenticateWebAuthnButton")
    assert arrived(passkey)
    factors = {person.username: person.factors for person in identity.people().all()}
    assert factors == {"admin": (), "edith": ("security key",), "victor": ("passkey",)}


def _partner(server: Server) -> None:
    """Make a realm of another company, whose people can come here by OpenID Connect and by SAML."""
    here = f"{server.url}/realms/{REALM}/broker"
    server.admin.post(
        "realms",
        body={
            "realm": PARTNER,
            "enabled": True,
            "sslRequired": "none",
            "roles": {"realm": [{"name": "chief"}, {"name": "clerk"}]},
            "users": [
                _employee("chloe", "chloe@partner.example", ["chief"]),
                _employee("nina", "nina@partner.example"),
                _employee("samuel", "samuel@partner.example", ["chief"]),
                # Whoever runs another provider can give anyone's address to anyone.
                _employee("mallory", "victor@example.org"),
                _employee("eve", "edith@example.org", ["chief"]),
                _employee("carl", "carl@partner.example", ["clerk"]),
            ],
            "clients": [
                {
                    "clientId": "aikit",
                    "secret": "partners-secret",
                    "redirectUris": [f"{here}/partner/endpoint"],
                    "protocolMappers": [
                        {
                            "name": "roles",
                            "protocol": "openid-connect",
                            "protocolMapper": "oidc-usermodel-realm-role-mapper",
                            "config": {"claim.name": "functions", "multivalued": "true", "id.token.claim": "true"},
                        }
                    ],
                },
                {
                    "clientId": f"https://auth.localhost/realms/{REALM}",
                    "protocol": "saml",
                    "redirectUris": [f"{here}/partner-saml/endpoint"],
                    "attributes": {
                        "saml.assertion.signature": "true",
                        "saml.server.signature": "true",
                        "saml.client.signature": "false",
                        "saml_force_name_id_format": "true",
                        "saml_name_id_format": "email",
                    },
                },
            ],
        },
    )
    server.admin.forget_token()


def _employee(name: str, email: str, roles: list[str] | None = None) -> dict[str, Any]:
    return {
        "username": name,
        "email": email,
        "emailVerified": True,
        "firstName": name.capitalize(),
        "lastName": "Partner",
        "enabled": True,
        "realmRoles": roles or [],
        "credentials": [{"type": "password", "value": f"{name}s password"}],
    }


@pytest.fixture
def partner(server: Server, tmp_path: Path) -> Generator[list[dict[str, Any]]]:
    """Make the other company; return the settings for its providers, and for those that cannot be reached from here."""
    _partner(server)
    (tmp_path / "secret").write_text("partners-secret\n")
    keys = server.admin.get("realms", PARTNER, "keys")["keys"]
    certificate = next(key["certificate"] for key in keys if key.get("use") == "SIG" and key["algorithm"] == "RS256")
    (tmp_path / "certificate.pem").write_text(
        f"-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n"
    )
    # What Keycloak itself asks, it asks from inside its container.
    inside = f"http://127.0.0.1:8080/realms/{PARTNER}"
    outside = f"{server.url}/realms/{PARTNER}"
    credentials = {"client_id": "aikit", "client_secret_file": str(tmp_path / "secret")}
    roles = {"admin_value": "chief", "editor_value": "clerk"}
    yield [
        {
            "name": "partner",
            "kind": "oidc",
            "title": "Partner Ltd",
            "issuer": outside,
            "sign_in_url": f"{outside}/protocol/openid-connect/auth",
            "token_url": f"{inside}/protocol/openid-connect/token",
            "keys_url": f"{inside}/protocol/openid-connect/certs",
            "roles_claim": "functions",
            **roles,
            **credentials,
        },
        {
            "name": "partner-saml",
            "kind": "saml",
            "new_accounts": True,
            "issuer": outside,
            "sign_in_url": f"{outside}/protocol/saml",
            "certificate_file": str(tmp_path / "certificate.pem"),
            "roles_claim": "Role",
            **roles,
        },
        {"name": "google", "kind": "google", "hosted_domain": "example.org", **credentials},
        {"name": "github", "kind": "github", **credentials},
        {"name": "microsoft", "kind": "microsoft", "tenant": "example.org", **credentials},
    ]
    server.admin.delete("realms", PARTNER)


@pytest.mark.spec("SEC-06", "SSO-14", "SSO-18")
def test_people_of_another_provider_come_in_but_not_as_someone_else(
    server: Server, identity: Identity, partner: list[dict[str, Any]]
) -> None:
    identity.up(identity_providers=partner)
    identity.run.refresh()
    assert identity.up() == {}
    people = identity.people()

    def arrive(provider: str, name: str) -> tuple[Visitor, str]:
        visitor = Visitor(server)
        visitor.arrive()
        for offered in partner:
            assert f"broker/{offered['name']}/login" in visitor.page
        visitor.click(f"broker/{provider}/login")
        return visitor, visitor.answer(username=name, password=f"{name}s password")

    # An address of someone here is not enough; the account's password is.
    visitor, code = arrive("partner", "mallory")
    assert code == ""
    assert visitor.answer(submitAction="linkAccount") == ""
    assert visitor.answer(password="mallorys password") == ""
    assert "Invalid username or password" in visitor.page
    assert people.one("victor").providers == ()
    assert visitor.answer(password=identity.passwords["victor"])
    assert people.one("victor").providers == ("partner",)
    assert arrive("partner", "mallory")[1], "linked once, it is not asked again"

    # Nobody gets an account who was not given one.
    assert arrive("partner", "nina")[1] == ""
    assert arrive("partner", "chloe")[1] == ""
    assert {person.username for person in people.all()} == {"admin", "edith", "victor"}

    # Where they do, roles are what the provider says at each login, and second factors those of here.
    partner[0]["new_accounts"] = True
    identity.up(identity_providers=partner, keycloak_multi_factor="admins")
    assert arrive("partner", "nina")[1]
    assert people.one("nina").role is Role.VIEWER
    assert arrive("partner", "carl")[1]
    assert people.one("carl").role is Role.EDITOR
    # Also then an address of someone here opens nothing, and makes no second account.
    visitor, code = arrive("partner", "eve")
    assert (code, "kc-page-title" in visitor.page, "already exists" in visitor.page) == ("", True, True)
    assert visitor.answer(submitAction="linkAccount") == ""
    assert visitor.answer(password="eves password") == ""
    edith = people.one("edith")
    assert (edith.role, edith.providers) == (Role.EDITOR, ())
    assert "eve" not in {person.username for person in people.all()}
    visitor, code = arrive("partner", "chloe")
    assert (people.one("chloe").role, code) == (Role.ADMIN, "")
    visitor.enrol()
    with pytest.raises(Failure, match="decided by partner at each login"):
        people.set_role("chloe", Role.EDITOR)
    (chloe,) = server.admin.get("realms", PARTNER, "users", username="chloe")
    chief = server.admin.get("realms", PARTNER, "roles", "chief")
    mapped = ("realms", PARTNER, "users", str(chloe["id"]), "role-mappings", "realm")
    server.admin.delete(*mapped, body=[chief])
    visitor, _ = arrive("partner", "chloe")
    assert people.one("chloe").role is Role.VIEWER

    # SAML: the answer comes as a form that the browser sends on, and says nothing about names.
    visitor, code = arrive("partner-saml", "samuel")
    assert (code, visitor.answer()) == ("", "")
    assert visitor.answer(firstName="Samuel", lastName="Partner") == ""
    visitor.enrol()
    samuel = people.one("samuel@partner.example")
    assert (samuel.role, samuel.providers) == (Role.ADMIN, ("partner-saml",))
