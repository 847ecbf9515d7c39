"""The base of every service: what it says about itself, and the one way in which its containers are made.

A service is one file with one subclass of ``Service``. What it declares (routes, databases, clients, measurements) is collected by
the cross-cutting services; its container goes through ``deploy_container``, which carries the cures for what the Docker provider
gets wrong, and the hardening that every container has.
"""

import abc
import dataclasses
import hashlib
import hmac
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import pulumi
import pulumi_docker as docker

from components.images import Image, Machine
from components.secrets.names import AGENTS
from settings import Role, Settings

if TYPE_CHECKING:
    from components.context import Platform

FILES = "/etc/aikit"
"""Folder in every container that holds its files: configuration and certificates."""

SECRETS = "/run/secrets"
"""Folder in every container that holds its secrets: files in memory, which the secrets agent writes."""

SECRETS_SIZE = "4m"
"""What the secrets of one container may take at most; memory is used only for what is there."""

SECRETS_TRIES = 60
"""How often, a second apart, a container that starts before its secrets are there looks for them before it ends."""

TEMPORARY = "/tmp"  # noqa: S108 -- a file system in memory, of the container alone

ENVIRONMENT = "environment"
"""File that exports variables to the shell that reads it."""

FIRST_SHARES = 4096
"""Weight in the use of processors, four times Docker's own, of what others wait for when everything starts at once."""

NOT_UPDATABLE = ["healthcheck", "tmpfs", "init", "cpuPeriod", "cpuQuota", "rm"]
"""Properties whose change the Docker provider reports as done without doing it; they replace the container instead."""

PROCESS_LIMIT = 4096
"""Processes and threads of a container's user, those of other containers in which the same number is a user counted along.

The Docker provider has no pids limit, which would be each container's own; this resource limit (RLIMIT_NPROC) is not applied to root."""


