"""Vault: keeps every secret, and says who may read which."""

import json
from collections.abc import Iterable, Mapping, Sequence

import pulumi
import pulumi_vault as vault

from components.context import Platform
from components.identity import keycloak, realm
from components.images import VAULT, Image
from components.secrets import names, pki
from components.service import (
    ENVIRONMENT,
    FILES,
    FIRST_SHARES,
    TEMPORARY,
    Alert,
    Container,
    DataVolume,
    Deployment,
    Health,
    Metrics,
    Network,
    OidcClient,
    PublishedPort,
    Route,
    Service,
    Severity,
    environment_file,
)
from settings import ROOT, SEALS, Role, SettingsError, read_file
from settings import Vault as VaultSettings

TLS_PORT = 8200
PORT = 8202
"""Without TLS: for the reverse proxy, which ends it, for measurements, and at 127.0.0.1 for the deployment."""

ADDRESSES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""Networks of Docker, in which the reverse proxy is, whose word about a caller's address is taken."""

CONSOLE = "/ui/vault/auth/oidc/oidc/callback"
"""Where the web interface, and whoever does as it does, gets people back from Keycloak."""

COMMAND_LINE = "http://localhost:8250/oidc/callback"
"""Where ``vault login -method=oidc`` waits for a person's browser."""

HOUR = 3600


class Vault(Service):
    """The keeper of the secrets. It unseals itself; the secrets agent brings what it keeps into the containers' memory."""

    name = "vault"
    area = "secrets"

    _mount: vault.Mount
    """Of the secrets; made before anything else is."""

    @property
    def image(self) -> Image:
        """Vault 1.19."""
        return VAULT

    def routes(self) -> tuple[Route, ...]:
        """Return the address of the API, and of the web interface where the image has one."""
        return (Route(host=names.HOST, port=PORT, health_path="/v1/sys/health", title="Vault: secrets", path="/ui/"),)

    def clients(self) -> tuple[OidcClient, ...]:
        """Return the client by which people sign in; everyone has a place of their own, administrators read all."""
        return (
            OidcClient(
                client_id=names.CLIENT,
                title="Vault",
                host=names.HOST,
                redirect_paths=(CONSOLE,),
                local_redirects=(COMMAND_LINE,),
                roles={names.ADMIN: (Role.ADMIN,), names.PERSON: tuple(Role)},
            ),
        )

    def metrics(self) -> tuple[Metrics, ...]:
        """Return Vault's own measurements."""
        return (Metrics(port=PORT, path="/v1/sys/metrics", drop="go_.*"),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alert that nothing can be read or written."""
        return (
            Alert(
                name="VaultSealed",
                # While it starts, Vault counts itself under an empty name, and keeps that count for a day.
                expression='max without (cluster) (vault_core_unsealed{job="vault"}) == 0',
                seconds=60,
                severity=Severity.CRITICAL,
                kind="sealed",
                summary="Vault is sealed",
                description="No secret can be read or written in it. Services go on with the secrets that they have.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return Vault's container. The key that opens the data is in a volume of its own.

        Its own secrets are on disk: nobody could write them into memory before it runs.
        """
        chosen = self.settings.vault
        issued = platform.certificates.issue(
            "vault-certificate",
            [self.name, platform.host(names.HOST), "localhost"],
            ["127.0.0.1"],
            service=self.name,
        )
        return Container(
            # Whatever the image's entrypoint is: the script decides.
            entrypoint=("env",),
            command=("sh", f"{FILES}/start.sh"),
            files={
                "start.sh": (ROOT / "services" / "vault" / "start.sh").read_text(encoding="utf-8"),
                "vault.hcl": configuration(chosen),
                f"{names.DEPLOYMENT}.hcl": deployment_policy(),
                f"{names.DEPLOYMENT}-secret": platform.secret(names.DEPLOYMENT_SECRET, 48),
                f"{names.AGENT}.hcl": agent_policy(),
                f"{names.AGENT}-secret": platform.secret(names.AGENT_SECRET, 48),
                "certificate.pem": issued.certificate,
                "key.pem": issued.key,
                "authority.pem": issued.authority,
                **({} if chosen.seal == "file" else {"seal": chosen.seal}),
                **({ENVIRONMENT: environment_file(seal)} if (seal := credentials(chosen)) else {}),
            },
            health=Health(
                command=("sh", "-c", f"test -e {TEMPORARY}/ready && wget -q -O /dev/null {_here()}/v1/sys/health"),
                # Everything that has secrets waits for it.
                interval_seconds=3,
                start_seconds=60,
            ),
            networks=(Network.APPLICATIONS, Network.DATA, Network.OBSERVABILITY),
            # Folders that the official image has and that belong to its user: a volume takes over the owner.
            volumes=(
                DataVolume(name="vault-data", path="/vault/file"),
                DataVolume(name="vault-key", path="/vault/config"),
            ),
            ports=(PublishedPort(internal=PORT, external=chosen.port),),
            user="100",
            memory_mb=chosen.memory_mb,
            cpu_shares=FIRST_SHARES,
            temporary={TEMPORARY: 16},
            stop_seconds=30,
        )

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Write down every access, and keep the containers' secrets for the agent, which waits for them."""
        parent = pulumi.ResourceOptions(parent=deployment)
        provider = vault.Provider(
            "vault-provider",
            address=f"http://127.0.0.1:{self.settings.vault.port}",
            auth_login=vault.ProviderAuthLoginArgs(
                path="auth/approle/login",
                parameters={"role_id": names.DEPLOYMENT, "secret_id": platform.secret(names.DEPLOYMENT_SECRET, 48)},
            ),
            # The login's own token ends within the hour; a child of it would need a right more.
            skip_child_token=True,
            opts=pulumi.ResourceOptions.merge(parent, pulumi.ResourceOptions(depends_on=[deployment.container])),
        )
        # What is in Vault stays with its data when the server goes; there is nobody to ask then.
        options = pulumi.ResourceOptions(parent=deployment, provider=provider, deleted_with=deployment.container)
        audit = vault.Audit(
            "vault-audit", vault.AuditArgs(type="file", path=names.AUDIT, options={"file_path": "stdout"}), options
        )
        options = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[audit]))
        platform.vault_options = options
        self._mount = vault.Mount(
            "vault-mount",
            vault.MountArgs(
                path=names.MOUNT, type="kv", options={"version": "2"}, description="Every secret of the platform"
            ),
            options,
        )
        return [
            _entry(names.files(container), files, self._mount, options)
            for described in platform.secret_files().values()
            for container, files in described.items()
        ]

    def finish(self, platform: Platform, deployment: Deployment) -> None:
        """Write every secret into Vault by its service, too, say who may read it, and issue certificates."""
        del deployment
        # What containers wait for comes first.
        later = pulumi.ResourceOptions(depends_on=platform.ready(names.DATABASE_AGENT))
        options = pulumi.ResourceOptions.merge(platform.vault_options, later)
        sign_in = _sign_in(platform, options)
        _people(sign_in, platform, options)
        _secrets(platform, self._mount, options)
        pki.declare(platform, options)


