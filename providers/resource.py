"""The contract between the provider server and one adapter per resource type.

An adapter knows one resource type of an official provider: its properties, which of them replace it or are secret, and how to
create, read, update and delete it through the client library of its system. Everything else (the gRPC contract, unknown values,
secrets, differences) is the server's, in ``server.py``.
"""

import abc
import contextvars
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

Properties = Mapping[str, Any]
"""Property values by the schema's camelCase names: None, bool, int, float, str, list or dict; never unknown, never wrapped."""

Client = TypeVar("Client")
"""What a provider's configuration gives its resource types to work with, such as a Docker client."""


class ProviderError(Exception):
    """A failure that a person can act on; its text is what the engine shows."""


class PartialFailureError(ProviderError):
    """The resource exists now, but not as asked for.

    It stays in the state with ``outputs``, so that the next run can replace or delete it.
    """

    def __init__(self, reason: str, *, identifier: str, outputs: Properties) -> None:
        super().__init__(reason)
        self.identifier = identifier
        self.outputs = outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Property:
    """One input property of a resource type."""

    required: bool = False
    replaces: bool = False
    """Whether changing it replaces the resource."""
    secret: bool = False
    """Whether it is secret in the outputs even where the program did not mark it."""
    default: Any = None
    """The value the official provider assumes when the program gives none."""
    unordered: bool = False
    """Whether the order of its elements means nothing, as in a list of labels."""
    autoname: bool = False
    """Whether the official provider makes a unique name from the resource's when the program gives none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Created:
    """What creating a resource gives: its identifier and all of its output properties."""

    identifier: str
    outputs: Properties


@dataclasses.dataclass(frozen=True)
class Operation:
    """What the server lends to an adapter while it works on one resource."""

    report: Callable[[str], None]
    cancelled: threading.Event


_operation: contextvars.ContextVar[Operation | None] = contextvars.ContextVar("operation", default=None)


def begin(operation: Operation) -> None:
    """Make ``operation`` the one that `report` and `pause` belong to in this thread; called by the server."""
    _operation.set(operation)


def report(line: str) -> None:
    """Show ``line`` as progress beside the resource being worked on; the next one takes its place."""
    operation = _operation.get()
    if operation is not None:
        operation.report(line)


def pause(seconds: float) -> None:
    """Sleep, as every wait of an adapter must, so that an interrupted run ends at once.

    Raises:
        ProviderError: the run was cancelled.
    """
    operation = _operation.get()
    if (operation.cancelled if operation is not None else threading.Event()).wait(seconds):
        raise ProviderError("cancelled")


class ResourceType(abc.ABC, Generic[Client]):
    """One resource type. Instances hold no state: one serves all resources of its type, from several threads."""

    token: ClassVar[str]
    """The type token of the official schema, such as ``docker:index/network:Network``."""
    properties: ClassVar[Mapping[str, Property]]
    """Every input property that this adapter knows; another one is an error that names it."""
    secret_outputs: ClassVar[frozenset[str]] = frozenset()
    """Output properties beside the inputs that are always secret."""
    delete_before_replace: ClassVar[bool] = False
    """Whether a replacement must delete the old resource first, because both cannot exist at once.

    A resource whose name the provider made up is created first all the same: its replacement gets another name.
    """

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Return a reason by property name for each wrong value; unknown values are left out of ``inputs``."""
        del inputs
        return {}

    def replaced_by(self, name: str, old: Any, new: Any) -> bool:
        """Tell whether this change of the property ``name`` replaces the resource; a value not given is None."""
        del old, new
        return self.properties[name].replaces

    def outdated(self, outputs: Properties) -> frozenset[str]:
        """Return the output properties that ask for a replacement though no input changed, as a due renewal does."""
        del outputs
        return frozenset()

    @abc.abstractmethod
    def create(self, client: Client, inputs: Properties) -> Created:
        """Make the resource, wait until it is what was asked for, and return it.

        Raises:
            PartialFailureError: it exists, but is not as asked for.
            ProviderError: nothing was made.
        """

    def take_up(self, client: Client, inputs: Properties) -> Created | None:
        """Return what a run that was cut off has made for these inputs, brought up to them; None if it got to nothing.

        Asked before `create` where the state says that a run was killed while it made this very resource. Only types need it whose
        second creation would fail or make another one.

        Raises:
            PartialFailureError: it exists, but is not as asked for.
        """
        del client, inputs
        return None

    @abc.abstractmethod
    def read(self, client: Client, identifier: str, outputs: Properties) -> Properties | None:
        """Return the outputs as they are in the system now, or None if the resource is gone.

        A property that is left out counts as unchanged, one that is None as gone. What differs from the state is drift, so
        a value that means the same must be returned as the state has it.

        ``outputs`` are those of the state; empty for an import.
        """

    def update(self, client: Client, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change the resource in place to ``inputs`` and return its outputs; ``outputs`` are those before."""
        raise NotImplementedError(f"{self.token} is replaced by every change")

    @abc.abstractmethod
    def delete(self, client: Client, identifier: str, outputs: Properties) -> None:
        """Remove the resource; one that is gone already is no error."""
