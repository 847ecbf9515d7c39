"""Which secrets there are and where they are kept, as a document: ``python -m operations.secret_inventory`` writes it."""

import re
from collections.abc import Mapping
from typing import Any, cast

from components.secrets import names
from components.secrets.rotation import Replacement
from operations.plan import ROOT, Plan, PlannedResource, plan

FILE = ROOT / "docs" / "secret-inventory.md"
STACK = "test"
"""The stack that has most of what there can be."""

ENTRY = "vault:kv/secretV2:SecretV2"
ENDPOINT = "vault:generic/endpoint:Endpoint"
SOURCES = (
    "random:index/randomId:RandomId",
    "random:index/randomPassword:RandomPassword",
    "tls:index/privateKey:PrivateKey",
)
"""Types that make secrets, or say which password Vault has made."""


def kept(planned: Plan) -> Mapping[str, set[str]]:
    """Return the generated secrets by the path at which they are read; the files of containers are made of these."""
    made = set(generated(planned))
    found: dict[str, set[str]] = {}
    for resource in planned.resources:
        if resource.type == ENTRY and not str(resource.properties["name"]).startswith(names.files("")):
            path = f"{names.MOUNT}/{resource.properties['name']}"
        elif resource.type == ENDPOINT:
            path = names.database_credentials(str(resource.properties["path"]).rpartition("/")[2])
        else:
            continue
        found[path] = made & set(re.findall(r"\$\{([\w-]+)\.", str(resource.properties["dataJson"])))
    return found


def generated(planned: Plan) -> Mapping[str, PlannedResource]:
    """Return what generates a secret, by its name."""
    return {resource.name: resource for resource in planned.resources if resource.type in SOURCES}


def document() -> str:
    """Return the text of the document: each entry and what is in it."""
    planned = plan(STACK)
    rows = [
        f"| `{path}` | {reader(path, rotations(planned))} | {', '.join(f'`{name}`' for name in sorted(secrets))} |"
        for path, secrets in sorted(kept(planned).items())
    ]
    return "\n".join(
        [
            "# Inventory of secrets",
            "",
            f"Written by `python -m operations.secret_inventory` from the graph of the stack `{STACK}`. A secret that two services share",
            "is in the entries of both. What each container reads as files is made of them, in `secret/files/<container>`, but the",
            "passwords of databases, which Vault's database engine makes and which are nowhere else.",
            "[secrets.md](secrets.md) says how to read and change them.",
            "",
            "| entry in Vault | who reads it, beside administrators | secrets |",
            "|---|---|---|",
            *rows,
            "",
            "## Rotation",
            "",
            "`aikit:secrets-rotation-days` and `aikit:secrets-own-rotation-days` set the periods; private keys are due when their",
            "certificates would be renewed. [secrets.md](secrets.md#rotate) has the commands.",
            "",
            "| secret | used by | new value |",
            "|---|---|---|",
            *(_rotation(name, rotation) for name, rotation in rotations(planned).items()),
            "",
        ]
    )


def rotations(planned: Plan) -> Mapping[str, Mapping[str, Any]]:
    """Return how each generated secret is rotated, by its name."""
    return cast("Mapping[str, Mapping[str, Any]]", planned.outputs["secrets"])


def _rotation(name: str, rotation: Mapping[str, Any]) -> str:
    when = {
        Replacement.PERIODIC: f"every {rotation['days']} days"
        if rotation["days"]
        else f"when asked for{': ' if rotation['reason'] else ''}{rotation['reason']}",
        Replacement.FORCED: f"with `--force` only: {rotation['reason']}",
        Replacement.NEVER: f"never: {rotation['reason']}",
    }[Replacement(rotation["replacement"])]
    return f"| `{name}` | {', '.join(rotation['services']) or 'the deployment'} | {when} |"


def reader(path: str, rotations: Mapping[str, Mapping[str, Any]]) -> str:
    """Return who may read an entry, or a password of a database."""
    folder, _, name = path.rpartition("/")
    if path == names.database_credentials(name):
        services = rotations[names.database_generation(name)]["services"]
        return f"the service{'s' if len(services) > 1 else ''} {', '.join(services)}"
    return f"the service {name}" if folder == f"{names.MOUNT}/{names.SERVICES}" else "nobody"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
