"""People with accounts: listed, added, locked and given roles by Keycloak's admin API, while the platform runs."""

import secrets
import string
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast

from rich.markup import escape

from components.identity.names import CLIENT, CLIENT_SECRET, GROUPS
from operations import checks, state
from operations.console import print_json, results, say, table
from operations.errors import Exit, Failure
from operations.lifecycle import Options
from providers.keycloak.client import ConflictError, Keycloak
from providers.keycloak.client import Settings as Connection
from providers.resource import ProviderError
from settings import HTTPS, Role, Settings, User, sentences

CONNECT_SECONDS = 5.0
"""How long a Keycloak that refuses connections is waited for: it may be starting again."""

ANSWER_SECONDS = 20.0
"""How long an answer may take: someone waits."""

PASSWORD_LENGTH = 20
"""Characters of a generated password, unless the settings demand more; it is typed once."""

PAGE = 100
"""Users that are asked for at once."""

FACTORS = {"otp": "one-time password", "webauthn": "security key", "webauthn-passwordless": "passkey"}
"""What people know Keycloak's credentials as that are more than a password."""

WAYS = {
    "standardFlowEnabled": "authorization code",
    "implicitFlowEnabled": "implicit",
    "directAccessGrantsEnabled": "password",
    "serviceAccountsEnabled": "client credentials",
}
"""Flows by which a client may get a token, by Keycloak's name of the flag."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """An account."""

    username: str
    email: str
    role: Role | None
    """The most powerful one; None for someone who was left without."""
    enabled: bool
    factors: tuple[str, ...]
    """What they can sign in with beside the password."""
    providers: tuple[str, ...]
    """Other identity providers that the account is linked with."""
    declared: bool
    """Whether the settings made the account."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at Keycloak."""

    time: str
    """In UTC, to the second."""
    what: str
    """Such as ``login``, or ``update user`` where an administrator changed something."""
    who: str
    of: str
    """The client that was signed in to, or what was changed."""
    address: str
    """Where it came from."""
    error: str
    """Why it was refused; empty if it was not."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """Something that gets tokens from Keycloak."""

    name: str
    title: str
    ways: tuple[str, ...]
    """How it may get them, as `WAYS` names it."""
    redirects: tuple[str, ...]
    """Addresses that people may be sent back to."""
    enabled: bool


class People:
    """The accounts of a realm."""

    def __init__(self, admin: Keycloak, settings: Settings, stack: str) -> None:
        self._admin = admin
        self._settings = settings
        self._stack = stack
        self._realm = ("realms", settings.keycloak.realm)
        self._declared = {settings.keycloak.administrator, *(user.username for user in settings.users)}

    def all(self) -> Iterator[Person]:
        """Yield everyone, by name."""
        yield from (self._person(user) for user in _everyone(self._admin, self._realm))

    def one(self, username: str) -> Person:
        """Return one account.

        Raises:
            Failure: there is none of that name.
        """
        return self._person(self._find(username))

    def add(self, user: User) -> str:
        """Make an account, and return its password, which must be changed at the first login.

        Raises:
            Failure: the name or address is taken.
        """
        password = self._password()
        try:
            self._admin.post(
                *self._realm,
                "users",
                body={
                    "username": user.username,
                    "email": user.email,
                    # Whoever adds the account vouches for the address.
                    "emailVerified": True,
                    "enabled": True,
                    "firstName": user.username.capitalize(),
                    "lastName": self._settings.chat.title,
                    "groups": [f"/{GROUPS[user.role]}"],
                    "credentials": [{"type": "password", "value": password, "temporary": True}],
                },
            )
        except ConflictError as error:
            raise Failure(
                f"{user.username} <{user.email}> cannot be added: the name or the address is taken;"
                f" `./aikit users list --stack {self._stack}` shows by whom.",
                code=Exit.USAGE,
            ) from error
        return password

    def set_enabled(self, username: str, *, enabled: bool) -> None:
        """Unlock an account, or lock it and end its sessions.

        Raises:
            Failure: there is no such account, or it is the last administrator's.
        """
        user = self._find(username)
        if not enabled:
            self._refuse_last_administrator(user, "disabled")
        self._admin.put(*self._realm, "users", user["id"], body={"enabled": enabled})
        if enabled:
            self._forgive(user)
        else:
            self._end_sessions(user)

    def set_role(self, username: str, role: Role) -> None:
        """Give an account exactly one role, and end its sessions, which have the former one.

        Raises:
            Failure: there is no such account, something else decides its role, or it is the last administrator's.
        """
        user = self._find(username)
        person = self._person(user)
        username = person.username
        if person.declared:
            setting = (
                "aikit:keycloak-administrator" if username == self._settings.keycloak.administrator else "aikit:users"
            )
            raise Failure(
                f"The role of {username} is what {setting} in Pulumi.{self._stack}.yaml says: change it there and run"
                f" `./aikit up --stack {self._stack}`.",
                code=Exit.USAGE,
            )
        deciding = [
            provider.name
            for provider in self._settings.identity_providers
            if provider.roles_claim and provider.name in person.providers
        ]
        if deciding:
            raise Failure(
                f"The role of {username} is decided by {deciding[0]} at each login: change it there"
                " (roles_claim of aikit:identity-providers).",
                code=Exit.USAGE,
            )
        if role is not Role.ADMIN:
            self._refuse_last_administrator(user, f"made {role}")
        groups = cast("list[dict[str, Any]]", self._admin.get(*self._realm, "users", user["id"], "groups"))
        for group in groups:
            if group["name"] in GROUPS.values() and group["name"] != GROUPS[role]:
                self._admin.delete(*self._realm, "users", user["id"], "groups", group["id"])
        self._admin.put(*self._realm, "users", user["id"], "groups", self._group(role))
        self._end_sessions(user)

    def reset(self, username: str) -> str:
        """Take away password and second factors, end all sessions, and return a password for one login.

        Raises:
            Failure: there is no such account.
        """
        user = self._find(username)
        password = self._password()
        credentials = self._credentials(user)
        self._admin.put(
            *self._realm,
            "users",
            user["id"],
            "reset-password",
            body={"type": "password", "value": password, "temporary": True},
        )
        for credential in credentials:
            if credential["type"] in FACTORS:
                self._admin.delete(*self._realm, "users", user["id"], "credentials", str(credential["id"]))
        self._forgive(user)
        self._end_sessions(user)
        return password

    def _find(self, username: str) -> dict[str, Any]:
        found = self._admin.get(*self._realm, "users", username=username.lower(), exact="true")
        if not found:
            raise Failure(
                f"There is no user {username}; `./aikit users list --stack {self._stack}` shows all.", code=Exit.USAGE
            )
        return cast("dict[str, Any]", found[0])

    def _person(self, user: dict[str, Any]) -> Person:
        mapped = self._admin.get(*self._realm, "users", user["id"], "role-mappings", "realm", "composite")
        roles = {str(role["name"]) for role in cast("list[dict[str, Any]]", mapped)}
        linked = self._admin.get(*self._realm, "users", user["id"], "federated-identity")
        return Person(
            username=str(user["username"]),
            email=str(user.get("email") or ""),
            role=next((role for role in GROUPS if role in roles), None),
            enabled=bool(user["enabled"]),
            factors=tuple(
                sorted({FACTORS[each["type"]] for each in self._credentials(user) if each["type"] in FACTORS})
            ),
            providers=tuple(str(link["identityProvider"]) for link in cast("list[dict[str, Any]]", linked)),
            declared=str(user["username"]) in self._declared,
        )

    def _credentials(self, user: dict[str, Any]) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._admin.get(*self._realm, "users", user["id"], "credentials"))

    def _group(self, role: Role) -> str:
        found = cast("list[dict[str, Any]]", self._admin.get(*self._realm, "groups", search=GROUPS[role], exact="true"))
        return str(found[0]["id"])

    def _refuse_last_administrator(self, user: dict[str, Any], what: str) -> None:
        if self._person(user).role is Role.ADMIN and not any(
            person.enabled and person.role is Role.ADMIN and person.username != user["username"]
            for person in self.all()
        ):
            raise Failure(f"{user['username']} cannot be {what}: no other administrator is left.", code=Exit.USAGE)

    def _end_sessions(self, user: dict[str, Any]) -> None:
        self._admin.post(*self._realm, "users", user["id"], "logout", body={})

    def _forgive(self, user: dict[str, Any]) -> None:
        """Let an account that waits because of failed logins try again at once."""
        self._admin.delete(*self._realm, "attack-detection", "brute-force", "users", user["id"])

    def _password(self) -> str:
        alphabet = string.ascii_letters + string.digits
        return "".join(
            secrets.choice(alphabet) for _ in range(max(PASSWORD_LENGTH, self._settings.keycloak.password_length))
        )


@contextmanager
def people(options: Options) -> Generator[People]:
    """Give the accounts of a stack that runs.

    Raises:
        Failure: as `administration` does.
    """
    with administration(options) as admin:
        yield People(admin, options.project.settings(options.stack), options.stack)


@contextmanager
def administration(options: Options) -> Generator[Keycloak]:
    """Log in to the administration of a stack's Keycloak, as the deployment does.

    Raises:
        Failure: the stack was not deployed, its secrets cannot be read, or Keycloak does not answer or refuses.
    """
    settings = options.project.settings(options.stack)
    path = options.project.state(options.stack)
    if path is None:
        raise Failure(
            f"The state is at {options.project.backend}, and Keycloak's secret in it: use Keycloak's admin console instead."
        )
    found = state.read(path)
    secret = None
    if found is not None and found.salt is not None:
        secret = found.generated(CLIENT_SECRET, checks.decrypter(options.project, options.stack, found.salt))
    if secret is None:
        raise Failure(f"Stack {options.stack} has no Keycloak yet: run `./aikit up --stack {options.stack}`.")
    url = f"http://127.0.0.1:{settings.admin_port}"
    admin = Keycloak(
        Connection(
            url=url,
            client_id=CLIENT,
            client_secret=secret,
            timeout=CONNECT_SECONDS,
            answer_seconds=ANSWER_SECONDS,
            startup_seconds=CONNECT_SECONDS,
        )
    )
    try:
        yield admin
    except ProviderError as error:
        raise Failure(
            f"{error}. `./aikit status --stack {options.stack}` shows whether keycloak runs,"
            f" `./aikit logs keycloak --stack {options.stack}` what it says."
        ) from error


def show(options: Options) -> Exit:
    """Print everyone."""
    with people(options) as accounts:
        found = list(accounts.all())
    if options.as_json:
        print_json([asdict(person) for person in found])
        return Exit.OK
    shown = table(f"People of stack {options.stack}", "name", "e-mail", "role", "beside the password", "from", "")
    for person in found:
        shown.add_row(
            person.username,
            person.email,
            str(person.role or "none"),
            ", ".join(person.factors),
            ", ".join(person.providers) or ("settings" if person.declared else ""),
            "" if person.enabled else "[red]disabled[/]",
        )
    results.print(shown)
    return Exit.OK


def events(options: Options, *, username: str | None, count: int) -> Exit:
    """Print what Keycloak keeps of logins, refusals and changes by administrators, the latest first.

    Args:
        options: of every command.
        username: whose logins and refusals alone are shown, and what was changed at their account.
        count: how many at most of each kind.
    """
    realm = ("realms", options.project.settings(options.stack).keycloak.realm)
    limit = {"max": str(count)}
    with administration(options) as admin:
        clients = {str(each["id"]): str(each["clientId"]) for each in _clients(admin, realm)}
        # Keycloak has no names in what administrators changed.
        people = {str(each["id"]): str(each["username"]) for each in _everyone(admin, realm)}
        identifiers = [key for key, name in people.items() if name == username] if username else None
        if identifiers == []:
            raise Failure(
                f"There is no user {username}; `./aikit users list --stack {options.stack}` shows all.", code=Exit.USAGE
            )
        one = {"user": identifiers[0]} if identifiers else {}
        path = {"resourcePath": f"users/{identifiers[0]}*"} if identifiers else {}
        signed = cast("list[dict[str, Any]]", admin.get(*realm, "events", **one, **limit))
        changed = cast("list[dict[str, Any]]", admin.get(*realm, "admin-events", **path, **limit))
    found = [
        *(_sign_in_event(each, people) for each in signed),
        *(_change_event(each, people, people | clients) for each in changed),
    ]
    found.sort(key=lambda event: event.time, reverse=True)
    if options.as_json:
        print_json([asdict(event) for event in found])
        return Exit.OK
    shown = table(f"What happened in stack {options.stack}", "when (UTC)", "what", "who", "of", "from", "")
    for event in found:
        # Whoever is refused has chosen the name that is shown.
        cells = (event.time, event.what, event.who, event.of, event.address)
        shown.add_row(*map(escape, cells), f"[red]{event.error}[/]" if event.error else "")
    results.print(shown)
    return Exit.OK


def _clients(admin: Keycloak, realm: tuple[str, ...]) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", admin.get(*realm, "clients"))


def _everyone(admin: Keycloak, realm: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    first = 0
    while found := cast(
        "list[dict[str, Any]]", admin.get(*realm, "users", first=str(first), max=str(PAGE), briefRepresentation="true")
    ):
        yield from found
        first += len(found)


def _sign_in_event(event: dict[str, Any], people: Mapping[str, str]) -> Event:
    details = cast("dict[str, str]", event.get("details") or {})
    return Event(
        time=_time(event),
        what=str(event["type"]).lower().replace("_", " ").removesuffix(" error"),
        who=people.get(str(event.get("userId")), "") or details.get("username", ""),
        of=str(event.get("clientId") or ""),
        address=str(event.get("ipAddress") or ""),
        error=str(event.get("error") or ""),
    )


def _change_event(event: dict[str, Any], people: Mapping[str, str], names: Mapping[str, str]) -> Event:
    by = cast("dict[str, str]", event.get("authDetails") or {})
    path = str(event.get("resourcePath") or "")
    return Event(
        time=_time(event),
        what=f"{event['operationType']} {event['resourceType']}".lower().replace("_", " "),
        # The deployment logs in at another realm, whose accounts are none of these.
        who=people.get(by.get("userId", ""), "the deployment"),
        of="/".join(names.get(part, part) for part in path.split("/")),
        address=by.get("ipAddress", ""),
        error=str(event.get("error") or ""),
    )


def _time(event: dict[str, Any]) -> str:
    return f"{datetime.fromtimestamp(event['time'] / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def clients(options: Options) -> Exit:
    """Print the clients that Keycloak has: who may ask it for tokens, how, and where it sends people back to."""
    realm = ("realms", options.project.settings(options.stack).keycloak.realm)
    with administration(options) as admin:
        found = [_client(each) for each in _clients(admin, realm)]
    if options.as_json:
        print_json([asdict(client) for client in found])
        return Exit.OK
    shown = table(f"Clients of stack {options.stack}", "client", "title", "ways to a token", "comes back to", "")
    for client in found:
        disabled = "" if client.enabled else "[red]disabled[/]"
        shown.add_row(client.name, client.title, ", ".join(client.ways), "\n".join(client.redirects), disabled)
    results.print(shown)
    return Exit.OK


def _client(client: dict[str, Any]) -> Client:
    return Client(
        name=str(client["clientId"]),
        # Keycloak's own have a placeholder for a translated one.
        title=str(client.get("name") or "").removeprefix("${client_").removesuffix("}"),
        ways=tuple(way for name, way in WAYS.items() if client.get(name)),
        redirects=tuple(str(each) for each in client.get("redirectUris") or ()),
        enabled=bool(client["enabled"]),
    )


def add(options: Options, username: str, email: str, role: Role) -> Exit:
    """Make an account and print its password, which nobody can ask for again.

    Raises:
        Failure: name or address are wrong or taken.
    """
    user = _user(username, email, role)
    with people(options) as accounts:
        password = accounts.add(user)
    return _tell(options, username, password, f"{username} <{email}> is added as {role}.")


def _user(username: str, email: str, role: Role) -> User:
    from pydantic import ValidationError

    try:
        return User(username=username, email=email, role=role)
    except ValidationError as error:
        raise Failure(*sentences(error), code=Exit.USAGE) from error


def reset(options: Options, username: str) -> Exit:
    """Take away password and second factors, and print a new password."""
    with people(options) as accounts:
        password = accounts.reset(username)
    return _tell(
        options, username, password, f"{username} has no second factor any more, and all their sessions are ended."
    )


def _tell(options: Options, username: str, password: str, done: str) -> Exit:
    settings = options.project.settings(options.stack)
    port = "" if settings.https_port == HTTPS else f":{settings.https_port}"
    account = f"https://auth.{settings.domain}{port}/realms/{settings.keycloak.realm}/account/"
    if options.as_json:
        print_json({"username": username, "password": password, "account": account})
        return Exit.OK
    say(done)
    say("The password is shown only this once, and must be changed at the first login:")
    results.print(password, markup=False)
    say(f"They can sign in at {account} or at any service.")
    return Exit.OK


def set_enabled(options: Options, username: str, *, enabled: bool) -> Exit:
    """Unlock or lock an account."""
    with people(options) as accounts:
        accounts.set_enabled(username, enabled=enabled)
    return _done(
        options, username, f"{username} may sign in again." if enabled else f"{username} is locked out everywhere."
    )


def set_role(options: Options, username: str, role: Role) -> Exit:
    """Give an account a role."""
    with people(options) as accounts:
        accounts.set_role(username, role)
    return _done(options, username, f"{username} is {role} from the next login on; all sessions are ended.")


def _done(options: Options, username: str, done: str) -> Exit:
    if options.as_json:
        with people(options) as accounts:
            print_json(asdict(accounts.one(username)))
    else:
        say(done)
    return Exit.OK