class Network(StrEnum):
    """The networks of a stack."""

    EDGE = "edge"
    """Where ports are published."""
    APPLICATIONS = "applications"
    """Services that people use; they reach each other, the proxy and the internet."""
    DATA = "data"
    """Databases; no way out."""
    VECTORS = "vectors"
    """Qdrant and who asks it; no way out."""
    CACHE = "cache"
    """Redis and the queue, which keeps answers of the models there; no way out."""
    MODELS = "models"
    """Ollama and the queue in front of it, nobody else."""
    ENGINE = "engine"
    """The door to Docker's API, and who measures containers."""
    OBSERVABILITY = "observability"
    """Exporters and Prometheus."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Health:
    """How Docker finds out whether a container does its work."""

    command: tuple[str, ...]
    """A program and its arguments; exit code 0 means healthy."""
    interval_seconds: int = 10
    timeout_seconds: int = 5
    retries: int = 5
    start_seconds: int = 60
    """How long a start may take before failed checks count."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataVolume:
    """A volume that outlives its container and, unless asked for, the whole deployment."""

    name: str
    path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedVolume:
    """The data volume of another container, which must be deployed before."""

    name: str
    path: str
    read_only: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedPort:
    """A port of the container that the machine offers."""

    internal: int
    external: int
    address: str = "127.0.0.1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Container:
    """What a service's container is made of."""

    command: tuple[pulumi.Input[str], ...] = ()
    """Arguments of the entrypoint; with secrets, where the image's own is not called, the whole command."""
    entrypoint: tuple[str, ...] | None = None
    """Program instead of the image's own."""
    environment: Mapping[str, pulumi.Input[str]] = dataclasses.field(default_factory=dict[str, pulumi.Input[str]])
    secret_environment: Mapping[str, pulumi.Input[str]] = dataclasses.field(
        default_factory=dict[str, pulumi.Input[str]]
    )
    """Variables that reach the process from a file among its secrets, because ``docker inspect`` shows the plain ones."""
    files: Mapping[str, pulumi.Input[str]] = dataclasses.field(default_factory=dict[str, pulumi.Input[str]])
    """Text of each file below ``FILES``. They are on disk, so no secret is among them."""
    secrets: Mapping[str, pulumi.Input[str]] = dataclasses.field(default_factory=dict[str, pulumi.Input[str]])
    """Text of each file in ``SECRETS``. The container ends if one is missing when it starts."""
    health: Health
    networks: tuple[Network, ...]
    aliases: tuple[str, ...] = ()
    """Names on the networks beside the service's own."""
    volumes: tuple[DataVolume, ...] = ()
    shares: tuple[SharedVolume, ...] = ()
    keeps: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """Folder by container whose secrets this one writes there, for the other to read."""
    backs_up: tuple[str, ...] = ()
    """Names of the data volumes, of whatever service, that this container makes backups of."""
    binds: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """Read-only folders and sockets of the machine, by path in the container."""
    ports: tuple[PublishedPort, ...] = ()
    user: str | None = None
    """Numeric user; its group is root's, to which the files belong. None is the image's default."""
    read_only: bool = True
    """Whether the root of its file system refuses writes."""
    memory_mb: int
    cpus: int = 2
    cpu_shares: int | None = None
    """Its weight against other containers while all processors are busy; None is Docker's own 1024."""
    shared_memory_mb: int | None = None
    temporary: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    """Size in MiB of each folder in memory that may be written."""
    capabilities: tuple[str, ...] = ()
    """Linux capabilities to keep, without the prefix; all others are dropped."""
    stop_seconds: int = 20
    """How long a stop waits before it kills."""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    """Further arguments of ``docker.Container``, such as devices."""

    @property
    def secret_files(self) -> Mapping[str, pulumi.Input[str]]:
        """All its secrets as files, its secret variables among them."""
        if not self.secret_environment:
            return self.secrets
        return {**self.secrets, ENVIRONMENT: environment_file(self.secret_environment)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route:
    """A public host name of a service."""

    host: str
    """First label of the host name; the rest is the domain."""
    port: int
    """Port of the container, plain http."""
    health_path: str
    """Path that answers 200 when the service can be used."""
    title: str
    """What people know it as; shown after a deployment."""
    path: str = "/"
    """Page to open."""
    roles: tuple[Role, ...] = ()
    """Who may use it, for a service that asks nobody to sign in: the sign-in proxy in front of it does. Empty: the service asks."""
    identified: bool = False
    """Whether the sign-in proxy says who asks: see ``components.identity.sign_in_proxy.IDENTITY``."""
    programs: bool = False
    """Whether the programs of the settings may use it, too, each with an access token in place of a sign-in."""
    open_paths: tuple[str, ...] = ()
    """Beginnings of the paths that programs reach without signing in, past the sign-in proxy; what answers there protects itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Database:
    """A database with a role of the same name that owns it."""

    name: str
    extensions: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()
    """PostgreSQL's own roles that its role gets the rights of."""
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """SQL that writes a generated secret into it, by the secret's name, which stands in braces in it.

    For what a program takes from its configuration at its first start only. It runs before the program starts, at the first start
    in an empty database, and may run any number of times.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class OidcClient:
    """A confidential client of Keycloak: code flow with PKCE and nothing else."""

    client_id: str
    title: str
    host: str
    """The route whose address the redirects belong to."""
    redirect_paths: tuple[str, ...]
    local_redirects: tuple[str, ...] = ()
    """Full addresses on a person's own machine, where a command line waits for the login (RFC 8252)."""
    roles: Mapping[str, tuple[Role, ...]]
    """The client's own roles, and which of the platform's roles include each."""
    backchannel_logout_path: str | None = None

    def __post_init__(self) -> None:
        """Refuse addresses that anybody could be sent to.

        Raises:
            ValueError: one is no exact path, or not this machine's.
        """
        for path in self.redirect_paths:
            if not re.fullmatch(r"/[\w./-]*", path):
                raise ValueError(
                    f"client {self.client_id}: redirect_paths has {path!r}, which is no exact path such as /callback"
                )
        for address in self.local_redirects:
            if not re.fullmatch(r"http://(localhost|127\.0\.0\.1):[0-9]+/[\w./-]*", address):
                raise ValueError(
                    f"client {self.client_id}: local_redirects has {address!r}, which is no exact address at localhost"
                )


SIGN_IN_PATH = "/oauth2/callback"
"""Where Keycloak sends people back to on a host that the sign-in proxy guards."""

SIGN_IN_ROLE = "access"
"""The client role that such a host demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """Something that Prometheus measures."""

    port: int
    path: str = "/metrics"
    secret: str = ""
    """Name of the generated secret that Prometheus must show as a bearer token; empty for none."""
    drop: str = ""
    """Regular expression of whole names that are not kept; empty keeps all."""
    keep: str = ""
    """Regular expression of whole names that are kept although ``drop`` fits them; empty is none."""
    host: str = ""
    """The container's name if it is not the service's: one of several that do the same."""
    target: str = ""
    """What an exporter is to measure, if it is told with each question; its host is the ``instance`` then."""


class Severity(StrEnum):
    """How soon someone has to look at an alert."""

    CRITICAL = "critical"
    """Now: people cannot work."""
    WARNING = "warning"
    """Today: it will become critical."""
    INFO = "info"
    """Good to know."""
    NONE = "none"
    """Nothing is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that people must know about. Each has a page ``docs/runbooks/<name>.md``."""

    name: str
    expression: str
    """PromQL; the alert is for each series of its result."""
    seconds: int
    """How long it must be so without a break."""
    severity: Severity
    kind: str
    """What it is about, such as ``memory``: a critical alert mutes the warnings of the same service and kind."""
    summary: str
    """One line; may hold templates of Prometheus, as may the others."""
    description: str
    """What it means and what to look at first."""
    service: str = ""
    """What is concerned; empty is the service that declares it."""


def http_health(port: int, path: str) -> tuple[str, ...]:
    """Return a check that asks for a page, for images that have bash but no program that speaks http."""
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3"
        ' && read -r _ status _ <&3 && [ "$status" = 200 ]'
    )
    return ("bash", "-c", script)


class Service(abc.ABC):
    """One service of the platform: everything the other services must know about it."""

    name: ClassVar[str]
    """Name of its container and on the networks."""
    area: ClassVar[str]
    """The concern it belongs to: the folder of its file."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Services that must be ready before its container starts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    @abc.abstractmethod
    def image(self) -> Image:
        """Return the image of its container."""

    def wanted(self) -> bool:
        """Return whether the settings ask for it."""
        return True

    def left_out(self, machine: Machine) -> str:
        """Return why a machine cannot have it; empty if it can.

        Raises:
            SettingsError: a setting demands what the machine cannot have.
        """
        return "" if self.image.available(machine) else "its image cannot be built from package registries"

    def routes(self) -> tuple[Route, ...]:
        """Return its public host names."""
        return ()

    def databases(self) -> tuple[Database, ...]:
        """Return its databases in PostgreSQL."""
        return ()

    def clients(self) -> tuple[OidcClient, ...]:
        """Return its clients in Keycloak."""
        return ()

    def metrics(self) -> tuple[Metrics, ...]:
        """Return what Prometheus measures of it."""
        return ()

    def alerts(self) -> tuple[Alert, ...]:
        """Return what people must know about it, beside that it cannot be measured."""
        return ()

    @abc.abstractmethod
    def container(self, platform: "Platform") -> Container:
        """Return what its container is made of."""

    def further(self, platform: "Platform") -> Mapping[str, Container]:
        """Return what its further containers and jobs that have secrets are made of, by name; ``extend`` makes them."""
        del platform
        return {}

    def extend(self, platform: "Platform", deployment: "Deployment") -> Sequence[pulumi.Resource]:
        """Make what belongs to it beside its container, and return what the services that need it wait for."""
        del platform, deployment
        return ()

    def finish(self, platform: "Platform", deployment: "Deployment") -> None:
        """Make what needs to know what the other services made; called when all of them are declared."""
        del platform, deployment


def clients_of(service: Service) -> list[OidcClient]:
    """Return a service's clients in Keycloak: its own, and one for each of its hosts that the sign-in proxy guards."""
    guarded = [
        OidcClient(
            client_id=route.host,
            title=route.title,
            host=route.host,
            redirect_paths=(SIGN_IN_PATH,),
            roles={SIGN_IN_ROLE: route.roles},
            backchannel_logout_path=f"{SIGN_IN_PATH}?logout=backchannel",
        )
        for route in service.routes()
        if route.roles
    ]
    return [*service.clients(), *guarded]


class Deployment(pulumi.ComponentResource):
    """A deployed service: the parent of its resources."""

    def __init__(self, service: Service, platform: "Platform", described: Mapping[str, Container]) -> None:
        """Make a service.

        Args:
            service: which one.
            platform: what it shares with the others.
            described: what its container is made of, and its further ones that have secrets, by name.
        """
        super().__init__(component(service), service.name)
        self.service = service
        self.described = described
        self.options = pulumi.ResourceOptions(parent=self, provider=platform.docker)
        waited = [resource for name in service.needs for resource in platform.ready(name)]
        self.container = deploy_container(
            service.name, service.image, described[service.name], platform=platform, parent=self, depends_on=waited
        )
        self.ready: tuple[pulumi.Resource, ...] = (self.container, *service.extend(platform, self))
        self.register_outputs({"container": self.container.name})


def component(service: Service) -> str:
    """Return the type of what a service's resources are the children of."""
    return f"aikit:{service.area}:{type(service).__name__}"


def deploy_container(
    name: str,
    image: Image,
    container: Container,
    *,
    platform: "Platform",
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource] = (),
) -> docker.Container:
    """Make a hardened, long-running container and wait until it is healthy."""
    health = container.health
    start = health.start_seconds + health.interval_seconds * health.retries
    return _container(
        name,
        image,
        container,
        platform=platform,
        parent=parent,
        depends_on=depends_on,
        arguments={
            "restart": "unless-stopped",
            "healthcheck": docker.ContainerHealthcheckArgs(
                tests=["CMD", *health.command],
                interval=_duration(health.interval_seconds),
                timeout=_duration(health.timeout_seconds),
                retries=health.retries,
                start_period=_duration(health.start_seconds),
            ),
            "wait": True,
            # Twice the health check's own budget: a busy machine starts everything at once.
            "wait_timeout": start * 2 + 60,
        },
    )


