"""What may break a policy, why, and until when. An exemption that has ended is a violation by itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from policies.model import Environment, Finding, Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Exemption:
    """Allows one resource to break one policy for a time."""

    policy: str
    """Identifier of the policy."""
    resource: str
    """Logical name of the resource; ``*`` stands for any characters."""
    items: frozenset[str] = frozenset()
    """What exactly is allowed, such as capabilities; empty for everything that the policy finds in the resource."""
    environments: frozenset[Environment] = frozenset(Environment)
    reason: str
    """Why it has to be."""
    ends: date
    """Last day on which it holds; then someone looks again."""

    def covers(self, policy: str, subject: Subject, finding: Finding) -> bool:
        """Whether it is about this finding; whether it still holds is another question."""
        return (
            self.policy == policy
            and subject.environment in self.environments
            and fnmatchcase(subject.name, self.resource)
            and (not self.items or finding.item in self.items)
        )


EXEMPTIONS: tuple[Exemption, ...] = (
    Exemption(
        policy="routes-single-sign-on",
        resource="haproxy-files",
        items=frozenset({"auth"}),
        reason="It is Keycloak itself, where people sign in; its own consoles ask for the same accounts.",
        ends=date(2027, 10, 31),
    ),
    Exemption(
        policy="data-volumes-backed-up",
        resource="*",
        reason="No service of the platform makes backups yet; until one does, docs/operations.md says what to copy.",
        ends=date(2027, 3, 31),
    ),
    Exemption(
        policy="data-volumes-backed-up",
        resource="ollama-models-volume",
        reason="Models are fetched again from where they came from; nobody made them here.",
        ends=date(2027, 10, 31),
    ),
    Exemption(
        policy="secrets-in-memory",
        resource="vault-files",
        reason="Vault's own login, certificate and seal: nobody could write them into memory before it runs.",
        ends=date(2027, 10, 31),
    ),
    Exemption(
        policy="secrets-in-memory",
        resource="*secrets-agent-files",
        items=frozenset({"/etc/aikit/secret-id"}),
        reason="The login of the agents that write all others into memory.",
        ends=date(2027, 10, 31),
    ),
    Exemption(
        policy="no-engine-socket",
        resource="docker-api-container",
        reason=(
            "Only Docker knows what each container uses. This one runs no program but HAProxy, which lets questions about"
            " containers through and nothing else."
        ),
        ends=date(2027, 10, 31),
    ),
    Exemption(
        policy="read-only-root",
        resource="keycloak-container",
        reason="The official image is built for another database and rebuilds itself at its first start; an image of our own would end it.",
        ends=date(2027, 6, 30),
    ),
    Exemption(
        policy="image-digest",
        resource="*",
        reason="images.lock.json is written where an image registry answers, and none has answered yet; the versions are exact meanwhile.",
        ends=date(2027, 3, 31),
    ),
)


def exempted(policy: str, subject: Subject, finding: Finding, exemptions: Iterable[Exemption]) -> Exemption | None:
    """Return the exemption for a finding, the one that holds longest; None if there is none."""
    return max(
        (item for item in exemptions if item.covers(policy, subject, finding)), key=lambda item: item.ends, default=None
    )
