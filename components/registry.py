"""The services of the platform, each once. A new one is a file with a ``Service`` and a line here."""

from components.ai.n8n import N8n, N8nWorker
from components.ai.ollama import Ollama
from components.ai.open_webui import OpenWebui
from components.data.postgres import Postgres
from components.data.qdrant import Qdrant
from components.data.redis import Redis
from components.data.redis_queue import RedisQueue
from components.edge.haproxy import Haproxy
from components.identity.keycloak import Keycloak
from components.identity.sign_in_proxy import SignInProxy
from components.images import Machine
from components.observability.alertmanager import Alertmanager
from components.observability.blackbox_exporter import BlackboxExporter
from components.observability.docker_api import DockerApi
from components.observability.grafana import Grafana
from components.observability.node_exporter import NodeExporter
from components.observability.nvidia_exporter import NvidiaExporter
from components.observability.postgres_exporter import PostgresExporter
from components.observability.prometheus import Prometheus
from components.observability.redis_exporter import RedisExporter
from components.observability.telegraf import Telegraf
from components.pipelines.jenkins import Jenkins
from components.secrets.agent import SecretsAgent
from components.secrets.database_agent import DatabaseSecretsAgent
from components.secrets.vault import Vault
from components.service import Service
from settings import Settings

SERVICES: tuple[type[Service], ...] = (
    Haproxy,
    Postgres,
    Redis,
    RedisQueue,
    Qdrant,
    Keycloak,
    Vault,
    SecretsAgent,
    DatabaseSecretsAgent,
    SignInProxy,
    Ollama,
    OpenWebui,
    N8n,
    N8nWorker,
    Alertmanager,
    BlackboxExporter,
    DockerApi,
    NodeExporter,
    NvidiaExporter,
    PostgresExporter,
    RedisExporter,
    Telegraf,
    Prometheus,
    Grafana,
    Jenkins,
)


def deployed(settings: Settings, machine: Machine) -> list[Service]:
    """Return the services that a machine gets with these settings."""
    services = [kind(settings) for kind in SERVICES]
    return [service for service in services if service.wanted() and not service.left_out(machine)]


def left_out(settings: Settings, machine: Machine) -> dict[str, str]:
    """Return why services that the settings ask for are not deployed on a machine, by name.

    Raises:
        SettingsError: a setting demands one that the machine cannot have.
    """
    services = [kind(settings) for kind in SERVICES]
    return {service.name: reason for service in services if service.wanted() and (reason := service.left_out(machine))}
