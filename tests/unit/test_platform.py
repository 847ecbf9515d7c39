"""The graph as a whole: what must hold for every container, route, client and secret."""

import configparser
import datetime
import functools
import ipaddress
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from components.context import INTERNAL
from components.identity import access
from components.images import Machine
from components.platform import deploy
from components.registry import SERVICES, deployed, left_out
from components.secrets import names
from components.service import NOT_UPDATABLE, OidcClient
from operations import origins
from operations.plan import ROOT, Plan, PlannedResource, record
from settings import PROXY_PORTS, OllamaModel, SettingsError, load, parse

BUILT = Machine(images="built", bases={"trixie": "aikit/base:trixie", "bookworm": "aikit/base:bookworm"})


@functools.cache
def planned(stack: str, built: bool = False) -> Plan:
    return variant(stack, machine=BUILT if built else Machine())


def variant(stack: str, machine: Machine | None = None, **values: Any) -> Plan:
    """Plan a stack, or settings given as ``name_with_underscores=value``."""
    chosen = parse({name.replace("_", "-"): value for name, value in values.items()}) if values else load(stack)
    return record(lambda: deploy(chosen, machine or Machine(), stack), stack=stack, project="aikit", root=ROOT)


def of_type(plan: Plan, kind: str) -> list[PlannedResource]:
    return [resource for resource in plan.resources if resource.type.endswith(f":{kind}")]


def services(plan: Plan) -> list[PlannedResource]:
    """Return the containers that run all the time."""
    return [container for container in of_type(plan, "Container") if "healthcheck" in container.properties]


def container(plan: Plan, name: str) -> Any:
    return next(item for item in of_type(plan, "Container") if item.name == f"{name}-container").properties


def test_each_plugin_that_the_program_needs_is_looked_for() -> None:
    kinds = {resource.type.partition(":")[0] for resource in planned("prod").resources}
    assert {f"pulumi-{kind}" for kind in kinds - {"aikit", "pulumi"}} == set(origins.PACKAGES)


STACKS = pytest.mark.parametrize(("stack", "built"), [("dev", False), ("prod", False), ("dev", True)])


@STACKS
def test_every_service_is_hardened_limited_and_waited_for(stack: str, built: bool) -> None:
    found = services(planned(stack, built))
    assert len(found) == len(deployed(load(stack), BUILT if built else Machine()))
    for item in found:
        properties: Any = item.properties
        assert properties["capabilities"]["drops"] == ["ALL"]
        assert properties["securityOpts"] == ["no-new-privileges:true"]
        assert properties["memory"] == properties["memorySwap"] > 0
        assert properties["cpuQuota"] > 0
        assert properties["cpuPeriod"] > 0
        assert properties["ulimits"][0]["name"] == "nproc"
        assert properties["restart"] == "unless-stopped"
        assert properties["logOpts"] == {"max-file": "3", "max-size": "10m"}
        assert properties["destroyGraceSeconds"] >= 5
        assert properties["wait"] is True
        check = properties["healthcheck"]
        budget = 60 * 10 if "m" in check["startPeriod"] else int(check["startPeriod"][:-1])
        assert properties["waitTimeout"] > min(budget, 120)
        assert check["tests"][0] == "CMD"
        assert "privileged" not in properties
        assert properties["readOnly"] is (built or item.name != "keycloak-container")


@STACKS
def test_changes_that_the_provider_would_swallow_replace_the_container(stack: str, built: bool) -> None:
    for item in services(planned(stack, built)):
        assert set(NOT_UPDATABLE) <= set(item.options["replaceOnChanges"])  # pyright: ignore[reportArgumentType]
        assert item.options["deleteBeforeReplace"] is True


@pytest.mark.spec("K-01")
def test_every_image_has_an_exact_version() -> None:
    images = of_type(planned("prod"), "RemoteImage")
    assert images
    for image in images:
        assert re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$", str(image.properties["name"])), image.properties["name"]


def test_only_the_proxy_is_reachable_from_other_machines() -> None:
    for item in of_type(planned("prod"), "Container"):
        ports: Any = item.properties.get("ports") or []
        if item.name != "haproxy-container":
            assert all(ipaddress.ip_address(port["ip"]).is_loopback for port in ports), item.name
    assert {port["external"] for port in container(planned("prod"), "haproxy")["ports"]} == {80, 443}


def test_networks_without_a_way_out_are_internal() -> None:
    for network in of_type(planned("dev"), "Network"):
        assert bool(network.properties.get("internal")) is (network.name.removesuffix("-network") in INTERNAL)


