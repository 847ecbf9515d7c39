"""Each policy against resources that keep to it, break it, and do not tell yet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from policies.catalogue import BY_ID, POLICIES
from policies.check import findings
from policies.containers import CONTAINER, REMOTE_IMAGE, haproxy_tls, secret_name, split_image
from policies.identity import CLIENT, EXECUTION, REALM, VAULT_AUDIT, VAULT_POLICY, VAULT_ROLE, VAULT_SIGN_IN
from policies.infrastructure import LOCALLY_SIGNED, NETWORK, PRIVATE_KEY, SELF_SIGNED, VOLUME
from policies.model import Environment, Subject, environment_of
from policies.values import UNKNOWN, seconds, unknown

pytestmark = pytest.mark.spec("K-01", "SEC-04")

REFERENCE = "${other.result}"
MASKED = "[secret 0123456789ab of ${other.result}]"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a policy must say about a resource."""

    policy: str
    type: str = CONTAINER
    good: tuple[Mapping[str, Any], ...]
    bad: tuple[Mapping[str, Any], ...]
    unknown: tuple[Mapping[str, Any], ...] = ()
    name: str = "thing"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


def upload(text: str) -> dict[str, Any]:
    """Return a container that carries HAProxy's configuration."""
    return {"start": False, "uploads": [{"file": "/etc/aikit/haproxy.cfg", "content": text}]}


