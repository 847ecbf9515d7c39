"""What the services of one stack share: names, networks, secrets, certificates, images."""

import difflib
import graphlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.edge.certificates import Certificates
from components.images import Images, Machine
from components.secrets import names
from components.secrets.rotation import PERIODIC, Replacement, Rotation
from components.service import Container, Deployment, Network, OidcClient, Route, Service, clients_of
from settings import HTTPS, Settings, SettingsError

INTERNAL = frozenset({Network.CACHE, Network.DATA, Network.ENGINE, Network.OBSERVABILITY, Network.VECTORS})
"""Networks without a way out."""


class Platform:
    """What the services of one stack share while they are deployed."""

    def __init__(self, settings: Settings, machine: Machine, stack: str, services: Iterable[Service]) -> None:
        self.settings = settings
        self.machine = machine
        self.prefix = f"aikit-{stack}"
        """What every name in Docker begins with."""
        self._stack = stack
        self.docker = docker.Provider("docker")
        self.images = Images(machine, self.docker)
        self.services = {service.name: service for service in services}
        self.secret_volumes: dict[str, pulumi.Output[str]] = {}
        """Name of the volume with the secrets of each container that has some, when its agent is declared."""
        self.vault_options = pulumi.ResourceOptions()
        """Of everything that is made in Vault; those that count when Vault is declared."""
        self._secrets: dict[str, pulumi.Output[str]] = {}
        self._generations: dict[str, pulumi.Output[str]] = {}
        self._rotations: dict[str, Rotation] = {}
        self._networks: dict[Network, docker.Network] = {}
        self._described: dict[str, Mapping[str, Container]] = {}
        self._deployments: dict[str, Deployment] = {}
        self._declaring = ""
        self._used: dict[str, dict[str, pulumi.Output[str]]] = {}
        self._databases: dict[str, set[str]] = {}
        self.certificates = Certificates(settings, sorted(self.host(route.host) for route in self.routes()))

    def deploy(self) -> None:
        """Declare every service, each after those that it needs, and those with secrets after who writes these."""
        # First Vault, for which everything with a secret waits, and last the agents: they have to know everybody's secrets, and have
        # none themselves.
        order = sorted(self.services, key=lambda name: (name != names.HOST, name in names.AGENTS))
        for name in order:
            self._declaring = name
            service = self.services[name]
            self._described[name] = {name: service.container(self), **service.further(self)}
        secret = self.secret_files()
        needs = graphlib.TopologicalSorter(
            {name: (*self.services[name].needs, *((self._agent(name),) if secret.get(name) else ())) for name in order}
        )
        for name in needs.static_order():
            self._declaring = name
            self._deployments[name] = Deployment(self.services[name], self, self._described[name])
        for name, deployment in self._deployments.items():
            self._declaring = name
            self.services[name].finish(self, deployment)
        self._declaring = ""

    def ready(self, name: str) -> Sequence[pulumi.Resource]:
        """Return what a service that needs ``name`` waits for."""
        return self._deployments[name].ready

    def routes(self) -> list[Route]:
        """Return the public host names of all services."""
        return [route for service in self.services.values() for route in service.routes()]

    def clients(self) -> list[OidcClient]:
        """Return the clients in Keycloak."""
        return [client for service in self.services.values() for client in clients_of(service)]

    def host(self, label: str) -> str:
        """Return the public host name that begins with ``label``."""
        return f"{label}.{self.settings.domain}"

    def url(self, label: str) -> str:
        """Return the public address of a host, without a path: the same in browsers and in containers."""
        port = self.settings.https_port
        return f"https://{self.host(label)}" + (f":{port}" if port != HTTPS else "")

    def network(self, network: Network) -> pulumi.Output[str]:
        """Return the name of a network, which is made when it is first asked for."""
        if network not in self._networks:
            self._networks[network] = docker.Network(
                f"{network}-network",
                docker.NetworkArgs(
                    name=f"{self.prefix}-{network}",
                    driver="bridge",
                    internal=network in INTERNAL,
                    labels=[
                        docker.NetworkLabelArgs(label=item.label, value=item.value) for item in self.labels(network)
                    ],
                ),
                pulumi.ResourceOptions(provider=self.docker),
            )
        return self._networks[network].name

    def secret(self, name: str, length: int = 32, *, rotation: Rotation = PERIODIC) -> pulumi.Output[str]:
        """Return a generated secret of letters and digits; the same one whenever the same name is asked for.

        Args:
            name: of the secret, unique in the stack.
            length: in characters.
            rotation: how it gets a new value; what says more than the default holds, wherever it is said.
        """
        if name not in self._secrets:
            self._secrets[name] = random.RandomPassword(
                name, random.RandomPasswordArgs(length=length, special=False)
            ).result
        if rotation != PERIODIC:
            self._rotations[name] = rotation
        return self.given(name, self._secrets[name])

    def given(self, name: str, value: pulumi.Output[str]) -> pulumi.Output[str]:
        """Return a secret from elsewhere, such as a person's file, and note that the service being declared uses it."""
        if self._declaring:
            self._used.setdefault(self._declaring, {})[name] = value
        return value

    def database_password(self, database: str) -> pulumi.Output[str]:
        """Return what stands in a secret file for the password of a database's role, and note that the service being declared uses it.

        Only Vault and PostgreSQL have the password; the agent writes it in place of this. With another password this is another one.
        """
        if self._declaring:
            self._databases.setdefault(self._declaring, set()).add(database)
        return pulumi.Output.concat(names.database_credentials(database), "/", self._generation(database))

    def databases(self) -> Mapping[str, pulumi.Output[str]]:
        """Return the databases that the services ask for: which password of its role each has."""
        asked = [database.name for service in self.services.values() for database in service.databases()]
        return {database: self._generation(database) for database in asked}

    def databases_used(self, service: str) -> Sequence[str]:
        """Return the databases whose passwords a service uses; complete when it is described."""
        return sorted(self._databases.get(service, ()))

    def _generation(self, database: str) -> pulumi.Output[str]:
        name = names.database_generation(database)
        if name not in self._generations:
            self._generations[name] = random.RandomId(name, random.RandomIdArgs(byte_length=8)).hex
        return self._generations[name]

    def secrets(self) -> Mapping[str, Mapping[str, pulumi.Output[str]]]:
        """Return the secrets by the service that uses them and their name; complete when all services are declared."""
        return self._used

    def secret_files(self) -> Mapping[str, Mapping[str, Mapping[str, pulumi.Input[str]]]]:
        """Return the secrets as files by service, container and name, of the services that are described."""
        return {
            service: {name: files for name, container in described.items() if (files := container.secret_files)}
            for service, described in self._described.items()
        }

    def agent(self, container: str) -> str:
        """Return the name of the agent that writes a container's secrets."""
        return next(self._agent(service) for service, described in self._described.items() if container in described)

    def _agent(self, service: str) -> str:
        return names.DATABASE_AGENT if self.databases_used(service) else names.AGENT

    def rotations(self) -> Mapping[str, Mapping[str, Any]]:
        """Return how each secret that the deployment makes is rotated, as plain data by its name.

        ``services`` use it; ``days`` is its period, 0 for never; ``replacement`` and ``reason`` are those of its `Rotation`. It is
        exported with the stack, because `./aikit rotate` needs what is deployed, not what the files have become since.

        Raises:
            SettingsError: a period is set for a secret that there is not, or that has none.
        """
        chosen = self.settings.secrets
        generated = (*self._secrets, *self._generations)
        declared = {name: self._rotations.get(name, PERIODIC) for name in generated} | self.certificates.rotations
        used = {service: {*secrets} for service, secrets in self._used.items()}
        for service in self._databases:
            used.setdefault(service, set()).update(map(names.database_generation, self.databases_used(service)))
        problems = tuple(_misplaced(name, days, declared) for name, days in chosen.own_days.items())
        if wrong := tuple(problem for problem in problems if problem):
            raise SettingsError(wrong)
        made: dict[str, dict[str, Any]] = {}
        for name, rotation in sorted(declared.items()):
            usual = chosen.rotation_days if rotation.days is None else rotation.days
            periodic = rotation.replacement is Replacement.PERIODIC
            made[name] = {
                "services": sorted(
                    {*rotation.services, *(service for service, names_used in used.items() if name in names_used)}
                ),
                "days": chosen.own_days.get(name, usual) if periodic else 0,
                "replacement": str(rotation.replacement),
                "reason": rotation.reason,
            }
        return made

    def labels(self, name: str) -> list[docker.ContainerLabelArgs]:
        """Return the labels by which a stack's things are found in Docker."""
        return [
            docker.ContainerLabelArgs(label="aikit.service", value=name),
            docker.ContainerLabelArgs(label="aikit.stack", value=self._stack),
        ]


def _misplaced(name: str, days: int, declared: Mapping[str, Rotation]) -> str:
    """Return what is wrong with a period of its own; empty for nothing."""
    setting = f'secrets-own-rotation-days has "{name}={days}", but'
    if name not in declared:
        close = difflib.get_close_matches(name, declared, n=1)
        hint = f"did you mean {close[0]}?" if close else "docs/secret-inventory.md lists all."
        return f"{setting} this stack has no such secret; {hint}"
    rotation = declared[name]
    return "" if rotation.replacement is Replacement.PERIODIC else f"{setting} it has no period: {rotation.reason}"