def _here() -> str:
    return f"http://127.0.0.1:{PORT}"


def _secrets(platform: Platform, mount: vault.Mount, options: pulumi.ResourceOptions) -> None:
    """Make an entry for each service that has secrets, which that service alone may read."""
    logins = vault.AuthBackend(
        "vault-service-logins",
        vault.AuthBackendArgs(path=names.SERVICE_LOGINS, type="approle", description="Logins of services"),
        options,
    )
    _entry(names.CERTIFICATES, platform.certificates.secrets, mount, options)
    files = platform.secret_files()
    secrets = platform.secrets()
    for service in sorted(service for service in platform.services if service in secrets or files[service]):
        if service in secrets:
            _entry(names.entry(service), secrets[service], mount, options)
        text = service_policy(service, files[service], platform.databases_used(service))
        policy = vault.Policy(
            f"vault-policy-service-{service}", vault.PolicyArgs(name=f"service-{service}", policy=text), options
        )
        vault.approle.AuthBackendRole(
            f"vault-role-{service}",
            vault.approle.AuthBackendRoleArgs(
                backend=logins.path,
                role_name=service,
                token_policies=[policy.name],
                token_ttl=HOUR,
                token_max_ttl=24 * HOUR,
                secret_id_ttl=24 * HOUR,
            ),
            options,
        )


def _entry(
    path: str, values: Mapping[str, pulumi.Input[str]], mount: vault.Mount, options: pulumi.ResourceOptions
) -> vault.kv.SecretV2:
    return vault.kv.SecretV2(
        f"vault-{path.replace('/', '-')}",
        vault.kv.SecretV2Args(
            mount=mount.path,
            name=path,
            # As Vault's own library writes it, or the official provider sees a difference for ever.
            data_json=pulumi.Output.secret(pulumi.Output.all(**values)).apply(
                lambda found: json.dumps(found, sort_keys=True, separators=(",", ":"))
            ),
        ),
        options,
    )


def _sign_in(platform: Platform, options: pulumi.ResourceOptions) -> vault.jwt.AuthBackend:
    """Let people sign in at Keycloak, which must answer at its public address then."""
    ready = [resource for name in ("haproxy", "keycloak") for resource in platform.ready(name)]
    issuer = keycloak.issuer(platform)
    return vault.jwt.AuthBackend(
        "vault-sign-in",
        vault.jwt.AuthBackendArgs(
            path=names.SIGN_IN,
            type="oidc",
            description="Logins of people",
            oidc_discovery_url=issuer,
            oidc_discovery_ca_pem=platform.certificates.authority,
            oidc_client_id=names.CLIENT,
            oidc_client_secret=realm.client_secret(platform, names.CLIENT),
            bound_issuer=issuer,
            default_role=names.PERSON,
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=ready)),
    )