CASES = (
    Case(
        policy="image-version",
        good=(
            {"image": "docker.io/library/redis:8.0.2"},
            {"image": "quay.io/keycloak/keycloak:26.7.3@sha256:" + "0" * 64},
            {"image": "redis@sha256:" + "0" * 64},
            {"image": "${redis-image.imageId}"},
            {"image": "sha256:" + "0" * 64},
            {"image": "localhost:5000/thing:1.2"},
        ),
        bad=(
            {},
            {"image": "redis"},
            {"image": "redis:latest"},
            {"image": "redis:alpine"},
            {"image": "localhost:5000/thing"},
            {"image": "redis:stable", "start": False},
        ),
        unknown=({"image": "redis:${version.result}"}, {"image": UNKNOWN}),
    ),
    Case(
        policy="image-version",
        type=REMOTE_IMAGE,
        good=({"name": "docker.io/library/redis:8.0.2"},),
        bad=({"name": "docker.io/library/redis"}, {"name": "redis:latest"}),
        unknown=({"name": UNKNOWN},),
    ),
    Case(
        policy="image-digest",
        good=(
            {"image": "redis:8.0.2@sha256:" + "0" * 64},
            {"image": "aikit/redis:8.0.2-abcdef"},
            {"image": "${redis-image.repoDigest}"},
        ),
        bad=({"image": "redis:8.0.2"},),
        unknown=({"image": UNKNOWN},),
    ),
    Case(
        policy="image-registry",
        good=({"image": "redis:8"}, {"image": "ghcr.io/a/b:1"}, {"image": "aikit/redis:1-a"}),
        bad=({"image": "registry.example.org/redis:8"}, {"image": "localhost:5000/redis:8"}),
        unknown=({"image": UNKNOWN},),
    ),
    Case(
        policy="no-privileged",
        good=({}, {"privileged": False}),
        bad=({"privileged": True},),
        unknown=({"privileged": UNKNOWN},),
    ),
    Case(
        policy="no-host-network",
        good=({}, {"networkMode": "none"}),
        bad=({"networkMode": "host"},),
        unknown=({"networkMode": REFERENCE},),
    ),
    Case(
        policy="no-default-bridge",
        good=(
            {"networksAdvanced": [{"name": "data"}]},
            {"networkMode": "none"},
            {"start": False},
            {"networkMode": REFERENCE},
        ),
        bad=({}, {"networkMode": "bridge"}),
    ),
    Case(
        policy="no-host-namespaces",
        good=({}, {"pidMode": "", "ipcMode": "private"}),
        bad=({"pidMode": "host"}, {"ipcMode": "host"}, {"usernsMode": "host"}, {"cgroupnsMode": "host"}),
        unknown=({"pidMode": UNKNOWN},),
    ),
    Case(
        policy="no-engine-socket",
        good=({"volumes": [{"volumeName": "data", "containerPath": "/data"}]},),
        bad=(
            {
                "volumes": [
                    {"hostPath": "/var/run/docker.sock", "containerPath": "/var/run/docker.sock", "readOnly": True}
                ]
            },
            {"mounts": [{"type": "bind", "source": "/run/docker.sock", "target": "/s"}]},
            {"volumes": [{"hostPath": "/var/run/", "containerPath": "/s"}]},
            {"volumes": [{"hostPath": "/home/me/.docker/run/docker.sock", "containerPath": "/s"}], "start": False},
        ),
    ),
    Case(
        policy="no-host-folders",
        good=(
            {"volumes": [{"hostPath": "/srv/models", "containerPath": "/models"}]},
            {"volumes": [{"volumeName": "data"}]},
        ),
        bad=(
            {"volumes": [{"hostPath": "/etc", "containerPath": "/e"}]},
            {"volumes": [{"hostPath": "/", "containerPath": "/host", "readOnly": True}]},
            *(
                {"volumes": [{"hostPath": path, "containerPath": "/h"}]}
                for path in ("/var", "//etc", "/srv/../etc/ssl")
            ),
            {"mounts": [{"type": "bind", "source": "/proc/1/", "target": "/p"}]},
        ),
        unknown=({"volumes": [{"hostPath": REFERENCE}]},),
    ),
    Case(
        policy="no-host-devices",
        good=({},),
        bad=({"devices": [{"hostPath": "/dev/kfd"}]},),
        unknown=({"devices": [{"hostPath": UNKNOWN}]},),
    ),
    Case(
        policy="capabilities",
        good=(
            {"capabilities": {"drops": ["ALL"]}},
            {"capabilities": {"drops": ["CAP_ALL"], "adds": []}},
            {"start": False},
        ),
        bad=(
            {},
            {"capabilities": {"drops": ["NET_RAW"]}},
            {"capabilities": {"drops": ["ALL"], "adds": ["CAP_SYS_ADMIN"]}},
        ),
        unknown=({"capabilities": UNKNOWN}, {"capabilities": {"drops": ["ALL"], "adds": [UNKNOWN]}}),
    ),
    Case(
        policy="read-only-root",
        good=({"readOnly": True},),
        bad=({}, {"readOnly": False}),
        unknown=({"readOnly": UNKNOWN},),
    ),
    Case(
        policy="no-new-privileges",
        good=({"securityOpts": ["no-new-privileges:true"]}, {"securityOpts": ["no-new-privileges"]}),
        bad=({}, {"securityOpts": ["no-new-privileges:false"]}),
        unknown=({"securityOpts": [UNKNOWN]}, {"securityOpts": UNKNOWN}),
    ),
    Case(
        policy="security-profiles",
        good=({}, {"securityOpts": ["no-new-privileges:true"]}),
        bad=(
            {"securityOpts": ["seccomp=unconfined"]},
            {"securityOpts": ["apparmor:unconfined"]},
            {"securityOpts": ["label:disable"]},
        ),
    ),
    Case(
        policy="memory-limit",
        good=({"memory": 256, "memorySwap": 256},),
        bad=({}, {"memory": 0, "memorySwap": 0}, {"memory": 256}, {"memory": 256, "memorySwap": -1}),
        unknown=({"memory": UNKNOWN},),
    ),
    Case(
        policy="cpu-limit",
        good=({"cpus": "1.5"}, {"cpuPeriod": 100000, "cpuQuota": 200000}),
        bad=({}, {"cpus": "0"}, {"cpuQuota": -1}),
        unknown=({"cpus": UNKNOWN},),
    ),
    Case(
        policy="process-limit",
        good=({"ulimits": [{"name": "nproc", "soft": 100, "hard": 100}]},),
        bad=(
            {},
            {"ulimits": [{"name": "nofile", "soft": 1, "hard": 1}]},
            {"ulimits": [{"name": "nproc", "soft": -1, "hard": -1}]},
        ),
        unknown=({"ulimits": [{"name": "nproc", "hard": UNKNOWN}]}, {"ulimits": UNKNOWN}),
    ),
    Case(
        policy="health-check",
        good=({"healthcheck": {"tests": ["CMD", "true"]}}, {"mustRun": False}, {"start": False}),
        bad=({}, {"healthcheck": {"tests": ["NONE"]}}),
        unknown=({"healthcheck": UNKNOWN},),
    ),
    Case(
        policy="restart-policy",
        good=({"restart": "unless-stopped"}, {"restart": "on-failure"}, {"restart": "no", "mustRun": False}),
        bad=({}, {"restart": "no"}),
        unknown=({"restart": UNKNOWN},),
    ),
    Case(
        policy="published-ports",
        good=(
            {"ports": [{"internal": 80, "external": 80, "ip": "127.0.0.1"}]},
            {"ports": [{"internal": 80, "external": 80, "ip": "::1"}]},
            {"ports": [{"internal": 443, "external": 443}], "labels": [{"label": "aikit.service", "value": "haproxy"}]},
        ),
        bad=(
            {"ports": [{"internal": 5432, "external": 5432}]},
            {"ports": [{"internal": 5432, "external": 5432, "ip": "0.0.0.0"}]},  # noqa: S104  # what is to be found
            {"ports": [{"internal": 5432, "external": 5432, "ip": "192.0.2.1"}]},
            {"publishAllPorts": True},
        ),
        unknown=({"ports": [{"internal": 1, "ip": REFERENCE}]},),
    ),
    Case(
        policy="no-plain-secrets",
        good=(
            {"envs": ["POSTGRES_PASSWORD_FILE=/etc/aikit/password"]},
            {
                "envs": [
                    "HOME=/tmp",
                    "TOKEN_LIFESPAN=300",
                    "PASSWORD_LENGTH=12",
                    "ENABLE_API_KEY=false",
                    "TLS_KEY=/etc/aikit/key.pem",
                ]
            },
            {"envs": ["DATABASE_URL=postgresql://keycloak@postgres/keycloak"]},
        ),
        bad=(
            {"envs": ["POSTGRES_PASSWORD=hunter2"]},
            {"envs": ["apiToken=abcdef"]},
            {"envs": ["N8N_ENCRYPTION_KEY=xyzxyzxyz"]},
            {"envs": ["DATABASE_URL=postgresql://keycloak:hunter2@postgres/keycloak"]},
            {"envs": [MASKED]},
            {"envs": ["[secret]"]},
            {"command": ["redis-server", "--requirepass", MASKED]},
            {"command": ["redis-server", "--requirepass", "${redis-password.result}"]},
            {"envs": ["ANYTHING=${redis-password.result}"]},
            *({"envs": [f"{name}=hunter2"]} for name in ("PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH")),
            {"start": False, "envs": ["CLIENT_SECRET=hunter2"]},
        ),
        unknown=({"envs": ["SOME_TOKEN=${other.address}"]},),
    ),
    Case(
        policy="secrets-in-memory",
        good=(
            {"start": False, "uploads": [{"file": "/etc/aikit/a.conf", "content": "password file: /run/secrets/a"}]},
            {"start": False, "uploads": [{"file": "/etc/aikit/a.pem", "content": "${authority.certPem}"}]},
            {"envs": ["A=B"]},
        ),
        bad=(
            {"start": False, "uploads": [{"file": "/etc/aikit/password", "content": "${redis-password.result}"}]},
            {"start": False, "uploads": [{"file": "/etc/aikit/key.pem", "content": "${key.privateKeyPem}"}]},
            {"start": False, "uploads": [{"file": "/etc/aikit/a.conf", "content": MASKED}]},
            {"uploads": [{"file": "/webhook", "content": "[secret]"}]},
        ),
        unknown=({"start": False, "uploads": [{"file": "/etc/aikit/a.conf", "content": UNKNOWN}]},),
    ),
    Case(
        policy="log-rotation",
        good=(
            {"logDriver": "json-file", "logOpts": {"max-size": "10m", "max-file": "3"}},
            {"logDriver": "journald"},
            {"logDriver": "local"},
        ),
        bad=({}, {"logOpts": {"max-size": "10m"}}, {"logDriver": "json-file", "logOpts": {"max-file": "3"}}),
        unknown=({"logOpts": UNKNOWN},),
    ),
    Case(
        policy="tls-version",
        good=(
            upload("global\n  ssl-default-bind-options ssl-min-ver TLSv1.2\nfrontend f\n  bind :443 ssl crt x"),
            upload("frontend f\n  bind :443 ssl crt x ssl-min-ver TLSv1.3"),
            upload("frontend f\n  bind :80"),
        ),
        bad=(
            upload("frontend f\n  bind :443 ssl crt x"),
            upload("global\n  ssl-default-bind-options ssl-min-ver TLSv1.1\nfrontend f\n  bind :443 ssl crt x"),
            upload("global\n  # ssl-default-bind-options ssl-min-ver TLSv1.2\nfrontend f\n  bind :443 ssl crt x"),
            upload("frontend f\n  bind :443 ssl crt x ssl-min-ver TLSv1.2 force-tlsv10"),
        ),
        unknown=(upload(MASKED),),
    ),
    Case(
        policy="data-network-internal",
        type=NETWORK,
        name="data-network",
        good=({"name": "aikit-dev-data", "internal": True},),
        bad=(
            {"name": "aikit-dev-data"},
            {"name": "aikit-dev-data", "internal": False},
            *({"name": f"aikit-dev-{name}"} for name in ("vectors", "cache", "engine", "observability")),
        ),
        unknown=({"internal": UNKNOWN},),
    ),
    Case(
        policy="data-network-internal",
        type=NETWORK,
        name="edge-network",
        good=({"name": "aikit-dev-edge"},),
        bad=({"name": "other", "labels": [{"label": "aikit.service", "value": "data"}]},),
    ),
    Case(
        policy="data-volumes-protected",
        type=VOLUME,
        good=({"name": "files"}, {"labels": [{"label": "aikit.service", "value": "x"}]}),
        bad=({"labels": [{"label": "aikit.data", "value": "true"}]},),
    ),
    Case(
        policy="data-volumes-protected",
        type=VOLUME,
        options={"protect": True, "retain_on_delete": True},
        good=({"labels": [{"label": "aikit.data", "value": "true"}]},),
        bad=(),
    ),
    Case(
        policy="key-size",
        type=PRIVATE_KEY,
        good=(
            {"algorithm": "ECDSA", "ecdsaCurve": "P256"},
            {"algorithm": "RSA"},
            {"algorithm": "RSA", "rsaBits": 4096},
            {"algorithm": "ED25519"},
        ),
        bad=(
            {"algorithm": "ECDSA"},
            {"algorithm": "ECDSA", "ecdsaCurve": "P224"},
            {"algorithm": "RSA", "rsaBits": 1024},
            {"algorithm": "DSA"},
            {},
        ),
        unknown=(
            {"algorithm": UNKNOWN},
            {"algorithm": "RSA", "rsaBits": UNKNOWN},
            {"algorithm": "ECDSA", "ecdsaCurve": UNKNOWN},
        ),
    ),
    Case(
        policy="certificate-lifetime",
        type=LOCALLY_SIGNED,
        good=({"validityPeriodHours": 398 * 24}, {"validityPeriodHours": 3650 * 24, "isCaCertificate": True}),
        bad=({"validityPeriodHours": 399 * 24}, {"validityPeriodHours": 3660 * 24, "isCaCertificate": True}),
        unknown=({"validityPeriodHours": UNKNOWN}, {}),
    ),
    Case(
        policy="certificate-lifetime",
        type=SELF_SIGNED,
        good=({"validityPeriodHours": 3650 * 24, "isCaCertificate": True},),
        bad=({"validityPeriodHours": 3650 * 24},),
        unknown=({"validityPeriodHours": 1, "isCaCertificate": UNKNOWN},),
    ),
    Case(
        policy="oidc-redirects",
        type=CLIENT,
        good=(
            {"validRedirectUris": ["https://chat.example.org/callback"], "webOrigins": ["https://chat.example.org"]},
            {"validPostLogoutRedirectUris": ["+"]},
            {"validRedirectUris": ["http://localhost:8250/oidc/callback", "http://127.0.0.1:1/"]},
            {},
        ),
        bad=(
            {"validRedirectUris": ["https://chat.example.org/*"]},
            {"validRedirectUris": ["http://chat.example.org/callback"]},
            {"validRedirectUris": ["/callback"]},
            {"validRedirectUris": ["http://localhost/callback"]},
            {"validRedirectUris": ["http://localhost.example.org:80/callback"]},
            {"validPostLogoutRedirectUris": ["http://localhost:8250/oidc/callback"]},
            {"validPostLogoutRedirectUris": ["*"]},
            {"webOrigins": ["*"]},
        ),
        unknown=({"validRedirectUris": [REFERENCE]},),
    ),
    Case(
        policy="oidc-pkce",
        type=CLIENT,
        good=({"standardFlowEnabled": True, "pkceCodeChallengeMethod": "S256"}, {"serviceAccountsEnabled": True}),
        bad=({"standardFlowEnabled": True}, {"standardFlowEnabled": True, "pkceCodeChallengeMethod": "plain"}),
        unknown=({"standardFlowEnabled": True, "pkceCodeChallengeMethod": UNKNOWN},),
    ),
    Case(
        policy="oidc-flows",
        type=CLIENT,
        good=({}, {"implicitFlowEnabled": False, "directAccessGrantsEnabled": False}),
        bad=(
            {"implicitFlowEnabled": True},
            {"directAccessGrantsEnabled": True},
            {"oauth2DeviceAuthorizationGrantEnabled": True},
        ),
        unknown=({"directAccessGrantsEnabled": UNKNOWN},),
    ),
    Case(
        policy="oidc-confidential",
        type=CLIENT,
        good=({"accessType": "CONFIDENTIAL"}, {"accessType": "BEARER-ONLY"}),
        bad=({"accessType": "PUBLIC"}, {}),
        unknown=({"accessType": UNKNOWN},),
    ),
    Case(
        policy="realm-brute-force",
        type=REALM,
        good=({"securityDefenses": {"bruteForceDetection": {"maxLoginFailures": 10}}},),
        bad=({}, {"securityDefenses": {"headers": {}}}),
        unknown=({"securityDefenses": UNKNOWN}, {"securityDefenses": {"bruteForceDetection": UNKNOWN}}),
    ),
    Case(
        policy="realm-tls",
        type=REALM,
        good=({}, {"sslRequired": "external"}, {"sslRequired": "all"}),
        bad=({"sslRequired": "none"}, {"sslRequired": "NONE"}),
        unknown=({"sslRequired": UNKNOWN},),
    ),
    Case(
        policy="realm-lifetimes",
        type=REALM,
        good=({}, {"accessTokenLifespan": "15m", "ssoSessionMaxLifespan": "24h0m0s"}, {"accessTokenLifespan": "5m0s"}),
        bad=(
            {"accessTokenLifespan": "16m"},
            {"ssoSessionMaxLifespan": "25h"},
            {"rememberMe": True, "ssoSessionMaxLifespanRememberMe": "720h"},
        ),
        unknown=({"accessTokenLifespan": UNKNOWN}, {"ssoSessionMaxLifespan": "a day"}),
    ),
    Case(
        policy="realm-passwords",
        type=REALM,
        good=({"passwordPolicy": "length(12) and notUsername"}, {"passwordPolicy": "upperCase(1) and length(20)"}),
        bad=({}, {"passwordPolicy": "length(8)"}, {"passwordPolicy": "upperCase(12)"}),
        unknown=({"passwordPolicy": UNKNOWN},),
    ),
    Case(
        policy="realm-registration",
        type=REALM,
        good=({}, {"registrationAllowed": False}),
        bad=({"registrationAllowed": True},),
        unknown=({"registrationAllowed": UNKNOWN},),
    ),
    Case(
        policy="identity-providers",
        type="keycloak:oidc/identityProvider:IdentityProvider",
        good=({}, {"trustEmail": False, "tokenUrl": "https://example.org/token"}),
        bad=({"trustEmail": True}, {"tokenUrl": "http://example.org/token"}),
        unknown=({"trustEmail": UNKNOWN}, {"jwksUrl": UNKNOWN}),
    ),
    Case(
        policy="vault-paths",
        type=VAULT_POLICY,
        good=(
            {"policy": 'path "kv/data/aikit/chat" { capabilities = ["read"] }'},
            {"policy": 'path "secret/data/shared/*" { capabilities = ["read"] }'},
            {"policy": '{"path": {"secret/data/chat": {"capabilities": ["read"]}}}'},
        ),
        bad=(
            {"policy": 'path "*" { capabilities = ["read"] }'},
            {"policy": 'path "sys/*" { capabilities = ["sudo"] }'},
            {"policy": 'path "auth/*" { capabilities = ["update"] }'},
            {"policy": 'path "auth/services/*" { capabilities = ["update"] }'},
            {"policy": 'path "secret/data/*" { capabilities = ["read"] }'},
            {"policy": '{"path": {"secret/+/*": {"capabilities": ["read"]}, "secret/*": {"capabilities": ["list"]}}}'},
            {"name": "service-chat", "policy": 'path "secret/data/services/*" { capabilities = ["read"] }'},
            {"name": "service-chat", "policy": 'path "secret/data/services/+" { capabilities = ["read"] }'},
        ),
        unknown=({"policy": UNKNOWN}, {}),
    ),
    Case(
        policy="vault-token-lifetime",
        type=VAULT_ROLE,
        good=({"tokenMaxTtl": 3600},),
        bad=({}, {"tokenMaxTtl": 0}, {"tokenMaxTtl": 86401}, {"tokenMaxTtl": 3600, "tokenPeriod": 600}),
        unknown=({"tokenMaxTtl": UNKNOWN},),
    ),
    Case(
        policy="vault-token-lifetime",
        type=VAULT_SIGN_IN,
        good=({"tokenMaxTtl": 3600},),
        bad=({}, {"tokenMaxTtl": 86401}),
        unknown=({"tokenMaxTtl": UNKNOWN},),
    ),
)


