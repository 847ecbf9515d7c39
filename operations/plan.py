"""The plan: what the program would declare, found out without Docker, engine, network or secret.

The program runs against a monitor that records each registration and answers with references. What only a real run can know, such as a
generated password, becomes a readable placeholder (``${postgres-password.result}``), so that the same revision always gives the same
bytes: plans can be compared, shown in a pull request of a stranger, and judged by the policies.

The file needs nothing of this project, because it also runs as a script inside another revision's tree (``operations/difference.py``).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import gc
import hashlib
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
"""Folder of the project that this file belongs to."""

FORMAT = 1
"""Version of the JSON form; a reader refuses others."""

MASKED = "[secret]"
"""Stands for a secret of which nothing may be shown."""

REFERENCE = re.compile(r"\$\{[A-Za-z0-9_][\w.:/-]*\.[A-Za-z]\w*\}")
"""A value that only a real run knows: ``${<resource>.<property>}``."""

TIMEOUT_SECONDS = 120
"""How long the program of another revision may take to declare its resources."""

PIPE_WIDTH = 240
"""Columns of the tree where nobody's terminal says how many there are."""

_SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key by which the engine's protocol marks values that are not plain data."""
_SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  # it marks secrets and is none
_ASSET = "c44067f5952c0a294b673a41bacd8c17"
_ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"
_RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

_STACK_TYPE = "pulumi:pulumi:Stack"

_INTERNAL = frozenset({"__provider", "__defaults", "__internal"})
"""Properties that the SDK adds for itself: pickled code and defaults, different on each machine."""

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"
"""What a property can be: JSON, with references and masks as text."""


