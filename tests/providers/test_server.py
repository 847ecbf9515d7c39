"""The provider contract as the engine sees it: gRPC messages to a server with one small resource type."""

# Values come from systems without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: D101, D102 - the contract's own words hold for these too

from collections.abc import Generator, Mapping
from typing import Any, ClassVar, cast

import grpc
import pytest
from google.rpc import status_pb2  # pyright: ignore[reportMissingTypeStubs]
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from providers import wire
from providers.resource import Created, PartialFailureError, Properties, Property, ProviderError, ResourceType
from providers.server import Provider, serve

URN = "urn:pulumi:stack::project::a:b:Component$test:index/thing:Thing::mine"
HIDDEN = "hidden-value"


class Thing(ResourceType[dict[str, Any]]):
    token: ClassVar[str] = "test:index/thing:Thing"
    properties: ClassVar[Mapping[str, Property]] = {
        "name": Property(replaces=True, autoname=True),
        "size": Property(required=True),
        "words": Property(unordered=True),
        "mode": Property(default="soft", replaces=True),
        "password": Property(secret=True),
        "nested": Property(),
    }
    secret_outputs: ClassVar[frozenset[str]] = frozenset({"made"})
    delete_before_replace: ClassVar[bool] = True

    def check(self, inputs: Properties) -> Mapping[str, str]:
        return {"size": "is too small"} if inputs.get("size", 1) < 1 else {}

    def create(self, client: dict[str, Any], inputs: Properties) -> Created:
        if inputs["size"] == 13:
            raise ProviderError(f"no {inputs['password']}")
        if inputs["size"] == 14:
            raise PartialFailureError(f"half {inputs['password']}", identifier="x", outputs={"made": "m"})
        if inputs["size"] == 15:
            raise KeyError(inputs["password"])
        client["x"] = {"made": "m", "size": inputs["size"]}
        return Created(identifier="x", outputs=client["x"])

    def read(self, client: dict[str, Any], identifier: str, outputs: Properties) -> Properties | None:
        return client.get(identifier)

    def delete(self, client: dict[str, Any], identifier: str, outputs: Properties) -> None:
        client.pop(identifier, None)


class TestProvider(Provider[dict[str, Any]]):
    __test__ = False
    name: ClassVar[str] = "test"
    configuration: ClassVar[Mapping[str, Property]] = {"url": Property(), "flags": Property()}
    resources: ClassVar[tuple[type[ResourceType[Any]], ...]] = (Thing,)

    def __init__(self) -> None:
        self.systems: dict[str, dict[str, Any]] = {}

    def connect(self, configuration: Properties) -> dict[str, Any]:
        return self.systems.setdefault(str(configuration.get("url")), {"flags": configuration.get("flags")})


@pytest.fixture
def provider() -> TestProvider:
    return TestProvider()


@pytest.fixture
def address(provider: TestProvider) -> Generator[str]:
    with serve([provider]) as servers:
        name, port = servers.environment.split(":")
        assert name == "test"
        yield f"127.0.0.1:{port}"


@pytest.fixture
def engine(address: str) -> Generator[provider_pb2_grpc.ResourceProviderStub]:
    with grpc.insecure_channel(address) as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        configuration = wire.encode({"url": "one", "flags": '["a"]'})
        assert stub.Configure(provider_pb2.ConfigureRequest(args=configuration)).acceptSecrets
        yield stub


def _check(engine: Any, news: dict[str, Any], olds: dict[str, Any] | None = None, urn: str = URN) -> Any:
    return engine.Check(provider_pb2.CheckRequest(urn=urn, news=wire.encode(news), olds=wire.encode(olds or {})))


def _diff(engine: Any, old: dict[str, Any], new: dict[str, Any], outputs: dict[str, Any] | None = None) -> Any:
    request = provider_pb2.DiffRequest(
        id="x", urn=URN, old_inputs=wire.encode(old), news=wire.encode(new), olds=wire.encode(outputs or old)
    )
    return engine.Diff(request)


def _create(engine: Any, properties: dict[str, Any], *, preview: bool = False) -> Any:
    return engine.Create(provider_pb2.CreateRequest(urn=URN, properties=wire.encode(properties), preview=preview))


def test_check_names_what_is_wrong(engine: Any) -> None:
    failures = _check(engine, {"sizes": 3, "mode": None}).failures
    assert "does not know the property sizes; did you mean size?" in failures[0].reason
    assert "required property size is missing" in failures[1].reason
    assert [(item.property, item.reason) for item in _check(engine, {"size": 0}).failures] == [("size", "is too small")]
    # The engine would print a property's value, so it is not told which one is wrong when that is secret.
    assert [item.property for item in _check(engine, {"size": wire.secret(0)}).failures] == [""]
    with pytest.raises(grpc.RpcError, match="does not know the resource type test:index/other:Other"):
        _check(engine, {}, urn=URN.replace("thing:Thing", "other:Other"))
    request = provider_pb2.CheckRequest(news=wire.encode({"uri": "x", "version": "1"}))
    assert "property uri; did you mean url?" in engine.CheckConfig(request).failures[0].reason


