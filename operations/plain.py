"""The program as plain ``pulumi up`` runs it: with the engine and the plugins that are there, and the official images."""

import pulumi

from components.images import Machine
from operations.accelerator import find, problem
from operations.errors import Failure
from settings import Accelerator, Settings, SettingsError


def machine(settings: Settings) -> Machine:
    """Return what this machine has, and say it.

    Raises:
        SettingsError: the settings ask for what only ``./aikit up`` can make, or for a graphics card that is not there.
    """
    chosen = settings.toolchain
    made = {"toolchain-images": chosen.images == "built", "toolchain-models": chosen.models == "package"}
    problems = [
        f"aikit:{setting} is {getattr(chosen, setting.removeprefix('toolchain-'))!r}, which ./aikit up makes before it runs the"
        " program; plain pulumi can have official images and Ollama's library only."
        for setting, asked in made.items()
        if asked
    ]
    if problems:
        raise SettingsError(tuple(problems))
    accelerator, reason = _accelerator(settings)
    pulumi.log.info("images: official (plain pulumi builds none)")
    pulumi.log.info(f"accelerator: {accelerator} ({reason})")
    return Machine(accelerator=accelerator)


def _accelerator(settings: Settings) -> tuple[Accelerator, str]:
    from operations.containers import connect

    if settings.accelerator is Accelerator.CPU:
        return Accelerator.CPU, "aikit:accelerator says so"
    try:
        client = connect()
    except Failure:
        # A preview needs no Docker, and plugins may reach another one.
        if settings.accelerator is Accelerator.AUTO:
            return Accelerator.CPU, "Docker cannot be asked for another one"
        return settings.accelerator, "aikit:accelerator says so, and Docker cannot be asked"
    try:
        info = client.info()
    finally:
        client.close()
    if wrong := problem(settings.accelerator, info):
        raise SettingsError((wrong,))
    return find(info)