@pytest.mark.spec("CFG-03", "VLT-12")
@STACKS
def test_no_plain_environment_holds_a_secret(stack: str, built: bool) -> None:
    for item in of_type(planned(stack, built), "Container"):
        for entry in item.properties.get("envs") or []:  # pyright: ignore[reportGeneralTypeIssues]
            name, _, value = str(entry).partition("=")
            if re.search(r"PASSWORD|SECRET|TOKEN|_KEY$|_URL$", name):
                assert name.endswith("_FILE") or "@" not in value
                assert "password" not in value or value.startswith("/run/secrets/") or value in {"false", "true"}, (
                    item.name,
                    name,
                )


def test_data_outlives_its_container_and_is_protected_in_production() -> None:
    for stack, protected in (("dev", False), ("prod", True)):
        data = [volume for volume in of_type(planned(stack), "Volume") if "retainOnDelete" in volume.options]
        assert {volume.name for volume in data} >= {"postgres-data-volume", "redis-data-volume", "ollama-models-volume"}
        for volume in data:
            assert volume.options["retainOnDelete"] is True
            assert bool(volume.options.get("protect")) is protected


@pytest.mark.spec("OLL-06", "OLL-10", "BASE-01")
def test_a_graphics_card_is_passed_on_and_the_limits_hold() -> None:
    nvidia = container(variant("dev", accelerator="nvidia", ollama_gpu_count=2), "ollama")
    assert nvidia["deviceRequests"] == [{"capabilities": ["gpu"], "count": 2, "driver": "nvidia"}]
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in nvidia["envs"]
    chosen = container(variant("dev", accelerator="nvidia", ollama_gpu_device_ids=["0", "GPU-1"]), "ollama")
    assert chosen["deviceRequests"] == [{"capabilities": ["gpu"], "deviceIds": ["0", "GPU-1"], "driver": "nvidia"}]
    amd = variant("dev", accelerator="amd", ollama_gpu_group_ids=[44, 109])
    card = container(amd, "ollama")
    assert card["groupAdds"] == ["44", "109"]
    assert "deviceRequests" not in container(planned("dev"), "ollama"), (
        "a plan knows no machine, so auto is the processor"
    )
    assert [device["hostPath"] for device in card["devices"]] == ["/dev/kfd", "/dev/dri"]
    assert any("rocm" in str(image.properties["name"]) for image in of_type(amd, "RemoteImage"))
    for properties in (nvidia, card, container(planned("dev"), "ollama")):
        assert properties["shmSize"] == 2048
        assert properties["memory"] == 8192


@pytest.mark.spec("OLL-03", "OLL-06", "OLL-10")
def test_each_of_several_servers_has_its_own_graphics_card_and_all_have_the_same_models() -> None:
    values: dict[str, Any] = {
        "ollama_replicas": 3,
        "models": [{"name": "a", "warm": True, "replicas": 2}, {"name": "b"}],
    }
    names = ("ollama", "ollama-2", "ollama-3")

    def cards(**chosen: Any) -> list[Any]:
        plan = variant("dev", accelerator="nvidia", **chosen, **values)
        return [container(plan, name)["deviceRequests"][0]["deviceIds"] for name in (*names, "nvidia-exporter")]

    assert cards() == [["0"], ["1"], ["2"], ["0", "1", "2"]]
    assert cards(ollama_gpu_device_ids=["GPU-a", "3", "GPU-b"]) == [
        ["GPU-a"],
        ["3"],
        ["GPU-b"],
        ["GPU-a", "3", "GPU-b"],
    ]
    amd = variant("dev", accelerator="amd", **values)
    for number, name in enumerate(names):
        assert f"ROCR_VISIBLE_DEVICES={number}" in container(amd, name)["envs"]
        assert len(container(amd, name)["devices"]) == 2
    plan = variant("dev", **values)
    for name in names:
        found = container(plan, name)
        assert found["memory"] == 8192
        assert found["networksAdvanced"][0]["aliases"] == [name]
        (store,) = found["volumes"]
        assert (store["containerPath"], bool(store.get("readOnly"))) == ("/root/.ollama", name != "ollama")
    assert [container(plan, name)["command"] for name in names] == [["a", "-1s"], ["a", "-1s"], ["serve"]]
    one = container(variant("dev", accelerator="amd", ollama_gpu_device_ids=["1", "2"]), "ollama")
    assert "ROCR_VISIBLE_DEVICES=1,2" in one["envs"]


