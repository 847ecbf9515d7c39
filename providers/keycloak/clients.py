"""OpenID Connect clients and what belongs to them: client scopes, and the roles of service accounts."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from providers.keycloak.client import Keycloak, NotFoundError
from providers.keycloak.mapping import (
    FLAG,
    HASHED_NAMES,
    NAMES,
    QUOTED_FLAG,
    QUOTED_NUMBER,
    SECRET,
    Block,
    Field,
    Local,
    Mapped,
    Path,
    Representation,
    Some,
)
from providers.keycloak.record import Assignment, Record
from providers.resource import Created, Properties, Property, ProviderError, ResourceType


class AccessType(Mapped):
    """Two flags of Keycloak in one word."""

    def __init__(self) -> None:
        self.property = Property(required=True)

    def write(self, value: Any, before: Any, representation: Representation, *, creating: bool) -> None:
        """Put the value in its place."""
        representation["publicClient"] = value == "PUBLIC"
        representation["bearerOnly"] = value == "BEARER-ONLY"

    def read(self, representation: Representation, prior: Any) -> Any:
        """Return the value found, or ``prior`` if that means the same."""
        if representation.get("publicClient"):
            return "PUBLIC"
        return "BEARER-ONLY" if representation.get("bearerOnly") else "CONFIDENTIAL"

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        words = ("CONFIDENTIAL", "PUBLIC", "BEARER-ONLY")
        return None if value in words else f"'{value}' is none of {', '.join(words)}"


def _text(at: str) -> Field:
    return Field(at, zero="")


def _flow(at: str) -> Field:
    """A way to log in, off unless the program turns it on."""
    return Field(at, codec=FLAG, zero=False, computed=True)


def _attribute(at: str, *, choices: tuple[str, ...] = ()) -> Field:
    return Field("attributes", at, zero="", choices=choices)


def _lifespan(at: str) -> Field:
    return Field("attributes", at, zero="", computed=True)


def _switch(at: str, *, default: bool | None = None) -> Field:
    return Field("attributes", at, codec=QUOTED_FLAG, default=default, zero=False, computed=default is None)


class Client(Record):
    """An OpenID Connect client; its identifier is Keycloak's internal one, not its ``clientId``."""

    token: ClassVar[str] = "keycloak:openid/client:Client"
    noun = "client"
    named_by = "clientId"
    # Told that there is a service account, Keycloak attaches its client scope again, whatever the client's scopes are.
    partial = True
    constants: ClassVar[Representation] = {"protocol": "openid-connect"}
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "clientId": Field("clientId", autoname=True),
        "accessType": AccessType(),
        "clientSecret": Field("secret", codec=SECRET, secret=True),
        "clientAuthenticatorType": Field("clientAuthenticatorType", default="client-secret"),
        "name": _text("name"),
        "description": _text("description"),
        "enabled": Field("enabled", codec=FLAG, default=True),
        "standardFlowEnabled": _flow("standardFlowEnabled"),
        "implicitFlowEnabled": _flow("implicitFlowEnabled"),
        "directAccessGrantsEnabled": _flow("directAccessGrantsEnabled"),
        "serviceAccountsEnabled": _flow("serviceAccountsEnabled"),
        "frontchannelLogoutEnabled": _flow("frontchannelLogout"),
        "consentRequired": _flow("consentRequired"),
        "fullScopeAllowed": Field("fullScopeAllowed", codec=FLAG, default=True),
        "alwaysDisplayInConsole": Field("alwaysDisplayInConsole", codec=FLAG, default=False),
        "rootUrl": _text("rootUrl"),
        "baseUrl": _text("baseUrl"),
        "adminUrl": _text("adminUrl"),
        "validRedirectUris": Field("redirectUris", codec=NAMES, zero=[], computed=True),
        "webOrigins": Field("webOrigins", codec=NAMES, zero=[], computed=True),
        "validPostLogoutRedirectUris": Field(
            "attributes", "post.logout.redirect.uris", codec=HASHED_NAMES, zero=[], computed=True
        ),
        "pkceCodeChallengeMethod": _attribute("pkce.code.challenge.method", choices=("", "plain", "S256")),
        "requireDpopBoundTokens": _switch("dpop.bound.access.tokens"),
        "loginTheme": _attribute("login_theme"),
        "consentScreenText": _attribute("consent.screen.text"),
        "displayOnConsentScreen": _switch("display.on.consent.screen"),
        "excludeSessionStateFromAuthResponse": _switch("exclude.session.state.from.auth.response"),
        "excludeIssuerFromAuthResponse": _switch("exclude.issuer.from.auth.response"),
        "accessTokenLifespan": _lifespan("access.token.lifespan"),
        "clientSessionIdleTimeout": _lifespan("client.session.idle.timeout"),
        "clientSessionMaxLifespan": _lifespan("client.session.max.lifespan"),
        "clientOfflineSessionIdleTimeout": _lifespan("client.offline.session.idle.timeout"),
        "clientOfflineSessionMaxLifespan": _lifespan("client.offline.session.max.lifespan"),
        "useRefreshTokens": _switch("use.refresh.tokens", default=True),
        "useRefreshTokensClientCredentials": _switch("client_credentials.use_refresh_token", default=False),
        "standardTokenExchangeEnabled": _switch("standard.token.exchange.enabled", default=False),
        "allowRefreshTokenInStandardTokenExchange": _attribute(
            "standard.token.exchange.enableRefreshRequestedTokenType"
        ),
        "frontchannelLogoutUrl": _attribute("frontchannel.logout.url"),
        "backchannelLogoutUrl": _attribute("backchannel.logout.url"),
        "backchannelLogoutSessionRequired": _switch("backchannel.logout.session.required", default=True),
        "backchannelLogoutRevokeOfflineSessions": Field(
            "attributes", "backchannel.logout.revoke.offline.tokens", codec=QUOTED_FLAG, zero=False
        ),
        "oauth2DeviceAuthorizationGrantEnabled": _switch("oauth2.device.authorization.grant.enabled", default=False),
        "oauth2DeviceCodeLifespan": _attribute("oauth2.device.code.lifespan"),
        "oauth2DevicePollingInterval": _attribute("oauth2.device.polling.interval"),
        "oauth2JwtAuthorizationGrantEnabled": _switch("oauth2.jwt.authorization.grant.enabled", default=False),
        "oauth2JwtAuthorizationGrantIdp": _attribute("oauth2.jwt.authorization.grant.idp"),
        "authenticationFlowBindingOverrides": Block(
            {
                "browserId": Field("authenticationFlowBindingOverrides", "browser", zero=""),
                "directGrantId": Field("authenticationFlowBindingOverrides", "direct_grant", zero=""),
            },
            exists=("authenticationFlowBindingOverrides",),
            reset=True,
        ),
        "extraConfig": Some("attributes", removed=""),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return ("realms", str(inputs["realmId"]), "clients")

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        browser = representation.get("standardFlowEnabled") or representation.get("implicitFlowEnabled")
        name = f"client '{inputs['clientId']}'"
        if browser and not representation.get("redirectUris"):
            raise ProviderError(f"{name}: the standard and implicit flows need validRedirectUris")
        if not browser and inputs.get("validRedirectUris"):
            raise ProviderError(f"{name}: validRedirectUris need standardFlowEnabled or implicitFlowEnabled")
        if representation.get("publicClient") and representation.get("serviceAccountsEnabled"):
            raise ProviderError(f"{name}: a PUBLIC client can have no service account")

    def describe(
        self, client: Keycloak, identifier: str, representation: Representation, prior: Properties
    ) -> dict[str, Any]:
        """Return the outputs, with those that have endpoints of their own."""
        account = ""
        if representation.get("serviceAccountsEnabled"):
            account = str(client.get(*self.address(identifier, prior), "service-account-user")["id"])
        outputs = super().describe(client, identifier, representation, prior)
        return {**outputs, "serviceAccountUserId": account, "resourceServerId": ""}


