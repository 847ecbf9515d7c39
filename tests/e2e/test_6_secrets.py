"""Vault on the running platform: it has every secret, tells each who may know it, and nothing else shows one."""

import dataclasses
import io
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.x509 import verification
from playwright.sync_api import Browser

from components.registry import SERVICES
from components.secrets import names
from components.secrets.vault import CONSOLE
from components.service import SECRETS
from operations import secret_inventory
from operations.history import program_files
from operations.plan import ROOT, plan
from tests.e2e.conftest import STACK, Deployed, aikit
from tests.e2e.test_4_monitoring import query

SHORTEST = 20
"""Generated secrets have at least so many characters; shorter text could be in a log by chance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caller:
    """Someone who asks Vault at its public address."""

    platform: Deployed
    token: str = ""

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> httpx.Response:
        """Send a request and return the answer, whatever it is; where the proxy asks for patience, it is sent again."""
        with self.platform.client() as client:
            headers = {"X-Vault-Token": self.token} if self.token else {}
            address = f"{self.platform.url(names.HOST)}/v1/{path}"
            while True:
                answer = client.request(method, address, json=body, params=query, headers=headers)
                if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS:
                    return answer
                time.sleep(float(answer.headers["Retry-After"]))

    def read(self, path: str) -> dict[str, Any]:
        """Return what is at a path."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


def sign_in(platform: Deployed, browser: Browser, username: str, role: str) -> httpx.Response:
    """Sign in as the web interface does, with a browser at Keycloak, and return Vault's last answer."""
    caller = Caller(platform=platform)
    redirect = platform.url(names.HOST) + CONSOLE
    asked = caller.ask("POST", f"auth/{names.SIGN_IN}/oidc/auth_url", {"role": role, "redirect_uri": redirect})
    assert asked.status_code == 200, asked.text
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(asked.json()["data"]["auth_url"])
        page.locator("#username").fill(username)
        page.locator("#password").fill(platform.passwords[username])
        # What the page there shows does not matter: not every image has the web interface.
        with page.expect_request(lambda request: request.url.startswith(redirect), timeout=60_000) as returned:
            page.locator("#kc-login").click()
        query = parse_qs(urlsplit(returned.value.url).query)
    finally:
        context.close()
    return caller.ask("GET", f"auth/{names.SIGN_IN}/oidc/callback", state=query["state"][0], code=query["code"][0])


@pytest.fixture(scope="module")
def admin(platform: Deployed, browser: Browser) -> Caller:
    """Return an administrator who has signed in."""
    answer = sign_in(platform, browser, "admin", names.ADMIN)
    assert answer.status_code == 200, answer.text
    assert answer.json()["auth"]["lease_duration"] <= 3600
    return Caller(platform=platform, token=answer.json()["auth"]["client_token"])


@pytest.fixture(scope="module")
def everything(admin: Caller) -> dict[str, dict[str, str]]:
    """Return all secrets that Vault has, by entry."""
    databases = admin.ask("GET", f"{names.DATABASES}/static-roles", list="true").json()["data"]["keys"]
    found = {
        path: {names.database_generation(database): admin.read(path)["password"]}
        for database in databases
        if (path := names.database_credentials(database))
    }
    for area in (names.SERVICES, names.PLATFORM):
        listed = admin.ask("GET", f"{names.MOUNT}/metadata/{area}/", list="true").json()["data"]["keys"]
        for key in listed:
            found[f"{names.MOUNT}/{area}/{key}"] = admin.read(f"{names.MOUNT}/data/{area}/{key}")["data"]
    return found


