"""Other identity providers: where else people may sign in, and what their users become here."""

import re
from collections.abc import Mapping
from typing import TypedDict

import pulumi
import pulumi_keycloak as keycloak

from components.context import Platform
from components.identity import flows
from settings import IdentityProvider, Role, read_file

SYNC = "FORCE"
"""Mappers are applied at each login: who loses a role there loses it here."""


class _Common(TypedDict):
    """Arguments of every kind."""

    realm: pulumi.Input[str]
    alias: str
    display_name: str
    first_broker_login_flow_alias: str
    post_broker_login_flow_alias: str
    trust_email: bool
    store_token: bool
    sync_mode: str


class _Credentials(_Common):
    """Arguments of every kind in which this platform is a client."""

    client_id: str
    client_secret: pulumi.Input[str]


def deploy(
    platform: Platform,
    realm: keycloak.Realm,
    made: Mapping[str, pulumi.Resource],
    roles: Mapping[Role, keycloak.Role],
    options: pulumi.ResourceOptions,
) -> None:
    """Make the identity providers of the settings.

    Args:
        platform: with the settings.
        realm: that people sign in to.
        made: the last resource of each flow of `flows`.
        roles: the platform's, by what they are in the settings.
        options: of every resource.

    Raises:
        SettingsError: a file with a secret or certificate cannot be read.
    """
    for provider in platform.settings.identity_providers:
        first_login = flows.FIRST_LOGIN[provider.new_accounts]
        complete = pulumi.ResourceOptions(depends_on=[made[first_login], made[flows.AFTER_PROVIDER]])
        resource = _provider(platform, provider, realm, first_login, pulumi.ResourceOptions.merge(options, complete))
        for role, value in ((Role.ADMIN, provider.admin_value), (Role.EDITOR, provider.editor_value)):
            if value:
                saml = provider.kind == "saml"
                keycloak.AttributeToRoleIdentityMapper(
                    f"identity-provider-{provider.name}-{role}",
                    keycloak.AttributeToRoleIdentityMapperArgs(
                        realm=realm.realm,
                        identity_provider_alias=resource.alias,
                        name=role,
                        role=roles[role].name,
                        claim_name=None if saml else provider.roles_claim,
                        claim_value=None if saml else value,
                        attribute_name=provider.roles_claim if saml else None,
                        attribute_value=value if saml else None,
                        extra_config={"syncMode": SYNC},
                    ),
                    options,
                )


def _provider(
    platform: Platform,
    provider: IdentityProvider,
    realm: keycloak.Realm,
    first_login: str,
    options: pulumi.ResourceOptions,
) -> (
    keycloak.oidc.IdentityProvider
    | keycloak.oidc.GoogleIdentityProvider
    | keycloak.oidc.GithubIdentityProvider
    | keycloak.oidc.MicrosoftIdentityProvider
    | keycloak.saml.IdentityProvider
):
    name = f"identity-provider-{provider.name}"
    common: _Common = {
        "realm": realm.realm,
        "alias": provider.name,
        "display_name": provider.title or provider.name,
        "first_broker_login_flow_alias": first_login,
        "post_broker_login_flow_alias": flows.AFTER_PROVIDER,
        # Its word about addresses is not enough to be taken for someone who has an account here.
        "trust_email": False,
        "store_token": False,
        "sync_mode": SYNC,
    }
    if provider.kind == "saml":
        return keycloak.saml.IdentityProvider(
            name,
            keycloak.saml.IdentityProviderArgs(
                **common,
                entity_id=f"{platform.url('auth')}/realms/{platform.settings.keycloak.realm}",
                single_sign_on_service_url=provider.sign_in_url,
                signing_certificate=_certificate(provider),
                validate_signature=True,
                want_assertions_signed=True,
                # What every provider can say; another identifier would need mappers of attributes that each calls differently.
                name_id_policy_format="Email",
                post_binding_response=True,
                extra_config={"idpEntityId": provider.issuer},
            ),
            options,
        )
    credentials: _Credentials = {
        **common,
        "client_id": provider.client_id,
        "client_secret": platform.given(
            f"{name}-client-secret",
            pulumi.Output.secret(
                read_file(f"client_secret_file of identity-providers {provider.name!r}", provider.client_secret_file)
            ),
        ),
    }
    if provider.kind == "google":
        return keycloak.oidc.GoogleIdentityProvider(
            name,
            keycloak.oidc.GoogleIdentityProviderArgs(**credentials, hosted_domain=provider.hosted_domain or None),
            options,
        )
    if provider.kind == "github":
        return keycloak.oidc.GithubIdentityProvider(
            name, keycloak.oidc.GithubIdentityProviderArgs(**credentials), options
        )
    if provider.kind == "microsoft":
        return keycloak.oidc.MicrosoftIdentityProvider(
            name, keycloak.oidc.MicrosoftIdentityProviderArgs(**credentials, tenant_id=provider.tenant), options
        )
    return keycloak.oidc.IdentityProvider(
        name,
        keycloak.oidc.IdentityProviderArgs(
            **credentials,
            issuer=provider.issuer,
            authorization_url=provider.sign_in_url,
            token_url=provider.token_url,
            jwks_url=provider.keys_url,
            validate_signature=True,
            user_info_url=provider.userinfo_url or None,
            disable_user_info=not provider.userinfo_url,
            default_scopes="openid profile email",
            extra_config={"pkceEnabled": "true", "pkceMethod": "S256", "clientAuthMethod": "client_secret_post"},
        ),
        options,
    )


def _certificate(provider: IdentityProvider) -> str:
    """Return the certificate of an identity provider's signatures as Keycloak wants it: its lines without the marks."""
    text = read_file(f"certificate_file of identity-providers {provider.name!r}", provider.certificate_file)
    return "".join(re.sub(r"-----[A-Z ]+-----", "", text).split())