def _subject(case: Case, properties: Mapping[str, Any]) -> Subject:
    return Subject(
        type=case.type,
        name=case.name,
        urn=f"urn:pulumi:prod::aikit::{case.type}::{case.name}",
        properties=properties,
        **case.options,
    )


def _identify(case: Case) -> str:
    return f"{case.policy}-{case.type.rpartition(':')[2]}-{case.name}"


@pytest.mark.parametrize("case", CASES, ids=_identify)
def test_what_keeps_to_a_policy_passes(case: Case) -> None:
    """A resource that keeps to it is not found, and nothing about it is unknown except where noted."""
    for properties in case.good:
        assert [
            finding for finding in BY_ID[case.policy].findings(_subject(case, properties)) if not finding.unknown
        ] == [], properties


@pytest.mark.parametrize("case", CASES, ids=_identify)
def test_what_breaks_a_policy_is_found_with_a_cure(case: Case) -> None:
    """A resource that breaks it is found, and the message names the cure."""
    policy = BY_ID[case.policy]
    for properties in case.bad:
        found = [finding for finding in policy.findings(_subject(case, properties)) if not finding.unknown]
        assert found, properties
        for finding in found:
            message = policy.message(finding)
            assert message.endswith(f"Cure: {policy.cure}")
            assert "hunter2" not in message, "a value that may be secret was printed"
            assert "other.result" not in message


