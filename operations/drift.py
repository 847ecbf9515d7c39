"""Tells what on the running host is not as the program says; nothing is changed, not even the state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from operations import state
from operations.console import notes, print_json, say
from operations.containers import StackInDocker
from operations.difference import flatten
from operations.errors import Exit, Failure
from operations.lifecycle import Options, everything_runs, prepared
from operations.progress import Progress

if TYPE_CHECKING:
    from pulumi.automation.events import EngineEvent, StepEventMetadata

SHOWN_CHARACTERS = 80
"""Of a value in the text for people; JSON has it whole."""

Kind = Literal["changed", "missing", "unknown", "undeclared"]

KINDS: Mapping[Kind, str] = {
    "changed": "is not as the program says",
    "missing": "is missing",
    "unknown": "is not of the program",
    "undeclared": "is no longer in the program",
}
"""What can differ, in words."""


@dataclass(frozen=True, kw_only=True)
class Property:
    """A property whose value is not the program's."""

    path: str
    """Such as ``memory`` or ``labels[team]``."""
    expected: Any
    """What the program says; None for nothing."""
    found: Any
    """What the host has; None for nothing. Secrets are never shown on either side."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A thing that differs."""

    kind: Kind
    name: str
    """For people."""
    urn: str
    """Empty for a thing that no program declared."""
    properties: tuple[Property, ...] = ()
    by: Literal["host", "program"] = "host"
    """Which side changed since the last deployment: the running host, or the program and its settings."""


class _Comparison(Progress):
    """Also keeps what the engine says about each difference."""

    def __init__(self, task: str) -> None:
        super().__init__(task, planning=True)
        self.steps: dict[str, StepEventMetadata] = {}

    def __call__(self, event: "EngineEvent") -> None:
        super().__call__(event)
        if event.resource_pre_event:
            metadata = event.resource_pre_event.metadata
            known = self.steps.get(metadata.urn)
            # A replacement comes in several steps; the first that has properties tells the difference.
            if metadata.urn in self.changed and not (known and known.diffs):
                self.steps[metadata.urn] = metadata


def drift(options: Options) -> Exit:
    """Show what differs between the program and the running host.

    Returns:
        `Exit.DIFFERENT` if anything does.

    Raises:
        Failure: the stack was never deployed, or the comparison is not possible.
    """
    with prepared(options, "drift", change=False) as ready:
        path = options.project.state(options.stack)
        if path is not None and state.read(path) is None:
            raise Failure(
                f"Stack {options.stack} was never deployed, so nothing can differ: run `./aikit up --stack {options.stack}`."
            )
        with ready.session() as session:
            known = session.state()
            # What lives in a service, such as users in Keycloak, can only be asked for while all of it runs.
            whole = everything_runs(known, ready.in_docker.containers())
            comparison = _Comparison(f"comparing stack {options.stack} with what runs")
            session.run(
                comparison, session.stack.preview, refresh=True, target=None if whole else known.in_docker() or None
            )
        found = [*_differences(comparison, known), *_foreign(known, ready.in_docker)]
    if options.as_json:
        print_json({"stack": options.stack, "complete": whole, "differences": [_json(each) for each in found]})
    else:
        for line in _lines(found):
            notes.print(line, markup=False)
        if not whole:
            say("only what is in Docker was compared, because not every service runs")
        things = f"{len(found)} thing{'' if len(found) == 1 else 's'}"
        say(f"stack {options.stack}: {f'{things} differ' if found else 'nothing differs'}")
    return Exit.DIFFERENT if found else Exit.OK


def _differences(comparison: _Comparison, known: state.State) -> Iterator[Drift]:
    deployed = {str(resource["urn"]): resource for resource in known.resources}
    for urn, step in sorted(comparison.changed.items()):
        name = comparison.name(urn)
        if urn not in deployed:
            yield Drift(kind="missing", name=name, urn=urn, by="program")
        elif step == "create":
            yield Drift(kind="missing", name=name, urn=urn)
        elif step == "delete":
            yield Drift(kind="undeclared", name=name, urn=urn, by="program")
        else:
            properties = tuple(_properties(comparison.steps[urn]))
            before = flatten(deployed[urn].get("inputs") or {})
            # Of a secret neither side is known here; the program's are generated once, so the host's is the likelier to have changed.
            by_hand = not properties or any(
                before.get(item.path) == item.expected or state.HIDDEN in str(item.expected) for item in properties
            )
            yield Drift(kind="changed", name=name, urn=urn, properties=properties, by="host" if by_hand else "program")


def _properties(step: "StepEventMetadata") -> Iterator[Property]:
    found = dict((step.old.inputs if step.old else None) or {})
    # What a provider found only in its outputs is there, too.
    outputs: Mapping[str, Any] = (step.old.outputs if step.old else None) or {}
    expected: Mapping[str, Any] = (step.new.inputs if step.new else None) or {}
    for name in step.diffs or ():
        before = found.get(name)
        if before == expected.get(name):
            before = outputs.get(name)
        one, other = flatten({name: before}), flatten({name: expected.get(name)})
        paths = [path for path in sorted({*one, *other}) if one.get(path) != other.get(path)]
        for path in paths or [name]:
            yield Property(path=path, expected=other.get(path), found=one.get(path))


def _foreign(known: state.State, in_docker: StackInDocker) -> Iterator[Drift]:
    """Yield what carries the stack's label in Docker, but was made by nobody's program."""
    identifiers = {str(resource.get("id")) for resource in known.resources}
    things = [("container", each) for each in in_docker.containers()]
    things += [("network", each) for each in in_docker.networks()]
    for kind, thing in things:
        if thing.id not in identifiers:
            yield Drift(kind="unknown", name=f"{kind} {thing.name}", urn="")


def _lines(found: Sequence[Drift]) -> Iterator[str]:
    for each in found:
        cause = "; the program changed since the last deployment" if each.by == "program" else ""
        yield f"  {each.name} {KINDS[each.kind]}{cause}"
        for item in each.properties:
            yield f"    {item.path}: {_shown(item.found)} instead of {_shown(item.expected)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."


def _json(each: Drift) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "name": each.name,
        "urn": each.urn,
        "by": each.by,
        "properties": [vars(item) for item in each.properties],
    }
