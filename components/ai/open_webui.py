"""Open WebUI: the chat."""

import json

import pulumi

from components.ai.names import tagged
from components.ai.ollama import PORT as OLLAMA_PORT
from components.context import Platform
from components.data import postgres, qdrant, redis
from components.identity import keycloak, realm
from components.images import OPEN_WEBUI, Image
from components.secrets.rotation import Replacement, Rotation
from components.service import (
    FILES,
    TEMPORARY,
    Container,
    Database,
    DataVolume,
    Health,
    Network,
    OidcClient,
    Route,
    Service,
)
from settings import Role

HOST = "chat"
PORT = 8080
CLIENT = "open-webui"
DATA = "/app/backend/data"
TRUST = "/tmp/certificates.pem"  # noqa: S108 -- a file system of the container's own
"""The system's authorities and the platform's own, in one file."""


ENCRYPTION = Rotation(
    replacement=Replacement.FORCED,
    reason="the chat encrypts its connections to other programs with it; they would have to be made again.",
)


FIRST_ACCOUNT = "deployment@aikit.invalid"
"""Address of the account that the chat's database begins with; the top-level domain is nobody's (RFC 2606)."""

FIRST = Rotation(
    replacement=Replacement.NEVER,
    reason="it is read at the first start only, and opens nothing: the chat takes no passwords.",
)


