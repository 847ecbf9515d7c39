"""The Vault adapters through the real engine, on a real Vault."""

# Values come from systems without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import functools
import http.server
import ipaddress
import json
import socket
import ssl
import threading
import time
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import docker
import hvac
import hvac.exceptions
import pulumi
import pulumi_tls as tls
import pulumi_vault as vault
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from components.edge.certificates import Certificates
from components.secrets import names, pki
from components.secrets.vault import admin_policy, deployment_policy, service_policy
from providers.resource import ProviderError
from providers.vault.client import Settings, Vault
from settings import parse
from tests.providers.conftest import Program, Run

TOKEN = "root-of-a-test"
PASSWORD = "pass-8Zk4"
KEYS = "http://127.0.0.1:8200/v1/identity/oidc/.well-known/keys"
"""Vault's own, as it sees itself in its container."""


@pytest.fixture(scope="session")
def server() -> Generator[str]:
    """Run the newest local Vault image in memory and return its address."""
    engine = docker.from_env()
    images = engine.images.list(name="aikit/vault")
    if not images:
        pytest.skip("there is no local image aikit/vault; build the images first")
    newest = max(images, key=lambda image: str(image.attrs["Created"]))
    container = engine.containers.run(
        newest.tags[0],
        [
            "server",
            "-dev",
            f"-dev-root-token-id={TOKEN}",
            "-dev-listen-address=0.0.0.0:8200",
            "-dev-plugin-dir=/usr/lib/vault/plugins",
        ],
        detach=True,
        auto_remove=True,
        environment={"HOME": "/tmp"},  # noqa: S108 -- of the container
        ports={"8200/tcp": ("127.0.0.1", 0)},
    )
    try:
        container.reload()
        yield f"http://127.0.0.1:{container.attrs['NetworkSettings']['Ports']['8200/tcp'][0]['HostPort']}"
    finally:
        container.kill()


@pytest.fixture
def root(server: str) -> Any:
    """Return Vault's own client library with the root token, as soon as Vault answers."""
    client: Any = hvac.Client(url=server, token=TOKEN)
    deadline = time.monotonic() + 60
    while True:
        try:
            if not client.sys.is_sealed():
                break
        except requests.RequestException:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return client


def program(server: str, **changes: Any) -> Program:
    """Return a program with every type; ``changes`` are what the tests vary."""

    def declare() -> None:
        provider = vault.Provider("vault", address=server, token=pulumi.Output.secret(TOKEN), skip_child_token=True)
        options = pulumi.ResourceOptions(provider=provider)
        audit = vault.Audit(
            "audit", vault.AuditArgs(type="file", path="trail", options={"file_path": "stdout"}), options
        )
        # Vault refuses requests for a moment while a log is being set up.
        options = pulumi.ResourceOptions(provider=provider, depends_on=[audit])
        mount = vault.Mount(
            "mount",
            vault.MountArgs(
                path="kept", type="kv", options={"version": "2"}, description=changes.get("description", "one")
            ),
            options,
        )
        vault.kv.SecretV2(
            "secret",
            vault.kv.SecretV2Args(
                mount=mount.path,
                name=changes.get("entry", "services/a"),
                data_json=json.dumps({"password": changes.get("password", PASSWORD)}),
            ),
            options,
        )
        policy = vault.Policy(
            "policy",
            vault.PolicyArgs(
                name="reads-a",
                policy=f'path "kept/data/services/a" {{\n  capabilities = ["{changes.get("capability", "read")}"]\n}}\n',
            ),
            options,
        )
        logins = vault.AuthBackend("logins", vault.AuthBackendArgs(path="machines", type="approle"), options)
        role = vault.approle.AuthBackendRole(
            "role",
            vault.approle.AuthBackendRoleArgs(
                backend=logins.path,
                role_name="a",
                token_policies=[policy.name],
                token_ttl=changes.get("ttl", 600),
                token_max_ttl=3600,
            ),
            options,
        )
        keys = vault.jwt.AuthBackend(
            "keys",
            vault.jwt.AuthBackendArgs(path="people", type="jwt", jwks_url=KEYS),
            options,
        )
        vault.jwt.AuthBackendRole(
            "person",
            vault.jwt.AuthBackendRoleArgs(
                backend=keys.path,
                role_name="person",
                role_type="jwt",
                user_claim="sub",
                bound_audiences=["someone"],
                bound_claims={"roles": changes.get("claim", "person")},
                token_policies=[policy.name],
                token_max_ttl=3600,
            ),
            options,
        )
        pulumi.export("role", role.role_id)

    return declare


