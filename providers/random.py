"""The random provider: passwords, strings and identifiers that are made once and then live in the state."""

import base64
import secrets
import string
from collections.abc import Mapping
from typing import Any, ClassVar

import bcrypt

from providers.resource import Created, Properties, Property, ResourceType
from providers.server import Provider

_SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
_BCRYPT_BYTES = 72
"""bcrypt looks at no more than that."""


class RandomString(ResourceType[None]):
    """Characters of the classes that are asked for; any change makes new ones."""

    token: ClassVar[str] = "random:index/randomString:RandomString"
    properties: ClassVar[Mapping[str, Property]] = {
        "length": Property(required=True, replaces=True),
        "keepers": Property(replaces=True),
        "lower": Property(replaces=True, default=True),
        "upper": Property(replaces=True, default=True),
        "numeric": Property(replaces=True, default=True),
        "special": Property(replaces=True, default=True),
        "minLower": Property(replaces=True, default=0),
        "minUpper": Property(replaces=True, default=0),
        "minNumeric": Property(replaces=True, default=0),
        "minSpecial": Property(replaces=True, default=0),
        "overrideSpecial": Property(replaces=True),
    }

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse a length that cannot hold what must be in it."""
        least = sum(int(inputs.get(name) or 0) for name in ("minLower", "minUpper", "minNumeric", "minSpecial"))
        if "length" in inputs and inputs["length"] < max(1, least):
            return {"length": f"must be at least {max(1, least)}"}
        if not any(inputs.get(name, True) for name in ("lower", "upper", "numeric", "special")):
            return {"lower": "at least one class of characters must be allowed"}
        return {}

    def create(self, client: None, inputs: Properties) -> Created:
        """Draw the characters."""
        result = _draw(inputs)
        return Created(identifier=result, outputs={"result": result})

    def read(self, client: None, identifier: str, outputs: Properties) -> Properties | None:
        """Return what the state has; for an import, the identifier is the result."""
        return {} if outputs else {"result": identifier, "length": len(identifier)}

    def delete(self, client: None, identifier: str, outputs: Properties) -> None:
        """Do nothing: the state was all there was."""


class RandomPassword(RandomString):
    """A `RandomString` that is secret, and its bcrypt hash."""

    token: ClassVar[str] = "random:index/randomPassword:RandomPassword"
    secret_outputs: ClassVar[frozenset[str]] = frozenset({"result", "bcryptHash"})

    def create(self, client: None, inputs: Properties) -> Created:
        """Draw the password."""
        return Created(identifier="none", outputs=_password(_draw(inputs)))

    def read(self, client: None, identifier: str, outputs: Properties) -> Properties | None:
        """Return what the state has; for an import, the identifier is the password."""
        return {} if outputs else {"length": len(identifier), **_password(identifier)}


class RandomId(ResourceType[None]):
    """Random bytes in several spellings, each after ``prefix`` if there is one."""

    token: ClassVar[str] = "random:index/randomId:RandomId"
    properties: ClassVar[Mapping[str, Property]] = {
        "byteLength": Property(required=True, replaces=True),
        "keepers": Property(replaces=True),
        "prefix": Property(replaces=True),
    }

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse no bytes at all."""
        return {"byteLength": "must be at least 1"} if inputs.get("byteLength", 1) < 1 else {}

    def create(self, client: None, inputs: Properties) -> Created:
        """Draw the bytes."""
        drawn = secrets.token_bytes(inputs["byteLength"])
        return Created(identifier=_unpadded(drawn), outputs=_spellings(drawn, inputs.get("prefix") or ""))

    def read(self, client: None, identifier: str, outputs: Properties) -> Properties | None:
        """Return what the state has; for an import, the identifier is the bytes in URL-safe base64."""
        if outputs:
            return {}
        drawn = base64.urlsafe_b64decode(identifier + "=" * (-len(identifier) % 4))
        return {"byteLength": len(drawn), **_spellings(drawn, "")}

    def delete(self, client: None, identifier: str, outputs: Properties) -> None:
        """Do nothing: the state was all there was."""


class RandomProvider(Provider[None]):
    """``pulumi-random``."""

    name: ClassVar[str] = "random"
    configuration: ClassVar[Mapping[str, Property]] = {}
    resources: ClassVar[tuple[type[ResourceType[Any]], ...]] = (RandomPassword, RandomString, RandomId)

    def connect(self, configuration: Properties) -> None:
        """Connect to nothing."""


def _draw(inputs: Properties) -> str:
    special = inputs.get("overrideSpecial") or _SPECIAL
    classes = (
        ("lower", "minLower", string.ascii_lowercase),
        ("upper", "minUpper", string.ascii_uppercase),
        ("numeric", "minNumeric", string.digits),
        ("special", "minSpecial", special),
    )
    allowed = "".join(characters for name, _, characters in classes if inputs[name])
    drawn = [secrets.choice(characters) for _, least, characters in classes for _ in range(inputs[least])]
    drawn += [secrets.choice(allowed) for _ in range(inputs["length"] - len(drawn))]
    secrets.SystemRandom().shuffle(drawn)
    return "".join(drawn)


def _password(password: str) -> dict[str, Any]:
    return {
        "result": password,
        "bcryptHash": bcrypt.hashpw(password.encode()[:_BCRYPT_BYTES], bcrypt.gensalt(10)).decode(),
    }


def _unpadded(drawn: bytes) -> str:
    return base64.urlsafe_b64encode(drawn).decode().rstrip("=")


def _spellings(drawn: bytes, prefix: str) -> dict[str, str]:
    return {
        "b64Std": prefix + base64.b64encode(drawn).decode(),
        "b64Url": prefix + _unpadded(drawn),
        "hex": prefix + drawn.hex(),
        "dec": prefix + str(int.from_bytes(drawn)),
    }