@pytest.mark.spec("VLT-01", "VLT-06", "VLT-07", "VLT-08", "VLT-10")
def test_vault_has_every_secret_as_it_is_used(platform: Deployed, everything: dict[str, dict[str, str]]) -> None:
    # A plan knows no machine; what this one cannot have has no secrets here.
    left_out = {kind.name for kind in SERVICES} - {service.name for service in platform.services}
    for path, secrets in secret_inventory.kept(plan(STACK)).items():
        if path.rpartition("/")[2] not in left_out:
            expected = {name for name in secrets if not any(f"-{service}-" in f"-{name}" for service in left_out)}
            assert expected <= everything.get(path, {}).keys(), path
    assert everything["secret/services/keycloak"]["administrator-password"] == platform.passwords["admin"]
    password = everything["secret/services/open-webui"]["redis-password"]
    assert platform.run("redis", "cat", f"{SECRETS}/password") == password
    assert "BEGIN CERTIFICATE" in everything["secret/platform/certificates"]["certificate-bundle"]
    (password,) = everything[names.database_credentials("n8n")].values()
    assert platform.run("n8n", "cat", f"{SECRETS}/database-password") == password
    addresses = platform.run("open-webui", "cat", f"{SECRETS}/environment")
    (password,) = everything[names.database_credentials("open-webui")].values()
    assert f"DATABASE_URL=postgresql://open-webui:{password}@postgres:5432/open-webui" in addresses


@pytest.mark.spec("VLT-04", "VLT-05")
def test_a_service_reads_its_own_entry_and_no_other(platform: Deployed, admin: Caller) -> None:
    login = f"auth/{names.SERVICE_LOGINS}"
    role = admin.read(f"{login}/role/open-webui/role-id")["role_id"]
    given = admin.ask("POST", f"{login}/role/open-webui/secret-id").json()["data"]
    answer = Caller(platform=platform).ask("POST", f"{login}/login", {"role_id": role, "secret_id": given["secret_id"]})
    assert answer.status_code == 200, answer.text
    service = Caller(platform=platform, token=answer.json()["auth"]["client_token"])
    assert service.read("secret/data/services/open-webui")["data"]["redis-password"]
    assert service.read(names.database_credentials("open-webui"))["password"]
    assert service.ask("POST", f"{names.DATABASES}/rotate-role/open-webui").status_code == 403
    for path in (
        "secret/data/services/keycloak",
        "secret/data/platform/certificates",
        "secret/metadata/services/",
        names.database_credentials("keycloak"),
    ):
        assert service.ask("GET", path).status_code == 403, path
    assert service.ask("POST", "secret/data/services/open-webui", {"data": {"a": "b"}}).status_code == 403
    # Taken back, the login is worth nothing any more.
    taken = {"secret_id_accessor": given["secret_id_accessor"]}
    assert admin.ask("POST", f"{login}/role/open-webui/secret-id-accessor/destroy", taken).status_code == 204
    refused = Caller(platform=platform).ask(
        "POST", f"{login}/login", {"role_id": role, "secret_id": given["secret_id"]}
    )
    assert refused.status_code == 400


@pytest.mark.spec("VLT-04", "SSO-17")
def test_others_keep_secrets_of_their_own_and_see_no_other(platform: Deployed, browser: Browser) -> None:
    assert sign_in(platform, browser, "victor", names.ADMIN).status_code == 400
    answer = sign_in(platform, browser, "victor", names.PERSON)
    assert answer.status_code == 200, answer.text
    victor = Caller(platform=platform, token=answer.json()["auth"]["client_token"])
    own = f"{names.MOUNT}/data/{names.PEOPLE}/victor/mail"
    assert victor.ask("POST", own, {"data": {"password": "mine"}}).status_code == 200
    assert victor.read(own)["data"] == {"password": "mine"}
    for path in ("secret/data/services/redis", "secret/data/people/admin/mail", "secret/metadata/services/"):
        assert victor.ask("GET", path).status_code == 403, path


@pytest.mark.spec("VLT-09", "VLT-16")
def test_an_administrator_adds_a_secret_of_their_own(admin: Caller) -> None:
    path = f"{names.MOUNT}/data/{names.SHARED}/openai"
    assert admin.ask("POST", path, {"data": {"key": "sk-for-a-test"}}).status_code == 200
    assert admin.read(path)["data"] == {"key": "sk-for-a-test"}
    assert admin.ask("POST", "sys/policies/acl/own", {"policy": "x"}).status_code == 403


