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


def run(project: Project, arguments: Sequence[str], *, agreed: bool) -> Exit:
    """Run pytest; without a path among ``arguments``, on every folder in order.

    Raises:
        Failure: what the tests need can't be had.
    """
    ensure_docker(agreed=agreed)
    _need_chromium(agreed=agreed)
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


def _need_chromium(*, agreed: bool) -> None:
    """Install Debian's chromium where it is missing: the end-to-end tests sign in with a real browser."""
    if shutil.which("chromium"):
        return
    cure = "install it (Debian: apt-get install chromium) and run this command again."
    if os.geteuid() or not shutil.which("apt-get"):
        raise Failure(f"The tests need the browser chromium: {cure}")
    if not confirm("The tests need the browser chromium. Install Debian's?", agreed=agreed):
        raise Failure(f"The tests need the browser chromium: {cure}")
    say("installing Debian's chromium ...")
    with tools():
        install_packages(
            ("chromium", "libatomic1"), purpose="install the browser chromium (do it yourself, then try again)"
        )
