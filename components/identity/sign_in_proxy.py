"""Sign-in proxy: asks people to sign in at Keycloak before they reach the pages of services that ask nobody."""

import re
from collections.abc import Sequence
from urllib.parse import quote

import pulumi

from components.context import Platform
from components.identity import keycloak, realm
from components.images import SIGN_IN_PROXY, Image
from components.service import (
    FILES,
    SECRETS,
    SIGN_IN_PATH,
    SIGN_IN_ROLE,
    TEMPORARY,
    Container,
    Health,
    Network,
    Route,
    Service,
    http_health,
)
from settings import Keycloak

PORT = 8080
LOGOUT_PATH = "/oauth2/logout"
"""Page that ends the session here and at Keycloak."""

HEALTH_PATH = "/healthz"

OUTGOING = "127.0.0.1:3128"
"""Where the module's own requests to Keycloak go through: curl takes every name below localhost for the container itself."""

IDENTITY = {
    "X-Signed-In-Subject": "sub",
    "X-Signed-In-Email": "email",
    "X-Signed-In-First-Name": "given_name",
    "X-Signed-In-Last-Name": "family_name",
}
"""Claim by header, each as base64url of UTF-8, for routes that are ``identified``; a header without a value is left out."""

USER = "X-Api-User-Id"
"""Header in which services that programs may use are told whose request it is."""

KEY_HEADER = "X-Signed-In-Key"
"""Header that comes with them: the service believes them only with the key that it shares with the sign-in proxy."""

MODULES = (
    "mpm_event",
    "alias",
    "authn_core",
    "authz_core",
    "authz_host",
    "authz_user",
    "headers",
    "proxy",
    "proxy_connect",
    "proxy_http",
    "status",
)

REFUSED = (
    "<!doctype html><html lang='en'><meta name='viewport' content='width=device-width'><title>Not allowed</title>"
    "<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:32em;margin:20vh auto;padding:0 1em}}</style>"
    "<h1>Not allowed</h1><p>You are signed in, but this page is for people with the role {roles} only.</p>"
    "<p><a href='{logout}'>Sign out</a> to use another account.</p>"
    "<p lang='es'>Su sesión está iniciada, pero esta página es solo para personas con el rol {roles}. "
    "<a href='{logout}'>Cierre la sesión</a> para usar otra cuenta.</p></html>"
)
"""What people see who may not use a page, in the platform's two languages.

It holds no double quotes: Apache's configuration would end the text there."""


class SignInProxy(Service):
    """The guard of every route that names roles; each has a client of its own in Keycloak."""

    name = "sign-in-proxy"
    area = "identity"

    @property
    def image(self) -> Image:
        """Apache with mod_auth_openidc."""
        return SIGN_IN_PROXY

    def container(self, platform: Platform) -> Container:
        """Return the proxy's container. It finds Keycloak when the first person comes, so it waits for nothing."""
        guarded = [
            (service.name, route) for service in platform.services.values() for route in service.routes() if route.roles
        ]
        secrets = [
            pulumi.Output.concat("Define ", _secret(route.host), " ", realm.client_secret(platform, route.host), "\n")
            for _, route in guarded
        ]
        secrets += [
            pulumi.Output.concat("Define ", _key(route.host), " ", identity_key(platform, route.host), "\n")
            for _, route in guarded
            if route.identified
        ]
        passphrase = pulumi.Output.concat("Define session-key ", platform.secret("sign-in-proxy-session-key"), "\n")
        return Container(
            entrypoint=("/usr/sbin/apache2",),
            command=("-DFOREGROUND", "-f", f"{FILES}/apache2.conf"),
            files={
                "apache2.conf": configuration(platform, guarded),
                "authority.pem": pulumi.Output.from_input(platform.certificates.authority),
            },
            secrets={"secrets.conf": pulumi.Output.concat(passphrase, *secrets)},
            health=Health(command=http_health(PORT, HEALTH_PATH), interval_seconds=5, start_seconds=20),
            networks=(Network.APPLICATIONS, Network.OBSERVABILITY),
            user="33",
            memory_mb=128,
            temporary={TEMPORARY: 16},
        )


def identity_key(platform: Platform, host: str) -> pulumi.Output[str]:
    """Return the key by which the service at a host knows that the sign-in proxy says who asks."""
    return platform.secret(f"sign-in-proxy-{host}-key")


def _secret(host: str) -> str:
    return f"{host}-secret"


def _key(host: str) -> str:
    return f"{host}-key"


def configuration(platform: Platform, guarded: Sequence[tuple[str, Route]]) -> str:
    """Return ``apache2.conf`` for routes, each with the service it belongs to; secrets come from a file of their own."""
    rules = platform.settings.keycloak
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in (*MODULES, "auth_openidc")
    )
    hosts = "\n".join(_host(platform, service, route) for service, route in guarded)
    return f"""\
{modules}
Include {SECRETS}/secrets.conf
Listen {PORT}
ServerName sign-in-proxy
ServerTokens Prod
ServerSignature Off
DefaultRuntimeDir {TEMPORARY}
PidFile {TEMPORARY}/apache2.pid
ErrorLog /dev/stderr
LogLevel warn
StartServers 1
ServerLimit 4
ThreadsPerChild 64
MinSpareThreads 8
# Each open websocket, such as an editor's, keeps one.
MaxRequestWorkers 256
ProxyRequests Off

{_openid(rules, keycloak.issuer(platform))}
Listen {OUTGOING}
<VirtualHost {OUTGOING}>
    ServerName outgoing.invalid
    ProxyRequests On
    AllowCONNECT {platform.settings.https_port}
    <Proxy "*">
        Require local
    </Proxy>
</VirtualHost>
# Nothing is proxied under a name that is not known; a first host that fits nothing else takes those requests.
<VirtualHost *:{PORT}>
    ServerName unknown.invalid
    <Location "/">
        Require all denied
    </Location>
    <Location "{HEALTH_PATH}">
        SetHandler server-status
        Require local
    </Location>
</VirtualHost>
{hosts}"""