@pytest.mark.parametrize("case", [case for case in CASES if case.unknown], ids=_identify)
def test_what_is_not_known_is_said_and_does_not_fail(case: Case) -> None:
    """A value that only a real run knows is no violation, but it is not passed over in silence."""
    for properties in case.unknown:
        found = list(BY_ID[case.policy].findings(_subject(case, properties)))
        assert found, properties
        assert all(finding.unknown for finding in found), properties
        assert all("not known" in finding.text for finding in found)


def _hidden(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a value with each part of it not known: the whole, each item of lists and each field, with where that is."""
    yield "", UNKNOWN
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        for name, field_value in fields.items():
            for place, hidden in _hidden(field_value):
                yield f".{name}{place}", {**fields, name: hidden}
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for index, item in enumerate(items):
            for place, hidden in _hidden(item):
                yield f"[{index}]{place}", [*items[:index], hidden, *items[index + 1 :]]


@pytest.mark.parametrize("case", CASES, ids=_identify)
def test_nothing_that_breaks_a_policy_is_passed_over_because_a_part_of_it_is_not_known(case: Case) -> None:
    """Whatever part of it is hidden, the rule finds it all the same or says that it could not judge."""
    for properties in case.bad:
        for place, hidden in _hidden(properties):
            if place:
                found = list(BY_ID[case.policy].findings(_subject(case, hidden)))
                assert found, f"{properties} passes with {place} not known"


def test_every_policy_is_tested_and_described() -> None:
    """No policy is without a test, a title, a reason, a cure, or a file that enforces it."""
    elsewhere = {"second-factor", "vault-audit", "routes-single-sign-on", "data-volumes-backed-up"}
    assert {case.policy for case in CASES} | elsewhere == set(BY_ID)
    assert len(BY_ID) == len(POLICIES)
    for policy in POLICIES:
        assert policy.title, policy.id
        assert policy.description.endswith("."), policy.id
        assert policy.cure.endswith("."), policy.id
        assert policy.enforced, policy.id


@pytest.mark.spec("SEC-05")
def test_a_realm_in_which_a_password_is_enough_is_found() -> None:
    """Alternatives do not count: they are asked only of those who have one."""
    policy = BY_ID["second-factor"]
    realm = Subject(type=REALM, name="realm", urn="a")

    def step(authenticator: str, requirement: str) -> Subject:
        properties = {"authenticator": authenticator, "requirement": requirement}
        return Subject(type=EXECUTION, name="step", urn="b", properties=properties)

    offered = step("auth-otp-form", "ALTERNATIVE")
    assert [subject.name for subject, _ in findings(policy, [realm, offered])] == ["realm"]
    assert list(findings(policy, [realm, offered, step("auth-otp-form", "REQUIRED")])) == []
    assert list(findings(policy, [offered])) == []


def test_vault_without_audit_is_found() -> None:
    """The audit device is missed only where Vault is configured."""
    policy = BY_ID["vault-audit"]
    rule = Subject(type=VAULT_POLICY, name="chat", urn="a")
    audit = Subject(type=VAULT_AUDIT, name="file", urn="b")
    other = Subject(type=REALM, name="realm", urn="c")
    assert [subject.name for subject, _ in findings(policy, [rule, other])] == ["chat"]
    assert list(findings(policy, [rule, audit])) == []
    assert list(findings(policy, [other])) == []
    raw = replace(audit, properties={"options": {"file_path": "stdout", "log_raw": "true"}})
    assert [finding.item for _, finding in findings(policy, [rule, raw])] == ["log_raw"]
    hidden = replace(audit, properties={"options": UNKNOWN})
    assert [finding.unknown for _, finding in findings(policy, [rule, hidden])] == [True]


def _routed(*hosts: str) -> Subject:
    lines = [f"    use_backend x if {{ hdr(host),field(1,:) -i {host} }}" for host in hosts]
    return Subject(type=CONTAINER, name="haproxy-files", urn="a", properties=upload("frontend f\n" + "\n".join(lines)))


def _client(*addresses: str, **properties: Any) -> Subject:
    values = {"standardFlowEnabled": True, "validRedirectUris": list(addresses), **properties}
    return Subject(type=CLIENT, name="client", urn="b", properties=values)


def test_a_route_without_single_sign_on_is_found() -> None:
    """A client that people sign in through has to return to each host; a service account or a disabled client does not do."""
    policy = BY_ID["routes-single-sign-on"]
    routes = _routed("chat.example.org", "code.example.org")
    chat, code = "https://chat.example.org/oauth/callback", "https://code.example.org/callback"
    assert list(findings(policy, [routes, _client(chat), _client(code)])) == []
    assert list(findings(policy, [Subject(type=CONTAINER, name="other", urn="c", properties=upload(""))])) == []
    for lacking in (
        [_client(chat)],
        [_client(chat), _client(code, enabled=False)],
        [_client(chat), _client(code, standardFlowEnabled=False)],
        [_client(chat), _client("https://code.example.org.evil.example/")],
    ):
        [(subject, finding)] = findings(policy, [routes, *lacking])
        assert (subject.name, finding.item, finding.unknown) == ("haproxy-files", "code", False)
        assert "code.example.org" in policy.message(finding)
        assert policy.message(finding).endswith(policy.cure)
    for not_known in ([_client(chat), _client(REFERENCE)], [_client(chat, UNKNOWN)]):
        [(_, finding)] = findings(policy, [routes, *not_known])
        assert finding.unknown
    masked = Subject(type=CONTAINER, name="haproxy-files", urn="a", properties=upload(MASKED))
    [(_, finding)] = findings(policy, [masked, _client(chat)])
    assert finding.unknown
    assert "not known" in finding.text


def _volume(name: str, *, data: bool = True) -> Subject:
    labelled = [{"label": "aikit.data", "value": "true"}] if data else []
    return Subject(type=VOLUME, name=name, urn=name, properties={"name": name, "labels": labelled})


def _backup(volumes: str) -> Subject:
    properties = {"labels": [{"label": "aikit.backup", "value": volumes}]}
    return Subject(type=CONTAINER, name="backup-container", urn="b", properties=properties)


def test_a_data_volume_without_backup_is_found() -> None:
    """Each data volume is named by a container that makes backups; other volumes need none."""
    policy = BY_ID["data-volumes-backed-up"]
    volumes = [_volume("aikit-prod-db"), _volume("aikit-prod-files"), _volume("aikit-prod-configuration", data=False)]
    assert list(findings(policy, [*volumes, _backup("aikit-prod-db, aikit-prod-files")])) == []
    assert list(findings(policy, [*volumes, _backup("aikit-prod-db"), _backup("aikit-prod-files")])) == []
    found = [
        (subject.name, finding.unknown) for subject, finding in findings(policy, [*volumes, _backup("aikit-prod-db")])
    ]
    assert found == [("aikit-prod-files", False)]
    assert [subject.name for subject, _ in findings(policy, volumes)] == ["aikit-prod-db", "aikit-prod-files"]
    for not_known in ([*volumes, _backup(REFERENCE)], [_volume(REFERENCE)]):
        judged = [finding for _, finding in findings(policy, not_known)]
        assert judged
        assert all(finding.unknown and "not known" in finding.text for finding in judged)


def test_digests_and_protection_are_asked_of_production_only() -> None:
    """A stack for trying things out may name images by version, and lose its data volumes' protection but not the data."""
    labels = {"labels": [{"label": "aikit.data", "value": "true"}]}
    tagged = {"image": "docker.io/library/redis:8.0.2"}
    for environment in (Environment.DEV, Environment.TEST):
        image = Subject(type=CONTAINER, name="x", properties=tagged, environment=environment)
        assert list(BY_ID["image-digest"].findings(image)) == []
        retained = Subject(type=VOLUME, name="x", properties=labels, retain_on_delete=True, environment=environment)
        assert list(BY_ID["data-volumes-protected"].findings(retained)) == []
    retained = Subject(type=VOLUME, name="x", properties=labels, retain_on_delete=True)
    assert [finding.item for finding in BY_ID["data-volumes-protected"].findings(retained)] == ["protect"]


@pytest.mark.parametrize(
    ("stack", "environment"),
    [
        ("dev", Environment.DEV),
        ("organization/aikit/test", Environment.TEST),
        ("prod", Environment.PROD),
        ("berlin", Environment.PROD),
    ],
)
def test_a_stack_of_another_name_is_held_to_productions_rules(stack: str, environment: Environment) -> None:
    """Only dev and test are judged mildly."""
    assert environment_of(stack) is environment


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("redis", ("", "redis", "", "")),
        ("redis:8", ("", "redis", "8", "")),
        ("docker.io/library/redis:8@sha256:ab", ("docker.io", "library/redis", "8", "sha256:ab")),
        ("localhost:5000/a/b:1", ("localhost:5000", "a/b", "1", "")),
        ("aikit/redis:1-ab", ("", "aikit/redis", "1-ab", "")),
    ],
)
def test_image_references_are_taken_apart(reference: str, parts: tuple[str, str, str, str]) -> None:
    """A registry's port is not taken for a tag."""
    assert split_image(reference) == parts


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "apiToken", "SECRET", "WEBUI_SECRET_KEY", "AWS_ACCESS_KEY", "DB_PASS"]
)
def test_names_of_secrets_are_recognised(name: str) -> None:
    """Whatever the style of writing."""
    assert secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["POSTGRES_PASSWORD_FILE", "KEYCLOAK_URL", "MONKEY", "TOKENIZER", "OAUTH_CLIENT_ID", "PASSAGE", "JWT_PUBLIC_KEY"],
)
def test_names_of_other_things_are_not_taken_for_secrets(name: str) -> None:
    """Files, addresses and words that only contain such a word."""
    assert not secret_name(name)


def test_values_are_read_as_the_schema_writes_them() -> None:
    """Durations in Go's form, and placeholders of plans but not of shells."""
    assert seconds("10h0m0s") == 36_000
    assert seconds("900") == 900
    assert seconds("soon") is None
    assert unknown("${redis-password.result}")
    assert not unknown("exec ${HOME}/run")
    assert not list(haproxy_tls("frontend f\n    bind :80"))