class OpenWebui(Service):
    """The chat, with its people from Keycloak, its data in PostgreSQL and its sessions in Redis."""

    name = "open-webui"
    area = "ai"
    needs = ("postgres", "redis")

    @property
    def image(self) -> Image:
        """Open WebUI."""
        return OPEN_WEBUI

    def routes(self) -> tuple[Route, ...]:
        """Return the chat's address."""
        return (Route(host=HOST, port=PORT, health_path="/health", title="Open WebUI: the chat"),)

    def databases(self) -> tuple[Database, ...]:
        """Return the chat's database, in which documents are found by meaning, too."""
        return (Database(name="open-webui", extensions=("vector",)),)

    def clients(self) -> tuple[OidcClient, ...]:
        """Return the chat's client: administrators administer it, all others use it."""
        return (
            OidcClient(
                client_id=CLIENT,
                title="Open WebUI",
                host=HOST,
                redirect_paths=("/oauth/oidc/callback",),
                backchannel_logout_path="/oauth/backchannel-logout",
                roles={"admin": (Role.ADMIN,), "user": (Role.EDITOR, Role.VIEWER)},
            ),
        )

    @property
    def _in_qdrant(self) -> bool:
        return self.settings.chat.vectors == "qdrant"

    def _models(self) -> dict[str, str]:
        """Return which models are offered, and which one makes documents searchable: an embedding model, else any."""
        models = self.settings.models
        chat = [tagged(model.name) for model in models if model.purpose == "chat"]
        embedding = [tagged(model.name) for model in models if model.purpose == "embedding"]
        return {
            **({"OLLAMA_API_CONFIGS": json.dumps({"0": {"enable": True, "model_ids": chat}})} if embedding else {}),
            **({"RAG_EMBEDDING_MODEL": (embedding or chat)[0]} if models else {}),
        }

    def container(self, platform: Platform) -> Container:
        """Return the chat's container; whoever signs in is who Keycloak says, with the role it says."""
        address = platform.url(HOST)
        return Container(
            command=(
                "sh",
                "-c",
                f"cat /etc/ssl/certs/ca-certificates.crt {FILES}/authority.pem > {TRUST} && exec bash /app/backend/start.sh",
            ),
            environment={
                "PORT": str(PORT),
                "ENV": "prod",
                "DATA_DIR": DATA,
                "HOME": TEMPORARY,
                "WEBUI_NAME": self.settings.chat.title,
                "WEBUI_URL": address,
                "CORS_ALLOW_ORIGIN": address,
                "DEFAULT_LOCALE": self.settings.chat.language,
                "OLLAMA_BASE_URL": f"http://haproxy:{OLLAMA_PORT}",
                "ENABLE_OPENAI_API": "false",
                "ENABLE_SIGNUP": "false",
                "ENABLE_LOGIN_FORM": "false",
                "ENABLE_PASSWORD_AUTH": "false",
                "ENABLE_OAUTH_SIGNUP": "true",
                # Straight to Keycloak: there is nothing else to choose on the chat's own sign-in page.
                "OAUTH_AUTO_REDIRECT": "true",
                "OAUTH_PROVIDER_NAME": "Keycloak",
                "OAUTH_CLIENT_ID": CLIENT,
                "OAUTH_SCOPES": "openid email profile",
                "OAUTH_CODE_CHALLENGE_METHOD": "S256",
                "OPENID_PROVIDER_URL": f"{keycloak.issuer(platform)}/.well-known/openid-configuration",
                "OPENID_REDIRECT_URI": f"{address}/oauth/oidc/callback",
                "ENABLE_OAUTH_BACKCHANNEL_LOGOUT": "true",
                # The chat's own token must not outlive the session that it comes from; its default is four weeks.
                "JWT_EXPIRES_IN": f"{self.settings.keycloak.session_max_hours}h",
                # Whoever came first would be an administrator, whatever their role. This account is there before them, and opens
                # nothing: people sign in at Keycloak alone.
                "WEBUI_ADMIN_EMAIL": FIRST_ACCOUNT,
                "WEBUI_ADMIN_NAME": "Deployment",
                "ENABLE_OAUTH_ROLE_MANAGEMENT": "true",
                "OAUTH_ROLES_CLAIM": realm.CLAIM,
                "OAUTH_ADMIN_ROLES": "admin",
                "OAUTH_ALLOWED_ROLES": "admin,user",
                # The settings of this program rule, not what the first start wrote into the database.
                "ENABLE_PERSISTENT_CONFIG": "false",
                "BYPASS_MODEL_ACCESS_CONTROL": "true",
                # By prompt, not by the model's own interface: a model without one would answer with an error.
                "DEFAULT_MODEL_PARAMS": '{"function_calling": "legacy"}',
                # Whoever comes for the first time came to chat, not for the release notes.
                "DEFAULT_INTERFACE_SETTINGS": '{"showChangelog": false}',
                # Whose request it is: the queue in front of the models is fair between people.
                "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
                **self._models(),
                "RAG_EMBEDDING_ENGINE": "ollama",
                "RAG_OLLAMA_BASE_URL": f"http://haproxy:{OLLAMA_PORT}",
                "VECTOR_DB": self.settings.chat.vectors,
                **({"QDRANT_URI": f"http://{qdrant.Qdrant.name}:{qdrant.PORT}"} if self._in_qdrant else {}),
                "ENABLE_WEBSOCKET_SUPPORT": "true",
                "WEBSOCKET_MANAGER": "redis",
                "OFFLINE_MODE": "true",
                "ANONYMIZED_TELEMETRY": "false",
                "DO_NOT_TRACK": "true",
                "SCARF_NO_ANALYTICS": "true",
                "SSL_CERT_FILE": TRUST,
                "REQUESTS_CA_BUNDLE": TRUST,
                "WEBUI_SESSION_COOKIE_SECURE": "true",
                "WEBUI_AUTH_COOKIE_SECURE": "true",
                "FORWARDED_ALLOW_IPS": "*",
            },
            secret_environment={
                "WEBUI_SECRET_KEY": platform.secret("open-webui-secret-key", 48, rotation=ENCRYPTION),
                "OAUTH_CLIENT_SECRET": realm.client_secret(platform, CLIENT),
                "WEBUI_ADMIN_PASSWORD": platform.secret("open-webui-first-password", 32, rotation=FIRST),
                "DATABASE_URL": postgres.address(platform, "open-webui"),
                "PGVECTOR_DB_URL": postgres.address(platform, "open-webui"),
                **({"QDRANT_API_KEY": platform.secret(qdrant.KEY)} if self._in_qdrant else {}),
                "REDIS_URL": redis.address(platform, 0),
                "WEBSOCKET_REDIS_URL": redis.address(platform, 1),
            },
            files={"authority.pem": pulumi.Output.from_input(platform.certificates.authority)},
            health=Health(
                command=(
                    "python3",
                    "-c",
                    f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/health', timeout=4)",
                ),
                interval_seconds=10,
                start_seconds=180,
            ),
            networks=(Network.APPLICATIONS, Network.DATA, *((Network.VECTORS,) if self._in_qdrant else ())),
            volumes=(DataVolume(name="open-webui-data", path=DATA),),
            memory_mb=self.settings.chat.memory_mb,
            temporary={TEMPORARY: 256},
        )