def _openid(rules: Keycloak, issuer: str) -> str:
    return f"""\
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCOAuthVerifyJwksUri {issuer}/protocol/openid-connect/certs
OIDCCABundlePath {FILES}/authority.pem
OIDCOutgoingProxy {OUTGOING}
OIDCCryptoPassphrase ${{session-key}}
OIDCScope "openid profile email"
OIDCPKCEMethod S256
OIDCRemoteUserClaim preferred_username
# The addresses are those that the reverse proxy in front was asked for.
OIDCXForwardedHeaders X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto
OIDCCookieSameSite On
OIDCStripCookies mod_auth_openidc_session
# A person's claims and tokens are no business of the services behind.
OIDCPassClaimsAs none
OIDCPassIDTokenAs claims
OIDCSessionInactivityTimeout {rules.session_idle_minutes * 60}
OIDCSessionMaxDuration {rules.session_max_hours * 3600}
OIDCCacheShmMax 500
"""


def _forged() -> str:
    """Return the lines that remove what only this proxy may say."""
    return "".join(f"    RequestHeader unset {header} early\n" for header in (KEY_HEADER, *IDENTITY))


def _identity(route: Route) -> str:
    """Return the lines that tell a service who asks; where nobody signed in they say nothing."""
    told = {
        KEY_HEADER: (f"${{{_key(route.host)}}}", "sub"),
        **{header: (f"%{{OIDC_CLAIM_{claim}}}e", claim) for header, claim in IDENTITY.items()},
    }
    lines = [f'RequestHeader set {header} "{value}" env=OIDC_CLAIM_{claim}' for header, (value, claim) in told.items()]
    return "".join(f"        {line}\n" for line in ("OIDCPassClaimsAs environment base64url", *lines))


def _guard(route: Route) -> str:
    """Return the lines that say who may enter: people who have signed in, and where programs may, those with a token for this host."""
    role = f"Require claim roles:{SIGN_IN_ROLE}"
    if not route.programs:
        return f"""\
        AuthType openid-connect
        {role}
"""
    # Keycloak signs tokens for other services, too: a program's must be for this one.
    return f"""\
        AuthType auth-openidc
        <RequireAll>
            Require claim aud:{route.host}
            {role}
        </RequireAll>
        # Programs are answered 401; a browser is sent to the login.
        OIDCUnAuthAction 401 "%{{HTTP_ACCEPT}} !~ m#text/html#"
        OIDCPassClaimsAs environment
        RequestHeader unset Authorization
        RequestHeader set {USER} "%{{OIDC_CLAIM_sub}}e" env=OIDC_CLAIM_sub
"""


def _host(platform: Platform, service: str, route: Route) -> str:
    address = platform.url(route.host)
    tunnel = platform.settings.edge.tunnel_timeout_seconds
    refused = REFUSED.format(roles=" or ".join(route.roles), logout=LOGOUT_PATH)
    # Apache says that such a text is ISO 8859-1, whatever the page itself says.
    refused = refused.encode("ascii", "xmlcharrefreplace").decode()
    return f"""
<VirtualHost *:{PORT}>
    ServerName {platform.host(route.host)}
    OIDCRedirectURI {address}{SIGN_IN_PATH}
    OIDCClientID {route.host}
    OIDCClientSecret ${{{_secret(route.host)}}}
    ErrorDocument 403 "{refused}"
    Redirect 302 {LOGOUT_PATH} {address}{SIGN_IN_PATH}?logout={quote(f"{address}/", safe="")}
    ProxyPass {LOGOUT_PATH} !
    ProxyPass {SIGN_IN_PATH} !
    # What the reverse proxy in front says of the request stays as it is.
    ProxyAddHeaders Off
    # A service that was replaced has another address.
    ProxyPass / http://{service}:{route.port}/ addressttl=5 upgrade=websocket timeout={tunnel}
{_forged()}    <Location "/">
{_guard(route)}        OIDCUnAutzAction 403
        # Who has signed in and may not is forbidden (403), not unknown (401).
        AuthzSendForbiddenOnFailure On
{_identity(route) if route.identified else ""}    </Location>
    <Location "{SIGN_IN_PATH}">
        Require valid-user
    </Location>
    <Location "{LOGOUT_PATH}">
        AuthType None
        Require all granted
    </Location>
    # Whether it works is no secret, and the reverse proxy and the probes ask for it.
    <LocationMatch "^{re.escape(route.health_path)}$">
        AuthType None
        Require all granted
    </LocationMatch>
</VirtualHost>
"""
