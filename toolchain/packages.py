"""Installing packages of the distribution."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from toolchain.processes import exclusive, run

PATIENCE_SECONDS = 600
"""How long apt waits for another program that installs something, such as the machine's own daily upgrades."""


def install_packages(names: Sequence[str], *, purpose: str, recommended: bool = False) -> None:
    """Install Debian packages, with or without what they only recommend; one call at a time, whoever else calls it.

    `purpose` completes the sentence "Can't ...".

    Raises:
        ToolchainError: apt failed; the message carries its last lines.
    """
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with exclusive(Path(tempfile.gettempdir()) / f"aikit-packages-{os.getuid()}.lock"):
        run(["apt-get", "update", "-q"], purpose=purpose, environment=environment)
        run(
            [
                *("apt-get", "install", "-q", "-y", "-o", f"DPkg::Lock::Timeout={PATIENCE_SECONDS}"),
                *(() if recommended else ("--no-install-recommends",)),
                *names,
            ],
            purpose=purpose,
            environment=environment,
        )
