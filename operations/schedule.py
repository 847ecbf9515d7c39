"""The timer that rotates due secrets: two units of systemd, written, started and removed again by one command each."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from operations.console import say
from operations.errors import Failure
from operations.lifecycle import Options
from operations.project import Project

RUNNING = Path("/run/systemd/system")
"""Folder that is there where systemd runs (sd_booted(3))."""

SYSTEM_UNITS = Path("/etc/systemd/system")

PASSED_ON = ("PATH", "XDG_CACHE_HOME", "AIKIT_HOME", "AIKIT_FILES", "PULUMI_BACKEND_URL", "DOCKER_HOST")
"""Variables of the person's shell that the timer's runs have, too. None is a secret: everybody can read a unit."""


def install(options: Options) -> None:
    """Let systemd rotate what is due every night: the machine's for root, else the person's own.

    Raises:
        Failure: systemd does not run, or refuses.
    """
    options.project.settings(options.stack)
    _need_systemd(options.stack)
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    timer = f"{name(options.stack)}.timer"
    for file, text in units(options.project, options.stack).items():
        try:
            (folder / file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failure(f"{folder / file} can't be written ({error.strerror}): run this command as root.") from error
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", timer)
    say(f"stack {options.stack}: secrets that are due are rotated every night ({folder / timer})")
    if os.geteuid():
        say("without anybody logged in, too, after: loginctl enable-linger")


def remove(options: Options) -> None:
    """Take the timer away.

    Raises:
        Failure: systemd does not run, or refuses.
    """
    folder = _folder()
    files = [folder / file for file in units(options.project, options.stack)]
    if not any(file.exists() for file in files):
        say(f"stack {options.stack}: there is no timer")
        return
    _need_systemd(options.stack)
    _systemctl("disable", "--now", f"{name(options.stack)}.timer")
    for file in files:
        file.unlink(missing_ok=True)
    _systemctl("daemon-reload")
    say(f"stack {options.stack}: the timer is removed")


def name(stack: str) -> str:
    """Return the name of a stack's units, without their kind."""
    return f"aikit-rotate-{stack}"


def units(project: Project, stack: str, environment: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the text of each unit by its file's name.

    Args:
        project: that the runs work on.
        stack: whose secrets are rotated.
        environment: of the person's shell.
    """
    variables = "".join(
        f"Environment={_quoted(f'{key}={environment[key]}')}\n" for key in PASSED_ON if environment.get(key)
    )
    # A service of the machine has no home otherwise.
    user = "" if os.geteuid() else "User=root\n"
    return {
        f"{name(stack)}.service": f"""\
# Written by `./aikit rotate --schedule --stack {stack}`.
[Unit]
Description=Give the secrets of AI Kit's stack {stack} that are due new values
Documentation=file://{_escaped(str(project.root / "docs" / "secrets.md")).replace(" ", "%%20")}
After=docker.service

[Service]
Type=oneshot
{user}WorkingDirectory={_escaped(str(project.root))}
{variables}ExecStart=/usr/bin/env ./aikit rotate --due --yes --stack {stack}
TimeoutStartSec=2h
# One signal is passed on to the engine, which ends in order.
KillMode=mixed
TimeoutStopSec=15min
""",
        f"{name(stack)}.timer": f"""\
# Written by `./aikit rotate --schedule --stack {stack}`.
[Unit]
Description=Every night: give the secrets of AI Kit's stack {stack} that are due new values

[Timer]
OnCalendar=*-*-* 03:00:00
RandomizedDelaySec=1h
# After a night without power, as soon as there is some.
Persistent=true

[Install]
WantedBy=timers.target
""",
    }


def _folder() -> Path:
    if not os.geteuid():
        return SYSTEM_UNITS
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _need_systemd(stack: str) -> None:
    if not RUNNING.is_dir():
        raise Failure(
            f"systemd does not run here: let cron or a pipeline call `./aikit rotate --due --yes --stack {stack}` every day "
            "(docs/secrets.md)."
        )


def _systemctl(*arguments: str) -> None:
    command: Sequence[str] = ["systemctl", *(["--user"] if os.geteuid() else []), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"systemctl can't be started: {error}.") from error
    if done.returncode:
        raise Failure(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}.")


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
