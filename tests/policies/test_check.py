"""Judging plans: levels, exemptions, the real stacks, and the engine's pack."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pulumi_policy import (
    EnforcementLevel,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from components.context import Platform
from components.images import Image
from components.registry import SERVICES
from components.service import Container, Health, Network, Route, Service
from operations import plan as plans
from operations.plan import Plan, PlannedResource, Value
from policies import check, levels, pack
from policies.catalogue import BY_ID, POLICIES
from policies.containers import CONTAINER
from policies.exemptions import EXEMPTIONS, Exemption
from policies.identity import VAULT_POLICY
from policies.model import Environment, Level

DAY = date(2026, 11, 23)


def planned(**properties: Value) -> Plan:
    """Return a plan with one container."""
    resource = PlannedResource(
        urn=f"urn:pulumi:prod::aikit::{CONTAINER}::thing",
        type=CONTAINER,
        name="thing",
        parent=None,
        provider=None,
        custom=True,
        properties=properties,
        dependencies=(),
        options={},
    )
    return Plan(project="aikit", stack="prod", resources=(resource,), outputs={})


@pytest.mark.spec("SEC-04", "OPS-02")
@pytest.mark.parametrize("stack", ["dev", "test", "prod"])
def test_the_real_stacks_break_no_mandatory_policy(stack: str) -> None:
    """What this repository would deploy is allowed."""
    review = check.review(plans.plan(stack), stack)
    assert review.blocking == ()
    assert review.resources > 30


class Restic(Service):
    """A service that makes backups, and has a page without single sign-on."""

    name = "restic"
    area = "data"

    @property
    def image(self) -> Image:
        """Any image."""
        return Image(official="docker.io/restic/restic:0.18.0", built="restic")

    def routes(self) -> tuple[Route, ...]:
        """Return the page."""
        return (Route(host="backups", port=8000, health_path="/", title="Backups"),)

    def container(self, platform: Platform) -> Container:
        """Return what says which volumes it backs up."""
        del platform
        return Container(
            health=Health(command=("true",)),
            networks=(Network.DATA,),
            backs_up=("postgres-data", "redis-data"),
            memory_mb=128,
        )


@pytest.mark.spec("SEC-04", "OPS-02")
def test_the_rules_of_the_whole_stack_see_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without exemptions Keycloak's own host and all volumes are found; a service's own declarations count."""
    policies = (BY_ID["routes-single-sign-on"], BY_ID["data-volumes-backed-up"])

    def found() -> set[str]:
        # Declared anew, because the plan of this folder's program is the same in each run.
        review = check.review(plans.plan("prod"), "prod", policies=policies, exemptions=())
        assert review.unknown == ()
        return {
            f"{item.urn.rpartition('::')[2]} {item.message.split()[0] if 'routed' in item.message else ''}".strip()
            for item in review.violations
        }

    before = found()
    assert "haproxy-files auth.ai.example.org" in before
    assert not [each for each in before if "chat." in each], "the chat has single sign-on"
    assert {"postgres-data-volume", "redis-data-volume", "ollama-models-volume"} < before
    monkeypatch.setattr("components.registry.SERVICES", (*SERVICES, Restic))
    after = found()
    assert after - before == {"haproxy-files backups.ai.example.org"}
    assert before - after == {"postgres-data-volume", "redis-data-volume"}


@pytest.mark.spec("SEC-04", "OPS-02")
def test_levels_differ_by_stack() -> None:
    """The same finding stops production and is only said elsewhere; a few stop every stack."""
    writable = planned(image="redis:8.0.2", readOnly=False, privileged=True)
    found = {stack: {item.policy: item.level for item in check.check(writable, stack)} for stack in ("dev", "prod")}
    assert found["dev"]["read-only-root"] is Level.ADVISORY
    assert found["prod"]["read-only-root"] is Level.MANDATORY
    assert found["dev"]["no-privileged"] is Level.MANDATORY
    assert "image-digest" not in found["dev"]


