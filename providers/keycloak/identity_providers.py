"""Other identity providers that users may log in with, and what their users get."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import (
    FLAG,
    QUOTED_FLAG,
    SECRET,
    Codec,
    Field,
    Local,
    Mapped,
    Path,
    Representation,
    Some,
)
from providers.keycloak.record import Record
from providers.resource import Properties, ProviderError


def _text(at: str, *, required: bool = False, default: str | None = None) -> Field:
    return Field("config", at, required=required, default=default, zero="")


def _switch(at: str, *, default: bool = False) -> Field:
    return Field("config", at, codec=QUOTED_FLAG, default=default)


def _flag(at: str, *, default: bool = False, replaces: bool = False) -> Field:
    return Field(at, codec=FLAG, default=default, replaces=replaces)


_SHARED: dict[str, Mapped] = {
    "realm": Local(required=True, replaces=True),
    "displayName": Field("displayName", zero="", computed=True),
    "enabled": _flag("enabled", default=True),
    "storeToken": _flag("storeToken", default=True),
    "addReadTokenRoleOnCreate": _flag("addReadTokenRoleOnCreate", replaces=True),
    "authenticateByDefault": _flag("authenticateByDefault"),
    "linkOnly": _flag("linkOnly"),
    "trustEmail": _flag("trustEmail"),
    "hideOnLoginPage": _flag("hideOnLogin"),
    "firstBrokerLoginFlowAlias": Field("firstBrokerLoginFlowAlias", default="first broker login"),
    "postBrokerLoginFlowAlias": Field("postBrokerLoginFlowAlias", default=""),
    "guiOrder": _text("guiOrder", default=""),
    "syncMode": Field("config", "syncMode", default="LEGACY", choices=("IMPORT", "FORCE", "LEGACY")),
    "acceptsPromptNoneForwardFromClient": _switch("acceptsPromptNoneForwardFromClient"),
    "disableUserInfo": _switch("disableUserInfo"),
    "loginHint": _text("loginHint"),
    "extraConfig": Some("config", removed=""),
}


def _shared_but(*names: str) -> dict[str, Mapped]:
    """Return what all kinds share but for those names, which a kind does not have."""
    return {name: field for name, field in _SHARED.items() if name not in names}


class _Broker(Record):
    """An identity provider; its identifier is its alias. Keycloak masks its secret, so drift of that is not seen."""

    noun = "identity provider"
    named_by = "alias"
    realm_property = "realm"

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return ("realms", str(inputs["realm"]), "identity-provider", "instances")

    def identify(self, client: Keycloak, inputs: Properties, location: str) -> str:
        """Return the identifier that the official provider gives."""
        return str(inputs["alias"])

    def describe(
        self, client: Keycloak, identifier: str, representation: Representation, prior: Properties
    ) -> dict[str, Any]:
        """Return the outputs, with those that have endpoints of their own."""
        outputs = super().describe(client, identifier, representation, prior)
        return {**outputs, "internalId": str(representation["internalId"])}


class IdentityProvider(_Broker):
    """Any OpenID Connect provider."""

    token: ClassVar[str] = "keycloak:oidc/identityProvider:IdentityProvider"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_SHARED,
        "alias": Field("alias", required=True, replaces=True),
        "providerId": Field("providerId", default="oidc"),
        "authorizationUrl": _text("authorizationUrl", required=True),
        "tokenUrl": _text("tokenUrl", required=True),
        "clientId": _text("clientId", required=True),
        "clientSecret": Field("config", "clientSecret", codec=SECRET, secret=True),
        "userInfoUrl": _text("userInfoUrl"),
        "jwksUrl": _text("jwksUrl"),
        "logoutUrl": _text("logoutUrl"),
        "issuer": _text("issuer"),
        "defaultScopes": _text("defaultScope", default="openid"),
        "backchannelSupported": _switch("backchannelSupported", default=True),
        "validateSignature": _switch("validateSignature"),
        "uiLocales": _switch("uiLocales"),
        "disableTypeClaimCheck": _switch("disableTypeClaimCheck"),
    }

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        representation["config"]["useJwksUrl"] = "true" if inputs.get("jwksUrl") else "false"


class GoogleIdentityProvider(_Broker):
    """Google."""

    token: ClassVar[str] = "keycloak:oidc/googleIdentityProvider:GoogleIdentityProvider"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_SHARED,
        "alias": Field("alias", replaces=True, default="google"),
        "providerId": Field("providerId", default="google"),
        "clientId": _text("clientId", required=True),
        "clientSecret": Field("config", "clientSecret", codec=SECRET, required=True, secret=True),
        "defaultScopes": _text("defaultScope", default="openid profile email"),
        "hostedDomain": _text("hostedDomain"),
        "requestRefreshToken": _switch("offlineAccess"),
        "useUserIpParam": _switch("userIp"),
    }

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        representation["config"]["useJwksUrl"] = "true"


class GithubIdentityProvider(_Broker):
    """GitHub."""

    token: ClassVar[str] = "keycloak:oidc/githubIdentityProvider:GithubIdentityProvider"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_shared_but("acceptsPromptNoneForwardFromClient", "disableUserInfo", "loginHint"),
        "alias": Field("alias", replaces=True, default="github"),
        "providerId": Field("providerId", default="github"),
        "clientId": _text("clientId", required=True),
        "clientSecret": Field("config", "clientSecret", codec=SECRET, required=True, secret=True),
        "defaultScopes": _text("defaultScope", default="user:email"),
        "baseUrl": _text("baseUrl", default="https://github.com"),
        "apiUrl": _text("apiUrl", default="https://api.github.com"),
        "githubJsonFormat": _switch("githubJsonFormat"),
    }


class MicrosoftIdentityProvider(_Broker):
    """Microsoft."""

    token: ClassVar[str] = "keycloak:oidc/microsoftIdentityProvider:MicrosoftIdentityProvider"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_shared_but("loginHint"),
        "alias": Field("alias", replaces=True, default="microsoft"),
        "providerId": Field("providerId", default="microsoft"),
        "clientId": _text("clientId", required=True),
        "clientSecret": Field("config", "clientSecret", codec=SECRET, required=True, secret=True),
        "tenantId": _text("tenantId", default=""),
        "prompt": _text("prompt", default=""),
        "defaultScopes": _text("defaultScope", default="openid profile email"),
    }


_NAME_FORMATS = {
    "Windows Domain Qualified Name": "urn:oasis:names:tc:SAML:1.1:nameid-format:WindowsDomainQualifiedName",
    "Persistent": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
    "Email": "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
    "Kerberos": "urn:oasis:names:tc:SAML:2.0:nameid-format:kerberos",
    "X.509 Subject Name": "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName",
    "Unspecified": "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
    "Transient": "urn:oasis:names:tc:SAML:2.0:nameid-format:transient",
}
"""Identifier of each name in the schema."""

_NAME_FORMAT = Codec(
    _NAME_FORMATS.__getitem__,
    lambda identifier: next(name for name, known in _NAME_FORMATS.items() if known == identifier),
)


class SamlIdentityProvider(_Broker):
    """Any SAML 2.0 provider."""

    token: ClassVar[str] = "keycloak:saml/identityProvider:IdentityProvider"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_shared_but("acceptsPromptNoneForwardFromClient", "disableUserInfo"),
        "alias": Field("alias", required=True, replaces=True),
        "providerId": Field("providerId", default="saml"),
        "entityId": _text("entityId", required=True),
        "singleSignOnServiceUrl": _text("singleSignOnServiceUrl", required=True),
        "singleLogoutServiceUrl": _text("singleLogoutServiceUrl"),
        "signingCertificate": _text("signingCertificate"),
        "validateSignature": _switch("validateSignature"),
        "backchannelSupported": _switch("backchannelSupported"),
        "nameIdPolicyFormat": Field("config", "nameIDPolicyFormat", codec=_NAME_FORMAT, choices=tuple(_NAME_FORMATS)),
        "postBindingAuthnRequest": _switch("postBindingAuthnRequest"),
        "postBindingResponse": _switch("postBindingResponse"),
        "postBindingLogout": _switch("postBindingLogout"),
        "forceAuthn": _switch("forceAuthn"),
        "wantAssertionsSigned": _switch("wantAssertionsSigned"),
        "wantAssertionsEncrypted": _switch("wantAssertionsEncrypted"),
        "principalType": _text("principalType", default=""),
        "principalAttribute": _text("principalAttribute", default=""),
    }


_MAPPER: dict[str, Mapped] = {
    "realm": Local(required=True, replaces=True),
    "identityProviderAlias": Field("identityProviderAlias", required=True, replaces=True),
    "name": Field("name", replaces=True, autoname=True),
    "extraConfig": Some("config", removed=""),
}


class _BrokerMapper(Record):
    """What users get who come from an identity provider."""

    noun = "identity provider mapper"
    realm_property = "realm"

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        instances = ("realms", str(inputs["realm"]), "identity-provider", "instances")
        return (*instances, str(inputs["identityProviderAlias"]), "mappers")

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        if "id" not in representation:
            representation["identityProviderMapper"] = self.kind(client, inputs)

    @abc.abstractmethod
    def kind(self, client: Keycloak, inputs: Properties) -> str:
        """Return Keycloak's name of this kind of mapper."""


