"""``docker.Image``."""


# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from docker import DockerClient

from providers.docker.api import errors
from providers.docker.remote_image import find_image
from providers.resource import Created, Properties, Property, ProviderError, ResourceType, report

_BUILD = frozenset({"context", "dockerfile", "args", "target", "platform", "network", "addHosts", "builderVersion"})
_ERROR_LINES = 20


class Image(ResourceType[DockerClient]):
    """An image built by the daemon's own builder. It is not pushed, and deleting it leaves the image.

    A tag that is on the machine already is taken as it is: an image's name must change with its content. The official
    provider notices a changed build context under the same name too.
    """

    token: ClassVar[str] = "docker:index/image:Image"
    properties: ClassVar[Mapping[str, Property]] = {
        "imageName": Property(required=True),
        "build": Property(),
        "skipPush": Property(default=False),
        "buildOnPreview": Property(),
    }

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse what the build would not do."""
        wrong: dict[str, str] = {}
        if inputs.get("skipPush") is False:
            wrong["skipPush"] = "must be true: this provider cannot push"
        unknown = sorted(dict(inputs.get("build") or {}).keys() - _BUILD)
        if unknown:
            wrong["build"] = f"does not know {', '.join(unknown)}; it knows {', '.join(sorted(_BUILD))}"
        return wrong

    def create(self, client: DockerClient, inputs: Properties) -> Created:
        """Find the image by its name, or build it."""
        name = inputs["imageName"]
        if find_image(client, name) is None:
            _build(client, inputs)
        return Created(identifier=name, outputs=_outputs(inputs))

    def read(self, client: DockerClient, identifier: str, outputs: Properties) -> Properties | None:
        """Look for the image under its name."""
        return None if find_image(client, outputs.get("imageName") or identifier) is None else {}

    def update(self, client: DockerClient, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Build another name that is not there yet, or the same name from something else."""
        same_name = inputs["imageName"] == outputs.get("imageName")
        if same_name or find_image(client, inputs["imageName"]) is None:
            _build(client, inputs)
        return _outputs(inputs)

    def delete(self, client: DockerClient, identifier: str, outputs: Properties) -> None:
        """Leave the image, as the official provider does."""


def _outputs(inputs: Properties) -> dict[str, Any]:
    build = inputs.get("build") or {}
    context = build.get("context") or "."
    name = str(inputs["imageName"])
    first, slash, _ = name.partition("/")
    server = first if slash and any(mark in first for mark in ".:") else ""
    return {
        "imageName": name,
        "baseImageName": name,
        "registryServer": server,
        "repoDigest": "",
        "context": context,
        "dockerfile": build.get("dockerfile") or str(Path(context) / "Dockerfile"),
        "platform": build.get("platform"),
    }


def _build(client: DockerClient, inputs: Properties) -> None:
    build, outputs = inputs.get("build") or {}, _outputs(inputs)
    name = outputs["imageName"]
    if not Path(outputs["context"]).is_dir():
        raise ProviderError(f"cannot build image {name}: no directory {outputs['context']}")
    tail: collections.deque[str] = collections.deque(maxlen=_ERROR_LINES)
    with errors(f"cannot build image {name}"):
        events = client.api.build(
            path=outputs["context"],
            dockerfile=str(Path(outputs["dockerfile"]).resolve()),
            tag=name,
            buildargs={key: str(value) for key, value in (build.get("args") or {}).items()},
            target=build.get("target"),
            platform=build.get("platform"),
            network_mode=build.get("network"),
            extra_hosts=dict(line.split(":", 1) for line in build.get("addHosts") or ()),
            rm=True,
            forcerm=True,
            decode=True,
        )
        for event in events:
            for line in str(event.get("stream") or event.get("error") or "").splitlines():
                if line.strip():
                    tail.append(line.rstrip())
                    report(line.strip())
            if "error" in event:
                raise ProviderError("\n".join([f"cannot build image {name}; its last lines:", *tail]))
