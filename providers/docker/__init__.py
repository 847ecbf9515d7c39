"""The Docker provider: networks, volumes, images and containers of one daemon, through the SDK for Python."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import docker
import docker.errors
from docker import DockerClient

from providers.docker.container import Container
from providers.docker.image import Image
from providers.docker.network import Network
from providers.docker.remote_image import RemoteImage
from providers.docker.volume import Volume
from providers.resource import Properties, Property, ProviderError, ResourceType
from providers.server import Provider

_TIMEOUT_SECONDS = 120
_CONNECTIONS = 32


class DockerProvider(Provider[DockerClient]):
    """``pulumi-docker``: a daemon by ``host`` or by the environment (``DOCKER_HOST``), else the local one."""

    name: ClassVar[str] = "docker"
    configuration: ClassVar[Mapping[str, Property]] = {
        "host": Property(),
        "certPath": Property(),
        "disableDockerDaemonCheck": Property(),
    }
    resources: ClassVar[tuple[type[ResourceType[Any]], ...]] = (Network, Volume, RemoteImage, Image, Container)

    def connect(self, configuration: Properties) -> DockerClient:
        """Connect to the daemon, with TLS where ``certPath`` holds ``ca.pem``, ``cert.pem`` and ``key.pem``."""
        environment = dict(os.environ)
        if configuration.get("host"):
            environment["DOCKER_HOST"] = str(configuration["host"])
        if configuration.get("certPath"):
            environment |= {"DOCKER_CERT_PATH": str(configuration["certPath"]), "DOCKER_TLS_VERIFY": "1"}
        try:
            return docker.from_env(timeout=_TIMEOUT_SECONDS, max_pool_size=_CONNECTIONS, environment=environment)
        except docker.errors.DockerException as error:
            host = environment.get("DOCKER_HOST", "the local socket")
            raise ProviderError(f"cannot reach the Docker daemon at {host}: {error}") from error