class HardcodedRoleIdentityMapper(_BrokerMapper):
    """A role for all users of an identity provider: ``role``, or ``client.role`` for one of a client."""

    token: ClassVar[str] = "keycloak:index/hardcodedRoleIdentityMapper:HardcodedRoleIdentityMapper"
    fields: ClassVar[Mapping[str, Mapped]] = {**_MAPPER, "role": _text("role")}

    def kind(self, client: Keycloak, inputs: Properties) -> str:
        """Return Keycloak's name of this kind of mapper."""
        return "oidc-hardcoded-role-idp-mapper"


class HardcodedGroupIdentityProviderMapper(_BrokerMapper):
    """A group, by path, for all users of an identity provider."""

    token: ClassVar[str] = "keycloak:index/hardcodedGroupIdentityProviderMapper:HardcodedGroupIdentityProviderMapper"
    fields: ClassVar[Mapping[str, Mapped]] = {**_MAPPER, "group": _text("group")}

    def kind(self, client: Keycloak, inputs: Properties) -> str:
        """Return Keycloak's name of this kind of mapper."""
        return "oidc-hardcoded-group-idp-mapper"


class AttributeToRoleIdentityMapper(_BrokerMapper):
    """A role for those users of a provider who have a claim (OpenID Connect) or attribute (SAML) with a certain value."""

    token: ClassVar[str] = "keycloak:index/attributeToRoleIdentityMapper:AttributeToRoleIdentityMapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_MAPPER,
        "role": _text("role", required=True),
        "claimName": _text("claim"),
        "claimValue": _text("claim.value"),
        "attributeName": _text("attribute.name"),
        "attributeValue": _text("attribute.value"),
    }
    _KINDS: ClassVar[dict[str, str]] = {"oidc": "claim", "saml": "attribute"}

    def kind(self, client: Keycloak, inputs: Properties) -> str:
        """Return Keycloak's name of this kind of mapper."""
        alias, realm = str(inputs["identityProviderAlias"]), str(inputs["realm"])
        provider = str(client.get("realms", realm, "identity-provider", "instances", alias)["providerId"])
        if provider not in self._KINDS:
            raise ProviderError(
                f"{self.token} '{inputs['name']}': the kind '{provider}' of '{alias}' is not supported,"
                f" only {' and '.join(self._KINDS)}"
            )
        what = self._KINDS[provider]
        if not inputs.get(f"{what}Name") or not inputs.get(f"{what}Value"):
            raise ProviderError(f"{self.token} '{inputs['name']}': {what}Name and {what}Value are needed")
        return f"{provider}-role-idp-mapper"
