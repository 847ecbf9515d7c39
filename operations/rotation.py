"""Rotation of generated secrets: which there are, which are due, and their replacement in an ordinary deployment.

A secret is one resource. Its rotation is an `up` in which the engine is told to replace that resource: everything that uses it follows
in the order of the graph, and a run that is cut off is finished by the next `up`, because the new value is in the state before anybody
uses it.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from components.secrets.rotation import Replacement
from operations import lifecycle, state
from operations.console import print_json, results, say, table, warn
from operations.errors import Exit, Failure
from operations.lifecycle import Options

GUIDE = "docs/secrets.md"


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A generated secret of a deployed stack; its value is not here."""

    name: str
    urn: str
    services: tuple[str, ...]
    """Who uses it."""
    made: datetime
    days: int
    """Its period; 0 is never."""
    replacement: Replacement
    reason: str
    """Why it is not replaced periodically."""

    @property
    def age(self) -> timedelta:
        """How old its value is."""
        return datetime.now(UTC) - self.made

    @property
    def due(self) -> bool:
        """Whether its period is over."""
        return bool(self.days) and self.age >= timedelta(days=self.days)


def show(options: Options) -> Exit:
    """Show every generated secret: who uses it, its age, its period, and whether it is due or why it never is."""
    options.project.settings(options.stack)
    secrets = _secrets(options, _state(options))
    if options.as_json:
        print_json({"stack": options.stack, "secrets": [_json(each) for each in secrets]})
        return Exit.OK
    shown = table(f"Secrets of stack {options.stack}", "name", "used by", "age", "period", "")
    for each in secrets:
        period = f"{each.days} days" if each.days else "never"
        remark = "[yellow]due[/]" if each.due else each.reason.replace("[", "\\[")
        shown.add_row(each.name, ", ".join(each.services), f"{each.age.days} days", period, remark)
    results.print(shown)
    return Exit.OK


def due(options: Options) -> Exit:
    """Give all secrets that are due new values; with none, and where nothing is deployed, say so and change nothing."""
    options.project.settings(options.stack)
    known = _state(options)
    if not _deployed(known):
        say(f"stack {options.stack}: not deployed, so nothing is rotated")
        return Exit.OK
    secrets = _secrets(options, known)
    chosen = [each for each in secrets if each.due]
    if not chosen:
        dates = [each.made + timedelta(days=each.days) for each in secrets if each.days]
        following = f"; the next is on {min(dates).astimezone():%Y-%m-%d}" if dates else ""
        say(f"stack {options.stack}: no secret is due{following}")
        return Exit.OK
    return _rotate(options, chosen)


def rotate(options: Options, names: Collection[str], *, force: bool) -> Exit:
    """Give secrets new values, whether they are due or not.

    Args:
        options: of every command.
        names: of the secrets.
        force: whether those, too, whose replacement loses something or needs something to be done by hand.

    Raises:
        Failure: one is not known or may not be replaced, each with the cure, before anything is changed; or the deployment failed.
    """
    options.project.settings(options.stack)
    known = _state(options)
    if not _deployed(known):
        raise Failure(f"Stack {options.stack} is not deployed: run `./aikit up --stack {options.stack}` first.")
    secrets = {each.name: each for each in _secrets(options, known)}
    if problems := [problem for name in names if (problem := _problem(name, secrets.get(name), secrets, force=force))]:
        raise Failure(*problems, code=Exit.USAGE)
    chosen = [secrets[name] for name in dict.fromkeys(names)]
    for each in chosen:
        if each.replacement is not Replacement.PERIODIC:
            warn(f"{each.name}: {each.reason}")
    return _rotate(options, chosen)


def _rotate(options: Options, chosen: Sequence[Secret]) -> Exit:
    say(f"stack {options.stack}: new values for {', '.join(each.name for each in chosen)}")
    return lifecycle.up(options, rotate={each.name: each.urn for each in chosen})


def _problem(name: str, secret: Secret | None, known: Collection[str], *, force: bool) -> str:
    """Return why a secret is not replaced; empty if it is."""
    if secret is None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "`./aikit rotate --list` shows all."
        return f"There is no generated secret {name}; {hint}"
    if secret.replacement is Replacement.NEVER:
        return f"{name} is not rotated: {secret.reason}"
    if secret.replacement is Replacement.FORCED and not force:
        return f"{name} is rotated with --force only: {secret.reason} {GUIDE} says what to do before and after."
    return ""


def _state(options: Options) -> state.State:
    """Read the state: from its file, or through the engine where the backend is another.

    Raises:
        Failure: the stack was never deployed.
    """
    if options.project.state(options.stack) is None:
        with lifecycle.prepared(options, "rotate", change=False) as ready, ready.session() as session:
            known: state.State | None = session.state()
    else:
        known = state.read(options.project.state(options.stack))
    if known is None or not known.resources:
        raise Failure(f"Stack {options.stack} was never deployed: run `./aikit up --stack {options.stack}`.")
    return known


def _deployed(known: state.State) -> bool:
    """Whether it runs; after a destroy that kept the data there are secrets, too, but a timer must not bring the stack back."""
    return next(known.of_type(state.CONTAINER), None) is not None


def _secrets(options: Options, known: state.State) -> list[Secret]:
    """Return the secrets that the stack's outputs tell of, by name.

    Raises:
        Failure: they tell of none, because an earlier program made them.
    """
    told: dict[str, dict[str, Any]] | None = known.outputs().get("secrets")
    if told is None:
        raise Failure(
            f"Stack {options.stack} was deployed by a program that says nothing of rotation: "
            f"run `./aikit up --stack {options.stack}` first."
        )
    made = {
        str(each["urn"]).rpartition("::")[2]: each
        for each in known.current()
        if each["type"] in {state.PASSWORD, state.GENERATION, state.KEY}
    }
    return [
        Secret(
            name=name,
            urn=str(made[name]["urn"]),
            services=tuple(item["services"]),
            made=state.made(made[name]),
            days=int(item["days"]),
            replacement=Replacement(item["replacement"]),
            reason=item["reason"],
        )
        for name, item in sorted(told.items())
        if name in made
    ]


def _json(secret: Secret) -> dict[str, Any]:
    return {
        "name": secret.name,
        "services": list(secret.services),
        "made": secret.made.isoformat(timespec="seconds"),
        "ageDays": secret.age.days,
        "periodDays": secret.days,
        "due": secret.due,
        "replacement": str(secret.replacement),
        "reason": secret.reason,
    }
