"""Vault's database engine: where a database is, and whose password Vault keeps there; and requests to any path."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.resource import Created, Properties, Property, ResourceType
from providers.vault.client import Vault
from providers.vault.records import Written

_PLUGIN = "postgresql-database-plugin"


class SecretBackendConnection(ResourceType[Vault]):
    """How Vault reaches a PostgreSQL server; the identifier is ``backend/config/name``."""

    token: ClassVar[str] = "vault:database/secretBackendConnection:SecretBackendConnection"
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        "name": Property(replaces=True, autoname=True),
        "allowedRoles": Property(unordered=True),
        "verifyConnection": Property(default=True),
        "postgresql": Property(),
    }
    _fields: ClassVar[Mapping[str, str]] = {
        "connectionUrl": "connection_url",
        "username": "username",
        "passwordAuthentication": "password_authentication",
        "maxOpenConnections": "max_open_connections",
    }
    delete_before_replace = True

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse other databases, and options that are not served."""
        if "postgresql" not in inputs:
            return {"postgresql": "is needed: no other database is served"}
        unknown = set(cast("Mapping[str, Any]", inputs["postgresql"])) - {*self._fields, "password"}
        return {"postgresql": f"has options that are not served: {', '.join(sorted(unknown))}"} if unknown else {}

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Write it; Vault tries the connection unless told otherwise."""
        path = f"{str(inputs['backend']).strip('/')}/config/{inputs['name']}"
        self._write(client, path, inputs)
        return Created(identifier=path, outputs=inputs)

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone; Vault never shows the password."""
        found = client.read(identifier)
        if found is None:
            return None
        backend, _, name = identifier.partition("/config/")
        details: Mapping[str, Any] = found.get("connection_details") or {}
        prior: Mapping[str, Any] = outputs.get("postgresql") or {}
        server = {
            known: details[field]
            for known, field in self._fields.items()
            if field in details and (known in prior or not prior)
        }
        return {
            "backend": backend,
            "name": name,
            "allowedRoles": found.get("allowed_roles") or [],
            "postgresql": {**server, **({"password": prior["password"]} if "password" in prior else {})},
        }

    def update(self, client: Vault, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Write it anew."""
        self._write(client, identifier, inputs)
        return inputs

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Remove it; the roles that used it have no passwords any more."""
        client.delete(identifier)

    def _write(self, client: Vault, path: str, inputs: Properties) -> None:
        server = cast("Mapping[str, Any]", inputs["postgresql"])
        given = {
            field: server[name] for name, field in {**self._fields, "password": "password"}.items() if name in server
        }
        body = {
            "plugin_name": _PLUGIN,
            "allowed_roles": inputs.get("allowedRoles") or [],
            "verify_connection": inputs.get("verifyConnection", True),
            **given,
        }
        client.write(path, body)


class SecretBackendStaticRole(Written):
    """A role that exists in a database, whose password is Vault's; the identifier is ``backend/static-roles/name``."""

    token: ClassVar[str] = "vault:database/secretBackendStaticRole:SecretBackendStaticRole"
    fields: ClassVar[Mapping[str, str]] = {
        "dbName": "db_name",
        "username": "username",
        "rotationPeriod": "rotation_period",
        "rotationStatements": "rotation_statements",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        "name": Property(replaces=True, autoname=True),
        "dbName": Property(required=True, replaces=True),
        "username": Property(required=True, replaces=True),
        "rotationPeriod": Property(),
        "rotationStatements": Property(),
    }
    delete_before_replace = True

    def path(self, inputs: Properties) -> str:
        """Return where it is."""
        return f"{str(inputs['backend']).strip('/')}/static-roles/{inputs['name']}"

    def located(self, identifier: str) -> Properties:
        """Return the engine and the name."""
        backend, _, name = identifier.partition("/static-roles/")
        return {"backend": backend, "name": name}


class Endpoint(ResourceType[Vault]):
    """A request to a path that no other type is about; the identifier is the path.

    It is sent again when its data changes. What Vault answers is in no output.
    """

    token: ClassVar[str] = "vault:generic/endpoint:Endpoint"
    properties: ClassVar[Mapping[str, Property]] = {
        "path": Property(required=True, replaces=True),
        "dataJson": Property(required=True, secret=True),
        "disableRead": Property(default=False),
        "disableDelete": Property(default=False),
        "ignoreAbsentFields": Property(default=False),
    }

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse data that is no JSON object; nothing of it is repeated."""
        try:
            given = json.loads(inputs.get("dataJson", "{}"))
        except ValueError:
            given = None
        return {} if isinstance(given, dict) else {"dataJson": "must be a JSON object"}

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Send it."""
        path = str(inputs["path"]).strip("/")
        client.write(path, json.loads(inputs["dataJson"]))
        return Created(identifier=path, outputs=inputs)

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return what is at the path, or None if nothing is; with ``disableRead`` what the state has."""
        if outputs.get("disableRead"):
            return {}
        found = client.read(identifier)
        if found is None:
            return None
        sent: dict[str, Any] = json.loads(outputs.get("dataJson") or "{}")
        if outputs.get("ignoreAbsentFields"):
            found = {name: found.get(name, value) for name, value in sent.items()}
        same = bool(sent) and found == sent
        return {"path": identifier, "dataJson": outputs["dataJson"] if same else json.dumps(found, sort_keys=True)}

    def update(self, client: Vault, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Send it if its data is another one."""
        if json.loads(inputs["dataJson"]) != json.loads(outputs.get("dataJson") or "null"):
            client.write(identifier, json.loads(inputs["dataJson"]))
        return inputs

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Delete what is at the path, unless ``disableDelete`` says that there is nothing to delete."""
        if not outputs.get("disableDelete"):
            client.delete(identifier)
