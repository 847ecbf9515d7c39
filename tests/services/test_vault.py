"""Vault's container as the platform runs it: initialised once, unsealed by itself, and never again without its key."""

# Docker's library is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import base64
import dataclasses
import io
import secrets
import tarfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors
import hvac
import hvac.exceptions
import pytest
import requests

from components.secrets import agent, names, vault
from components.service import FILES, SECRETS, TEMPORARY
from providers.tls import PrivateKey, SelfSignedCert
from settings import ROOT, parse
from tests.unit.test_platform import container, of_type, planned

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
            "dnsNames": ["localhost", "vault"],
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
        carrier.remove(v=True)
        self.container.start()

    def remove(self) -> None:
        """Remove the container; the volumes stay."""
        if self.container:
            self.container.remove(force=True, v=True)
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
            "secrets-agent.hcl": vault.agent_policy(),
            "secrets-agent-secret": secrets.token_hex(24),
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
    # The mount is being made ready for versions.
    eventually(lambda: client.write_data(entry, data={"data": {"password": "kept"}}))
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
    assert machine.log().count("postgresql-database-plugin may be started") == 1
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
    code, said = machine.container.exec_run(["sh", "-c", ROOT_TOKENS])
    assert (code, said.decode().split()) == (0, ["1"]), "a root token of a killed start is still valid"
    # The worst moment: Vault is initialised, and its key was not kept.
    machine.remove()
    machine.in_volumes(f"rm {KEY}/unseal-key {DATA}/key-kept")
    machine.start()
    machine.ready()
    assert "starting an interrupted initialisation anew" in machine.log()
    assert machine.deployment().read("sys/mounts")["data"]


ROOT_TOKENS = """
set -eu
export VAULT_ADDR=http://127.0.0.1:8202 HOME=/tmp
vault operator generate-root -cancel >/dev/null
otp="$(vault operator generate-root -generate-otp)"
nonce="$(vault operator generate-root -init -otp="$otp" -format=json | sed -n 's/.*"nonce": "\\(.*\\)".*/\\1/p')"
encoded="$(vault operator generate-root -nonce="$nonce" -format=json - </vault/config/unseal-key \
  | sed -n 's/.*"encoded_root_token": "\\(.*\\)".*/\\1/p')"
export VAULT_TOKEN="$(printf %s "$encoded" | vault operator generate-root -decode=- -otp="$otp")"
for accessor in $(vault list auth/token/accessors | tail -n +3); do
  vault token lookup -accessor "$accessor"
done | grep -c 'policies.*\\[root\\]'
vault token revoke -self >/dev/null
"""
"""Makes a root token as a person would who has the key, prints how many there are with it, and revokes it."""


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
    assert "deployment has its login" in machine.log()
    assert "the root token is revoked" in machine.log()
    assert machine.deployment().read("sys/mounts")["data"]
    with pytest.raises(hvac.exceptions.InvalidRequest):
        machine.deployment(former)


@dataclasses.dataclass
class Agent:
    """The secrets agent beside a Vault, and containers that read what it writes."""

    machine: Machine
    network: Any
    volume: Any
    folder: Path
    """With the agent's own files, on this machine."""
    container: Any = None

    def run(self, *command: str, user: str, volumes: Mapping[str, Mapping[str, str]], **arguments: Any) -> Any:
        """Start a container on the network, hardened as the platform's."""
        return self.machine.docker.containers.run(
            self.machine.image,
            list(command[1:]),
            entrypoint=command[0],
            user=user,
            volumes=volumes,
            network=self.network.name,
            read_only=True,
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            detach=True,
            **arguments,
        )

    def start(self) -> None:
        """Make the agent's container and start it."""
        self.container = self.run(
            *("env", "vault", "agent", f"-config={FILES}/agent.hcl"),
            user="0:0",
            volumes={
                str(self.folder): {"bind": FILES, "mode": "ro"},
                self.volume.name: {"bind": f"{agent.FOLDER}/redis", "mode": "rw"},
            },
            environment={"HOME": TEMPORARY},
            tmpfs={TEMPORARY: "size=8m,mode=1777"},
            mem_limit="128m",
        )

    def written(self) -> None:
        """Wait until everything is written."""
        deadline = time.monotonic() + 60
        while self.container.exec_run(["test", "-e", agent.WRITTEN]).exit_code:
            assert time.monotonic() < deadline, self.container.logs().decode()
            time.sleep(0.3)

    def reader(self, script: str, user: str = "999:0") -> Any:
        """Start a container of the platform's form that shows what it reads."""
        shown = (
            f"grep {SECRETS} /proc/mounts; cd {SECRETS}; stat -c '%n %a %u %g' *; base64 password; base64 password.conf"
        )
        volumes = {self.volume.name: {"bind": SECRETS, "mode": "ro"}}
        return self.run("sh", "-c", script, "sh", "sh", "-c", shown, user=user, volumes=volumes)


