"""What a stack is at the moment: services, outputs, logs and the doctor's findings. Nothing here changes anything."""

import dataclasses
import json
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from typing import Any

from docker.errors import NotFound
from rich.markup import escape

from operations import checks, history, monitoring, state
from operations.console import colored, print_json, results, table
from operations.containers import HEALTHY, Container, StackInDocker, connect
from operations.errors import Exit, Failure
from operations.lifecycle import Options

PROMETHEUS = "prometheus"
"""Service whose presence says that a stack has a monitoring."""

NO_MONITORING = "none"
"""What is said of a stack without it."""


def status(options: Options) -> Exit:
    """Show every service with health, restarts, memory and address, the alerts that fire, and the objectives."""
    options.project.settings(options.stack)
    outputs = (state.read(options.project.state(options.stack)) or state.State()).outputs()
    client = connect()
    try:
        containers = StackInDocker(client, options.stack).containers(measured=True)
        watched = _watch(containers)
    finally:
        client.close()
    if not containers and not options.as_json:
        results.print(
            f"Stack {options.stack} has no containers; `./aikit up --stack {options.stack}` makes them.", markup=False
        )
        return Exit.DIFFERENT
    if options.as_json:
        print_json({"stack": options.stack, "services": rows(outputs, containers), **watched})
    else:
        show_services(options, outputs, containers, usage=True)
        _show_watched(watched)
    return Exit.OK if containers and all(container.health in HEALTHY for container in containers) else Exit.DIFFERENT


def _watch(containers: Sequence[Container]) -> dict[str, Any]:
    """Return what the monitoring says: null where it does not answer, with the reason."""
    if not any(container.service == PROMETHEUS for container in containers):
        return {"alerts": None, "objectives": None, "monitoring": NO_MONITORING}
    try:
        return {
            "alerts": [dataclasses.asdict(alert) for alert in monitoring.alerts(containers)],
            "objectives": [dataclasses.asdict(objective) for objective in monitoring.objectives(containers)],
            "monitoring": "answers",
        }
    except monitoring.UnknownError as error:
        return {"alerts": None, "objectives": None, "monitoring": str(error)}


def _show_watched(watched: Mapping[str, Any]) -> None:
    if watched["monitoring"] == NO_MONITORING:
        return
    if watched["alerts"] is None:
        results.print(f"\nAlerts are not known: {watched['monitoring']}.", markup=False)
        return
    if watched["alerts"]:
        shown = table("\nAlerts", "severity", "service", "alert", "what to do")
        for alert in watched["alerts"]:
            color = "red" if alert["severity"] == "critical" else "yellow"
            cells = (alert["service"], alert["summary"], alert["runbook"])
            shown.add_row(f"[{color}]{alert['severity']}[/]", *map(escape, cells))
        results.print(shown)
    else:
        results.print("\nNo alerts.")
    for each in watched["objectives"]:
        word = "kept" if each["measured"] >= each["objective"] else "[red]missed[/]"
        results.print(
            f"Objective {each['name']}: {word}, {each['measured']:.3%} in three days ({each['objective']:.1%} at least)"
        )


def browse(options: Options, name: str) -> Exit:
    """Open a service's page in the browser, or only print its address where there is none.

    Raises:
        Failure: no service with a page has this name.
    """
    options.project.settings(options.stack)
    exported = (state.read(options.project.state(options.stack)) or state.State()).outputs().get("services")
    pages = [service for service in exported or () if service.get("url")]
    # A page is known by its service and by the first label of its host: keycloak and auth are the same.
    addresses = {str(service["name"]): str(service["url"]) for service in pages}
    addresses |= {str(service["url"]).partition("://")[2].partition(".")[0]: str(service["url"]) for service in pages}
    if not addresses:
        raise Failure(f"Stack {options.stack} has no pages yet: run `./aikit up --stack {options.stack}`.")
    if name not in addresses:
        raise Failure(f"There is no page {name}; there are: {', '.join(sorted(addresses))}.", code=Exit.USAGE)
    results.print(addresses[name], markup=False)
    if sys.stdout.isatty():
        webbrowser.open(addresses[name])
    return Exit.OK


