"""Providers as gRPC servers in this process, which the Pulumi engine attaches to (``PULUMI_DEBUG_PROVIDERS``).

A `Provider` names its configuration and its resource types; the server does the rest of the provider contract in the
same way for all of them: which properties exist, defaults, names, unknown values, secrets, differences, drift and errors.
What it puts into the state follows the official providers, so that a stack can move between them and these.
"""

# ruff: noqa: N802 - the methods are named by the contract

import abc
import contextlib
import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import secrets
import threading
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import grpc
from google.protobuf import empty_pb2, struct_pb2
from google.rpc import status_pb2  # pyright: ignore[reportMissingTypeStubs]
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from providers import wire
from providers.resource import Operation, PartialFailureError, Properties, Property, ProviderError, ResourceType, begin

Client = TypeVar("Client")

_FAILED = "__failed"
"""In a state: the resource is not as asked for, so the next run replaces it."""
_ENGINE_KEYS = frozenset({"version", "pluginDownloadURL", "__internal", wire.DEFAULTS})
"""Keys of a provider's configuration that are the engine's."""
_MAX_MESSAGE_BYTES = 400 * 1024 * 1024
_THREADS = 32
_Kind = provider_pb2.PropertyDiff.Kind


class Provider(abc.ABC, Generic[Client]):
    """A provider: its configuration, and the resource types that it serves."""

    name: ClassVar[str]
    """The package of the official provider, such as ``docker``."""
    configuration: ClassVar[Mapping[str, Property]]
    """Every configuration key; another one is an error that names it."""
    resources: ClassVar[tuple[type[ResourceType[Any]], ...]]

    @abc.abstractmethod
    def connect(self, configuration: Properties) -> Client:
        """Return what the resource types work with.

        Called once for each different configuration, at the first operation that needs the system: never to check, to
        compare or to preview. Values other than bool, list and dict come as text.

        Raises:
            ProviderError: the system cannot be reached or refuses.
        """


