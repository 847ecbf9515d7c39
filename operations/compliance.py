"""The compliance report: every control, where it is enforced, how each stack does, and what is excepted until when."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Any

from operations import plan as plans
from policies import check as policies
from policies.catalogue import POLICIES
from policies.check import Review
from policies.exemptions import EXEMPTIONS, Exemption
from policies.levels import level
from policies.model import Environment, Level, Policy

STACKS = ("dev", "prod")
"""The stacks that are reported on unless others are asked for."""

OUTPUT = plans.ROOT / ".aikit" / "compliance.html"
"""Where the report is written unless another file is asked for."""

_TEMPLATE = Path(__file__).with_name("compliance.html")


class Result(StrEnum):
    """How a stack does by one control."""

    MET = "met"
    EXEMPT = "exempt"
    """Broken where an exemption that still holds allows it."""
    UNKNOWN = "unknown"
    """Not broken as far as can be told before a deployment."""
    ADVISORY = "advisory"
    """Broken, and the stack may be deployed all the same."""
    VIOLATED = "violated"
    OFF = "off"
    """Not asked of this stack."""
    NOTHING = "nothing"
    """The stack has nothing that the control is about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """One control in one stack."""

    result: Result
    level: Level
    subjects: int
    """How many resources it is about."""
    details: tuple[str, ...]
    """Each violation, exemption or unknown value: resource and sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """One control and how the stacks do."""

    policy: Policy
    assessments: Mapping[str, Assessment]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The whole report."""

    on: date
    stacks: tuple[str, ...]
    controls: tuple[Control, ...]
    exemptions: tuple[Exemption, ...]

    @property
    def violated(self) -> tuple[str, ...]:
        """``stack: policy`` for each mandatory control that is broken."""
        return tuple(
            f"{stack}: {control.policy.id}"
            for control in self.controls
            for stack, assessment in control.assessments.items()
            if assessment.result is Result.VIOLATED
        )

    def counts(self, stack: str) -> dict[str, int]:
        """Return how many controls have each result in a stack."""
        found = [control.assessments[stack].result for control in self.controls]
        return {result.value: found.count(result) for result in Result}

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "format": plans.FORMAT,
            "date": self.on.isoformat(),
            "stacks": {stack: self.counts(stack) for stack in self.stacks},
            "controls": [
                {
                    "id": control.policy.id,
                    "title": control.policy.title,
                    "description": control.policy.description,
                    "cure": control.policy.cure,
                    "severity": control.policy.severity.value,
                    "references": list(control.policy.references),
                    "enforced": control.policy.enforced,
                    "rule": _rule(control.policy),
                    "stacks": {
                        stack: {
                            "result": assessment.result.value,
                            "level": assessment.level.value,
                            "resources": assessment.subjects,
                            "details": list(assessment.details),
                        }
                        for stack, assessment in control.assessments.items()
                    },
                }
                for control in self.controls
            ],
            "exemptions": [
                {
                    "policy": item.policy,
                    "resource": item.resource,
                    "items": sorted(item.items),
                    "environments": sorted(environment.value for environment in item.environments),
                    "reason": item.reason,
                    "ends": item.ends.isoformat(),
                    "expired": item.ends < self.on,
                }
                for item in self.exemptions
            ],
        }


def _rule(policy: Policy) -> str:
    """Return the file of a policy's rule."""
    function = policy.check_stack or policy.check
    return f"{function.__module__.replace('.', '/')}.py"


def _assess(policy: Policy, review: Review, subjects: int) -> Assessment:
    strict = level(policy.id, review.environment)

    def sentences(found: Sequence[Any]) -> tuple[str, ...]:
        return tuple(f"{item.urn.rpartition('::')[2]}: {item.message}" for item in found if item.policy == policy.id)

    violations, exempt, unknown = sentences(review.violations), sentences(review.exempt), sentences(review.unknown)
    if strict is Level.DISABLED:
        result = Result.OFF
    elif violations:
        result = Result.VIOLATED if strict is Level.MANDATORY else Result.ADVISORY
    elif exempt:
        result = Result.EXEMPT
    elif unknown:
        result = Result.UNKNOWN
    else:
        result = Result.MET if subjects else Result.NOTHING
    return Assessment(result=result, level=strict, subjects=subjects, details=(*violations, *exempt, *unknown))