@pytest.mark.spec("VLT-01", "VLT-04", "VLT-05")
def test_every_type_is_made_changed_and_removed(stack: Callable[[Program], Run], server: str, root: Any) -> None:
    run = stack(program(server))
    assert run.preview()["create"] == 10
    assert run.up()["create"] == 10
    assert run.up() == {"same": 10}
    run.refresh()
    assert run.preview() == {"same": 10}, "what Vault answers is what was asked for"

    read = root.secrets.kv.v2.read_secret_version(path="services/a", mount_point="kept", raise_on_deleted_version=False)
    assert read["data"]["data"] == {"password": PASSWORD}
    service: Any = hvac.Client(url=server)
    secret_id = root.write_data("auth/machines/role/a/secret-id")["data"]["secret_id"]
    identifier = run.outputs("role")["roleId"]
    service.auth.approle.login(role_id=identifier, secret_id=secret_id, mount_point="machines")
    assert service.read("kept/data/services/a")["data"]["data"]["password"] == PASSWORD
    with pytest.raises(hvac.exceptions.Forbidden):
        service.read("kept/data/services/b")

    changed = {"description": "two", "password": "another", "capability": "list", "ttl": 60, "claim": "other"}
    assert run.up(program(server, **changed)) == {"same": 5, "update": 5}
    assert root.read("auth/machines/role/a")["data"]["token_ttl"] == 60
    assert root.read("auth/people/role/person")["data"]["bound_claims"] == {"roles": "other"}
    with pytest.raises(hvac.exceptions.Forbidden):
        service.read("kept/data/services/a")
    assert root.read("kept/data/services/a?version=1")["data"]["data"]["password"] == PASSWORD, "versions stay"
    assert run.up(program(server, **changed, entry="services/c"))["replace"] == 1
    assert run.outputs("secret")["path"] == "kept/data/services/c"

    run.destroy()
    assert "kept/" not in root.read("sys/mounts")["data"]
    assert root.read("sys/policies/acl/reads-a") is None
    assert "trail/" not in root.read("sys/audit")["data"]


def authority(server: str, **changes: Any) -> Program:
    """Return a program with an authority in Vault that another one signed; ``changes`` are what the tests vary."""

    def declare() -> None:
        provider = vault.Provider("vault", address=server, token=pulumi.Output.secret(TOKEN), skip_child_token=True)
        options = pulumi.ResourceOptions(provider=provider)
        mount = vault.Mount(
            "mount",
            vault.MountArgs(path="pki", type="pki", max_lease_ttl_seconds=changes.get("limit", 3600)),
            options,
        )
        key = tls.PrivateKey("key", tls.PrivateKeyArgs(algorithm="ECDSA", ecdsa_curve="P256"))
        root = tls.SelfSignedCert(
            "root",
            tls.SelfSignedCertArgs(
                private_key_pem=key.private_key_pem,
                subject=tls.SelfSignedCertSubjectArgs(common_name="Root"),
                is_ca_certificate=True,
                validity_period_hours=48,
                allowed_uses=["cert_signing", "crl_signing"],
            ),
        )
        request = vault.pkisecret.SecretBackendIntermediateCertRequest(
            "request",
            vault.pkisecret.SecretBackendIntermediateCertRequestArgs(
                backend=mount.path, type="internal", common_name="Intermediate", key_type="ec", key_bits=256
            ),
            options,
        )
        certificate = tls.LocallySignedCert(
            "certificate",
            tls.LocallySignedCertArgs(
                cert_request_pem=request.csr,
                ca_private_key_pem=key.private_key_pem,
                ca_cert_pem=root.cert_pem,
                is_ca_certificate=True,
                max_path_length=0,
                validity_period_hours=changes.get("hours", 24),
                allowed_uses=["cert_signing", "crl_signing"],
            ),
        )
        signed = vault.pkisecret.SecretBackendIntermediateSetSigned(
            "signed",
            vault.pkisecret.SecretBackendIntermediateSetSignedArgs(
                backend=mount.path, certificate=certificate.cert_pem
            ),
            options,
        )
        vault.pkisecret.SecretBackendConfigIssuers(
            "issuers",
            vault.pkisecret.SecretBackendConfigIssuersArgs(backend=mount.path, default=signed.imported_issuers[0]),
            options,
        )
        vault.pkisecret.SecretBackendConfigUrls(
            "urls",
            vault.pkisecret.SecretBackendConfigUrlsArgs(
                backend=mount.path, crl_distribution_points=[f"https://{changes.get('host', 'a')}.example.org/crl"]
            ),
            options,
        )
        vault.pkisecret.SecretBackendCrlConfig(
            "crl",
            vault.pkisecret.SecretBackendCrlConfigArgs(
                backend=mount.path, auto_rebuild=True, expiry=changes.get("expiry", "72h")
            ),
            options,
        )
        vault.pkisecret.SecretBackendRole(
            "role",
            vault.pkisecret.SecretBackendRoleArgs(
                backend=mount.path,
                name="inside",
                allowed_domains=["example.org"],
                allow_subdomains=True,
                allow_ip_sans=False,
                key_type="ec",
                key_bits=256,
                key_usages=["DigitalSignature"],
                max_ttl=changes.get("ttl", "600"),
            ),
            options,
        )
        pulumi.export("root", root.cert_pem)

    return declare


