"""Rules about containers: what runs, with which rights, within which limits, and who can reach it."""

import ipaddress
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator

from policies.model import Environment, Finding, Policy, Severity, Subject, reads
from policies.values import UNKNOWN, hidden, labels, mapping, mappings, number, secret, texts, unknown

CONTAINER = "docker:index/container:Container"
REMOTE_IMAGE = "docker:index/remoteImage:RemoteImage"

CONTAINERS = frozenset({CONTAINER})
IMAGES = frozenset({CONTAINER, REMOTE_IMAGE})

REGISTRIES = ("docker.io", "quay.io", "ghcr.io")
"""Registries that images may come from."""

LOCAL_PREFIX = "aikit/"
"""Images of this project's own ``Containerfile``s, tagged by a hash of their content."""

EDGE = "haproxy"
"""The only service that may publish ports to the network."""

SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")

HOST_FOLDERS = (
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/usr",
    "/var/lib/docker",
    "/var/run",
)
"""Folders of the machine that show or change the machine itself; so do all folders below them."""

LOG_DRIVERS_WITHOUT_FILES = frozenset({"none", "syslog", "journald", "gelf", "fluentd"})

_RESULT_OF_IMAGE = re.compile(r"^\$\{[\w./-]+\.(imageId|repoDigest|imageName|id|name)\}$")
_VERSION = re.compile(r"\d")
_MOVING = frozenset({"latest", "stable", "edge", "main", "master", "nightly", "alpine", "lts", "dev", "develop"})
_CREDENTIALS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_GENERATED = re.compile(r"\$\{[A-Za-z0-9_][\w.:/-]*\.(result|privateKeyPem)\}")
"""A reference to what generates secrets; a plan shows it where a text is nothing but one secret."""
_SECRET_NAME = re.compile(
    r"(?:^|_)(PASSWORD|PASSWD|PASS|PGPASSWORD|PWD|AUTH|PASSPHRASE|SECRET|TOKEN|KEY|APIKEY|CREDENTIALS?)(?:_|$)"
)
_HARMLESS_VALUE = re.compile(
    r"^(|true|false|yes|no|on|off|none|null|-?\d+(\.\d+)?[a-z]{0,2}|/[\w./-]*)$", re.IGNORECASE
)


def runs(subject: Subject) -> bool:
    """Whether a container is ever started; one that only carries files into a volume is not."""
    return subject.properties.get("start") is not False


def is_job(subject: Subject) -> bool:
    """Whether a container does its work once and ends."""
    return subject.properties.get("mustRun") is False


def service(subject: Subject) -> str:
    """Return the service that a container belongs to, by its label, or else the resource's name."""
    return labels(subject.properties).get("aikit.service", subject.name)


def _running(check: Callable[[Subject], Iterable[Finding]]) -> Callable[[Subject], Iterable[Finding]]:
    """Apply a rule only to containers that are started."""

    def applied(subject: Subject) -> Iterable[Finding]:
        return check(subject) if runs(subject) else ()

    return applied


def _not_known(what: str) -> Finding:
    return Finding(text=f"{what} is not known before the deployment, so it was not judged", unknown=True)


def _image(subject: Subject) -> str | None:
    return subject.properties.get("image" if subject.type == CONTAINER else "name")


def split_image(reference: str) -> tuple[str, str, str, str]:
    """Return registry, repository, tag and digest of an image reference; what it does not name is empty."""
    name, _, digest = reference.partition("@")
    head, slash, rest = name.partition("/")
    registry = head if slash and ("." in head or ":" in head or head == "localhost") else ""
    path = rest if registry else name
    repository, _, tag = path.partition(":")
    return registry, repository, tag, digest


def _judged_image(subject: Subject) -> tuple[str, Finding | None] | None:
    """Return a reference to judge, or a finding that there is none; None if it is judged elsewhere."""
    reference = _image(subject)
    if reference is None:
        return "", Finding(text="It names no image")
    if _RESULT_OF_IMAGE.match(reference) or reference.startswith("sha256:"):
        return None
    if unknown(reference):
        return "", _not_known("Its image")
    return reference, None