def _people(sign_in: vault.jwt.AuthBackend, platform: Platform, options: pulumi.ResourceOptions) -> None:
    texts = {names.PERSON: sign_in.accessor.apply(own_policy), names.ADMIN: admin_policy()}
    policies = {
        role: vault.Policy(f"vault-policy-{role}", vault.PolicyArgs(name=f"people-{role}", policy=text), options).name
        for role, text in texts.items()
    }
    # Administrators are persons, too.
    granted = {names.PERSON: ([names.PERSON], 8), names.ADMIN: ([names.ADMIN, names.PERSON], 1)}
    for role, (included, hours) in granted.items():
        vault.jwt.AuthBackendRole(
            f"vault-sign-in-{role}",
            vault.jwt.AuthBackendRoleArgs(
                backend=sign_in.path,
                role_name=role,
                role_type="oidc",
                user_claim="preferred_username",
                bound_audiences=[names.CLIENT],
                bound_claims={realm.CLAIM: role},
                oidc_scopes=["profile"],
                allowed_redirect_uris=[platform.url(names.HOST) + CONSOLE, COMMAND_LINE],
                token_policies=[policies[name] for name in included],
                token_ttl=HOUR,
                token_max_ttl=hours * HOUR,
            ),
            options,
        )


def credentials(chosen: VaultSettings) -> dict[str, pulumi.Input[str]]:
    """Return the variables with the credentials of the seal.

    Raises:
        SettingsError: the file cannot be read, is malformed, or lacks one that the seal cannot do without.
    """
    if not chosen.seal_credentials_file:
        return {}
    setting = "vault-seal-credentials-file"
    lines = [line.strip() for line in read_file(setting, chosen.seal_credentials_file).splitlines() if line.strip()]
    found = {name.strip(): value.strip() for name, equals, value in (line.partition("=") for line in lines) if equals}
    if len(found) < len(lines):
        raise SettingsError(
            (f"{setting} is {chosen.seal_credentials_file!r}: each line must be NAME=value, each once.",)
        )
    if missing := SEALS[chosen.seal][2] - {name for name, value in found.items() if value}:
        names_missing = ", ".join(sorted(missing))
        raise SettingsError((f"{setting} is {chosen.seal_credentials_file!r}, which lacks {names_missing}.",))
    return {name: pulumi.Output.secret(value) for name, value in found.items()}


def configuration(chosen: VaultSettings) -> str:
    """Return ``vault.hcl``; it holds no secret."""
    options = dict(option.split("=", 1) for option in chosen.seal_options)
    seal = "".join(f"  {name} = {json.dumps(value)}\n" for name, value in sorted(options.items()))
    return f"""\
ui            = true
# Memory is not locked: a container's swap is off, and locking would take a capability.
disable_mlock = true
log_format    = "json"
api_addr      = "https://vault:{TLS_PORT}"
cluster_addr  = "https://127.0.0.1:8201"

storage "raft" {{
  path    = "/vault/file/raft"
  node_id = "vault"
  # One node need not wait long for others before it elects itself.
  performance_multiplier = 1
}}

listener "tcp" {{
  address         = "0.0.0.0:{TLS_PORT}"
  cluster_address = "127.0.0.1:8201"
  tls_cert_file   = "{FILES}/certificate.pem"
  tls_key_file    = "{FILES}/key.pem"
  tls_min_version = "tls12"
}}

listener "tcp" {{
  address         = "0.0.0.0:{PORT}"
  cluster_address = "127.0.0.1:8203"
  tls_disable     = true
  x_forwarded_for_authorized_addrs = {json.dumps(",".join(ADDRESSES))}
  x_forwarded_for_reject_not_present = false
  telemetry {{
    unauthenticated_metrics_access = true
  }}
}}

telemetry {{
  disable_hostname          = true
  prometheus_retention_time = "24h"
}}
{"" if chosen.seal == "file" else f'seal "{chosen.seal}" {{{chr(10)}{seal}}}{chr(10)}'}"""


def rule(path: str, *capabilities: str) -> str:
    """Return one rule of a policy."""
    return f"path {json.dumps(path)} {{\n  capabilities = {json.dumps(capabilities)}\n}}\n"