@pytest.fixture
def database() -> Generator[Any]:
    """Run PostgreSQL with a role for Vault and one whose password is Vault's; return its container."""
    engine = docker.from_env()
    images = engine.images.list(name="aikit/postgres")
    if not images:
        pytest.skip("there is no local image aikit/postgres; build the images first")
    newest = max(images, key=lambda image: str(image.attrs["Created"]))
    container: Any = engine.containers.run(
        newest.tags[0], detach=True, auto_remove=True, environment={"POSTGRES_PASSWORD": PASSWORD}
    )
    try:
        deadline = time.monotonic() + 60
        while container.exec_run(["pg_isready", "--quiet", "--host=127.0.0.1"]).exit_code:
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.2)
        roles = (
            f"CREATE ROLE vault LOGIN CREATEROLE PASSWORD '{PASSWORD}'; CREATE ROLE app LOGIN;"
            " GRANT app TO vault WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;"
        )
        command = ["psql", "--username=postgres", "--set=ON_ERROR_STOP=1", "-c", roles]
        done = container.exec_run(command, environment={"PGPASSWORD": PASSWORD, "PGHOST": "127.0.0.1"})
        assert done.exit_code == 0, done.output
        container.reload()
        yield container
    finally:
        container.remove(force=True, v=True)


def passwords(server: str, database: Any, **changes: Any) -> Program:
    """Return a program in which Vault has the password of a role; ``changes`` are what the tests vary."""
    address = database.attrs["NetworkSettings"]["IPAddress"]

    def declare() -> None:
        provider = vault.Provider("vault", address=server, token=pulumi.Output.secret(TOKEN), skip_child_token=True)
        options = pulumi.ResourceOptions(provider=provider)
        mount = vault.Mount("mount", vault.MountArgs(path="database", type="database"), options)
        connection = vault.database.SecretBackendConnection(
            "connection",
            vault.database.SecretBackendConnectionArgs(
                backend=mount.path,
                name="server",
                allowed_roles=["app"],
                postgresql=vault.database.SecretBackendConnectionPostgresqlArgs(
                    connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@{address}/postgres?sslmode=disable",
                    username="vault",
                    password=pulumi.Output.secret(changes.get("password", PASSWORD)),
                    password_authentication="scram-sha-256",
                ),
            ),
            options,
        )
        role = vault.database.SecretBackendStaticRole(
            "role",
            vault.database.SecretBackendStaticRoleArgs(
                backend=mount.path,
                name="app",
                db_name=connection.name,
                username="app",
                rotation_period=changes.get("period", 86_400),
            ),
            options,
        )
        vault.generic.Endpoint(
            "order",
            vault.generic.EndpointArgs(
                path="database/rotate-role/app",
                data_json=json.dumps({"generation": changes.get("generation", "a")}),
                disable_read=True,
                disable_delete=True,
            ),
            pulumi.ResourceOptions(provider=provider, depends_on=[role]),
        )

    return declare


def logs_in(database: Any, password: str) -> bool:
    # By its address outside of the container: inside, nobody is asked for a password.
    address = database.attrs["NetworkSettings"]["IPAddress"]
    command = ["psql", f"--host={address}", "--username=app", "--dbname=postgres", "-c", "SELECT 1"]
    return database.exec_run(command, environment={"PGPASSWORD": password}).exit_code == 0