class PlanError(Exception):
    """The program could not be run, with one sentence that says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedResource:
    """One resource that the program declares."""

    urn: str
    """The name that the engine gives it in this stack; unique."""
    type: str
    """Type token, such as ``docker:index/container:Container``."""
    name: str
    """Logical name in the program."""
    parent: str | None
    """URN of the component that it belongs to; None at the top."""
    provider: str | None
    """URN of its explicit provider."""
    custom: bool
    """Whether a provider makes it; otherwise it is a component, which only groups others."""
    properties: Mapping[str, Value]
    """Inputs by their names in the schema (camelCase), without what is not set."""
    dependencies: tuple[str, ...]
    """URNs of the resources that it waits for, sorted."""
    options: Mapping[str, Value]
    """Resource options that are set, such as ``protect`` and ``replaceOnChanges``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that a stack's program declares, ordered by URN."""

    project: str
    stack: str
    resources: tuple[PlannedResource, ...]
    outputs: Mapping[str, Value]
    """What the stack exports."""

    def custom(self) -> Iterator[PlannedResource]:
        """Yield the resources that a provider makes, without providers and components."""
        for resource in self.resources:
            if resource.custom and not resource.type.startswith("pulumi:providers:"):
                yield resource

    def to_json(self) -> dict[str, Value]:
        """Return the plan as plain data, of which ``from_json`` makes an equal one."""
        return {
            "format": FORMAT,
            "project": self.project,
            "stack": self.stack,
            "resources": [
                {
                    "urn": resource.urn,
                    "type": resource.type,
                    "name": resource.name,
                    "parent": resource.parent,
                    "provider": resource.provider,
                    "custom": resource.custom,
                    "properties": dict(resource.properties),
                    "dependencies": list(resource.dependencies),
                    "options": dict(resource.options),
                }
                for resource in self.resources
            ],
            "outputs": dict(self.outputs),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Plan:
        """Make a plan of what ``to_json`` returned.

        Raises:
            PlanError: the data has another format.
        """
        if data.get("format") != FORMAT:
            raise PlanError(f"The plan has format {data.get('format')!r}, but this program reads format {FORMAT}.")
        return Plan(
            project=data["project"],
            stack=data["stack"],
            resources=tuple(
                PlannedResource(
                    urn=item["urn"],
                    type=item["type"],
                    name=item["name"],
                    parent=item["parent"],
                    provider=item["provider"],
                    custom=item["custom"],
                    properties=item["properties"],
                    dependencies=tuple(item["dependencies"]),
                    options=item["options"],
                )
                for item in data["resources"]
            ),
            outputs=data["outputs"],
        )


def text(plan: Plan) -> str:
    """Return the plan as JSON text with sorted keys: the same plan, the same bytes."""
    return json.dumps(plan.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def _without_garbage_collection() -> Generator[None]:
    """Keep Python from looking for garbage: a plan makes little of it, and to look at all its objects takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_garbage_collection()
def plan(stack: str, root: Path = ROOT) -> Plan:
    """Run the program of ``root`` for ``stack`` without touching anything, and return what it declares.

    Args:
        stack: name of the stack, whose settings are in ``Pulumi.<stack>.yaml``.
        root: the project's folder. Another folder than this file's own is planned in a process of its own, because its modules have
            the same names.

    Raises:
        PlanError: the program failed.
        settings.SettingsError: its settings are wrong (only for this project's own folder).
    """
    if root.resolve() == ROOT:
        return record(_program(stack, ROOT), stack=stack, project=_project(ROOT), root=ROOT)
    return isolated(stack, root)


def isolated(stack: str, root: Path) -> Plan:
    """Plan the program of any folder, in a process of its own with this process's packages.

    Raises:
        PlanError: the program failed, or took longer than ``TIMEOUT_SECONDS``.
    """
    with tempfile.TemporaryDirectory(prefix="aikit-plan-") as folder:
        output = Path(folder) / "plan.json"
        # Only what a program needs to start: no engine, no secret of this shell reaches another revision's code.
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in {"PATH", "HOME", "LANG", "LC_ALL", "PYTHONPYCACHEPREFIX"}
        }
        arguments = [
            sys.executable,
            "-P",
            str(Path(__file__).resolve()),
            "--stack",
            stack,
            "--root",
            str(root),
            "--output",
            str(output),
        ]
        try:
            done = subprocess.run(
                arguments,
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PlanError(f"The program in {root} did not end within {TIMEOUT_SECONDS} s.") from error
        if done.returncode or not output.is_file():
            lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
            raise PlanError(f"The program in {root} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return Plan.from_json(json.loads(output.read_text()))


@_without_garbage_collection()
def record(
    program: Callable[[], None],
    *,
    stack: str,
    project: str = "aikit",
    root: Path = ROOT,
    config: Mapping[str, str] | None = None,
) -> Plan:
    """Run ``program`` against the recording monitor and return what it declares.

    Args:
        program: declares resources, as a Pulumi program does.
        stack: name that the program sees as the stack's.
        project: name that it sees as the project's.
        root: folder whose path is written as ``.``, so that a plan does not depend on where the project lies.
        config: what ``pulumi.Config`` returns, by full key.

    Raises:
        PlanError: the program raised, with its message.
    """
    # A thread of its own has settings, root resource and event loop of its own: nothing of the caller's program is disturbed.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(_record, program, stack, project, root, config or {}).result()


def _record(program: Callable[[], None], stack: str, project: str, root: Path, config: Mapping[str, str]) -> Plan:
    import asyncio

    import pulumi
    from pulumi.runtime import mocks, set_all_config
    from pulumi.runtime.settings import SETTINGS, get_root_resource
    from pulumi.runtime.stack import run_pulumi_func

    tracked: Any = SETTINGS
    # What a failed run left in this process would be waited for, and never come.
    tracked.rpc_manager.clear()
    tracked.outputs.clear()
    from_wire = _Reader(root=root)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        monitor = _monitor(stack=stack, project=project, reader=from_wire)
        mocks.set_mocks(monitor.mocks, project=project, stack=stack, preview=False, monitor=monitor)
        if config:
            set_all_config(dict(config))
        outputs: dict[str, Value] = {}

        async def main() -> None:
            program()
            exported = cast("Any", get_root_resource()).outputs
            for name in sorted(exported):
                output = pulumi.Output.from_input(exported[name])
                value = from_wire.plain(await output.future())
                outputs[name] = from_wire.mask(value) if await output.is_secret() else value

        loop.run_until_complete(run_pulumi_func(main))
    except Exception as error:
        if type(error).__name__ == "SettingsError":
            raise
        raise PlanError(f"The program of stack {stack} failed: {type(error).__name__}: {error}") from error
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return Plan(
        project=project,
        stack=stack,
        resources=tuple(sorted(monitor.planned, key=lambda resource: resource.urn)),
        outputs=outputs,
    )


def _monitor(*, stack: str, project: str, reader: _Reader) -> Any:
    """Make the monitor; a function, because its base class costs an import of the SDK."""
    from google.protobuf import struct_pb2
    from pulumi.runtime import mocks
    from pulumi.runtime.proto import resource_pb2

    class Answers(mocks.Mocks):
        """Answers of functions and reads; resources are answered by the monitor itself."""

        def call(self, args: mocks.MockCallArgs) -> Any:
            return {**cast("Any", args).args, "id": f"${{{args.token.rpartition(':')[2]}.id}}"}

        def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
            return args.resource_id or f"${{{args.name}.id}}", cast("Any", args).inputs

    class Recorder(mocks.MockMonitor):
        """Records each registration and answers with its inputs and references to everything else."""

        def __init__(self) -> None:
            super().__init__(Answers())
            self.planned: list[PlannedResource] = []

        def make_urn(self, parent: str, type_: str, name: str) -> str:
            # The engine's rule; the base class forgets all ancestors but one.
            if parent and (qualified := parent.split("::")[2]) != _STACK_TYPE:
                type_ = f"{qualified}${type_}"
            return f"urn:pulumi:{stack}::{project}::{type_}::{name}"

        def RegisterResource(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
            urn = self.make_urn(request.parent, request.type, request.name)
            if request.type == _STACK_TYPE:
                return resource_pb2.RegisterResourceResponse(urn=urn)
            self.planned.append(
                PlannedResource(
                    urn=urn,
                    type=request.type,
                    name=request.name,
                    parent=None if request.parent.split("::")[2:3] in ([], [_STACK_TYPE]) else request.parent,
                    provider=request.provider.rpartition("::")[0] or None,
                    custom=request.custom,
                    properties=reader.properties(request.object),
                    dependencies=tuple(sorted(set(request.dependencies))),
                    options=_options(request, reader),
                )
            )
            answer = struct_pb2.Struct()
            answer.CopyFrom(request.object)
            secret = set(request.additionalSecretOutputs)
            for name, value in _computed(request.type, request.name).items():
                if name not in answer.fields:
                    if name in secret:
                        answer.update({name: {_SIGNATURE: _SECRET_SIGNATURE, "value": value}})
                    else:
                        answer.update({name: value})
            identity = request.importId or (f"${{{request.name}.id}}" if request.custom else "")
            return resource_pb2.RegisterResourceResponse(urn=urn, id=identity, object=answer)

    return Recorder()


def _options(request: Any, reader: _Reader) -> dict[str, Value]:
    """Return the resource options of a registration that differ from the defaults."""
    options: dict[str, Value] = {}
    if request.protect:
        options["protect"] = True
    if request.retainOnDelete:
        options["retainOnDelete"] = True
    if request.deleteBeforeReplaceDefined and request.deleteBeforeReplace:
        options["deleteBeforeReplace"] = True
    for name in ("replaceOnChanges", "ignoreChanges", "additionalSecretOutputs", "hideDiffs"):
        if values := sorted(getattr(request, name)):
            options[name] = values
    if request.deletedWith:
        options["deletedWith"] = request.deletedWith
    if request.importId:
        options["import"] = request.importId
    timeouts: dict[str, Value] = {
        name: value for name in ("create", "update", "delete") if (value := getattr(request.customTimeouts, name))
    }
    if timeouts:
        options["customTimeouts"] = timeouts
    aliases: list[Value] = sorted(request.aliasURNs)
    for alias in request.aliases:
        spec = alias.spec
        aliases.append(alias.urn or ":".join(part for part in (spec.type, spec.name) if part))
    if aliases:
        options["aliases"] = aliases
    if request.HasField("replacement_trigger"):
        options["replacementTrigger"] = reader.value(request.replacement_trigger)
    return options


class _Reader:
    """Turns the protocol's values into plain ones: secrets masked, the project's path cut, numbers whole where they are."""

    def __init__(self, *, root: Path) -> None:
        self._root = str(root.resolve())

    def properties(self, struct: Any) -> dict[str, Value]:
        """Read all properties that are set, sorted by name."""
        return {
            name: value
            for name in sorted(struct.fields)
            if name not in _INTERNAL and (value := self.value(struct.fields[name])) is not None
        }

    def value(self, value: Any) -> Value:
        """Read one value of the protocol."""
        match value.WhichOneof("kind"):
            case "string_value":
                return self.plain(value.string_value)
            case "number_value":
                return self.plain(value.number_value)
            case "bool_value":
                return value.bool_value
            case "list_value":
                return [self.value(item) for item in value.list_value.values]
            case "struct_value":
                fields = value.struct_value.fields
                if _SIGNATURE not in fields:
                    return {name: self.value(fields[name]) for name in sorted(fields) if name not in _INTERNAL}
                return self._special(fields[_SIGNATURE].string_value, fields)
            case _:
                return None

    def _special(self, signature: str, fields: Any) -> Value:
        if signature == _SECRET_SIGNATURE:
            return self.mask(self.value(fields["value"]))
        if signature in {_ASSET, _ARCHIVE}:
            plain = {name: self.value(fields[name]) for name in sorted(fields) if name != _SIGNATURE}
            path = plain.get("path")
            if isinstance(path, str):
                plain["sha256"] = _tree_digest(
                    Path(path.replace("./", f"{self._root}/", 1) if path.startswith("./") else path)
                )
            return plain
        if signature == _RESOURCE:
            return self.value(fields["urn"])
        return MASKED

    def plain(self, value: Any) -> Value:
        """Make plain data of a Python value that came out of an output."""
        if isinstance(value, str):
            return "${unknown.value}" if value == _UNKNOWN else value.replace(self._root, ".")
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, (int, float)):
            return int(value) if float(value).is_integer() else value
        if isinstance(value, Mapping):
            items = cast("Mapping[str, Any]", value)
            if items.get(_SIGNATURE) == _SECRET_SIGNATURE:
                return self.mask(self.plain(items.get("value")))
            return {str(name): self.plain(items[name]) for name in sorted(items)}
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in cast("Sequence[Any]", value)]
        return str(value)

    def mask(self, value: Value) -> Value:
        """Leave of a secret nothing but the references that it is made of, and a hash that tells a change.

        A text without references gets no hash: a short secret could be guessed from it.
        """
        if isinstance(value, dict):
            return {name: self.mask(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.mask(item) for item in value]
        if value is None:
            return None
        found = sorted(set(REFERENCE.findall(str(value))))
        if not found:
            return MASKED
        if value == found[0]:
            return found[0]
        return f"[secret {hashlib.sha256(str(value).encode()).hexdigest()[:12]} of {', '.join(found)}]"


def _tree_digest(path: Path) -> str:
    """Return a hash of a file, or of all files below a folder with their names."""
    digest = hashlib.sha256()
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    for item in files:
        if item.is_file():
            digest.update(f"{item.relative_to(path)}\0".encode())
            digest.update(item.read_bytes())
    return digest.hexdigest()


_classes: dict[str, Any] = {}


def _computed(token: str, name: str) -> dict[str, str | int | list[str]]:
    """Return what a provider would fill in.

    It is a reference for each text, a list with one for each list of texts, and 0 for each number (a job's exit code is success).

    The names come from the resource's class, which is found by its token.
    """
    import pulumi
    from pulumi import _types  # pyright: ignore[reportPrivateUsage]

    if token not in _classes:
        waiting: list[Any] = [pulumi.CustomResource]
        while waiting:
            for found in waiting.pop().__subclasses__():
                waiting.append(found)
                # A dynamic resource's class has no token of its own; its name is the token's end.
                _classes.setdefault(getattr(found, "pulumi_type", None) or f"dynamic:{found.__name__}", found)
    found = _classes.get(token) or _classes.get(f"dynamic:{token.rpartition(':')[2]}")
    if found is None:
        return {}
    answers: dict[str, str | int | list[str]] = {}
    for key, kind in sorted(cast("dict[str, Any]", _types.resource_types(found)).items()):
        if kind is str:
            answers[key] = f"${{{name}.{key}}}"
        elif kind is int:
            answers[key] = 0
        elif get_origin(kind) is Sequence and get_args(kind) == (str,):
            answers[key] = [f"${{{name}.{key}}}"]
    return answers


def _project(root: Path) -> str:
    """Return the project's name, from ``Pulumi.yaml``."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^name:\s*['\"]?([\w.-]+)", (root / "Pulumi.yaml").read_text(), re.MULTILINE):
            return found[1]
    raise PlanError(f"{root} has no Pulumi.yaml with a name: it is not the folder of a Pulumi project.")


def _program(stack: str, root: Path) -> Callable[[], None]:
    """Return the program of a folder, which must be importable.

    The platform is declared directly, with the official images, so that nothing of this machine is probed; a revision without it is
    run as its ``__main__.py``.
    """
    if not (root / f"Pulumi.{stack}.yaml").is_file():
        known = ", ".join(sorted(path.name.split(".")[1] for path in root.glob("Pulumi.*.yaml")))
        raise PlanError(f"There is no stack {stack} in {root}; there are: {known or 'none'}.")
    if not (root / "components" / "platform.py").is_file():
        return lambda: cast("None", runpy.run_path(str(root / "__main__.py"), run_name="__main__"))
    settings = importlib.import_module("settings")
    platform = importlib.import_module("components.platform")
    chosen = settings.load(stack, root)
    return lambda: platform.deploy(chosen, platform.Machine(), stack)


def component(plan: Plan, resource: PlannedResource) -> PlannedResource | None:
    """Return the outermost component that a resource belongs to."""
    by_urn = {item.urn: item for item in plan.resources}
    outermost = None if resource.custom else resource
    parent = resource.parent
    while parent is not None and parent in by_urn:
        outermost = by_urn[parent]
        parent = outermost.parent
    return outermost


def kind(resource: PlannedResource) -> str:
    """Return the short form of a resource's type: ``docker:Container``."""
    package, _, rest = resource.type.partition(":")
    return f"{package}:{rest.rpartition(':')[2]}"


def flowchart(plan: Plan) -> str:
    """Return the components and what each waits for, as a Mermaid flow chart."""
    owners = {resource.urn: component(plan, resource) for resource in plan.resources}
    names = sorted({owner.name for owner in owners.values() if owner})
    edges: set[tuple[str, str]] = set()
    for resource in plan.resources:
        owner = owners[resource.urn]
        for dependency in resource.dependencies:
            other = owners.get(dependency)
            if owner and other and owner.name != other.name:
                edges.add((owner.name, other.name))
    identifiers = {name: f"n{number}" for number, name in enumerate(names)}
    lines = ["flowchart LR", *(f'  {identifiers[name]}["{name}"]' for name in names)]
    lines += [f"  {identifiers[source]} --> {identifiers[target]}" for source, target in sorted(edges)]
    return "\n".join(lines) + "\n"


def _tree(plan: Plan) -> Any:
    """Return the plan as a tree for the terminal: components with their resources, and what each is."""
    from rich.markup import escape
    from rich.tree import Tree

    children: dict[str | None, list[PlannedResource]] = defaultdict(list)
    for resource in plan.resources:
        children[resource.parent].append(resource)
    counted = sum(1 for _ in plan.custom())
    tree = Tree(f"[bold]{escape(plan.project)}[/] stack [bold]{escape(plan.stack)}[/]: {counted} resources")

    def grow(branch: Any, parent: str | None) -> None:
        for resource in sorted(children[parent], key=lambda item: (item.custom, item.name)):
            marks = [name for name in ("protect", "retainOnDelete") if resource.options.get(name)]
            detail = f" [dim]{escape(', '.join(marks))}[/]" if marks else ""
            image = resource.properties.get("image") or resource.properties.get("name") or ""
            shown = f" [dim]{escape(str(image))}[/]" if resource.custom and image else ""
            style = "cyan" if resource.custom else "bold"
            grow(
                branch.add(f"[{style}]{escape(resource.name)}[/] {escape(kind(resource))}{shown}{detail}"), resource.urn
            )

    grow(tree, None)
    return tree


def command(
    stack: str, as_json: bool = False, mermaid: bool = False, against: str | None = None, markdown: bool = False
) -> int:
    """Run ``./aikit plan``: print the plan of a stack, or its difference to another revision, and judge it.

    Args:
        stack: name of the stack.
        as_json: print JSON for tools instead of text for people.
        mermaid: print the components as a Mermaid flow chart.
        against: Git revision to compare with; what changed since is printed instead of the plan.
        markdown: print the difference as Markdown for a comment on a pull request.

    Returns:
        0 if the policies allow the plan, 1 if it breaks a mandatory one, 2 if the program or the revision can't be planned.
    """
    from rich.console import Console

    from operations import difference
    from policies import check as policies

    # A file or a pipe has no width at which lines would have to be cut.
    output = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if against is not None or markdown:
            return difference.command(stack, against or "HEAD", as_json=as_json, markdown=markdown)
        planned = plan(stack)
    except Exception as error:
        if not isinstance(error, PlanError) and type(error).__name__ != "SettingsError":
            raise
        errors.print(f"[bold red]error:[/] {error}", markup=True)
        return 2
    review = policies.review(planned, stack)
    if as_json:
        data = {**planned.to_json(), "policies": cast("Value", review.to_json())}
        sys.stdout.write(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    elif mermaid:
        sys.stdout.write(flowchart(planned))
    else:
        output.print(_tree(planned))
    if not as_json:
        errors.print(policies.render(review))
    return 1 if review.blocking else 0


def _main() -> None:
    """Plan the folder of ``--root`` and write JSON to ``--output``: the form in which ``isolated`` runs this file."""
    parser = argparse.ArgumentParser()
    for option in ("--stack", "--root", "--output"):
        parser.add_argument(option, required=True)
    arguments = parser.parse_args()
    root = Path(arguments.root).resolve()
    sys.path[:] = [
        str(root),
        *(entry for entry in sys.path if Path(entry or ".").resolve() not in {ROOT, ROOT / "operations"}),
    ]
    try:
        planned = record(_program(arguments.stack, root), stack=arguments.stack, project=_project(root), root=root)
    except Exception as error:
        message = " ".join(str(error).split())
        raise SystemExit(message if isinstance(error, PlanError) else f"{type(error).__name__}: {message}") from error
    Path(arguments.output).write_text(text(planned))


if __name__ == "__main__":
    _main()
