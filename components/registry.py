"""The services of the platform, each once. A new one is a file with a ``Service`` and a line here."""

from components.ai.ollama import Ollama
from components.ai.open_webui import OpenWebui
from components.data.postgres import Postgres
from components.data.redis import Redis
from components.edge.haproxy import Haproxy
from components.identity.keycloak import Keycloak
from components.service import Service

SERVICES: tuple[type[Service], ...] = (Haproxy, Postgres, Redis, Keycloak, Ollama, OpenWebui)
