"""Vault's container as the platform runs it: initialised once, unsealed by itself, and never again without its key."""

# Docker's library is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import dataclasses
import io
import secrets
import tarfile
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import docker
import docker.errors
import hvac
import hvac.exceptions
import pytest
import requests

from components.secrets import names, vault
from providers.tls import PrivateKey, SelfSignedCert
from settings import ROOT, parse

DATA, KEY = "/vault/file", "/vault/config"
SCRIPT = ROOT / "services" / "vault" / "start.sh"


@pytest.fixture(scope="module")
def image() -> str:
    """Return the newest local image of Vault."""
    images = docker.from_env().images.list(name="aikit/vault")
    if not images:
        pytest.skip("there is no local image aikit/vault; build the images first")
    return max(images, key=lambda item: str(item.attrs["Created"])).tags[0]


@pytest.fixture(scope="module")
def certificate() -> Mapping[str, str]:
    """Return a certificate of its own with its key."""
    key = PrivateKey().create(None, {"algorithm": "ECDSA", "ecdsaCurve": "P256"}).outputs["privateKeyPem"]
    made = SelfSignedCert().create(
        None,
        {
            "privateKeyPem": key,
            "subject": {"commonName": "vault"},
            "dnsNames": ["localhost"],
            "allowedUses": ["server_auth"],
            "validityPeriodHours": 1,
            "isCaCertificate": True,
            "setSubjectKeyId": True,
            "setAuthorityKeyId": False,
        },
    )
    return {"certificate.pem": made.outputs["certPem"], "key.pem": key}


@dataclasses.dataclass
class Machine:
    """A Vault with its volumes, whose container may be replaced."""

    docker: Any
    image: str
    files: dict[str, str]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    container: Any = None
    identity: str = dataclasses.field(default_factory=lambda: f"aikit-vault-test-{secrets.token_hex(4)}")

    def start(self) -> None:
        """Make a container on the same volumes, hardened as the platform's."""
        self.remove()
        self.container = self.docker.containers.create(
            self.image,
            entrypoint=["sh", "/etc/aikit/start.sh"],
            user="100:0",
            read_only=True,
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            mem_limit="512m",
            tmpfs={"/tmp": "size=16m,mode=1777"},  # noqa: S108 -- of the container
            environment=dict(self.environment),
            volumes={
                f"{self.identity}-data": {"bind": DATA, "mode": "rw"},
                f"{self.identity}-key": {"bind": KEY, "mode": "rw"},
                f"{self.identity}-files": {"bind": "/etc/aikit", "mode": "ro"},
            },
            ports={f"{vault.PORT}/tcp": ("127.0.0.1", 0), f"{vault.TLS_PORT}/tcp": ("127.0.0.1", 0)},
        )
        # Through another container, because the root of this one refuses writes.
        carrier = self.docker.containers.create(
            self.image,
            entrypoint=["true"],
            volumes={f"{self.identity}-files": {"bind": "/etc/aikit", "mode": "rw"}},
        )
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, text in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(text.encode()), 0o440
                archive.addfile(entry, io.BytesIO(text.encode()))
        carrier.put_archive("/etc/aikit", buffer.getvalue())
        carrier.remove()
        self.container.start()

    def remove(self) -> None:
        """Remove the container; the volumes stay."""
        if self.container:
            self.container.remove(force=True)
            self.container = None

    def ready(self) -> None:
        """Wait until the script says that all is done."""
        deadline = time.monotonic() + 120
        while "start: ready" not in self.log():
            self.container.reload()
            assert self.container.status == "running", self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.3)

    def ended(self) -> str:
        """Wait until the container ends, and return what it said."""
        assert self.container.wait(timeout=120)["StatusCode"] == 1
        return self.log()

    def log(self) -> str:
        """Return the lines of the script."""
        lines = self.container.logs().decode().splitlines()
        return "\n".join(line for line in lines if line.startswith("start: "))

    def address(self, port: int = vault.PORT) -> str:
        """Return where a port can be reached."""
        self.container.reload()
        return f"127.0.0.1:{self.container.ports[f'{port}/tcp'][0]['HostPort']}"

    def client(self) -> Any:
        """Return Vault's client library without a login."""
        return hvac.Client(url=f"http://{self.address()}")

    def deployment(self, secret: str = "") -> Any:
        """Return the library logged in as the deployment."""
        client = self.client()
        client.auth.approle.login(role_id=names.DEPLOYMENT, secret_id=secret or self.files["deployment-secret"])
        return client

    def in_volumes(self, command: str) -> str:
        """Run a shell command on the volumes while Vault does not run."""
        return self.docker.containers.run(
            self.image,
            ["-c", command],
            entrypoint="sh",
            user="0",
            remove=True,
            volumes={f"{self.identity}-data": {"bind": DATA}, f"{self.identity}-key": {"bind": KEY}},
        ).decode()

    def close(self) -> None:
        """Remove everything."""
        self.remove()
        for part in ("data", "key", "files"):
            try:
                self.docker.volumes.get(f"{self.identity}-{part}").remove()
            except docker.errors.NotFound:
                continue


