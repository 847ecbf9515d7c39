"""The state of a stack, read from the file that the engine keeps; only the engine writes it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operations.errors import Failure

_SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key that marks a value which is more than data: here, an encrypted secret."""


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

    def in_docker(self) -> list[str]:
        """Return the URNs of what a machine loses when its containers are removed: all in Docker but volumes."""
        return [str(resource["urn"]) for resource in self.resources if resource["type"].startswith("docker:") and resource["type"] != VOLUME]

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, those that are secret left out."""
        for resource in self.of_type("pulumi:pulumi:Stack"):
            outputs: Mapping[str, Any] = resource.get("outputs") or {}
            return {name: value for name, value in outputs.items() if not _secret(value)}
        return {}


CONTAINER = "docker:index/container:Container"
IMAGE = "docker:index/image:Image"
VOLUME = "docker:index/volume:Volume"


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
        resource["urn"], resource["type"]
    return state


def _cure(path: Path) -> str:
    candidates = [path.with_name(f"{path.name}.bak"), *sorted(path.parents[2].glob(f"backups/*/{path.stem}/*.json"), reverse=True)]
    for backup in candidates:
        try:
            _parse(backup)
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            continue
        return f"The last good copy is {backup}: put it back with `cp {backup} {path}`, then run `./aikit refresh` and `./aikit up`."
    return "No good copy lies beside it: restore it from a backup of the .aikit folder."


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _secret(value: Any) -> bool:
    return isinstance(value, dict) and _SIGNATURE in value
