"""What a person sees: lines about the run on standard error, results on standard output."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

notes = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where everything about the run itself goes, so that standard output can be piped."""

results = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
"""Where what was asked for goes. In a pipe lines are long: whoever reads them there searches for whole addresses."""


def say(line: str) -> None:
    """Print one line about the run; what it quotes is never taken for markup."""
    notes.print(line, markup=False)


def reporter(task: str) -> Callable[[str], None]:
    """Return a function that prints the steps of a long task, each with the seconds since its beginning."""
    started = time.monotonic()
    return lambda line: say(f"{task} [{time.monotonic() - started:.0f} s]: {line}")


def warn(line: str) -> None:
    """Print one line that deserves attention, but stops nothing."""
    notes.print(f"[bold yellow]warning:[/] {_plain(line)}")


def fail(line: str) -> None:
    """Print the reason why the command ends."""
    notes.print(f"[bold red]error:[/] {_plain(line)}")


def print_json(data: Any) -> None:
    """Print a result for other programs."""
    sys.stdout.write(json.dumps(data, indent=2, sort_keys=True) + "\n")


def table(title: str, *columns: str) -> Table:
    """Return an empty table in the style of all tables."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def colored(health: str) -> str:
    """Return a container's health in its colour, as markup."""
    color = {"healthy": "green", "running": "green", "done": "green", "starting": "yellow"}.get(health, "red")
    return f"[{color}]{health}[/]"


def confirm(question: str, *, agreed: bool) -> bool:
    """Ask a yes-or-no question; ``agreed`` (``--yes``) answers it beforehand, and nobody at a terminal means no."""
    if agreed:
        return True
    if not interactive():
        warn(f"{question} Nobody can answer here; --yes agrees beforehand.")
        return False
    return click.confirm(question, err=True)


def interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
