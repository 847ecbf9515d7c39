"""What a policy is, what it looks at and what it finds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from policies.values import hidden


class Level(StrEnum):
    """What a violation does."""

    DISABLED = "disabled"
    ADVISORY = "advisory"
    """It is said, and nothing is stopped."""
    MANDATORY = "mandatory"
    """It stops a deployment and fails a pull request."""


class Severity(StrEnum):
    """How bad a violation is, for reports."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Environment(StrEnum):
    """What a stack is for, which decides how strict it is."""

    DEV = "dev"
    TEST = "test"
    PROD = "prod"


def environment_of(stack: str) -> Environment:
    """Return what a stack is for, by its name; one with a name of its own is held to production's rules."""
    name = stack.rpartition("/")[2]
    return Environment(name) if name in {"dev", "test"} else Environment.PROD


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A resource as the rules see it, whether it comes from a plan or from the engine."""

    type: str
    """Type token, such as ``docker:index/container:Container``."""
    name: str
    """Logical name in the program."""
    urn: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Inputs by their names in the schema; a value that is not known yet satisfies ``values.unknown``."""
    protect: bool = False
    retain_on_delete: bool = False
    environment: Environment = Environment.PROD


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule has to say about a resource. It never holds a value that could be a secret."""

    text: str
    """One sentence without a full stop."""
    item: str = ""
    """What exactly is meant, such as a capability; an exemption may be for it alone."""
    unknown: bool = False
    """The rule could not judge, because the value is not known before the deployment: not a violation."""


Rule = Callable[[Subject], Iterable[Finding]]
"""Judges one resource."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One rule, with everything that a report says about it."""

    id: str
    """Name in configuration and reports; kebab-case, never reused."""
    title: str
    description: str
    """Why the rule is there."""
    cure: str
    """What to do about a violation; part of every message."""
    enforced: str
    """Where the program itself takes care of it: the rule is the second lock."""
    severity: Severity = Severity.MEDIUM
    references: tuple[str, ...] = ()
    """Numbers in public benchmarks, such as ``CIS Docker 1.6.0: 5.5``."""
    types: frozenset[str]
    """Types that it looks at."""
    check: Rule
    check_stack: Callable[[Sequence[Subject]], Iterable[tuple[Subject, Finding]]] | None = None
    """Judges all resources of ``types`` together instead, where a rule is about something that may be missing."""

    def findings(self, subject: Subject) -> Iterator[Finding]:
        """Yield what the rule finds in one resource; nothing for a type that it does not look at."""
        if self.check_stack is None and subject.type in self.types:
            yield from self.check(subject)

    def message(self, finding: Finding) -> str:
        """Return the sentence that people read, with the cure."""
        return f"{finding.text}. Cure: {self.cure}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A policy that a resource breaks."""

    policy: str
    level: Level
    urn: str
    message: str


def reads(*paths: str) -> Callable[[Rule], Rule]:
    """Say of what a rule judges by; where it finds nothing, and one of these is not known, it could not judge.

    Args:
        paths: of properties, as `policies.values.hidden` reads them.
    """

    def made(rule: Rule) -> Rule:
        def judged(subject: Subject) -> Iterator[Finding]:
            found = list(rule(subject))
            yield from found
            names = ", ".join(path for path in paths if hidden(subject.properties, path))
            if names and not found:
                yield Finding(text=f"{names} is not known before the deployment, so it was not judged", unknown=True)

        return judged

    return made


def nothing(subject: Subject) -> Iterable[Finding]:
    """Find nothing; the ``check`` of policies that judge a whole stack."""
    del subject
    return ()
