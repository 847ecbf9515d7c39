"""Images: exact versions of the official ones, and what is built where no image registry answers."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pulumi
import pulumi_docker as docker

from settings import ROOT, Accelerator, OllamaModel

LOCK = "images.lock.json"
"""Digest by official image, beside the program; written by ``./aikit images lock``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What differs by machine: found out by whoever runs the program, the same for all resources of a run."""

    images: Literal["official", "built"] = "official"
    accelerator: Accelerator = Accelerator.CPU
    """What the setting ``accelerator: auto`` means here."""
    bases: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """Tag of the base image by Debian release; only needed to build images."""
    small_model: OllamaModel | None = None
    """What is there instead of the models of Ollama's library, where that is out of reach."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """One image in both its forms, which take the same settings."""

    official: str = ""
    """Repository and exact version; empty if nobody publishes one, so that it is built on every machine."""
    built: str = ""
    """Folder below ``services/`` with the ``Containerfile`` that mimics it; empty if package registries lack what it takes."""
    base: Literal["trixie", "bookworm"] = "trixie"
    """Debian release it is built on."""

    def available(self, machine: Machine) -> bool:
        """Return whether a machine can have it."""
        return bool(self.built) or machine.images == "official"

    @property
    def repository(self) -> str:
        """The repository of the official image."""
        return self.official.rpartition(":")[0]

    @property
    def locked(self) -> str:
        """What is pulled: the digest that is locked for this very version, else the version."""
        digest = _locked(ROOT).get(self.official)
        return f"{self.repository}@{digest}" if digest else self.official


@functools.cache
def _locked(root: Path) -> dict[str, str]:
    path = root / LOCK
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


POSTGRES = Image(official="docker.io/pgvector/pgvector:0.8.1-pg17", built="postgres")
QDRANT = Image(official="docker.io/qdrant/qdrant:v1.16.3")
REDIS = Image(official="docker.io/library/redis:8.0.2", built="redis")
HAPROXY = Image(official="docker.io/library/haproxy:3.0.11", built="haproxy")
KEYCLOAK = Image(official="quay.io/keycloak/keycloak:26.7.3", built="keycloak")
OLLAMA = Image(official="docker.io/ollama/ollama:0.17.4", built="ollama")
OLLAMA_AMD = Image(official="docker.io/ollama/ollama:0.17.4-rocm", built="ollama")
OPEN_WEBUI = Image(official="ghcr.io/open-webui/open-webui:v0.12.4", built="open-webui", base="bookworm")
N8N = Image(official="docker.io/n8nio/n8n:2.40.7", built="n8n")
PROMETHEUS = Image(official="docker.io/prom/prometheus:v2.53.3", built="observability")
ALERTMANAGER = Image(official="docker.io/prom/alertmanager:v0.28.1", built="observability")
NODE_EXPORTER = Image(official="docker.io/prom/node-exporter:v1.9.0", built="observability")
POSTGRES_EXPORTER = Image(official="docker.io/prometheuscommunity/postgres-exporter:v0.17.1", built="observability")
REDIS_EXPORTER = Image(official="docker.io/oliver006/redis_exporter:v1.69.0-alpine", built="observability")
BLACKBOX_EXPORTER = Image(official="docker.io/prom/blackbox-exporter:v0.26.0", built="observability")
TELEGRAF = Image(official="docker.io/library/telegraf:1.35.4", built="telegraf")
GRAFANA = Image(official="docker.io/grafana/grafana:12.3.2")
JENKINS = Image(official="docker.io/jenkins/jenkins:2.541.1-lts-jdk21")
NVIDIA_EXPORTER = Image(official="docker.io/nvidia/dcgm-exporter:3.3.9-3.6.1-ubuntu22.04")
SIGN_IN_PROXY = Image(built="sign-in-proxy")
VAULT = Image(official="docker.io/hashicorp/vault:1.19.5", built="vault")

DEBIAN = {"trixie": "docker.io/library/debian:13.1-slim", "bookworm": "docker.io/library/debian:12.12-slim"}
"""Official base of the images that are built on every machine, by Debian release."""


def table() -> list[Image]:
    """Return every image that a stack may use."""
    return [image for image in globals().values() if isinstance(image, Image)]


def content_hash(folder: Path, base: str) -> str:
    """Return 12 hex digits that change with any file of a build's context or with its base image."""
    digest = hashlib.sha256(base.encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(folder)}\0{path.stat().st_mode & 0o111}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Images:
    """The images of one run: each is pulled or built once, however many services use it."""

    def __init__(self, machine: Machine, provider: pulumi.ProviderResource) -> None:
        self._machine = machine
        self._options = pulumi.ResourceOptions(provider=provider)
        self._references: dict[str, pulumi.Input[str]] = {}

    def reference(self, image: Image) -> pulumi.Input[str]:
        """Return what a container names as its image."""
        built = self._machine.images == "built" or not image.official
        key = image.built if built else image.official
        if key not in self._references:
            self._references[key] = self._build(image) if built else self._pull(image)
        return self._references[key]

    def _pull(self, image: Image) -> pulumi.Output[str]:
        name = image.repository.rpartition("/")[2]
        return docker.RemoteImage(
            f"{name}-image", docker.RemoteImageArgs(name=image.locked, keep_locally=True), self._options
        ).image_id

    def _build(self, image: Image) -> pulumi.Output[str]:
        folder = ROOT / "services" / image.built
        base = self._machine.bases[image.base] if self._machine.images == "built" else DEBIAN[image.base]
        return docker.Image(
            f"{image.built}-image",
            image_name=f"aikit/{image.built}:{content_hash(folder, base)}",
            skip_push=True,
            build=docker.DockerBuildArgs(
                context=str(folder), dockerfile=str(folder / "Containerfile"), args={"BASE": base}
            ),
            opts=self._options,
        ).image_name