def deploy_job(
    name: str,
    image: Image,
    container: Container,
    *,
    platform: "Platform",
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource] = (),
) -> docker.Container:
    """Make a container that does its work once and ends; the deployment fails if it fails."""
    job = _container(
        name,
        image,
        container,
        platform=platform,
        parent=parent,
        depends_on=depends_on,
        arguments={"restart": "no", "must_run": False, "attach": True, "logs": True},
    )

    def check(code: int | None) -> int | None:
        # The official provider takes a job that failed for one that was made.
        if code:
            raise RuntimeError(f"job {name} failed with exit code {code}; see: docker logs {platform.prefix}-{name}")
        return code

    job.exit_code.apply(check)
    return job


def _container(
    name: str,
    image: Image,
    container: Container,
    *,
    platform: "Platform",
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource],
    arguments: Mapping[str, Any],
) -> docker.Container:
    options = pulumi.ResourceOptions(parent=parent, provider=platform.docker)
    reference = platform.images.reference(image)
    entrypoints = container.entrypoint
    mounts = [_data_volume(volume, platform=platform, options=options) for volume in container.volumes]
    labels = platform.labels(name)
    if container.backs_up:
        names = ",".join(f"{platform.prefix}-{volume}" for volume in sorted(container.backs_up))
        labels.append(docker.ContainerLabelArgs(label="aikit.backup", value=names))
    waited = list(depends_on)
    if files := container.files:
        volume, carrier = _carry(name, reference, files, platform=platform, options=options)
        mounts.append(docker.ContainerVolumeArgs(volume_name=volume.name, container_path=FILES, read_only=True))
        waited.append(carrier)
        # A file's change replaces the container through this label: nothing else of the container tells that it changed.
        labels.append(docker.ContainerLabelArgs(label="aikit.files", value=fingerprint(files)))
    if secrets := container.secret_files:
        if name not in platform.secret_volumes:
            raise LookupError(f"container {name} has secrets, but its service does not tell of it in further()")
        mounts.append(
            docker.ContainerVolumeArgs(
                volume_name=platform.secret_volumes[name], container_path=SECRETS, read_only=True
            )
        )
        waited += platform.ready(platform.agent(name))
        labels.append(docker.ContainerLabelArgs(label="aikit.secrets", value=secret_fingerprint(secrets, platform)))
        entrypoints = ("sh", "-c", _start(secrets), "sh", *(container.entrypoint or ()))
    mounts += [
        _secrets_volume(other, path, platform=platform, options=options) for other, path in container.keeps.items()
    ]
    mounts += [
        docker.ContainerVolumeArgs(
            volume_name=f"{platform.prefix}-{volume.name}", container_path=volume.path, read_only=volume.read_only
        )
        for volume in container.shares
    ]
    mounts += [
        docker.ContainerVolumeArgs(host_path=source, container_path=target, read_only=True)
        for target, source in container.binds.items()
    ]
    return docker.Container(
        f"{name}-container",
        docker.ContainerArgs(
            name=f"{platform.prefix}-{name}",
            image=reference,
            entrypoints=entrypoints and list(entrypoints),
            command=list(container.command) or None,
            envs=[pulumi.Output.concat(key, "=", value) for key, value in sorted(container.environment.items())],
            user=container.user and f"{container.user}:0",
            read_only=container.read_only,
            init=True,
            security_opts=["no-new-privileges:true"],
            capabilities=docker.ContainerCapabilitiesArgs(
                drops=["ALL"], adds=[f"CAP_{name}" for name in sorted(container.capabilities)] or None
            ),
            memory=container.memory_mb,
            # Equal to the memory: no swap. Without it the provider sees a difference for ever.
            memory_swap=container.memory_mb,
            # As a quota, not as a number of CPUs: Docker refuses more CPUs than the machine has.
            cpu_period=100_000,
            cpu_quota=container.cpus * 100_000,
            cpu_shares=container.cpu_shares,
            shm_size=container.shared_memory_mb,
            ulimits=[docker.ContainerUlimitArgs(name="nproc", soft=PROCESS_LIMIT, hard=PROCESS_LIMIT)],
            tmpfs={path: f"size={size}m,mode=1777" for path, size in sorted(container.temporary.items())} or None,
            log_driver="json-file",
            log_opts={"max-file": "3", "max-size": "10m"},
            destroy_grace_seconds=container.stop_seconds,
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=platform.network(network), aliases=[name, *container.aliases])
                for network in container.networks
            ],
            ports=[
                docker.ContainerPortArgs(internal=port.internal, external=port.external, ip=port.address)
                for port in container.ports
            ]
            or None,
            volumes=mounts or None,
            labels=labels,
            **arguments,
            **container.extra,
        ),
        pulumi.ResourceOptions.merge(
            options,
            pulumi.ResourceOptions(depends_on=waited, replace_on_changes=NOT_UPDATABLE, delete_before_replace=True),
        ),
    )


