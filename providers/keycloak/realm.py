"""Realms."""

from collections.abc import Mapping
from typing import ClassVar

from providers.keycloak.client import Keycloak
from providers.keycloak.mapping import (
    DURATION,
    FLAG,
    NAMES,
    NUMBER,
    QUOTED_FLAG,
    SECRET,
    Block,
    Field,
    Local,
    Mapped,
    Path,
    Representation,
    Some,
)
from providers.keycloak.record import Record
from providers.resource import Properties, ProviderError

_UNSPECIFIED = "not specified"


def _flag(at: str) -> Field:
    """A login setting, off in a new realm unless the program turns it on."""
    return Field(at, codec=FLAG, zero=False, computed=True)


def _lifespan(at: str) -> Field:
    return Field(at, codec=DURATION)


def _flow(at: str, usual: str) -> Field:
    return Field(at, zero=usual, computed=True)


def _header(at: str, usual: str) -> Field:
    return Field("browserSecurityHeaders", at, default=usual)


def _smtp(at: str, *, required: bool = False) -> Field:
    return Field("smtpServer", at, required=required)


def _smtp_flag(at: str) -> Field:
    return Field("smtpServer", at, codec=QUOTED_FLAG, zero=False)


def _web_authn(prefix: str) -> dict[str, Mapped]:
    preferences = (_UNSPECIFIED, "required", "preferred", "discouraged")
    return {
        "acceptableAaguids": Field(f"{prefix}AcceptableAaguids", codec=NAMES, zero=[]),
        "attestationConveyancePreference": Field(
            f"{prefix}AttestationConveyancePreference",
            default=_UNSPECIFIED,
            choices=(_UNSPECIFIED, "none", "indirect", "direct", "enterprise"),
        ),
        "authenticatorAttachment": Field(
            f"{prefix}AuthenticatorAttachment",
            default=_UNSPECIFIED,
            choices=(_UNSPECIFIED, "platform", "cross-platform"),
        ),
        "avoidSameAuthenticatorRegister": Field(f"{prefix}AvoidSameAuthenticatorRegister", codec=FLAG, default=False),
        "createTimeout": Field(f"{prefix}CreateTimeout", codec=NUMBER, default=0),
        "discoverableCredential": Field(f"{prefix}ResidentKey", default=_UNSPECIFIED, choices=preferences),
        "extraOrigins": Field(f"{prefix}ExtraOrigins", codec=NAMES),
        "relyingPartyEntityName": Field(f"{prefix}RpEntityName", default="keycloak"),
        "relyingPartyId": Field(f"{prefix}RpId", default=""),
        "requireResidentKey": Field(
            f"{prefix}RequireResidentKey", default=_UNSPECIFIED, choices=(_UNSPECIFIED, "Yes", "No")
        ),
        "signatureAlgorithms": Field(f"{prefix}SignatureAlgorithms", codec=NAMES),
        "userVerificationRequirement": Field(
            f"{prefix}UserVerificationRequirement", default=_UNSPECIFIED, choices=preferences
        ),
    }


_BRUTE_FORCE = Block(
    {
        "bruteForceStrategy": Field("bruteForceStrategy", default="MULTIPLE", choices=("MULTIPLE", "LINEAR")),
        "failureResetTimeSeconds": Field("maxDeltaTimeSeconds", codec=NUMBER, default=43200),
        "maxFailureWaitSeconds": Field("maxFailureWaitSeconds", codec=NUMBER, default=900),
        "maxLoginFailures": Field("failureFactor", codec=NUMBER, default=30),
        "maxTemporaryLockouts": Field("maxTemporaryLockouts", codec=NUMBER, default=0),
        "minimumQuickLoginWaitSeconds": Field("minimumQuickLoginWaitSeconds", codec=NUMBER, default=60),
        "permanentLockout": Field("permanentLockout", codec=FLAG, default=False),
        "quickLoginCheckMilliSeconds": Field("quickLoginCheckMilliSeconds", codec=NUMBER, default=1000),
        "waitIncrementSeconds": Field("waitIncrementSeconds", codec=NUMBER, default=60),
    },
    present={("bruteForceProtected",): True},
    absent={("bruteForceProtected",): False},
    reset=True,
)

_HEADERS = Block(
    {
        "contentSecurityPolicy": _header(
            "contentSecurityPolicy", "frame-src 'self'; frame-ancestors 'self'; object-src 'none';"
        ),
        "contentSecurityPolicyReportOnly": _header("contentSecurityPolicyReportOnly", ""),
        "referrerPolicy": _header("referrerPolicy", "no-referrer"),
        "strictTransportSecurity": _header("strictTransportSecurity", "max-age=31536000; includeSubDomains"),
        "xContentTypeOptions": _header("xContentTypeOptions", "nosniff"),
        "xFrameOptions": _header("xFrameOptions", "SAMEORIGIN"),
        "xRobotsTag": _header("xRobotsTag", "none"),
        "xXssProtection": _header("xXSSProtection", "1; mode=block"),
    },
    reset=True,
)

