"""What the graph says about secrets: all are in Vault, each service reads its own, and nothing waits for Vault."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.secrets import vault
from components.secrets.names import AGENTS
from components.secrets.vault import deployment_policy
from operations import secret_inventory
from operations.plan import Plan, PlannedResource
from settings import SettingsError, load, parse
from tests.unit.test_platform import container, kept_files, of_type, planned, secret_files, uploads, variant

STACKS = pytest.mark.parametrize(("stack", "built"), [("dev", False), ("prod", False), ("test", True)])


def of_vault(plan: Plan, kind: str) -> list[PlannedResource]:
    return [
        resource for resource in plan.resources if resource.type.startswith("vault:") and resource.type.endswith(kind)
    ]


@pytest.mark.spec("VLT-06", "VLT-07", "VLT-08", "VLT-10")
@STACKS
def test_every_generated_secret_is_in_vault(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    kept = secret_inventory.kept(plan)
    everything = set(secret_inventory.generated(plan))
    assert {"administrator-password", "postgres-keycloak-password", "redis-password", "authority-key"} <= everything
    assert everything - set().union(*kept.values()) == set(), "generated, and not in Vault"
    assert kept["database/static-creds/keycloak"] == {"postgres-keycloak-password"}
    assert {"open-webui-client-secret", "redis-password"} <= kept["secret/services/open-webui"]
    assert "redis-password" not in kept["secret/services/keycloak"]


@pytest.mark.spec("VLT-06", "VLT-09")
def test_what_a_person_gives_as_a_file_is_in_vault_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("given-by-hand")
    provider = {
        "kind": "google",
        "name": "google",
        "client_id": "kit",
        "client_secret_file": str(tmp_path / "secret"),
    }
    plan = variant("dev", identity_providers=[provider])
    entry = next(item for item in of_vault(plan, ":SecretV2") if item.properties["name"] == "services/keycloak")
    without = next(item for item in of_vault(planned("dev"), ":SecretV2") if item.name == entry.name)
    assert entry.properties["dataJson"] != without.properties["dataJson"]
    assert "given-by-hand" not in json.dumps(plan.to_json())
    channels = [f"monitoring_{channel}webhook_file" for channel in ("", "slack_", "discord_")]
    plan = variant("dev", None, **{setting: str(tmp_path / "secret") for setting in channels})
    names = {str(item.properties["name"]) for item in of_vault(plan, ":SecretV2")}
    assert {"services/alertmanager", "files/alertmanager"} <= names
    assert "given-by-hand" not in json.dumps(plan.to_json())


@pytest.mark.spec("VLT-12")
def test_a_password_that_a_person_chose_cannot_be_guessed_from_what_docker_shows(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    plan = variant("dev", monitoring_webhook_file=str(tmp_path / "password"))
    (shown,) = [
        label["value"] for label in container(plan, "alertmanager")["labels"] if label["label"] == "aikit.secrets"
    ]
    assert shown != hashlib.sha256(b'{"webhook": "hunter2"}').hexdigest()


@pytest.mark.spec("VLT-06", "VLT-16")
def test_the_inventory_is_current() -> None:
    text = secret_inventory.FILE.read_text(encoding="utf-8")
    assert text == secret_inventory.document(), "run: python -m operations.secret_inventory"


PROTECTED = {
    "administrator-password": "never",
    "user-edith-password": "never",
    "user-victor-password": "never",
    "authority-key": "forced",
    "grafana-secret-key": "forced",
    "n8n-encryption-key": "forced",
    "open-webui-first-password": "never",
    "open-webui-secret-key": "forced",
}
"""What would be lost, or is somebody else's."""