def deployment_policy() -> str:
    """Return what the deployment may do: what it declares, and neither end the log of accesses nor change its own rights."""
    change = ("create", "read", "update", "delete", "list")
    return "".join(
        (
            rule("sys/audit", "read", "sudo"),
            rule(f"sys/audit/{names.AUDIT}", "create", "update", "sudo"),
            rule("sys/mounts", "read"),
            *(
                text
                for engine in (names.MOUNT, names.DATABASES, names.PKI)
                for text in (
                    rule(f"sys/mounts/{engine}", *change),
                    rule(f"sys/mounts/{engine}/tune", "read", "update"),
                )
            ),
            rule("sys/auth", "read"),
            *(
                text
                for login in (names.SERVICE_LOGINS, names.SIGN_IN)
                for text in (
                    rule(f"sys/auth/{login}", *change, "sudo"),
                    rule(f"sys/auth/{login}/tune", "read", "update", "sudo"),
                    rule(f"sys/mounts/auth/{login}/tune", "read", "update"),
                    rule(f"auth/{login}/role/*", *change),
                )
            ),
            rule(f"auth/{names.SIGN_IN}/config", "create", "read", "update"),
            rule("sys/policies/acl/service-*", *change),
            rule("sys/policies/acl/people-*", *change),
            *(
                rule(f"{names.MOUNT}/{kind}/{area}/*", *change)
                for kind in ("data", "metadata")
                for area in (names.SERVICES, names.PLATFORM, names.FILES)
            ),
            # It orders passwords; it reads none.
            rule(f"{names.DATABASES}/config/{names.DATABASE_SERVER}", *change),
            rule(f"{names.DATABASES}/static-roles/*", *change),
            rule(f"{names.DATABASES}/rotate-role/*", "create", "update"),
            # It makes the authority and says what that issues; it issues nothing itself.
            rule(f"{names.PKI}/issuers/generate/intermediate/internal", "create", "update"),
            rule(f"{names.PKI}/intermediate/set-signed", "create", "update"),
            *(rule(f"{names.PKI}/{what}", "list") for what in ("issuers", "keys")),
            *(rule(f"{names.PKI}/config/{what}", "create", "read", "update") for what in ("crl", "issuers", "urls")),
            rule(f"{names.PKI}/roles/{names.PKI_ROLE}", *change),
        )
    )


def service_policy(service: str, containers: Iterable[str], databases: Iterable[str] = ()) -> str:
    """Return what a service may do: read its own entry, those of its containers, and the passwords of the databases that it uses."""
    paths = [names.entry(service), *(names.files(container) for container in sorted(containers))]
    entries = [f"{names.MOUNT}/{kind}/{path}" for path in paths for kind in ("data", "metadata")]
    return "".join(rule(path, "read") for path in (*entries, *map(names.database_credentials, databases)))


def agent_policy() -> str:
    """Return what the secrets agents may do: read the containers' secrets, and the passwords of the databases."""
    return rule(f"{names.MOUNT}/data/{names.FILES}/*", "read") + rule(names.database_credentials("+"), "read")


def admin_policy() -> str:
    """Return what administrators may do: read all secrets, keep further ones, give logins to services, and issue certificates.

    What they give they can take back.
    """
    shared = f"{names.SHARED}/*"
    login = f"auth/{names.SERVICE_LOGINS}/role"
    return "".join(
        (
            rule(f"{names.MOUNT}/metadata/", "list"),
            *(
                text
                for area in (names.SERVICES, names.PLATFORM)
                for text in (
                    rule(f"{names.MOUNT}/metadata/{area}/", "list"),
                    rule(f"{names.MOUNT}/data/{area}/+", "read"),
                    rule(f"{names.MOUNT}/metadata/{area}/+", "read"),
                )
            ),
            *(
                rule(f"{names.MOUNT}/{kind}/{shared}", "create", "read", "update", "delete", "list")
                for kind in ("data", "metadata")
            ),
            rule(f"{names.DATABASES}/static-roles", "list"),
            rule(names.database_credentials("+"), "read"),
            rule(login, "list"),
            rule(f"{login}/+/role-id", "read"),
            rule(f"{login}/+/secret-id", "create", "update", "list"),
            rule(f"{login}/+/secret-id-accessor/destroy", "create", "update"),
            rule(f"{names.PKI}/issue/{names.PKI_ROLE}", "create", "update"),
            rule(f"{names.PKI}/certs", "list"),
            rule(f"{names.PKI}/revoke", "create", "update"),
            rule(f"{names.PKI}/crl/rotate", "read"),
            # In an emergency; the next start of the container unseals.
            rule("sys/seal", "update", "sudo"),
        )
    )


def own_policy(accessor: str) -> str:
    """Return what every person may do: keep secrets that nobody else can read, below their own name.

    Args:
        accessor: of the login by which Vault knows the name.
    """
    own = f"{names.PEOPLE}/{{{{identity.entity.aliases.{accessor}.name}}}}/*"
    return "".join(
        rule(f"{names.MOUNT}/{kind}/{own}", "create", "read", "update", "delete", "list")
        for kind in ("data", "metadata")
    )