_SMTP_LOGIN = Block(
    {
        "username": _smtp("user", required=True),
        "password": Field("smtpServer", "password", codec=SECRET, required=True, secret=True),
    },
    present={("smtpServer", "auth"): "true", ("smtpServer", "authType"): "basic"},
)

_SMTP_TOKEN = Block(
    {
        "username": _smtp("user", required=True),
        "url": _smtp("authTokenUrl", required=True),
        "clientId": _smtp("authTokenClientId", required=True),
        "clientSecret": Field("smtpServer", "authTokenClientSecret", codec=SECRET, required=True, secret=True),
        "scope": _smtp("authTokenScope", required=True),
    },
    present={("smtpServer", "auth"): "true", ("smtpServer", "authType"): "token"},
)


class Realm(Record):
    """A realm; its identifier is its name."""

    token: ClassVar[str] = "keycloak:index/realm:Realm"
    noun = "realm"
    named_by = "realm"
    realm_property = "realm"
    fields: ClassVar[Mapping[str, Mapped]] = {
        "realm": Field("realm", replaces=True, autoname=True),
        "internalId": Field("id", replaces=True, computed=True),
        "enabled": Field("enabled", codec=FLAG, default=True),
        "displayName": Field("displayName", zero=""),
        "displayNameHtml": Field("displayNameHtml", zero=""),
        "userManagedAccess": Field("userManagedAccessAllowed", codec=FLAG, default=False),
        "organizationsEnabled": Field("organizationsEnabled", codec=FLAG, default=False),
        "adminPermissionsEnabled": Field("adminPermissionsEnabled", codec=FLAG, zero=False),
        "terraformDeletionProtection": Local(default=False),
        # Login
        "registrationAllowed": _flag("registrationAllowed"),
        "registrationEmailAsUsername": _flag("registrationEmailAsUsername"),
        "editUsernameAllowed": _flag("editUsernameAllowed"),
        "resetPasswordAllowed": _flag("resetPasswordAllowed"),
        "rememberMe": _flag("rememberMe"),
        "verifyEmail": _flag("verifyEmail"),
        "loginWithEmailAllowed": _flag("loginWithEmailAllowed"),
        "duplicateEmailsAllowed": _flag("duplicateEmailsAllowed"),
        "sslRequired": Field("sslRequired", default="external", choices=("none", "external", "all")),
        "passwordPolicy": Field("passwordPolicy", zero=""),
        # Themes
        "loginTheme": Field("loginTheme", zero=""),
        "accountTheme": Field("accountTheme", zero=""),
        "adminTheme": Field("adminTheme", zero=""),
        "emailTheme": Field("emailTheme", zero=""),
        # Tokens and sessions
        "defaultSignatureAlgorithm": Field("defaultSignatureAlgorithm", zero=""),
        "revokeRefreshToken": Field("revokeRefreshToken", codec=FLAG, default=False),
        "refreshTokenMaxReuse": Field("refreshTokenMaxReuse", codec=NUMBER, default=0),
        "ssoSessionIdleTimeout": _lifespan("ssoSessionIdleTimeout"),
        "ssoSessionIdleTimeoutRememberMe": _lifespan("ssoSessionIdleTimeoutRememberMe"),
        "ssoSessionMaxLifespan": _lifespan("ssoSessionMaxLifespan"),
        "ssoSessionMaxLifespanRememberMe": _lifespan("ssoSessionMaxLifespanRememberMe"),
        "offlineSessionIdleTimeout": _lifespan("offlineSessionIdleTimeout"),
        "offlineSessionMaxLifespan": _lifespan("offlineSessionMaxLifespan"),
        "offlineSessionMaxLifespanEnabled": Field("offlineSessionMaxLifespanEnabled", codec=FLAG, default=False),
        "clientSessionIdleTimeout": _lifespan("clientSessionIdleTimeout"),
        "clientSessionMaxLifespan": _lifespan("clientSessionMaxLifespan"),
        "accessTokenLifespan": _lifespan("accessTokenLifespan"),
        "accessTokenLifespanForImplicitFlow": _lifespan("accessTokenLifespanForImplicitFlow"),
        "accessCodeLifespan": _lifespan("accessCodeLifespan"),
        "accessCodeLifespanLogin": _lifespan("accessCodeLifespanLogin"),
        "accessCodeLifespanUserAction": _lifespan("accessCodeLifespanUserAction"),
        "actionTokenGeneratedByUserLifespan": _lifespan("actionTokenGeneratedByUserLifespan"),
        "actionTokenGeneratedByAdminLifespan": _lifespan("actionTokenGeneratedByAdminLifespan"),
        "oauth2DeviceCodeLifespan": _lifespan("oauth2DeviceCodeLifespan"),
        "oauth2DevicePollingInterval": Field("oauth2DevicePollingInterval", codec=NUMBER),
        # Flows
        "browserFlow": _flow("browserFlow", "browser"),
        "registrationFlow": _flow("registrationFlow", "registration"),
        "directGrantFlow": _flow("directGrantFlow", "direct grant"),
        "resetCredentialsFlow": _flow("resetCredentialsFlow", "reset credentials"),
        "clientAuthenticationFlow": _flow("clientAuthenticationFlow", "clients"),
        "dockerAuthenticationFlow": _flow("dockerAuthenticationFlow", "docker auth"),
        "firstBrokerLoginFlow": _flow("firstBrokerLoginFlow", "first broker login"),
        # Objects
        "attributes": Some("attributes"),
        "internationalization": Block(
            {
                "supportedLocales": Field("supportedLocales", codec=NAMES, required=True),
                "defaultLocale": Field("defaultLocale", required=True),
            },
            present={("internationalizationEnabled",): True},
            absent={("internationalizationEnabled",): False},
        ),
        "otpPolicy": Block(
            {
                "algorithm": Field(
                    "otpPolicyAlgorithm", default="HmacSHA1", choices=("HmacSHA1", "HmacSHA256", "HmacSHA512")
                ),
                "codeReusable": Field("otpPolicyCodeReusable", codec=FLAG, default=False),
                "digits": Field("otpPolicyDigits", codec=NUMBER, default=6),
                "initialCounter": Field("otpPolicyInitialCounter", codec=NUMBER, default=2),
                "lookAheadWindow": Field("otpPolicyLookAheadWindow", codec=NUMBER, default=1),
                "period": Field("otpPolicyPeriod", codec=NUMBER, default=30),
                "type": Field("otpPolicyType", default="totp", choices=("totp", "hotp")),
            }
        ),
        "securityDefenses": Block({"bruteForceDetection": _BRUTE_FORCE, "headers": _HEADERS}, reset=True),
        "smtpServer": Block(
            {
                "from": _smtp("from", required=True),
                "host": _smtp("host", required=True),
                "port": _smtp("port"),
                "fromDisplayName": _smtp("fromDisplayName"),
                "replyTo": _smtp("replyTo"),
                "replyToDisplayName": _smtp("replyToDisplayName"),
                "envelopeFrom": _smtp("envelopeFrom"),
                "ssl": _smtp_flag("ssl"),
                "starttls": _smtp_flag("starttls"),
                "allowUtf8": _smtp_flag("allowutf8"),
                "auth": _SMTP_LOGIN,
                "tokenAuth": _SMTP_TOKEN,
            },
            exists=("smtpServer", "host"),
            cleared=("smtpServer",),
            secret=True,
        ),
        "webAuthnPolicy": Block(_web_authn("webAuthnPolicy")),
        "webAuthnPasswordlessPolicy": Block(
            {
                **_web_authn("webAuthnPolicyPasswordless"),
                "passwordlessPasskeysEnabled": Field(
                    "webAuthnPolicyPasswordlessPasskeysEnabled", codec=FLAG, zero=False
                ),
            }
        ),
    }

    def collection(self, inputs: Properties) -> Path:
        """Return where such records are."""
        return ("realms",)

    def address(self, identifier: str, inputs: Properties) -> Path:
        """Return where one record is."""
        return ("realms", identifier)

    def identify(self, client: Keycloak, inputs: Properties, location: str) -> str:
        """Return the identifier that the official provider gives."""
        client.forget_token()
        return str(inputs["realm"])

    def prepare(self, client: Keycloak, inputs: Properties, representation: Representation) -> None:
        """Complete the representation, or refuse inputs that contradict each other."""
        # The official provider gives a realm its name as its internal identifier too.
        representation.setdefault("id", inputs["realm"])
        if representation.get("duplicateEmailsAllowed"):
            for name in ("registrationEmailAsUsername", "loginWithEmailAllowed"):
                if representation.get(name):
                    raise ProviderError(
                        f"realm '{inputs['realm']}': duplicateEmailsAllowed and {name} exclude each other"
                    )

    def delete(self, client: Keycloak, identifier: str, outputs: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        if outputs.get("terraformDeletionProtection"):
            raise ProviderError(
                f"the realm '{identifier}' is protected: set terraformDeletionProtection to false before deleting it"
            )
        super().delete(client, identifier, outputs)
