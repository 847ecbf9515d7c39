"""``docker.RemoteImage``."""


# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import docker.errors
import docker.utils
from docker import DockerClient

from providers.docker.api import errors
from providers.resource import Created, Properties, Property, ProviderError, ResourceType, report


def find_image(client: DockerClient, name: str) -> dict[str, Any] | None:
    """Return what the daemon says about a local image, None if there is none."""
    with errors(f"cannot read image {name}"):
        try:
            return cast("dict[str, Any]", client.api.inspect_image(name))
        except docker.errors.NotFound:
            return None


def ensure_image(client: DockerClient, name: str, platform: str | None = None) -> dict[str, Any]:
    """Return the local image ``name``, pulled from its registry if there is none.

    Raises:
        ProviderError: it is neither here nor in the registry.
    """
    found = find_image(client, name)
    if found is None:
        repository, tag = docker.utils.parse_repository_tag(name)
        with errors(f"image {name} is not on this machine and cannot be pulled"):
            for event in client.api.pull(repository, tag=tag or "latest", platform=platform, stream=True, decode=True):
                if "error" in event:
                    raise ProviderError(f"image {name} is not on this machine and cannot be pulled: {event['error']}")
                report(f"{event.get('status', '')} {event.get('progress', '')}".strip())
        found = find_image(client, name)
    if found is None:
        raise ProviderError(f"image {name} was pulled but is not there")
    return found


class RemoteImage(ResourceType[DockerClient]):
    """An image that is on the machine, or is pulled. Deleting it removes the image unless ``keepLocally``."""

    token: ClassVar[str] = "docker:index/remoteImage:RemoteImage"
    properties: ClassVar[Mapping[str, Property]] = {
        "name": Property(required=True, replaces=True),
        "keepLocally": Property(),
        "forceRemove": Property(),
        "platform": Property(replaces=True),
        "pullTriggers": Property(replaces=True, unordered=True),
        "triggers": Property(replaces=True),
    }

    def create(self, client: DockerClient, inputs: Properties) -> Created:
        """Find or pull the image."""
        outputs = _outputs(inputs["name"], ensure_image(client, inputs["name"], inputs.get("platform")))
        return Created(identifier=f"{outputs['imageId']}{inputs['name']}", outputs=outputs)

    def read(self, client: DockerClient, identifier: str, outputs: Properties) -> Properties | None:
        """Look for the image under its name."""
        name = outputs.get("name") or identifier
        found = find_image(client, name)
        return None if found is None else _outputs(name, found)

    def update(self, client: DockerClient, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Take new settings for a later delete."""
        return _outputs(inputs["name"], ensure_image(client, inputs["name"], inputs.get("platform")))

    def delete(self, client: DockerClient, identifier: str, outputs: Properties) -> None:
        """Remove the image from the machine unless it is to be kept."""
        if outputs.get("keepLocally"):
            return
        with errors(f"cannot delete image {outputs['name']}"):
            try:
                client.api.remove_image(outputs["name"], force=outputs.get("forceRemove") or False)
            except docker.errors.NotFound:
                return


def _outputs(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "imageId": found["Id"], "repoDigest": next(iter(found.get("RepoDigests") or ()), "")}
