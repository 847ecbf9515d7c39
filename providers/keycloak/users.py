"""Users."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import FLAG, NAMES, VALUES, Field, Local, Mapped, Path, Representation
from providers.keycloak.record import Record
from providers.resource import Properties, ProviderError


class User(Record):
    """A user. Its initial password is set when it is created and never again: it is the person's from then on."""

    token: ClassVar[str] = "keycloak:index/user:User"
    noun = "user"
    named_by = "username"
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "username": Field("username", required=True, replaces=True),
        "email": Field("email", zero=""),
        "emailVerified": Field("emailVerified", codec=FLAG, default=False),
        "firstName": Field("firstName", zero=""),
        "lastName": Field("lastName", zero=""),
        "enabled": Field("enabled", codec=FLAG, default=True),
        # Kept where the program says nothing: Keycloak adds to it, such as for a temporary password.
        "requiredActions": Field("requiredActions", codec=NAMES, zero=[], computed=True),
        "attributes": Field("attributes", codec=VALUES, zero={}),
        "initialPassword": Local(secret=True),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return ("realms", str(inputs["realmId"]), "users")

    def find(self, client: Keycloak, inputs: Properties) -> str | None:
        """Return the identifier of the user of that name, or None; a list of all would come in parts."""
        found = client.find(*self.collection(inputs), username=str(inputs["username"]), exact="true")
        return str(found[0]["id"]) if found else None

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Return what is wrong with single values."""
        found = dict(super().check(inputs))
        name = inputs.get("username")
        if isinstance(name, str) and name != name.lower():
            found["username"] = f"'{name}' must be lower case: Keycloak makes it so"
        password = inputs.get("initialPassword")
        if password is not None and not (isinstance(password, Mapping) and "value" in password):
            found["initialPassword"] = "it must be an object with a value"
        return found

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        if "id" in representation:
            return
        password = inputs.get("initialPassword")
        if password:
            # With the user and not after it, so that a password that the realm refuses makes no user without one.
            temporary = bool(password.get("temporary"))
            representation["credentials"] = [{"type": "password", "value": password["value"], "temporary": temporary}]

    def finish(self, client: Keycloak, identifier: str, inputs: Properties, before: Properties | None) -> None:
        """Do what the representation does not."""
        wanted = cast("Mapping[str, Any]", inputs.get("attributes") or {})
        if wanted:
            kept = cast("Mapping[str, Any]", client.get(*self.address(identifier, inputs)).get("attributes") or {})
            if lost := sorted(wanted.keys() - kept.keys()):
                raise ProviderError(
                    f"the realm '{inputs['realmId']}' drops {', '.join(lost)} of the user '{inputs['username']}':"
                    " its user profile neither declares them nor allows unmanaged attributes"
                )
