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
SOURCES = {"random:index/randomPassword:RandomPassword": "result", "tls:index/privateKey:PrivateKey": "privateKeyPem"}
"""Types that make secrets, and the property that is one."""


def kept(planned: Plan) -> Mapping[str, set[str]]:
    """Return the generated secrets by the path of the entry that holds them; those of containers are made of these."""
    made = set(generated(planned))
    return {
        str(resource.properties["name"]): made
        & set(re.findall(r"\$\{([\w-]+)\.", str(resource.properties["dataJson"])))
        for resource in planned.resources
        if resource.type == ENTRY and not str(resource.properties["name"]).startswith(names.files(""))
    }


def generated(planned: Plan) -> Mapping[str, PlannedResource]:
    """Return what generates a secret, by its name."""
    return {resource.name: resource for resource in planned.resources if resource.type in SOURCES}


def document() -> str:
    """Return the text of the document: each entry and what is in it."""
    planned = plan(STACK)
    rows = [
        f"| `{names.MOUNT}/{path}` | {reader(path)} | {', '.join(f'`{name}`' for name in sorted(secrets))} |"
        for path, secrets in sorted(kept(planned).items())
    ]
    return "\n".join(
        [
            "# Inventory of secrets",
            "",
            f"Written by `python -m operations.secret_inventory` from the graph of the stack `{STACK}`. A secret that two services share",
            "is in the entries of both. What each container reads as files is made of them, in `secret/files/<container>`.",
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


def reader(path: str) -> str:
    """Return who may read an entry."""
    area, _, service = path.partition("/")
    return f"the service {service}" if area == names.SERVICES else "nobody"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
