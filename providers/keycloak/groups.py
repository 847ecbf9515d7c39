"""Groups, those that new users join, and those that a user is in."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import VALUES, Field, Local, Mapped, Path, Representation
from providers.keycloak.record import EXHAUSTIVE, Assignment, Record
from providers.resource import Properties, Property


class Group(Record):
    """A group of a realm, or in another group if ``parentId`` is given."""

    token: ClassVar[str] = "keycloak:index/group:Group"
    noun = "group"
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "parentId": Local(replaces=True),
        "name": Field("name", autoname=True),
        "description": Field("description", zero=""),
        "attributes": Field("attributes", codec=VALUES, zero={}),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        groups = ("realms", str(inputs["realmId"]), "groups")
        return (*groups, str(inputs["parentId"]), "children") if inputs.get("parentId") else groups

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where one record is."""
        return ("realms", str(inputs["realmId"]), "groups", identifier)

    def describe(
        self, client: Keycloak, identifier: str, representation: Representation, prior: Properties
    ) -> dict[str, Any]:
        """Return the outputs, with those that have endpoints of their own."""
        return {**super().describe(client, identifier, representation, prior), "path": str(representation["path"])}


class DefaultGroups(Assignment):
    """The groups that each new user of a realm joins; the identifier is ``realm/default-groups``."""

    token: ClassVar[str] = "keycloak:index/defaultGroups:DefaultGroups"
    members = "groupIds"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "groupIds": Property(required=True, unordered=True),
    }

    def identify(self, client: Keycloak, inputs: Properties) -> str:
        """Return the identifier that the official provider gives."""
        return f"{inputs['realmId']}/default-groups"

    def current(self, client: Keycloak, inputs: Properties) -> list[str] | None:
        """Return the members that there are, or None without a holder."""
        return _identifiers(client.find("realms", str(inputs["realmId"]), "default-groups"))

    def add(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Add members."""
        for member in members:
            client.put("realms", str(inputs["realmId"]), "default-groups", member)

    def remove(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Remove members."""
        for member in members:
            client.delete("realms", str(inputs["realmId"]), "default-groups", member)


class UserGroups(Assignment):
    """The groups that a user is in; the identifier is ``realm/user``."""

    token: ClassVar[str] = "keycloak:index/userGroups:UserGroups"
    members = "groupIds"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "userId": Property(required=True, replaces=True),
        "groupIds": Property(required=True, unordered=True),
        "exhaustive": EXHAUSTIVE,
    }

    def identify(self, client: Keycloak, inputs: Properties) -> str:
        """Return the identifier that the official provider gives."""
        return f"{inputs['realmId']}/{inputs['userId']}"

    def current(self, client: Keycloak, inputs: Properties) -> list[str] | None:
        """Return the members that there are, or None without a holder."""
        return _identifiers(client.find(*_groups_of(inputs)))

    def add(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Add members."""
        for member in members:
            client.put(*_groups_of(inputs), member)

    def remove(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Remove members."""
        for member in members:
            client.delete(*_groups_of(inputs), member)


def _groups_of(inputs: Properties) -> Path:
    return ("realms", str(inputs["realmId"]), "users", str(inputs["userId"]), "groups")


def _identifiers(groups: Any) -> list[str] | None:
    return None if groups is None else [str(group["id"]) for group in cast("list[Representation]", groups)]
