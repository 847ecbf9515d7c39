"""Every adapter against the class of the official SDK: the same property names, the same required inputs."""

# Values come from systems without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportPrivateUsage=false

import inspect
from typing import Any

import pulumi_docker
import pulumi_keycloak
import pulumi_random
import pulumi_tls
import pulumi_vault
import pytest

from providers.catalogue import PROVIDERS
from providers.docker.container import Container
from providers.resource import ResourceType

_SDKS = {
    "docker": pulumi_docker,
    "keycloak": pulumi_keycloak,
    "random": pulumi_random,
    "tls": pulumi_tls,
    "vault": pulumi_vault,
}
_TYPES = [resource for provider in PROVIDERS for resource in provider.resources]
# Required by us alone: the official provider has a second, write-only form of the same input, or finds out later.
_STRICTER = {
    "tls:index/selfSignedCert:SelfSignedCert": {"privateKeyPem"},
    "tls:index/certRequest:CertRequest": {"privateKeyPem"},
    "keycloak:oidc/googleIdentityProvider:GoogleIdentityProvider": {"clientId"},
    "tls:index/locallySignedCert:LocallySignedCert": {"caPrivateKeyPem"},
}


def _official(resource: type[ResourceType[Any]]) -> dict[str, bool]:
    """Return the official input names, and whether each is required."""
    package, module, name = resource.token.split(":")
    area = module.split("/")[0].lower()
    home = _SDKS[package] if area == "index" else getattr(_SDKS[package], area)
    arguments = getattr(home, f"{name}Args")
    names = {
        getter.fget: attribute for attribute, getter in inspect.getmembers(arguments, lambda x: isinstance(x, property))
    }
    parameters = inspect.signature(arguments.__init__).parameters
    return {
        getter._pulumi_name: parameters[attribute].default is inspect.Parameter.empty
        for getter, attribute in names.items()
        if attribute in parameters
    }


@pytest.mark.parametrize("resource", _TYPES, ids=lambda resource: resource.token)
def test_properties_are_the_official_ones(resource: type[ResourceType[Any]]) -> None:
    official = _official(resource)
    assert set(resource.properties) <= set(official)
    required = {name for name, known in resource.properties.items() if known.required}
    assert required - _STRICTER.get(resource.token, set()) == {name for name, needed in official.items() if needed}


def test_a_container_has_every_official_property() -> None:
    assert set(Container.properties) == set(_official(Container))