class Servers:
    """Providers that are being served, until `close`."""

    def __init__(self, servers: Mapping[str, tuple[grpc.Server, int]]) -> None:
        self._servers = servers

    @property
    def environment(self) -> str:
        """The value of ``PULUMI_DEBUG_PROVIDERS`` that makes the engine use these servers."""
        return ",".join(f"{name}:{port}" for name, (_, port) in self._servers.items())

    def close(self, *, patience: float | None = None) -> None:
        """Stop serving; operations under way have ``patience`` seconds to end, or are cut off."""
        for ended in [server.stop(grace=patience) for server, _ in self._servers.values()]:
            ended.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(providers: Sequence[Provider[Any]], pending: Container[str] = ()) -> Servers:
    """Serve each provider on a free port of 127.0.0.1.

    Args:
        providers: to serve.
        pending: URNs of the resources that a run was making when it was killed: they may be there already.
    """
    servers: dict[str, tuple[grpc.Server, int]] = {}
    for provider in providers:
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix=provider.name),
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ],
        )
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider, pending), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers[provider.name] = (server, port)
    return Servers(servers)


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The provider contract for one `Provider`."""

    def __init__(self, provider: Provider[Any], pending: Container[str] = ()) -> None:
        self._provider = provider
        self._pending = pending
        self._types: dict[str, ResourceType[Any]] = {resource.token: resource() for resource in provider.resources}
        self._version = "0.0.0"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            self._version = importlib.metadata.version(f"pulumi-{provider.name}")
        self._clients = _Clients(provider)
        self._engine = _Engine()
        self._cancelled = threading.Event()

    # The provider itself

    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Take the address of the engine that uses this server from now on."""
        self._engine.attach(request.address)
        self._cancelled.clear()
        return empty_pb2.Empty()

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Take the engine's address and say what this server understands."""
        self._engine.attach(request.engine_address)
        self._cancelled.clear()
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """Return the version of the official plugin that the program's SDK asks for, in whose place this server stands."""
        return plugin_pb2.PluginInfo(version=self._version)

    def GetSchema(
        self, request: provider_pb2.GetSchemaRequest, context: grpc.ServicerContext
    ) -> provider_pb2.GetSchemaResponse:
        """Return the names of the resource types; programs have the official SDK for the rest."""
        schema: dict[str, Any] = {
            "name": self._provider.name,
            "version": self._version,
            "resources": {token: {} for token in self._types},
        }
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema))

    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        """Refuse configuration keys that the provider does not know."""
        with _errors(context, self._provider.name, request.news):
            news = wire.decode(request.news)
            known = self._provider.configuration
            return provider_pb2.CheckResponse(
                inputs=request.news,
                failures=_unknown_properties(news.keys() - _ENGINE_KEYS, known, f"provider {self._provider.name}")
                + _missing_properties(news, known),
            )

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """Compare configurations; no change replaces the provider, as in the official ones."""
        with _errors(context, self._provider.name, request.news):
            old = _stated(wire.decode(request.old_inputs or request.olds), {})
            new = _stated(wire.decode(request.news), {})
            changed = sorted(key for key in (old.keys() | new.keys()) - _ENGINE_KEYS if old.get(key) != new.get(key))
            return provider_pb2.DiffResponse(
                changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
                diffs=changed,
            )

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        """Take the configuration for the operations that come over the same connection."""
        with _errors(context, self._provider.name, request.args):
            self._cancelled.clear()
            self._clients.configure(context.peer(), wire.decode(request.args))
            return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Invoke(self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        """Refuse: functions are not served."""
        with _errors(context, self._provider.name):
            raise ProviderError(f"unknown function {request.tok}: this provider serves resources only")

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """End every wait of an operation under way."""
        self._cancelled.set()
        return empty_pb2.Empty()

    # Resources

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        """Validate a program's inputs and fill in what it left out."""
        with _errors(context, request.urn, request.news):
            resource = self._type(request.urn)
            olds = wire.decode(request.olds)
            inputs = {name: value for name, value in wire.decode(request.news).items() if value is not None}
            inputs.pop(wire.DEFAULTS, None)
            failures = _unknown_properties(inputs.keys(), resource.properties, resource.token)
            filled: list[str] = []
            for name, known in resource.properties.items():
                if name in inputs:
                    continue
                if known.autoname:
                    given = wire.plain(olds.get(name)) if name in olds.get(wire.DEFAULTS, ()) else None
                    inputs[name] = given or _unique_name(request.urn, request.randomSeed)
                elif known.default is not None:
                    inputs[name] = known.default
                else:
                    continue
                filled.append(name)
            failures += _missing_properties(inputs, resource.properties)
            if not failures:
                values = {name: wire.plain(value) for name, value in inputs.items() if not wire.has_unknown(value)}
                failures = [_failure(name, reason, inputs) for name, reason in resource.check(values).items()]
            # A program in YAML or by hand marks nothing; the state must not show it either way.
            checked = {
                name: wire.secret(value) if name in resource.properties and resource.properties[name].secret else value
                for name, value in inputs.items()
            }
            if filled:
                checked[wire.DEFAULTS] = filled
            return provider_pb2.CheckResponse(inputs=wire.encode(checked), failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """Compare the inputs of the state, as the last refresh left them, with those of the program."""
        with _errors(context, request.urn, request.news, request.old_inputs, request.olds):
            resource = self._type(request.urn)
            outputs = wire.decode(request.olds)
            news = wire.decode(request.news)
            old = _stated(wire.decode(request.old_inputs), resource.properties)
            new = _stated(news, resource.properties)
            details: dict[str, provider_pb2.PropertyDiff] = {}
            replaces: list[str] = []
            for name in sorted(old.keys() | new.keys()):
                known = resource.properties.get(name)
                before, after = old.get(name), new.get(name)
                if wire.has_unknown(after) or known is None or not _same(known, before, after):
                    replacing = known is None or resource.replaced_by(name, before, after)
                    details.update(_paths(name, before, after, replaces=replacing))
                    if replacing:
                        replaces.append(name)
            asking = set(resource.outdated(cast("Properties", wire.plain(outputs))))
            if outputs.get(_FAILED):
                asking.add(_FAILED)
            for name in sorted(asking):
                details[name] = provider_pb2.PropertyDiff(kind=_Kind.UPDATE_REPLACE)
                replaces.append(name)
            made_up = any(
                resource.properties[name].autoname
                for name in news.get(wire.DEFAULTS, ())
                if name in resource.properties
            )
            return provider_pb2.DiffResponse(
                changes=provider_pb2.DiffResponse.DIFF_SOME if details else provider_pb2.DiffResponse.DIFF_NONE,
                diffs=sorted({*replaces, *(path.split(".")[0].split("[")[0] for path in details)}),
                replaces=replaces,
                deleteBeforeReplace=bool(replaces) and resource.delete_before_replace and not made_up,
                detailedDiff=details,
                hasDetailedDiff=True,
            )

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        """Make a resource; a preview says its inputs, and that its secret outputs will be secret."""
        with _errors(context, request.urn, request.properties):
            resource = self._type(request.urn)
            inputs = _without_defaults(wire.decode(request.properties))
            if request.preview:
                hidden = {name: wire.secret(wire.UNKNOWN) for name in resource.secret_outputs}
                return provider_pb2.CreateResponse(properties=wire.encode(hidden | _outputs(resource, inputs, {})))
            client = self._begin(context, request.urn, request.properties)
            values = cast("Properties", wire.plain(inputs))
            with _partial_failure(resource, inputs):
                left = resource.take_up(client, values) if request.urn in self._pending else None
                created = left or resource.create(client, values)
            return provider_pb2.CreateResponse(
                id=created.identifier, properties=wire.encode(_outputs(resource, inputs, created.outputs))
            )

    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        """Return a resource as it is now; inputs that drifted get the value found, so that the program's differs."""
        with _errors(context, request.urn, request.inputs, request.properties):
            resource = self._type(request.urn)
            inputs, state = wire.decode(request.inputs), wire.decode(request.properties)
            before = cast("dict[str, Any]", wire.plain(state))
            client = self._begin(context, request.urn, request.inputs, request.properties)
            found = resource.read(client, request.id, before)
            if found is None:
                return provider_pb2.ReadResponse()
            outputs = _outputs(resource, state, before | dict(found))
            return provider_pb2.ReadResponse(
                id=request.id,
                properties=wire.encode(outputs),
                inputs=wire.encode(
                    _refreshed(resource, inputs, before, found) if inputs else _imported(resource, outputs)
                ),
            )

    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        """Change a resource in place; a preview keeps the outputs that the system made."""
        with _errors(context, request.urn, request.news, request.olds):
            resource = self._type(request.urn)
            inputs, state = _without_defaults(wire.decode(request.news)), wire.decode(request.olds)
            before = cast("dict[str, Any]", wire.plain(state))
            if request.preview:
                kept = {name: value for name, value in state.items() if name not in resource.properties}
                return provider_pb2.UpdateResponse(properties=wire.encode(kept | _outputs(resource, inputs, {})))
            client = self._begin(context, request.urn, request.news, request.olds)
            with _partial_failure(resource, inputs):
                outputs = resource.update(client, request.id, cast("Properties", wire.plain(inputs)), before)
            return provider_pb2.UpdateResponse(properties=wire.encode(_outputs(resource, inputs, outputs)))

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Remove a resource."""
        with _errors(context, request.urn, request.properties):
            resource = self._type(request.urn)
            client = self._begin(context, request.urn, request.properties)
            resource.delete(client, request.id, cast("Properties", wire.plain(wire.decode(request.properties))))
            return empty_pb2.Empty()

    def _type(self, urn: str) -> ResourceType[Any]:
        token = _token(urn)
        try:
            return self._types[token]
        except KeyError:
            raise ProviderError(
                f"provider {self._provider.name} does not know the resource type {token}; "
                f"it knows {', '.join(sorted(self._types))}"
            ) from None

    def _begin(self, context: grpc.ServicerContext, urn: str, *hidden: struct_pb2.Struct) -> Any:
        """Return the client for an operation of the adapter, whose progress shows no secret of ``hidden``."""
        redact = _redaction(hidden)
        begin(Operation(report=lambda line: self._engine.log(urn, redact(line)), cancelled=self._cancelled))
        return self._clients.get(context.peer())


class _Clients:
    """The client of each configuration.

    An engine with two instances of a provider, say for two Docker hosts, attaches both to the same server, and its
    requests do not say whose they are. But each instance has a connection of its own, and that tells them apart.
    """

    def __init__(self, provider: Provider[Any]) -> None:
        self._provider = provider
        self._lock = threading.Lock()
        self._configurations: dict[str, str] = {}
        self._clients: dict[str, tuple[threading.Lock, list[Any]]] = {}

    def configure(self, peer: str, configuration: Mapping[str, Any]) -> None:
        """Remember what the connection ``peer`` was configured with."""
        known = self._provider.configuration
        values = {name: item.default for name, item in known.items() if item.default is not None}
        for name, value in cast("Mapping[str, Any]", wire.plain(dict(configuration))).items():
            if name in known and value is not None:
                values[name] = value if known[name].secret else _structured(value)
        with self._lock:
            self._configurations[peer] = json.dumps(values, sort_keys=True)

    def get(self, peer: str) -> Any:
        """Return the client for the connection ``peer``, connecting if no one has with this configuration."""
        with self._lock:
            different = set(self._configurations.values())
            configuration = self._configurations.get(peer)
            if configuration is None:
                # An idle connection may have been opened anew; with one configuration there is no doubt.
                if len(different) != 1:
                    raise ProviderError(
                        f"provider {self._provider.name} was not configured on this connection; run it again"
                    )
                (configuration,) = different
            lock, clients = self._clients.setdefault(configuration, (threading.Lock(), []))
        with lock:
            if not clients:
                clients.append(self._provider.connect(json.loads(configuration)))
            return clients[0]


class _Engine:
    """The engine that uses the server now, for progress."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: engine_pb2_grpc.EngineStub | None = None

    def attach(self, address: str) -> None:
        """Log to the engine at ``address`` from now on; several instances of a provider may attach to one server."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = grpc.insecure_channel(address)
            self._stub = engine_pb2_grpc.EngineStub(self._channel)

    def log(self, urn: str, line: str) -> None:
        """Show ``line`` beside a resource; progress that cannot be shown is no failure."""
        stub = self._stub
        if stub is None:
            return
        with contextlib.suppress(grpc.RpcError, ValueError):
            stub.Log(  # pyright: ignore[reportUnknownMemberType]
                engine_pb2.LogRequest(severity=engine_pb2.INFO, message=line, urn=urn, ephemeral=True), timeout=1
            )


@dataclasses.dataclass
class _InitFailedError(Exception):
    """A resource that exists but not as asked for, with what the state is to have."""

    identifier: str
    outputs: Mapping[str, Any]
    reason: str


@contextlib.contextmanager
def _partial_failure(resource: ResourceType[Any], inputs: Mapping[str, Any]) -> Generator[None]:
    try:
        yield
    except PartialFailureError as error:
        outputs = _outputs(resource, inputs, error.outputs) | {_FAILED: True}
        raise _InitFailedError(error.identifier, outputs, str(error)) from error


@contextlib.contextmanager
def _errors(context: grpc.ServicerContext, what: str, *hidden: struct_pb2.Struct) -> Generator[None]:
    """Turn a failure into a status without a traceback and without the secrets of the messages ``hidden``."""
    redact = _redaction(hidden)
    try:
        yield
    except _InitFailedError as error:
        reason = redact(error.reason)
        failure = provider_pb2.ErrorResourceInitFailed(
            id=error.identifier, properties=wire.encode(error.outputs), reasons=[reason]
        )
        status = status_pb2.Status(code=cast("tuple[int, str]", grpc.StatusCode.UNKNOWN.value)[0], message=reason)
        status.details.add().Pack(failure)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, reason)
    except ProviderError as error:
        # A code that tells the engine that the resource's state is certain.
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, redact(str(error)))
    except Exception as error:
        # An adapter's bug must reach the person as a message too.
        where = _token(what) if what.startswith("urn:") else what
        context.abort(grpc.StatusCode.INTERNAL, redact(f"{where}: {type(error).__name__}: {error}"))


def _redaction(messages: Sequence[struct_pb2.Struct]) -> Callable[[str], str]:
    def redact(text: str) -> str:
        for line in wire.secret_texts(wire.decode(message) for message in messages):
            text = text.replace(line, "[secret]")
        return text

    return redact


def _structured(value: Any) -> Any:
    """Return a configuration value as what its JSON text says: the engine passes every value but text so."""
    if isinstance(value, str) and (value in {"true", "false"} or value.startswith(("[", "{"))):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _failure(name: str, reason: str, inputs: Mapping[str, Any]) -> provider_pb2.CheckFailure:
    # The engine prints the value of a property that it is told, so it must not be told one with a secret in it.
    if wire.has_secret(inputs.get(name)):
        return provider_pb2.CheckFailure(reason=f"{name}: {reason}")
    return provider_pb2.CheckFailure(property=name, reason=reason)


def _unknown_properties(
    names: Iterable[str], known: Mapping[str, Property], where: str
) -> list[provider_pb2.CheckFailure]:
    failures: list[provider_pb2.CheckFailure] = []
    for name in sorted(set(names) - known.keys()):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it knows {', '.join(sorted(known))}"
        # Without the property's name beside it, because the engine would print its value, which may be secret.
        failures.append(provider_pb2.CheckFailure(reason=f"{where} does not know the property {name}; {hint}"))
    return failures


def _missing_properties(inputs: Mapping[str, Any], known: Mapping[str, Property]) -> list[provider_pb2.CheckFailure]:
    return [
        provider_pb2.CheckFailure(reason=f"the required property {name} is missing")
        for name, item in known.items()
        if item.required and inputs.get(name) is None
    ]


def _token(urn: str) -> str:
    """Return the resource type in a URN, without those of its parents."""
    return urn.split("::")[2].rpartition("$")[2]


def _unique_name(urn: str, seed: bytes) -> str:
    """Return the resource's name and seven random digits, as the official providers do."""
    name = urn.split("::", 3)[3]
    digits = hashlib.sha256(seed + urn.encode()).hexdigest() if seed else secrets.token_hex(4)
    return f"{name}-{digits[:7]}"


def _without_defaults(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name != wire.DEFAULTS and value is not None}


def _stated(inputs: Mapping[str, Any], properties: Mapping[str, Property]) -> dict[str, Any]:
    """Return inputs in a form in which those of two programs, or of two providers, can be compared."""
    filled = inputs.get(wire.DEFAULTS) or ()
    stated = {name: known.default for name, known in properties.items() if known.default is not None}
    for name, value in inputs.items():
        known = properties.get(name, Property())
        # What another provider filled in was not asked for; what this one does, it does alike for every program.
        ours = known.autoname or known.default is not None
        shown = wire.plain(value, defaults=False)
        if name != wire.DEFAULTS and shown is not None and (ours or name not in filled):
            stated[name] = shown
    return stated


def _same(known: Property, old: Any, new: Any) -> bool:
    if known.unordered and isinstance(old, list) and isinstance(new, list):
        return _sorted(cast("list[Any]", old)) == _sorted(cast("list[Any]", new))
    return old == new


def _sorted(values: list[Any]) -> list[str]:
    return sorted(json.dumps(value, sort_keys=True) for value in values)


def _paths(path: str, old: Any, new: Any, *, replaces: bool) -> dict[str, provider_pb2.PropertyDiff]:
    """Return each place inside of a property that differs, in the engine's notation."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        places = [
            (f"{path}{_key(key)}", before.get(key), after.get(key)) for key in sorted(before.keys() | after.keys())
        ]
    elif isinstance(old, list) and isinstance(new, list) and len(cast("list[Any]", old)) == len(cast("list[Any]", new)):
        pairs = zip(cast("list[Any]", old), cast("list[Any]", new), strict=True)
        places = [(f"{path}[{index}]", before, after) for index, (before, after) in enumerate(pairs)]
    else:
        kind = _Kind.ADD if old is None else _Kind.DELETE if new is None else _Kind.UPDATE
        return {path: provider_pb2.PropertyDiff(kind=_REPLACING[kind] if replaces else kind, inputDiff=True)}
    details: dict[str, provider_pb2.PropertyDiff] = {}
    for place, before, after in places:
        if before != after or wire.has_unknown(after):
            details.update(_paths(place, before, after, replaces=replaces))
    return details


_REPLACING = {_Kind.ADD: _Kind.ADD_REPLACE, _Kind.DELETE: _Kind.DELETE_REPLACE, _Kind.UPDATE: _Kind.UPDATE_REPLACE}


def _key(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"


def _outputs(resource: ResourceType[Any], marked: Mapping[str, Any], outputs: Properties) -> dict[str, Any]:
    """Return ``outputs`` over ``marked``, secret where the latter, the schema or the adapter says so."""
    sealed: dict[str, Any] = {}
    for name in marked.keys() | outputs.keys():
        before = marked.get(name)
        value = before
        if name in outputs and outputs[name] != wire.plain(before):
            value = wire.secret(outputs[name]) if wire.has_secret(before) else outputs[name]
        if (name in outputs and outputs[name] is None) or value is None:
            continue
        known = resource.properties.get(name)
        hidden = name in resource.secret_outputs or (known is not None and known.secret)
        sealed[name] = wire.secret(value) if hidden else value
    return sealed


def _refreshed(
    resource: ResourceType[Any], inputs: Mapping[str, Any], before: Properties, found: Properties
) -> dict[str, Any]:
    """Return the state's inputs with what differs in the system now from what the state says."""
    refreshed = dict(inputs)
    for name, value in found.items():
        known = resource.properties.get(name)
        given = wire.plain(inputs.get(name), defaults=False)
        if known is None or _same(known, value, before.get(name)) or _same(known, value, given):
            continue
        if value is None:
            refreshed.pop(name, None)
        else:
            refreshed[name] = wire.secret(value) if known.secret or wire.has_secret(inputs.get(name)) else value
    return refreshed


def _imported(resource: ResourceType[Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that would make a resource with ``outputs``."""
    return {
        name: value
        for name, value in outputs.items()
        if name in resource.properties and wire.plain(value) != resource.properties[name].default
    }
