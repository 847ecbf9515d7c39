"""Roles, what they are made of, and who gets them by default."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import NAMES, VALUES, Field, Local, Mapped, Path, Representation
from providers.keycloak.record import EXHAUSTIVE, Assignment, Record
from providers.resource import Properties, Property, ProviderError


class Role(Record):
    """A role of a realm, or of a client if ``clientId`` (its internal identifier) is given."""

    token: ClassVar[str] = "keycloak:index/role:Role"
    noun = "role"
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "clientId": Local(replaces=True),
        "name": Field("name", autoname=True),
        "description": Field("description", zero="", computed=True),
        "attributes": Field("attributes", codec=VALUES, zero={}, computed=True),
        "compositeRoles": Field("compositeRoles", codec=NAMES),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return _container(str(inputs["realmId"]), inputs.get("clientId"))

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where one record is."""
        return _by_identifier(inputs, identifier)

    def identify(self, client: Keycloak, inputs: Properties, location: str) -> str:
        """Return the identifier that the official provider gives."""
        # The address of a new role ends with its name.
        return str(client.get(*self.collection(inputs), str(inputs["name"]))["id"])

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        # Composites have an endpoint of their own; a representation would name them by their names.
        representation.pop("compositeRoles", None)

    def finish(self, client: Keycloak, identifier: str, inputs: Properties, before: Properties | None) -> None:
        """Do what the representation does not."""
        if inputs.get("compositeRoles") is not None:
            address = (*self.address(identifier, inputs), "composites")
            set_composites(client, address, _composites(client, address), inputs["compositeRoles"])

    def describe(
        self, client: Keycloak, identifier: str, representation: Representation, prior: Properties
    ) -> dict[str, Any]:
        """Return the outputs, with those that have endpoints of their own."""
        composites: list[str] = []
        if representation.get("composite"):
            composites = _composites(client, (*self.address(identifier, prior), "composites"))
        return super().describe(client, identifier, {**representation, "compositeRoles": composites}, prior)


