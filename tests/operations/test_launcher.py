"""The launcher: makes the environment once, for the lock file it has, whatever interrupts it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a project of only the launcher, a tiny lock file and a program that prints what it is given."""
    root = tmp_path / "a project"
    (root / "operations").mkdir(parents=True)
    shutil.copy(ROOT / "aikit", root)
    (root / "operations" / "__init__.py").touch()
    (root / "operations" / "__main__.py").write_text(
        "import importlib.metadata, os, sys\n"
        "print(os.getcwd(), sys.argv[1:], sorted(d.name for d in importlib.metadata.distributions()))\n"
    )
    write_lock(root, "requirements.lock", "uv", "idna")
    write_lock(root, "requirements-test.lock", "iniconfig")
    return root


def write_lock(root: Path, name: str, *packages: str) -> None:
    """Take the pins of some packages from this project's own lock files."""
    lines = [
        *(ROOT / "requirements.lock").read_text().splitlines(),
        *(ROOT / "requirements-test.lock").read_text().splitlines(),
    ]
    chosen: dict[str, list[str]] = {}
    package = ""
    for line in lines:
        if line[:1] not in ("", " ", "#"):
            package = line.partition("==")[0]
            chosen.setdefault(package, [])
        if package in packages and (not chosen[package] or line.startswith(" ")) and line not in chosen[package]:
            chosen[package].append(line)
    (root / name).write_text("\n".join(line for package in packages for line in chosen[package]) + "\n")


def run(root: Path, *arguments: str, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    # With this project's own uv at hand, most tests need not install one.
    environment = {**os.environ, "PATH": path or f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        [root / "aikit", *arguments],
        cwd=root.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_makes_the_environment_once_and_again_for_another_lock_file(copy: Path) -> None:
    first = run(copy, "up", "--json", path=without_uv())
    assert first.returncode == 0, first.stderr
    assert "making the Python environment" in first.stderr
    assert first.stdout.strip() == f"{copy.parent} ['up', '--json'] ['idna', 'uv']", (
        "the caller's folder and arguments are kept"
    )

    assert run(copy).stderr == ""
    tests = run(copy, "test")
    assert "'iniconfig'" in tests.stdout
    assert run(copy).stderr == "", "an environment with more than is needed is not made anew"

    write_lock(copy, "requirements.lock", "uv", "idna", "certifi")
    changed = run(copy)
    assert "installing the packages" in changed.stderr
    assert "making" not in changed.stderr
    assert "'certifi'" in changed.stdout


def test_killed_installation_counts_as_none(copy: Path) -> None:
    victim = subprocess.Popen(
        [copy / "aikit"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (copy / ".venv" / "bin" / "python").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert not (copy / ".venv" / "aikit").exists()
    after = run(copy)
    assert after.returncode == 0, after.stderr
    assert "['idna', 'uv']" in after.stdout


def test_two_at_once_make_one_environment(copy: Path) -> None:
    environment = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
    both = [
        subprocess.Popen([copy / "aikit"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert all("['idna', 'uv']" in out for out, _ in said)
    assert sum("installing the packages" in err for _, err in said) == 1


def test_wrong_hash_is_refused(copy: Path) -> None:
    lock = copy / "requirements.lock"
    text = lock.read_text()
    start = text.index("idna")
    lock.write_text(text[:start] + "idna==3.10 --hash=sha256:" + "0" * 64 + "\n")
    done = run(copy)
    assert done.returncode == 1
    assert "could not be installed" in done.stderr
    assert not (copy / ".venv" / "aikit").exists()


def without_uv() -> str:
    """Return the PATH of a fresh machine, where uv has to be installed first."""
    return ":".join(folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "uv").exists())


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def test_old_python_is_named_with_the_cure(copy: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    for name in ("bash", "cat", "cmp", "flock"):
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(str(shutil.which(name)))
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        fake(tools, name, 'case "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac')
    # The fallback by its full path is this machine's own, which may be new enough.
    launcher = copy / "aikit"
    launcher.write_text(launcher.read_text().replace(" /usr/bin/python3;", ";"))
    done = run(copy, path=str(tools))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "aikit: Python 3.11, 3.12 or 3.13 is needed and Python 3.9.2 was found: "
        "install it (Debian 12 and later: apt-get install python3)."
    )


def test_python_without_pip_and_ensurepip_is_named_with_the_cure(copy: Path, tmp_path: Path) -> None:
    """Debian's python3 without python3-venv, seen by a user who may not install it."""
    launcher = copy / "aikit"
    text = launcher.read_text()
    # A Python that claims to have neither module.
    fake(
        tmp_path / "tools",
        "python3",
        f'if [[ "$1 $2" == "-m pip" ]]; then exit 1; fi\nexec {sys.executable} "$@"',
    )
    launcher.write_text(
        text.replace('"$python" -m ensurepip >/dev/null 2>&1', "false").replace("$EUID = 0", "$EUID = none")
    )
    done = run(copy, path=f"{tmp_path / 'tools'}:{without_uv()}")
    assert done.returncode == 1
    assert "has neither pip nor ensurepip: install them (Debian: apt-get install python3-venv)" in done.stderr


def test_adds_little_to_the_start(copy: Path) -> None:
    run(copy)
    python = copy / ".venv" / "bin" / "python"

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def quickest(*command: str | Path) -> float:
        # Processor time, because this machine may have other work.
        times: list[float] = []
        for _ in range(10):
            before = used()
            subprocess.run(command, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, check=True)
            times.append(used() - before)
        return min(times)

    assert quickest(copy / "aikit") - quickest(python, "-P", "-m", "operations") < 0.03


def test_lock_files_are_complete() -> None:
    for name in ("requirements", "requirements-test"):
        lock = (ROOT / f"{name}.lock").read_text()
        assert "--index-url" not in lock
        assert "http://" not in lock
        assert "https://" not in lock
        pins = [line for line in lock.splitlines() if line[:1] not in ("", " ", "#")]
        assert all("==" in pin and pin.endswith("\\") for pin in pins), "every pin has hashes"
        wanted = [line.partition("==")[0].partition("[")[0] for line in (ROOT / f"{name}.in").read_text().splitlines()]
        missing = [
            each
            for each in wanted
            if each and each[0] not in "#-" and not any(pin.startswith(f"{each}==") for pin in pins)
        ]
        assert not missing, "changed after the lock was written"
