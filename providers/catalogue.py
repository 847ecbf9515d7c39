"""Every provider that can be served."""

from typing import Any

from providers.docker import DockerProvider
from providers.keycloak import KeycloakProvider
from providers.random import RandomProvider
from providers.server import Provider
from providers.tls import TlsProvider
from providers.vault import VaultProvider

PROVIDERS: tuple[type[Provider[Any]], ...] = (
    DockerProvider,
    KeycloakProvider,
    RandomProvider,
    TlsProvider,
    VaultProvider,
)
"""What ``serve`` starts on a machine without the official plugins."""
