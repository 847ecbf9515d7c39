"""What the services of one stack share: names, networks, secrets, certificates, images."""

import graphlib
from collections.abc import Iterable, Sequence

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.edge.certificates import Certificates
from components.images import Images, Machine
from components.service import SIGN_IN_PATH, SIGN_IN_ROLE, Deployment, Network, OidcClient, Route, Service
from settings import HTTPS, Settings

INTERNAL = frozenset({Network.DATA, Network.ENGINE, Network.OBSERVABILITY, Network.VECTORS})
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
        self._secrets: dict[str, pulumi.Output[str]] = {}
        self._networks: dict[Network, docker.Network] = {}
        self._deployments: dict[str, Deployment] = {}
        self.certificates = Certificates(settings, sorted(self.host(route.host) for route in self.routes()))

    def deploy(self) -> None:
        """Declare every service, each after those that it needs."""
        order = graphlib.TopologicalSorter({name: service.needs for name, service in self.services.items()})
        for name in order.static_order():
            self._deployments[name] = Deployment(self.services[name], self)

    def ready(self, name: str) -> Sequence[pulumi.Resource]:
        """Return what a service that needs ``name`` waits for."""
        return self._deployments[name].ready

    def routes(self) -> list[Route]:
        """Return the public host names of all services."""
        return [route for service in self.services.values() for route in service.routes()]

    def clients(self) -> list[OidcClient]:
        """Return the clients in Keycloak: those of the services, and one for each host that the sign-in proxy guards."""
        own = [client for service in self.services.values() for client in service.clients()]
        guarded = [
            OidcClient(
                client_id=route.host,
                title=route.title,
                host=route.host,
                redirect_paths=(SIGN_IN_PATH,),
                roles={SIGN_IN_ROLE: route.roles},
            )
            for route in self.routes()
            if route.roles
        ]
        return own + guarded

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

    def secret(self, name: str, length: int = 32) -> pulumi.Output[str]:
        """Return a generated secret of letters and digits; the same one whenever the same name is asked for."""
        if name not in self._secrets:
            self._secrets[name] = random.RandomPassword(
                name, random.RandomPasswordArgs(length=length, special=False)
            ).result
        return self._secrets[name]

    def labels(self, name: str) -> list[docker.ContainerLabelArgs]:
        """Return the labels by which a stack's things are found in Docker."""
        return [
            docker.ContainerLabelArgs(label="aikit.service", value=name),
            docker.ContainerLabelArgs(label="aikit.stack", value=self._stack),
        ]