@pytest.mark.spec("TLS-06", "VLT-04", "VLT-10")
def test_an_administrator_issues_a_certificate_that_the_platform_trusts(platform: Deployed, admin: Caller) -> None:
    issue = f"{names.PKI}/issue/{names.PKI_ROLE}"
    host = f"files.{platform.settings.domain}"
    answer = admin.ask("POST", issue, {"common_name": host, "ttl": "1h"})
    assert answer.status_code == 200, answer.text
    made = answer.json()["data"]
    chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in (made["certificate"], *made["ca_chain"])]
    store = verification.Store(x509.load_pem_x509_certificates(platform.outputs["caCertificate"].encode()))
    verifier = verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName(host))
    assert len(verifier.verify(chain[0], chain[1:])) == 3, "the platform's authority vouches for the one in Vault"
    assert admin.ask("POST", issue, {"common_name": "www.example.org"}).status_code == 400
    assert admin.ask("POST", f"{names.PKI}/roles/{names.PKI_ROLE}", {"allow_any_name": True}).status_code == 403

    login = f"auth/{names.SERVICE_LOGINS}"
    role = admin.read(f"{login}/role/redis/role-id")["role_id"]
    given = admin.ask("POST", f"{login}/role/redis/secret-id").json()["data"]["secret_id"]
    token = Caller(platform=platform).ask("POST", f"{login}/login", {"role_id": role, "secret_id": given}).json()
    service = Caller(platform=platform, token=token["auth"]["client_token"])
    assert service.ask("POST", issue, {"common_name": "redis"}).status_code == 403

    points = chain[0].extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (address,) = points[0].full_name or [None]
    assert address
    assert admin.ask("POST", f"{names.PKI}/revoke", {"serial_number": made["serial_number"]}).status_code == 200
    assert admin.ask("GET", f"{names.PKI}/crl/rotate").status_code == 200
    with platform.client() as client:
        revoked = x509.load_der_x509_crl(client.get(address.value).content)
    assert revoked.get_revoked_certificate_by_serial_number(chain[0].serial_number)


@pytest.mark.spec("VLT-11", "VLT-12", "CFG-03")
def test_neither_docker_nor_a_log_nor_the_state_nor_the_plan_nor_the_project_shows_a_secret(
    platform: Deployed, everything: dict[str, dict[str, str]]
) -> None:
    secrets = parts(everything)
    shown = {
        f"state {file.name}": file.read_text(encoding="utf-8", errors="replace")
        for file in (ROOT / ".aikit").rglob("*")
        if file.is_file() and file.suffix in {".json", ".yaml", ".log"}
    }
    assert any("checkpoint" in text for text in shown.values())
    shown["plan"] = aikit("plan", "--json").stdout
    assert "services/redis" in shown["plan"]
    for name in program_files(ROOT):
        shown[f"project {name}"] = (ROOT / name).read_text(encoding="utf-8", errors="replace")
    assert "project __main__.py" in shown
    for container in platform.docker.containers.list(all=True, filters={"label": f"aikit.stack={STACK}"}):
        shown[f"inspect {container.name}"] = json.dumps(container.attrs)
        shown[f"log {container.name}"] = container.logs().decode(errors="replace")
    found = [(place, *secret) for place, text in shown.items() for secret, value in secrets.items() if value in text]
    assert not found


ON_DISK = {
    "vault-files": {"deployment-secret", "key.pem", "secrets-agent-secret"},
    "secrets-agent-files": {"secret-id"},
    "database-secrets-agent-files": {"secret-id"},
}
"""Files with secrets by volume: those that open Vault."""


def parts(everything: dict[str, dict[str, str]]) -> dict[tuple[str, str], str]:
    """Return of each secret what tells that a text has it."""
    secrets = {
        (path, name): part
        for path, values in everything.items()
        for name, value in values.items()
        # Of a PEM the lines that are the key's own: its head is the same everywhere, and certificates are public.
        for part in (_private_lines(value) if "-----BEGIN" in value else [value])
    }
    assert len(secrets) > 20
    assert all(len(value) >= SHORTEST for value in secrets.values())
    return secrets


