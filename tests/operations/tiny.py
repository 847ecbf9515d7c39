"""A stack that is small, but real: a network, a volume, a password and a container.

Also a program, which runs ``./aikit`` on it in a process of its own: ``python -m tests.operations.tiny ROOT ARGUMENTS...``.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from operations.cli import main
from operations.project import Project
from settings import Settings

if TYPE_CHECKING:
    from components.platform import Machine

IMAGE = "aikit-test/tiny:1"
"""Holds ``/bin/sleep`` and what it needs; made by the fixture ``tiny_image``."""


def deploy(settings: Settings, machine: "Machine", stack: str) -> None:
    """Declare the stack; environment variables change it."""
    import pulumi
    import pulumi_docker as docker
    import pulumi_random as random

    del settings, machine
    if message := os.environ.get("TINY_RAISES"):
        raise RuntimeError(message)
    labels = {"aikit.stack": stack, "aikit.service": "app"}
    password = random.RandomPassword("password", length=20)
    further = dict(item.split("=") for item in os.environ.get("TINY_SECRETS", "").split())
    for name in further:
        random.RandomPassword(name, length=20)
    used = pulumi.Output.unsecret(password.result.apply(lambda value: hashlib.sha256(value.encode()).hexdigest()))
    network = docker.Network(
        "network",
        name=f"tiny-{stack}",
        internal=bool(os.environ.get("TINY_INTERNAL")),
        labels=[docker.NetworkLabelArgs(label=name, value=value) for name, value in labels.items()],
    )
    team = {"team": name} if (name := os.environ.get("TINY_TEAM")) else {}
    volume = docker.Volume(
        "data",
        name=f"tiny-{stack}-data",
        labels=[
            docker.VolumeLabelArgs(label=name, value=value)
            for name, value in {**labels, **team, "aikit.data": "true"}.items()
        ],
        opts=pulumi.ResourceOptions(retain_on_delete=True, protect=bool(os.environ.get("TINY_PROTECTS"))),
    )
    for name in os.environ.get("TINY_VOLUMES", "").split():
        docker.Volume(
            name,
            name=f"tiny-{stack}-{name}",
            labels=[
                docker.VolumeLabelArgs(label=key, value=value)
                for key, value in {**labels, "aikit.data": "true"}.items()
            ],
            opts=pulumi.ResourceOptions(retain_on_delete=True, protect=bool(os.environ.get("TINY_PROTECTS"))),
        )
    health = None
    if argument := os.environ.get("TINY_HEALTH"):
        # sleep ends well with a number, and badly with anything else.
        health = docker.ContainerHealthcheckArgs(
            tests=["CMD", "/bin/sleep", argument], interval="1s", timeout="1s", start_period="0s", retries=2
        )
    image: pulumi.Input[str] = os.environ.get("TINY_IMAGE", IMAGE)
    if folder := os.environ.get("TINY_BUILD"):
        image = docker.Image(
            "image",
            image_name=f"aikit/{stack}:1",
            skip_push=True,
            build=docker.DockerBuildArgs(context=folder, dockerfile=f"{folder}/Containerfile"),
        ).image_name
    for name in ("app", *os.environ.get("TINY_MORE", "").split()):
        docker.Container(
            name,
            name=f"tiny-{stack}-{name}",
            image=image,
            command=["/bin/sleep", "3600"],
            stop_signal="SIGKILL",
            memory=256,
            memory_swap=256,
            healthcheck=health,
            wait=health is not None and not os.environ.get("TINY_HASTE"),
            wait_timeout=30,
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=network.name)],
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/data")],
            labels=[
                docker.ContainerLabelArgs(label="aikit.stack", value=stack),
                docker.ContainerLabelArgs(label="aikit.service", value=name),
                docker.ContainerLabelArgs(label="password", value=used),
            ],
            opts=pulumi.ResourceOptions(depends_on=[password]),
        )
    pulumi.export("services", [{"name": "app", "title": "App", "url": None, "container": f"tiny-{stack}-app"}])
    pulumi.export("administratorPassword", password.result)
    pulumi.export(
        "secrets",
        {
            name: {
                "services": ["app"],
                "days": int(os.environ.get("TINY_DAYS", "90")) if replacement == "periodic" else 0,
                "replacement": replacement,
                "reason": "" if replacement == "periodic" else f"it is {replacement}.",
            }
            for name, replacement in {"password": "periodic", **further}.items()
        },
    )


def project(root: Path) -> Project:
    """Return the project whose settings are in ``root``."""
    return Project(root=root, deploy=deploy, left_out=lambda settings, machine: {})


if __name__ == "__main__":
    main(sys.argv[2:], project(Path(sys.argv[1])))