def _pinned(subject: Subject) -> Iterator[Finding]:
    judged = _judged_image(subject)
    if judged is None:
        return
    reference, finding = judged
    if finding:
        yield finding
        return
    _, repository, tag, digest = split_image(reference)
    if digest.startswith("sha256:"):
        return
    if not tag:
        yield Finding(text=f"Image {repository} has no tag, which means whatever is newest", item=repository)
    elif tag.lower() in _MOVING or not _VERSION.search(tag):
        yield Finding(text=f"Image {repository} has the tag {tag}, which moves", item=repository)


def _digest(subject: Subject) -> Iterator[Finding]:
    if subject.environment is not Environment.PROD:
        return
    judged = _judged_image(subject)
    if judged is None:
        return
    reference, finding = judged
    if finding:
        yield finding
        return
    _, repository, _, digest = split_image(reference)
    if not digest.startswith("sha256:") and not reference.startswith(LOCAL_PREFIX):
        yield Finding(text=f"Image {repository} is not named by its digest", item=repository)


def _registry(subject: Subject) -> Iterator[Finding]:
    judged = _judged_image(subject)
    if judged is None:
        return
    reference, finding = judged
    if finding:
        yield finding
        return
    registry, repository, _, _ = split_image(reference)
    if not reference.startswith(LOCAL_PREFIX) and (registry or "docker.io") not in REGISTRIES:
        yield Finding(text=f"Image {repository} comes from {registry}, which is not an allowed registry", item=registry)


