"""How generated secrets get new values."""

import dataclasses
from enum import StrEnum


class Replacement(StrEnum):
    """When a generated secret may get a new value."""

    PERIODIC = "periodic"
    """Whenever it is due or asked for: everything that uses it follows in the same deployment."""
    FORCED = "forced"
    """Only when a person insists: stored data is encrypted with it, or something outside of the platform trusts it."""
    NEVER = "never"
    """Not at all: after its first use it is somebody else's, such as a person's first password."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation:
    """How a generated secret gets a new value."""

    replacement: Replacement = Replacement.PERIODIC
    days: int | None = None
    """Its period; None is that of the settings. Nothing is ever due that is not periodic."""
    reason: str = ""
    """Why it is not periodic, and what to do instead."""
    services: tuple[str, ...] = ()
    """Who uses it, beside those who ask the platform for it."""


PERIODIC = Rotation()
"""The usual: with the period of the settings."""
