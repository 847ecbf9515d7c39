"""What would change between two Git revisions: found out by comparing their plans, without state, secrets or a Docker daemon.

It tells what is created, changed, replaced and deleted, which data a replacement loses, which services restart and for how long, and
whether the policies allow it. The same two revisions always give the same bytes.
"""

from __future__ import annotations

import difflib
import functools
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from components.secrets.names import files
from operations import plan as plans
from operations.plan import Plan, PlanError, PlannedResource, Value
from policies import check as policies
from policies.check import Review
from policies.model import Level, Violation
from policies.values import labels, mapping, mappings, number, seconds
from providers.resource import ResourceType

COMMENT_LIMIT = 65_536
"""Characters that GitHub accepts in one comment."""

SUMMARY_LINES = 50
"""Most lines of each kind in a comment's summary."""

CONTEXT_LINES = 3
"""Unchanged lines around each change of a file."""

STOP_SECONDS = 2
"""What stopping, removing and creating a container usually takes."""

_CONTAINER = "docker:index/container:Container"
_NETWORK = "docker:index/network:Network"
_VOLUME = "docker:index/volume:Volume"
_REALM = "keycloak:index/realm:Realm"
_USER = "keycloak:index/user:User"

BOOKKEEPING = frozenset(
    {
        "attach",
        "containerReadRefreshTimeoutMilliseconds",
        "destroyGraceSeconds",
        "logs",
        "mustRun",
        "removeVolumes",
        "start",
        "wait",
        "waitTimeout",
    }
)
"""Properties of a container that only steer the provider; a running container does not have them."""

SILENT = frozenset({"cpuPeriod", "cpuQuota", "healthcheck", "init", "rm", "tmpfs"})
"""Properties of a container whose change the provider reports as done without doing it, unless ``replaceOnChanges`` names them."""

_KEYS: Mapping[str, str] = {
    "uploads": "file",
    "labels": "label",
    "networksAdvanced": "name",
    "ports": "internal",
    "volumes": "containerPath",
    "mounts": "target",
    "ulimits": "name",
    "devices": "hostPath",
    "hosts": "host",
}
"""By which of its properties an item of a list is found again."""

ATTACHED: Mapping[str, tuple[str, str, str]] = {
    "networksAdvanced": (_NETWORK, "name", "name"),
    "volumes": (_VOLUME, "volumeName", "containerPath"),
    "mounts": (_VOLUME, "source", "target"),
}
"""Where containers name networks and volumes: type, property of the name, and property that an item is known by."""

KEPT = ("protect", "retainOnDelete")
"""Options of a resource that decide whether something is lost later."""

_FILES_LABEL = "aikit.files"
"""The label by which a container is replaced when one of its files changes."""
_SECRETS_LABEL = "aikit.secrets"
"""The same for its secrets, which are in an entry of Vault that the agent reads."""
_CONTENT = "envs[CONTENT]"
"""Where the agent is told that an entry changes, which replaces it, too."""
_ENTRY = "vault:kv/secretV2:SecretV2"
_ENTRIES = files("")
"""What the names of such entries begin with; the name of the container follows."""


_HASHES = {
    f"labels[{_FILES_LABEL}]": "files",
    f"labels[{_SECRETS_LABEL}]": "secrets",
    _CONTENT: "entries in Vault",
}
"""What has changed where the new value says nothing to a reader."""


