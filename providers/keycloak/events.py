"""What a realm records, and the actions that it can require of users; both exist with it, so creating means setting."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak import mapping
from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import FLAG, NAMES, NUMBER, TEXTS, Field, Local, Mapped, Path, Representation
from providers.resource import Created, Properties, Property, ResourceType


class RealmEvents(ResourceType[Keycloak]):
    """The events that a realm stores, for `eventsExpiration` s, and who listens; it is identified by the realm."""

    token: ClassVar[str] = "keycloak:index/realmEvents:RealmEvents"
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "adminEventsDetailsEnabled": Field("adminEventsDetailsEnabled", codec=FLAG, zero=False),
        "adminEventsEnabled": Field("adminEventsEnabled", codec=FLAG, zero=False),
        "enabledEventTypes": Field("enabledEventTypes", codec=NAMES, zero=[]),
        "eventsEnabled": Field("eventsEnabled", codec=FLAG, zero=False),
        "eventsExpiration": Field("eventsExpiration", codec=NUMBER, zero=0),
        "eventsListeners": Field("eventsListeners", codec=NAMES, zero=[]),
    }
    properties: ClassVar[Mapping[str, Property]] = {name: field.property for name, field in fields.items()}

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Return what is wrong with single values."""
        return mapping.problems(self.fields, inputs)

    def create(self, client: Keycloak, inputs: Properties) -> Created:
        """Create it and return it as it is then."""
        return Created(identifier=str(inputs["realmId"]), outputs=self.update(client, "", inputs, {}))

    def read(self, client: Keycloak, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        representation = client.find(*_config(outputs))
        return None if representation is None else mapping.read(self.fields, representation, outputs)

    def update(self, client: Keycloak, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place and return it as it is then."""
        representation: Representation = {}
        mapping.write(self.fields, inputs, outputs, representation)
        client.put(*_config(inputs), body=representation)
        return mapping.read(self.fields, cast("Representation", client.get(*_config(inputs))), inputs)

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        # As the official provider does it: what can be off is off, while lists stay as they are.
        nothing = {
            "adminEventsDetailsEnabled": False,
            "adminEventsEnabled": False,
            "eventsEnabled": False,
            "eventsExpiration": 0,
        }
        if client.find(*_config(outputs)) is not None:
            client.put(*_config(outputs), body=nothing)


class RequiredAction(ResourceType[Keycloak]):
    """An action that a realm can require of users, such as ``CONFIGURE_TOTP``; the identifier is ``realm/alias``."""

    token: ClassVar[str] = "keycloak:index/requiredAction:RequiredAction"
    fields: ClassVar[Mapping[str, Mapped]] = {
        # Unlike with the official provider these replace, because otherwise the former action would stay as it is.
        "realmId": Local(required=True, replaces=True),
        "alias": Field("alias", required=True, replaces=True),
        "name": Field("name"),
        "enabled": Field("enabled", codec=FLAG, zero=False),
        "defaultAction": Field("defaultAction", codec=FLAG, zero=False),
        "priority": Field("priority", codec=NUMBER),
        "config": Field("config", codec=TEXTS, zero={}),
    }
    properties: ClassVar[Mapping[str, Property]] = {name: field.property for name, field in fields.items()}

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Return what is wrong with single values."""
        return mapping.problems(self.fields, inputs)

    def create(self, client: Keycloak, inputs: Properties) -> Created:
        """Create it and return it as it is then."""
        realm, alias = str(inputs["realmId"]), str(inputs["alias"])
        unregistered = client.get("realms", realm, "authentication", "unregistered-required-actions")
        for action in cast("list[dict[str, Any]]", unregistered):
            if action["providerId"] == alias:
                client.post("realms", realm, "authentication", "register-required-action", body=action)
        return Created(identifier=f"{realm}/{alias}", outputs=self.update(client, "", inputs, {}))

    def read(self, client: Keycloak, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        representation = client.find(*_action(outputs))
        return None if representation is None else mapping.read(self.fields, representation, outputs)

    def update(self, client: Keycloak, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place and return it as it is then."""
        representation = cast("Representation", client.get(*_action(inputs)))
        mapping.write(self.fields, inputs, outputs, representation)
        client.put(*_action(inputs), body=representation)
        return mapping.read(self.fields, cast("Representation", client.get(*_action(inputs))), inputs)

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        client.delete(*_action(outputs))


def _config(inputs: Properties) -> Path:
    return ("realms", str(inputs["realmId"]), "events", "config")


def _action(inputs: Properties) -> Path:
    return ("realms", str(inputs["realmId"]), "authentication", "required-actions", str(inputs["alias"]))
