"""Runs the tests, with what they need from the distribution."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from operations.console import confirm, say
from operations.errors import Exit, Failure, tools
from operations.lifecycle import ensure_docker
from operations.project import Project
from toolchain.packages import install_packages

FOLDERS = ("lint", "unit", "policies", "operations", "e2e", "providers", "toolchain", "services")
"""The folders of tests, the quickest first, so that a mistake shows early; the last ones use the images that e2e builds."""

PROGRAMS = {
    # The end-to-end tests sign in with a real browser.
    "chromium": ("chromium", "libatomic1"),
    # The tests of the providers make an image of it, as a registry need not answer; it has to be the static one.
    "busybox": ("busybox-static",),
}
"""What the tests need from the distribution: its packages by program."""


def run(project: Project, arguments: Sequence[str], *, agreed: bool) -> Exit:
    """Run pytest; without a path among ``arguments``, on every folder in order.

    Raises:
        Failure: what the tests need can't be had.
    """
    ensure_docker(agreed=agreed)
    _need_programs(agreed=agreed)
    paths = (
        []
        if any(
            (project.root / argument.split("::")[0]).exists() for argument in arguments if not argument.startswith("-")
        )
        else [str(folder) for name in FOLDERS if (folder := project.root / "tests" / name).is_dir()]
    )
    environment = {**os.environ, "PYTHONPATH": str(project.root)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *paths, *arguments], cwd=project.root, env=environment, check=False
    )
    # 5: pytest found no test, which is a failure of whoever named them.
    return Exit.OK if done.returncode == 0 else Exit.FAILED


def _need_programs(*, agreed: bool) -> None:
    """Install what is missing of ``PROGRAMS``."""
    missing = {name: packages for name, packages in PROGRAMS.items() if not shutil.which(name)}
    if not missing:
        return
    names = " and ".join(missing)
    packages = [package for each in missing.values() for package in each]
    cure = f"install what is missing (Debian: apt-get install {' '.join(packages)}) and run this command again."
    if os.geteuid() or not shutil.which("apt-get"):
        raise Failure(f"The tests need {names}: {cure}")
    if not confirm(f"The tests need {names}. Install Debian's?", agreed=agreed):
        raise Failure(f"The tests need {names}: {cure}")
    say(f"installing Debian's {names} ...")
    with tools():
        install_packages(packages, purpose=f"install {names} (do it yourself, then try again)")
