"""What is at one path in Vault: policies, secrets, roles of logins, and the base of whatever else is."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.resource import Created, Properties, Property, ResourceType
from providers.vault.client import Vault


class Policy(ResourceType[Vault]):
    """A policy; the identifier is its name."""

    token: ClassVar[str] = "vault:index/policy:Policy"
    properties: ClassVar[Mapping[str, Property]] = {
        "name": Property(replaces=True, autoname=True),
        "policy": Property(required=True),
    }
    delete_before_replace = True

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Write it."""
        client.write(f"sys/policies/acl/{inputs['name']}", {"policy": inputs["policy"]})
        return Created(identifier=str(inputs["name"]), outputs=inputs)

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        found = client.read(f"sys/policies/acl/{identifier}")
        return None if found is None else {"name": identifier, "policy": found["policy"]}

    def update(self, client: Vault, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Write it anew."""
        return self.create(client, inputs).outputs

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Remove it; logins that had it have no rights by it any more."""
        client.delete(f"sys/policies/acl/{identifier}")


class SecretV2(ResourceType[Vault]):
    """An entry of a mount with versions; the identifier is ``mount/data/name``."""

    token: ClassVar[str] = "vault:kv/secretV2:SecretV2"
    properties: ClassVar[Mapping[str, Property]] = {
        "mount": Property(required=True, replaces=True),
        "name": Property(replaces=True, autoname=True),
        "dataJson": Property(secret=True),
        "deleteAllVersions": Property(default=False),
        "disableRead": Property(default=False),
    }
    secret_outputs: ClassVar[frozenset[str]] = frozenset({"data"})
    delete_before_replace = True

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse data that is no JSON object; nothing of it is repeated."""
        try:
            given = json.loads(inputs.get("dataJson", "{}"))
        except ValueError:
            given = None
        return {} if isinstance(given, dict) else {"dataJson": "must be a JSON object"}

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Write a version."""
        path = f"{str(inputs['mount']).strip('/')}/data/{str(inputs['name']).strip('/')}"
        data = _data(inputs)
        made = client.write(path, {"data": data})
        return Created(
            identifier=path, outputs={**inputs, "path": path, "data": _texts(data), "metadata": _texts(made)}
        )

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return the newest version, or None if there is none or it was deleted."""
        if outputs.get("disableRead"):
            return {}
        found = client.read(identifier)
        if found is None or found.get("data") is None:
            return None
        data = cast("dict[str, Any]", found["data"])
        mount, _, name = identifier.partition("/data/")
        same = bool(outputs.get("dataJson")) and _data(outputs) == data
        return {
            "mount": mount,
            "name": name,
            "path": identifier,
            "dataJson": outputs["dataJson"] if same else _written(data),
            "data": _texts(data),
            "metadata": _texts(found.get("metadata") or {}),
        }

    def update(self, client: Vault, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Write another version; the former ones stay."""
        if _data(inputs) == _data(outputs):
            return {**inputs, **{name: outputs.get(name) for name in ("path", "data", "metadata")}}
        return self.create(client, inputs).outputs

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Delete the newest version, or all of them if ``deleteAllVersions``."""
        kind = "metadata" if outputs.get("deleteAllVersions") else "data"
        client.delete(identifier.replace("/data/", f"/{kind}/", 1))


class Written(ResourceType[Vault]):
    """Values at one path; the identifier is the path."""

    fields: ClassVar[Mapping[str, str]]
    """Vault's name of each property that is no part of the path."""

    def path(self, inputs: Properties) -> str:
        """Return where it is."""
        raise NotImplementedError

    def located(self, identifier: str) -> Properties:
        """Return the properties that are part of the path."""
        raise NotImplementedError

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Write it."""
        path = self.path(inputs)
        client.write(path, self._body(inputs, {}))
        return Created(identifier=path, outputs=self.outputs(client, path, inputs))

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        found = client.read(identifier)
        if found is None:
            return None
        described = dict(self.located(identifier))
        for known, field in self.fields.items():
            # What the program leaves out has Vault's default, which is none of its business.
            if field in found and (outputs.get(known) is not None or (not outputs and found[field])):
                # The official properties that are durations are text, Vault's in seconds.
                number = isinstance(found[field], int) and isinstance(outputs.get(known), str)
                described[known] = str(found[field]) if number else found[field]
        return described

    def update(self, client: Vault, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Write it anew."""
        client.write(identifier, self._body(inputs, outputs))
        return self.outputs(client, identifier, inputs)

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Remove it."""
        client.delete(identifier)

    def outputs(self, client: Vault, identifier: str, inputs: Properties) -> dict[str, Any]:
        """Return the outputs of what was just written."""
        del client, identifier
        return dict(inputs)

    def _body(self, inputs: Properties, before: Properties) -> dict[str, Any]:
        """Return what is sent: what is given, and nothing in place of what was given before."""
        body: dict[str, Any] = {}
        for name, field in self.fields.items():
            if inputs.get(name) is not None:
                body[field] = inputs[name]
            elif before.get(name) is not None:
                body[field] = type(before[name])()
        return body


class _Role(Written):
    """A role of a login; the identifier is ``auth/backend/role/name``. Without it nobody can log in by it any more."""

    delete_before_replace = True

    def path(self, inputs: Properties) -> str:
        """Return where it is."""
        return f"auth/{str(inputs['backend']).strip('/')}/role/{inputs['roleName']}"

    def located(self, identifier: str) -> Properties:
        """Return the login and the name."""
        backend, _, name = identifier.removeprefix("auth/").rpartition("/role/")
        return {"backend": backend, "roleName": name}


_TOKEN: Mapping[str, str] = {
    "tokenPolicies": "token_policies",
    "tokenTtl": "token_ttl",
    "tokenMaxTtl": "token_max_ttl",
    "tokenExplicitMaxTtl": "token_explicit_max_ttl",
    "tokenPeriod": "token_period",
    "tokenNumUses": "token_num_uses",
    "tokenNoDefaultPolicy": "token_no_default_policy",
    "tokenBoundCidrs": "token_bound_cidrs",
    "tokenType": "token_type",
}
_SETS = frozenset({"tokenPolicies", "tokenBoundCidrs", "boundAudiences", "oidcScopes", "allowedRedirectUris"})


def _role_properties(fields: Mapping[str, str]) -> dict[str, Property]:
    return {name: Property(unordered=name in _SETS) for name in fields}


class AppRole(_Role):
    """A role of AppRole: a service logs in with its ``roleId`` and a secret that it was given."""

    token: ClassVar[str] = "vault:appRole/authBackendRole:AuthBackendRole"
    fields: ClassVar[Mapping[str, str]] = {
        **_TOKEN,
        "bindSecretId": "bind_secret_id",
        "secretIdTtl": "secret_id_ttl",
        "secretIdNumUses": "secret_id_num_uses",
        "secretIdBoundCidrs": "secret_id_bound_cidrs",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(default="approle", replaces=True),
        "roleName": Property(required=True, replaces=True),
        "roleId": Property(),
        **_role_properties(fields),
    }

    def outputs(self, client: Vault, identifier: str, inputs: Properties) -> dict[str, Any]:
        """Return the outputs with the role's identifier, which Vault makes up if none is given."""
        if inputs.get("roleId"):
            client.write(f"{identifier}/role-id", {"role_id": inputs["roleId"]})
        return {**inputs, "roleId": (client.read(f"{identifier}/role-id") or {}).get("role_id")}

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        found = super().read(client, identifier, outputs)
        if found is None:
            return None
        return {**found, "roleId": (client.read(f"{identifier}/role-id") or {}).get("role_id")}


class JwtRole(_Role):
    """A role of a login by OpenID Connect or with a JWT: who may have it, and what it gives."""

    token: ClassVar[str] = "vault:jwt/authBackendRole:AuthBackendRole"
    fields: ClassVar[Mapping[str, str]] = {
        **_TOKEN,
        "roleType": "role_type",
        "userClaim": "user_claim",
        "groupsClaim": "groups_claim",
        "boundAudiences": "bound_audiences",
        "boundSubject": "bound_subject",
        "boundClaims": "bound_claims",
        "boundClaimsType": "bound_claims_type",
        "claimMappings": "claim_mappings",
        "oidcScopes": "oidc_scopes",
        "allowedRedirectUris": "allowed_redirect_uris",
        "verboseOidcLogging": "verbose_oidc_logging",
        "maxAge": "max_age",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(default="jwt", replaces=True),
        "roleName": Property(required=True, replaces=True),
        **_role_properties(fields),
        "roleType": Property(default="oidc", replaces=True),
        "userClaim": Property(required=True),
    }


def _data(values: Properties) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(values.get("dataJson") or "{}"))


def _written(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text, as the official provider does: what is no text is JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
