"""Rules about Keycloak and Vault: who signs in how, for how long, and who may read which secret."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from policies.containers import CONTAINER
from policies.model import Finding, Policy, Severity, Subject, nothing, reads
from policies.values import UNKNOWN, mapping, mappings, number, seconds, secret, texts, unknown

REALM = "keycloak:index/realm:Realm"
CLIENT = "keycloak:openid/client:Client"
EXECUTION = "keycloak:authentication/execution:Execution"
PROVIDERS = frozenset(
    {
        "keycloak:oidc/identityProvider:IdentityProvider",
        "keycloak:oidc/googleIdentityProvider:GoogleIdentityProvider",
        "keycloak:oidc/githubIdentityProvider:GithubIdentityProvider",
        "keycloak:oidc/microsoftIdentityProvider:MicrosoftIdentityProvider",
        "keycloak:saml/identityProvider:IdentityProvider",
    }
)
VAULT_POLICY = "vault:index/policy:Policy"
VAULT_ROLE = "vault:appRole/authBackendRole:AuthBackendRole"
VAULT_SIGN_IN = "vault:jwt/authBackendRole:AuthBackendRole"
VAULT_ENTRY = "vault:kv/secretV2:SecretV2"
VAULT_AUDIT = "vault:index/audit:Audit"

ACCESS_TOKEN_SECONDS = 15 * 60
SESSION_SECONDS = 24 * 3600
PASSWORD_LENGTH = 12
VAULT_TOKEN_SECONDS = 24 * 3600

LOOPBACK = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\]):[0-9]{1,5}/[^*]*")
"""Where a command line on a person's own machine waits for the login; it has no certificate."""

_LENGTH = re.compile(r"length\((\d+)\)")
_ROUTE = re.compile(r"^\s*use_backend\s+\S+\s+if\s+\{\s*hdr\(host\)\S*\s+-i\s+([^\s}]+)", re.MULTILINE)
"""A line of HAProxy's configuration that sends a host name to a service."""
_VAULT_PATH = re.compile(r'path\s+"([^"]+)"|"([^"]+)"\s*:\s*\{\s*"(?:capabilities|policy)"')
"""A path in a policy of Vault, which is written in HCL or in JSON."""
_VAULT_WIDE = re.compile(r"\*|\+(/.*)?|[^/]+/(\*|\+)|[^/]+/(data|metadata)/(\*|\+/\*)|auth/[^/]+/\*")
"""A path that is nearly everything: a whole engine, all entries of one, or all of a way to log in."""


def _not_known(what: str) -> Finding:
    return Finding(text=f"{what} not known before the deployment, so it was not judged", unknown=True)


def _signs_in(subject: Subject) -> bool:
    """Whether people sign in through a client; a service account has no redirects, and a bearer-only one no logins."""
    return subject.properties.get("standardFlowEnabled") is True


@reads("validRedirectUris", "validPostLogoutRedirectUris", "webOrigins")
def _redirects(subject: Subject) -> Iterator[Finding]:
    for setting in ("validRedirectUris", "validPostLogoutRedirectUris"):
        for address in texts(subject.properties.get(setting)):
            if unknown(address):
                yield _not_known(f"An address of {setting} is")
            elif address == "+" and setting == "validPostLogoutRedirectUris":
                continue
            elif "*" in address:
                yield Finding(text=f"An address of {setting} has a wildcard: {address}", item=address)
            elif setting == "validRedirectUris" and LOOPBACK.fullmatch(address):
                continue
            elif urlsplit(address).scheme != "https" or not urlsplit(address).hostname:
                yield Finding(text=f"An address of {setting} is not a full https address: {address}", item=address)
    for origin in texts(subject.properties.get("webOrigins")):
        if origin == "*":
            yield Finding(text="Every web page may call it (webOrigins *)", item="webOrigins")


