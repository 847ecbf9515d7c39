"""Judges a plan: which policies its resources break, which could not be judged, and which exemptions were used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from policies.catalogue import POLICIES
from policies.exemptions import EXEMPTIONS, Exemption, exempted
from policies.levels import level
from policies.model import Environment, Finding, Level, Policy, Subject, Violation, environment_of

if TYPE_CHECKING:
    from operations.plan import Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Exempt:
    """A finding that an exemption allows."""

    policy: str
    urn: str
    message: str
    reason: str
    ends: date


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """What the policies say about a stack; everything in the order of policies and resources."""

    stack: str
    environment: Environment
    resources: int
    """How many resources were judged."""
    violations: tuple[Violation, ...]
    unknown: tuple[Violation, ...]
    """What could not be judged before a deployment; never blocking."""
    exempt: tuple[Exempt, ...]

    @property
    def blocking(self) -> tuple[Violation, ...]:
        """The violations that stop a deployment."""
        return tuple(violation for violation in self.violations if violation.level is Level.MANDATORY)

    def to_json(self) -> dict[str, Any]:
        """Return the review as plain data."""
        return {
            "stack": self.stack,
            "environment": self.environment.value,
            "resources": self.resources,
            "violations": [_violation(item) for item in self.violations],
            "unknown": [_violation(item) for item in self.unknown],
            "exempt": [
                {
                    "policy": item.policy,
                    "urn": item.urn,
                    "message": item.message,
                    "reason": item.reason,
                    "ends": item.ends.isoformat(),
                }
                for item in self.exempt
            ],
        }


def _violation(item: Violation) -> dict[str, str]:
    return {"policy": item.policy, "level": item.level.value, "urn": item.urn, "message": item.message}


def subjects(plan: Plan, environment: Environment) -> tuple[Subject, ...]:
    """Return a plan's resources as the rules see them."""
    return tuple(
        Subject(
            type=resource.type,
            name=resource.name,
            urn=resource.urn,
            properties=resource.properties,
            protect=resource.options.get("protect") is True,
            retain_on_delete=resource.options.get("retainOnDelete") is True,
            environment=environment,
        )
        for resource in plan.custom()
    )


def findings(policy: Policy, judged: Sequence[Subject]) -> Iterator[tuple[Subject, Finding]]:
    """Yield what a policy finds in all resources."""
    if policy.check_stack is not None:
        yield from policy.check_stack([subject for subject in judged if subject.type in policy.types])
        return
    for subject in judged:
        for finding in policy.findings(subject):
            yield subject, finding


def today() -> date:
    """Return the day by which exemptions end, in UTC."""
    return datetime.now(UTC).date()


def review(
    plan: Plan,
    stack: str,
    *,
    policies: Sequence[Policy] = POLICIES,
    exemptions: Iterable[Exemption] = EXEMPTIONS,
    on: date | None = None,
) -> Review:
    """Judge a plan by all policies.

    Args:
        plan: what the program declares.
        stack: name of the stack; it decides the levels.
        policies: the rules.
        exemptions: what may break them.
        on: day by which exemptions end; today by default.
    """
    day = on or today()
    environment = environment_of(stack)
    judged = subjects(plan, environment)
    allowed = tuple(exemptions)
    violations: list[Violation] = []
    unknown: list[Violation] = []
    exempt: list[Exempt] = []
    for policy in policies:
        strict = level(policy.id, environment)
        if strict is Level.DISABLED:
            continue
        for subject, finding in findings(policy, judged):
            message = policy.message(finding)
            if finding.unknown:
                unknown.append(
                    Violation(policy=policy.id, level=Level.ADVISORY, urn=subject.urn, message=f"{finding.text}.")
                )
                continue
            exemption = exempted(policy.id, subject, finding, allowed)
            if exemption is None:
                violations.append(Violation(policy=policy.id, level=strict, urn=subject.urn, message=message))
            elif exemption.ends < day:
                ended = f"{finding.text}, and its exemption ended on {exemption.ends}. Cure: {policy.cure}"
                violations.append(Violation(policy=policy.id, level=strict, urn=subject.urn, message=ended))
            else:
                exempt.append(
                    Exempt(
                        policy=policy.id,
                        urn=subject.urn,
                        message=f"{finding.text}.",
                        reason=exemption.reason,
                        ends=exemption.ends,
                    )
                )
    return Review(
        stack=stack,
        environment=environment,
        resources=len(judged),
        violations=tuple(violations),
        unknown=tuple(unknown),
        exempt=tuple(exempt),
    )


def check(plan: Plan, stack: str) -> tuple[Violation, ...]:
    """Return the policies that a plan breaks, today and with the exemptions of this project."""
    return review(plan, stack).violations


def render(result: Review) -> str:
    """Return a review as text for the terminal, with markup; names of resources, never values."""
    from rich.markup import escape

    lines: list[str] = []
    for violation in result.violations:
        style = "bold red" if violation.level is Level.MANDATORY else "yellow"
        name = violation.urn.rpartition("::")[2]
        lines.append(
            f"[{style}]{violation.level.value}[/] {violation.policy}: {escape(name)}: {escape(violation.message)}"
        )
    blocking = len(result.blocking)
    lines.append(
        f"policies ({result.environment.value}): {result.resources} resources, {blocking} mandatory and "
        f"{len(result.violations) - blocking} advisory violations, {len(result.exempt)} exempted, {len(result.unknown)} not known yet"
    )
    return "\n".join(lines)
