"""``docker.Container``."""

# ruff: noqa: S104, TRY301 - a type token, every address, and errors that get the logs added
# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import docker.errors
from docker import DockerClient

from providers.docker import health as health_checks
from providers.docker.api import errors, label_list
from providers.docker.remote_image import ensure_image
from providers.docker.spec import MEBIBYTE, container_config, nanoseconds, restart_policy, size
from providers.docker.uploads import problem, upload
from providers.resource import (
    Created,
    PartialFailureError,
    Properties,
    Property,
    ProviderError,
    ResourceType,
    pause,
    report,
)

_GRACE_SECONDS = 10
_LOG_LINES = 15
_MAX_RESTARTS = 5
"""A container that its restart policy had to start again more often than that will not become healthy."""
_FIRST_POLL_SECONDS = 0.2
_LAST_POLL_SECONDS = 1.0

_REPLACING = Property(replaces=True)
_UNORDERED = Property(replaces=True, unordered=True)
_IN_PLACE = Property()


class Container(ResourceType[DockerClient]):
    """A container.

    Where the official provider is known to be wrong, this one is right: every change reaches the container (a changed
    health check, tmpfs or init replaces it), a job with an exit code other than 0 fails, a container that exits or becomes
    unhealthy fails at once instead of at the end of ``waitTimeout``, a stop gets ten seconds, and a network that was
    disconnected by hand is drift.
    """

    token: ClassVar[str] = "docker:index/container:Container"
    properties: ClassVar[Mapping[str, Property]] = {
        "name": Property(replaces=True, autoname=True),
        "image": Property(required=True, replaces=True),
        # What is changed in place.
        "restart": Property(default="no"),
        "maxRetryCount": _IN_PLACE,
        "memory": _IN_PLACE,
        "memorySwap": _IN_PLACE,
        "memoryReservation": _IN_PLACE,
        "cpuShares": _IN_PLACE,
        "cpuSet": _IN_PLACE,
        "mustRun": Property(default=True),
        "start": Property(default=True),
        # What only says how this provider works with it.
        "attach": Property(default=False),
        "logs": Property(default=False),
        "wait": Property(default=False),
        "waitTimeout": Property(default=60),
        "destroyGraceSeconds": _IN_PLACE,
        "removeVolumes": Property(default=True),
        "containerReadRefreshTimeoutMilliseconds": Property(default=15000),
        # What it is.
        "rm": Property(replaces=True, default=False),
        "readOnly": Property(replaces=True, default=False),
        "stdinOpen": Property(replaces=True, default=False),
        "tty": Property(replaces=True, default=False),
        "capabilities": _REPLACING,
        "cgroupParent": _REPLACING,
        "cgroupnsMode": _REPLACING,
        "command": _REPLACING,
        "cpuPeriod": _REPLACING,
        "cpuQuota": _REPLACING,
        "cpus": _REPLACING,
        "deviceCgroupRules": _UNORDERED,
        "deviceReadBps": _UNORDERED,
        "deviceReadIops": _UNORDERED,
        "deviceRequests": _REPLACING,
        "deviceWriteBps": _UNORDERED,
        "deviceWriteIops": _UNORDERED,
        "devices": _UNORDERED,
        "dns": _REPLACING,
        "dnsOpts": _REPLACING,
        "dnsSearches": _REPLACING,
        "domainname": _REPLACING,
        "entrypoints": _REPLACING,
        "envs": _UNORDERED,
        "gpus": _REPLACING,
        "groupAdds": _UNORDERED,
        "healthcheck": _REPLACING,
        "hostname": _REPLACING,
        "hosts": _UNORDERED,
        "init": _REPLACING,
        "ipcMode": _REPLACING,
        "labels": _UNORDERED,
        "logDriver": _REPLACING,
        "logOpts": _REPLACING,
        "mounts": _UNORDERED,
        "networkMode": _REPLACING,
        "networksAdvanced": _UNORDERED,
        "pidMode": _REPLACING,
        "platform": _REPLACING,
        "ports": _UNORDERED,
        "privileged": _REPLACING,
        "publishAllPorts": _REPLACING,
        "runtime": _REPLACING,
        "securityOpts": _UNORDERED,
        "shmSize": _REPLACING,
        "stopSignal": _REPLACING,
        "stopTimeout": _REPLACING,
        "storageOpts": _REPLACING,
        "sysctls": _REPLACING,
        "tmpfs": _REPLACING,
        "ulimits": _UNORDERED,
        "uploads": _UNORDERED,
        "user": _REPLACING,
        "usernsMode": _REPLACING,
        "volumes": _UNORDERED,
        "workingDir": _REPLACING,
    }
    delete_before_replace: ClassVar[bool] = True

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse what the daemon would refuse, or take for something else."""
        wrong: dict[str, str] = {}
        if inputs.get("restart", "no") not in {"no", "always", "unless-stopped", "on-failure"}:
            wrong["restart"] = "must be no, always, unless-stopped or on-failure"
        for name, convert in (
            ("cpus", float),
            ("healthcheck", _durations),
            ("deviceReadBps", _rates),
            ("deviceWriteBps", _rates),
        ):
            with contextlib.suppress(KeyError):
                try:
                    convert(inputs[name])
                except (TypeError, ValueError) as error:
                    wrong[name] = str(error)
        for item in inputs.get("uploads") or ():
            reason = problem(item)
            if reason:
                wrong["uploads"] = reason
        return wrong

    def replaced_by(self, name: str, old: Any, new: Any) -> bool:
        """Tell the same as the properties, and that a limit cannot be lifted from a container that exists."""
        limits = {"memory", "memorySwap", "memoryReservation", "cpuShares", "cpuSet"}
        return self.properties[name].replaces or (name in limits and new is None)

    def create(self, client: DockerClient, inputs: Properties) -> Created:
        """Create the container, fill in its files, start it and wait for what ``wait``, ``attach`` and ``mustRun`` say.

        One that never ran is removed again when something fails; one that ran and failed stays, to be looked at.
        """
        name = inputs["name"]
        ensure_image(client, inputs["image"], inputs.get("platform"))
        with errors(f"cannot create container {name}"):
            identifier: str = client.api.create_container_from_config(
                container_config(inputs), name, inputs.get("platform")
            )["Id"]
        try:
            with errors(f"cannot create container {name}"):
                for network in (inputs.get("networksAdvanced") or [])[1:]:
                    client.api.connect_container_to_network(
                        identifier,
                        network["name"],
                        aliases=network.get("aliases"),
                        ipv4_address=network.get("ipv4Address"),
                        ipv6_address=network.get("ipv6Address"),
                        link_local_ips=network.get("linkLocalIps"),
                        driver_opt=network.get("driverOpts"),
                        mac_address=network.get("macAddress"),
                    )
            mounts = [str(item["containerPath"]) for item in inputs.get("volumes") or () if item.get("containerPath")]
            mounts += [str(item["target"]) for item in inputs.get("mounts") or ()]
            upload(client, identifier, inputs.get("uploads") or (), mounts)
            if inputs["wait"] and not _inspect(client, identifier)["Config"].get("Healthcheck", {}).get("Test"):
                raise ProviderError(f"container {name} has no health check to wait for")
            if inputs["start"]:
                with errors(f"cannot start container {name}"):
                    client.api.start(identifier)
        except BaseException:
            with contextlib.suppress(docker.errors.DockerException):
                client.api.remove_container(identifier, v=True, force=True)
            raise
        return Created(identifier=identifier, outputs=self._settle(client, identifier, inputs))

    def read(self, client: DockerClient, identifier: str, outputs: Properties) -> Properties | None:
        """Return what can change on a container that exists; everything, for an import."""
        try:
            found = _inspect(client, identifier)
        except LookupError:
            # A job that was to be removed at its end is not gone: it is done.
            return {} if outputs.get("rm") and outputs.get("attach") else None
        if not outputs:
            return _imported(found)
        host, running = found["HostConfig"], bool(found["State"]["Running"])
        changes: dict[str, Any] = {"name": found["Name"].removeprefix("/"), "networkDatas": _network_datas(found)}
        if outputs.get("mustRun") is not False and outputs.get("start") is not False:
            changes["mustRun"] = running or bool(found["State"].get("Restarting"))
        elif not running:
            changes["exitCode"] = found["State"]["ExitCode"]
        if host["RestartPolicy"] != restart_policy(outputs):
            changes["restart"] = host["RestartPolicy"]["Name"] or "no"
            changes["maxRetryCount"] = host["RestartPolicy"]["MaximumRetryCount"] or None
        for name, key, unit in (
            ("memory", "Memory", MEBIBYTE),
            ("memoryReservation", "MemoryReservation", MEBIBYTE),
            ("cpuShares", "CpuShares", 1),
        ):
            changes[name] = host[key] // unit or outputs.get(name) or None
            if not host[key] and outputs.get(name):
                changes[name] = None
        for name, key in (("cpuSet", "CpusetCpus"), ("cpuPeriod", "CpuPeriod"), ("cpuQuota", "CpuQuota")):
            changes[name] = host[key] or None
        # Without a value of its own, Docker allows as much swap again as memory.
        if outputs.get("memorySwap") or host["MemorySwap"] not in {0, -1, 2 * host["Memory"]}:
            changes["memorySwap"] = host["MemorySwap"] // MEBIBYTE if host["MemorySwap"] > 0 else host["MemorySwap"]
        if outputs.get("networksAdvanced"):
            changes["networksAdvanced"] = _networks(found, outputs["networksAdvanced"])
        return changes

    def update(self, client: DockerClient, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Change limits and the restart policy, and start a container that must run but does not."""
        found = _inspect(client, identifier)
        host = found["HostConfig"]
        wanted = container_config(inputs)["HostConfig"]
        arguments = {
            "Memory": "mem_limit",
            "MemorySwap": "memswap_limit",
            "MemoryReservation": "mem_reservation",
            "CpuShares": "cpu_shares",
            "CpusetCpus": "cpuset_cpus",
            "RestartPolicy": "restart_policy",
        }
        changes = {key: wanted[key] for key in arguments if key in wanted and wanted[key] != host.get(key)}
        if "Memory" in changes and "MemorySwap" not in changes:
            # The daemon checks one against the other, so it must be told both.
            changes["MemorySwap"] = wanted.get("MemorySwap", 2 * wanted["Memory"])
        if changes:
            with errors(f"cannot update container {inputs['name']}"):
                client.api.update_container(identifier, **{arguments[key]: value for key, value in changes.items()})
        if inputs["mustRun"] and inputs["start"] and not found["State"]["Running"]:
            with errors(f"cannot start container {inputs['name']}"):
                client.api.start(identifier)
            kept = {"containerLogs": outputs.get("containerLogs")}
            return kept | self._settle(client, identifier, inputs)
        return _computed(_inspect(client, identifier), inputs) | {"containerLogs": outputs.get("containerLogs")}

    def delete(self, client: DockerClient, identifier: str, outputs: Properties) -> None:
        """Stop the container, with ten seconds to do so unless ``destroyGraceSeconds`` says otherwise, and remove it."""
        grace = outputs.get("destroyGraceSeconds")
        with errors(f"cannot delete container {outputs.get('name', identifier)}"):
            try:
                client.api.stop(identifier, timeout=_GRACE_SECONDS if grace is None else int(grace))
                client.api.remove_container(identifier, v=outputs.get("removeVolumes") is not False, force=True)
            except docker.errors.NotFound:
                return

    def _settle(self, client: DockerClient, identifier: str, inputs: Properties) -> dict[str, Any]:
        """Return the outputs once the container is what was asked for.

        Raises:
            PartialFailureError: it is not, and will not be.
        """
        name, logs = inputs["name"], None
        found = _inspect(client, identifier)
        try:
            if inputs["start"] and inputs["attach"]:
                found = _wait_for_end(client, identifier)
                logs = _logs(client, identifier) if inputs["logs"] else None
                if inputs["mustRun"] or found["State"]["ExitCode"] != 0:
                    raise ProviderError(f"container {name} exited with code {found['State']['ExitCode']}")
                if inputs["rm"]:
                    client.api.remove_container(identifier, v=True)
            elif inputs["start"] and inputs["wait"]:
                found = _wait_for_health(client, identifier, name, float(inputs["waitTimeout"]))
            elif inputs["start"] and inputs["mustRun"] and not _is_up(found):
                raise ProviderError(f"container {name} exited with code {found['State']['ExitCode']}")
        except ProviderError as error:
            outputs = _computed(found, inputs) | {"containerLogs": logs}
            tail = _logs(client, identifier, lines=_LOG_LINES).rstrip()
            reason = f"{error}; its last lines:\n{tail}" if tail else f"{error}; it printed nothing"
            raise PartialFailureError(reason, identifier=identifier, outputs=outputs) from error
        return _computed(found, inputs) | {"containerLogs": logs}


