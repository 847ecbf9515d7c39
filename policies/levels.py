"""How strict each policy is in each environment. The engine's pack reads the same table through ``config/<environment>.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from policies.model import Environment, Level

ALWAYS = frozenset(
    {
        "image-version",
        "no-engine-socket",
        "no-host-namespaces",
        "no-host-network",
        "no-plain-secrets",
        "no-privileged",
        "oidc-flows",
        "published-ports",
    }
)
"""Policies that are mandatory wherever something is deployed: their violation harms the machine or leaks a secret."""

EXCEPTIONS: Mapping[tuple[str, Environment], Level] = MappingProxyType(
    {
        # A stack for trying things out pulls what is there; its images are still of an exact version.
        ("image-digest", Environment.DEV): Level.DISABLED,
        ("image-digest", Environment.TEST): Level.DISABLED,
        # Nor does it have people whose passwords could leak.
        ("second-factor", Environment.DEV): Level.DISABLED,
        ("second-factor", Environment.TEST): Level.DISABLED,
    }
)
"""Levels that differ from the rule: mandatory in production, advisory elsewhere."""

CONFIGURATION = Path(__file__).parent / "config"
"""Folder of the files for ``--policy-pack-config``."""


def level(policy: str, environment: Environment) -> Level:
    """Return how strict a policy is in an environment."""
    if found := EXCEPTIONS.get((policy, environment)):
        return found
    return Level.MANDATORY if policy in ALWAYS or environment is Environment.PROD else Level.ADVISORY


def configuration(policies: tuple[str, ...], environment: Environment) -> str:
    """Return the text of the pack's configuration file for an environment."""
    return (
        json.dumps(
            {policy: {"enforcementLevel": level(policy, environment).value} for policy in sorted(policies)}, indent=2
        )
        + "\n"
    )


def write(policies: tuple[str, ...]) -> None:
    """Write the configuration files anew; ``python -m policies.levels`` does."""
    CONFIGURATION.mkdir(exist_ok=True)
    for environment in Environment:
        (CONFIGURATION / f"{environment}.json").write_text(configuration(policies, environment))


if __name__ == "__main__":
    from policies.catalogue import POLICIES

    write(tuple(policy.id for policy in POLICIES))