class Action(StrEnum):
    """What happens to a resource."""

    DELETED = "deleted"
    REPLACED = "replaced"
    CHANGED = "changed"
    CREATED = "created"
    MOVED = "moved"
    """It gets another name in the program and stays what it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PropertyChange:
    """One difference between a resource's two versions."""

    path: str
    """Where: ``memory``, ``envs[HOME]``, ``uploads[/etc/aikit/haproxy.cfg].content``."""
    old: Value = None
    """None if it was not there."""
    new: Value = None
    because: str = ""
    """Name of the replaced resource that the value comes from, if the text of it is the same."""
    replaces: bool = False
    """Whether it alone replaces the resource."""
    silent: bool = False
    """Whether the provider would report it as done without doing it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """A container that stops and starts again."""

    service: str
    job: bool
    """Whether it only does its work once more, and nobody waits for it."""
    typical_seconds: int
    """Until the first successful health check of a service that starts at once."""
    longest_seconds: int
    """Stop and start, each as long as the program allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceChange:
    """What happens to one resource, and why."""

    action: Action
    urn: str
    name: str
    kind: str
    component: str
    changes: tuple[PropertyChange, ...] = ()
    loss: str = ""
    """What is lost for ever, or left behind; empty for nothing."""
    restart: Restart | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Everything that differs between two revisions of a stack's program."""

    stack: str
    base: str
    """The revision that it is compared with, as it was asked for."""
    commit: str
    """Its commit."""
    changes: tuple[ResourceChange, ...]
    outputs: tuple[PropertyChange, ...]
    review: Review
    """What the policies say about the new version."""
    introduced: tuple[Violation, ...]
    """Violations that the old version did not have."""
    resolved: int
    """How many of the old version's violations are gone."""

    @property
    def counts(self) -> dict[str, int]:
        """How many resources each action is for."""
        counted = Counter(change.action for change in self.changes)
        return {action.value: counted[action] for action in Action}

    @property
    def losses(self) -> tuple[ResourceChange, ...]:
        """The changes that lose something."""
        return tuple(change for change in self.changes if change.loss)

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """What restarts, in the order of names."""
        return tuple(
            sorted(
                (change.restart for change in self.changes if change.restart), key=lambda item: (item.job, item.service)
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain data for tools."""
        return {
            "format": plans.FORMAT,
            "stack": self.stack,
            "base": self.base,
            "commit": self.commit,
            "counts": self.counts,
            "changes": [
                {
                    "action": change.action.value,
                    "urn": change.urn,
                    "name": change.name,
                    "type": change.kind,
                    "component": change.component,
                    "loss": change.loss,
                    "restart": _restart_json(change.restart),
                    "properties": [_property_json(item) for item in change.changes],
                }
                for change in self.changes
            ],
            "outputs": [_property_json(item) for item in self.outputs],
            "policies": {
                **self.review.to_json(),
                "introduced": [{"policy": item.policy, "urn": item.urn} for item in self.introduced],
                "resolved": self.resolved,
                "allowed": not self.review.blocking,
            },
        }


def _property_json(item: PropertyChange) -> dict[str, Any]:
    return {
        "path": item.path,
        "old": item.old,
        "new": item.new,
        "because": item.because,
        "replaces": item.replaces,
        "silent": item.silent,
        **({"diff": "\n".join(text_diff(item))} if text_diff(item) else {}),
    }


def _restart_json(item: Restart | None) -> dict[str, Any] | None:
    return item and {
        "service": item.service,
        "job": item.job,
        "typicalSeconds": item.typical_seconds,
        "longestSeconds": item.longest_seconds,
    }


# --- comparing -------------------------------------------------------------------------------------------------------------------


def flatten(properties: Mapping[str, Value]) -> dict[str, Value]:
    """Return each single value of a resource's properties by its path; items of lists are found by what names them."""
    flat: dict[str, Value] = {}

    def add(path: str, value: Value) -> None:
        if isinstance(value, dict) and value:
            for name, item in value.items():
                add(f"{path}.{name}" if path else name, item)
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            key = _KEYS.get(path.rpartition(".")[2])
            for position, item in enumerate(cast("list[dict[str, Value]]", value)):
                rest = dict(item)
                identity = rest.pop(key, position) if key else position
                inner = f"{path}[{identity}]"
                # "label" and "value" are one thing to a reader.
                add(inner, rest["value"] if set(rest) == {"value"} else cast("Value", rest))
        elif path == "envs" and isinstance(value, list):
            for item in value:
                name, _, text = str(item).partition("=")
                add(f"{path}[{name}]", text)
        else:
            flat[path] = value

    for name in sorted(properties):
        add(name, properties[name])
    return flat


def _top(path: str) -> str:
    """Return the property that a path begins with."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


@functools.cache
def _types() -> Mapping[str, ResourceType[Any]]:
    """Return what the providers know of each type; they follow the official ones in what replaces a resource."""
    from providers.catalogue import PROVIDERS

    return {kind.token: kind() for provider in PROVIDERS for kind in provider.resources}


def replaces(resource: PlannedResource, name: str, old: Value, new: Value) -> bool:
    """Whether the change of a property from one value to another replaces a resource."""
    chosen = {
        str(item).split(".", maxsplit=1)[0]
        for item in cast("Sequence[str]", resource.options.get("replaceOnChanges") or ())
    }
    if name in chosen or "*" in chosen:
        return True
    if resource.type == _CONTAINER and name in BOOKKEEPING | SILENT:
        return False
    known = _types().get(resource.type)
    if known is None:
        return False
    return name not in known.properties or known.replaced_by(name, old, new)


def _property_changes(old: PlannedResource, new: PlannedResource) -> list[PropertyChange]:
    ignored = {_top(str(item)) for item in cast("Sequence[str]", new.options.get("ignoreChanges") or ())}
    before, after = flatten(old.properties), flatten(new.properties)
    found: list[PropertyChange] = []
    for path in sorted({*before, *after}):
        if before.get(path) == after.get(path) or _top(path) in ignored:
            continue
        change = PropertyChange(path=path, old=before.get(path), new=after.get(path))
        name = _top(path)
        found.append(_judged(change, new, old.properties.get(name), new.properties.get(name)))
    for option in KEPT:
        if bool(old.options.get(option)) != bool(new.options.get(option)):
            # The engine notes it, and asks the provider for nothing.
            values = (bool(old.options.get(option)), bool(new.options.get(option)))
            found.append(PropertyChange(path=f"({option})", old=values[0], new=values[1]))
    return found


def _judged(change: PropertyChange, resource: PlannedResource, old: Value, new: Value) -> PropertyChange:
    """Return a change with what it does; ``old`` and ``new`` are the whole property's values."""
    name = _top(change.path)
    replacing = replaces(resource, name, old, new)
    return replace(change, replaces=replacing, silent=not replacing and resource.type == _CONTAINER and name in SILENT)


def _aliases(resource: PlannedResource) -> set[str]:
    return {str(item) for item in cast("Sequence[str]", resource.options.get("aliases") or ())}


def compare(old: Plan, new: Plan) -> tuple[ResourceChange, ...]:
    """Return what happens to each resource when ``new`` is deployed over ``old``, worst first."""
    before = {resource.urn: resource for resource in old.custom()}
    after = {resource.urn: resource for resource in new.custom()}
    pairs: dict[str, tuple[PlannedResource, PlannedResource]] = {
        urn: (before[urn], after[urn]) for urn in before.keys() & after.keys()
    }
    moved: set[str] = set()
    for urn in sorted(after.keys() - before.keys()):
        known = _aliases(after[urn])
        for previous in sorted(before.keys() - after.keys()):
            if before[previous].type == after[urn].type and (
                {previous, before[previous].name, f"{before[previous].type}:{before[previous].name}"} & known
            ):
                pairs[urn] = (before[previous], after[urn])
                moved |= {urn, previous}
                break
    changed = {urn: _property_changes(*pair) for urn, pair in pairs.items()}
    replaced = _spread(pairs, changed)

    changes: list[ResourceChange] = []
    for urn in sorted({*before, *after} - moved | {urn for urn in moved if urn in after}):
        if urn in pairs:
            previous, resource = pairs[urn]
            if urn in replaced:
                action = Action.REPLACED
            elif changed[urn]:
                action = Action.CHANGED
            elif urn in moved:
                action = Action.MOVED
            else:
                continue
            changes.append(_change(action, resource, new, changes=tuple(changed[urn]), previous=previous))
        elif urn in after:
            changes.append(_change(Action.CREATED, after[urn], new))
        else:
            changes.append(_change(Action.DELETED, before[urn], old, previous=before[urn]))
    order = list(Action)
    return tuple(
        sorted(changes, key=lambda change: (order.index(change.action), change.component, change.name, change.urn))
    )


def _spread(
    pairs: Mapping[str, tuple[PlannedResource, PlannedResource]], changed: dict[str, list[PropertyChange]]
) -> set[str]:
    """Follow replacements to what refers to them, add those changes to ``changed``, and return all that is replaced."""
    replaced = {urn for urn, found in changed.items() if any(item.replaces for item in found)}
    # A reference names its resource, so every resource of that name is meant.
    references: dict[str, list[tuple[str, str]]] = defaultdict(list)
    flat = {urn: flatten(pair[1].properties) for urn, pair in pairs.items()}
    for urn, values in flat.items():
        for path, value in values.items():
            for reference in plans.REFERENCE.findall(json.dumps(value, ensure_ascii=False)):
                references[reference[2:].rpartition(".")[0]].append((urn, path))
    waiting = sorted(replaced | {urn for urn, found in changed.items() if found and _keeps_secrets(pairs[urn][1])})
    while waiting:
        source = waiting.pop()
        name = pairs[source][1].name
        reached = [(urn, path) for urn, path in references[name] if urn != source]
        if any(_top(item.path) == "uploads" for item in changed[source]):
            reached += [(urn, f"labels[{_FILES_LABEL}]") for urn in _readers(source, pairs)]
        if _keeps_secrets(pairs[source][1]):
            reached += _users(source, pairs)
        if source in replaced:
            reached += _attached(source, pairs)
        for urn, path in sorted(set(reached)):
            if any(item.path == path for item in changed[urn]):
                continue
            value = flat[urn].get(path, pairs[source][1].properties.get("name"))
            whole = pairs[urn][1].properties.get(_top(path))
            item = _judged(PropertyChange(path=path, old=value, new=value, because=name), pairs[urn][1], whole, whole)
            ignored = {
                _top(str(entry)) for entry in cast("Sequence[str]", pairs[urn][1].options.get("ignoreChanges") or ())
            }
            if _top(path) in ignored:
                continue
            changed[urn].append(item)
            if item.replaces:
                replaced.add(urn)
                # Once more, even if it was replaced already: now its files may change, too.
                waiting.append(urn)
            elif _keeps_secrets(pairs[urn][1]):
                waiting.append(urn)
    return replaced


def _readers(source: str, pairs: Mapping[str, tuple[PlannedResource, PlannedResource]]) -> list[str]:
    """Return the containers that read the files that a replaced container puts into a volume: their label changes with the files."""
    carrier = pairs[source][1]
    if carrier.type != _CONTAINER or not carrier.properties.get("uploads"):
        return []
    return [
        urn
        for urn, (_, resource) in pairs.items()
        if source in resource.dependencies
        and resource.type == _CONTAINER
        and _FILES_LABEL in labels(resource.properties)
    ]


def _attached(source: str, pairs: Mapping[str, tuple[PlannedResource, PlannedResource]]) -> list[tuple[str, str]]:
    """Return the containers that name a replaced network or volume, and where: it can only be removed without them.

    A plan knows such names, so there is no reference to follow.
    """
    resource = pairs[source][1]
    found: list[tuple[str, str]] = []
    for property_name, (kind, names, shown) in ATTACHED.items():
        if resource.type != kind:
            continue
        for urn, (_, other) in pairs.items():
            if other.type != _CONTAINER or source not in other.dependencies:
                continue
            found += [
                (urn, f"{property_name}[{item.get(shown)}]")
                for item in mappings(other.properties.get(property_name))
                if item.get(names) == resource.properties.get("name")
            ]
    return found


def _keeps_secrets(resource: PlannedResource) -> bool:
    """Whether it is an entry of Vault with the secrets of a container."""
    return resource.type == _ENTRY and str(resource.properties.get("name")).startswith(_ENTRIES)


def _users(source: str, pairs: Mapping[str, tuple[PlannedResource, PlannedResource]]) -> list[tuple[str, str]]:
    """Return who is replaced when an entry of secrets changes, and where: the container that they are of, and the agent."""
    container = str(pairs[source][1].properties["name"]).removeprefix(_ENTRIES)
    found: list[tuple[str, str]] = []
    for urn, (_, resource) in pairs.items():
        if resource.type != _CONTAINER:
            continue
        told = labels(resource.properties)
        if _SECRETS_LABEL in told and told.get("aikit.service") == container:
            found.append((urn, f"labels[{_SECRETS_LABEL}]"))
        elif source in resource.dependencies:
            found.append((urn, _CONTENT))
    return found


def _change(
    action: Action,
    resource: PlannedResource,
    plan: Plan,
    *,
    changes: tuple[PropertyChange, ...] = (),
    previous: PlannedResource | None = None,
) -> ResourceChange:
    owner = plans.component(plan, resource)
    return ResourceChange(
        action=action,
        urn=resource.urn,
        name=resource.name,
        kind=plans.kind(resource),
        component=owner.name if owner else "",
        changes=changes,
        loss=_loss(action, previous) if previous else "",
        restart=_restart(resource) if action is Action.REPLACED else None,
    )


def _loss(action: Action, resource: PlannedResource) -> str:
    """Say what is lost when a resource is deleted or replaced."""
    if action not in {Action.DELETED, Action.REPLACED}:
        return ""
    again = action is Action.REPLACED
    if resource.type == _VOLUME:
        if labels(resource.properties).get("aikit.data") != "true":
            return ""
        if resource.options.get("protect"):
            return "The volume is protected: the engine refuses this change until the protection is taken off."
        if resource.options.get("retainOnDelete"):
            return "The data stays behind in the old volume" + (", and the new one is empty." if again else ".")
        return "ALL DATA IN THE VOLUME IS DELETED."
    if resource.type == _REALM:
        return "All accounts, roles, sessions and clients of the realm are deleted."
    if resource.type == _USER:
        return "The account is deleted" + (" and made anew, with another password." if again else ".")
    if resource.type.startswith("random:") and again:
        return "A new secret is generated: whatever still keeps the old one stops working."
    if resource.type == "tls:index/selfSignedCert:SelfSignedCert" and again:
        return "A new authority is made: people must install it on their machines again."
    return ""


def _restart(resource: PlannedResource) -> Restart | None:
    """Estimate how long a container is away while it is replaced; None for one that never runs."""
    properties = resource.properties
    if resource.type != _CONTAINER or properties.get("start") is False:
        return None
    health = mapping(properties.get("healthcheck"))
    interval = seconds(health.get("interval")) or 0
    retries = number(health.get("retries")) or 0
    grace = number(properties.get("destroyGraceSeconds")) or 0
    return Restart(
        service=labels(properties).get("aikit.service", resource.name),
        job=properties.get("mustRun") is False,
        typical_seconds=round(STOP_SECONDS + interval),
        longest_seconds=round(STOP_SECONDS + grace + (seconds(health.get("startPeriod")) or 0) + interval * retries),
    )


def difference(stack: str, old: Plan, new: Plan, *, base: str, commit: str) -> Difference:
    """Compare two plans of a stack and judge the new one."""
    review = policies.review(new, stack)
    known = {(item.policy, item.urn, item.message) for item in policies.review(old, stack).violations}
    now = {(item.policy, item.urn, item.message) for item in review.violations}
    before, after = flatten(old.outputs), flatten(new.outputs)
    return Difference(
        stack=stack,
        base=base,
        commit=commit,
        changes=compare(old, new),
        outputs=tuple(
            PropertyChange(path=path, old=before.get(path), new=after.get(path))
            for path in sorted({*before, *after})
            if before.get(path) != after.get(path)
        ),
        review=review,
        introduced=tuple(item for item in review.violations if (item.policy, item.urn, item.message) not in known),
        resolved=len(known - now),
    )


# --- revisions -------------------------------------------------------------------------------------------------------------------


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise PlanError("Comparing revisions needs git, which is not installed.") from error
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise PlanError(f"git {arguments[0]} failed: {message[-1] if message else f'exit code {done.returncode}'}")
    return done.stdout


def resolve(root: Path, revision: str) -> str:
    """Return the commit of a revision.

    Raises:
        PlanError: there is no such revision.
    """
    try:
        return (
            _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
            .decode()
            .strip()
        )
    except PlanError as error:
        raise PlanError(
            f"{revision} is no revision of this repository; in a shallow clone, fetch it first (fetch-depth: 0)."
        ) from error


def plan_of(root: Path, commit: str, stack: str) -> Plan:
    """Plan the program of a commit, in a folder of its own that is removed again; empty if it does not have the stack yet.

    Raises:
        PlanError: its program failed.
    """
    with tempfile.TemporaryDirectory(prefix="aikit-revision-") as folder:
        archive = _git(root, "archive", "--format=tar", commit)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        if not (Path(folder) / f"Pulumi.{stack}.yaml").is_file():
            return Plan(project="aikit", stack=stack, resources=(), outputs={})
        try:
            return plans.isolated(stack, Path(folder))
        except PlanError as error:
            raise PlanError(str(error).replace(folder, f"revision {commit[:12]}")) from error


def against(stack: str, revision: str, root: Path = plans.ROOT) -> Difference:
    """Compare the working tree with a revision.

    Raises:
        PlanError: there is no such revision, or one of the two programs failed.
    """
    commit = resolve(root, revision)
    return difference(stack, plan_of(root, commit, stack), plans.plan(stack, root), base=revision, commit=commit)


# --- showing ---------------------------------------------------------------------------------------------------------------------


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text_diff(change: PropertyChange) -> list[str]:
    """Return the unified diff of a text with several lines; empty for other values."""
    if change.because or not any(isinstance(value, str) and "\n" in value for value in (change.old, change.new)):
        return []
    old = _shown(change.old).splitlines() if change.old is not None else []
    new = _shown(change.new).splitlines() if change.new is not None else []
    lines = difflib.unified_diff(old, new, "old", "new", lineterm="", n=CONTEXT_LINES)
    # The header names no files: the path above it does.
    return list(lines)[2:]


def lines_of(change: ResourceChange) -> list[str]:
    """Return the property changes of a resource as the lines of a diff."""
    lines: list[str] = []
    for item in change.changes:
        if item.path in _HASHES:
            lines.append(f"! its {_HASHES[item.path]} change (replaces it)")
            continue
        marks = (
            " (replaces it)" if item.replaces else " (THE PROVIDER SAYS DONE AND DOES NOT DO IT)" if item.silent else ""
        )
        if item.because:
            lines.append(f"! {item.path}: {_shown(item.new)}: another value, because {item.because} is replaced{marks}")
        elif difference := text_diff(item):
            lines += [f"  {item.path}:{marks}", *difference]
        else:
            if item.old is not None:
                lines.append(f"- {item.path}: {_shown(item.old)}{marks if item.new is None else ''}")
            if item.new is not None:
                lines.append(f"+ {item.path}: {_shown(item.new)}{marks}")
    return lines


def _headline(result: Difference) -> str:
    parts = [f"{count} {action}" for action, count in result.counts.items() if count]
    return ", ".join(parts) or "no changes"


def _downtime(item: Restart) -> str:
    if item.job:
        return f"{item.service} runs again"
    return f"{item.service} is away for about {item.typical_seconds} s, at most {item.longest_seconds} s"


def _policy_lines(result: Difference) -> list[str]:
    new = {(item.policy, item.urn) for item in result.introduced}
    lines: list[str] = []
    for item in sorted(
        result.review.violations, key=lambda item: (item.level is not Level.MANDATORY, item.policy, item.urn)
    ):
        mark = ", new" if (item.policy, item.urn) in new else ""
        lines.append(f"{item.level.value}{mark}: {item.policy}: {item.urn.rpartition('::')[2]}: {item.message}")
    return lines


def _code(text: str) -> str:
    """Return text as a Markdown code span that it can't break out of."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _fenced(lines: Sequence[str], room: int) -> str:
    """Return lines as a fenced diff of at most ``room`` characters; it is cut between lines, and says so inside the fence."""
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    used = len(fence) * 2 + len("diff") + 4
    kept: list[str] = []
    for position, line in enumerate(lines):
        notice = f"# {len(lines) - position} more lines"
        if used + len(line) + 1 + len(notice) + 1 > room:
            kept.append(notice)
            break
        kept.append(line)
        used += len(line) + 1
    return "\n".join([f"{fence}diff", *kept, fence]) + "\n"


def markdown(result: Difference, limit: int = COMMENT_LIMIT) -> str:
    """Return the difference as Markdown for a comment, of at most ``limit`` characters.

    The summary always is in it; changes are cut from the end, never within a code fence or an open ``<details>``.
    """
    verdict = "❌ not allowed by the policies" if result.review.blocking else "✅ allowed by the policies"
    head = [
        f"<!-- aikit plan {result.stack} -->",
        f"### Plan of stack {_code(result.stack)}: {_headline(result)}",
        "",
        f"Compared with {_code(result.base)} ({result.commit[:12]}); {verdict}.",
        "",
    ]
    if result.losses:
        head += ["> [!CAUTION]"]
        head += [
            f"> - **{_code(change.name)} is {change.action}.** {change.loss}"
            for change in result.losses[:SUMMARY_LINES]
        ]
        head += [""]
    if result.restarts:
        head += ["**Restarts:**", *(f"- {_code(_downtime(item))}" for item in result.restarts[:SUMMARY_LINES]), ""]
    found = _policy_lines(result)
    if found:
        head += ["**Policies:**", *(f"- {_code(line)}" for line in found[:SUMMARY_LINES])]
        head += [f"- and {len(found) - SUMMARY_LINES} more"] if len(found) > SUMMARY_LINES else []
        head += [""]
    if result.resolved:
        head += [f"{result.resolved} violations are resolved.", ""]
    tail_room = 300
    text = "\n".join(head)
    if len(text) > limit - tail_room:
        text = text[: limit - tail_room].rsplit("\n", 1)[0] + "\n"
    left_out = 0
    for action in Action:
        group = [change for change in result.changes if change.action is action]
        if not group:
            continue
        shown = " open" if action in {Action.DELETED, Action.REPLACED} else ""
        opening = f"\n<details{shown}><summary>{action.capitalize()} ({len(group)})</summary>\n\n"
        closing = "\n</details>\n"
        if len(text) + len(opening) + len(closing) + 400 > limit - tail_room:
            left_out += len(group)
            continue
        body = ""
        for position, change in enumerate(group):
            room = limit - tail_room - len(text) - len(opening) - len(body) - len(closing)
            owner = f" of {_code(change.component)}" if change.component else ""
            title = f"**{_code(change.name)}** {_code(change.kind)}{owner}\n"
            lines = lines_of(change)
            if len(title) + (200 if lines else 0) > room:
                left_out += len(group) - position
                break
            body += title + (_fenced(lines, room - len(title) - 2) if lines else "") + "\n"
        text += opening + body.rstrip("\n") + "\n" + closing
    if left_out:
        everything = f"./aikit plan --stack {result.stack} --against {result.base}"
        text += f"\n{left_out} more changes are not shown; {_code(everything)} shows all.\n"
    return text


def _terminal(result: Difference) -> Iterable[str]:
    """Yield the difference as lines with markup for the terminal."""
    from rich.markup import escape

    colours = {
        Action.DELETED: "red",
        Action.REPLACED: "magenta",
        Action.CHANGED: "yellow",
        Action.CREATED: "green",
        Action.MOVED: "cyan",
    }
    yield f"[bold]{escape(result.stack)}[/] against {escape(result.base)} ({result.commit[:12]}): {_headline(result)}"
    for change in result.changes:
        yield f"[{colours[change.action]}]{change.action}[/] [bold]{escape(change.name)}[/] {escape(change.kind)}"
        if change.loss:
            yield f"    [bold red]{escape(change.loss)}[/]"
        for line in lines_of(change):
            colour = {"-": "red", "+": "green", "@": "cyan", "!": "magenta"}.get(line[:1], "dim")
            yield f"    [{colour}]{escape(line)}[/]"
    for item in result.restarts:
        yield f"[yellow]restart[/] {escape(_downtime(item))}"
    for line in _policy_lines(result):
        yield f"[{'bold red' if line.startswith('mandatory') else 'yellow'}]{escape(line)}[/]"
    yield "policies: " + ("[bold red]not allowed[/]" if result.review.blocking else "[green]allowed[/]")


def command(
    stack: str, revision: str, *, as_json: bool = False, markdown: bool = False, root: Path = plans.ROOT
) -> int:
    """Run ``./aikit plan --against REVISION``: print what the working tree changes.

    Returns:
        0 if there are no changes or the policies allow them, 1 if a mandatory policy is broken.

    Raises:
        PlanError: there is no such revision, or one of the two programs failed.
    """
    from rich.console import Console

    result = against(stack, revision, root)
    if as_json:
        sys.stdout.write(json.dumps(result.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    elif markdown:
        sys.stdout.write(_markdown(result))
    else:
        output = Console(highlight=False, soft_wrap=True)
        for line in _terminal(result):
            output.print(line)
    return 1 if result.review.blocking else 0


_markdown = markdown