def _carry(
    name: str,
    image: pulumi.Input[str],
    files: Mapping[str, pulumi.Input[str]],
    *,
    platform: "Platform",
    options: pulumi.ResourceOptions,
) -> tuple[docker.Volume, docker.Container]:
    """Put files into a volume by a container that never starts.

    Docker cannot copy files into a container whose root is read-only, and files in a volume show in no inspection.
    """
    # Without a file that was there before, the volume is made anew: a carrier adds files and removes none.
    names = hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()
    volume = docker.Volume(
        f"{name}-files-volume",
        docker.VolumeArgs(
            name=f"{platform.prefix}-{name}-files",
            labels=[
                *(docker.VolumeLabelArgs(label=item.label, value=item.value) for item in platform.labels(name)),
                docker.VolumeLabelArgs(label="aikit.names", value=names),
            ],
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(delete_before_replace=True)),
    )
    carrier = docker.Container(
        f"{name}-files",
        docker.ContainerArgs(
            name=f"{platform.prefix}-{name}-files",
            image=image,
            entrypoints=["true"],
            start=False,
            must_run=False,
            network_mode="none",
            uploads=[
                # Group-readable only: each service runs in root's group.
                docker.ContainerUploadArgs(file=f"{FILES}/{path}", content=content, permissions="0440")
                for path, content in sorted(files.items())
            ],
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path=FILES)],
            labels=platform.labels(name),
            log_driver="json-file",
            log_opts={"max-file": "3", "max-size": "10m"},
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(delete_before_replace=True)),
    )
    return volume, carrier


