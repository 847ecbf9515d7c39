"""What `status` says about alerts and objectives, from the answers of Alertmanager and Prometheus."""

import json
from typing import Any

import pytest

from operations import monitoring
from operations.containers import Container


class Answers:
    """Stands in for a container in which a question is asked."""

    def __init__(self, code: int, output: str) -> None:
        self.code, self.output = code, output

    def exec_run(self, command: list[str]) -> tuple[int, bytes]:
        """Answer whatever is asked."""
        assert command[:2] == ["wget", "-q"]
        return self.code, self.output.encode()


def running(service: str, answer: Any, code: int = 0, status: str = "running") -> list[Container]:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return [
        Container(
            id="1",
            name=f"aikit-x-{service}",
            service=service,
            status=status,
            health="healthy",
            restarts=0,
            memory_mb=None,
            ports=(),
            raw=Answers(code, text),
        )
    ]


def alert(name: str, severity: str, service: str = "redis") -> dict[str, Any]:
    return {
        "labels": {"alertname": name, "severity": severity, "service": service},
        "annotations": {"summary": f"{name}!", "runbook": f"docs/runbooks/{name}.md"},
        "startsAt": "2026-01-01T00:00:00Z",
    }


@pytest.mark.spec("ADM-04")
def test_the_worst_alert_comes_first_and_the_watchdog_is_none() -> None:
    answer = [alert("B", "warning"), alert("Watchdog", "none"), alert("C", "info"), alert("A", "critical")]
    assert [each.name for each in monitoring.alerts(running("alertmanager", answer))] == ["A", "B", "C"]


@pytest.mark.spec("MET-02")
def test_an_objective_without_any_request_is_left_out() -> None:
    values = {
        "slo:chat_availability:objective": "0.999",
        "slo:chat_availability:ratio_rate3d": "0.9985",
        "slo:other:objective": "0.99",
        "slo:other:ratio_rate3d": "NaN",
        "slo:third:objective": "0.99",
    }
    result = [{"metric": {"__name__": name}, "value": [0, value]} for name, value in values.items()]
    found = monitoring.objectives(running("prometheus", {"data": {"result": result}}))
    assert found == [monitoring.Objective(name="chat availability", objective=0.999, measured=0.9985)]


@pytest.mark.parametrize(
    ("containers", "reason"),
    [
        ([], "alertmanager does not run"),
        (running("alertmanager", [], status="exited"), "alertmanager does not run"),
        (running("alertmanager", "can't connect", code=1), "alertmanager does not answer: can't connect"),
        (running("alertmanager", "<html>"), "answers what is no JSON"),
    ],
)
def test_silence_is_never_taken_for_no_alerts(containers: list[Container], reason: str) -> None:
    with pytest.raises(monitoring.UnknownError, match=reason):
        monitoring.alerts(containers)
