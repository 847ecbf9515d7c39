"""Secrets agent: writes the secrets of every container into its memory, as Vault has them."""

import json
from collections.abc import Iterable, Mapping, Sequence

import pulumi

from components.context import Platform
from components.images import VAULT, Image
from components.secrets import names, vault
from components.service import (
    FILES,
    FIRST_SHARES,
    TEMPORARY,
    Container,
    Health,
    Metrics,
    Network,
    Service,
    fingerprint,
    secret_fingerprint,
)

PORT = 8100
"""Measurements only."""

FOLDER = "/secrets"
"""Where the volume of each container is, in a folder of the container's name."""

WRITTEN = f"{TEMPORARY}/written"
"""File that is there when everything is written."""

INTERVAL = "1h"
"""How often it asks for values that nobody told it of; a deployment replaces its container instead, which asks at once."""

BACKOFF = "5s"
"""How long it waits at most before it tries to log in again: services wait for it when the machine starts."""


class SecretsAgent(Service):
    """Vault's agent. It runs all the time, because memory is empty after a restart of Docker or of the machine."""

    name = names.AGENT
    area = "secrets"
    needs = ("vault",)

    @property
    def image(self) -> Image:
        """Vault 1.19, whose program is the agent's, too."""
        return VAULT

    def metrics(self) -> tuple[Metrics, ...]:
        """Return the agent's own measurements."""
        return (Metrics(port=PORT, path="/agent/v1/metrics", drop="(go|core)_.*"),)

    def container(self, platform: Platform) -> Container:
        """Return the agent's container. Its own secret is on disk: nobody could write it into memory before it runs."""
        files: dict[str, Mapping[str, pulumi.Input[str]]] = {}
        databases: dict[str, Sequence[str]] = {}
        for service, described in platform.secret_files().items():
            for container, secrets in described.items():
                if platform.agent(container) == self.name:
                    files[container] = secrets
                    databases[container] = platform.databases_used(service)
        return Container(
            # Whatever the image's entrypoint is, which would begin with changing owners.
            entrypoint=("env",),
            command=("vault", "agent", f"-config={FILES}/agent.hcl"),
            environment={
                "HOME": TEMPORARY,
                # Another value of a secret makes another container, which writes it at once.
                "CONTENT": fingerprint(
                    {name: secret_fingerprint(secrets, platform) for name, secrets in files.items()}
                ),
            },
            files={
                "agent.hcl": configuration(files, databases),
                "authority.pem": pulumi.Output.from_input(platform.certificates.authority),
                "role-id": names.AGENT,
                "secret-id": platform.secret(names.AGENT_SECRET, 48),
            },
            health=Health(command=("test", "-e", WRITTEN), interval_seconds=3, start_seconds=60),
            networks=(Network.OBSERVABILITY,),
            keeps={name: f"{FOLDER}/{name}" for name in files},
            # The volumes are root's; it has none of root's capabilities.
            user="0",
            memory_mb=128,
            cpu_shares=FIRST_SHARES,
            temporary={TEMPORARY: 8},
        )


def configuration(files: Mapping[str, Iterable[str]], databases: Mapping[str, Sequence[str]]) -> str:
    """Return ``agent.hcl``; it holds no secret.

    Args:
        files: names of the files by container.
        databases: those whose passwords may be in the files, by container.
    """
    entries = {container: f"{names.MOUNT}/data/{names.files(container)}" for container in sorted(files)}
    templates = [
        _template(f"{FOLDER}/{container}/{file}", _content(path, file, databases[container]))
        for container, path in entries.items()
        for file in sorted(files[container])
    ]
    # They are written in this order as soon as everything is known, so this one is written when all others are.
    passwords = sorted({names.database_credentials(database) for used in databases.values() for database in used})
    known = "".join(f"{_with(path)}{{{{ end }}}}" for path in (*entries.values(), *passwords))
    templates.append(_template(WRITTEN, f"{known}written"))
    return f"""\
vault {{
  address = "https://{vault.Vault.name}:{vault.TLS_PORT}"
  ca_cert = "{FILES}/authority.pem"
}}

auto_auth {{
  method "approle" {{
    min_backoff = "1s"
    max_backoff = "{BACKOFF}"
    config = {{
      role_id_file_path                   = "{FILES}/role-id"
      secret_id_file_path                 = "{FILES}/secret-id"
      remove_secret_id_file_after_reading = false
    }}
  }}
}}

template_config {{
  static_secret_render_interval = "{INTERVAL}"
  # Docker starts it again.
  exit_on_retry_failure         = true
}}

listener "tcp" {{
  address     = "0.0.0.0:{PORT}"
  tls_disable = true
  role        = "metrics_only"
}}

telemetry {{
  disable_hostname          = true
  prometheus_retention_time = "24h"
}}
{"".join(templates)}"""


def _content(entry: str, file: str, databases: Sequence[str]) -> str:
    """Return a template of a file's text, with the passwords in place of what stands for them."""
    text = f"index .Data.data {json.dumps(file)}"
    opened: list[str] = []
    for number, database in enumerate(databases):
        path = names.database_credentials(database)
        opened.append(f"{_with(path)}{{{{ $password{number} := .Data.password }}}}")
        text += f" | regexReplaceAll {json.dumps(f'{path}/[0-9a-f]+')} $password{number}"
    return f"{''.join(opened)}{_with(entry)}{{{{ {text} }}}}{'{{ end }}' * (len(opened) + 1)}"


def _with(path: str) -> str:
    return f"{{{{ with secret {json.dumps(path)} }}}}"


def _template(destination: str, contents: str) -> str:
    # Readable for root's group, in which each service runs.
    return f"""
template {{
  destination          = "{destination}"
  perms                = "0440"
  error_on_missing_key = true
  contents             = {json.dumps(contents)}
}}
"""