@pytest.mark.spec("VLT-13", "VLT-14")
def test_vault_makes_the_password_of_a_database_role(
    stack: Callable[[Program], Run], server: str, root: Any, database: Any
) -> None:
    def password() -> str:
        return root.read("database/static-creds/app")["data"]["password"]

    run = stack(passwords(server, database))
    assert "password authentication failed" in run.up_fails(passwords(server, database, password="wrong"))
    run.up(passwords(server, database))
    first = password()
    assert logs_in(database, first)
    assert run.up() == {"same": 6}
    run.refresh()
    assert run.preview() == {"same": 6}, "what Vault answers is what was asked for"
    assert password() == first

    assert run.up(passwords(server, database, generation="b")) == {"same": 5, "update": 1}
    second = password()
    assert second != first
    assert (logs_in(database, first), logs_in(database, second)) == (False, True)
    assert run.up(passwords(server, database, generation="b", period=172_800)) == {"same": 5, "update": 1}
    assert root.read("database/static-roles/app")["data"]["rotation_period"] == 172_800
    assert password() == second
    text = json.dumps(run.state())
    assert not any(secret in text for secret in (PASSWORD, first, second))

    # What a person changed, or Vault lost, is put right.
    root.write_data("database/static-roles/app", data={"rotation_period": 3600, "db_name": "server", "username": "app"})
    root.write_data(
        "database/config/server", data={"allowed_roles": ["*"], "plugin_name": "postgresql-database-plugin"}
    )
    assert run.up(refresh=True)["update"] == 2
    assert root.read("database/config/server")["data"]["allowed_roles"] == ["app"]
    root.delete("database/static-roles/app")
    assert run.up(refresh=True)["create"] == 1
    assert logs_in(database, password())

    run.destroy()
    assert "database/" not in root.read("sys/mounts")["data"]


def issued(root: Any, name: str) -> x509.Certificate:
    answer = root.write_data("pki/issue/inside", data={"common_name": name})
    return x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())


@pytest.mark.spec("TLS-06", "VLT-10")
def test_an_authority_is_made_renewed_and_removed(stack: Callable[[Program], Run], server: str, root: Any) -> None:
    run = stack(authority(server))
    assert run.preview()["create"] == 12
    assert run.up()["create"] == 12
    assert run.up() == {"same": 12}
    run.refresh()
    assert run.preview() == {"same": 12}, "what Vault answers is what was asked for"

    def signer() -> x509.Certificate:
        return x509.load_pem_x509_certificate(run.outputs("certificate")["certPem"].encode())

    leaf, former = issued(root, "a.example.org"), signer()
    leaf.verify_directly_issued_by(former)
    former.verify_directly_issued_by(x509.load_pem_x509_certificate(run.outputs("root")["certPem"].encode()))
    assert "https://a.example.org/crl" in str(leaf.extensions)
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() <= 660
    with pytest.raises(hvac.exceptions.InvalidRequest, match="not allowed"):
        issued(root, "a.example.com")

    # A new certificate takes the place of the one before, for the same key: what that one issued stays valid.
    changed = {"limit": 7200, "hours": 36, "host": "b", "expiry": "48h", "ttl": "60"}
    done = run.up(authority(server, **changed))
    assert (done["replace"], done["update"]) == (2, 5)
    leaf = issued(root, "a.example.org")
    leaf.verify_directly_issued_by(signer())
    assert "https://b.example.org/crl" in str(leaf.extensions)
    assert signer().public_key() == former.public_key()
    assert signer() != former
    assert root.read("sys/mounts/pki/tune")["data"]["max_lease_ttl"] == 7200
    assert root.read("pki/config/crl")["data"]["expiry"] == "48h"
    assert root.read("pki/roles/inside")["data"]["max_ttl"] == 60
    assert run.up() == {"same": 12}

    run.destroy()
    assert "pki/" not in root.read("sys/mounts")["data"]


