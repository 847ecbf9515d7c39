"""The whole repository is in the project's style and fully typed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def clean(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def test_no_lint() -> None:
    clean("ruff", "check", "--quiet", "--output-format=concise")


def test_formatted() -> None:
    clean("ruff", "format", "--check", "--quiet", "--diff")


def test_typed() -> None:
    # Named, because pyright would rather take a configuration of a folder above this one.
    clean("pyright", "--project", "pyproject.toml")