def _durations(check: Mapping[str, Any]) -> None:
    for name in ("interval", "timeout", "startPeriod", "startInterval"):
        nanoseconds(check.get(name))


def _rates(rates: list[Mapping[str, Any]]) -> None:
    for item in rates:
        size(item["rate"])


def _inspect(client: DockerClient, identifier: str) -> dict[str, Any]:
    """Return what the daemon says about the container.

    Raises:
        LookupError: it is gone.
    """
    with errors(f"cannot read container {identifier[:12]}"):
        try:
            return cast("dict[str, Any]", client.api.inspect_container(identifier))
        except docker.errors.NotFound as error:
            raise LookupError(identifier) from error


def _logs(client: DockerClient, identifier: str, *, lines: int | Literal["all"] = "all") -> str:
    try:
        logs = client.api.logs(identifier, tail=lines)
    except docker.errors.DockerException:
        return ""
    return logs.decode(errors="replace")


def _is_up(found: Mapping[str, Any]) -> bool:
    return bool(found["State"]["Running"] or found["State"].get("Restarting"))


def _wait_for_end(client: DockerClient, identifier: str) -> dict[str, Any]:
    """Return what the daemon says once the container has ended; what it says meanwhile is shown as its progress."""
    seconds, shown = _FIRST_POLL_SECONDS / 4, ""
    while True:
        found = _inspect(client, identifier)
        if not _is_up(found):
            return found
        pause(seconds)
        if seconds == _LAST_POLL_SECONDS and (line := _logs(client, identifier, lines=1).strip()) != shown:
            report(line)
            shown = line
        seconds = min(seconds * 1.5, _LAST_POLL_SECONDS)


