"""How a realm signs people in: flows of steps, what the steps are configured with, and which flow is used for what."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak import mapping
from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import NUMBER, TEXTS, Field, Local, Mapped, Path, Representation
from providers.keycloak.record import Record
from providers.resource import Created, Properties, Property, ProviderError, ResourceType

_REQUIREMENTS = ("REQUIRED", "ALTERNATIVE", "OPTIONAL", "CONDITIONAL", "DISABLED")

_STEP: dict[str, Mapped] = {
    "realmId": Local(required=True, replaces=True),
    "parentFlowAlias": Local(required=True, replaces=True),
    "requirement": Field("requirement", default="DISABLED", choices=_REQUIREMENTS),
    "priority": Field("priority", codec=NUMBER),
}


class Flow(Record):
    """A flow of a realm that is part of no other one; its steps are resources of their own."""

    token: ClassVar[str] = "keycloak:authentication/flow:Flow"
    noun = "authentication flow"
    named_by = "alias"
    constants: ClassVar[Representation] = {"topLevel": True, "builtIn": False}
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "alias": Field("alias", autoname=True),
        "providerId": Field("providerId", default="basic-flow", choices=("basic-flow", "client-flow")),
        "description": Field("description", zero="", computed=True),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return _authentication(inputs, "flows")


class _Step(Record):
    """Something in a flow. Keycloak changes its requirement and its place at the flow, not at the step itself."""

    def finish(self, client: Keycloak, identifier: str, inputs: Properties, before: Properties | None) -> None:
        """Set what creating a step leaves at Keycloak's defaults."""
        execution = self.execution(client, identifier, inputs)
        if execution is None:
            raise ProviderError(f"the flow '{inputs['parentFlowAlias']}' has lost {self.token} {identifier}")
        wanted = {
            "id": execution["id"],
            "requirement": inputs["requirement"],
            # One that is not said counts as 0, the first place.
            "priority": execution["priority"] if inputs.get("priority") is None else int(inputs["priority"]),
        }
        if any(execution[name] != value for name, value in wanted.items()):
            client.put(*_executions(inputs), body=wanted)

    def execution(self, client: Keycloak, identifier: str, inputs: Properties) -> Representation | None:
        """Return the step as its flow has it, or None if it is gone."""
        for execution in cast("list[Representation]", client.find(*_executions(inputs)) or ()):
            if identifier in (execution.get("flowId"), execution["id"]):
                return execution
        return None

    def find(self, client: Keycloak, inputs: Properties) -> str | None:
        """Return the identifier of the step of that name directly in its flow, or None."""
        for execution in cast("list[Representation]", client.find(*_executions(inputs)) or ()):
            if execution["level"] == 0 and self.named(execution) == inputs[self.named_by]:
                return str(execution.get("flowId") or execution["id"])
        return None

    def named(self, execution: Representation) -> Any:
        """Return what is compared with the name of the inputs."""
        return execution.get("displayName")


class Subflow(_Step):
    """A flow inside another one; its identifier is the flow's."""

    token: ClassVar[str] = "keycloak:authentication/subflow:Subflow"
    noun = "authentication flow"
    named_by = "alias"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_STEP,
        "alias": Field("alias", autoname=True),
        "providerId": Field("providerId", default="basic-flow", choices=("basic-flow", "form-flow", "client-flow")),
        "description": Field("description", zero=""),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are made."""
        return (*_executions(inputs), "flow")

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where the flow itself is."""
        return _authentication(inputs, "flows", identifier)

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Leave out what belongs to the step, and name the kind of flow as making one wants it."""
        representation.pop("requirement", None)
        representation.pop("priority", None)
        if "id" not in representation:
            representation["type"] = representation.pop("providerId")

    def describe(
        self, client: Keycloak, identifier: str, representation: Representation, prior: Properties
    ) -> dict[str, Any]:
        """Return the outputs, with those that the flow around it has."""
        execution = self.execution(client, identifier, prior) or {}
        placed = {name: execution[name] for name in ("requirement", "priority") if name in execution}
        return super().describe(client, identifier, {**representation, **placed}, prior)

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it with all that is in it; that it is gone already is no error."""
        execution = self.execution(client, identifier, outputs)
        if execution is not None:
            client.delete(*_authentication(outputs, "executions", str(execution["id"])))