class DefaultRoles(Assignment):
    """The roles of each new user, by name or ``client/name``; the identifier is that of the realm's default role."""

    token: ClassVar[str] = "keycloak:index/defaultRoles:DefaultRoles"
    members = "defaultRoles"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "defaultRoles": Property(required=True, unordered=True),
    }

    def identify(self, client: Keycloak, inputs: Properties) -> str:
        """Return the identifier that the official provider gives."""
        return str(client.get("realms", str(inputs["realmId"]))["defaultRole"]["id"])

    def current(self, client: Keycloak, inputs: Properties) -> list[str] | None:
        """Return the members that there are, or None without a holder."""
        realm = client.find("realms", str(inputs["realmId"]))
        if realm is None:
            return None
        composites = client.get(
            "realms", str(inputs["realmId"]), "roles-by-id", realm["defaultRole"]["id"], "composites"
        )
        names: list[str] = []
        for role in cast("list[Representation]", composites):
            name = str(role["name"])
            if role.get("clientRole"):
                owner = client.get("realms", str(inputs["realmId"]), "clients", str(role["containerId"]))
                name = f"{owner['clientId']}/{name}"
            names.append(name)
        return names

    def add(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Add members."""
        client.post(*self._composites(client, inputs), body=self._roles(client, inputs, members))

    def remove(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Remove members."""
        client.delete(*self._composites(client, inputs), body=self._roles(client, inputs, members))

    def _composites(self, client: Keycloak, inputs: Properties) -> Path:
        return (*_by_identifier(inputs, self.identify(client, inputs)), "composites")

    def _roles(self, client: Keycloak, inputs: Properties, names: list[str]) -> list[Representation]:
        realm = str(inputs["realmId"])
        roles: list[Representation] = []
        for name in names:
            owner, _, role = name.rpartition("/")
            container: str | None = None
            if owner:
                clients = cast("list[Representation]", client.get("realms", realm, "clients", clientId=owner))
                if not clients:
                    raise ProviderError(
                        f"there is no client '{owner}' in the realm '{realm}' for the default role '{name}'"
                    )
                container = str(clients[0]["id"])
            roles.append(client.get(*_container(realm, container), role))
        return roles


class Holder(Assignment):
    """A type that gives roles, by their identifiers, to one holder. Its identifier is ``realm/holder``."""

    members = "roleIds"
    holder: str
    """The property with the holder's identifier."""
    holders: str
    """Where holders are in the API."""

    def identify(self, client: Keycloak, inputs: Properties) -> str:
        """Return the identifier that the official provider gives."""
        return f"{inputs['realmId']}/{inputs[self.holder]}"

    def current(self, client: Keycloak, inputs: Properties) -> list[str] | None:
        """Return the members that there are, or None without a holder."""
        mappings = client.find(*self._mappings(inputs))
        return None if mappings is None else [str(role["id"]) for role in mapped_roles(mappings)]

    def add(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Add members."""
        for path, roles in self._by_container(client, inputs, members).items():
            client.post(*path, body=roles)

    def remove(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Remove members."""
        for path, roles in self._by_container(client, inputs, members).items():
            client.delete(*path, body=roles)

    def _mappings(self, inputs: Properties) -> Path:
        return ("realms", str(inputs["realmId"]), self.holders, str(inputs[self.holder]), "role-mappings")

    def _by_container(self, client: Keycloak, inputs: Properties, roles: list[str]) -> dict[Path, list[Representation]]:
        """Return roles by the address where the API wants them: one for the realm's, one for each client's."""
        found: dict[Path, list[Representation]] = {}
        for identifier in roles:
            role = client.get(*_by_identifier(inputs, identifier))
            container = ("clients", str(role["containerId"])) if role.get("clientRole") else ("realm",)
            found.setdefault((*self._mappings(inputs), *container), []).append(role)
        return found


class GroupRoles(Holder):
    """The roles of a group."""

    token: ClassVar[str] = "keycloak:index/groupRoles:GroupRoles"
    holder = "groupId"
    holders = "groups"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "groupId": Property(required=True, replaces=True),
        "roleIds": Property(required=True, unordered=True),
        "exhaustive": EXHAUSTIVE,
    }


class UserRoles(Holder):
    """The roles of a user."""

    token: ClassVar[str] = "keycloak:index/userRoles:UserRoles"
    holder = "userId"
    holders = "users"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "userId": Property(required=True, replaces=True),
        "roleIds": Property(required=True, unordered=True),
        "exhaustive": EXHAUSTIVE,
    }


def mapped_roles(mappings: Representation) -> Iterable[Representation]:
    """Yield all roles in the role mappings of a user or group: those of the realm, then those of clients."""
    yield from mappings.get("realmMappings", ())
    for owner in mappings.get("clientMappings", {}).values():
        yield from owner["mappings"]


def set_composites(client: Keycloak, address: Path, current: list[str], wanted: list[str]) -> None:
    """Make a role consist of the roles with the identifiers ``wanted``."""
    if missing := [identifier for identifier in wanted if identifier not in current]:
        client.post(*address, body=[{"id": identifier} for identifier in missing])
    if surplus := [identifier for identifier in current if identifier not in wanted]:
        client.delete(*address, body=[{"id": identifier} for identifier in surplus])


def _composites(client: Keycloak, address: Path) -> list[str]:
    return [str(role["id"]) for role in cast("list[Representation]", client.get(*address))]


def _by_identifier(inputs: Properties, identifier: str) -> Path:
    return ("realms", str(inputs["realmId"]), "roles-by-id", identifier)


def _container(realm: str, owner: Any) -> Path:
    """Return where the roles of a realm, or of a client in it, are."""
    return ("realms", realm, "clients", str(owner), "roles") if owner else ("realms", realm, "roles")
