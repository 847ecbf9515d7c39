"""The state of a stack, read from the file that the engine keeps; only the engine writes it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from operations.errors import Failure

_SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key that marks a value which is more than data: here, an encrypted secret."""

HIDDEN = "[secret]"
"""Stands for a secret that is not to be shown."""


@dataclass(frozen=True)
class State:
    """What the engine remembers of a stack."""

    resources: tuple[Mapping[str, Any], ...] = ()
    pending: tuple[Mapping[str, Any], ...] = ()
    """Operations that a killed run had begun."""
    salt: str | None = None
    """What the passphrase is checked against; None before the first run."""

    def of_type(self, *tokens: str) -> Iterator[Mapping[str, Any]]:
        """Yield the resources of the given types."""
        return (resource for resource in self.resources if resource["type"] in tokens)

    def current(self) -> Iterator[Mapping[str, Any]]:
        """Yield the resources without those that were replaced and wait to be deleted."""
        return (resource for resource in self.resources if not resource.get("delete"))

    def in_docker(self) -> list[str]:
        """Return the URNs of what a machine loses when a stack is removed from it: all in Docker but data."""
        return [
            str(resource["urn"])
            for resource in self.resources
            if resource["type"].startswith("docker:") and not holds_data(resource)
        ]

    def in_vault(self) -> list[str]:
        """Return the URNs of what is kept in Vault."""
        return [str(resource["urn"]) for resource in self.resources if resource["type"].startswith("vault:")]

    def unfinished(self) -> tuple[str, ...]:
        """Return the URNs of what a killed run was making: it may be there, with no identifier of it in the state."""
        return tuple(str(each["resource"]["urn"]) for each in self.pending if each["type"] == "creating")

    def outdated_logins(self) -> bool:
        """Whether a provider logs in with a secret that has got a new value since: a run was cut off between the two.

        Until the next one has told the provider, nobody can ask its service for anything.
        """
        values = {str(resource["urn"]): made(resource) for resource in self.current() if resource["type"] == PASSWORD}
        for provider in self.resources:
            if not provider["type"].startswith("pulumi:providers:"):
                continue
            told = _time(provider, "modified", "created")
            if any(needed in values and values[needed] > told for needed in provider.get("dependencies") or ()):
                return True
        return False

    def outputs(self, decrypt: Callable[[str], str] | None = None) -> dict[str, Any]:
        """Return the stack's outputs; secrets decrypted, or without ``decrypt`` as `HIDDEN`."""
        for resource in self.of_type("pulumi:pulumi:Stack"):
            outputs: Mapping[str, Any] = resource.get("outputs") or {}
            return {name: _reveal(value, decrypt) for name, value in outputs.items()}
        return {}

    def generated(self, name: str, decrypt: Callable[[str], str]) -> str | None:
        """Return a secret that the program generated, by its name; None if it has not been made."""
        for resource in self.of_type(PASSWORD):
            if str(resource["urn"]).endswith(f"::{name}"):
                return str(_reveal((resource.get("outputs") or {}).get("result"), decrypt))
        return None


def made(resource: Mapping[str, Any]) -> datetime:
    """Return when the engine made a resource; long ago if it has not noted that."""
    return _time(resource, "created")


def _time(resource: Mapping[str, Any], *names: str) -> datetime:
    """Return the first of these times that the engine has noted."""
    noted = next((str(resource[name]) for name in names if resource.get(name)), "1970-01-01T00:00:00Z")
    return datetime.fromisoformat(noted)


def holds_data(resource: Mapping[str, Any]) -> bool:
    """Whether a resource is a volume of what people made."""
    labels: Iterable[Mapping[str, str]] = resource.get("inputs", {}).get("labels") or ()
    return resource["type"] == VOLUME and any(label.get("label") == "aikit.data" for label in labels)


CONTAINER = "docker:index/container:Container"
IMAGE = "docker:index/image:Image"
REMOTE_IMAGE = "docker:index/remoteImage:RemoteImage"
NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"
PASSWORD = "random:index/randomPassword:RandomPassword"  # noqa: S105 -- a type token
AUDIT = "vault:index/audit:Audit"
GENERATION = "random:index/randomId:RandomId"
"""Which of its passwords a database has, which Vault makes."""
KEY = "tls:index/privateKey:PrivateKey"


def from_deployment(deployment: Mapping[str, Any] | None) -> State:
    """Read the engine's deployment format, version 3 and 4 alike."""
    deployment = deployment or {}
    provider = deployment.get("secrets_providers") or {}
    return State(
        resources=tuple(deployment.get("resources") or ()),
        pending=tuple(deployment.get("pending_operations") or ()),
        salt=(provider.get("state") or {}).get("salt") if provider.get("type") == "passphrase" else None,
    )


def read(path: Path | None) -> State | None:
    """Read a state file; None if there is none yet.

    Raises:
        Failure: the file is corrupted; the message says where the last good copy lies.
    """
    if path is None or not path.exists():
        return None
    try:
        return _parse(path)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise Failure(f"The state file {path} can't be read ({_short(error)}). {_cure(path)}") from error


def _parse(path: Path) -> State:
    checkpoint = json.loads(path.read_text(encoding="utf-8"))["checkpoint"]
    state = from_deployment(checkpoint.get("latest"))
    for resource in state.resources:
        if not isinstance(resource["urn"], str) or not isinstance(resource["type"], str):
            raise TypeError("a resource without name or type")
    return state


def _cure(path: Path) -> str:
    candidates = [
        path.with_name(f"{path.name}.bak"),
        *sorted(path.parents[2].glob(f"backups/*/{path.stem}/*.json"), reverse=True),
    ]
    for backup in candidates:
        try:
            _parse(backup)
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            continue
        return f"The last good copy is {backup}: put it back with `cp {backup} {path}`, then run `./aikit refresh` and `./aikit up`."
    return "No good copy lies beside it: restore it from a backup of the .aikit folder."


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _reveal(value: Any, decrypt: Callable[[str], str] | None) -> Any:
    if isinstance(value, list):
        return [_reveal(item, decrypt) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    if _SIGNATURE not in members:
        return {name: _reveal(item, decrypt) for name, item in members.items()}
    return json.loads(decrypt(members["ciphertext"])) if decrypt else HIDDEN


def has_secret(value: Any) -> bool:
    """Whether a value that `State.outputs` returned without decrypting has something hidden."""
    if isinstance(value, dict):
        return any(has_secret(item) for item in cast("dict[str, Any]", value).values())
    if isinstance(value, list):
        return any(has_secret(item) for item in cast("list[Any]", value))
    return value == HIDDEN
