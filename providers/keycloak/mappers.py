"""Protocol mappers: what gets into the tokens of a client or of a client scope."""

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import QUOTED_FLAG, Field, Local, Mapped, Path, Representation
from providers.keycloak.record import Record
from providers.resource import Properties, ProviderError

_CLAIM_TYPES = ("JSON", "String", "long", "int", "boolean")


def _option(at: str, *, default: bool = True) -> Field:
    return Field("config", at, codec=QUOTED_FLAG, default=default)


def _text(at: str, *, required: bool = False) -> Field:
    return Field("config", at, required=required, zero="")


_PLACE: dict[str, Mapped] = {
    "realmId": Local(required=True, replaces=True),
    "clientId": Local(replaces=True),
    "clientScopeId": Local(replaces=True),
    "name": Field("name", autoname=True),
}
_ACCESS: dict[str, Mapped] = {"addToAccessToken": _option("access.token.claim")}
_IDENTITY: dict[str, Mapped] = {"addToIdToken": _option("id.token.claim")}
_USERINFO: dict[str, Mapped] = {"addToUserinfo": _option("userinfo.token.claim")}
_INTROSPECTION: dict[str, Mapped] = {"addToTokenIntrospection": _option("introspection.token.claim")}
_CLAIM: dict[str, Mapped] = {"claimName": _text("claim.name", required=True)}
_TYPED_CLAIM: dict[str, Mapped] = {
    **_CLAIM,
    "claimValueType": Field("config", "jsonType.label", default="String", choices=_CLAIM_TYPES),
}
_MULTIVALUED: dict[str, Mapped] = {"multivalued": _option("multivalued", default=False)}


class ProtocolMapper(Record):
    """A mapper of a client or of a client scope, which are named by their internal identifiers."""

    noun = "protocol mapper"
    mapper: ClassVar[str]
    """Keycloak's name of this kind of mapper."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.constants = {"protocol": "openid-connect", "protocolMapper": cls.mapper}

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        if bool(inputs.get("clientId")) == bool(inputs.get("clientScopeId")):
            raise ProviderError(f"{self.token} '{inputs.get('name')}': give either clientId or clientScopeId")
        owner = (
            ("clients", str(inputs["clientId"]))
            if inputs.get("clientId")
            else ("client-scopes", str(inputs["clientScopeId"]))
        )
        return ("realms", str(inputs["realmId"]), *owner, "protocol-mappers", "models")


class AudienceProtocolMapper(ProtocolMapper):
    """Puts a client's ``clientId`` or any other name into ``aud``."""

    token: ClassVar[str] = "keycloak:openid/audienceProtocolMapper:AudienceProtocolMapper"
    mapper = "oidc-audience-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_INTROSPECTION,
        "includedClientAudience": _text("included.client.audience"),
        "includedCustomAudience": _text("included.custom.audience"),
    }

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        if inputs.get("includedClientAudience") and inputs.get("includedCustomAudience"):
            raise ProviderError(
                f"audience mapper '{inputs['name']}': give either includedClientAudience or includedCustomAudience"
            )


class AudienceResolveProtocolMapper(ProtocolMapper):
    """Puts all clients into ``aud`` that the user has roles of."""

    token: ClassVar[str] = "keycloak:openid/audienceResolveProtocolMapper:AudienceResolveProtocolMapper"
    mapper = "oidc-audience-resolve-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {**_PLACE, "name": Field("name", default="audience resolve")}


class FullNameProtocolMapper(ProtocolMapper):
    """Puts first and last name into ``name``."""

    token: ClassVar[str] = "keycloak:openid/fullNameProtocolMapper:FullNameProtocolMapper"
    mapper = "oidc-full-name-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {**_PLACE, **_ACCESS, **_IDENTITY, **_USERINFO}


class GroupMembershipProtocolMapper(ProtocolMapper):
    """Puts the user's groups into a claim, by path or by name."""

    token: ClassVar[str] = "keycloak:openid/groupMembershipProtocolMapper:GroupMembershipProtocolMapper"
    mapper = "oidc-group-membership-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_USERINFO,
        **_INTROSPECTION,
        **_CLAIM,
        "fullPath": _option("full.path"),
    }


class HardcodedClaimProtocolMapper(ProtocolMapper):
    """Puts a fixed value into a claim."""

    token: ClassVar[str] = "keycloak:openid/hardcodedClaimProtocolMapper:HardcodedClaimProtocolMapper"
    mapper = "oidc-hardcoded-claim-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_USERINFO,
        **_TYPED_CLAIM,
        "claimValue": _text("claim.value", required=True),
    }


class UserAttributeProtocolMapper(ProtocolMapper):
    """Puts an attribute of the user into a claim."""

    token: ClassVar[str] = "keycloak:openid/userAttributeProtocolMapper:UserAttributeProtocolMapper"
    mapper = "oidc-usermodel-attribute-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_USERINFO,
        **_INTROSPECTION,
        **_TYPED_CLAIM,
        **_MULTIVALUED,
        "userAttribute": _text("user.attribute", required=True),
        "aggregateAttributes": _option("aggregate.attrs", default=False),
    }


class UserClientRoleProtocolMapper(ProtocolMapper):
    """Puts the user's roles of a client into a claim; ``clientIdForRoleMappings`` is its ``clientId``."""

    token: ClassVar[str] = "keycloak:openid/userClientRoleProtocolMapper:UserClientRoleProtocolMapper"
    mapper = "oidc-usermodel-client-role-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_USERINFO,
        **_TYPED_CLAIM,
        **_MULTIVALUED,
        "clientIdForRoleMappings": _text("usermodel.clientRoleMapping.clientId"),
        "clientRolePrefix": _text("usermodel.clientRoleMapping.rolePrefix"),
    }


class UserPropertyProtocolMapper(ProtocolMapper):
    """Puts a property of the user, such as its email, into a claim."""

    token: ClassVar[str] = "keycloak:openid/userPropertyProtocolMapper:UserPropertyProtocolMapper"
    mapper = "oidc-usermodel-property-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_USERINFO,
        **_TYPED_CLAIM,
        "userProperty": _text("user.attribute", required=True),
    }


class UserRealmRoleProtocolMapper(ProtocolMapper):
    """Puts the user's roles of the realm into a claim."""

    token: ClassVar[str] = "keycloak:openid/userRealmRoleProtocolMapper:UserRealmRoleProtocolMapper"
    mapper = "oidc-usermodel-realm-role-mapper"
    fields: ClassVar[Mapping[str, Mapped]] = {
        **_PLACE,
        **_ACCESS,
        **_IDENTITY,
        **_USERINFO,
        **_INTROSPECTION,
        **_TYPED_CLAIM,
        **_MULTIVALUED,
        "realmRolePrefix": _text("usermodel.realmRoleMapping.rolePrefix"),
    }
