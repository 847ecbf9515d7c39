"""Installing packages of the distribution."""

import threading
import time

import pytest

from toolchain import packages


def test_two_threads_install_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base images of two Debian releases are made at once, and each may need a package; apt takes one at a time."""
    busy, most, said = 0, 0, list[list[str]]()

    def run(command: list[str], **_: object) -> str:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        said.append(command)
        time.sleep(0.05)
        busy -= 1
        return ""

    monkeypatch.setattr(packages, "run", run)
    threads = [
        threading.Thread(target=packages.install_packages, args=[("debootstrap",)], kwargs={"purpose": "test"})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert [command[1] for command in said] == ["update", "install"] * 3
    assert {command[-1] for command in said if command[1] == "install"} == {"debootstrap"}
