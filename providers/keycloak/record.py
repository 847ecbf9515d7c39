"""What most resource types of Keycloak have in common: they are a record in a collection, or a set of assignments."""

import abc
import copy
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak import mapping
from providers.keycloak.client import ConflictError, Keycloak
from providers.keycloak.mapping import Mapped, Path, Representation
from providers.resource import Created, PartialFailureError, Properties, Property, ProviderError, ResourceType


class Record(ResourceType[Keycloak]):
    """A type whose resources are records in a collection of Keycloak's API; its fields say nearly all about it."""

    noun: ClassVar[str]
    """What a person calls it, for messages."""
    named_by: ClassVar[str] = "name"
    """The property with the name that must be unique."""
    realm_property: ClassVar[str] = "realmId"
    fields: ClassVar[Mapping[str, Mapped]]
    constants: ClassVar[Representation] = {}
    """What each new record has beside its fields."""
    partial: ClassVar[bool] = False
    """Whether an update sends only what differs; Keycloak then leaves the rest alone."""
    delete_before_replace = True

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if hasattr(cls, "fields"):
            cls.properties = {name: field.property for name, field in cls.fields.items()}

    @abc.abstractmethod
    def collection(self, inputs: Properties) -> Path:
        """Return where such records are, given the inputs or outputs of one."""

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where one record is."""
        return (*self.collection(inputs), identifier)

    def identify(self, client: Keycloak, inputs: Properties, location: str) -> str:
        """Return the identifier of a record that was just created; ``location`` is the last part of its address."""
        del client, inputs
        return location

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete a representation before it is sent.

        Raises:
            ProviderError: the inputs contradict each other.
        """

    def finish(self, client: Keycloak, identifier: str, inputs: Properties, before: Properties | None) -> None:
        """Do what a record needs beside its representation; ``before`` is the state, None for a new one."""

    def describe(
        self, client: Keycloak, identifier: str, representation: Representation, prior: Properties
    ) -> dict[str, Any]:
        """Return the outputs of a record."""
        del client, identifier
        return mapping.read(self.fields, representation, prior)

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Return what is wrong with single values."""
        return mapping.problems(self.fields, inputs)

    def create(self, client: Keycloak, inputs: Properties) -> Created:
        """Create it and return it as it is then."""
        representation = dict(self.constants)
        mapping.write(self.fields, inputs, None, representation)
        self.prepare(client, inputs, representation)
        try:
            location = client.post(*self.collection(inputs), body=representation)
        except ConflictError as error:
            raise ProviderError(
                f"Keycloak has a {self.noun} '{inputs.get(self.named_by)}' already"
                f" in the realm '{inputs.get(self.realm_property)}' ({self.token}): {error}"
            ) from error
        identifier = self.identify(client, inputs, location)
        try:
            self.finish(client, identifier, inputs, None)
            return Created(identifier=identifier, outputs=self._outputs(client, identifier, inputs))
        except ProviderError as error:
            raise PartialFailureError(str(error), identifier=identifier, outputs=inputs) from error

    def find(self, client: Keycloak, inputs: Properties) -> str | None:
        """Return the identifier of the record with the name of the inputs, or None."""
        for found in cast("list[Representation]", client.find(*self.collection(inputs)) or ()):
            if found[self.named_by] == inputs[self.named_by]:
                return self.identify(client, inputs, str(found.get("id")))
        return None

    def take_up(self, client: Keycloak, inputs: Properties) -> Created | None:
        """Bring the record of that name up to the inputs."""
        identifier = self.find(client, inputs)
        if identifier is None:
            return None
        try:
            before = self.read(client, identifier, inputs) or inputs
            return Created(identifier=identifier, outputs=self.update(client, identifier, inputs, before))
        except ProviderError as error:
            raise PartialFailureError(str(error), identifier=identifier, outputs=inputs) from error

    def read(self, client: Keycloak, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        representation = client.find(*self.address(identifier, outputs))
        if representation is None:
            return None
        return self.describe(client, identifier, representation, outputs)

    def update(self, client: Keycloak, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place and return it as it is then."""
        # Keycloak's own console does the same: what this provider does not know stays as it is.
        found = cast("Representation", client.get(*self.address(identifier, outputs)))
        representation = copy.deepcopy(found)
        mapping.write(self.fields, inputs, outputs, representation)
        self.prepare(client, inputs, representation)
        body = representation
        if self.partial:
            body = {key: value for key, value in representation.items() if found.get(key) != value}
        if representation != found:
            client.put(*self.address(identifier, outputs), body=body)
        self.finish(client, identifier, inputs, outputs)
        return self._outputs(client, identifier, inputs)

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        client.delete(*self.address(identifier, outputs))

    def _outputs(self, client: Keycloak, identifier: str, inputs: Properties) -> dict[str, Any]:
        representation = cast("Representation", client.get(*self.address(identifier, inputs)))
        return self.describe(client, identifier, representation, inputs)


class Assignment(ResourceType[Keycloak]):
    """A type that says which members something has: the roles of a group, the groups of a user, the scopes of a client.

    Members are texts, such as identifiers of roles. Where ``exhaustive`` is false, others are left alone and unreported.
    """

    members: ClassVar[str]
    """The property with the list."""

    @abc.abstractmethod
    def identify(self, client: Keycloak, inputs: Properties) -> str:
        """Return the identifier that the official provider gives."""

    @abc.abstractmethod
    def current(self, client: Keycloak, inputs: Properties) -> list[str] | None:
        """Return all members now, or None if what they belong to does not exist."""

    @abc.abstractmethod
    def add(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Add members; at least one."""

    @abc.abstractmethod
    def remove(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Remove members that it has; at least one."""

    def create(self, client: Keycloak, inputs: Properties) -> Created:
        """Create it and return it as it is then."""
        self._reconcile(client, inputs, [])
        return Created(identifier=self.identify(client, inputs), outputs=self._report(client, inputs) or inputs)

    def read(self, client: Keycloak, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        return self._report(client, outputs)

    def update(self, client: Keycloak, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place and return it as it is then."""
        self._reconcile(client, inputs, _names(outputs.get(self.members)))
        return self._report(client, inputs) or inputs

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        current = self.current(client, outputs) or []
        if members := [member for member in _names(outputs.get(self.members)) if member in current]:
            self.remove(client, outputs, members)

    def _reconcile(self, client: Keycloak, inputs: Properties, before: list[str]) -> None:
        current = self.current(client, inputs)
        if current is None:
            raise ProviderError(f"what {self.token} belongs to does not exist in the realm '{inputs.get('realmId')}'")
        wanted = _names(inputs[self.members])
        if missing := [member for member in wanted if member not in current]:
            self.add(client, inputs, missing)
        own = current if _exhaustive(inputs) else [member for member in before if member in current]
        if surplus := [member for member in own if member not in wanted]:
            self.remove(client, inputs, surplus)

    def _report(self, client: Keycloak, prior: Properties) -> Properties | None:
        current = self.current(client, prior)
        if current is None:
            return None
        wanted = _names(prior.get(self.members))
        # In the order of the program, then what is there beyond it.
        members = [member for member in wanted if member in current]
        if _exhaustive(prior):
            members += sorted(member for member in current if member not in wanted)
        return {**prior, self.members: members}


EXHAUSTIVE = Property(default=True)


def _names(value: Any) -> list[str]:
    return [str(name) for name in cast("list[Any]", value or [])]


def _exhaustive(properties: Properties) -> bool:
    return bool(properties.get("exhaustive", True))
