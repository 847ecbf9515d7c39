"""n8n: the automation. One container has the editor and the triggers, workers run the workflows, and Redis has the queue between."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from components.ai.names import tagged
from components.ai.ollama import PORT as OLLAMA_PORT
from components.context import Platform
from components.data import redis_queue
from components.identity import sign_in_proxy
from components.images import N8N, Image
from components.secrets.rotation import Replacement, Rotation
from components.service import (
    FILES,
    SECRETS,
    TEMPORARY,
    Alert,
    Container,
    Database,
    Deployment,
    Health,
    Metrics,
    Network,
    Route,
    Service,
    Severity,
    deploy_container,
    deploy_job,
)
from settings import ROOT, OllamaModel, Role

HOST = "n8n"
PORT = 5678
USER = "1000"
DATABASE = "n8n"
WORKFLOWS_DATABASE = "workflows"
"""Database that the workflows may do with as they like; n8n's own is not theirs."""

OPEN_PATHS = ("/webhook/", "/webhook-test/", "/webhook-waiting/", "/form/", "/form-test/", "/form-waiting/")
"""What programs and strangers call: a workflow answers there only if someone made it do so, and asks for a key if it should."""

SAMPLE_KEY_FILE = "sample-webhook-key"
"""File with the key that callers of the sample webhook must send."""

START = "/docker-entrypoint.sh"
"""The image's own start."""

SAMPLES = "n8n-samples"
"""Name of the job that imports the samples."""

SCRIPTS = ROOT / "services" / "n8n"

ENCRYPTION = Rotation(
    replacement=Replacement.FORCED,
    reason="n8n encrypts the credentials that people keep in it with this key; without it they are lost, and n8n does not start.",
)

SESSIONS = Rotation(days=0, reason="the keys that people made for n8n's MCP server end with it.")
OWNER = Rotation(days=0, reason="it is of no password and opens nothing.")
CALLERS = Rotation(days=0, reason="whoever calls the sample webhook must be given the new one.")
"""What gets a new value only when somebody asks for it."""

OFF = (
    "N8N_DIAGNOSTICS_ENABLED",
    "N8N_VERSION_NOTIFICATIONS_ENABLED",
    "N8N_VERSION_NOTIFICATIONS_WHATS_NEW_ENABLED",
    "N8N_TEMPLATES_ENABLED",
    "N8N_DYNAMIC_BANNERS_ENABLED",
    "N8N_HIRING_BANNER_ENABLED",
    "N8N_LICENSE_AUTO_RENEW_ENABLED",
    "N8N_COMMUNITY_PACKAGES_ENABLED",
    "N8N_PERSONALIZATION_ENABLED",
    # Second factors and profiles are Keycloak's.
    "N8N_MFA_ENABLED",
    # There is no Python beside it.
    "N8N_PYTHON_ENABLED",
)
"""What calls home, fetches programs, or is done elsewhere."""