@pytest.mark.spec("VLT-13")
@STACKS
def test_every_secret_has_a_period_or_a_reason(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    rotations = secret_inventory.rotations(plan)
    assert set(rotations) == set(secret_inventory.generated(plan))
    for name, rotation in rotations.items():
        assert rotation["replacement"] == PROTECTED.get(name, "periodic"), name
        assert bool(rotation["days"]) is not bool(rotation["reason"]), name
        assert rotation["services"] or name == "authority-key"
    assert rotations["redis-password"]["days"] == 90
    assert rotations["certificate-key"] == {
        "services": ["haproxy"],
        "days": 60,
        "replacement": "periodic",
        "reason": "",
    }
    assert {"open-webui", "redis", "redis-exporter"} == set(rotations["redis-password"]["services"])
    assert {"n8n", "n8n-worker", "redis-queue", "redis-exporter"} == set(rotations["redis-queue-password"]["services"])


@pytest.mark.spec("VLT-13")
def test_periods_are_settings() -> None:
    own = ["redis-password=7", "n8n-session-key=1"]
    rotations = secret_inventory.rotations(variant("dev", secrets_rotation_days=30, secrets_own_rotation_days=own))
    days = {name: rotation["days"] for name, rotation in rotations.items()}
    assert (days["postgres-n8n-password"], days["redis-password"], days["n8n-session-key"]) == (30, 7, 1)
    assert days["n8n-encryption-key"] == 0
    never = secret_inventory.rotations(variant("dev", secrets_rotation_days=0))
    assert {name for name, rotation in never.items() if rotation["days"]} == {
        "certificate-key",
        "vault-certificate-key",
    }
    for value, said in (
        ("redis-pasword=7", 'has "redis-pasword=7", but this stack has no such secret; did you mean redis-password?'),
        ("n8n-encryption-key=7", "but it has no period: n8n encrypts"),
    ):
        with pytest.raises(SettingsError, match=re.escape(said)):
            variant("dev", secrets_own_rotation_days=[value])
    for values, said in (
        ({"rotation-days": -1}, "secrets-rotation-days is -1"),
        ({"own-rotation-days": ["redis-password=x"]}, "secrets-own-rotation-days"),
        ({"own-rotation-days": ["a=1", "a=2"]}, "has the name 'a' twice"),
    ):
        with pytest.raises(SettingsError, match=said):
            parse({f"secrets-{name}": value for name, value in values.items()})


@pytest.mark.spec("VLT-14")
def test_what_takes_a_secret_at_its_first_start_only_is_told_again() -> None:
    """PostgreSQL's superuser has what its file says at each start, and Keycloak what the databases' job writes before."""
    plan = planned("test", True)
    server = container(plan, "postgres")
    assert server["command"][:3] == ["sh", "/etc/aikit/start.sh", "postgres"]
    assert "start.sh" in uploads(plan, "postgres")
    assert "${keycloak-deployment-secret.result}" in kept_files(plan, "postgres-databases")
    needed = next(item for item in plan.resources if item.name == "keycloak-container").dependencies
    assert any(urn.endswith("::postgres-databases-container") for urn in needed)


@pytest.mark.spec("VLT-04", "VLT-05")
@STACKS
def test_every_service_reads_its_own_entry_and_no_other(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    entries = [str(item.properties["name"]) for item in of_vault(plan, ":SecretV2")]
    policies = {str(item.properties["name"]): str(item.properties["policy"]) for item in of_vault(plan, ":Policy")}
    roles: dict[str, Any] = {
        str(item.properties["roleName"]): item.properties
        for item in of_vault(plan, ":AuthBackendRole")
        if item.type.startswith("vault:appRole")
    }
    services = {str(path).removeprefix("files/") for path in entries if path.startswith("files/")} - {
        "n8n-samples",
        "postgres-databases",
    }
    others = {path.removeprefix("services/") for path in entries if path.startswith("services/")} - services
    assert others == {"vault", *AGENTS}, "what opens Vault"
    assert set(roles) == services | others
    containers = {
        **{name: (name,) for name in in_memory(plan)},
        "n8n": ("n8n", "n8n-samples"),
        "postgres": ("postgres", "postgres-databases"),
    }
    databases = {
        path.rpartition("/")[2]: secret_inventory.rotations(plan)[name]["services"]
        for path, (name, *_) in secret_inventory.kept(plan).items()
        if path.startswith("database/static-creds/")
    }
    assert databases["n8n"] == ["n8n", "n8n-worker"]
    for service in roles:
        paths = set(re.findall(r'path "([^"]+)"', policies[f"service-{service}"]))
        own = [f"services/{service}", *(f"files/{name}" for name in containers.get(service, ()))]
        passwords = {f"database/static-creds/{name}" for name, users in databases.items() if service in users}
        assert paths == passwords | {f"secret/{kind}/{path}" for kind in ("data", "metadata") for path in own}
        assert set(re.findall(r'"(\w+)"\]', policies[f"service-{service}"])) == {"read"}
        assert roles[service]["tokenPolicies"] == [f"${{vault-policy-service-{service}.name}}"] or roles[service][
            "tokenPolicies"
        ] == [f"service-{service}"]
        assert 0 < roles[service]["tokenTtl"] <= roles[service]["tokenMaxTtl"] <= 86_400
        assert roles[service]["secretIdTtl"] > 0, "a secret that was lost ends by itself"


@pytest.mark.spec("VLT-03", "VLT-04")
def test_the_deployment_can_neither_end_the_log_nor_raise_its_rights() -> None:
    rules = dict(re.findall(r'path "([^"]+)" \{\n  capabilities = \[([^\]]*)\]', deployment_policy()))
    assert "delete" not in rules["sys/audit/stdout"]
    for path in rules:
        assert path not in {"*", "sys/*", "auth/*", "secret/*"}
        assert not "sys/policies/acl/deployment".startswith(path.rstrip("*")) or not path.endswith("*")
        assert not path.startswith("auth/approle")
        assert not path.startswith("auth/token")


@pytest.mark.spec("TLS-06", "VLT-04")
@STACKS
def test_vault_issues_certificates_for_inside_alone(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    settings = load(stack)
    (role,) = of_vault(plan, ":SecretBackendRole")
    services = {item.removeprefix("secret/services/") for item in secret_inventory.kept(plan)}
    allowed: Any = role.properties["allowedDomains"]
    assert allowed[0] == settings.domain
    assert {"vault", "redis", "postgres"} <= set(allowed[1:]) & services
    assert not any("*" in name or "." in name for name in allowed[1:])
    open_to_more = {"allowAnyName", "allowGlobDomains", "allowWildcardCertificates", "allowIpSans", "clientFlag"}
    assert not any(role.properties[name] for name in open_to_more)
    assert int(str(role.properties["maxTtl"])) == settings.certificates.validity_days * 86_400
    certificate = next(item for item in of_type(plan, "LocallySignedCert") if item.properties.get("isCaCertificate"))
    assert certificate.properties["maxPathLength"] == 0
    hours: Any = certificate.properties["earlyRenewalHours"]
    assert hours > settings.certificates.validity_days * 24, "what it issues ends before it does"
    assert hours < certificate.properties["validityPeriodHours"]
    (request,) = of_vault(plan, ":SecretBackendIntermediateCertRequest")
    assert request.properties["type"] == "internal", "its key stays in Vault"


ON_DISK = {
    "vault-files": {"deployment-secret", "secrets-agent-secret", "key.pem"},
    "secrets-agent-files": {"secret-id"},
    "database-secrets-agent-files": {"secret-id"},
}
"""Carriers with secrets, and which: nobody can write these into memory before Vault and the agent run."""


def in_memory(plan: Plan) -> set[str]:
    """Return the names of the containers whose secrets are in memory."""
    containers: dict[str, Any] = {item.name: item.properties for item in of_type(plan, "Container")}
    return {
        name.removesuffix("-container")
        for name, properties in containers.items()
        if any(mount["containerPath"] == "/run/secrets" for mount in properties.get("volumes") or ())
    }


@pytest.mark.spec("VLT-11", "CFG-03")
@STACKS
def test_no_secret_is_on_a_disk_but_those_that_open_vault(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    secrets = set(secret_inventory.generated(plan))
    found: dict[str, set[str]] = {}
    for item in of_type(plan, "Container"):
        files: Any = item.properties.get("uploads") or []
        for file in files:
            made_of = set(re.findall(r"\$\{([\w-]+)\.", file["content"])) & secrets
            if file["content"].startswith("[secret") or made_of:
                found.setdefault(item.name, set()).add(file["file"].rpartition("/")[2])
    assert found == ON_DISK


@pytest.mark.spec("VLT-11")
@STACKS
def test_every_secret_file_is_written_by_the_agent_before_its_container_starts(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    agents = [item for item in of_type(plan, "Container") if item.name in {f"{name}-container" for name in AGENTS}]
    entries = {str(item.properties["name"]): item.urn for item in of_vault(plan, ":SecretV2")}
    volumes = {str(item.properties["name"]): item for item in of_type(plan, "Volume")}
    written: dict[str, Any] = {agent.urn: agent.properties["volumes"] for agent in agents}
    folders = {
        mount["volumeName"]: (mount["containerPath"], urn)
        for urn, mounts in written.items()
        for mount in mounts
        if not mount.get("readOnly")
    }
    assert {"redis", "postgres", "haproxy", "keycloak", "n8n-samples"} <= in_memory(plan)
    for name in in_memory(plan):
        made = next(item for item in of_type(plan, "Container") if item.name == f"{name}-container")
        properties: Any = made.properties
        (mount,) = (each for each in properties["volumes"] if each["containerPath"] == "/run/secrets")
        assert mount["readOnly"] is True
        options: Any = volumes[mount["volumeName"]].properties["driverOpts"]
        assert (options["type"], options["device"]) == ("tmpfs", "tmpfs")
        folder, urn = folders.pop(mount["volumeName"])
        assert folder == f"/secrets/{name}"
        # All files are waited for, and a container that lacks one ends.
        assert f"for file in {' '.join(sorted(secret_files(plan, name)))}; do" in properties["entrypoints"][2]
        assert urn in made.dependencies
        agent = next(item for item in agents if item.urn == urn)
        assert entries.pop(f"files/{name}") in agent.dependencies
        assert "aikit.secrets" in {label["label"] for label in properties["labels"]}
    assert not folders
    assert not any(path.startswith("files/") for path in entries)


@pytest.mark.spec("VLT-11")
def test_a_file_that_is_no_more_does_not_stay_in_its_volume(tmp_path: Path) -> None:
    """A carrier adds files: without one of them, as after a move into memory, the volume is another one."""
    file = tmp_path / "credentials"
    file.write_text("VAULT_TOKEN=hvs.other\n")
    seal = variant("dev", vault_seal="transit", vault_seal_options=TRANSIT, vault_seal_credentials_file=str(file))
    (before,), (after,) = (
        [item for item in of_type(plan, "Volume") if item.name == "vault-files-volume"]
        for plan in (seal, variant("dev", vault_memory_mb=300))
    )
    assert before.properties["labels"] != after.properties["labels"]
    assert after.options["deleteBeforeReplace"] is True


@STACKS
def test_nothing_but_the_agents_waits_for_vault_and_what_needs_a_database_for_its_password(
    stack: str, built: bool
) -> None:
    plan = planned(stack, built)
    own = {item.urn: item.name for item in plan.resources if "aikit:secrets:Vault" in item.urn}
    assert own
    waited = {
        item.name: {own[urn] for urn in item.dependencies if urn in own}
        for item in plan.resources
        if item.urn not in own and item.name not in {f"{name}-container" for name in AGENTS}
    }
    assert "vault-database-keycloak-password" in waited["keycloak-container"]
    for name, these in waited.items():
        assert all(re.fullmatch(r"vault-database-.*-password", each) for each in these), name
    assert not waited["postgres-container"] | waited["redis-container"] | waited["haproxy-container"]


@pytest.mark.spec("VLT-14")
@STACKS
def test_passwords_of_databases_are_made_by_vault_and_kept_nowhere_else(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    roles = {str(item.properties["name"]): item for item in of_vault(plan, ":SecretBackendStaticRole")}
    assert {"keycloak", "n8n", "open-webui", "postgres-exporter", "workflows"} <= set(roles)
    orders = {str(item.properties["path"]): item for item in of_vault(plan, ":Endpoint")}
    assert set(orders) == {f"database/rotate-role/{name}" for name in roles}
    (server,) = of_vault(plan, ":SecretBackendConnection")
    job = next(item for item in plan.resources if item.name == "postgres-databases-container")
    assert job.urn in server.dependencies
    for name, role in roles.items():
        assert role.urn in orders[f"database/rotate-role/{name}"].dependencies
        # Another password is another text in each file that has it, so that whoever reads it is replaced.
        generation = f"${{postgres-{name}-password."
        assert generation in str(orders[f"database/rotate-role/{name}"].properties["dataJson"])
    made = {item.name for item in plan.resources if item.name in {f"postgres-{name}-password" for name in roles}}
    assert len(made) == len(roles)
    assert {item.type for item in plan.resources if item.name in made} == {"random:index/randomId:RandomId"}
    assert "${postgres-open-webui-password.hex}" in kept_files(plan, "open-webui")
    template = secret_files(plan, "open-webui")["environment"]
    assert 'with secret "database/static-creds/open-webui"' in template
    assert 'regexReplaceAll "database/static-creds/open-webui/[0-9a-f]+"' in template
    assert not any(f"${{{name}." in kept_files(plan, "postgres-databases") for name in made)


@pytest.mark.spec("VLT-01", "VLT-02", "VLT-03")
def test_the_key_and_the_data_are_apart_and_both_are_kept() -> None:
    plan = planned("prod")
    volumes = {item.name: item for item in of_type(plan, "Volume")}
    for name in ("vault-data-volume", "vault-key-volume"):
        assert volumes[name].options["retainOnDelete"] is True
        assert volumes[name].options["protect"] is True
    properties = container(plan, "vault")
    assert {"/vault/file", "/vault/config"} <= {mount["containerPath"] for mount in properties["volumes"]}
    assert properties["user"] == "100:0"
    assert [(port["ip"], port["internal"]) for port in properties["ports"]] == [("127.0.0.1", vault.PORT)]


TRANSIT = ["address=https://other.example.org:8200", "key_name=kit", "mount_path=transit/"]


def settings_of(**values: Any) -> Any:
    return parse({f"vault-{name.replace('_', '-')}": value for name, value in values.items()}).vault


@pytest.mark.spec("VLT-03")
def test_another_system_may_hold_the_seal(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("VAULT_TOKEN=hvs.other\n")
    chosen = settings_of(seal="transit", seal_options=TRANSIT, seal_credentials_file=str(file))
    text = vault.configuration(chosen)
    assert 'seal "transit" {\n  address = "https://other.example.org:8200"\n  key_name = "kit"\n' in text
    assert "hvs.other" not in text
    assert set(vault.credentials(chosen)) == {"VAULT_TOKEN"}
    assert "seal" not in vault.configuration(settings_of())
    plan = variant("dev", vault_seal="transit", vault_seal_options=TRANSIT, vault_seal_credentials_file=str(file))
    assert uploads(plan, "vault")["environment"] == "[secret]", "the credentials come from a file"
    assert "hvs.other" not in json.dumps(plan.to_json())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seal": "transit"}, "must give address, key_name, mount_path"),
        ({"seal": "transit", "seal_options": TRANSIT}, "vault-seal-credentials-file must give VAULT_TOKEN"),
        ({"seal": "awskms", "seal_options": ["region=eu-west-1"]}, "must give kms_key_id"),
        ({"seal": "awskms", "seal_options": ["region=a", "kms_key_id=b", "zone=c"]}, "has zone, but"),
        ({"seal_options": ["region=a"]}, "takes: none"),
        ({"seal_credentials_file": "x"}, "for a vault-seal other than file"),
        ({"seal_options": ["no equals sign"]}, "vault-seal-options"),
        ({"seal": "cloud"}, "vault-seal is"),
        ({"port": 443}, "must be different ports"),
    ],
)
def test_an_incomplete_seal_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(**values)
    assert said in str(caught.value)


def test_credentials_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    for text, said in (("just a token", "each line must be NAME=value"), ("OTHER=1", "lacks VAULT_TOKEN")):
        file.write_text(text)
        chosen = settings_of(seal="transit", seal_options=TRANSIT, seal_credentials_file=str(file))
        with pytest.raises(SettingsError) as caught:
            vault.credentials(chosen)
        assert said in str(caught.value)
        assert "just a token" not in str(caught.value)
