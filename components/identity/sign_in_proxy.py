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

MODULES = (
    "mpm_event",
    "alias",
    "authn_core",
    "authz_core",
    "authz_host",
    "authz_user",
    "proxy",
    "proxy_connect",
    "proxy_http",
    "status",
)

REFUSED = (
    "<!doctype html><html lang='en'><meta name='viewport' content='width=device-width'><title>Not allowed</title>"
    "<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:32em;margin:20vh auto;padding:0 1em}}</style>"
    "<h1>Not allowed</h1><p>You are signed in, but this page is for people with the role {roles} only.</p>"
    "<p><a href='{logout}'>Sign out</a> to use another account.</p></html>"
)
"""What people see who may not use a page. It holds no double quotes: Apache's configuration would end the text there."""


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
        passphrase = pulumi.Output.concat("Define session-key ", platform.secret("sign-in-proxy-session-key"), "\n")
        return Container(
            entrypoint=("/usr/sbin/apache2",),
            command=("-DFOREGROUND", "-f", f"{FILES}/apache2.conf"),
            files={
                "apache2.conf": configuration(platform, guarded),
                "secrets.conf": pulumi.Output.concat(passphrase, *secrets),
                "authority.pem": pulumi.Output.from_input(platform.certificates.authority),
            },
            health=Health(command=http_health(PORT, HEALTH_PATH), interval_seconds=5, start_seconds=20),
            networks=(Network.APPLICATIONS, Network.OBSERVABILITY),
            user="33",
            memory_mb=128,
            temporary={TEMPORARY: 16},
        )


def _secret(host: str) -> str:
    return f"{host}-secret"


def configuration(platform: Platform, guarded: Sequence[tuple[str, Route]]) -> str:
    """Return ``apache2.conf`` for routes, each with the service it belongs to; secrets come from a file of their own."""
    rules = platform.settings.keycloak
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in (*MODULES, "auth_openidc")
    )
    hosts = "\n".join(_host(platform, service, route) for service, route in guarded)
    return f"""\
{modules}
Include {FILES}/secrets.conf
Listen {PORT}
ServerName sign-in-proxy
ServerTokens Prod
ServerSignature Off
DefaultRuntimeDir {TEMPORARY}
PidFile {TEMPORARY}/apache2.pid
ErrorLog /dev/stderr
LogLevel warn
StartServers 1
ServerLimit 2
ThreadsPerChild 32
MinSpareThreads 8
MaxRequestWorkers 64
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
OIDCCABundlePath {FILES}/authority.pem
OIDCOutgoingProxy {OUTGOING}
OIDCCryptoPassphrase ${{session-key}}
OIDCScope "openid profile"
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


def _host(platform: Platform, service: str, route: Route) -> str:
    address = platform.url(route.host)
    refused = REFUSED.format(roles=" or ".join(route.roles), logout=LOGOUT_PATH)
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
    # A service that was replaced has another address.
    ProxyPass / http://{service}:{route.port}/ addressttl=5
    <Location "/">
        AuthType openid-connect
        Require claim roles:{SIGN_IN_ROLE}
        OIDCUnAutzAction 403
        # Who has signed in and may not is forbidden (403), not unknown (401).
        AuthzSendForbiddenOnFailure On
    </Location>
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
