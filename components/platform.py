"""The whole platform as one graph."""

import pulumi

from components.ai.ollama import without_library
from components.context import Platform
from components.identity import realm
from components.images import Machine
from components.registry import deployed
from settings import Accelerator, Settings


def deploy(settings: Settings, machine: Machine, stack: str) -> None:
    """Declare the whole graph in the running Pulumi program, and its outputs."""
    if settings.accelerator is Accelerator.AUTO:
        settings = settings.model_copy(update={"accelerator": machine.accelerator})
    if machine.small_model:
        settings = settings.model_copy(update={"models": without_library(settings.models, machine.small_model)})
    platform = Platform(settings, machine, stack, deployed(settings, machine))
    platform.deploy()
    pulumi.export(
        "services",
        [
            {
                "name": service.name,
                "container": f"{platform.prefix}-{service.name}",
                "title": route.title if route else service.name,
                "url": platform.url(route.host) + route.path if route else "",
            }
            for service in platform.services.values()
            for route in (service.routes() or (None,))
        ],
    )
    pulumi.export(
        "administrator", {"username": settings.keycloak.administrator, "email": settings.keycloak.administrator_email}
    )
    pulumi.export("administratorPassword", realm.first_password(platform, settings.keycloak.administrator))
    pulumi.export(
        "userPasswords", {user.username: realm.first_password(platform, user.username) for user in settings.users}
    )
    pulumi.export(
        "programSecrets",
        {program: realm.program_secret(platform, program) for program in settings.programs},
    )
    pulumi.export("secrets", platform.rotations())
    pulumi.export("caCertificate", platform.certificates.authority)
