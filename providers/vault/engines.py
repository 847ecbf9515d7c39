"""What is mounted in Vault: secrets engines, ways to log in, and logs of accesses."""

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.resource import Created, PartialFailureError, Properties, Property, ProviderError, ResourceType
from providers.vault.client import Vault


class _Mounted(ResourceType[Vault]):
    """Something at a path of its own; the identifier is the path."""

    table: ClassVar[str]
    """Where all of its kind are listed and made."""
    delete_before_replace = True

    def path(self, inputs: Properties) -> str:
        """Return the path, without slashes at its ends."""
        return str(inputs.get("path") or inputs["type"]).strip("/")

    def body(self, inputs: Properties) -> dict[str, Any]:
        """Return what it is made of."""
        found = {
            "type": inputs["type"],
            "description": inputs.get("description"),
            "options": inputs.get("options"),
            "local": inputs.get("local"),
        }
        return {name: value for name, value in found.items() if value is not None}

    def described(self, client: Vault, identifier: str, prior: Properties) -> dict[str, Any] | None:
        """Return the outputs, or None if there is nothing at the path.

        What the program did not give is none of its outputs, because Vault fills in what it likes.
        """
        found = (client.read(self.table) or {}).get(f"{identifier}/")
        if found is None:
            return None
        outputs: dict[str, Any] = {"path": identifier, "type": found["type"], "local": bool(found.get("local"))}
        if "accessor" in found:
            outputs["accessor"] = found["accessor"]
        for name in ("description", "options"):
            if prior.get(name) is not None or not prior:
                outputs[name] = found.get(name)
        return outputs

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Mount it."""
        path = self.path(inputs)
        client.write(f"{self.table}/{path}", self.body(inputs))
        return Created(identifier=path, outputs=self.described(client, path, inputs) or {})

    def take_up(self, client: Vault, inputs: Properties) -> Created | None:
        """Bring what is mounted at the path up to the inputs, if it is of the same kind."""
        path = self.path(inputs)
        found = self.described(client, path, inputs)
        if found is None or found["type"] != inputs["type"]:
            return None
        try:
            self.tune(client, path, inputs)
        except ProviderError as error:
            raise PartialFailureError(str(error), identifier=path, outputs={**inputs, **found}) from error
        return Created(identifier=path, outputs=self.described(client, path, inputs) or found)

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        return self.described(client, identifier, outputs)

    def update(self, client: Vault, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change it in place.

        Raises:
            ProviderError: its path changed: what is below it would have to move along.
        """
        if self.path(inputs) != identifier:
            raise ProviderError(
                f"{self.token}: moving {identifier} to {self.path(inputs)} is not served; name it anew."
            )
        self.tune(client, identifier, inputs)
        return self.described(client, identifier, inputs) or {}

    def tune(self, client: Vault, identifier: str, inputs: Properties) -> None:
        """Change what can be changed in place."""
        given = {name: inputs[name] for name in ("description", "options") if inputs.get(name) is not None}
        client.write(f"{self.table}/{identifier}/tune", given)

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Unmount it, with everything below it."""
        client.delete(f"{self.table}/{identifier}")


class Mount(_Mounted):
    """A secrets engine, such as ``kv``."""

    token: ClassVar[str] = "vault:index/mount:Mount"
    table = "sys/mounts"
    properties: ClassVar[Mapping[str, Property]] = {
        "path": Property(required=True),
        "type": Property(required=True, replaces=True),
        "description": Property(),
        "options": Property(),
        "local": Property(replaces=True),
        "maxLeaseTtlSeconds": Property(),
    }

    def body(self, inputs: Properties) -> dict[str, Any]:
        """Return what it is made of."""
        return {**super().body(inputs), "config": _limit(inputs)}

    def described(self, client: Vault, identifier: str, prior: Properties) -> dict[str, Any] | None:
        """Return the outputs, or None if there is nothing at the path."""
        outputs = super().described(client, identifier, prior)
        if outputs is not None and prior.get("maxLeaseTtlSeconds") is not None:
            found = (client.read(f"{self.table}/{identifier}/tune") or {}).get("max_lease_ttl")
            outputs["maxLeaseTtlSeconds"] = found
        return outputs

    def tune(self, client: Vault, identifier: str, inputs: Properties) -> None:
        """Change what can be changed in place."""
        super().tune(client, identifier, inputs)
        client.write(f"{self.table}/{identifier}/tune", _limit(inputs))


class AuthBackend(_Mounted):
    """A way to log in, such as ``approle``."""

    token: ClassVar[str] = "vault:index/authBackend:AuthBackend"
    table = "sys/auth"
    properties: ClassVar[Mapping[str, Property]] = {
        "path": Property(),
        "type": Property(required=True, replaces=True),
        "description": Property(),
        "local": Property(replaces=True),
    }


class Audit(_Mounted):
    """A log of accesses."""

    token: ClassVar[str] = "vault:index/audit:Audit"
    table = "sys/audit"
    properties: ClassVar[Mapping[str, Property]] = {
        "path": Property(replaces=True),
        "type": Property(required=True, replaces=True),
        "description": Property(replaces=True),
        "options": Property(required=True, replaces=True),
        "local": Property(replaces=True),
    }

    def tune(self, client: Vault, identifier: str, inputs: Properties) -> None:
        """Do nothing: no log can be changed in place."""


class JwtAuthBackend(_Mounted):
    """A way to log in by OpenID Connect or with a JWT."""

    token: ClassVar[str] = "vault:jwt/authBackend:AuthBackend"
    table = "sys/auth"
    properties: ClassVar[Mapping[str, Property]] = {
        "path": Property(default="jwt"),
        "type": Property(default="jwt", replaces=True),
        "description": Property(replaces=True),
        "local": Property(replaces=True),
        "oidcDiscoveryUrl": Property(),
        "oidcDiscoveryCaPem": Property(),
        "oidcClientId": Property(),
        "oidcClientSecret": Property(secret=True),
        "oidcResponseMode": Property(),
        "oidcResponseTypes": Property(),
        "jwksUrl": Property(),
        "jwksCaPem": Property(),
        "jwtSupportedAlgs": Property(),
        "boundIssuer": Property(),
        "defaultRole": Property(),
    }
    _configuration: ClassVar[Mapping[str, str]] = {
        "oidcDiscoveryUrl": "oidc_discovery_url",
        "oidcDiscoveryCaPem": "oidc_discovery_ca_pem",
        "oidcClientId": "oidc_client_id",
        "oidcClientSecret": "oidc_client_secret",
        "oidcResponseMode": "oidc_response_mode",
        "oidcResponseTypes": "oidc_response_types",
        "jwksUrl": "jwks_url",
        "jwksCaPem": "jwks_ca_pem",
        "jwtSupportedAlgs": "jwt_supported_algs",
        "boundIssuer": "bound_issuer",
        "defaultRole": "default_role",
    }

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Mount and configure it; Vault asks the issuer at once."""
        made = super().create(client, inputs)
        try:
            self._configure(client, made.identifier, inputs)
        except ProviderError as error:
            raise PartialFailureError(
                str(error), identifier=made.identifier, outputs={**inputs, **made.outputs}
            ) from error
        return Created(
            identifier=made.identifier, outputs=self.described(client, made.identifier, inputs) or made.outputs
        )

    def tune(self, client: Vault, identifier: str, inputs: Properties) -> None:
        """Configure it anew."""
        self._configure(client, identifier, inputs)

    def described(self, client: Vault, identifier: str, prior: Properties) -> dict[str, Any] | None:
        """Return the outputs; Vault never shows the client's secret."""
        outputs = super().described(client, identifier, prior)
        if outputs is None:
            return None
        found = client.read(f"auth/{identifier}/config") or {}
        for name, field in self._configuration.items():
            if name != "oidcClientSecret" and prior.get(name) is not None and field in found:
                # Vault keeps a PEM without the newline at its end.
                same = isinstance(found[field], str) and found[field].strip() == str(prior[name]).strip()
                outputs[name] = prior[name] if same else found[field]
        return outputs

    def _configure(self, client: Vault, identifier: str, inputs: Properties) -> None:
        given = {
            field: inputs[name] for name, field in self._configuration.items() if inputs.get(name) not in (None, "")
        }
        client.write(f"auth/{identifier}/config", given)


def _limit(inputs: Properties) -> dict[str, Any]:
    """Return how long what an engine gives may be valid; 0 is Vault's own limit."""
    return {"max_lease_ttl": f"{int(inputs.get('maxLeaseTtlSeconds') or 0)}s"}