@pytest.mark.spec("TLS-06")
def test_an_authority_that_a_person_changed_is_put_right(
    stack: Callable[[Program], Run], server: str, root: Any
) -> None:
    run = stack(authority(server))
    run.up()
    root.write_data("pki/roles/inside", data={"allow_any_name": True, "allowed_domains": ["example.com"]})
    root.write_data("pki/config/crl", data={"expiry": "24h"})
    root.write_data("pki/config/urls", data={"crl_distribution_points": []})
    root.delete(f"pki/issuer/{run.outputs('signed')['importedIssuers'][0]}")
    done = run.up(refresh=True)
    assert (done["update"], done["create"]) == (4, 1), "its certificate is there again, and the default"
    issued(root, "a.example.org").verify_directly_issued_by(
        x509.load_pem_x509_certificate(run.outputs("certificate")["certPem"].encode())
    )
    # With the engine goes its key: all of it is made anew.
    root.sys.disable_secrets_engine("pki")
    run.up(refresh=True)
    issued(root, "a.example.org").verify_directly_issued_by(
        x509.load_pem_x509_certificate(run.outputs("certificate")["certPem"].encode())
    )


DEPLOYER = "deployer-5q2x"
DOMAIN = "kit.localhost"


def as_the_platform(server: str, role: str, secret: str, **changes: Any) -> Program:
    """Return a program with the authority as the platform declares it, by the deployment's own login."""

    def declare() -> None:
        chosen = parse({"domain": DOMAIN, **changes})
        provider = vault.Provider(
            "vault",
            address=server,
            auth_login=vault.ProviderAuthLoginArgs(
                path="auth/deployers/login", parameters={"role_id": role, "secret_id": pulumi.Output.secret(secret)}
            ),
            skip_child_token=True,
        )
        platform: Any = types.SimpleNamespace(
            settings=chosen,
            certificates=Certificates(chosen, []),
            services={"redis": None},
            url=lambda label: f"https://{label}.{DOMAIN}",
        )
        pki.declare(platform, pulumi.ResourceOptions(provider=provider, parent=platform.certificates))
        pulumi.export("authority", platform.certificates.authority)

    return declare


@pytest.fixture
def deployer(root: Any) -> Generator[tuple[str, str]]:
    """Give the deployment a login with its rights, and no others."""
    root.sys.enable_auth_method("approle", path="deployers")
    root.sys.create_or_update_policy(DEPLOYER, deployment_policy())
    root.write_data("auth/deployers/role/deployer", data={"token_policies": [DEPLOYER]})
    role = root.read("auth/deployers/role/deployer/role-id")["data"]["role_id"]
    secret = root.write_data("auth/deployers/role/deployer/secret-id", data={})["data"]["secret_id"]
    yield role, secret
    root.sys.disable_auth_method("deployers")


