"""Which graphics card Docker can give to a container."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operations.containers import is_local
from settings import Accelerator, Ollama

AMD_DEVICE = Path("/dev/kfd")
"""The compute interface of AMD's driver."""


def find(info: Mapping[str, Any], amd_device: Path = AMD_DEVICE) -> tuple[Accelerator, str]:
    """Return the accelerator that ``auto`` means, and why.

    Args:
        info: what Docker says of itself.
        amd_device: on this machine; Docker itself does not tell of it.
    """
    if "nvidia" in (info.get("Runtimes") or {}):
        return Accelerator.NVIDIA, "Docker has the NVIDIA runtime"
    if any(str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in info.get("DiscoveredDevices") or ()):
        return Accelerator.NVIDIA, "Docker has found NVIDIA devices"
    if is_local() and amd_device.exists():
        return Accelerator.AMD, f"this machine has {amd_device}"
    return Accelerator.CPU, "Docker has no NVIDIA runtime" + (f", and there is no {amd_device}" if is_local() else "")


def count(accelerator: Accelerator, info: Mapping[str, Any], machine: Path = Path("/")) -> int | None:
    """Return how many graphics cards there are, at most; None if that can't be seen.

    Args:
        accelerator: their kind.
        info: what Docker says of itself.
        machine: root of this machine's files.
    """
    if accelerator is Accelerator.NVIDIA:
        found = [device.get("ID", "") for device in info.get("DiscoveredDevices") or ()]
        if numbered := [each for each in found if re.fullmatch(r"nvidia\.com/gpu=[0-9]+", each)]:
            return len(numbered)
    pattern = {Accelerator.NVIDIA: "proc/driver/nvidia/gpus/*", Accelerator.AMD: "dev/dri/renderD*"}.get(accelerator)
    return (len(list(machine.glob(pattern))) or None) if pattern and is_local() else None


def too_few(accelerator: Accelerator, chosen: Ollama, info: Mapping[str, Any], machine: Path = Path("/")) -> str | None:
    """Return why the servers of the models can't have the graphics cards of the settings; None if they can, or need none.

    Args:
        accelerator: what there is, not ``auto``.
        chosen: the settings.
        info: what Docker says of itself.
        machine: root of this machine's files.
    """
    there = count(accelerator, info, machine)
    if there is None:
        return None
    cards = f"there {'is' if there == 1 else 'are'} {there} graphics card{'' if there == 1 else 's'}"
    if chosen.replicas > there:
        return (
            f"aikit:ollama-replicas is {chosen.replicas}, but {cards}, and each server has one of its own:"
            f" set it to {there} at most, or aikit:accelerator to cpu."
        )
    if chosen.gpu_count > there:
        return (
            f"aikit:ollama-gpu-count is {chosen.gpu_count}, but {cards}: set it to {there} at most, or to -1 for all."
        )
    if missing := [each for each in chosen.gpu_device_ids if each.isdigit() and int(each) >= there]:
        return f"aikit:ollama-gpu-device-ids names {', '.join(missing)}, but {cards}, numbered from 0."
    return None


def problem(wanted: Accelerator, info: Mapping[str, Any], amd_device: Path = AMD_DEVICE) -> str | None:
    """Return why the accelerator that the settings ask for can't be had; None if it can.

    Args:
        wanted: of the settings.
        info: what Docker says of itself.
        amd_device: on this machine; that of another one can't be seen, so it counts as there.
    """
    found, reason = find(info, amd_device)
    if wanted in {Accelerator.AUTO, Accelerator.CPU, found}:
        return None
    if wanted is Accelerator.AMD:
        if not is_local() or amd_device.exists():
            return None
        cure = "install AMD's driver (amdgpu-dkms)"
    else:
        cure = "install the NVIDIA Container Toolkit and run `nvidia-ctk runtime configure`"
    return f"aikit:accelerator is {wanted}, but {reason}: {cure}, or set it to cpu or auto."