@pytest.mark.spec("OLL-02", "OLL-03", "OLL-05", "OLL-07")
def test_the_queue_knows_every_server_and_each_is_measured() -> None:
    plan = variant("dev", ollama_replicas=2, ollama_requests_in_flight=3, ollama_queue_length=7)
    proxy, telegraf = uploads(plan, "haproxy")["haproxy.cfg"], uploads(plan, "telegraf")["telegraf.conf"]
    for name in ("ollama", "ollama-2"):
        assert f"    server {name} {name}:11434 maxconn 3\n" in proxy
        assert f"    server {name} {name}:11434 no-check track ollama/{name}\n" in proxy
        assert f"/api/ps?server={name}" in telegraf
    assert "queue(ollama) ge 7" in proxy
    assert "ollama-2" not in uploads(planned("dev"), "haproxy")["haproxy.cfg"]


@pytest.mark.spec("OLL-01")
def test_the_queue_knows_how_long_models_stay_in_memory() -> None:
    models = [{"name": "a", "warm": True}, {"name": "x/b:1", "keep_alive": "90"}, {"name": "c"}]
    files = uploads(variant("dev", models=models), "haproxy")
    assert files["keep-alive"] == "a:latest -1s\nx/b:1 90s\n"
    assert "at-least" in files["haproxy.cfg"]
    assert "at-least" not in uploads(planned("dev"), "haproxy")["haproxy.cfg"], "a request waits for nothing"


def test_ports_that_the_proxy_needs_for_itself_cannot_be_public_ones() -> None:
    text = uploads(planned("dev"), "haproxy")["haproxy.cfg"]
    public = {parse({}).http_port, parse({}).https_port}
    assert {int(port) for port in re.findall(r"bind \S*:(\d+)", text)} - public == set(PROXY_PORTS)


@pytest.mark.spec("RED-08")
def test_answers_are_kept_unless_the_settings_forbid_it_and_no_longer_than_their_models() -> None:
    def configuration(**changed: Any) -> str:
        return uploads(variant("dev", **changed), "haproxy")["haproxy.cfg"]

    def models(configuration: str) -> str:
        return next(line.split()[-1] for line in configuration.splitlines() if "answers.lua" in line)

    kept = configuration(ollama_queue_length=8)
    assert "lua.find-answer" in kept
    assert "lua.find-answer" not in configuration(ollama_kept_answer_minutes=0)
    one, other = ([{"name": "a", "temperature": temperature}] for temperature in (0.1, 0.2))
    assert models(configuration(models=one)) != models(configuration(models=other))
    assert models(configuration(ollama_queue_length=7)) == models(kept)


def test_embedding_models_are_not_offered_in_the_chat() -> None:
    chat = container(planned("prod"), "open-webui")["envs"]
    assert 'OLLAMA_API_CONFIGS={"0": {"enable": true, "model_ids": ["llama3.2:latest", "deepseek-r1:14b"]}}' in chat
    assert "RAG_EMBEDDING_MODEL=nomic-embed-text:latest" in chat
    assert "RAG_EMBEDDING_MODEL=llama3.2:latest" in container(planned("dev"), "open-webui")["envs"]


@pytest.mark.spec("K-09", "OLL-08")
def test_models_are_fetched_once_each_after_the_server_is_ready() -> None:
    plan = planned("prod")
    jobs = [item for item in of_type(plan, "Container") if item.name.startswith("model-")]
    assert {job.name for job in jobs} == {
        "model-llama3-2-container",
        "model-deepseek-r1-14b-container",
        "model-nomic-embed-text-container",
    }
    for job in jobs:
        assert any(urn.endswith("::ollama-container") for urn in job.dependencies)
        assert job.properties["mustRun"] is False
        assert job.properties["attach"] is True


@pytest.mark.spec("SSO-14", "SSO-15", "SSO-16", "SSO-17", "TLS-12")
def test_clients_use_the_code_flow_with_pkce_and_exact_addresses() -> None:
    plan = planned("prod")
    clients = of_type(plan, "Client")
    assert "open-webui" in [client.properties["clientId"] for client in clients]
    for client in clients:
        properties: Any = client.properties
        assert properties["accessType"] == "CONFIDENTIAL"
        assert properties["pkceCodeChallengeMethod"] == "S256"
        assert properties["directAccessGrantsEnabled"] is False
        assert properties["implicitFlowEnabled"] is False
        for address in properties["validRedirectUris"]:
            # A command line waits on the person's own machine.
            assert address.startswith("https://") or address == "http://localhost:8250/oidc/callback"
            assert "*" not in address
    names = {str(role.properties["name"]) for role in of_type(plan, "Role")}
    assert {"admin", "editor", "viewer"} <= names