@pytest.mark.spec("SEC-04")
def test_an_exemption_allows_until_its_last_day() -> None:
    """On its last day it still holds; a day later the finding is a violation that says so."""
    exemption = Exemption(policy="no-privileged", resource="thi*", reason="a test", ends=DAY)
    plan = planned(privileged=True)
    policies = (BY_ID["no-privileged"],)
    held = check.review(plan, "prod", policies=policies, exemptions=[exemption], on=DAY)
    assert held.violations == ()
    assert held.exempt[0].reason == "a test"
    ended = check.review(plan, "prod", policies=policies, exemptions=[exemption], on=date(2026, 11, 24))
    assert len(ended.blocking) == 1
    assert "ended on 2026-11-23" in ended.blocking[0].message


@pytest.mark.spec("SEC-04")
def test_an_exemption_is_for_its_items_and_environments_only() -> None:
    """A capability that is allowed allows no other, and development's exemption is not production's."""
    plan = planned(capabilities={"drops": ["ALL"], "adds": ["CAP_CHOWN", "CAP_SYS_ADMIN"]})
    policies = (BY_ID["capabilities"],)
    exemption = Exemption(
        policy="capabilities", resource="*", items=frozenset({"CAP_CHOWN"}), reason="a test", ends=DAY
    )
    review = check.review(plan, "prod", policies=policies, exemptions=[exemption], on=DAY)
    assert len(review.exempt) == 1
    assert "CAP_SYS_ADMIN" in review.violations[0].message
    elsewhere = Exemption(
        policy="capabilities", resource="*", environments=frozenset({Environment.DEV}), reason="a test", ends=DAY
    )
    assert len(check.review(plan, "prod", policies=policies, exemptions=[elsewhere], on=DAY).violations) == 2


@pytest.mark.spec("SEC-04")
def test_exemptions_are_reasoned_and_about_something() -> None:
    """Each names an existing policy and gives a reason and an end within a year."""
    for exemption in EXEMPTIONS:
        assert exemption.policy in BY_ID
        assert len(exemption.reason) > 30
        assert (exemption.ends - DAY).days < 366


@pytest.mark.spec("SEC-04")
def test_no_secret_is_printed() -> None:
    """Neither the review nor its text for the terminal holds a value of the environment or of a file."""
    plan = planned(
        image="redis:latest",
        envs=["POSTGRES_PASSWORD=hunter2", "URL=http://me:hunter2@host"],
        command=["--password", "http://me:hunter2@host"],
        uploads=[{"file": "/etc/aikit/haproxy.cfg", "content": "frontend f\n  bind :443 ssl # hunter2"}],
    )
    review = check.review(plan, "prod")
    assert len(review.violations) > 10
    assert "hunter2" not in json.dumps(review.to_json()) + check.render(review)


@pytest.mark.spec("CI-01")
@pytest.mark.parametrize("environment", list(Environment))
def test_the_packs_configuration_is_the_table(environment: Environment) -> None:
    """The files for ``--policy-pack-config`` are what ``python -m policies.levels`` writes."""
    file = levels.CONFIGURATION / f"{environment}.json"
    assert file.read_text() == levels.configuration(tuple(BY_ID), environment)


def resource_arguments(kind: str, properties: Mapping[str, Any]) -> ResourceValidationArgs:
    """Return what the engine hands to a policy, with its proxies."""
    proxied = unknown_checking_proxy(dict(properties))
    options = cast("Any", SimpleNamespace(protect=False))
    return ResourceValidationArgs(kind, proxied, f"urn:pulumi:prod::aikit::{kind}::thing", "thing", options, None)


def reported(policy: Any, arguments: Any) -> list[str]:
    """Return what a policy of the pack reports."""
    messages: list[str] = []

    def report(message: str, urn: str | None = None) -> None:
        del urn
        messages.append(message)

    policy.validate(arguments, report)
    return messages


