"""What the running monitoring says: the alerts that fire, and whether the objectives are kept."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from docker.errors import APIError

from operations.containers import Container

ALERTMANAGER = "http://127.0.0.1:9093"
"""Alertmanager, as it is reached in its own container."""
ALERTS = f"{ALERTMANAGER}/api/v2/alerts?silenced=false&inhibited=false"
QUERY = "http://127.0.0.1:9090/api/v1/query?query="
OBJECTIVES = '{__name__=~"slo:[a-z_]+:(objective|ratio_rate3d)",__name__!~"slo:[a-z_]+_errors:.+"}'
"""Each objective is a series of its name, beside one with the share of the last three days."""


@dataclass(frozen=True)
class Alert:
    """An alert that fires, and that nobody has silenced."""

    name: str
    service: str
    severity: str
    summary: str
    since: str
    """When it began, by ISO 8601."""
    runbook: str
    """Page of this project that says what to do."""


@dataclass(frozen=True)
class Objective:
    """A share of requests that must succeed."""

    name: str
    objective: float
    measured: float
    """Share of the last three days."""


class UnknownError(Exception):
    """The monitoring does not answer; the message says why."""


def alerts(containers: Iterable[Container]) -> list[Alert]:
    """Ask Alertmanager, the worst first; the watchdog, which always fires, is left out.

    Raises:
        UnknownError: it does not answer.
    """
    order = ("critical", "warning", "info")
    found = [
        Alert(
            name=each["labels"]["alertname"],
            service=each["labels"].get("service", ""),
            severity=each["labels"].get("severity", ""),
            summary=each["annotations"].get("summary", ""),
            since=each["startsAt"],
            runbook=each["annotations"].get("runbook", ""),
        )
        for each in _ask(containers, "alertmanager", ALERTS)
    ]
    return sorted(
        (alert for alert in found if alert.severity in order),
        key=lambda alert: (order.index(alert.severity), alert.service, alert.name),
    )


def objectives(containers: Iterable[Container]) -> list[Objective]:
    """Ask Prometheus for every objective that has been measured.

    Raises:
        UnknownError: it does not answer.
    """
    answer = _ask(containers, "prometheus", QUERY + quote(OBJECTIVES))
    values: dict[str, dict[str, float]] = {}
    for series in answer["data"]["result"]:
        _, name, kind = series["metric"]["__name__"].split(":")
        values.setdefault(name, {})[kind] = float(series["value"][1])
    return [
        Objective(name=name.replace("_", " "), objective=kinds["objective"], measured=kinds["ratio_rate3d"])
        for name, kinds in sorted(values.items())
        # Without a single request there is no share.
        if kinds.keys() == {"objective", "ratio_rate3d"} and not math.isnan(kinds["ratio_rate3d"])
    ]


def execute(containers: Iterable[Container], service: str, *command: str) -> tuple[int, str]:
    """Run a command in a service's container, and return its exit code and what it says.

    Raises:
        UnknownError: the service does not run, or Docker cannot ask it.
    """
    running: Mapping[str, Container] = {each.service: each for each in containers if each.status == "running"}
    if service not in running:
        raise UnknownError(f"{service} does not run")
    try:
        code, output = running[service].raw.exec_run([*command])
    except APIError as error:
        raise UnknownError(f"{service} cannot be asked: {error.explanation or error}") from error
    return code, output.decode(errors="replace")


def _ask(containers: Iterable[Container], service: str, address: str) -> Any:
    """Ask a service from inside its container: its page is for people, who sign in."""
    code, output = execute(containers, service, "wget", "-q", "-T", "5", "-O", "-", address)
    if code:
        raise UnknownError(f"{service} does not answer: {output.strip()[:200]}")
    try:
        return json.loads(output)
    except ValueError as error:
        raise UnknownError(f"{service} answers what is no JSON: {error}") from error
