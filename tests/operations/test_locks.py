"""The right to change a stack, and the locks that a killed engine leaves."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.errors import Failure
from operations.locks import RunLock, check_engine_locks


@pytest.fixture
def engine(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is called as the engine is."""
    program = tmp_path / "pulumi"
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def lock(tmp_path: Path, engine: "subprocess.Popen[bytes]") -> Path:
    """The lock that the engine would hold."""
    path = tmp_path / "locks" / "one.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"pid": engine.pid, "hostname": os.uname().nodename}))
    return path


def test_a_living_engine_is_not_disturbed(engine: "subprocess.Popen[bytes]", lock: Path) -> None:
    with pytest.raises(Failure, match=f"process {engine.pid}"):
        check_engine_locks(lock.parent, clear=True)
    assert lock.exists()


def test_the_lock_of_an_engine_that_nobody_reaped_is_cleared(engine: "subprocess.Popen[bytes]", lock: Path) -> None:
    """In a container whose first process is no init, orphans stay as zombies after they were killed."""
    engine.kill()
    os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)
    check_engine_locks(lock.parent, clear=True)
    assert not lock.exists()


def test_a_lock_of_another_machine_is_named(lock: Path) -> None:
    lock.write_text(json.dumps({"pid": 1, "hostname": "elsewhere"}))
    with pytest.raises(Failure, match="on elsewhere: wait until it has ended, or remove"):
        check_engine_locks(lock.parent, clear=True)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path / "dev.run", "up"),
        pytest.raises(Failure, match=r"Stack dev is being changed by another \./aikit up"),
        RunLock(tmp_path / "dev.run", "destroy"),
    ):
        pass
