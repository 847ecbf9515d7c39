"""What every Containerfile keeps to."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
FILES = sorted(SERVICES.glob("*/Containerfile"))
PUBLIC_HOSTS = {"repo1.maven.org", "registry.npmjs.org"}

# DL3006: FROM has a variable. DL3008: Debian's packages come from the release. DL3002: like the official image.
# DL3015: the base image's apt is configured so. DL4006: the pipes are of literals.
IGNORED = ("DL3002", "DL3006", "DL3008", "DL3015", "DL4006")


def instructions(file: Path) -> list[str]:
    """Return the instructions with their continuation lines joined and comments removed."""
    text = re.sub(r"(?m)^\s*#.*\n", "", file.read_text())
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def name(file: Path) -> str:
    return file.parent.name


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=name)
def test_stands_on_the_base_only(file: Path) -> None:
    lines = instructions(file)
    assert lines[0] == "ARG BASE"
    stages: set[str] = {"${BASE}"}
    for line in lines:
        if line.startswith("FROM "):
            words = line.split()
            assert words[1] in stages, f"{words[1]} is neither the base nor an earlier stage"
            if len(words) == 4:
                stages.add(words[3])
    assert "FROM ${BASE}" in " ".join(lines)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_every_layer_is_clean(file: Path) -> None:
    for line in instructions(file):
        if "apt-get install" in line:
            assert "apt-get update" in line, "an index from another layer may be stale"
            assert "rm -rf /var/lib/apt/lists/*" in line


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_floats(file: Path) -> None:
    text = "\n".join(instructions(file))
    assert not re.search(r"\blatest\b", text)
    for requirement in re.findall(r"(?:pip|npm) install ((?:(?!&&).)*)", text):
        assert "==" in requirement or "@" in requirement or "--require-hashes" in requirement or " ci" in requirement
    if "curl" in text:
        assert "sha256sum --check" in text


@pytest.mark.parametrize("file", FILES, ids=name)
def test_classic_builder_can_build_it(file: Path) -> None:
    text = "\n".join(instructions(file))
    assert "--mount" not in text
    assert "<<" not in text
    assert not re.search(r"(?m)^(COPY|ADD) .*--(chmod|link)", text)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_names_public_hosts_only(file: Path) -> None:
    for beside in file.parent.rglob("*"):
        if beside.is_file() and beside.stat().st_size < 1_000_000:
            # Downloads only: documentation may be named in comments.
            for host in re.findall(r"(?m)^(?!\s*(?:#|//)).*?https?://([\w.-]+)", beside.read_text(errors="replace")):
                if beside == file:
                    assert host in PUBLIC_HOSTS


@pytest.mark.parametrize("file", FILES, ids=name)
def test_copied_programs_are_executable(file: Path) -> None:
    for script in file.parent.glob("*.sh"):
        assert script.stat().st_mode & 0o111 == 0o111, f"{script.name} would not start"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_hadolint(file: Path) -> None:
    beside_python = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside_python) if beside_python.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    ignored = [f"--ignore={rule}" for rule in IGNORED]
    done = subprocess.run([hadolint, "--no-color", *ignored, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