def report(
    planned: Mapping[str, plans.Plan], *, on: date | None = None, exemptions: Sequence[Exemption] = EXEMPTIONS
) -> Report:
    """Judge the plans of several stacks.

    Args:
        planned: plan by name of the stack.
        on: day of the report, by which exemptions end; today by default.
        exemptions: what may break a policy.
    """
    day = on or policies.today()
    reviews = {stack: policies.review(plan, stack, exemptions=exemptions, on=day) for stack, plan in planned.items()}
    types = {stack: [resource.type for resource in plan.custom()] for stack, plan in planned.items()}
    return Report(
        on=day,
        stacks=tuple(planned),
        controls=tuple(
            Control(
                policy=policy,
                assessments={
                    stack: _assess(policy, review, sum(1 for kind in types[stack] if kind in policy.types))
                    for stack, review in reviews.items()
                },
            )
            for policy in POLICIES
        ),
        exemptions=tuple(exemptions),
    )


def to_html(result: Report) -> str:
    """Return the report as one page that needs nothing else: no script, no font, no request."""
    escape = html.escape
    cards = "\n".join(
        f'<section class="card"><h2>{escape(stack)}</h2><p class="{"bad" if counts["violated"] else "good"}">'
        f"{'Not compliant' if counts['violated'] else 'Compliant'}</p><ul>"
        + "".join(
            f'<li><span class="mark {name}">{count}</span> {name}</li>' for name, count in counts.items() if count
        )
        + "</ul></section>"
        for stack in result.stacks
        for counts in [result.counts(stack)]
    )
    rows: list[str] = []
    for control in result.controls:
        policy = control.policy
        cells = "".join(_cell(control.assessments[stack]) for stack in result.stacks)
        references = f'<p class="small">{escape("; ".join(policy.references))}</p>' if policy.references else ""
        rows.append(
            f'<tr id="{escape(policy.id)}"><th scope="row">{escape(policy.title)}<p class="small"><code>{escape(policy.id)}</code> · '
            f"{escape(policy.severity.value)}</p></th><td>{escape(policy.description)}{references}</td>"
            f"<td><code>{escape(policy.enforced)}</code><br><code>{escape(_rule(policy))}</code></td>{cells}</tr>"
        )
    exemptions = "".join(_exemption_row(item, result.on) for item in result.exemptions)
    return Template(_TEMPLATE.read_text()).substitute(
        date=result.on.isoformat(),
        cards=cards,
        columns="".join(f'<th scope="col">{escape(stack)}</th>' for stack in result.stacks),
        controls="\n".join(rows),
        exemptions=exemptions or '<tr><td colspan="5">There are none.</td></tr>',
        count=len(result.controls),
    )


def _exemption_row(item: Exemption, on: date) -> str:
    escape = html.escape
    items = f" {escape(', '.join(sorted(item.items)))}" if item.items else ""
    environments = ", ".join(environment.value for environment in Environment if environment in item.environments)
    ended = ' <span class="mark violated">ended</span>' if item.ends < on else ""
    return (
        f'<tr><td><a href="#{escape(item.policy)}"><code>{escape(item.policy)}</code></a></td>'
        f"<td><code>{escape(item.resource)}</code>{items}</td><td>{escape(environments)}</td><td>{escape(item.reason)}</td>"
        f'<td><time datetime="{item.ends}">{item.ends}</time>{ended}</td></tr>'
    )


def _cell(assessment: Assessment) -> str:
    details = ""
    if assessment.details:
        items = "".join(f"<li>{html.escape(item)}</li>" for item in assessment.details)
        details = (
            f"<details><summary>{len(assessment.details)} of {assessment.subjects}</summary><ul>{items}</ul></details>"
        )
    elif assessment.subjects:
        details = f'<p class="small">{assessment.subjects} resources</p>'
    return f'<td><span class="mark {assessment.result.value}">{assessment.result.value}</span>{details}</td>'


def command(stacks: Sequence[str] = STACKS, output: Path = OUTPUT) -> int:
    """Run ``./aikit compliance``: write the report as a page and as data.

    Args:
        stacks: the stacks to report on.
        output: the file; whatever its ending, one with the ending ``.html`` and one with ``.json`` is written.

    Returns:
        0 if no stack breaks a mandatory control, 1 if one does, 2 if a program can't be planned.
    """
    from rich.console import Console
    from rich.markup import escape

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        result = report({stack: plans.plan(stack) for stack in stacks or STACKS})
    except Exception as error:
        if not isinstance(error, plans.PlanError) and type(error).__name__ != "SettingsError":
            raise
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        return 2
    output.parent.mkdir(parents=True, exist_ok=True)
    page, data = output.with_suffix(".html"), output.with_suffix(".json")
    page.write_text(to_html(result))
    data.write_text(json.dumps(result.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    for stack in result.stacks:
        found = ", ".join(f"{count} {name}" for name, count in result.counts(stack).items() if count)
        errors.print(f"[bold]{escape(stack)}[/]: {found}")
    for item in result.violated:
        errors.print(f"[bold red]violated[/] {escape(item)}")
    errors.print(f"written: {escape(str(page))} and {escape(data.name)}")
    return 1 if result.violated else 0