def running(platform: Deployed) -> list[Any]:
    """Return the containers that run all the time."""
    return platform.docker.containers.list(filters={"label": f"aikit.stack={STACK}"})


def volume(platform: Deployed, name: str) -> dict[str, bytes]:
    """Return the files of a volume as a container finds them that mounts it now."""
    image = platform.container("vault").image.id
    reader: Any = platform.docker.containers.create(
        image, entrypoint=["true"], volumes={f"aikit-{STACK}-{name}": {"bind": "/volume", "mode": "ro"}}
    )
    try:
        content = io.BytesIO(b"".join(reader.get_archive("/volume")[0]))
    finally:
        reader.remove(v=True)
    with tarfile.open(fileobj=content) as archive:
        return {
            item.name.removeprefix("volume/"): file.read()
            for item in archive.getmembers()
            if item.isfile() and (file := archive.extractfile(item))
        }


@pytest.mark.spec("VLT-11", "VLT-12", "CFG-03")
def test_secrets_are_in_memory_and_those_on_a_disk_open_vault_alone(
    platform: Deployed, everything: dict[str, dict[str, str]]
) -> None:
    secrets = parts(everything)
    used = [container for container in running(platform) if "aikit.secrets" in container.labels]
    assert {"haproxy", "keycloak", "n8n", "postgres", "redis"} <= {item.labels["aikit.service"] for item in used}
    for container in used:
        mounts = container.exec_run(["cat", "/proc/mounts"]).output.decode().splitlines()
        (mount,) = (line for line in mounts if line.split()[1] == SECRETS)
        assert mount.startswith(f"tmpfs {SECRETS} tmpfs ro,"), container.name
    found: dict[str, set[str]] = {}
    for each in platform.docker.volumes.list(filters={"label": f"aikit.stack={STACK}"}):
        # What services do with secrets in their own data is theirs: Keycloak keeps those of its clients in its database.
        if "aikit.data" in each.attrs["Labels"] or (each.attrs["Options"] or {}).get("type") == "tmpfs":
            continue
        name = each.name.removeprefix(f"aikit-{STACK}-")
        if those := {
            file
            for file, content in volume(platform, name).items()
            if any(secret.encode() in content for secret in secrets.values())
        }:
            found[name] = those
    assert found == ON_DISK


def _private_lines(pem: str) -> Iterator[str]:
    for block in re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)-----END", pem, re.DOTALL):
        yield block.splitlines()[0]