class N8n(Service):
    """The editor, the API behind it and the triggers. It runs no workflow itself."""

    name = "n8n"
    area = "ai"
    needs = ("postgres", redis_queue.RedisQueue.name)

    @property
    def image(self) -> Image:
        """n8n 2."""
        return N8N

    def wanted(self) -> bool:
        """Return whether the settings ask for n8n."""
        return self.settings.n8n.deploy

    def routes(self) -> tuple[Route, ...]:
        """Return the editor's address, behind the sign-in proxy but for what programs call."""
        return (
            Route(
                host=HOST,
                port=PORT,
                health_path="/healthz/readiness",
                title="n8n: automation",
                roles=(Role.ADMIN, Role.EDITOR),
                identified=True,
                open_paths=OPEN_PATHS,
            ),
        )

    def databases(self) -> tuple[Database, ...]:
        """Return n8n's own database, and the one for the workflows."""
        return (Database(name=DATABASE), Database(name=WORKFLOWS_DATABASE))

    def metrics(self) -> tuple[Metrics, ...]:
        """Return n8n's own metrics, the queue's among them."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the queue."""
        limit = self.settings.n8n.waiting_executions
        return (
            Alert(
                name="AutomationQueueLong",
                expression=f"n8n_scaling_mode_queue_jobs_waiting > {limit}",
                seconds=300,
                severity=Severity.WARNING,
                kind="queue",
                summary="{{ $value }} executions of workflows wait for a worker",
                description=f"More than {limit} executions have waited for a worker of n8n for 5 minutes.",
            ),
            Alert(
                name="AutomationFails",
                expression="increase(n8n_scaling_mode_queue_jobs_failed[15m]) > 0",
                seconds=0,
                severity=Severity.WARNING,
                kind="failed",
                summary="Executions of workflows were lost to a failure of their worker",
                description="In the last 15 minutes workers of n8n could not run executions to an end; errors in workflows do not count.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the container of the editor. Its state is in PostgreSQL, so it needs no volume."""
        chosen = self.settings.n8n
        rules = self.settings.keycloak
        return Container(
            command=(START, "start"),
            environment={
                **_environment(platform, chosen.memory_mb),
                "EXTERNAL_HOOK_FILES": f"{FILES}/sign-in.js",
                "N8N_METRICS_INCLUDE_QUEUE_METRICS": "true",
                # Minutes until what a killed worker was running is marked as crashed; the default is three hours.
                "N8N_EXECUTIONS_QUEUE_RECOVERY_INTERVAL": "10",
                # An API key would stay valid for whoever may not use n8n any more.
                "N8N_PUBLIC_API_DISABLED": "true",
                # The owner is the platform's first administrator.
                "N8N_INSTANCE_OWNER_MANAGED_BY_ENV": "true",
                "N8N_INSTANCE_OWNER_EMAIL": rules.administrator_email,
                "N8N_INSTANCE_OWNER_FIRST_NAME": rules.administrator,
                "N8N_INSTANCE_OWNER_LAST_NAME": "",
                "N8N_INSTANCE_OWNER_PASSWORD_HASH_FILE": f"{SECRETS}/owner-password-hash",
            },
            files={**_files(platform), "sign-in.js": (SCRIPTS / "sign-in.js").read_text(encoding="utf-8")},
            secrets={
                **_secrets(platform),
                "sign-in-key": sign_in_proxy.identity_key(platform, HOST),
                # Of no password: it has bcrypt's form, and people sign in at Keycloak alone.
                "owner-password-hash": pulumi.Output.concat(
                    "$2b$10$", platform.secret("n8n-owner-password-hash", 53, rotation=OWNER)
                ),
                SAMPLE_KEY_FILE: platform.secret("n8n-sample-webhook-key", rotation=CALLERS),
            },
            health=_health(),
            networks=(Network.APPLICATIONS, Network.DATA, Network.OBSERVABILITY),
            user=USER,
            memory_mb=chosen.memory_mb,
            temporary={TEMPORARY: 384},
            stop_seconds=30,
        )

    def further(self, platform: Platform) -> Mapping[str, Container]:
        """Return the job that imports the samples, each once."""
        return {
            SAMPLES: Container(
                entrypoint=("node", f"{FILES}/samples.js"),
                environment=_environment(platform, 512),
                files={**_files(platform), "samples.js": (SCRIPTS / "samples.js").read_text(encoding="utf-8")},
                secrets={**_secrets(platform), "samples.json": _samples(platform)},
                health=Health(command=("true",)),
                networks=(Network.DATA,),
                user=USER,
                memory_mb=768,
                temporary={TEMPORARY: 64},
            )
        }

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Import the samples, which nobody waits for."""
        deploy_job(
            SAMPLES,
            self.image,
            deployment.described[SAMPLES],
            platform=platform,
            parent=deployment,
            depends_on=[deployment.container],
        )
        return ()


class N8nWorker(Service):
    """The workers: they take executions from the queue, one at a time for each place that is free."""

    name = "n8n-worker"
    area = "ai"
    # The editor makes the database what its version needs.
    needs = ("n8n",)

    @property
    def image(self) -> Image:
        """n8n 2."""
        return N8N

    def wanted(self) -> bool:
        """Return whether the settings ask for n8n."""
        return self.settings.n8n.deploy

    def metrics(self) -> tuple[Metrics, ...]:
        """Return every worker's own metrics; what concerns them all, the editor measures at the queue."""
        return tuple(Metrics(port=PORT, host=name) for name in self._names())

    def container(self, platform: Platform) -> Container:
        """Return the container of a worker; when it is stopped, it finishes what it has begun."""
        chosen = self.settings.n8n
        return Container(
            command=(START, "worker", f"--concurrency={chosen.concurrency}"),
            environment={
                **_environment(platform, chosen.worker_memory_mb),
                "QUEUE_HEALTH_CHECK_ACTIVE": "true",
                "N8N_GRACEFUL_SHUTDOWN_TIMEOUT": str(chosen.stop_seconds),
            },
            files=_files(platform),
            secrets=_secrets(platform),
            health=_health(),
            networks=(Network.APPLICATIONS, Network.DATA, Network.OBSERVABILITY),
            user=USER,
            memory_mb=chosen.worker_memory_mb,
            temporary={TEMPORARY: 256},
            stop_seconds=chosen.stop_seconds + 10,
        )

    def further(self, platform: Platform) -> Mapping[str, Container]:
        """Return the further workers."""
        return {name: self.container(platform) for name in self._names()[1:]}

    def _names(self) -> list[str]:
        """Return the names of all workers; the first one has the service's."""
        return [self.name, *(f"{self.name}-{number}" for number in range(2, self.settings.n8n.workers + 1))]

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Make the further workers."""
        return [
            deploy_container(
                name,
                self.image,
                container,
                platform=platform,
                parent=deployment,
                depends_on=platform.ready(N8n.name),
            )
            for name, container in deployment.described.items()
            if name != self.name
        ]


def _environment(platform: Platform, memory_mb: int) -> Mapping[str, pulumi.Input[str]]:
    """Return what all processes of n8n must agree on; secrets come from files."""
    chosen = platform.settings.n8n
    address = platform.url(HOST)
    return {
        "HOME": TEMPORARY,
        "DB_TYPE": "postgresdb",
        "DB_POSTGRESDB_HOST": "postgres",
        "DB_POSTGRESDB_DATABASE": DATABASE,
        "DB_POSTGRESDB_USER": DATABASE,
        "DB_POSTGRESDB_PASSWORD_FILE": f"{SECRETS}/database-password",
        "DB_POSTGRESDB_POOL_SIZE": "8",
        "EXECUTIONS_MODE": "queue",
        "OFFLOAD_MANUAL_EXECUTIONS_TO_WORKERS": "true",
        "QUEUE_BULL_REDIS_HOST": redis_queue.RedisQueue.name,
        "QUEUE_BULL_REDIS_PASSWORD_FILE": f"{SECRETS}/redis-password",
        "N8N_ENCRYPTION_KEY_FILE": f"{SECRETS}/encryption-key",
        "N8N_USER_MANAGEMENT_JWT_SECRET_FILE": f"{SECRETS}/session-key",
        # Files of workflows are in the database, too: workers share no disk.
        "N8N_DEFAULT_BINARY_DATA_MODE": "database",
        "EXECUTIONS_DATA_MAX_AGE": str(chosen.keep_hours),
        "GENERIC_TIMEZONE": chosen.timezone,
        "N8N_EDITOR_BASE_URL": f"{address}/",
        "N8N_WEBHOOK_URL": f"{address}/",
        "N8N_PROXY_HOPS": "1",
        "N8N_LISTEN_ADDRESS": "0.0.0.0",  # noqa: S104 -- of the container
        # The first needs a model from outside, and the second fetches its list at each start.
        "N8N_DISABLED_MODULES": "instance-ai,mcp-registry",
        "N8N_METRICS": "true",
        "NODE_EXTRA_CA_CERTS": f"{FILES}/authority.pem",
        # The rest of the memory is for what is not the heap, and for the process that runs the code of workflows.
        "NODE_OPTIONS": f"--max-old-space-size={memory_mb // 2}",
        **dict.fromkeys(OFF, "false"),
    }


def _files(platform: Platform) -> Mapping[str, pulumi.Input[str]]:
    return {"authority.pem": pulumi.Output.from_input(platform.certificates.authority)}


def _secrets(platform: Platform) -> Mapping[str, pulumi.Input[str]]:
    return {
        "database-password": platform.database_password(DATABASE),
        "redis-password": platform.secret(redis_queue.PASSWORD),
        "encryption-key": platform.secret("n8n-encryption-key", 48, rotation=ENCRYPTION),
        "session-key": platform.secret("n8n-session-key", 48, rotation=SESSIONS),
    }


def _health() -> Health:
    # /healthz says ok while the database is still being made.
    address = f"http://127.0.0.1:{PORT}/healthz/readiness"
    return Health(command=("wget", "-q", "-O", "/dev/null", address), interval_seconds=10, start_seconds=240)


def _samples(platform: Platform) -> pulumi.Output[str]:
    """Return the samples as JSON: credentials for what the platform has, and workflows that use them."""
    secrets = pulumi.Output.all(
        password=platform.database_password(WORKFLOWS_DATABASE), key=platform.secret("n8n-sample-webhook-key")
    )
    return pulumi.Output.secret(secrets).apply(
        lambda values: json.dumps(
            {
                "credentials": credentials(values["password"], values["key"]),
                "workflows": workflows(platform.settings.models),
            }
        )
    )


def credentials(password: str, key: str) -> list[dict[str, Any]]:
    """Return the sample credentials: the models' queue, a database with its password, and the key of the sample webhook."""
    return [
        {
            "id": "aikitOllama00001",
            "name": "Models of the platform",
            "type": "ollamaApi",
            "data": {"baseUrl": f"http://haproxy:{OLLAMA_PORT}", "apiKey": ""},
        },
        {
            "id": "aikitPostgres001",
            "name": "PostgreSQL for workflows",
            "type": "postgres",
            "data": {
                "host": "postgres",
                "port": 5432,
                "database": WORKFLOWS_DATABASE,
                "user": WORKFLOWS_DATABASE,
                "password": password,
                "ssl": "disable",
            },
        },
        {
            "id": "aikitWebhook0001",
            "name": "Key of the sample webhook",
            "type": "httpHeaderAuth",
            "data": {"name": "X-Api-Key", "value": key},
        },
    ]


def workflows(models: Sequence[OllamaModel]) -> list[dict[str, Any]]:
    """Return the sample workflows, as n8n exports them; they ask the first of these models that is for chat."""
    chat = next((tagged(model.name) for model in models if model.purpose == "chat"), None)
    samples = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((SCRIPTS / "workflows").glob("*.json"))]
    for sample in samples:
        for node in sample["nodes"]:
            if chat and "model" in node["parameters"]:
                node["parameters"]["model"] = chat
    return samples