@pytest.mark.spec("SSO-05", "SSO-20")
def test_the_table_of_people_roles_and_services_is_current() -> None:
    assert access.FILE.read_text(encoding="utf-8") == access.document(), "run: python -m components.identity.access"
    for row in (
        "| Open WebUI | `chat.<domain>` | admin | user | user |",
        "| Prometheus: measurements | `metrics.<domain>` | may enter | refused | refused |",
        "| `open-webui` | `chat.<domain>/oauth/oidc/callback` | `chat.<domain>/oauth/backchannel-logout` |",
        "| test | edith | edith@example.org | editor |",
    ):
        assert row in access.document()


@pytest.mark.spec("SEC-05", "SEC-08")
def test_who_needs_a_second_factor_follows_the_setting() -> None:
    def demanded(**values: Any) -> list[str]:
        steps = of_type(variant("dev", keycloak_realm="aikit", **values), "Execution")
        return [
            str(step.properties["authenticator"])
            for step in steps
            if step.properties["parentFlowAlias"] == "aikit-browser-enrolment"
        ]

    conditions = ["conditional-sub-flow-executed", "conditional-credential"]
    assert demanded(keycloak_multi_factor="optional") == []
    assert sorted(demanded(keycloak_multi_factor="everyone")) == sorted([*conditions, "auth-otp-form"])
    admins = [*conditions, "conditional-user-role", "auth-otp-form"]
    assert sorted(demanded(keycloak_multi_factor="admins")) == sorted(admins)
    # Nothing but the settings file makes production strict, so it must.
    assert load("prod").keycloak.multi_factor == "admins"


@pytest.mark.spec("SEC-08")
def test_rules_for_passwords_and_sessions_follow_the_settings() -> None:
    plan = variant(
        "dev",
        keycloak_password_length=15,
        keycloak_password_history=0,
        keycloak_login_wait_minutes=7,
        keycloak_sessions_per_person=0,
        keycloak_session_max_hours=3,
        keycloak_session_idle_minutes=40,
        keycloak_access_token_minutes=4,
        keycloak_passkeys=False,
    )
    (made,) = of_type(plan, "Realm")
    properties: Any = made.properties
    assert properties["passwordPolicy"] == "length(15) and notUsername and notEmail"
    assert properties["securityDefenses"]["bruteForceDetection"]["maxFailureWaitSeconds"] == 420
    assert properties["webAuthnPasswordlessPolicy"]["passwordlessPasskeysEnabled"] is False
    lifetimes = ("ssoSessionIdleTimeout", "ssoSessionMaxLifespan", "accessTokenLifespan")
    assert [properties[name] for name in lifetimes] == ["40m0s", "3h0m0s", "4m0s"]
    assert not [
        step for step in of_type(plan, "Execution") if step.properties["authenticator"] == "user-session-limits"
    ]
    actions = {item.properties["alias"]: item.properties["enabled"] for item in of_type(plan, "RequiredAction")}
    assert actions["webauthn-register-passwordless"] is False
    # The chat's own token ends with the session.
    assert "JWT_EXPIRES_IN=3h" in container(plan, "open-webui")["envs"]


@pytest.mark.spec("SSO-21")
@pytest.mark.parametrize(
    ("addresses", "wrong"),
    [
        ({"redirect_paths": ("/*",)}, "redirect_paths has '/\\*'"),
        ({"redirect_paths": ("https://evil.example/",)}, "redirect_paths has 'https"),
        ({"redirect_paths": ("/a",), "local_redirects": ("http://evil.example:1/",)}, "local_redirects has"),
        ({"redirect_paths": ("/a",), "local_redirects": ("http://localhost.evil.example:1/",)}, "local_redirects has"),
    ],
)
def test_a_client_whose_people_could_be_sent_anywhere_is_refused(addresses: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=f"client own: {wrong}"):
        OidcClient(client_id="own", title="Own", host="own", roles={}, **addresses)


@pytest.mark.spec("TLS-04", "TLS-06")
def test_the_certificate_names_every_public_host() -> None:
    plan = planned("prod")
    request = next(item for item in of_type(plan, "CertRequest") if item.name == "certificate-request")
    hosts: Any = request.properties["dnsNames"]
    assert {"ai.example.org", "chat.ai.example.org", "auth.ai.example.org"} <= set(hosts)
    for leaf in of_type(plan, "LocallySignedCert"):
        if leaf.properties.get("isCaCertificate"):
            continue
        assert leaf.properties["validityPeriodHours"] == 90 * 24
        assert leaf.properties["earlyRenewalHours"] == 30 * 24