@pytest.mark.spec("TLS-06", "VLT-04", "VLT-10")
def test_the_platforms_authority_vouches_for_what_administrators_issue(
    deployer: tuple[str, str], stack: Callable[[Program], Run], server: str, root: Any, tmp_path: Path
) -> None:
    run = stack(as_the_platform(server, *deployer))
    run.up()
    assert set(run.up(refresh=True)) == {"same"}

    def holder(policy: str) -> Any:
        root.sys.create_or_update_policy("tried", policy)
        answer = root.auth.token.create(policies=["tried"], ttl="5m")
        return hvac.Client(url=server, token=answer["auth"]["client_token"])

    def authority() -> str:
        return run.outputs("authority")["certPem"]

    admin = holder(admin_policy())
    issue = f"{names.PKI}/issue/{names.PKI_ROLE}"
    made = admin.write_data(issue, data={"common_name": f"files.{DOMAIN}", "alt_names": "redis"})["data"]
    for name in (f"files.{DOMAIN}", "redis"):
        assert greeted(made, name, authority(), tmp_path) == "hello"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        greeted(made, f"other.{DOMAIN}", authority(), tmp_path)
    leaf = x509.load_pem_x509_certificate(made["certificate"].encode())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 90
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    for refused in (
        {"common_name": "example.org"},
        {"common_name": f"*.{DOMAIN}"},
        {"common_name": "localhost"},
        {"common_name": f"a.{DOMAIN}", "ip_sans": "127.0.0.1"},
        {"common_name": f"a.{DOMAIN}", "alt_names": "b.example.org"},
    ):
        with pytest.raises(hvac.exceptions.InvalidRequest):
            admin.write_data(issue, data=refused)
    long = admin.write_data(issue, data={"common_name": f"a.{DOMAIN}", "ttl": "9000h"})["data"]
    assert long["expiration"] - time.time() <= 90 * 86_400, "no longer than the platform's own"

    # Neither the deployment nor a service issues; administrators change nothing of what may be issued.
    for policy in (deployment_policy(), service_policy("redis", ["redis"])):
        with pytest.raises(hvac.exceptions.Forbidden):
            holder(policy).write_data(issue, data={"common_name": "redis"})
    admin = holder(admin_policy())
    for path in (f"{names.PKI}/roles/{names.PKI_ROLE}", f"{names.PKI}/root/sign-intermediate", "pki/sign-verbatim"):
        with pytest.raises(hvac.exceptions.Forbidden):
            admin.write_data(path, data={"allow_any_name": True})

    def revoked() -> set[int]:
        answer = requests.get(f"{server}/v1/{names.PKI}/crl", timeout=10)
        listed = x509.load_der_x509_crl(answer.content)
        signer = x509.load_pem_x509_certificate(run.outputs("vault-authority")["certPem"].encode())
        signed_by = signer.public_key()
        assert isinstance(signed_by, ec.EllipticCurvePublicKey)
        assert listed.is_signature_valid(signed_by)
        return {item.serial_number for item in listed}

    assert leaf.serial_number not in revoked()
    admin.write_data(f"{names.PKI}/revoke", data={"serial_number": made["serial_number"]})
    admin.read(f"{names.PKI}/crl/rotate")
    assert revoked() == {leaf.serial_number}

    # With another period, or another authority, it is signed anew for the same key: what was revoked stays so, and what was issued
    # is valid with the new chain.
    another = as_the_platform(server, *deployer, **{"certificates-validity-days": 60})
    run.up(another)
    assert set(run.up(another, refresh=True)) == {"same"}
    former = authority()
    run.stack.up(replace=[item["urn"] for item in run.state() if item["urn"].endswith("::authority-key")])
    assert authority() != former
    assert set(run.up(another)) == {"same"}
    chain = [root.read(f"{names.PKI}/cert/ca_chain")["data"]["ca_chain"]]
    assert greeted({**long, "ca_chain": chain}, f"a.{DOMAIN}", authority(), tmp_path) == "hello"
    made = admin.write_data(issue, data={"common_name": f"files.{DOMAIN}"})["data"]
    assert made["expiration"] - time.time() <= 60 * 86_400
    assert greeted(made, f"files.{DOMAIN}", authority(), tmp_path) == "hello"
    assert revoked() == {leaf.serial_number}
    run.destroy()


