"""Docker's API: the part of it that only reads, for whoever measures containers."""

from components.context import Platform
from components.images import HAPROXY, Image
from components.service import FILES, TEMPORARY, Container, Health, Network, Service, http_health

PORT = 2375
HEALTH_PORT = 8080
SOCKET = "/var/run/docker.sock"
"""Where the socket is in the container, wherever it is on the machine."""

READABLE = "^(/v[0-9.]+)?/(_ping|info|version|containers/json|containers/[A-Za-z0-9_.-]+/(json|stats))$"
"""Paths that only tell about containers: neither their files, their logs, nor anything that changes one."""


class DockerApi(Service):
    """HAProxy with Docker's socket, of which it lets through questions about containers and nothing else.

    Who has the socket is root on the machine; so this one has it, which runs no program of anybody and listens on a network
    of its own.
    """

    name = "docker-api"
    area = "observability"

    @property
    def image(self) -> Image:
        """HAProxy."""
        return HAPROXY

    def wanted(self) -> bool:
        """Return whether containers are to be measured."""
        return bool(self.settings.monitoring.docker_socket)

    def container(self, platform: Platform) -> Container:
        """Return the door's container. Only root's account may open the socket; it has none of root's capabilities."""
        del platform
        return Container(
            command=("haproxy", "-W", "-db", "-f", f"{FILES}/haproxy.cfg"),
            files={"haproxy.cfg": configuration()},
            health=Health(command=http_health(HEALTH_PORT, "/healthz"), interval_seconds=10, start_seconds=20),
            networks=(Network.ENGINE,),
            binds={SOCKET: self.settings.monitoring.docker_socket},
            user="0",
            memory_mb=64,
            temporary={TEMPORARY: 8},
        )


def configuration() -> str:
    """Return ``haproxy.cfg``."""
    return f"""\
global
    maxconn 100
    log stdout format raw local0 notice

defaults
    mode http
    log global
    timeout connect 5s
    timeout client 30s
    timeout server 30s

frontend docker
    bind :{PORT}
    http-request deny deny_status 403 unless METH_GET {{ path -m reg {READABLE} }}
    default_backend docker

backend docker
    server docker unix@{SOCKET}

frontend health
    bind 127.0.0.1:{HEALTH_PORT}
    monitor-uri /healthz
"""
