"""An authority in Vault: the request for its certificate, the signed one, what it issues, and where its revocations are."""

import uuid
from collections.abc import Mapping
from typing import ClassVar, cast

from providers.resource import Created, Properties, Property, ProviderError, ResourceType
from providers.vault.client import Vault
from providers.vault.records import Written


class IntermediateRequest(ResourceType[Vault]):
    """A key that is made in Vault and stays there, and a request that another authority makes its certificate from."""

    token: ClassVar[str] = "vault:pkiSecret/secretBackendIntermediateCertRequest:SecretBackendIntermediateCertRequest"
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        "type": Property(required=True, replaces=True),
        "commonName": Property(required=True, replaces=True),
        "organization": Property(replaces=True),
        "keyType": Property(replaces=True, default="rsa"),
        "keyBits": Property(replaces=True, default=2048),
    }

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse keys that are kept elsewhere or given out."""
        return {} if inputs.get("type", "internal") == "internal" else {"type": "must be internal"}

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Make the key and the request."""
        path = f"{_backend(inputs)}/issuers/generate/intermediate/{inputs['type']}"
        body = {
            "common_name": inputs["commonName"],
            "organization": inputs.get("organization"),
            "key_type": inputs["keyType"],
            "key_bits": inputs["keyBits"],
        }
        made = client.write(path, {name: value for name, value in body.items() if value is not None})
        return Created(
            identifier=f"{path}/{uuid.uuid4()}", outputs={**inputs, "csr": made["csr"], "keyId": made["key_id"]}
        )

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return nothing new, because Vault does not keep requests, or None if the key is gone."""
        if not outputs:
            raise ProviderError(f"{self.token} cannot be imported")
        return {} if outputs["keyId"] in _listed(client, f"{_backend(outputs)}/keys") else None

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Leave the key to the engine, as the official provider does: revocations of what it issued are signed with it."""


class IntermediateSigned(ResourceType[Vault]):
    """The certificate that another authority made for a key in Vault."""

    token: ClassVar[str] = "vault:pkiSecret/secretBackendIntermediateSetSigned:SecretBackendIntermediateSetSigned"
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        "certificate": Property(required=True, replaces=True),
    }

    def create(self, client: Vault, inputs: Properties) -> Created:
        """Give it to Vault, which knows the key that it belongs to."""
        path = f"{_backend(inputs)}/intermediate/set-signed"
        made = client.write(path, {"certificate": inputs["certificate"]})
        # One that is there already, of a run that was killed, is not imported anew.
        issuers = made.get("imported_issuers") or made.get("existing_issuers") or []
        return Created(
            identifier=path,
            outputs={**inputs, "importedIssuers": issuers, "importedKeys": made.get("imported_keys") or []},
        )

    def read(self, client: Vault, identifier: str, outputs: Properties) -> Properties | None:
        """Return nothing new, because certificates don't change, or None if Vault has it no longer."""
        if not outputs:
            raise ProviderError(f"{self.token} cannot be imported")
        issuers = cast("list[str]", outputs.get("importedIssuers") or [])
        return {} if issuers and _listed(client, f"{_backend(outputs)}/issuers").issuperset(issuers) else None

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Leave it to the engine, as the official provider does: what it issued is still valid."""


class _Configuration(Written):
    """A configuration of an engine, which it always has."""

    place: ClassVar[str]

    def path(self, inputs: Properties) -> str:
        """Return where it is."""
        return f"{_backend(inputs)}/{self.place}"

    def located(self, identifier: str) -> Properties:
        """Return the engine."""
        return {"backend": identifier.removesuffix(f"/{self.place}")}

    def delete(self, client: Vault, identifier: str, outputs: Properties) -> None:
        """Leave it: a configuration ends with its engine."""


class PkiIssuers(_Configuration):
    """Which of an engine's certificates issues where a role names none."""

    token: ClassVar[str] = "vault:pkiSecret/secretBackendConfigIssuers:SecretBackendConfigIssuers"
    place = "config/issuers"
    fields: ClassVar[Mapping[str, str]] = {
        "default": "default",
        "defaultFollowsLatestIssuer": "default_follows_latest_issuer",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        "default": Property(),
        "defaultFollowsLatestIssuer": Property(),
    }