def greeted(made: dict[str, Any], name: str, authority: str, folder: Path) -> str:
    """Return what a server with this certificate tells a client that trusts the authority alone."""
    (folder / "chain.pem").write_text("\n".join([made["certificate"], *made["ca_chain"]]))
    (folder / "key.pem").write_text(made["private_key"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    client = ssl.create_default_context(cadata=authority)
    here, there = socket.socketpair()

    def greet() -> None:
        with contextlib.suppress(OSError), server.wrap_socket(there, server_side=True) as secure:
            secure.sendall(b"hello")

    thread = threading.Thread(target=greet)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as secure:
            return secure.recv(16).decode()
    finally:
        here.close()
        thread.join(timeout=10)


class Issuer(http.server.ThreadingHTTPServer):
    """Where people sign in: its proxy says at first that it is not there."""

    refusals = 2

    def __init__(self, address: str) -> None:
        issuer = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.refusals -= 1
                names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
                document = {"issuer": issuer.url, **{name: f"{issuer.url}/{name}" for name in names}}
                self.send_response(503 if issuer.refusals >= 0 else 200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the library's name
                del format, args

        super().__init__((address, 0), Answer)

    @property
    def url(self) -> str:
        """Address of the issuer."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


def sign_in(server: str, issuer: str, client: str) -> Program:
    """Return a program with a way to sign in at an issuer."""

    def declare() -> None:
        provider = vault.Provider("vault", address=server, token=pulumi.Output.secret(TOKEN), skip_child_token=True)
        vault.jwt.AuthBackend(
            "people",
            vault.jwt.AuthBackendArgs(
                path="sign-in",
                type="oidc",
                oidc_discovery_url=issuer,
                oidc_client_id=client,
                oidc_client_secret=pulumi.Output.secret(PASSWORD),
            ),
            pulumi.ResourceOptions(provider=provider),
        )

    return declare


@pytest.mark.spec("VLT-04")
def test_a_sign_in_waits_for_its_issuer_and_what_was_half_made_is_made_anew(
    stack: Callable[[Program], Run], server: str, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge: Any = docker.from_env().networks.get("bridge")
    issuer = Issuer(str(ipaddress.ip_network(bridge.attrs["IPAM"]["Config"][0]["Subnet"])[1]))
    thread = threading.Thread(target=issuer.serve_forever)
    thread.start()
    monkeypatch.setattr("providers.vault.Settings", functools.partial(Settings, startup_seconds=5.0))
    try:
        run = stack(sign_in(server, issuer.url, "one"))
        run.up()
        assert issuer.refusals < 0, "it was asked again"
        assert root.read("auth/sign-in/config")["data"]["oidc_client_id"] == "one"
        run.destroy()
        # It does not come in time: the login is there, but not as asked for.
        issuer.refusals = 1000
        failed = run.up_fails(sign_in(server, issuer.url, "two"))
        assert "discovery URL" in failed
        issuer.refusals = 0
        run.up()
        assert root.read("auth/sign-in/config")["data"]["oidc_client_id"] == "two"
    finally:
        issuer.shutdown()
        thread.join()
        issuer.server_close()


@pytest.mark.spec("OPS-01")
def test_what_a_killed_run_has_made_is_taken_up(
    stack: Callable[[Program], Run], killed: Callable[[Program], Run], server: str, root: Any
) -> None:
    del root
    first, again = stack(program(server)), killed(program(server))
    first.up()
    again.up()
    assert again.identifiers() == first.identifiers()
    again.refresh()
    assert again.up() == {"same": 10}
    assert "already in use" in stack(program(server)).up_fails()


@pytest.mark.spec("VLT-12")
def test_the_state_shows_no_secret(stack: Callable[[Program], Run], server: str, root: Any) -> None:
    run = stack(program(server))
    run.up()
    assert PASSWORD not in json.dumps(run.state())
    assert TOKEN not in json.dumps(run.state())


def test_what_a_person_changed_is_found_and_put_right(stack: Callable[[Program], Run], server: str, root: Any) -> None:
    run = stack(program(server))
    run.up()
    root.write_data("kept/data/services/a", data={"data": {"password": "by hand"}})
    root.write_data("sys/policies/acl/reads-a", data={"policy": 'path "*" { capabilities = ["read"] }'})
    root.delete("auth/machines/role/a")
    done = run.up(refresh=True)
    assert (done["update"], done["create"]) == (2, 1)
    assert root.read("kept/data/services/a")["data"]["data"] == {"password": PASSWORD}


@pytest.mark.spec("VLT-03")
def test_a_first_preview_needs_no_vault(stack: Callable[[Program], Run]) -> None:
    assert stack(program("http://127.0.0.1:9")).preview()["create"] == 10


def refused(settings: Settings) -> str:
    with pytest.raises(ProviderError) as caught:
        Vault(settings).read("sys/mounts")
    return str(caught.value)


@pytest.mark.spec("VLT-01", "VLT-05")
def test_errors_name_the_cure(server: str, root: Any) -> None:
    assert "can't be reached at http://127.0.0.1:9" in refused(
        Settings(address="http://127.0.0.1:9", token=TOKEN, startup_seconds=0)
    )
    assert "The token is wrong" in refused(Settings(address=server, token="wrong"))
    assert "neither a token nor a login" in refused(Settings(address=server))
    root.sys.enable_auth_method("approle")
    try:
        login = {"role_id": "none", "secret_id": "secret-of-nobody"}
        said = refused(Settings(address=server, login_path="auth/approle/login", login=login))
        assert "its role or secret is wrong" in said
        assert "secret-of-nobody" not in said
        # One that was right, and is used up; Vault looks at those whose time is over from time to time only.
        root.write("auth/approle/role/short", secret_id_num_uses=1)
        login = {
            "role_id": root.read("auth/approle/role/short/role-id")["data"]["role_id"],
            "secret_id": root.write("auth/approle/role/short/secret-id")["data"]["secret_id"],
        }
        root.write("auth/approle/login", **login)
        said = refused(Settings(address=server, login_path="auth/approle/login", login=login))
        assert "its role or secret is wrong or has expired. Restart Vault's container" in said
        assert login["secret_id"] not in said
        with pytest.raises(ProviderError, match=r"Vault refuses sys/policies/acl/typo: .*pars"):
            Vault(Settings(address=server, token=TOKEN)).write("sys/policies/acl/typo", {"policy": 'path "a" {'})
    finally:
        root.sys.disable_auth_method("approle")