@pytest.fixture
def machine(image: str, certificate: Mapping[str, str]) -> Iterator[Machine]:
    """Return a Vault that has not been started."""
    made = Machine(
        docker=docker.from_env(),
        image=image,
        files={
            "start.sh": SCRIPT.read_text(encoding="utf-8"),
            "vault.hcl": vault.configuration(parse({}).vault),
            "deployment.hcl": vault.deployment_policy(),
            "deployment-secret": secrets.token_hex(24),
            **certificate,
        },
    )
    yield made
    made.close()


@pytest.mark.spec("VLT-01", "VLT-02", "VLT-03")
def test_it_is_initialised_once_and_unseals_itself_ever_after(machine: Machine, tmp_path: Any) -> None:
    machine.start()
    machine.ready()
    assert "initialised; the key is in" in machine.log()
    assert "the root token is revoked" in machine.log()
    mode, user = machine.container.exec_run(["stat", "-c", "%a %u", f"{KEY}/unseal-key"]).output.split()
    assert (mode, user) == (b"400", b"100")

    client = machine.deployment()
    client.sys.enable_secrets_engine("kv", path=names.MOUNT, options={"version": "2"})
    entry = f"{names.MOUNT}/data/services/chat"
    deadline = time.monotonic() + 30
    while True:
        try:
            client.write_data(entry, data={"data": {"password": "kept"}})
            break
        except hvac.exceptions.InvalidRequest:  # the mount is being made ready for versions
            assert time.monotonic() < deadline
            time.sleep(0.2)
    with pytest.raises(hvac.exceptions.Forbidden):
        client.read("sys/policies/acl/deployment")
    with pytest.raises(hvac.exceptions.Forbidden):
        client.sys.create_or_update_policy("deployment", 'path "secret/*" { capabilities = ["read"] }')

    machine.container.restart(timeout=20)
    time.sleep(1)
    machine.container.exec_run(["sh", "-c", "until test -e /tmp/ready; do sleep 0.2; done"])
    assert machine.deployment().read(entry)["data"]["data"] == {"password": "kept"}
    assert machine.log().count("initialised; the key") == 1
    assert machine.log().count("the root token is revoked") == 1, "a restart makes no root token"
    machine.start()
    machine.ready()
    assert "initialised" not in machine.log()
    assert machine.deployment().read(entry)["data"]["data"] == {"password": "kept"}

    authority = tmp_path / "authority.crt"
    authority.write_text(machine.files["certificate.pem"])
    secure = f"https://localhost:{machine.address(vault.TLS_PORT).partition(':')[2]}/v1/sys/health"
    assert requests.get(secure, verify=str(authority), timeout=10).json()["sealed"] is False
    everything = machine.container.logs().decode()
    key = machine.container.exec_run(["cat", f"{KEY}/unseal-key"]).output.decode()
    assert len(key) == 44
    for secret in (key, machine.files["deployment-secret"], "hvs."):
        assert secret not in everything


@pytest.mark.spec("VLT-03")
def test_a_killed_initialisation_is_resumed(machine: Machine) -> None:
    for seconds in (0.3, 0.8, 1.3, 1.8, 2.3, 2.8, 3.5, 4.5):
        machine.start()
        time.sleep(seconds)
        machine.container.kill()
    machine.start()
    machine.ready()
    assert machine.deployment().read("sys/mounts")["data"]
    # The worst moment: Vault is initialised, and its key was not kept.
    machine.remove()
    machine.in_volumes(f"rm {KEY}/unseal-key {DATA}/key-kept")
    machine.start()
    machine.ready()
    assert "starting an interrupted initialisation anew" in machine.log()
    assert machine.deployment().read("sys/mounts")["data"]