def _secrets_volume(
    name: str, path: str, *, platform: "Platform", options: pulumi.ResourceOptions
) -> docker.ContainerVolumeArgs:
    """Make the volume with a container's secrets: it is in memory, and empty when no running container has it any more."""
    resource = docker.Volume(
        f"{name}-secrets-volume",
        docker.VolumeArgs(
            name=f"{platform.prefix}-{name}-secrets",
            driver="local",
            # For root, who writes, and root's group, in which each service runs.
            driver_opts={"type": "tmpfs", "device": "tmpfs", "o": f"size={SECRETS_SIZE},mode=0750"},
            labels=[docker.VolumeLabelArgs(label=item.label, value=item.value) for item in platform.labels(name)],
        ),
        # A service whose first database is new gets another agent; the volume is in use, and stays.
        pulumi.ResourceOptions.merge(
            options,
            pulumi.ResourceOptions(
                aliases=[
                    pulumi.Alias(parent=pulumi.create_urn(agent, component(platform.services[agent])))
                    for agent in AGENTS
                ]
            ),
        ),
    )
    platform.secret_volumes[name] = resource.name
    return docker.ContainerVolumeArgs(volume_name=resource.name, container_path=path)


def _start(secrets: Mapping[str, pulumi.Input[str]]) -> str:
    """Return the script that waits for the secrets and then is replaced by its arguments.

    When Docker or the machine starts again, everything does so at once and in any order, and the secrets are there when Vault is.
    """
    lines = [
        f"tries={SECRETS_TRIES}",
        f"for file in {' '.join(sorted(secrets))}; do",
        f"  until [ -r {SECRETS}/$file ]; do",
        f'    if [ $tries = 0 ]; then echo "start: {SECRETS}/$file is missing" >&2; exit 1; fi',
        "    tries=$((tries - 1))",
        "    sleep 1",
        "  done",
        "done",
        *([f". {SECRETS}/{ENVIRONMENT}"] if ENVIRONMENT in secrets else []),
        'exec "$@"',
    ]
    return "\n".join(lines)


