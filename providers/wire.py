"""Property values as the engine sends them: structs in which marked dictionaries are secrets and marked strings unknown."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from google.protobuf import struct_pb2

DEFAULTS = "__defaults"
"""Beside input properties: the names of those that the provider filled in, as the official providers record them."""

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWN_BY_TYPE = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)
_MIN_SECRET = 6
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


def decode(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Return the properties of a message, markers included; whole numbers become int."""
    return {name: _decode(value) for name, value in struct.fields.items()}


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return ``properties``, markers included, as a message."""
    struct = struct_pb2.Struct()
    struct.update(properties)
    return struct


def secret(value: Any) -> Any:
    """Return ``value`` marked as secret; a secret stays as it is."""
    return value if _is_secret(value) else {_SIGNATURE: _SECRET, "value": value}


def has_secret(value: Any) -> bool:
    """Tell whether ``value`` is or contains a secret."""
    return any(True for _ in _secrets(value))


def has_unknown(value: Any) -> bool:
    """Tell whether ``value`` is unknown or contains something that is."""
    return any(isinstance(leaf, str) and leaf in _UNKNOWN_BY_TYPE for leaf in _leaves(value))


def plain(value: Any, *, defaults: bool = True) -> Any:
    """Return ``value`` without markers: secrets in the clear.

    Without ``defaults``, the values inside of it that an official provider filled in are left out.
    """
    if _is_secret(value):
        return plain(value.get("value"), defaults=defaults)
    if _is_list(value):
        return [plain(item, defaults=defaults) for item in value]
    if _is_dict(value):
        filled: Iterable[str] = () if defaults else (value.get(DEFAULTS) or ())
        return {
            key: plain(item, defaults=defaults) for key, item in value.items() if key != DEFAULTS and key not in filled
        }
    return value


def secret_texts(values: Iterable[Any]) -> list[str]:
    """Return the lines of text in all secrets of ``values``, and what is after the = in one, longest first.

    Short ones are left out: they would only hide other words.
    """
    lines = {
        line.strip()
        for value in values
        for hidden in _secrets(value)
        for leaf in _leaves(hidden)
        if isinstance(leaf, str)
        for line in (leaf, leaf.partition("=")[2], *leaf.splitlines())
    }
    return sorted((line for line in lines if len(line) >= _MIN_SECRET), key=len, reverse=True)


def _decode(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return decode(value.struct_value)
    if kind == "list_value":
        return [_decode(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    return value.string_value if kind == "string_value" else None


def _is_dict(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_secret(value: Any) -> TypeGuard[dict[str, Any]]:
    return _is_dict(value) and value.get(_SIGNATURE) == _SECRET


def _secrets(value: Any) -> Iterator[Any]:
    if _is_secret(value):
        yield value["value"]
    elif _is_dict(value):
        for item in value.values():
            yield from _secrets(item)
    elif _is_list(value):
        for item in value:
            yield from _secrets(item)


def _leaves(value: Any) -> Iterator[Any]:
    if _is_dict(value):
        for item in value.values():
            yield from _leaves(item)
    elif _is_list(value):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