@pytest.mark.spec("VLT-03")
def test_without_its_key_nothing_is_touched(machine: Machine) -> None:
    machine.start()
    machine.ready()
    machine.remove()
    machine.in_volumes(f"mv {KEY}/unseal-key {KEY}/copy")
    before = machine.in_volumes(f"find {DATA} -type f | sort")
    machine.start()
    assert "the key is missing: restore it" in machine.ended()
    machine.remove()
    assert machine.in_volumes(f"find {DATA} -type f | sort") == before
    # Restored, it opens the data again.
    restore = 'umask 0377 && tr -d "\\n" > /vault/config/unseal-key && chown 100 /vault/config/unseal-key'
    assert restore in (ROOT / "docs" / "secrets.md").read_text(encoding="utf-8")
    machine.in_volumes(f"cat {KEY}/copy | ({restore}); rm {KEY}/copy")
    machine.start()
    machine.ready()
    assert machine.deployment().read("sys/mounts")["data"]
    # The other way round: a second initialisation would take the place of the key of lost data.
    machine.remove()
    machine.in_volumes(f"rm -r {DATA}/raft {DATA}/key-kept")
    machine.start()
    assert "there is an unseal key, but Vault's storage is empty" in machine.ended()
    machine.remove()
    assert machine.in_volumes(f"wc -c < {KEY}/unseal-key").strip() == "44"


@pytest.mark.spec("VLT-13", "VLT-14")
def test_the_deployments_login_follows_its_secret(machine: Machine) -> None:
    machine.start()
    machine.ready()
    former = machine.files["deployment-secret"]
    machine.files["deployment-secret"] = secrets.token_hex(24)
    machine.start()
    machine.ready()
    assert "the deployment has its login" in machine.log()
    assert "the root token is revoked" in machine.log()
    assert machine.deployment().read("sys/mounts")["data"]
    with pytest.raises(hvac.exceptions.InvalidRequest):
        machine.deployment(former)


@pytest.fixture
def other(image: str) -> Generator[tuple[str, str]]:
    """Run another Vault with a key for seals; return its address inside and a token for that key alone."""
    engine = docker.from_env()
    token = secrets.token_hex(8)
    container = engine.containers.run(
        image,
        ["server", "-dev", f"-dev-root-token-id={token}", "-dev-listen-address=0.0.0.0:8200"],
        environment={"HOME": "/tmp"},  # noqa: S108 -- of the container
        ports={"8200/tcp": ("127.0.0.1", 0)},
        detach=True,
    )
    try:
        container.reload()
        settings = container.attrs["NetworkSettings"]
        client: Any = hvac.Client(url=f"http://127.0.0.1:{settings['Ports']['8200/tcp'][0]['HostPort']}", token=token)
        deadline = time.monotonic() + 60
        while True:
            try:
                client.sys.enable_secrets_engine("transit")
                break
            except (requests.RequestException, hvac.exceptions.VaultError):
                assert time.monotonic() < deadline
                time.sleep(0.5)
        client.write_data("transit/keys/kit", data={})
        rules = "".join(
            f'path "transit/{what}/kit" {{ capabilities = ["update"] }}\n' for what in ("encrypt", "decrypt")
        )
        client.sys.create_or_update_policy("seal", rules)
        answer = client.auth.token.create(policies=["seal"], period="24h", no_parent=True)
        yield f"http://{settings['IPAddress']}:8200", answer["auth"]["client_token"]
    finally:
        container.remove(force=True)


@pytest.mark.spec("VLT-03")
def test_another_vault_may_hold_the_seal(machine: Machine, other: tuple[str, str]) -> None:
    address, token = other
    chosen = parse(
        {
            "vault-seal": "transit",
            "vault-seal-options": [f"address={address}", "key_name=kit", "mount_path=transit/"],
            "vault-seal-credentials-file": "not read here",
        }
    ).vault
    machine.files |= {"vault.hcl": vault.configuration(chosen), "seal": "transit"}
    machine.environment = {"VAULT_TOKEN": token}
    machine.start()
    machine.ready()
    status = requests.get(f"http://{machine.address()}/v1/sys/seal-status", timeout=10).json()
    assert (status["type"], status["recovery_seal"], status["sealed"]) == ("transit", True, False)
    machine.start()
    machine.ready()
    machine.files["deployment-secret"] = secrets.token_hex(24)
    machine.start()
    machine.ready()
    assert machine.deployment().read("sys/mounts")["data"], "the kept key recovers"
