"""``docker.Network``."""


# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from typing import Any, ClassVar

import docker.errors
from docker import DockerClient

from providers.docker.api import errors, label_list, labels
from providers.resource import Created, Properties, Property, ResourceType


class Network(ResourceType[DockerClient]):
    """A network. Its members are not its own: replacing it needs them to be gone."""

    token: ClassVar[str] = "docker:index/network:Network"
    properties: ClassVar[Mapping[str, Property]] = {
        "name": Property(replaces=True, autoname=True),
        "driver": Property(replaces=True),
        "internal": Property(replaces=True),
        "attachable": Property(replaces=True),
        "ipv6": Property(replaces=True),
        "options": Property(replaces=True),
        "labels": Property(replaces=True, unordered=True),
        "ipamDriver": Property(replaces=True, default="default"),
        "ipamOptions": Property(replaces=True),
        "ipamConfigs": Property(replaces=True, unordered=True),
    }
    delete_before_replace: ClassVar[bool] = True

    def create(self, client: DockerClient, inputs: Properties) -> Created:
        """Create the network; another one of the same name is an error, though Docker would allow it."""
        ipam: Any = {
            "Driver": inputs["ipamDriver"],
            "Options": inputs.get("ipamOptions") or {},
            "Config": [
                {
                    "Subnet": pool.get("subnet"),
                    "Gateway": pool.get("gateway"),
                    "IPRange": pool.get("ipRange"),
                    "AuxiliaryAddresses": pool.get("auxAddress"),
                }
                for pool in inputs.get("ipamConfigs") or ()
            ],
        }
        with errors(f"cannot create network {inputs['name']}"):
            made = client.api.create_network(
                inputs["name"],
                driver=inputs.get("driver"),
                options=inputs.get("options"),
                ipam=ipam,
                check_duplicate=True,
                internal=inputs.get("internal") or False,
                labels=labels(inputs.get("labels")),
                enable_ipv6=inputs.get("ipv6") or False,
                attachable=inputs.get("attachable"),
            )
        return Created(identifier=made["Id"], outputs=self.read(client, made["Id"], {}) or {})

    def read(self, client: DockerClient, identifier: str, outputs: Properties) -> Properties | None:
        """Return what the daemon says; pools that it chose itself are shown only where the program gave some."""
        del outputs
        with errors(f"cannot read network {identifier}"):
            try:
                found: dict[str, Any] = client.api.inspect_network(identifier)
            except docker.errors.NotFound:
                return None
        return {
            "name": found["Name"],
            "driver": found["Driver"],
            "scope": found["Scope"],
            "internal": found["Internal"],
            "attachable": found["Attachable"],
            "ipv6": found["EnableIPv6"],
            "options": found["Options"] or {},
            "labels": label_list(found["Labels"]) or None,
            "ipamDriver": found["IPAM"]["Driver"],
        }

    def delete(self, client: DockerClient, identifier: str, outputs: Properties) -> None:
        """Remove the network; containers that hang on it are the daemon's error."""
        with errors(f"cannot delete network {outputs.get('name', identifier)}"):
            try:
                client.api.remove_network(identifier)
            except docker.errors.NotFound:
                return