def _wait_for_health(client: DockerClient, identifier: str, name: str, timeout_seconds: float) -> dict[str, Any]:
    """Return what the daemon says once the container is healthy; a failure says what its last check printed."""
    end, seconds = time.monotonic() + timeout_seconds, _FIRST_POLL_SECONDS
    found = _inspect(client, identifier)
    schedule = health_checks.Schedule(found)
    while True:
        health = found["State"].get("Health") or {}
        if found["State"]["Running"] and (
            health.get("Status") == "healthy" or (schedule.due() and health_checks.passes(client, found))
        ):
            return found
        problem = None
        if not _is_up(found):
            problem = f"exited with code {found['State']['ExitCode']} before it was healthy"
        elif found.get("RestartCount", 0) >= _MAX_RESTARTS:
            problem = f"was restarted {found['RestartCount']} times and is not healthy"
        elif health.get("Status") == "unhealthy":
            problem = "is unhealthy"
        elif time.monotonic() > end:
            problem = f"is not healthy after {timeout_seconds:g} s"
        if problem:
            checks = health.get("Log") or [{}]
            output = str(checks[-1].get("Output") or "").strip()
            raise ProviderError(f"container {name} {problem}" + (f"; its last check said: {output}" if output else ""))
        pause(seconds)
        seconds = min(seconds * 1.25, _LAST_POLL_SECONDS)
        found = _inspect(client, identifier)