class PkiUrls(_Configuration):
    """The addresses that certificates name: of their issuer, and of what was revoked."""

    token: ClassVar[str] = "vault:pkiSecret/secretBackendConfigUrls:SecretBackendConfigUrls"
    place = "config/urls"
    fields: ClassVar[Mapping[str, str]] = {
        "issuingCertificates": "issuing_certificates",
        "crlDistributionPoints": "crl_distribution_points",
        "ocspServers": "ocsp_servers",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        **{name: Property() for name in fields},
    }


class PkiCrl(_Configuration):
    """How long a list of revoked certificates is valid, and whether Vault makes the next one by itself."""

    token: ClassVar[str] = "vault:pkiSecret/secretBackendCrlConfig:SecretBackendCrlConfig"
    place = "config/crl"
    fields: ClassVar[Mapping[str, str]] = {
        "expiry": "expiry",
        "disable": "disable",
        "autoRebuild": "auto_rebuild",
        "autoRebuildGracePeriod": "auto_rebuild_grace_period",
        "enableDelta": "enable_delta",
        "deltaRebuildInterval": "delta_rebuild_interval",
        "ocspDisable": "ocsp_disable",
        "ocspExpiry": "ocsp_expiry",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        **{name: Property() for name in fields},
    }


class PkiRole(Written):
    """What may be issued: for which names, how long, and with which keys. What was issued outlives it."""

    token: ClassVar[str] = "vault:pkiSecret/secretBackendRole:SecretBackendRole"
    delete_before_replace = True
    fields: ClassVar[Mapping[str, str]] = {
        "issuerRef": "issuer_ref",
        "ttl": "ttl",
        "maxTtl": "max_ttl",
        "allowedDomains": "allowed_domains",
        "allowedDomainsTemplate": "allowed_domains_template",
        "allowAnyName": "allow_any_name",
        "allowBareDomains": "allow_bare_domains",
        "allowGlobDomains": "allow_glob_domains",
        "allowIpSans": "allow_ip_sans",
        "allowLocalhost": "allow_localhost",
        "allowSubdomains": "allow_subdomains",
        "allowWildcardCertificates": "allow_wildcard_certificates",
        "enforceHostnames": "enforce_hostnames",
        "requireCn": "require_cn",
        "serverFlag": "server_flag",
        "clientFlag": "client_flag",
        "codeSigningFlag": "code_signing_flag",
        "emailProtectionFlag": "email_protection_flag",
        "keyType": "key_type",
        "keyBits": "key_bits",
        "keyUsages": "key_usage",
        "extKeyUsages": "ext_key_usage",
        "organizations": "organization",
        "noStore": "no_store",
        "generateLease": "generate_lease",
    }
    properties: ClassVar[Mapping[str, Property]] = {
        "backend": Property(required=True, replaces=True),
        "name": Property(replaces=True, autoname=True),
        **{name: Property(unordered=name in {"keyUsages", "extKeyUsages"}) for name in fields},
    }

    def path(self, inputs: Properties) -> str:
        """Return where it is."""
        return f"{_backend(inputs)}/roles/{inputs['name']}"

    def located(self, identifier: str) -> Properties:
        """Return the engine and the name."""
        backend, _, name = identifier.rpartition("/roles/")
        return {"backend": backend, "name": name}


def _backend(values: Properties) -> str:
    return str(values["backend"]).strip("/")


def _listed(client: Vault, path: str) -> frozenset[str]:
    """Return what there is; of a single one that is gone, Vault says that it failed, not that it is gone."""
    return frozenset((client.read(f"{path}?list=true") or {}).get("keys") or ())
