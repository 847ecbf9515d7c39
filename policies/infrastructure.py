"""Rules about networks, volumes, keys and certificates."""

from collections.abc import Iterator, Sequence

from policies.containers import CONTAINER
from policies.model import Environment, Finding, Policy, Severity, Subject, nothing, reads
from policies.values import labels, number, unknown

NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"
PRIVATE_KEY = "tls:index/privateKey:PrivateKey"
SELF_SIGNED = "tls:index/selfSignedCert:SelfSignedCert"
LOCALLY_SIGNED = "tls:index/locallySignedCert:LocallySignedCert"

BACKUP_LABEL = "aikit.backup"
"""Label of a container that backs data up: the names of the volumes in Docker, separated by commas."""

DATA_NETWORKS = frozenset({"data", "vectors", "cache", "engine", "observability"})
"""Networks, by a part of their names, from which nothing has to go anywhere."""

RSA_BITS = 2048
"""Shortest RSA key; the provider's default is the same."""
CURVES = frozenset({"P256", "P384", "P521"})
LEAF_DAYS = 398
"""Longest life of a certificate that browsers accept."""
AUTHORITY_DAYS = 3653
"""Longest life of an authority: ten years with their leap days."""


@reads("labels", "labels.label", "labels.value", "name")
def _internal(subject: Subject) -> Iterator[Finding]:
    names = {labels(subject.properties).get("aikit.service", ""), subject.name, str(subject.properties.get("name", ""))}
    if not any(set(name.split("-")) & DATA_NETWORKS for name in names):
        return
    value = subject.properties.get("internal")
    if unknown(value):
        yield Finding(
            text="Whether it is internal is not known before the deployment, so it was not judged", unknown=True
        )
    elif value is not True:
        yield Finding(text="A network of databases or of the container engine has a way out")


@reads("labels", "labels.label", "labels.value")
def _protected(subject: Subject) -> Iterator[Finding]:
    if labels(subject.properties).get("aikit.data") != "true":
        return
    if subject.environment is Environment.PROD and not subject.protect:
        yield Finding(text="A wrong change would delete this data volume: it is not protected", item="protect")
    if not subject.retain_on_delete and not (subject.protect and subject.environment is not Environment.PROD):
        yield Finding(text="Destroying the stack would delete this data volume: it is not retained", item="retain")


def _backed_up(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Finding]]:
    declared = [
        value
        for subject in subjects
        if subject.type == CONTAINER and (value := labels(subject.properties).get(BACKUP_LABEL))
    ]
    names = {name.strip() for value in declared if not unknown(value) for name in value.split(",")}
    for subject in subjects:
        if subject.type != VOLUME or labels(subject.properties).get("aikit.data") != "true":
            continue
        name = subject.properties.get("name")
        if name in names:
            continue
        if unknown(name) or any(unknown(value) for value in declared):
            text = "Whether something backs it up is not known before the deployment, so it was not judged"
            yield subject, Finding(text=text, unknown=True)
        else:
            yield subject, Finding(text="Nothing backs up this data volume: with the disk the data is lost")


def _key(subject: Subject) -> Iterator[Finding]:
    algorithm = subject.properties.get("algorithm")
    if unknown(algorithm):
        yield Finding(text="The key's algorithm is not known before the deployment, so it was not judged", unknown=True)
    elif algorithm == "RSA":
        bits = subject.properties.get("rsaBits", RSA_BITS)
        if unknown(bits):
            yield Finding(text="The key's size is not known before the deployment, so it was not judged", unknown=True)
        elif (number(bits) or 0) < RSA_BITS:
            yield Finding(text="The RSA key is too short", item="RSA")
    elif algorithm == "ECDSA":
        # The provider's default, P224, is too small.
        curve = subject.properties.get("ecdsaCurve", "P224")
        if unknown(curve):
            yield Finding(text="The key's curve is not known before the deployment, so it was not judged", unknown=True)
        elif curve not in CURVES:
            yield Finding(text="The key's curve is too small", item="ECDSA")
    elif algorithm != "ED25519":
        yield Finding(text="The key's algorithm is none of RSA, ECDSA and ED25519", item="algorithm")


def _lifetime(subject: Subject) -> Iterator[Finding]:
    authority = subject.properties.get("isCaCertificate")
    hours = subject.properties.get("validityPeriodHours")
    if unknown(authority) or unknown(hours) or number(hours) is None:
        yield Finding(
            text="The certificate's lifetime is not known before the deployment, so it was not judged", unknown=True
        )
        return
    days = (number(hours) or 0) / 24
    allowed = AUTHORITY_DAYS if authority is True else LEAF_DAYS
    if days > allowed:
        what = "authority" if authority is True else "certificate"
        yield Finding(text=f"The {what} is valid for {days:.0f} days, more than {allowed}", item=what)


POLICIES: tuple[Policy, ...] = (
    Policy(
        id="data-network-internal",
        title="Networks of data have no way out",
        description="A database, or what measures, that is broken into cannot send anything away.",
        cure="set internal on the network.",
        enforced="components/platform.py",
        severity=Severity.HIGH,
        types=frozenset({NETWORK}),
        check=_internal,
    ),
    Policy(
        id="data-volumes-protected",
        title="Data volumes outlive mistakes",
        description="Docker replaces a volume for any change of it, and with it goes the data.",
        cure="set aikit:protect-data to true for the stack, and retain_on_delete on the volume.",
        enforced="components/service.py",
        severity=Severity.CRITICAL,
        types=frozenset({VOLUME}),
        check=_protected,
    ),
    Policy(
        id="data-volumes-backed-up",
        title="Every data volume has a backup",
        description="Disks end, and people delete what they need; only a copy elsewhere brings it back.",
        cure="name the volume in backs_up of the service that makes the backups, or declare an exemption with the reason.",
        enforced="components/service.py",
        severity=Severity.HIGH,
        references=("NIST SP 800-53: CP-9",),
        types=frozenset({VOLUME, CONTAINER}),
        check=nothing,
        check_stack=_backed_up,
    ),
    Policy(
        id="key-size",
        title="Keys are long enough",
        description="Short keys can be computed.",
        cure="use RSA with 2048 bits or more, ECDSA with P256 or more, or ED25519.",
        enforced="components/edge/certificates.py",
        severity=Severity.HIGH,
        references=("NIST SP 800-57: 5.6",),
        types=frozenset({PRIVATE_KEY}),
        check=_key,
    ),
    Policy(
        id="certificate-lifetime",
        title="Certificates end in time",
        description=f"Browsers refuse certificates for more than {LEAF_DAYS} days, and a stolen key should not be of use for ever.",
        cure=f"set aikit:certificates-validity-days to {LEAF_DAYS} or less; an authority may have ten years.",
        enforced="settings.py, components/edge/certificates.py",
        references=("CA/Browser Forum Baseline Requirements: 6.3.2",),
        types=frozenset({SELF_SIGNED, LOCALLY_SIGNED}),
        check=_lifetime,
    ),
)