class ClientScope(Record):
    """A set of protocol mappers that clients share."""

    token: ClassVar[str] = "keycloak:openid/clientScope:ClientScope"
    noun = "client scope"
    constants: ClassVar[Representation] = {"protocol": "openid-connect"}
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realmId": Local(required=True, replaces=True),
        "name": Field("name", autoname=True),
        "description": Field("description", zero=""),
        "consentScreenText": _attribute("consent.screen.text"),
        "includeInTokenScope": _switch("include.in.token.scope", default=True),
        "includeInOpenidProviderMetadata": _switch("include.in.openid.provider.metadata", default=True),
        "guiOrder": Field("attributes", "gui.order", codec=QUOTED_NUMBER),
        "extraConfig": Some("attributes", removed=""),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return ("realms", str(inputs["realmId"]), "client-scopes")

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        attributes = representation["attributes"]
        attributes["display.on.consent.screen"] = "true" if attributes["consent.screen.text"] else "false"
        if not inputs.get("guiOrder"):
            attributes["gui.order"] = ""


class _ClientScopes(Assignment):
    """Client scopes of a client, by name; the identifier is ``realm/client``."""

    kind: ClassVar[str]

    def identify(self, client: Keycloak, inputs: Properties) -> str:
        """Return the identifier that the official provider gives."""
        return f"{inputs['realmId']}/{inputs['clientId']}"

    def current(self, client: Keycloak, inputs: Properties) -> list[str] | None:
        """Return the members that there are, or None without a holder."""
        scopes = client.find(*self._address(inputs))
        return None if scopes is None else [str(scope["name"]) for scope in scopes]

    def add(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Add members."""
        for identifier in self._identifiers(client, inputs, members):
            client.put(*self._address(inputs), identifier)

    def remove(self, client: Keycloak, inputs: Properties, members: list[str]) -> None:
        """Remove members."""
        for identifier in self._identifiers(client, inputs, members):
            client.delete(*self._address(inputs), identifier)

    def _address(self, inputs: Properties) -> Path:
        return ("realms", str(inputs["realmId"]), "clients", str(inputs["clientId"]), self.kind)

    def _identifiers(self, client: Keycloak, inputs: Properties, names: list[str]) -> list[str]:
        realm = str(inputs["realmId"])
        scopes = cast("list[Representation]", client.get("realms", realm, "client-scopes"))
        known = {str(scope["name"]): str(scope["id"]) for scope in scopes}
        if unknown := [name for name in names if name not in known]:
            raise ProviderError(f"there is no client scope '{unknown[0]}' in the realm '{realm}'")
        return [known[name] for name in names]


class ClientDefaultScopes(_ClientScopes):
    """The client scopes that a client always has."""

    token: ClassVar[str] = "keycloak:openid/clientDefaultScopes:ClientDefaultScopes"
    kind = "default-client-scopes"
    members = "defaultScopes"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "clientId": Property(required=True, replaces=True),
        "defaultScopes": Property(required=True, unordered=True),
    }


class ClientOptionalScopes(_ClientScopes):
    """The client scopes that a client may ask for."""

    token: ClassVar[str] = "keycloak:openid/clientOptionalScopes:ClientOptionalScopes"
    kind = "optional-client-scopes"
    members = "optionalScopes"
    properties: ClassVar[Mapping[str, Property]] = {
        "realmId": Property(required=True, replaces=True),
        "clientId": Property(required=True, replaces=True),
        "optionalScopes": Property(required=True, unordered=True),
    }


class _ServiceAccountRole(ResourceType[Keycloak]):
    """A role, by name, of a client's service account; the identifier is ``service account user/role``."""

    def create(self, client: Keycloak, inputs: Properties) -> Created:
        """Create it and return it as it is then."""
        try:
            role = client.get(*self.roles(inputs), str(inputs["role"]))
        except NotFoundError as error:
            raise ProviderError(f"there is no role '{inputs['role']}' to give to a service account: {error}") from error
        client.post(*self._mappings(inputs), body=[role])
        return Created(identifier=f"{inputs['serviceAccountUserId']}/{role['id']}", outputs=inputs)

    def read(self, client: Keycloak, identifier: str, outputs: Properties) -> Properties | None:
        """Return it as it is now, or None if it is gone."""
        roles = cast("list[Representation]", client.find(*self._mappings(outputs)) or [])
        given = any(role["id"] == identifier.rpartition("/")[2] for role in roles)
        return outputs if given else None

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        role = client.find("realms", str(outputs["realmId"]), "roles-by-id", identifier.rpartition("/")[2])
        if role is not None:
            client.delete(*self._mappings(outputs), body=[role])

    @abc.abstractmethod
    def roles(self, inputs: Properties) -> Path:
        """Return where the roles to choose from are."""

    @abc.abstractmethod
    def container(self, inputs: Properties) -> Path:
        """Return the part of an address that says whose roles they are."""

    def _mappings(self, inputs: Properties) -> Path:
        account = ("realms", str(inputs["realmId"]), "users", str(inputs["serviceAccountUserId"]))
        return (*account, "role-mappings", *self.container(inputs))


def _replacing(*names: str) -> Mapping[str, Property]:
    return {name: Property(required=True, replaces=True) for name in names}


class ClientServiceAccountRole(_ServiceAccountRole):
    """A role of a client for a service account; ``clientId`` is the internal identifier of the role's client."""

    token: ClassVar[str] = "keycloak:openid/clientServiceAccountRole:ClientServiceAccountRole"
    properties = _replacing("realmId", "clientId", "serviceAccountUserId", "role")

    def roles(self, inputs: Properties) -> Path:
        """Return where the roles to choose from are."""
        return ("realms", str(inputs["realmId"]), "clients", str(inputs["clientId"]), "roles")

    def container(self, inputs: Properties) -> Path:
        """Return the part of an address that says whose roles they are."""
        return ("clients", str(inputs["clientId"]))


class ClientServiceAccountRealmRole(_ServiceAccountRole):
    """A role of the realm for a service account."""

    token: ClassVar[str] = "keycloak:openid/clientServiceAccountRealmRole:ClientServiceAccountRealmRole"
    properties = _replacing("realmId", "serviceAccountUserId", "role")

    def roles(self, inputs: Properties) -> Path:
        """Return where the roles to choose from are."""
        return ("realms", str(inputs["realmId"]), "roles")

    def container(self, inputs: Properties) -> Path:
        """Return the part of an address that says whose roles they are."""
        return ("realm",)