@pytest.mark.spec("SEC-03", "VLT-01")
def test_every_access_is_in_the_log_without_the_secret(platform: Deployed, admin: Caller) -> None:
    path = f"{names.MOUNT}/data/services/redis"
    value = admin.read(path)["data"]["redis-password"]
    lines = platform.container("vault").logs(tail=200).decode().splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{") and '"type":"response"' in line]
    mine = [entry for entry in entries if entry["request"]["path"] == path]
    assert mine
    assert mine[-1]["auth"]["display_name"] == "oidc-admin"
    assert mine[-1]["response"]["data"]["data"]["redis-password"].startswith("hmac-sha256:")
    assert not any(value in line for line in lines)


@pytest.mark.spec("VLT-01", "MET-02")
def test_it_is_measured_and_shows_that_to_nobody_outside(platform: Deployed) -> None:
    assert query(platform, "max by (job) (vault_core_unsealed)") == {"vault": 1.0}
    assert Caller(platform=platform).ask("GET", "sys/metrics").status_code == 404


@pytest.mark.spec("VLT-16")
def test_the_commands_of_the_documentation_work(platform: Deployed, browser: Browser, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "secrets.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("vault ")]
    binary = _command_line(platform, tmp_path)
    address = f"http://127.0.0.1:{platform.settings.vault.port}"
    environment = {"HOME": str(tmp_path), "VAULT_ADDR": address, "PATH": "/nowhere"}
    assert "vault login -method=oidc role=admin" in commands
    login = subprocess.Popen(
        [binary, "login", "-method=oidc", "role=admin", "skip_browser=true"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert login.stdout
    said = ""
    while "openid-connect/auth" not in said:
        line = login.stdout.readline()
        assert line, said
        said += line
    context = browser.new_context()
    page = context.new_page()
    page.goto(re.findall(r"https://\S+openid-connect/auth\S+", said)[0])
    page.locator("#username").fill("admin")
    page.locator("#password").fill(platform.passwords["admin"])
    page.locator("#kc-login").click()
    assert login.wait(timeout=60) == 0
    context.close()

    accessor = serial = ""
    for command in commands:
        if command.startswith("vault login"):
            continue
        words = (
            command.replace("<accessor>", accessor)
            .replace("<serial number>", serial)
            .replace("<domain>", platform.settings.domain)
            .split()[1:]
        )
        done = subprocess.run([binary, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        if found := re.search(r"secret_id_accessor\s+(\S+)", done.stdout):
            accessor = found[1]
        if found := re.search(r"serial_number\s+(\S+)", done.stdout):
            serial = found[1]
        if command.endswith("-field=redis-password secret/services/redis"):
            assert done.stdout.strip() == platform.run("redis", "cat", f"{SECRETS}/password")


def _command_line(platform: Deployed, folder: Path) -> str:
    """Return the program of the image, copied to this machine."""
    container = platform.container("vault")
    path = container.exec_run(["readlink", "-f", "/bin/vault"]).output.decode().strip()
    archive = folder / "vault.tar"
    with archive.open("wb") as file:
        for part in container.get_archive(path)[0]:
            file.write(part)
    with tarfile.open(archive) as opened:
        opened.extract("vault", folder, filter="data")
    return str(folder / "vault")


@pytest.mark.spec("VLT-02", "VLT-11")
def test_after_a_restart_of_everything_the_secrets_are_in_memory_again(
    platform: Deployed, everything: dict[str, dict[str, str]]
) -> None:
    containers = running(platform)
    with ThreadPoolExecutor(max_workers=len(containers)) as executor:
        list(executor.map(lambda container: container.stop(timeout=60), containers))
        assert volume(platform, "redis-secrets") == {}, "memory ends with who uses it"
        # As Docker does it: all at once, those that need secrets before those that have them.
        waiting = sorted(
            containers, key=lambda container: container.labels["aikit.service"] in {"vault", *names.AGENTS}
        )
        list(executor.map(lambda container: container.start(), waiting))
    deadline = time.monotonic() + 300
    while late := [item.name for item in running(platform) if item.attrs["State"]["Health"]["Status"] != "healthy"]:
        assert time.monotonic() < deadline, f"not healthy: {late}"
        time.sleep(1)
    assert len(running(platform)) == len(containers)
    for service in ("haproxy", "postgres", "redis"):
        assert platform.container(service).attrs["RestartCount"] == 0, f"{service} did not wait for its secrets"
    assert platform.run("redis", "cat", f"{SECRETS}/password") == everything["secret/services/redis"]["redis-password"]
    with platform.client() as client:
        # The proxy looks every three seconds, twice.
        while client.get(f"{platform.url('chat')}/health").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(1)


@pytest.mark.spec("VLT-02", "VLT-03")
def test_a_seal_holds_until_a_restart_and_services_go_on(platform: Deployed, admin: Caller) -> None:
    assert admin.ask("POST", "sys/seal").status_code == 204
    assert admin.ask("GET", f"{names.MOUNT}/data/services/redis").status_code == 503
    with platform.client() as client:
        assert client.get(f"{platform.url('chat')}/health").status_code == 200
    failed = aikit("refresh", check=False)
    assert failed.returncode != 0
    assert "is sealed. Restart its container" in failed.stdout + failed.stderr
    platform.container("vault").restart(timeout=30)
    deadline = time.monotonic() + 120
    while admin.ask("GET", "sys/health").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert admin.read(f"{names.MOUNT}/data/services/redis")["data"]["redis-password"]