@pytest.fixture
def beside(machine: Machine, tmp_path: Path) -> Iterator[Agent]:
    """Return the secrets agent beside a Vault; neither runs yet."""
    tmp_path.chmod(0o755)
    network = machine.docker.networks.create(machine.identity)
    options: Any = next(
        item.properties["driverOpts"]
        for item in of_type(planned("dev"), "Volume")
        if item.name == "redis-secrets-volume"
    )
    volume = machine.docker.volumes.create(f"{machine.identity}-secrets", driver="local", driver_opts=options)
    for name, text in {
        "agent.hcl": agent.configuration({"redis": ["password", "password.conf"]}, {"redis": []}),
        "authority.pem": machine.files["certificate.pem"],
        "role-id": names.AGENT,
        "secret-id": machine.files["secrets-agent-secret"],
    }.items():
        (tmp_path / name).write_text(text)
    made = Agent(machine=machine, network=network, volume=volume, folder=tmp_path)
    yield made
    for each in machine.docker.containers.list(all=True, filters={"network": network.name}):
        each.remove(force=True, v=True)
    machine.container = None
    volume.remove()
    network.remove()


@pytest.mark.spec("VLT-04", "VLT-05", "VLT-11")
def test_the_agent_writes_secrets_into_memory_again_after_every_restart(beside: Agent) -> None:
    machine = beside.machine
    machine.start()
    beside.network.connect(machine.container, aliases=["vault"])
    machine.ready()
    client = machine.deployment()
    client.sys.enable_secrets_engine("kv", path=names.MOUNT, options={"version": "2"})
    kept = {"password": "no line's end", "password.conf": "requirepass {{ x }} <&>\n\n \u00fc"}
    entry = f"{names.MOUNT}/data/{names.files('redis')}"
    eventually(lambda: client.write_data(entry, data={"data": kept}))
    beside.start()
    beside.written()

    script = container(planned("dev"), "redis")["entrypoints"][2]
    reader = beside.reader(script)
    assert reader.wait(timeout=30)["StatusCode"] == 0
    mount, *stats, first, second = reader.logs().decode().splitlines()
    assert mount.startswith(f"tmpfs {SECRETS} tmpfs ro,")
    assert stats == ["password 440 0 0", "password.conf 440 0 0"]
    assert [base64.b64decode(text).decode() for text in (first, second)] == list(kept.values())
    # Nobody outside of root's group.
    stranger = beside.reader(script.replace("tries=60", "tries=1"), user="999:999")
    assert stranger.wait(timeout=30)["StatusCode"] == 1
    assert stranger.logs().decode().strip() == f"start: {SECRETS}/password is missing"
    # The agent reads what it writes, and nothing else.
    login = machine.client()
    login.auth.approle.login(role_id=names.AGENT, secret_id=machine.files["secrets-agent-secret"])
    assert login.read(entry)["data"]["data"] == kept
    for path in (f"{names.MOUNT}/data/services/redis", f"{names.MOUNT}/metadata/{names.files('redis')}"):
        with pytest.raises(hvac.exceptions.Forbidden):
            login.read(path)

    # The machine starts again: memory is empty, and the order is any.
    beside.container.stop(timeout=5)
    machine.container.stop(timeout=20)
    waiting = beside.reader(script)
    beside.container.start()
    time.sleep(3)
    waiting.reload()
    assert waiting.status == "running", "it waits for its secrets"
    machine.container.start()
    assert waiting.wait(timeout=60)["StatusCode"] == 0
    assert base64.b64decode(waiting.logs().decode().splitlines()[-1]).decode() == kept["password.conf"]

    # Another value reaches the same file when a deployment makes another agent, while somebody reads the former one.
    kept["password"] = "another"
    eventually(lambda: machine.deployment().write_data(entry, data={"data": kept}))
    holder = beside.run("sleep", "60", user="999:0", volumes={beside.volume.name: {"bind": SECRETS, "mode": "ro"}})
    beside.container.remove(force=True, v=True)
    beside.start()
    beside.written()
    assert holder.exec_run(["cat", f"{SECRETS}/password"]).output == b"another"
    for each in (machine.container, beside.container):
        assert not any(text in each.logs().decode() for text in kept.values())


@pytest.mark.spec("VLT-13", "VLT-14")
def test_the_agents_login_follows_its_secret(machine: Machine) -> None:
    machine.start()
    machine.ready()
    former, machine.files["secrets-agent-secret"] = machine.files["secrets-agent-secret"], secrets.token_hex(24)
    machine.start()
    machine.ready()
    client = machine.client()
    client.auth.approle.login(role_id=names.AGENT, secret_id=machine.files["secrets-agent-secret"])
    with pytest.raises(hvac.exceptions.InvalidRequest):
        client.auth.approle.login(role_id=names.AGENT, secret_id=former)


def eventually(action: Callable[[], object]) -> None:
    """Do something that Vault refuses until it has begun its work."""
    deadline = time.monotonic() + 30
    while True:
        try:
            action()
            return
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.VaultDown, requests.ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.2)


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
        container.remove(force=True, v=True)


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
    machine.files |= {
        "vault.hcl": vault.configuration(chosen),
        "seal": "transit",
        "environment": f"export VAULT_TOKEN={token}\n",
    }
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
