"""The Keycloak provider: the resource types of the official one on Keycloak's admin REST API."""

import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak.authentication import Bindings, Execution, ExecutionConfig, Flow, Subflow
from providers.keycloak.client import Keycloak, Settings
from providers.keycloak.clients import (
    Client,
    ClientDefaultScopes,
    ClientOptionalScopes,
    ClientScope,
    ClientServiceAccountRealmRole,
    ClientServiceAccountRole,
)
from providers.keycloak.events import RealmEvents, RequiredAction
from providers.keycloak.groups import DefaultGroups, Group, UserGroups
from providers.keycloak.identity_providers import (
    AttributeToRoleIdentityMapper,
    GithubIdentityProvider,
    GoogleIdentityProvider,
    HardcodedGroupIdentityProviderMapper,
    HardcodedRoleIdentityMapper,
    IdentityProvider,
    MicrosoftIdentityProvider,
    SamlIdentityProvider,
)
from providers.keycloak.mappers import (
    AudienceProtocolMapper,
    AudienceResolveProtocolMapper,
    FullNameProtocolMapper,
    GroupMembershipProtocolMapper,
    HardcodedClaimProtocolMapper,
    UserAttributeProtocolMapper,
    UserClientRoleProtocolMapper,
    UserPropertyProtocolMapper,
    UserRealmRoleProtocolMapper,
)
from providers.keycloak.realm import Realm
from providers.keycloak.roles import DefaultRoles, GroupRoles, Role, UserRoles
from providers.keycloak.users import User
from providers.resource import Properties, Property, ProviderError
from providers.server import Provider

_ENVIRONMENT = {
    "url": "KEYCLOAK_URL",
    "adminUrl": "KEYCLOAK_ADMIN_URL",
    "basePath": "KEYCLOAK_BASE_PATH",
    "realm": "KEYCLOAK_REALM",
    "clientId": "KEYCLOAK_CLIENT_ID",
    "clientSecret": "KEYCLOAK_CLIENT_SECRET",
    "username": "KEYCLOAK_USER",
    "password": "KEYCLOAK_PASSWORD",
    "accessToken": "KEYCLOAK_ACCESS_TOKEN",
    "clientTimeout": "KEYCLOAK_CLIENT_TIMEOUT",
}
"""Where the official provider looks for what the program does not set."""


class KeycloakProvider(Provider[Keycloak]):
    """Keycloak 26 and later. It never logs in before the first real operation, whatever ``initialLogin`` says."""

    name = "keycloak"
    configuration: ClassVar[Mapping[str, Property]] = {
        "url": Property(),
        "adminUrl": Property(),
        "basePath": Property(),
        "realm": Property(),
        "clientId": Property(),
        "clientSecret": Property(secret=True),
        "username": Property(),
        "password": Property(secret=True),
        "accessToken": Property(secret=True),
        "initialLogin": Property(),
        "clientTimeout": Property(),
        "rootCaCertificate": Property(),
        "tlsInsecureSkipVerify": Property(),
        "additionalHeaders": Property(),
        # Nothing here depends on the version, so that there is nothing to do with what the program says about it.
        "keycloakVersion": Property(),
    }
    resources = (
        AttributeToRoleIdentityMapper,
        AudienceProtocolMapper,
        AudienceResolveProtocolMapper,
        Bindings,
        Client,
        ClientDefaultScopes,
        ClientOptionalScopes,
        ClientScope,
        ClientServiceAccountRealmRole,
        ClientServiceAccountRole,
        DefaultGroups,
        DefaultRoles,
        Execution,
        ExecutionConfig,
        Flow,
        FullNameProtocolMapper,
        GithubIdentityProvider,
        GoogleIdentityProvider,
        Group,
        GroupMembershipProtocolMapper,
        GroupRoles,
        HardcodedClaimProtocolMapper,
        HardcodedGroupIdentityProviderMapper,
        HardcodedRoleIdentityMapper,
        IdentityProvider,
        MicrosoftIdentityProvider,
        Realm,
        RealmEvents,
        RequiredAction,
        Role,
        SamlIdentityProvider,
        Subflow,
        User,
        UserAttributeProtocolMapper,
        UserClientRoleProtocolMapper,
        UserGroups,
        UserPropertyProtocolMapper,
        UserRealmRoleProtocolMapper,
        UserRoles,
    )

    def connect(self, configuration: Properties) -> Keycloak:
        """Return a client that has not logged in yet.

        Raises:
            ProviderError: the configuration is incomplete or malformed.
        """

        def text(name: str, default: str = "") -> str:
            value = configuration.get(name)
            if value in (None, ""):
                value = os.environ.get(_ENVIRONMENT.get(name, ""), "")
            return str(value) if value != "" else default

        if not text("url"):
            raise ProviderError("the Keycloak provider needs url, such as https://auth.example.org")
        return Keycloak(
            Settings(
                url=text("url"),
                admin_url=text("adminUrl"),
                base_path=text("basePath"),
                realm=text("realm", "master"),
                client_id=text("clientId"),
                client_secret=text("clientSecret"),
                username=text("username"),
                password=text("password"),
                access_token=text("accessToken"),
                timeout=_number("clientTimeout", text("clientTimeout", "15")),
                root_ca_certificate=text("rootCaCertificate"),
                tls_insecure_skip_verify=text("tlsInsecureSkipVerify").lower() == "true",
                headers=_texts(configuration.get("additionalHeaders")),
            )
        )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ProviderError(f"{name} of the Keycloak provider is a number of seconds, not '{text}'") from None


def _texts(value: Any) -> dict[str, str]:
    """Return a map that comes as it is or as JSON."""
    found: Any = json.loads(value) if isinstance(value, str) and value else value
    return {key: str(text) for key, text in cast("Mapping[str, Any]", found or {}).items()}