def test_check_fills_in_and_keeps_secrets_and_unknowns(engine: Any) -> None:
    news = {"size": wire.UNKNOWN, "nested": {"a": [wire.secret("s"), wire.UNKNOWN]}, "words": None}
    inputs = wire.decode(_check(engine, news).inputs)
    assert inputs["nested"] == news["nested"]
    assert inputs["mode"] == "soft"
    assert inputs["name"].startswith("mine-")
    assert inputs[wire.DEFAULTS] == ["name", "mode"]
    # A name that was made up stays, one that was given and is no longer does not.
    assert wire.decode(_check(engine, news, inputs).inputs)["name"] == inputs["name"]
    assert wire.decode(_check(engine, news, {"name": "given"}).inputs)["name"] != "given"


def test_check_marks_what_the_schema_says_is_secret(engine: Any) -> None:
    """A program in YAML marks nothing, and the engine writes the checked inputs into the state."""
    checked = wire.decode(_check(engine, {"size": 1, "password": HIDDEN}).inputs)
    assert checked["password"] == wire.secret(HIDDEN)


def test_diff(engine: Any) -> None:
    old = {"name": "n", "size": 1, "words": ["a", "b"], "nested": {"a": 1, "b.c": 2, "z": 0, wire.DEFAULTS: ["z"]}}
    same = {"name": "n", "size": wire.secret(1), "words": ["b", "a"], "nested": {"a": 1, "b.c": 2}, "mode": "soft"}
    assert _diff(engine, old, same).changes == provider_pb2.DiffResponse.DIFF_NONE
    changed = _diff(engine, old, {**same, "size": wire.UNKNOWN, "nested": {"a": 1, "b.c": 3}})
    assert set(changed.detailedDiff) == {"size", 'nested["b.c"]'}
    assert not changed.replaces
    replaced = _diff(engine, old, {**same, "mode": "hard"})
    assert list(replaced.replaces) == ["mode"]
    assert replaced.deleteBeforeReplace
    # With a made-up name the replacement can exist beside the old one.
    assert not _diff(engine, old, {**same, "mode": "hard", wire.DEFAULTS: ["name"]}).deleteBeforeReplace
    # What another provider filled in and this one does not know is no change.
    assert not _diff(engine, {**old, "fancy": 1, wire.DEFAULTS: ["fancy"]}, same).detailedDiff


def test_create_and_refresh(engine: Any, provider: TestProvider) -> None:
    inputs = {"name": "n", "size": 1, "password": HIDDEN, "nested": {"a": wire.secret("s")}}
    previewed = wire.decode(_create(engine, {**inputs, "size": wire.UNKNOWN}, preview=True).properties)
    assert previewed["size"] == wire.UNKNOWN
    assert previewed["made"] == wire.secret(wire.UNKNOWN)
    assert not provider.systems, "a preview must not connect"

    outputs = wire.decode(_create(engine, inputs).properties)
    assert outputs == {**inputs, "password": wire.secret(HIDDEN), "made": wire.secret("m")}
    assert provider.systems["one"]["flags"] == ["a"]

    provider.systems["one"]["x"]["size"] = 5
    request = provider_pb2.ReadRequest(id="x", urn=URN, inputs=wire.encode(inputs), properties=wire.encode(outputs))
    found = engine.Read(request)
    assert wire.decode(found.properties) == {**outputs, "size": 5}
    assert wire.decode(found.inputs) == {**inputs, "size": 5}
    assert list(_diff(engine, wire.decode(found.inputs), inputs).detailedDiff) == ["size"]
    del provider.systems["one"]["x"]
    assert engine.Read(request).id == ""


def test_failures_are_messages_without_secrets(engine: Any) -> None:
    inputs = {"name": "n", "password": wire.secret(HIDDEN)}
    with pytest.raises(grpc.RpcError) as caught:
        _create(engine, {**inputs, "size": 13})
    assert caught.value.details() == "no [secret]"
    with pytest.raises(grpc.RpcError) as caught:
        _create(engine, {**inputs, "size": 15})
    assert caught.value.details() == "test:index/thing:Thing: KeyError: '[secret]'"
    with pytest.raises(grpc.RpcError) as caught:
        _create(engine, {**inputs, "size": 14})
    status, failure = status_pb2.Status(), provider_pb2.ErrorResourceInitFailed()
    details: dict[str, bytes] = dict(cast("Any", caught.value).trailing_metadata())
    status.ParseFromString(details["grpc-status-details-bin"])
    status.details[0].Unpack(failure)
    assert failure.id == "x"
    assert list(failure.reasons) == ["half [secret]"]
    kept = wire.decode(failure.properties)
    assert kept["made"] == wire.secret("m")
    # It stays in the state, and the next run replaces it though no input changed.
    same = {**inputs, "size": 14}
    assert _diff(engine, same, same, kept).replaces


def test_two_instances_have_their_own_systems(engine: Any, address: str, provider: TestProvider) -> None:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        other = provider_pb2_grpc.ResourceProviderStub(channel)
        other.Configure(provider_pb2.ConfigureRequest(args=wire.encode({"url": "two"})))
        _create(engine, {"size": 1})
        _create(other, {"size": 2})
    assert provider.systems["one"]["x"]["size"] == 1
    assert provider.systems["two"]["x"]["size"] == 2
