"""Reading property values that may not be known yet, may be secret, or may be missing."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

UNKNOWN = "[unknown]"
"""Stands for a value that the engine does not know during a preview."""

SECRET = "[secret]"  # noqa: S105 -- what is shown in its place
"""Stands for a secret of which nothing is shown."""

_REFERENCE = re.compile(r"\$\{[A-Za-z0-9_][\w.:/-]*\.[A-Za-z]\w*\}")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def secret(value: Any) -> bool:
    """Whether a value was masked because it is secret."""
    return isinstance(value, str) and "[secret" in value


def unknown(value: Any) -> bool:
    """Whether a value, or a part of it, is not known before a deployment."""
    return isinstance(value, str) and (UNKNOWN in value or secret(value) or _REFERENCE.search(value) is not None)


def hidden(properties: Mapping[str, Any], path: str) -> bool:
    """Whether nothing of a value can be told, or of an item in it.

    Args:
        properties: of a resource.
        path: name of a property, or after a dot of a field in it, or in each object of a list.
    """
    name, _, inner = path.partition(".")
    value = properties.get(name)
    if inner:
        objects = mappings(value) or [mapping(value)]
        return any(hidden(each, inner) for each in objects)
    return _untold(value) or (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(_untold(item) for item in cast("Sequence[Any]", value))
    )


def _untold(value: Any) -> bool:
    return isinstance(value, str) and (value == UNKNOWN or secret(value) or _REFERENCE.fullmatch(value) is not None)


def texts(value: Any) -> list[str]:
    """Return a list's items as text; an unknown list is one unknown item, a missing one is empty."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Sequence):
        return [str(item) for item in cast("Sequence[Any]", value)]
    return []


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list; what is no object, because it is unknown, is left out."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [cast("Mapping[str, Any]", item) for item in cast("Sequence[Any]", value) if isinstance(item, Mapping)]
    return []


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, or an empty one for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """Return a number, also one that is written as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def seconds(value: Any) -> float | None:
    """Return the seconds of a duration such as ``10h0m0s`` or ``900``; None for anything else."""
    plain = number(value)
    if plain is not None:
        return plain
    if not isinstance(value, str) or not value or _DURATION.sub("", value):
        return None
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _DURATION.findall(value))


def labels(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return the Docker labels of a resource by name."""
    return {
        str(item["label"]): str(item["value"])
        for item in mappings(properties.get("labels"))
        if "label" in item and "value" in item
    }