def _privileged(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("privileged")
    if value is True:
        yield Finding(text="It runs privileged, which is root on the machine")
    elif unknown(value):
        yield _not_known("Whether it runs privileged")


def _host_network(subject: Subject) -> Iterator[Finding]:
    mode = subject.properties.get("networkMode")
    if mode == "host":
        yield Finding(text="It uses the machine's network, where every port of the machine is its own")
    elif unknown(mode):
        yield _not_known("Its network mode")


@reads("networkMode", "networksAdvanced")
def _default_bridge(subject: Subject) -> Iterator[Finding]:
    mode = subject.properties.get("networkMode")
    if mode in {"none", "host"} or unknown(mode) or subject.properties.get("networksAdvanced"):
        return
    yield Finding(text="It is on Docker's default bridge, where every other such container reaches it")


def _host_namespaces(subject: Subject) -> Iterator[Finding]:
    for name, what in (
        ("pidMode", "processes"),
        ("ipcMode", "shared memory"),
        ("usernsMode", "users"),
        ("cgroupnsMode", "control groups"),
    ):
        value = subject.properties.get(name)
        if value == "host":
            yield Finding(text=f"It shares the machine's {what} ({name}=host)", item=name)
        elif unknown(value):
            yield _not_known(f"Its {name}")


def _host_paths(subject: Subject) -> Iterator[tuple[str, bool]]:
    """Yield each folder of the machine that is mounted, and whether it may be written."""
    for volume in mappings(subject.properties.get("volumes")):
        if path := volume.get("hostPath"):
            yield str(path), volume.get("readOnly") is not True
    for mount in mappings(subject.properties.get("mounts")):
        if mount.get("type") == "bind" and (path := mount.get("source")):
            yield str(path), mount.get("readOnly") is not True


def _plain(path: str) -> str:
    """Return a path as it is mounted: //etc and /srv/../etc are /etc."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


@reads("volumes", "volumes.hostPath", "mounts", "mounts.type", "mounts.source")
def _docker_socket(subject: Subject) -> Iterator[Finding]:
    for path, _ in _host_paths(subject):
        plain = _plain(path)
        if path.endswith("/docker.sock") or any(
            socket == plain or socket.startswith(f"{plain}/") for socket in SOCKETS
        ):
            yield Finding(text="It mounts the container engine's socket, which is root on the machine", item="socket")


@reads("volumes", "mounts", "mounts.type")
def _host_folders(subject: Subject) -> Iterator[Finding]:
    for path, writable in _host_paths(subject):
        if unknown(path):
            yield _not_known("A folder of the machine that it mounts")
            continue
        plain = _plain(path)
        if plain in SOCKETS:
            continue
        inside = any(plain == folder or (folder != "/" and plain.startswith(f"{folder}/")) for folder in HOST_FOLDERS)
        if inside or any(folder.startswith(f"{plain}/") for folder in (*HOST_FOLDERS, *SOCKETS)):
            how = "to write" if writable else "to read"
            yield Finding(text=f"It mounts the machine's {plain} {how}", item=plain)


@reads("devices")
def _devices(subject: Subject) -> Iterator[Finding]:
    for device in mappings(subject.properties.get("devices")):
        path = str(device.get("hostPath", ""))
        yield (
            _not_known("A device that it uses")
            if unknown(path)
            else Finding(text=f"It uses the machine's device {path}", item=path)
        )


def _capabilities(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("capabilities")
    if unknown(value):
        yield _not_known("Its set of capabilities")
        return
    chosen = mapping(value)
    if "ALL" not in [drop.upper().removeprefix("CAP_") for drop in texts(chosen.get("drops"))]:
        yield Finding(text="It does not drop all capabilities", item="drop")
    for added in texts(chosen.get("adds")):
        yield (
            _not_known("A capability that it adds")
            if unknown(added)
            else Finding(text=f"It adds the capability {added}", item=f"CAP_{added.upper().removeprefix('CAP_')}")
        )


def _read_only(subject: Subject) -> Iterator[Finding]:
    value = subject.properties.get("readOnly")
    if unknown(value):
        yield _not_known("Whether its root is read-only")
    elif value is not True:
        yield Finding(text="Its root file system can be written")


def _no_new_privileges(subject: Subject) -> Iterator[Finding]:
    options = [option.replace("=", ":") for option in texts(subject.properties.get("securityOpts"))]
    if any(unknown(option) for option in options):
        yield _not_known("Its security options")
    elif not {"no-new-privileges", "no-new-privileges:true"} & set(options):
        yield Finding(text="Its processes can gain privileges by a set-user-id program")


@reads("securityOpts")
def _security_profiles(subject: Subject) -> Iterator[Finding]:
    for option in texts(subject.properties.get("securityOpts")):
        name, _, value = option.replace("=", ":").partition(":")
        if value in {"unconfined", "disable"}:
            yield Finding(text=f"It turns off {name}", item=name)


def _memory(subject: Subject) -> Iterator[Finding]:
    memory, swap = subject.properties.get("memory"), subject.properties.get("memorySwap")
    if unknown(memory) or unknown(swap):
        yield _not_known("Its memory limit")
    elif not number(memory):
        yield Finding(text="It has no memory limit", item="memory")
    elif number(swap) is None:
        yield Finding(text="It has a memory limit without memorySwap, which lets it swap as much again", item="swap")
    elif (limit := number(swap)) is not None and limit < (number(memory) or 0):
        yield Finding(text="Its memorySwap is smaller than its memory, or unlimited", item="swap")


def _cpu(subject: Subject) -> Iterator[Finding]:
    cpus, quota = subject.properties.get("cpus"), subject.properties.get("cpuQuota")
    if unknown(cpus) or unknown(quota):
        yield _not_known("Its CPU limit")
    elif not (number(cpus) or 0) > 0 and not (number(quota) or 0) > 0:
        yield Finding(text="It has no CPU limit")


def _processes(subject: Subject) -> Iterator[Finding]:
    limits = {str(limit.get("name")): limit.get("hard") for limit in mappings(subject.properties.get("ulimits"))}
    if unknown(subject.properties.get("ulimits")) or unknown(limits.get("nproc")):
        yield _not_known("Its process limit")
    elif not (number(limits.get("nproc")) or 0) > 0:
        yield Finding(text="It has no limit of processes")


def _health(subject: Subject) -> Iterator[Finding]:
    if is_job(subject):
        return
    value = subject.properties.get("healthcheck")
    if unknown(value) or hidden(mapping(value), "tests"):
        yield _not_known("Its health check")
        return
    tests = texts(mapping(value).get("tests"))
    if not tests or tests[0] == "NONE":
        yield Finding(text="It has no health check")


def _restart(subject: Subject) -> Iterator[Finding]:
    if is_job(subject):
        return
    value = subject.properties.get("restart")
    if unknown(value):
        yield _not_known("Its restart policy")
    elif value not in {"unless-stopped", "always", "on-failure"}:
        yield Finding(text="It is not started again after a crash or a reboot")


@reads("ports", "publishAllPorts", "labels")
def _ports(subject: Subject) -> Iterator[Finding]:
    if service(subject) == EDGE:
        return
    if subject.properties.get("publishAllPorts") is True:
        yield Finding(text="It publishes all ports of its image", item="all")
    for port in mappings(subject.properties.get("ports")):
        address, internal = port.get("ip"), port.get("internal")
        if unknown(address):
            yield _not_known("The address that it publishes a port on")
            continue
        try:
            local = ipaddress.ip_address(str(address)).is_loopback
        except ValueError:
            local = False
        if not local:
            yield Finding(text=f"It publishes its port {internal} to the network", item=str(internal))


def secret_name(name: str) -> bool:
    """Whether a variable's name says that its value is a secret; one that names a file, an address or a time is not."""
    upper = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).upper()
    if upper.endswith(
        ("_FILE", "_PATH", "_URL", "_URI", "_ID", "_NAME", "_TTL", "_LIFESPAN", "_SECONDS", "_ALGORITHM", "_PUBLIC_KEY")
    ):
        return False
    return _SECRET_NAME.search(upper) is not None