def own_certificate(folder: Path, *names: str, days: int = 90, begin: int = -1) -> dict[str, Any]:
    """Make a certificate of someone's own, and return the settings that name its files."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + datetime.timedelta(days=begin))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "chain.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return {
        "certificates_source": "files",
        "certificates_certificate_file": str(folder / "chain.pem"),
        "certificates_key_file": str(folder / "key.pem"),
    }


@pytest.mark.spec("TLS-06")
def test_own_certificate_files_take_the_place_of_the_generated_ones(tmp_path: Path) -> None:
    plan = variant("dev", **own_certificate(tmp_path, "*.localhost"))
    assert "certificate" not in {item.name for item in of_type(plan, "LocallySignedCert")}, (
        "only those for inside are made"
    )


@pytest.mark.spec("TLS-06", "OPS-02")
def test_an_own_certificate_that_the_proxy_could_not_use_is_refused_before(tmp_path: Path) -> None:
    good = own_certificate(tmp_path, "*.localhost")

    def refused(**values: Any) -> str:
        with pytest.raises(SettingsError) as caught:
            variant("dev", **{**good, **values})
        return str(caught.value)

    own_certificate(tmp_path, "chat.localhost", "*.example.org")
    said = refused()
    assert "which is for *.example.org, chat.localhost, but not for" in said
    assert "auth.localhost" in said
    assert "chat.localhost," not in said.partition("but not for")[2]
    own_certificate(tmp_path, "*.localhost", days=-1, begin=-9)
    assert "and not now" in refused()
    other = tmp_path / "other"
    other.mkdir()
    own_certificate(other, "*.localhost")
    assert "is for another key" in refused(certificates_key_file=str(other / "key.pem"))
    (tmp_path / "chain.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert "which has no certificate in PEM" in refused()
    own_certificate(tmp_path, "*.localhost")
    (tmp_path / "key.pem").write_text("no key")
    assert "which has no private key in PEM without a passphrase" in refused()
    assert "cannot be read as PEM" in refused(certificates_key_file=str(tmp_path / "none.pem"))


@pytest.mark.spec("TLS-06")
def test_a_long_domain_has_a_certificate() -> None:
    """A common name has 64 characters at most; which hosts it is for stands elsewhere."""
    domain = f"{'a' * 40}.{'b' * 40}.example.org"
    (request,) = [
        item for item in of_type(variant("dev", domain=domain), "CertRequest") if item.name == "certificate-request"
    ]
    assert request.properties["subject"] == {"commonName": "AI Kit"}
    assert f"chat.{domain}" in cast("list[str]", request.properties["dnsNames"])
    (request,) = [item for item in of_type(planned("dev"), "CertRequest") if item.name == "certificate-request"]
    assert request.properties["subject"] == {"commonName": "localhost"}


@pytest.mark.spec("HAP-01", "HAP-02", "HAP-06", "TLS-07")
def test_the_proxys_configuration_follows_the_settings() -> None:
    plan = variant("dev", edge_requests_per_10_seconds=42, ollama_requests_in_flight=3, edge_hsts_days=1)
    files = next(item for item in of_type(plan, "Container") if item.name == "haproxy-files")
    carried: Any = files.properties["uploads"]
    text = next(item["content"] for item in carried if item["file"].endswith("haproxy.cfg"))
    checks = "check inter 3s fastinter 1s fall 3 rise 2 init-addr none resolvers docker"
    for expected in (checks, "gt 42", "maxconn 3", "max-age=86400", "ssl-min-ver TLSv1.2"):
        assert expected in text
    assert "sc_http_req_rate(0) gt 100\n" in uploads(planned("prod"), "haproxy")["haproxy.cfg"]


def uploads(plan: Plan, service: str) -> dict[str, str]:
    """Return the files of a service's container by their path below ``/etc/aikit``."""
    carrier: Any = next(item for item in of_type(plan, "Container") if item.name == f"{service}-files").properties
    return {item["file"].removeprefix("/etc/aikit/"): item["content"] for item in carrier["uploads"]}


def secret_files(plan: Plan, name: str) -> dict[str, str]:
    """Return the template of each secret file of a container, by the file's name."""
    agents = "".join(uploads(plan, agent)["agent.hcl"] for agent in names.AGENTS)
    found = re.findall(rf'destination += "/secrets/{name}/([^"]+)"\n.*\n.*\n +contents += (".*")', agents)
    return {file: json.loads(contents) for file, contents in found}


