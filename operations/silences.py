"""Silences: alerts that nobody is told of for a while, because somebody works on what they are about."""

import dataclasses
import getpass
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rich.markup import escape

from operations import monitoring
from operations.console import print_json, results, say, table
from operations.containers import StackInDocker, connect
from operations.errors import Exit, Failure
from operations.lifecycle import Options

Amtool = Callable[..., str]
"""Runs Alertmanager's own command line with these arguments, and returns what it says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silence:
    """Alerts that are kept from people."""

    id: str
    alerts: str
    """Which ones, as Alertmanager writes it, such as ``alertname="RedisDown"``."""
    until: str
    """When it ends, by ISO 8601."""
    by: str
    comment: str


def show(options: Options) -> Exit:
    """Print the silences in force."""
    with _alertmanager(options) as amtool:
        found = _silences(amtool)
    if options.as_json:
        print_json([dataclasses.asdict(silence) for silence in found])
        return Exit.OK
    if not found:
        results.print("No silences.")
        return Exit.OK
    shown = table(f"Silences of stack {options.stack}", "number", "alerts", "until", "by", "why")
    for silence in found:
        shown.add_row(*map(escape, dataclasses.astuple(silence)))
    results.print(shown)
    return Exit.OK


def add(options: Options, name: str, *, service: str | None, hours: float, comment: str) -> Exit:
    """Silence an alert.

    Args:
        options: of every command.
        name: of the alert, such as ``RedisDown``.
        service: the one service that it is silenced for; None for all.
        hours: how long.
        comment: why, for others.

    Raises:
        Failure: there is no such alert, or Alertmanager does not answer.
    """
    _check(options, name)
    matchers = [f"alertname={name}", *([f"service={service}"] if service else [])]
    given = [f"--duration={round(hours * 3600)}s", f"--author={getpass.getuser()}", f"--comment={comment}"]
    with _alertmanager(options) as amtool:
        number = amtool("silence", "add", *matchers, *given).strip()
        (made,) = [silence for silence in _silences(amtool) if silence.id == number]
    if options.as_json:
        print_json(dataclasses.asdict(made))
    else:
        say(f"{name} is silenced until {made.until}; `./aikit silences remove {number}` ends it earlier")
    return Exit.OK


def remove(options: Options, number: str) -> Exit:
    """End a silence.

    Raises:
        Failure: there is none of that number, or Alertmanager does not answer.
    """
    with _alertmanager(options) as amtool:
        if number not in {silence.id for silence in _silences(amtool)}:
            raise Failure(
                f"There is no silence {number}; `./aikit silences list --stack {options.stack}` shows all.",
                code=Exit.USAGE,
            )
        amtool("silence", "expire", number)
    say(f"silence {number} has ended")
    return Exit.OK


def _check(options: Options, name: str) -> None:
    """Refuse an alert that there is not: nothing would be silenced, and nobody would notice."""
    from components.observability import grafana, rules
    from components.registry import SERVICES

    settings = options.project.settings(options.stack)
    known = {alert.name for _, alert in rules.alerts([kind(settings) for kind in SERVICES])} | {grafana.ALERT}
    if name not in known:
        raise Failure(f"There is no alert {name}; there are: {', '.join(sorted(known))}.", code=Exit.USAGE)


@contextmanager
def _alertmanager(options: Options) -> Generator[Amtool]:
    """Give what runs Alertmanager's own command line beside it, and returns what it says.

    Raises:
        Failure: it does not run or answer, or refuses.
    """
    options.project.settings(options.stack)
    client = connect()
    try:
        containers = StackInDocker(client, options.stack).containers()

        def amtool(*arguments: str) -> str:
            command = ("amtool", f"--alertmanager.url={monitoring.ALERTMANAGER}", *arguments)
            try:
                code, text = monitoring.execute(containers, "alertmanager", *command)
            except monitoring.UnknownError as error:
                raise Failure(f"{error}: see `./aikit status --stack {options.stack}`.") from error
            if code:
                raise Failure(f"Alertmanager refuses: {text.strip()[:400]}")
            return text

        yield amtool
    finally:
        client.close()


def _silences(amtool: Amtool) -> Sequence[Silence]:
    found = cast("list[dict[str, Any]]", json.loads(amtool("silence", "query", "--output=json") or "[]"))
    return [
        Silence(
            id=str(each["id"]),
            alerts=", ".join(
                f"{matcher['name']}{_operator(matcher)}{json.dumps(matcher['value'])}" for matcher in each["matchers"]
            ),
            until=str(each["endsAt"]),
            by=str(each["createdBy"]),
            comment=str(each["comment"]),
        )
        for each in found
    ]


def _operator(matcher: dict[str, Any]) -> str:
    equal = matcher.get("isEqual", True)
    return ("=~" if equal else "!~") if matcher["isRegex"] else ("=" if equal else "!=")
