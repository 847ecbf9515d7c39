"""The services of the platform, each once. A new one is a file with a ``Service`` and a line here."""

from components.ai.ollama import Ollama
from components.ai.open_webui import OpenWebui
from components.data.postgres import Postgres
from components.data.redis import Redis
from components.edge.haproxy import Haproxy
from components.identity.keycloak import Keycloak
from components.observability.alertmanager import Alertmanager
from components.observability.blackbox_exporter import BlackboxExporter
from components.observability.node_exporter import NodeExporter
from components.observability.postgres_exporter import PostgresExporter
from components.observability.prometheus import Prometheus
from components.observability.redis_exporter import RedisExporter
from components.service import Service

SERVICES: tuple[type[Service], ...] = (
    Haproxy,
    Postgres,
    Redis,
    Keycloak,
    Ollama,
    OpenWebui,
    Alertmanager,
    BlackboxExporter,
    NodeExporter,
    PostgresExporter,
    RedisExporter,
    Prometheus,
)
