"""The same policies as a pack of the engine's: ``pulumi preview --policy-pack policies --policy-pack-config policies/config/prod.json``."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pulumi_policy as engine
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY
from pulumi_policy.proxy import UnknownValueError

from policies.catalogue import POLICIES
from policies.check import today
from policies.exemptions import EXEMPTIONS, exempted
from policies.levels import level
from policies.model import Environment, Finding, Policy, Severity, Subject, environment_of
from policies.values import SECRET, UNKNOWN

NAME = "aikit"


_SEVERITIES = {
    Severity.LOW: engine.Severity.LOW,
    Severity.MEDIUM: engine.Severity.MEDIUM,
    Severity.HIGH: engine.Severity.HIGH,
    Severity.CRITICAL: engine.Severity.CRITICAL,
}


def plain(value: Any) -> Any:
    """Return a value of the engine's without its proxies, and with ``UNKNOWN`` where it can't be known yet.

    The proxies raise for an unknown value and stop the whole policy; here the one value stays unknown and the rest is judged.
    """
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value)
        return {key: _item(items, key) for key in items if key != "__defaults"}
    if isinstance(value, Sequence) and not isinstance(value, str):
        listed = cast("Sequence[Any]", value)
        return [_item(listed, index) for index in range(len(listed))]
    return value


def _item(container: Any, key: Any) -> Any:
    try:
        return plain(container[key])
    except UnknownValueError:
        return UNKNOWN


def masked(value: Any) -> Any:
    """Return what the engine sent with secrets as a plan shows them, and nothing of what they are."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if fields.get(SPECIAL_SIG_KEY) == SPECIAL_SECRET_SIG:
            return SECRET
        return {name: masked(field) for name, field in fields.items()}
    if isinstance(value, list):
        return [masked(item) for item in cast("list[Any]", value)]
    return value


def _mark_secrets() -> None:
    """Have the SDK keep secrets marked: it hands policies the bare values, and then nobody can tell that they are some."""
    sdk = cast("Any", engine.policy)
    bare = sdk.deserialize_properties

    def deserialize(properties: Mapping[str, Any], proxy_secrets: bool = False) -> Any:
        # Only remediations, of which there are none, ask for proxies.
        return bare(masked(properties), proxy_secrets)

    sdk.deserialize_properties = deserialize


def _subject(resource: engine.ResourceValidationArgs | engine.PolicyResource, environment: Environment) -> Subject:
    # The SDK leaves the properties untyped.
    untyped = cast("Any", resource)
    return Subject(
        type=untyped.resource_type,
        name=untyped.name,
        urn=untyped.urn,
        properties=plain(untyped.props),
        protect=untyped.opts.protect is True,
        # The engine does not tell a policy about retain_on_delete; ``./aikit plan`` judges it.
        retain_on_delete=True,
        environment=environment,
    )


def _environment() -> Environment:
    return environment_of(os.environ.get("PULUMI_STACK") or "prod")


def _message(policy: Policy, subject: Subject, finding: Finding) -> str | None:
    """Return what to report about a finding; None if there is nothing to report."""
    if finding.unknown:
        return None
    exemption = exempted(policy.id, subject, finding, EXEMPTIONS)
    if exemption is None:
        return policy.message(finding)
    if exemption.ends < today():
        return f"{finding.text}, and its exemption ended on {exemption.ends}. Cure: {policy.cure}"
    return None


def resource_rule(policy: Policy) -> Callable[[engine.ResourceValidationArgs, engine.ReportViolation], None]:
    """Return the function by which the engine judges one resource."""

    def validate(args: engine.ResourceValidationArgs, report: engine.ReportViolation) -> None:
        if args.resource_type not in policy.types:
            return
        subject = _subject(args, _environment())
        for finding in policy.findings(subject):
            if message := _message(policy, subject, finding):
                report(message, None)

    return validate


def stack_rule(policy: Policy) -> Callable[[engine.StackValidationArgs, engine.ReportViolation], None]:
    """Return the function by which the engine judges all resources together."""

    def validate(args: engine.StackValidationArgs, report: engine.ReportViolation) -> None:
        environment = _environment()
        judged = [
            _subject(resource, environment) for resource in args.resources if resource.resource_type in policy.types
        ]
        for subject, finding in policy.check_stack(judged) if policy.check_stack else ():
            if message := _message(policy, subject, finding):
                report(message, subject.urn)

    return validate


def policies(environment: Environment) -> list[engine.Policy]:
    """Return all policies with the levels of an environment; the engine's ``--policy-pack-config`` changes them."""
    made: list[engine.Policy] = []
    for policy in POLICIES:
        common: dict[str, Any] = {
            "name": policy.id,
            "description": f"{policy.title}. {policy.description}",
            "enforcement_level": engine.EnforcementLevel(level(policy.id, environment).value),
            "display_name": policy.title,
            "severity": _SEVERITIES[policy.severity],
            "remediation_steps": policy.cure,
            "tags": list(policy.references) or None,
        }
        if policy.check_stack is None:
            made.append(engine.ResourceValidationPolicy(validate=resource_rule(policy), **common))
        else:
            made.append(engine.StackValidationPolicy(validate=stack_rule(policy), **common))
    return made


def serve() -> None:
    """Serve the pack to the engine, which started this process; does not return."""
    _mark_secrets()
    engine.PolicyPack(
        name=NAME,
        policies=policies(_environment()),
        enforcement_level=engine.EnforcementLevel.MANDATORY,
        description="What a deployment of the AI kit must keep to.",
        display_name="AI Kit",
    )