class Execution(_Step):
    """A step of a flow: one authenticator, such as ``auth-otp-form``."""

    token: ClassVar[str] = "keycloak:authentication/execution:Execution"
    noun = "authentication execution"
    named_by = "authenticator"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_STEP,
        "authenticator": Field("authenticator", required=True, replaces=True),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are made."""
        return (*_executions(inputs), "execution")

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where one step is."""
        return _authentication(inputs, "executions", identifier)

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Name the authenticator as making a step wants it."""
        representation["provider"] = representation.pop("authenticator")

    def named(self, execution: Representation) -> Any:
        """Return what is compared with the name of the inputs."""
        return execution.get("providerId")

    def update(self, client: Keycloak, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place and return it as it is then."""
        self.finish(client, identifier, inputs, outputs)
        return self._outputs(client, identifier, inputs)


class ExecutionConfig(Record):
    """What a step is configured with; its keys are the authenticator's."""

    token: ClassVar[str] = "keycloak:authentication/executionConfig:ExecutionConfig"
    noun = "configuration of an authentication execution"
    named_by = "alias"
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "executionId": Local(required=True, replaces=True),
        "alias": Field("alias", replaces=True, autoname=True),
        "config": Field("config", codec=TEXTS, required=True),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are made."""
        return _authentication(inputs, "executions", str(inputs["executionId"]), "config")

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where one record is."""
        return _authentication(inputs, "config", identifier)

    def find(self, client: Keycloak, inputs: Properties) -> str | None:
        """Return the identifier of what the step is configured with, or None."""
        step = client.find(*_authentication(inputs, "executions", str(inputs["executionId"])))
        found = (step or {}).get("authenticatorConfig")
        return str(found) if found else None


class Bindings(ResourceType[Keycloak]):
    """Which flow a realm uses for what; it is identified by the realm, and what is not given stays as it is."""

    token: ClassVar[str] = "keycloak:authentication/bindings:Bindings"
    usual: ClassVar[Mapping[str, str]] = {
        "browserFlow": "browser",
        "registrationFlow": "registration",
        "directGrantFlow": "direct grant",
        "resetCredentialsFlow": "reset credentials",
        "clientAuthenticationFlow": "clients",
        "dockerAuthenticationFlow": "docker auth",
        "firstBrokerLoginFlow": "first broker login",
    }
    """Keycloak's own flow for each."""
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        **{name: Field(name) for name in usual},
    }
    properties: ClassVar[Mapping[str, Property]] = {name: field.property for name, field in fields.items()}

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Return what is wrong with single values."""
        return mapping.problems(self.fields, inputs)

    def create(self, client: Keycloak, inputs: Properties) -> Created:
        """Create it and return it as it is then."""
        return Created(identifier=str(inputs["realmId"]), outputs=self.update(client, "", inputs, {}))

    def read(self, client: Keycloak, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if the realm is gone."""
        realm = client.find("realms", str(outputs["realmId"]))
        return None if realm is None else mapping.read(self.fields, realm, outputs)

    def update(self, client: Keycloak, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place and return it as it is then."""
        flows: Representation = {}
        mapping.write(self.fields, inputs, outputs, flows)
        client.put("realms", str(inputs["realmId"]), body=flows)
        return mapping.read(self.fields, cast("Representation", client.get("realms", str(inputs["realmId"]))), inputs)

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Give the realm Keycloak's own flows again; a realm that is gone already is no error."""
        if client.find("realms", str(outputs["realmId"])) is not None:
            client.put("realms", str(outputs["realmId"]), body=dict(self.usual))


def _authentication(inputs: Properties, *path: str) -> Path:
    return ("realms", str(inputs["realmId"]), "authentication", *path)


def _executions(inputs: Properties) -> Path:
    return _authentication(inputs, "flows", str(inputs["parentFlowAlias"]), "executions")