def rows(outputs: Mapping[str, Any], containers: Sequence[Container]) -> list[dict[str, Any]]:
    """Join what the program exported with what runs: a row for each service, then one for each other container."""
    by_name = {container.name: container for container in containers}
    made: list[dict[str, Any]] = []
    exported = outputs.get("services")
    for service in exported if isinstance(exported, list) else []:
        container = by_name.get(str(service.get("container")))
        made.append(_row(service.get("name") or "", service.get("title") or "", service.get("url"), container))
    shown = {row["container"] for row in made}
    made += [_row(each.service or each.name, each.name, None, each) for each in containers if each.name not in shown]
    return made


def _row(name: str, title: str, url: str | None, container: Container | None) -> dict[str, Any]:
    return {
        "service": name,
        "title": title or name,
        "url": url or None,
        "container": container.name if container else None,
        "health": container.health if container else "missing",
        "restarts": container.restarts if container else 0,
        "memoryMb": container.memory_mb if container else None,
    }


def show_services(
    options: Options, outputs: Mapping[str, Any], containers: Sequence[Container], *, usage: bool = False
) -> None:
    """Print the services as a table or JSON; with ``usage``, restarts and memory, too, and without, where to go from here."""
    found = rows(outputs, containers)
    if options.as_json:
        print_json({"stack": options.stack, "services": found})
        return
    columns = ["service", "address", "health"] + (["restarts", "memory"] if usage else [])
    shown = table(f"Stack {options.stack}", *columns)
    for row in found:
        # Jobs that have ended are of interest only where something went wrong.
        if row["health"] == "done" and not row["url"]:
            continue
        cells = [row["title"], row["url"] or "", colored(row["health"])]
        if usage:
            cells += [str(row["restarts"]), "" if row["memoryMb"] is None else f"{row['memoryMb']:.0f} MiB"]
        shown.add_row(*cells)
    results.print(shown)
    if not usage and (administrator := outputs.get("administrator")):
        suffix = "" if options.stack == "dev" else f" --stack {options.stack}"
        results.print(
            f"\nSign in as {administrator.get('username')}; the password: ./aikit outputs administratorPassword --show-secrets{suffix}",
            markup=False,
        )
        results.print(
            f"The certificate authority to trust in browsers: ./aikit outputs caCertificate{suffix}", markup=False
        )


def outputs(options: Options, name: str | None, *, show_secrets: bool) -> Exit:
    """Print what the program exported: all, or the bare value of one.

    Raises:
        Failure: there is no such output, or it is secret and was not asked to be shown.
    """
    options.project.settings(options.stack)
    path = options.project.state(options.stack)
    if path is None:
        raise Failure(
            f"The state is at {options.project.backend}: ask for its outputs with `pulumi stack output --stack {options.stack}`."
        )
    found = state.read(path)
    if found is None or not found.outputs():
        raise Failure(f"Stack {options.stack} has no outputs yet: run `./aikit up --stack {options.stack}`.")
    shown = hidden = found.outputs()
    if name is not None and name not in shown:
        raise Failure(f"There is no output {name}; there are: {', '.join(sorted(shown))}.", code=Exit.USAGE)
    if show_secrets and found.salt:
        shown = found.outputs(checks.decrypter(options.project, options.stack, found.salt))
    if name is not None:
        if not show_secrets and state.has_secret(hidden[name]):
            raise Failure(f"The output {name} is secret: add --show-secrets to print it.", code=Exit.USAGE)
        _print_value(shown[name], as_json=options.as_json)
    elif options.as_json:
        print_json(shown)
    else:
        listed = table(f"Outputs of stack {options.stack}", "name", "value")
        for key, value in sorted(shown.items()):
            listed.add_row(key, _text(value).replace("[", "\\["))
        results.print(listed)
    return Exit.OK


