"""The Vault provider: the resource types of the official one on Vault's API."""

import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.resource import Properties, Property, ProviderError
from providers.server import Provider
from providers.vault.client import Settings, Vault
from providers.vault.databases import Endpoint, SecretBackendConnection, SecretBackendStaticRole
from providers.vault.engines import Audit, AuthBackend, JwtAuthBackend, Mount
from providers.vault.pki import IntermediateRequest, IntermediateSigned, PkiCrl, PkiIssuers, PkiRole, PkiUrls
from providers.vault.records import AppRole, JwtRole, Policy, SecretV2

_ENVIRONMENT = {
    "address": "VAULT_ADDR",
    "token": "VAULT_TOKEN",
    "namespace": "VAULT_NAMESPACE",
    "caCertFile": "VAULT_CACERT",
    "skipTlsVerify": "VAULT_SKIP_VERIFY",
}
"""Where the official provider looks for what the program does not set."""


class VaultProvider(Provider[Vault]):
    """Vault 1.15 and later. It never logs in before the first real operation, and makes no child token."""

    name = "vault"
    configuration: ClassVar[Mapping[str, Property]] = {
        "address": Property(),
        "token": Property(secret=True),
        "authLogin": Property(secret=True),
        "namespace": Property(),
        "caCertFile": Property(),
        "skipTlsVerify": Property(),
        # The SDK always gives these three. No child token is made that they could be about, and what is worth another try is known here.
        "skipChildToken": Property(),
        "maxLeaseTtlSeconds": Property(),
        "maxRetries": Property(),
    }
    resources = (
        AppRole,
        Audit,
        AuthBackend,
        Endpoint,
        IntermediateRequest,
        IntermediateSigned,
        JwtAuthBackend,
        JwtRole,
        Mount,
        PkiCrl,
        PkiIssuers,
        PkiRole,
        PkiUrls,
        Policy,
        SecretBackendConnection,
        SecretBackendStaticRole,
        SecretV2,
    )

    def connect(self, configuration: Properties) -> Vault:
        """Return a client that has not logged in yet.

        Raises:
            ProviderError: the configuration is incomplete or malformed.
        """
        login = _object(configuration.get("authLogin"))
        # A login of the program's own is not overridden by what a person's shell has.
        environment = {name: key for name, key in _ENVIRONMENT.items() if not (login and name == "token")}

        def text(name: str) -> str:
            return str(configuration.get(name) or os.environ.get(environment.get(name, ""), ""))

        if not text("address"):
            raise ProviderError("the Vault provider needs address, such as https://vault.example.org")
        if login and not login.get("path"):
            raise ProviderError("authLogin of the Vault provider needs path, such as auth/approle/login")
        parameters = _object(login.get("parameters"))
        return Vault(
            Settings(
                address=text("address").rstrip("/"),
                token=text("token"),
                login_path=str(login.get("path", "")).strip("/"),
                login={name: str(value) for name, value in parameters.items()},
                namespace=text("namespace"),
                authority_file=text("caCertFile"),
                skip_tls_verify=text("skipTlsVerify").lower() == "true",
            )
        )


def _object(value: Any) -> dict[str, Any]:
    """Return an object that comes as it is or as JSON."""
    found: Any = json.loads(value) if isinstance(value, str) and value else value
    return dict(cast("Mapping[str, Any]", found or {}))