def _computed(found: Mapping[str, Any], inputs: Properties) -> dict[str, Any]:
    """Return the outputs that Docker makes, and what it chose where the program left the choice to it."""
    config, host = found["Config"], found["HostConfig"]
    chosen = {
        "command": config.get("Cmd"),
        "entrypoints": config.get("Entrypoint"),
        "hostname": config.get("Hostname"),
        "ipcMode": host.get("IpcMode"),
        "logDriver": (host.get("LogConfig") or {}).get("Type"),
        "runtime": host.get("Runtime"),
        "shmSize": (host.get("ShmSize") or 0) // MEBIBYTE or None,
        "stopSignal": config.get("StopSignal"),
        "stopTimeout": config.get("StopTimeout"),
    }
    outputs = {name: value for name, value in chosen.items() if inputs.get(name) is None}
    published = found["NetworkSettings"].get("Ports") or {}
    ports = [
        {"ip": "0.0.0.0", "protocol": "tcp", **port} | {"external": port.get("external") or _external(port, published)}
        for port in inputs.get("ports") or ()
    ]
    if ports:
        outputs["ports"] = ports
    return outputs | {
        "bridge": found["NetworkSettings"].get("Bridge") or "",
        "networkDatas": _network_datas(found),
        "exitCode": None if _is_up(found) or found["State"]["Status"] == "created" else found["State"]["ExitCode"],
    }


