"""What is said while something is made before the engine runs."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from operations import session


def test_what_takes_long_is_named_until_it_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "HEARTBEAT_SECONDS", 0.05)
    released = threading.Event()
    with ThreadPoolExecutor() as executor:
        quick: Future[Any] = executor.submit(int)
        slow: Future[Any] = executor.submit(released.wait)
        threading.Timer(0.2, released.set).start()
        session.wait_for_all({quick: "base image trixie", slow: "engine"})
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all("still making engine (" in line for line in lines), lines
    session.wait_for_all({quick: "engine"})
    assert capsys.readouterr().err == ""
