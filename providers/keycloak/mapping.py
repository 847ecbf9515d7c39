"""How properties of the schema map to Keycloak's JSON representations, as data.

Reading keeps the form that the program chose where it means the same (``60s`` for ``1m0s``, another order of a list
that has none), so that only a real difference is one.
"""

import abc
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from providers.resource import Properties, Property

Representation = dict[str, Any]
"""JSON of Keycloak's API."""
Path = tuple[str, ...]
"""Keys that lead to a value in a representation."""

MASK = "**********"
"""What Keycloak answers in place of a secret that it does not give away."""
_SEPARATOR = "##"


def _equal(actual: Any, prior: Any) -> bool:
    return bool(actual == prior)


@dataclasses.dataclass(frozen=True)
class Codec:
    """A kind of value: how it is written, how it is read, and when two of them mean the same."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    same: Callable[[Any, Any], bool] = _equal
    """Takes what was read and what the program or the state says."""


def seconds(duration: str) -> int:
    """Return the whole seconds of a duration in Go's form, such as ``1h30m`` or ``300s``.

    Raises:
        ValueError: it has another form.
    """
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+|0", duration):
        raise ValueError(f"'{duration}' is no duration such as '10h' or '5m0s'")
    unit_seconds = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = cast("list[tuple[str, str]]", re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", duration))
    return int(sum(float(number) * unit_seconds[unit] for number, unit in parts))


def duration(total: int) -> str:
    """Return seconds in Go's form: ``1h0m0s``, ``5m0s``, ``30s``."""
    minutes, rest = divmod(int(total), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _same_duration(actual: Any, prior: Any) -> bool:
    try:
        return seconds(str(actual)) == seconds(str(prior))
    except ValueError:
        return False


def _same_set(actual: Any, prior: Any) -> bool:
    return sorted(map(str, actual)) == sorted(map(str, prior))


def _same_values(actual: Any, prior: Any) -> bool:
    def parts(values: Mapping[str, str]) -> dict[str, list[str]]:
        return {key: sorted(value.split(_SEPARATOR)) for key, value in values.items()}

    return parts(actual) == parts(prior)


def _encode_values(values: Mapping[str, Any]) -> dict[str, list[str]]:
    return {key: str(value).split(_SEPARATOR) for key, value in values.items()}


def _decode_values(values: Mapping[str, list[str]]) -> dict[str, str]:
    return {key: _SEPARATOR.join(value) for key, value in values.items()}


def _decode_hashed(text: str) -> list[str]:
    return [part for part in text.split(_SEPARATOR) if part]


def _encode_quoted_flag(value: Any) -> str:
    return "true" if value else "false"


def _decode_quoted_flag(value: Any) -> bool:
    return str(value).lower() == "true"


TEXT = Codec(str, str)
FLAG = Codec(bool, bool)
NUMBER = Codec(int, int)
NAMES = Codec(list, list, _same_set)
"""A list whose order means nothing."""
DURATION = Codec(seconds, duration, _same_duration)
"""Text in Go's form in the schema, whole seconds in Keycloak."""
SECRET = Codec(str, str, lambda actual, prior: actual in (MASK, prior))
"""Text that Keycloak may answer masked; whether it changed there cannot be seen then."""
VALUES = Codec(_encode_values, _decode_values, _same_values)
"""Attributes: several values of one are joined by ``##`` in the schema."""
QUOTED_FLAG = Codec(_encode_quoted_flag, _decode_quoted_flag)
QUOTED_NUMBER = Codec(lambda value: str(int(value)), int)
HASHED_NAMES = Codec(_SEPARATOR.join, _decode_hashed, _same_set)
"""A list in the schema, one text joined by ``##`` in Keycloak."""
TEXTS = Codec(dict, dict)
"""A map of texts that is complete: what is not in it does not exist."""


class Mapped(abc.ABC):
    """One property of the schema and its place in a representation."""

    property: Property

    @abc.abstractmethod
    def write(self, value: Any, before: Any, representation: Representation, *, creating: bool) -> None:
        """Put ``value``, None if not given, into a representation; ``before`` is the output of the state."""

    @abc.abstractmethod
    def read(self, representation: Representation, prior: Any) -> Any:
        """Return the value in a representation, None if there is none; ``prior`` if that means the same."""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a given value, or None."""
        del value
        return None


class Field(Mapped):
    """A single value at one place.

    ``default`` is the official provider's and always written. Without it, ``zero`` is written where the program gives
    nothing, which is how removing a property from the program resets it; None leaves it to Keycloak. A ``computed`` one
    gets its zero only at creation and later keeps what it is in Keycloak, as with the official provider.
    """

    def __init__(
        self,
        *at: str,
        codec: Codec = TEXT,
        required: bool = False,
        replaces: bool = False,
        secret: bool = False,
        default: Any = None,
        zero: Any = None,
        computed: bool = False,
        autoname: bool = False,
        choices: tuple[str, ...] = (),
    ) -> None:
        self._at = at
        self._codec = codec
        self._zero = default if default is not None else zero
        self._computed = computed
        self._choices = choices
        self.property = Property(
            required=required,
            replaces=replaces,
            secret=secret,
            default=default,
            autoname=autoname,
            unordered=codec.same is _same_set,
        )

    def write(self, value: Any, before: Any, representation: Representation, *, creating: bool) -> None:
        """Put the value in its place."""
        del before
        if value is None:
            value = self._zero if creating or not self._computed else None
        if value is not None:
            put(representation, self._at, self._codec.encode(value))

    def read(self, representation: Representation, prior: Any) -> Any:
        """Return the value found, or ``prior`` if that means the same."""
        raw = look(representation, self._at)
        if raw is None or (raw == "" and prior is None):
            # What Keycloak leaves out is false, empty or zero.
            return None if prior else prior
        actual = self._codec.decode(raw)
        return prior if prior is not None and self._codec.same(actual, prior) else actual

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if self._choices and value not in self._choices:
            return f"'{value}' is none of {', '.join(repr(choice) for choice in self._choices)}"
        try:
            self._codec.encode(value)
        except (ValueError, TypeError) as error:
            return str(error)
        return None


class Local(Mapped):
    """A property that no representation has: where a record is, or what concerns the provider only."""

    def __init__(
        self, *, required: bool = False, replaces: bool = False, secret: bool = False, default: Any = None
    ) -> None:
        self.property = Property(required=required, replaces=replaces, secret=secret, default=default)

    def write(self, value: Any, before: Any, representation: Representation, *, creating: bool) -> None:
        """Put the value in its place."""
        pass

    def read(self, representation: Representation, prior: Any) -> Any:
        """Return the value found, or ``prior`` if that means the same."""
        return self.property.default if prior is None else prior


class Some(Mapped):
    """A map of texts that share a place with others: only the keys that the program gives are its own."""

    def __init__(self, *at: str, removed: str | None = None) -> None:
        self._at = at
        self._removed = removed
        self.property = Property()

    def write(self, value: Any, before: Any, representation: Representation, *, creating: bool) -> None:
        """Put the value in its place."""
        given = cast("Mapping[str, Any]", value or {})
        for key in cast("Mapping[str, Any]", before or {}).keys() - given.keys():
            if self._removed is None:
                cast("Representation", look(representation, self._at) or {}).pop(key, None)
            else:
                put(representation, (*self._at, key), self._removed)
        for key, text in given.items():
            put(representation, (*self._at, key), text)

    def read(self, representation: Representation, prior: Any) -> Any:
        """Return the value found, or ``prior`` if that means the same."""
        actual = cast("Representation", look(representation, self._at) or {})
        if prior is None:
            return None
        return {key: actual[key] for key in cast("Mapping[str, Any]", prior) if actual.get(key) not in (None, "")}


class Block(Mapped):
    """An object in the schema whose properties have places of their own.

    Where it is given, what it leaves out gets the official defaults, and reading returns only what was given.
    ``present`` is written with it and tells when reading whether there is one, as does ``exists``, a place that must
    not be empty. ``absent`` is written where none is given; ``reset`` writes the defaults of its properties then, too.
    ``cleared`` is emptied in both cases.
    """

    def __init__(
        self,
        fields: Mapping[str, Mapped],
        *,
        present: Mapping[Path, Any] | None = None,
        absent: Mapping[Path, Any] | None = None,
        exists: Path = (),
        cleared: Path = (),
        reset: bool = False,
        secret: bool = False,
    ) -> None:
        self._fields = fields
        self._present = present or {}
        self._absent = absent or {}
        self._exists = exists
        self._cleared = cleared
        self._reset = reset
        self.property = Property(secret=secret)

    def write(self, value: Any, before: Any, representation: Representation, *, creating: bool) -> None:
        """Put the value in its place."""
        if self._cleared:
            put(representation, self._cleared, {})
        for path, constant in (self._absent if value is None else self._present).items():
            put(representation, path, constant)
        if value is not None or self._reset:
            # What a block says is the whole of it, so its parts are written as if they were new.
            write(self._fields, value or {}, None, representation)

    def read(self, representation: Representation, prior: Any) -> Any:
        """Return the value found, or ``prior`` if that means the same."""
        if self._exists and not look(representation, self._exists):
            return None
        if any(look(representation, path) != constant for path, constant in self._present.items()):
            return None
        given = cast("Mapping[str, Any] | None", prior)
        fields = (
            self._fields if given is None else {name: field for name, field in self._fields.items() if name in given}
        )
        return {name: value for name, value in read(fields, representation, given or {}).items() if value is not None}

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, Mapping):
            return "it must be an object"
        given = cast("Properties", value)
        missing = [name for name, field in self._fields.items() if field.property.required and given.get(name) is None]
        if missing:
            return f"{missing[0]} is missing"
        return next((f"{name}: {reason}" for name, reason in problems(self._fields, given).items()), None)


def problems(fields: Mapping[str, Mapped], inputs: Properties) -> dict[str, str]:
    """Return a reason by name for each value that is wrong in itself, or whose name is unknown."""
    found: dict[str, str] = {}
    for name, value in inputs.items():
        if value is None:
            continue
        reason = fields[name].problem(value) if name in fields else "there is no such property"
        if reason is not None:
            found[name] = reason
    return found


def write(
    fields: Mapping[str, Mapped], inputs: Properties, before: Properties | None, representation: Representation
) -> None:
    """Put inputs into a representation; ``before`` are the outputs of the state, None for something new."""
    for name, field in fields.items():
        value = inputs.get(name)
        field.write(value, (before or {}).get(name), representation, creating=before is None)


def read(fields: Mapping[str, Mapped], representation: Representation, prior: Properties) -> dict[str, Any]:
    """Return the properties in a representation, as ``prior`` where that means the same; None for one that is gone."""
    values = {name: field.read(representation, prior.get(name)) for name, field in fields.items()}
    return {name: value for name, value in values.items() if value is not None or prior.get(name) is not None}


def look(representation: Representation, path: Path) -> Any:
    """Return the value at a path, None if a key on the way is missing."""
    value: Any = representation
    for key in path:
        if not isinstance(value, dict):
            return None
        value = cast("Representation", value).get(key)
    return value


def put(representation: Representation, path: Path, value: Any) -> None:
    """Set the value at a path and make the objects on the way."""
    for key in path[:-1]:
        representation = representation.setdefault(key, {})
    representation[path[-1]] = value