def kept_files(plan: Plan, name: str) -> str:
    """Return what the plan shows of a container's secrets: of which generated ones they are made."""
    (entry,) = (item for item in of_type(plan, "SecretV2") if item.properties["name"] == f"files/{name}")
    return str(entry.properties["dataJson"])


@STACKS
def test_pages_without_a_sign_in_are_reached_through_one(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    proxy, guard = uploads(plan, "haproxy")["haproxy.cfg"], uploads(plan, "sign-in-proxy")
    clients: Any = {client.properties["clientId"]: client.properties for client in of_type(plan, "Client")}
    for label, upstream in (("metrics", "prometheus:9090"), ("alerts", "alertmanager:9093")):
        backend = proxy.partition(f"backend {label}\n")[2].partition("\nbackend")[0]
        assert "server sign-in-proxy sign-in-proxy:8080" in backend
        assert upstream not in proxy
        host = guard["apache2.conf"].partition(f"ServerName {label}.")[2].partition("</VirtualHost>")[0]
        assert f"ProxyPass / http://{upstream}/" in host
        assert "Require claim roles:access" in host
        (redirect,) = clients[label]["validRedirectUris"]
        assert f"OIDCRedirectURI {redirect}\n" in host
    assert "OIDCPKCEMethod S256" in guard["apache2.conf"]
    # Whoever has the role may pass.
    granted = [role for role in of_type(plan, "Role") if role.properties["name"] == "access"]
    composites: Any = {role.name: role.properties.get("compositeRoles") or [] for role in of_type(plan, "Role")}
    holders = {
        role.name: {name for name, contained in composites.items() if any(role.name in each for each in contained)}
        for role in granted
    }
    assert holders == {
        "client-metrics-role-access": {"role-admin"},
        "client-alerts-role-access": {"role-admin"},
        "client-n8n-role-access": {"role-admin", "role-editor"},
        "client-api-role-access": {"role-admin", "role-editor", "role-viewer"},
    }


def test_programs_get_tokens_for_the_api_and_nothing_else() -> None:
    plan = variant("dev", programs=("reports",))
    client = next(item for item in of_type(plan, "Client") if item.name == "client-program-reports").properties
    assert client["serviceAccountsEnabled"] is True
    assert (client["standardFlowEnabled"], client["directAccessGrantsEnabled"]) == (False, False)
    (audience,) = (item for item in of_type(plan, "AudienceProtocolMapper") if item.name.startswith("client-program-"))
    assert audience.properties["includedClientAudience"] == "api"
    (role,) = of_type(plan, "ClientServiceAccountRole")
    assert role.properties["role"] == "access"
    assert any(needed.endswith("::client-api-role-access") for needed in role.dependencies)
    guard = uploads(plan, "sign-in-proxy")["apache2.conf"]
    host = guard.partition("ServerName api.")[2].partition("</VirtualHost>")[0]
    assert "Require claim aud:api" in host
    assert guard.count("AuthType auth-openidc") == 1, "a program's token opens another host, too"


def test_a_small_model_stands_in_for_those_of_a_library_out_of_reach() -> None:
    small = OllamaModel.model_validate({"name": "small", "file": "small.gguf"})
    machine = Machine(small_model=small)

    def jobs(*models: dict[str, Any]) -> set[str]:
        plan = variant("dev", machine, models=list(models))
        return {
            item.name.removesuffix("-container")
            for item in of_type(plan, "Container")
            if item.name.startswith("model-")
        }

    by_name: dict[str, Any] = {"name": "llama3.2"}
    searching: dict[str, Any] = {"name": "nomic", "file": "nomic.gguf", "purpose": "embedding"}
    assert jobs(by_name) == {"model-small"}
    assert jobs(by_name, searching) == {"model-small", "model-nomic"}
    assert jobs(by_name, {"name": "own", "file": "own.gguf"}) == {"model-own"}


def test_what_a_machine_cannot_have_is_left_out_and_named() -> None:
    reason = "its image cannot be built from package registries"
    assert left_out(parse({}), BUILT) == {"grafana": reason, "qdrant": reason}
    assert left_out(parse({}), Machine()) == {}
    assert left_out(parse({"grafana-deploy": "off", "qdrant-deploy": "off"}), BUILT) == {}
    with pytest.raises(SettingsError, match="grafana-deploy is on, but images are built on this machine"):
        left_out(parse({"grafana-deploy": "on"}), BUILT)
    for values, machine, there in (
        ({}, Machine(), True),
        ({}, BUILT, False),
        ({"grafana-deploy": "off"}, Machine(), False),
    ):
        assert ("grafana" in {service.name for service in deployed(parse(values), machine)}) is there


@pytest.mark.spec("SSO-03", "SSO-21", "TLS-13", "CFG-05")
def test_grafana_knows_people_by_keycloak_alone_and_their_roles() -> None:
    plan = planned("prod")
    files = uploads(plan, "grafana")
    configuration = configparser.RawConfigParser()
    configuration.read_string(files["grafana.ini"])
    login = configuration["auth.generic_oauth"]
    assert configuration["server"]["root_url"] == "https://grafana.ai.example.org/"
    assert configuration["auth"]["disable_login_form"] == "true"
    assert configuration["auth.basic"]["enabled"] == configuration["auth.anonymous"]["enabled"] == "false"
    assert configuration["security"]["disable_initial_admin_creation"] == "true"
    assert login["use_pkce"] == login["role_attribute_strict"] == "true"
    assert login["auth_url"].startswith("https://auth.ai.example.org/realms/aikit/")
    assert login["role_attribute_path"] == (
        "contains(roles[*], 'admin') && 'GrafanaAdmin' || contains(roles[*], 'editor') && 'Editor'"
        " || contains(roles[*], 'viewer') && 'Viewer'"
    )
    for section, key in (("database", "password"), ("auth.generic_oauth", "client_secret"), ("security", "secret_key")):
        assert re.fullmatch(r"\$__file\{/run/secrets/[a-z-]+\}", configuration[section][key])
    sources = yaml.safe_load(files["provisioning/datasources/aikit.yaml"])["datasources"]
    assert {source["type"]: source["url"] for source in sources} == {
        "prometheus": "http://prometheus:9090",
        "alertmanager": "http://alertmanager:9093",
    }
    assert (
        "deny_status 404 if { path /metrics }"
        in uploads(plan, "haproxy")["haproxy.cfg"].partition("backend grafana")[2]
    )


@pytest.mark.spec("ALR-13", "ALR-14", "DSH-02")
def test_graphics_cards_are_measured_where_nvidia_made_them() -> None:
    assert not any("nvidia-exporter" in item.name for item in of_type(planned("dev"), "Container"))
    plan = variant("dev", accelerator="nvidia", ollama_gpu_count=1)
    assert container(plan, "nvidia-exporter")["deviceRequests"] == container(plan, "ollama")["deviceRequests"]
    assert "nvidia-exporter:9400" in uploads(plan, "prometheus")["prometheus.yml"]
    assert "DCGM_FI_DEV_GPU_UTIL" in uploads(plan, "grafana")["dashboards/gpu-cpu-performance.json"]
    assert "DCGM" not in "".join(uploads(planned("dev"), "grafana").values())


def test_a_service_is_one_file_and_one_line() -> None:
    for service in SERVICES:
        assert service.__module__.startswith(f"components.{service.area}.")
    assert len({service.name for service in SERVICES}) == len(SERVICES)


OIC_AUTH = frozenset(
    (
        *(
            "clientId",
            "clientSecret",
            "serverConfiguration",
            "disableSslVerification",
            "userIdStrategy",
            "groupIdStrategy",
        ),
        *(
            "userNameField",
            "fullNameFieldName",
            "emailFieldName",
            "groupsFieldName",
            "properties",
            "rootURLFromRequest",
        ),
        *("tokenFieldToCheckKey", "tokenFieldToCheckValue", "logoutFromOpenidProvider", "postLogoutRedirectUrl"),
        *("sendScopesInTokenRequest", "tokenExpirationCheckDisabled", "allowTokenAccessWithoutOicSession"),
    )
)
"""What Configuration as Code may say of ``securityRealm.oic``: parameters and setters of OicSecurityRealm in oic-auth."""

ROLE_STRATEGY = frozenset({"name", "description", "pattern", "permissions", "entries", "templateName"})
"""The same of a role: RoleDefinition in role-strategy."""


@pytest.mark.spec("SSO-11", "SSO-12", "SSO-13", "SSO-23")
def test_jenkins_is_configured_as_code_and_its_viewers_change_nothing() -> None:
    assert "jenkins-container" not in {item.name for item in of_type(planned("prod"), "Container")}
    with pytest.raises(SettingsError, match="jenkins-deploy is true"):
        left_out(parse({"jenkins-deploy": True}), BUILT)
    plan = variant("dev", jenkins_deploy=True)
    files = uploads(plan, "jenkins")
    code = yaml.safe_load(files["jenkins.yaml"])["jenkins"]
    login = code["securityRealm"]["oic"]
    assert login["clientSecret"] == "${client-secret}"
    assert set(secret_files(plan, "jenkins")) == {"client-secret"}
    (client,) = (item.properties for item in of_type(plan, "Client") if item.properties["clientId"] == "jenkins")
    assert str(client["clientSecret"]) in kept_files(plan, "jenkins"), "Keycloak's and Jenkins' are the same"
    discovery = login["serverConfiguration"]["wellKnown"]["wellKnownOpenIDConfigurationUrl"]
    assert discovery == "https://auth.localhost/realms/aikit/.well-known/openid-configuration"
    assert login["properties"] == ["pkce"]
    assert (login["groupsFieldName"], login["disableSslVerification"]) == ("roles", False)
    roles = {role["name"]: role for role in code["authorizationStrategy"]["roleBased"]["roles"]["global"]}
    assert {name: role["entries"] for name, role in roles.items()} == {
        name: [{"group": name}] for name in ("admin", "editor", "viewer")
    }
    assert {right.rpartition("/")[2] for right in roles["viewer"]["permissions"]} == {"Read"}
    assert "Job/Build" in roles["editor"]["permissions"]
    assert not {right for right in roles["editor"]["permissions"] if right.startswith(("Overall/Admin", "Credentials"))}
    assert roles["admin"]["permissions"] == ["Overall/Administer"]
    # Names that the plugins bind (their sources of July 2026): one that they do not know would end Jenkins' start.
    assert login.keys() <= OIC_AUTH
    assert login["serverConfiguration"]["wellKnown"].keys() == {"wellKnownOpenIDConfigurationUrl", "scopesOverride"}
    assert all(role.keys() <= ROLE_STRATEGY for role in roles.values())
    assert code["numExecutors"] == 0
    assert all(re.fullmatch(r"[a-z-]+:[0-9][\w.-]+", line) for line in files["plugins.txt"].split())
    made = container(plan, "jenkins")
    assert not made.get("ports")
    assert "docker.sock" not in str(made)
    (client,) = [item for item in of_type(plan, "Client") if item.properties["clientId"] == "jenkins"]
    assert client.properties["validRedirectUris"] == ["https://jenkins.localhost/securityRealm/finishLogin"]
    assert client.properties["pkceCodeChallengeMethod"] == "S256"
    assert any("https://jenkins.localhost" in text for text in uploads(plan, "prometheus").values())


@pytest.mark.spec("BASE-06", "K-07")
def test_qdrant_is_reached_by_those_that_need_it_with_its_key() -> None:
    plan = planned("dev")
    assert container(plan, "open-webui")["envs"].count("VECTOR_DB=pgvector") == 1
    assert "-vectors" not in str(container(plan, "open-webui")["networksAdvanced"])
    assert {each["name"] for each in container(plan, "qdrant")["networksAdvanced"]} == {
        "aikit-dev-vectors",
        "aikit-dev-observability",
    }
    assert "API_KEY" not in str(container(plan, "qdrant")["envs"])
    (job,) = [
        job
        for job in yaml.safe_load(uploads(plan, "prometheus")["prometheus.yml"])["scrape_configs"]
        if job["job_name"] == "qdrant"
    ]
    assert job["authorization"]["credentials_file"] == "/run/secrets/qdrant-api-key"
    assert "qdrant-api-key" in secret_files(plan, "prometheus")
    used = variant("dev", chat_vectors="qdrant")
    chat = container(used, "open-webui")
    assert {"VECTOR_DB=qdrant", "QDRANT_URI=http://qdrant:6333"} <= set(chat["envs"])
    assert "aikit-dev-vectors" in {each["name"] for each in chat["networksAdvanced"]}
    for values in ({"qdrant-deploy": "on"}, {"chat-vectors": "qdrant"}):
        with pytest.raises(SettingsError, match=f"{next(iter(values))} is .*images are built"):
            left_out(parse(values), BUILT)
    with pytest.raises(SettingsError, match="chat-vectors is qdrant, but qdrant-deploy is off"):
        parse({"chat-vectors": "qdrant", "qdrant-deploy": "off"})


@STACKS
def test_what_others_wait_for_gets_the_processors_first(stack: str, built: bool) -> None:
    plan = planned(stack, built)
    weights = {
        str(item.properties["name"]).partition(f"aikit-{stack}-")[2]: item.properties.get("cpuShares")
        for item in of_type(plan, "Container")
    }
    first = {"vault", *names.AGENTS, "postgres", "keycloak"}
    assert {name for name, weight in weights.items() if weight} == first
    assert all(weights[name] == 4096 for name in first)