@reads("envs", "command", "entrypoints")
def _plain_secrets(subject: Subject) -> Iterator[Finding]:
    for entry in texts(subject.properties.get("envs")):
        name, equals, value = entry.partition("=")
        if secret(entry) or _GENERATED.search(value):
            shown = name if equals and not secret(name) else "a variable"
            yield Finding(text=f"It has a secret in {shown} of its environment, which docker inspect shows", item=shown)
        elif _CREDENTIALS.search(value):
            yield Finding(text=f"Its variable {name} holds an address with a password", item=name)
        elif secret_name(name) and not _HARMLESS_VALUE.match(value):
            if unknown(value):
                yield Finding(
                    text=f"Its variable {name} was not judged, because its value is not known", item=name, unknown=True
                )
            else:
                yield Finding(text=f"Its variable {name} looks like a secret in plain text", item=name)
    for where in ("command", "entrypoints"):
        parts = texts(subject.properties.get(where))
        if any(secret(part) or _CREDENTIALS.search(part) or _GENERATED.search(part) for part in parts):
            yield Finding(text=f"It has a secret in its {where}, which docker inspect and ps show", item=where)


@reads("uploads")
def _secrets_on_disk(subject: Subject) -> Iterator[Finding]:
    for file in mappings(subject.properties.get("uploads")):
        name = str(file.get("file", ""))
        content = file.get("content")
        if secret(content) or (isinstance(content, str) and _GENERATED.search(content)):
            yield Finding(text=f"Its file {name} has a secret, and is in a volume on the disk", item=name)
        elif isinstance(content, str) and UNKNOWN in content:
            yield _not_known(f"Its file {name}")


def _logs(subject: Subject) -> Iterator[Finding]:
    driver = subject.properties.get("logDriver")
    options = mapping(subject.properties.get("logOpts"))
    if unknown(driver) or unknown(subject.properties.get("logOpts")):
        yield _not_known("Its log rotation")
    elif driver in LOG_DRIVERS_WITHOUT_FILES or driver == "local":
        return
    elif not options.get("max-size") or not options.get("max-file"):
        yield Finding(text="Its log grows without end")


@reads("uploads", "uploads.file")
def _tls_versions(subject: Subject) -> Iterator[Finding]:
    for upload in mappings(subject.properties.get("uploads")):
        if not str(upload.get("file", "")).endswith("haproxy.cfg"):
            continue
        content = upload.get("content")
        if not isinstance(content, str) or secret(content) or UNKNOWN in content:
            yield _not_known("HAProxy's configuration")
            continue
        yield from haproxy_tls(content)


def haproxy_tls(configuration: str) -> Iterator[Finding]:
    """Judge the TLS versions that HAProxy offers, by the text of its configuration."""
    lines = [line.split("#", 1)[0].split() for line in configuration.splitlines()]
    old = {"sslv3", "tlsv1.0", "tlsv1.1"}
    for words in lines:
        lower = [word.lower() for word in words]
        for option, value in itertools.pairwise(lower):
            if option == "ssl-min-ver" and value in old:
                yield Finding(text=f"HAProxy accepts {value.upper()}", item=value)
        for word in lower:
            if word in {"force-sslv3", "force-tlsv10", "force-tlsv11"}:
                yield Finding(text=f"HAProxy is set to {word}", item=word)
    listening = [words for words in lines if words[:1] == ["bind"] and "ssl" in words]
    default = any(words[:1] == ["ssl-default-bind-options"] and "ssl-min-ver" in words for words in lines)
    if listening and not default and not all("ssl-min-ver" in words for words in listening):
        yield Finding(text="HAProxy does not say which TLS version is the lowest", item="ssl-min-ver")