def _print_value(value: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        results.print(_text(value), markup=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2)


def deployments(options: Options) -> Exit:
    """Show the deployments of a stack, the last one first; also while its settings are wrong, to find where to return to."""
    entries = list(reversed(history.History(options.project, options.stack).entries()))
    if options.as_json:
        print_json([entry.model_dump(mode="json", exclude={"process"}) for entry in entries])
        return Exit.OK
    shown = table(f"Deployments of stack {options.stack}", "", "when", "who", "revision", "result", "changes", "took")
    colors = {history.Result.SUCCEEDED: "green", history.Result.RUNNING: "yellow", history.Result.DECLINED: "dim"}
    for entry in entries:
        returned = "" if entry.returns_to is None else f" (return to {entry.returns_to})"
        color = colors.get(entry.result, "red")
        shown.add_row(
            str(entry.number),
            f"{entry.started.astimezone():%Y-%m-%d %H:%M}",
            entry.who,
            f"{entry.revision}{returned}",
            f"[{color}]{entry.result}[/]",
            f"{entry.change_text}; {entry.rotation_text}" if entry.rotates else entry.change_text,
            "" if entry.seconds is None else f"{entry.seconds:.0f} s",
        )
    results.print(shown if entries else f"Stack {options.stack} was never deployed from here.")
    return Exit.OK


def logs(options: Options, service: str, *, follow: bool, tail: int) -> Exit:
    """Print what a service's container says.

    Raises:
        Failure: there is no such service.
    """
    options.project.settings(options.stack)
    client = connect()
    containers = StackInDocker(client, options.stack).containers()
    # A service can have jobs beside its container; the one of its own name is meant.
    matching = [each for each in containers if each.name in {service, f"aikit-{options.stack}-{service}"}] or [
        each for each in containers if each.service == service
    ]
    if not matching:
        names = ", ".join(sorted({each.service or each.name for each in containers})) or "none"
        raise Failure(f"Stack {options.stack} has no service {service}; there are: {names}.", code=Exit.USAGE)
    chosen = next((each for each in matching if each.status == "running"), matching[0])
    try:
        for chunk in chosen.raw.logs(stream=True, follow=follow, tail=tail):
            results.file.write(chunk.decode(errors="replace"))
            results.file.flush()
    except NotFound:
        return Exit.OK
    finally:
        client.close()
    return Exit.OK


def doctor(options: Options) -> Exit:
    """Show every check of this machine and the stack, with a cure for each that fails."""
    outcomes: list[checks.Check] = []
    settings = None
    try:
        settings = options.project.settings(options.stack)
        outcomes.append(checks.Check("settings", "ok", f"Pulumi.{options.stack}.yaml is valid"))
    except Failure as error:
        outcomes += [checks.Check("settings", "error", message) for message in error.messages]
    client, reached = checks.check_docker()
    outcomes.append(reached)
    if client and settings:
        outcomes += checks.examine(checks.Subject(options.project, options.stack, settings, client))
        client.close()
    else:
        outcomes.append(checks.check_state(options.project, options.stack))
        if settings:
            outcomes.append(checks.check_names(settings))
    if options.as_json:
        print_json([vars(outcome) for outcome in outcomes])
    else:
        shown = table(f"Stack {options.stack}", "", "check", "finding")
        marks = {"ok": "[green]ok[/]", "advice": "[yellow]note[/]", "error": "[red]wrong[/]"}
        for outcome in outcomes:
            shown.add_row(marks[outcome.level], outcome.name, outcome.message.replace("[", "\\["))
        results.print(shown)
    if not settings:
        return Exit.USAGE
    return Exit.FAILED if any(outcome.level == "error" for outcome in outcomes) else Exit.OK