def _data_volume(
    volume: DataVolume, *, platform: "Platform", options: pulumi.ResourceOptions
) -> docker.ContainerVolumeArgs:
    resource = docker.Volume(
        f"{volume.name}-volume",
        docker.VolumeArgs(
            name=f"{platform.prefix}-{volume.name}",
            labels=[
                *(docker.VolumeLabelArgs(label=item.label, value=item.value) for item in platform.labels(volume.name)),
                docker.VolumeLabelArgs(label="aikit.data", value="true"),
            ],
        ),
        pulumi.ResourceOptions.merge(
            options, pulumi.ResourceOptions(retain_on_delete=True, protect=platform.settings.protect_data)
        ),
    )
    return docker.ContainerVolumeArgs(volume_name=resource.name, container_path=volume.path)


def _duration(seconds: int) -> str:
    """Write a duration as Go does, or the provider sees a difference for ever."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def environment_file(values: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[str]:
    """Return the text of a file that exports variables to the shell that reads it; secret."""
    return pulumi.Output.secret(pulumi.Output.all(**values)).apply(
        lambda known: "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(known.items()))
    )


def fingerprint(files: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[str]:
    """Return a hash of the files, which hold no secret."""
    return pulumi.Output.all(**files).apply(
        lambda values: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    )


def secret_fingerprint(secrets: Mapping[str, pulumi.Input[str]], platform: "Platform") -> pulumi.Output[str]:
    """Return a hash of secrets that may be shown: with a key, as what a person chose, such as a mailbox's password, could be guessed."""
    values = pulumi.Output.all(key=platform.certificates.authority_key, values=pulumi.Output.all(**secrets))
    digest = values.apply(
        lambda known: hmac.digest(
            known["key"].encode(), json.dumps(known["values"], sort_keys=True).encode(), "sha256"
        ).hex()
    )
    return pulumi.Output.unsecret(digest)
