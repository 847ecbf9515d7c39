"""``docker.Volume``."""


# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from typing import Any, ClassVar

import docker.errors
from docker import DockerClient

from providers.docker.api import errors, label_list, labels
from providers.resource import Created, Properties, Property, ResourceType


class Volume(ResourceType[DockerClient]):
    """A named volume. One of the same name and driver that exists already is taken over, as Docker does."""

    token: ClassVar[str] = "docker:index/volume:Volume"
    properties: ClassVar[Mapping[str, Property]] = {
        "name": Property(replaces=True, autoname=True),
        "driver": Property(replaces=True),
        "driverOpts": Property(replaces=True),
        "labels": Property(replaces=True, unordered=True),
    }
    delete_before_replace: ClassVar[bool] = True

    def create(self, client: DockerClient, inputs: Properties) -> Created:
        """Create the volume."""
        with errors(f"cannot create volume {inputs['name']}"):
            client.api.create_volume(
                inputs["name"],
                driver=inputs.get("driver"),
                driver_opts=inputs.get("driverOpts"),
                labels=labels(inputs.get("labels")),
            )
        return Created(identifier=inputs["name"], outputs=self.read(client, inputs["name"], {}) or {})

    def read(self, client: DockerClient, identifier: str, outputs: Properties) -> Properties | None:
        """Return what the daemon says."""
        del outputs
        with errors(f"cannot read volume {identifier}"):
            try:
                found: dict[str, Any] = client.api.inspect_volume(identifier)
            except docker.errors.NotFound:
                return None
        return {
            "name": found["Name"],
            "driver": found["Driver"],
            "driverOpts": found.get("Options") or None,
            "labels": label_list(found.get("Labels")) or None,
            "mountpoint": found["Mountpoint"],
        }

    def delete(self, client: DockerClient, identifier: str, outputs: Properties) -> None:
        """Remove the volume and its data; one that is in use is the daemon's error."""
        del outputs
        with errors(f"cannot delete volume {identifier}"):
            try:
                client.api.remove_volume(identifier)
            except docker.errors.NotFound:
                return