@pytest.mark.spec("SEC-04", "CI-01")
def test_the_pack_finds_what_the_plan_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's properties have proxies and extra keys; the rules and the cures are the same."""
    monkeypatch.setenv("PULUMI_STACK", "prod")
    made = {policy.name: policy for policy in pack.policies(Environment.PROD)}
    assert set(made) == set(BY_ID)
    for policy in POLICIES:
        expected = StackValidationPolicy if policy.check_stack else ResourceValidationPolicy
        assert isinstance(made[policy.id], expected)
        assert made[policy.id].enforcement_level is EnforcementLevel(levels.level(policy.id, Environment.PROD).value)
    bad = resource_arguments(
        CONTAINER,
        {
            "privileged": True,
            "__defaults": [],
            "capabilities": {"__defaults": [], "drops": ["ALL"], "adds": ["CAP_NET_ADMIN"]},
        },
    )
    assert reported(made["no-privileged"], bad) == [
        BY_ID["no-privileged"].message(
            next(iter(BY_ID["no-privileged"].findings(check.subjects(planned(privileged=True), Environment.PROD)[0])))
        )
    ]
    assert "CAP_NET_ADMIN" in reported(made["capabilities"], bad)[0]
    assert reported(made["key-size"], bad) == []


@pytest.mark.spec("SEC-04")
def test_the_pack_judges_what_is_known_beside_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One unknown value of a list neither fails nor stops the policy."""
    monkeypatch.setenv("PULUMI_STACK", "prod")
    made = {policy.name: policy for policy in pack.policies(Environment.PROD)}
    arguments = resource_arguments(
        CONTAINER, {"envs": [UNKNOWN_STRING_VALUE, "MY_TOKEN=hunter2"], "image": UNKNOWN_STRING_VALUE}
    )
    messages = reported(made["no-plain-secrets"], arguments)
    assert len(messages) == 1
    assert "MY_TOKEN" in messages[0]
    assert "hunter2" not in messages[0]
    assert reported(made["image-version"], arguments) == []


@pytest.mark.spec("SEC-04")
def test_the_pack_judges_the_whole_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule about something that is missing sees all resources."""
    monkeypatch.setenv("PULUMI_STACK", "prod")
    made = {policy.name: policy for policy in pack.policies(Environment.PROD)}
    resource = cast("Any", resource_arguments(VAULT_POLICY, {"policy": 'path "kv/a" {}'}))
    assert len(reported(made["vault-audit"], StackValidationArgs([resource]))) == 1


@pytest.mark.spec("CI-01", "SEC-04")
def test_the_pack_serves_the_engine() -> None:
    """The folder runs from anywhere, says its levels by the stack's name, and judges what the engine sends."""
    import grpc
    from google.protobuf import empty_pb2, struct_pb2
    from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

    root = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PULUMI_STACK": "dev"}
    process = subprocess.Popen(
        [sys.executable, "-u", str(root / "policies")], cwd="/", env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
            stub = analyzer_pb2_grpc.AnalyzerStub(channel)
            info = stub.GetAnalyzerInfo(empty_pb2.Empty(), timeout=30)
            assert {policy.name for policy in info.policies} == set(BY_ID)
            found = {policy.name: policy.enforcementLevel for policy in info.policies}
            assert found["read-only-root"] == analyzer_pb2.ADVISORY
            assert found["no-privileged"] == analyzer_pb2.MANDATORY
            properties = struct_pb2.Struct()
            hidden = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "hunter3"}
            properties.update(
                {
                    "privileged": True,
                    "envs": ["MY_TOKEN=hunter2", UNKNOWN_STRING_VALUE],
                    "command": ["run", hidden],
                    "uploads": [{"file": "/etc/aikit/password", "content": hidden}],
                }
            )
            request = analyzer_pb2.AnalyzeRequest(
                type=CONTAINER, name="bad", urn=f"urn:pulumi:dev::aikit::{CONTAINER}::bad", properties=properties
            )
            diagnostics = stub.Analyze(request, timeout=30).diagnostics
            assert {"no-privileged", "no-plain-secrets", "memory-limit"} <= {item.policyName for item in diagnostics}
            assert "hunter" not in str(diagnostics)
            said = {item.policyName: item.message for item in diagnostics}
            assert "Its file /etc/aikit/password has a secret" in said["secrets-in-memory"]
            assert any("It has a secret in its command" in item.message for item in diagnostics)
            assert not [item for item in diagnostics if "can't run policy" in item.message]
    finally:
        process.terminate()
        process.wait(timeout=10)