def _policy(
    identifier: str,
    check: Callable[[Subject], Iterable[Finding]],
    *,
    title: str,
    description: str,
    cure: str,
    severity: Severity = Severity.MEDIUM,
    references: tuple[str, ...] = (),
    enforced: str = "components/service.py",
    types: frozenset[str] = CONTAINERS,
    running: bool = True,
) -> Policy:
    """Make a policy about containers, with ``running`` only about those that are started."""
    return Policy(
        id=identifier,
        title=title,
        description=description,
        cure=cure,
        enforced=enforced,
        severity=severity,
        references=references,
        types=types,
        check=_running(check) if running else check,
    )


POLICIES: tuple[Policy, ...] = (
    _policy(
        "image-version",
        _pinned,
        running=False,
        types=IMAGES,
        title="Images have an exact version",
        description="A tag that moves makes the same revision deploy different software on different days.",
        cure="name an exact version in components/images.py, such as docker.io/library/redis:8.0.2.",
        enforced="components/images.py",
        severity=Severity.HIGH,
        references=("Spec K-01",),
    ),
    _policy(
        "image-digest",
        _digest,
        running=False,
        types=IMAGES,
        title="Images in production are named by their digest",
        description="A version can be pushed again with other content; a digest cannot.",
        cure="run ./aikit images lock where the image registry answers, and commit images.lock.json.",
        enforced="images.lock.json",
    ),
    _policy(
        "image-registry",
        _registry,
        running=False,
        types=IMAGES,
        title="Images come from known registries",
        description="Everything that runs here should come from where its makers publish it, or from this project's own builds.",
        cure=f"use an image from {', '.join(REGISTRIES)}, or add the registry to REGISTRIES in policies/containers.py.",
        enforced="components/images.py",
        references=("CIS Docker 1.6.0: 4.2",),
    ),
    _policy(
        "no-privileged",
        _privileged,
        title="No privileged containers",
        description="A privileged container can do everything that the machine's root can.",
        cure="remove privileged; give the one capability or device that is needed.",
        severity=Severity.CRITICAL,
        references=("CIS Docker 1.6.0: 5.5",),
    ),
    _policy(
        "no-host-network",
        _host_network,
        title="No container uses the machine's network",
        description="It would reach every service that listens on 127.0.0.1, past all networks.",
        cure="put the container on the networks that it needs (networks=...).",
        severity=Severity.CRITICAL,
        references=("CIS Docker 1.6.0: 5.10",),
    ),
    _policy(
        "no-default-bridge",
        _default_bridge,
        title="No container is on Docker's default bridge",
        description="Networks of one's own say who reaches whom.",
        cure="name its networks (networks=...), or network_mode none.",
        references=("CIS Docker 1.6.0: 5.30",),
    ),
    _policy(
        "no-host-namespaces",
        _host_namespaces,
        title="No container shares the machine's processes, memory, users or control groups",
        description="It could see, and with the right user end, every process of the machine.",
        cure="remove the mode; read /proc and /sys through a read-only mount with an exemption where measuring needs it.",
        severity=Severity.HIGH,
        references=("CIS Docker 1.6.0: 5.16", "CIS Docker 1.6.0: 5.17", "CIS Docker 1.6.0: 5.31"),
    ),
    _policy(
        "no-engine-socket",
        _docker_socket,
        running=False,
        title="No container has the container engine's socket",
        description="Whoever can use it can start a privileged container.",
        cure="use an API that needs no socket, or add an exemption with a reason to policies/exemptions.py.",
        severity=Severity.CRITICAL,
        references=("CIS Docker 1.6.0: 5.32",),
    ),
    _policy(
        "no-host-folders",
        _host_folders,
        running=False,
        title="No container has folders of the machine's system",
        description="They show the machine's secrets, and written to they change the machine.",
        cure="use a volume; for measuring, mount read-only and add an exemption with a reason to policies/exemptions.py.",
        severity=Severity.HIGH,
        references=("CIS Docker 1.6.0: 5.6",),
    ),
    _policy(
        "no-host-devices",
        _devices,
        title="Containers use only the devices that they must",
        description="A device gives direct access to hardware, past all other limits.",
        cure="remove the device, or add an exemption with a reason to policies/exemptions.py.",
        references=("CIS Docker 1.6.0: 5.18",),
    ),
    _policy(
        "capabilities",
        _capabilities,
        title="All capabilities are dropped, and few are added",
        description="Most services need none of root's powers.",
        cure='drop "ALL", and add an exemption with a reason to policies/exemptions.py for each one that is needed.',
        severity=Severity.HIGH,
        references=("CIS Docker 1.6.0: 5.4",),
    ),
    _policy(
        "read-only-root",
        _read_only,
        title="Root file systems are read-only",
        description="What breaks in cannot change the programs, and everything worth keeping is in a volume.",
        cure="set read_only, with volumes and folders in memory (temporary=...) for what is written.",
        references=("CIS Docker 1.6.0: 5.13",),
    ),
    _policy(
        "no-new-privileges",
        _no_new_privileges,
        title="Processes cannot gain privileges",
        description="A set-user-id program would otherwise undo the dropped rights.",
        cure="add no-new-privileges:true to security_opts.",
        severity=Severity.HIGH,
        references=("CIS Docker 1.6.0: 5.26",),
    ),
    _policy(
        "security-profiles",
        _security_profiles,
        title="seccomp, AppArmor and SELinux stay on",
        description="Docker's default profiles forbid the system calls that break out of containers.",
        cure="remove the option from security_opts, or give a profile of its own.",
        severity=Severity.HIGH,
        references=("CIS Docker 1.6.0: 5.2", "CIS Docker 1.6.0: 5.3", "CIS Docker 1.6.0: 5.22"),
    ),
    _policy(
        "memory-limit",
        _memory,
        title="Memory is limited, without swap on top",
        description="One service must not take the memory of all others.",
        cure="set memory and memory_swap to the same number of MiB.",
        references=("CIS Docker 1.6.0: 5.11",),
    ),
    _policy(
        "cpu-limit",
        _cpu,
        title="CPU time is limited",
        description="One service must not take the processors of all others.",
        cure="set cpus, or cpu_period and cpu_quota.",
        references=("CIS Docker 1.6.0: 5.12",),
    ),
    _policy(
        "process-limit",
        _processes,
        title="The number of processes is limited",
        description="A fork bomb must not stop the machine.",
        cure="set a ulimit nproc.",
        references=("CIS Docker 1.6.0: 5.29",),
    ),
    _policy(
        "health-check",
        _health,
        title="Services have a health check",
        description="Only with one does a deployment wait until a service works, and an alert say that it does not.",
        cure="give a health check of the service's own protocol (health=...).",
        references=("CIS Docker 1.6.0: 5.27", "CIS Docker 1.6.0: 4.6"),
    ),
    _policy(
        "restart-policy",
        _restart,
        title="Services are started again",
        description="A crash or a reboot must not need a person.",
        cure="set restart to unless-stopped; for a job set must_run to false.",
        references=("CIS Docker 1.6.0: 5.15 (which wants on-failure:5; unless-stopped also survives a reboot)",),
    ),
    _policy(
        "published-ports",
        _ports,
        title="Only the edge is reachable from the network",
        description="Everything else would be reached without TLS, sign-in and the firewall of the edge.",
        cure="remove the port and give the service a route, or publish on 127.0.0.1.",
        severity=Severity.HIGH,
        references=("CIS Docker 1.6.0: 5.9", "CIS Docker 1.6.0: 5.14"),
    ),
    _policy(
        "no-plain-secrets",
        _plain_secrets,
        running=False,
        title="No secret is in an environment or a command line",
        description="docker inspect, crash reports and process lists show them.",
        cure="put it into a file: *_FILE with secrets=..., or secret_environment=....",
        severity=Severity.CRITICAL,
    ),
    _policy(
        "secrets-in-memory",
        _secrets_on_disk,
        running=False,
        title="No secret is in a file on the disk",
        description="Whoever gets the disk, a copy or a backup of it would have the secret.",
        cure="move the file from files=... to secrets=... of the container.",
        severity=Severity.HIGH,
    ),
    _policy(
        "log-rotation",
        _logs,
        title="Logs are rotated",
        description="A log without end fills the disk and stops every service.",
        cure="set log_opts max-size and max-file.",
    ),
    _policy(
        "tls-version",
        _tls_versions,
        running=False,
        title="The edge speaks TLS 1.2 or later",
        description="Earlier versions can be broken.",
        cure="set ssl-default-bind-options ssl-min-ver TLSv1.2 in HAProxy's configuration.",
        enforced="services/haproxy",
        severity=Severity.HIGH,
        references=("NIST SP 800-52r2: 3.1",),
    ),
)