def _external(port: Mapping[str, Any], published: Mapping[str, Any]) -> int | None:
    bindings = published.get(f"{port['internal']}/{port.get('protocol') or 'tcp'}") or [{}]
    return int(bindings[0].get("HostPort") or 0) or None


def _network_datas(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "networkName": name,
            "ipAddress": network["IPAddress"],
            "ipPrefixLength": network["IPPrefixLen"],
            "gateway": network["Gateway"],
            "macAddress": network["MacAddress"],
            "globalIpv6Address": network["GlobalIPv6Address"],
            "globalIpv6PrefixLength": network["GlobalIPv6PrefixLen"],
            "ipv6Gateway": network["IPv6Gateway"],
        }
        for name, network in sorted((found["NetworkSettings"].get("Networks") or {}).items())
    ]


def _networks(found: Mapping[str, Any], given: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the networks that the container hangs on: those given as they were, others by name."""
    attached: dict[str, Any] = found["NetworkSettings"].get("Networks") or {}
    left = {name: {name, network.get("NetworkID")} for name, network in attached.items()}
    kept: list[Mapping[str, Any]] = []
    for item in given:
        match = next((name for name, names in left.items() if item["name"] in names), None)
        if match is not None:
            kept.append(item)
            del left[match]
    return kept + [{"name": name} for name in left]


def _imported(found: Mapping[str, Any]) -> dict[str, Any]:
    config, host = found["Config"], found["HostConfig"]
    inputs = {
        "name": found["Name"].removeprefix("/"),
        "image": config["Image"],
        "envs": config.get("Env") or None,
        "labels": label_list(config.get("Labels")) or None,
        "restart": host["RestartPolicy"]["Name"] or "no",
        "memory": host["Memory"] // MEBIBYTE or None,
        "user": config.get("User") or None,
        "workingDir": config.get("WorkingDir") or None,
    }
    return inputs | _computed(found, {})
