"""A container's properties as the Docker API wants them."""

# ruff: noqa: S104 - every address is the default of a port
# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
from collections.abc import Mapping
from typing import Any

from providers.docker.api import labels
from providers.resource import Properties

MEBIBYTE = 1024 * 1024
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_BYTES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"(\d+)([bkmg]?)b?")


def nanoseconds(duration: str | None) -> int:
    """Return a duration in Go's form, such as ``1m30s``; none is 0, which stands for Docker's default.

    Raises:
        ValueError: it has another form.
    """
    text = duration or "0s"
    if text == "0":
        return 0
    if not _DURATION.sub("", text) == "":
        raise ValueError(f"{text!r} is no duration such as 1m30s")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in _DURATION.findall(text)))


def container_config(inputs: Properties) -> dict[str, Any]:
    """Return the body of the request that creates the container."""
    networks = inputs.get("networksAdvanced") or []
    first = networks[:1]
    config = {
        "Image": inputs["image"],
        "Cmd": inputs.get("command"),
        "Entrypoint": inputs.get("entrypoints"),
        "Env": inputs.get("envs"),
        "User": inputs.get("user"),
        "WorkingDir": inputs.get("workingDir"),
        "Hostname": inputs.get("hostname"),
        "Domainname": inputs.get("domainname"),
        "Labels": labels(inputs.get("labels")),
        "Healthcheck": _healthcheck(inputs.get("healthcheck")),
        "StopSignal": inputs.get("stopSignal"),
        "StopTimeout": inputs.get("stopTimeout"),
        "Tty": inputs.get("tty"),
        "OpenStdin": inputs.get("stdinOpen"),
        "ExposedPorts": {_port(port): {} for port in inputs.get("ports") or ()},
        "Volumes": {
            item["containerPath"]: {}
            for item in inputs.get("volumes") or ()
            if not item.get("fromContainer") and not _volume_source(item)
        },
        "HostConfig": _host_config(inputs),
        # The API takes one network here; the others are connected before the container starts.
        "NetworkingConfig": {"EndpointsConfig": {item["name"]: endpoint(item) for item in first}} if first else None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _host_config(inputs: Properties) -> dict[str, Any]:
    capabilities = inputs.get("capabilities") or {}
    networks = inputs.get("networksAdvanced") or []
    volumes = inputs.get("volumes") or []
    host = {
        "NetworkMode": inputs.get("networkMode") or (networks[0]["name"] if networks else None),
        "RestartPolicy": restart_policy(inputs),
        # A job's end is watched here, so the daemon must not take it away with its exit code and logs.
        "AutoRemove": inputs.get("rm") and not inputs.get("attach"),
        "Privileged": inputs.get("privileged"),
        "ReadonlyRootfs": inputs.get("readOnly"),
        "Init": inputs.get("init"),
        "SecurityOpt": inputs.get("securityOpts"),
        "CapAdd": capabilities.get("adds"),
        "CapDrop": capabilities.get("drops"),
        "Memory": _mebibytes(inputs.get("memory")),
        "MemorySwap": _mebibytes(inputs.get("memorySwap")),
        "MemoryReservation": _mebibytes(inputs.get("memoryReservation")),
        "NanoCpus": round(float(inputs["cpus"]) * 10**9) if inputs.get("cpus") else None,
        "CpuShares": inputs.get("cpuShares"),
        "CpusetCpus": inputs.get("cpuSet"),
        "CpuPeriod": inputs.get("cpuPeriod"),
        "CpuQuota": inputs.get("cpuQuota"),
        "ShmSize": _mebibytes(inputs.get("shmSize")),
        "Tmpfs": inputs.get("tmpfs"),
        "Mounts": [_mount(item) for item in inputs.get("mounts") or ()],
        "Binds": [_bind(item) for item in volumes if _volume_source(item)],
        "VolumesFrom": [
            f"{item['fromContainer']}:{'ro' if item.get('readOnly') else 'rw'}"
            for item in volumes
            if item.get("fromContainer")
        ],
        "PortBindings": _port_bindings(inputs.get("ports") or []),
        "PublishAllPorts": inputs.get("publishAllPorts"),
        "LogConfig": _log_config(inputs),
        "Devices": [
            {
                "PathOnHost": item["hostPath"],
                "PathInContainer": item.get("containerPath") or item["hostPath"],
                "CgroupPermissions": item.get("permissions") or "rwm",
            }
            for item in inputs.get("devices") or ()
        ],
        "DeviceRequests": _device_requests(inputs),
        "DeviceCgroupRules": inputs.get("deviceCgroupRules"),
        "BlkioDeviceReadBps": _rates(inputs.get("deviceReadBps")),
        "BlkioDeviceWriteBps": _rates(inputs.get("deviceWriteBps")),
        "BlkioDeviceReadIOps": _rates(inputs.get("deviceReadIops")),
        "BlkioDeviceWriteIOps": _rates(inputs.get("deviceWriteIops")),
        "GroupAdd": inputs.get("groupAdds"),
        "ExtraHosts": [f"{item['host']}:{item['ip']}" for item in inputs.get("hosts") or ()],
        "Dns": inputs.get("dns"),
        "DnsOptions": inputs.get("dnsOpts"),
        "DnsSearch": inputs.get("dnsSearches"),
        "Sysctls": inputs.get("sysctls"),
        "StorageOpt": inputs.get("storageOpts"),
        "Ulimits": [
            {"Name": item["name"], "Soft": item["soft"], "Hard": item["hard"]} for item in inputs.get("ulimits") or ()
        ],
        "PidMode": inputs.get("pidMode"),
        "IpcMode": inputs.get("ipcMode"),
        "UsernsMode": inputs.get("usernsMode"),
        "CgroupnsMode": inputs.get("cgroupnsMode"),
        "CgroupParent": inputs.get("cgroupParent"),
        "Runtime": inputs.get("runtime"),
    }
    return {name: value for name, value in host.items() if value is not None}


def restart_policy(inputs: Properties) -> dict[str, Any]:
    """Return the restart policy; the number of retries belongs to ``on-failure`` alone."""
    name = inputs.get("restart") or "no"
    retries = inputs.get("maxRetryCount") or 0
    return {"Name": name, "MaximumRetryCount": retries if name == "on-failure" else 0}


def endpoint(network: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a container hangs on a network."""
    return {
        "Aliases": network.get("aliases"),
        "DriverOpts": network.get("driverOpts"),
        "MacAddress": network.get("macAddress") or "",
        "IPAMConfig": {
            "IPv4Address": network.get("ipv4Address") or "",
            "IPv6Address": network.get("ipv6Address") or "",
            "LinkLocalIPs": network.get("linkLocalIps"),
        },
    }


def _mebibytes(value: int | None) -> int | None:
    # -1 means no limit.
    return value * MEBIBYTE if value and value > 0 else value


def _healthcheck(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not check:
        return None
    spec = {
        "Test": check.get("tests"),
        "Interval": nanoseconds(check.get("interval")),
        "Timeout": nanoseconds(check.get("timeout")),
        "StartPeriod": nanoseconds(check.get("startPeriod")),
        "Retries": check.get("retries") or 0,
    }
    # Daemons before API 1.44 do not know it, and refuse a check that has it.
    return spec | ({"StartInterval": nanoseconds(check["startInterval"])} if check.get("startInterval") else {})


def _port(port: Mapping[str, Any]) -> str:
    return f"{port['internal']}/{port.get('protocol') or 'tcp'}"


def _port_bindings(ports: list[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        binding = {"HostIp": port.get("ip") or "0.0.0.0", "HostPort": str(port.get("external") or "")}
        bindings.setdefault(_port(port), []).append(binding)
    return bindings


def _volume_source(volume: Mapping[str, Any]) -> str:
    return volume.get("volumeName") or volume.get("hostPath") or ""


def _bind(volume: Mapping[str, Any]) -> str:
    modes = [mode for mode in ("ro" if volume.get("readOnly") else "rw", volume.get("selinuxRelabel")) if mode]
    return f"{_volume_source(volume)}:{volume['containerPath']}:{','.join(modes)}"


def _mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    bind, volume, tmpfs = mount.get("bindOptions"), mount.get("volumeOptions"), mount.get("tmpfsOptions")
    spec = {
        "Type": mount["type"],
        "Source": mount.get("source") or "",
        "Target": mount["target"],
        "ReadOnly": mount.get("readOnly") or False,
    }
    if bind:
        spec["BindOptions"] = {"Propagation": bind.get("propagation") or ""}
    if volume:
        spec["VolumeOptions"] = {
            "NoCopy": volume.get("noCopy") or False,
            "Labels": labels(volume.get("labels")),
            "DriverConfig": {"Name": volume.get("driverName") or "", "Options": volume.get("driverOptions") or {}},
        }
        if volume.get("subpath"):
            spec["VolumeOptions"]["Subpath"] = volume["subpath"]
    if tmpfs:
        spec["TmpfsOptions"] = {"SizeBytes": tmpfs.get("sizeBytes") or 0, "Mode": tmpfs.get("mode") or 0}
    return spec


def _log_config(inputs: Properties) -> dict[str, Any] | None:
    if not inputs.get("logDriver") and not inputs.get("logOpts"):
        return None
    return {"Type": inputs.get("logDriver") or "", "Config": inputs.get("logOpts") or {}}


def _device_requests(inputs: Properties) -> list[dict[str, Any]]:
    requests = [
        {
            "Driver": item.get("driver") or "cdi",
            "Count": item.get("count") or 0,
            "DeviceIDs": item.get("deviceIds"),
            "Capabilities": [item["capabilities"]] if item.get("capabilities") else None,
            "Options": item.get("options"),
        }
        for item in inputs.get("deviceRequests") or ()
    ]
    gpus = inputs.get("gpus")
    if gpus:
        kind, _, devices = str(gpus).partition("=")
        chosen = (
            {"DeviceIDs": devices.strip('"').split(",")}
            if kind == "device"
            else {"Count": -1 if gpus == "all" else int(gpus)}
        )
        requests.append({"Driver": "", "Capabilities": [["gpu"]], **chosen})
    return requests


def _rates(rates: list[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    if rates is None:
        return None
    return [{"Path": item["path"], "Rate": size(item["rate"])} for item in rates]


def size(text: str | int) -> int:
    """Return a number of bytes or operations from a form such as ``10mb``.

    Raises:
        ValueError: it has another form.
    """
    match = _SIZE.fullmatch(str(text).lower())
    if match is None:
        raise ValueError(f"{text!r} is no size such as 10mb")
    return int(match[1]) * _BYTES[match[2]]