@reads("standardFlowEnabled")
def _pkce(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("pkceCodeChallengeMethod")
    if not _signs_in(subject):
        return
    if unknown(value):
        yield _not_known("Its PKCE method is")
    elif value != "S256":
        yield Finding(text="A stolen authorization code can be used: PKCE with S256 is not required")


def _flows(subject: Subject) -> Iterator[Finding]:
    for name, what in (
        ("implicitFlowEnabled", "hands out tokens in addresses (implicit flow)"),
        ("directAccessGrantsEnabled", "accepts people's passwords itself (direct access grants)"),
        ("oauth2DeviceAuthorizationGrantEnabled", "accepts logins by device code"),
    ):
        value = subject.properties.get(name)
        if value is True:
            yield Finding(text=f"The client {what}", item=name)
        elif unknown(value):
            yield _not_known(f"{name} is")


def _confidential(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("accessType")
    if unknown(value):
        yield _not_known("Its access type is")
    elif value not in {"CONFIDENTIAL", "BEARER-ONLY"}:
        yield Finding(text="Anyone can pretend to be this client: it has no secret")


def _single_sign_on(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Finding]]:
    addresses = [
        address
        for subject in subjects
        if subject.type == CLIENT and _signs_in(subject) and subject.properties.get("enabled") is not False
        for address in texts(subject.properties.get("validRedirectUris"))
    ]
    hosts = {urlsplit(address).hostname for address in addresses if not unknown(address)}
    for subject in subjects:
        for upload in mappings(subject.properties.get("uploads")):
            if not str(upload.get("file", "")).endswith("haproxy.cfg"):
                continue
            content = upload.get("content")
            if not isinstance(content, str) or secret(content) or UNKNOWN in content:
                yield subject, _not_known("Which hosts are routed is")
                continue
            for host in routed_hosts(content):
                if host in hosts:
                    continue
                if any(unknown(address) for address in addresses):
                    yield subject, _not_known(f"Whether people sign in at {host} is")
                else:
                    text = f"{host} is routed, and no client of Keycloak returns there: nobody has to sign in"
                    yield subject, Finding(text=text, item=host.partition(".")[0])


def routed_hosts(configuration: str) -> list[str]:
    """Return the host names that HAProxy sends to services, by the text of its configuration."""
    return _ROUTE.findall(configuration)


def _brute_force(subject: Subject) -> Iterator[Finding]:
    defences = subject.properties.get("securityDefenses")
    if unknown(defences) or unknown(mapping(defences).get("bruteForceDetection")):
        yield _not_known("Its brute-force detection is")
    elif not mapping(mapping(defences).get("bruteForceDetection")):
        yield Finding(text="Passwords can be tried without end")


def _ssl(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("sslRequired", "external")
    if unknown(value):
        yield _not_known("sslRequired is")
    elif str(value).lower() not in {"external", "all"}:
        yield Finding(text="Logins are accepted without TLS (sslRequired none)")


@reads("rememberMe", "ssoSessionMaxLifespanRememberMe")
def _lifetimes(subject: Subject) -> Iterator[Finding]:
    # The defaults are Keycloak's own.
    for name, default, allowed, what in (
        ("accessTokenLifespan", "5m", ACCESS_TOKEN_SECONDS, "Access tokens are"),
        ("ssoSessionMaxLifespan", "10h", SESSION_SECONDS, "Sessions are"),
    ):
        value = subject.properties.get(name, default)
        lifetime = seconds(value)
        if unknown(value) or lifetime is None:
            yield _not_known(f"{name} is")
        elif lifetime > allowed:
            yield Finding(text=f"{what} valid for {lifetime / 60:.0f} minutes, more than {allowed // 60}", item=name)
    remembered = subject.properties.get("ssoSessionMaxLifespanRememberMe", 0)
    if subject.properties.get("rememberMe") is True and (seconds(remembered) or 0) > SESSION_SECONDS:
        yield Finding(text="Remembered sessions are valid for more than a day", item="ssoSessionMaxLifespanRememberMe")


def _password(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("passwordPolicy")
    if unknown(value):
        yield _not_known("Its password policy is")
        return
    found = _LENGTH.search(str(value or ""))
    if found is None or int(found[1]) < PASSWORD_LENGTH:
        yield Finding(text=f"Passwords with fewer than {PASSWORD_LENGTH} characters are accepted")


def _registration(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("registrationAllowed")
    if unknown(value):
        yield _not_known("Whether people may register is")
    elif value is True:
        yield Finding(text="Anyone can make an account")


def _second_factor(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Finding]]:
    realms = [subject for subject in subjects if subject.type == REALM]
    # Alternatives are asked of those who have one; only a required step has the others set one up.
    demanded = any(
        subject.type == EXECUTION
        and subject.properties.get("authenticator") in {"auth-otp-form", "webauthn-authenticator"}
        and subject.properties.get("requirement") == "REQUIRED"
        for subject in subjects
    )
    if realms and not demanded:
        yield realms[0], Finding(text="A password alone is enough for everyone, administrators included")


def _provider(subject: Subject) -> Iterator[Finding]:
    trusted = subject.properties.get("trustEmail")
    if unknown(trusted):
        yield _not_known("trustEmail is")
    elif trusted is True:
        yield Finding(text="Its word about an address is enough to be taken for whoever has it here", item="trustEmail")
    for name in ("authorizationUrl", "tokenUrl", "jwksUrl", "userInfoUrl", "singleSignOnServiceUrl"):
        address = subject.properties.get(name)
        if unknown(address):
            yield _not_known(f"{name} is")
        elif address and urlsplit(str(address)).scheme != "https":
            yield Finding(text=f"Logins at another provider cross the network in plain text ({name})", item=name)


@reads("name")
def _vault_paths(subject: Subject) -> Iterator[Finding]:
    rules = subject.properties.get("policy")
    if unknown(rules) or not isinstance(rules, str):
        yield _not_known("Its rules are")
        return
    of_a_service = str(subject.properties.get("name", "")).startswith("service-")
    for path in (hcl or written for hcl, written in _VAULT_PATH.findall(rules)):
        if of_a_service and ("*" in path or "+" in path):
            yield Finding(text=f'A service is granted "{path}", which is more than entries of its own', item=path)
            continue
        if _VAULT_WIDE.fullmatch(path):
            yield Finding(text=f'It grants path "{path}", which is nearly everything', item=path)


def _vault_ttl(subject: Subject) -> Iterator[Finding]:
    period = subject.properties.get("tokenPeriod")
    if unknown(period):
        yield _not_known("tokenPeriod is")
    elif number(period):
        yield Finding(text="Its tokens can be renewed for ever: they are periodic", item="tokenPeriod")
    value = subject.properties.get("tokenMaxTtl")
    limit = number(value)
    if unknown(value):
        yield _not_known("tokenMaxTtl is")
    elif not limit:
        yield Finding(text="Its tokens can be renewed for ever: it has no tokenMaxTtl")
    elif limit > VAULT_TOKEN_SECONDS:
        yield Finding(text="Its tokens are valid for more than a day")


def _vault_audit(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Finding]]:
    if subjects and not any(subject.type == VAULT_AUDIT for subject in subjects):
        yield subjects[0], Finding(text="Vault is configured, and nothing records who reads which secret")
    for subject in subjects:
        options = subject.properties.get("options")
        if subject.type != VAULT_AUDIT:
            continue
        if unknown(options) or unknown(mapping(options).get("log_raw")):
            yield subject, _not_known("Whether the log of accesses hides what was read is")
        elif str(mapping(options).get("log_raw", "false")).lower() not in {"false", "0"}:
            yield subject, Finding(text="The log of accesses shows the secrets themselves (log_raw)", item="log_raw")


def _client(
    identifier: str,
    check: Callable[[Subject], Iterable[Finding]],
    title: str,
    description: str,
    cure: str,
    *references: str,
) -> Policy:
    return Policy(
        id=identifier,
        title=title,
        description=description,
        cure=cure,
        enforced="components/identity",
        severity=Severity.HIGH,
        references=references,
        types=frozenset({CLIENT}),
        check=check,
    )


def _realm(
    identifier: str,
    check: Callable[[Subject], Iterable[Finding]],
    title: str,
    description: str,
    cure: str,
    *references: str,
) -> Policy:
    return Policy(
        id=identifier,
        title=title,
        description=description,
        cure=cure,
        enforced="components/identity",
        severity=Severity.HIGH,
        references=references,
        types=frozenset({REALM}),
        check=check,
    )


POLICIES: tuple[Policy, ...] = (
    _client(
        "oidc-redirects",
        _redirects,
        "Logins return to exact https addresses",
        "A wildcard or plain http hands the login to whoever controls a matching address.",
        "name each redirect address in full, with https and without *; a command line's may be http at the loopback, with its port.",
        "RFC 9700: 2.1",
        "RFC 8252: 7.3",
    ),
    _client(
        "oidc-pkce",
        _pkce,
        "Logins use PKCE",
        "An intercepted authorization code is worthless without the verifier.",
        "set pkce_code_challenge_method to S256.",
        "RFC 9700: 2.1.1",
    ),
    _client(
        "oidc-flows",
        _flows,
        "No implicit, password or device grants",
        "They put tokens into addresses or people's passwords into applications.",
        "set implicit_flow_enabled, direct_access_grants_enabled and oauth2_device_authorization_grant_enabled to false.",
        "RFC 9700: 2.1.2",
        "RFC 9700: 2.4",
    ),
    _client(
        "oidc-confidential",
        _confidential,
        "Clients have a secret",
        "Every application here has a server side that can keep one.",
        "set access_type to CONFIDENTIAL, with a generated secret.",
        "RFC 9700: 2.5",
    ),
    Policy(
        id="routes-single-sign-on",
        title="Every routed service has single sign-on",
        description="A service with a door of its own, or none, is where accounts outlive their people.",
        cure="declare an OidcClient for the route in the service's file, or an exemption for its first label with the reason.",
        enforced="components/service.py",
        severity=Severity.HIGH,
        references=("NIST SP 800-53: IA-2",),
        types=frozenset({CONTAINER, CLIENT}),
        check=nothing,
        check_stack=_single_sign_on,
    ),
    _realm(
        "realm-brute-force",
        _brute_force,
        "Guessing passwords is slowed down",
        "Without it every password can be tried.",
        "set security_defenses.brute_force_detection.",
        "NIST SP 800-63B: 5.2.2",
    ),
    _realm(
        "realm-tls",
        _ssl,
        "Logins need TLS",
        "Passwords must not cross a network in plain text.",
        "set ssl_required to external or all.",
    ),
    _realm(
        "realm-lifetimes",
        _lifetimes,
        "Tokens and sessions end",
        "A stolen token or a forgotten browser should not be of use for long.",
        "set aikit:keycloak-access-token-minutes to 15 or less, and aikit:keycloak-session-max-hours to 24 or less.",
        "NIST SP 800-63B: 7.2",
    ),
    _realm(
        "realm-passwords",
        _password,
        f"Passwords have at least {PASSWORD_LENGTH} characters",
        "Short passwords are guessed.",
        f"set aikit:keycloak-password-length to {PASSWORD_LENGTH} or more.",
        "NIST SP 800-63B: 5.1.1.2",
    ),
    _realm(
        "realm-registration",
        _registration,
        "Nobody makes an account for themselves",
        "The platform is for people whom its administrator knows.",
        "set registration_allowed to false, and list people in aikit:users.",
    ),
    Policy(
        id="second-factor",
        title="Administrators need a second factor",
        description="A password that leaks opens the whole platform.",
        cure="set aikit:keycloak-multi-factor to admins or everyone.",
        enforced="components/identity",
        severity=Severity.HIGH,
        references=("NIST SP 800-63B: 4.2",),
        types=frozenset({REALM, EXECUTION}),
        check=nothing,
        check_stack=_second_factor,
    ),
    Policy(
        id="identity-providers",
        title="Other identity providers cannot take over accounts",
        description="Anyone can claim any address at some provider; plain http lets anyone answer in its place.",
        cure="set trust_email to false, and give https addresses.",
        enforced="components/identity",
        severity=Severity.HIGH,
        references=("RFC 9700: 4.4",),
        types=PROVIDERS,
        check=_provider,
    ),
    Policy(
        id="vault-paths",
        title="No policy of Vault grants everything",
        description="A service that is broken into must not read the others' secrets.",
        cure="name the paths of the one service.",
        enforced="components/secrets/vault.py",
        severity=Severity.HIGH,
        types=frozenset({VAULT_POLICY}),
        check=_vault_paths,
    ),
    Policy(
        id="vault-token-lifetime",
        title="Vault's tokens end within a day",
        description="A stolen token should not be of use for ever.",
        cure="set token_max_ttl to 86400 or less.",
        enforced="components/secrets/vault.py",
        types=frozenset({VAULT_ROLE, VAULT_SIGN_IN}),
        check=_vault_ttl,
    ),
    Policy(
        id="vault-audit",
        title="Vault records every access",
        description="Without it nobody can tell which secrets were read.",
        cure="add a vault.Audit device, without log_raw.",
        enforced="components/secrets/vault.py",
        severity=Severity.HIGH,
        types=frozenset({VAULT_POLICY, VAULT_ROLE, VAULT_SIGN_IN, VAULT_ENTRY, VAULT_AUDIT}),
        check=nothing,
        check_stack=_vault_audit,
    ),
)
