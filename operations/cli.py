"""The command line. What a command needs is imported when it runs, so that help and plan start at once."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from operations.lifecycle import Options
    from operations.project import Project

NEW_OBJECTS = 500_000
"""How many objects more there must be before Python looks for garbage; a plan makes fewer. With its own 700 it looks through the hundred
thousands of the SDK's objects, which live as long as the command, again and again: a fifth of a plan's time or more."""

Command = TypeVar("Command", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  ./aikit doctor                          is this machine ready?
  ./aikit up                              deploy stack dev, asking before changes
  ./aikit up --stack prod --yes           deploy stack prod without asking
  ./aikit preview --stack prod            what would change?
  ./aikit status                          what runs, and how it is
  ./aikit drift                           what was changed by hand?
  ./aikit history                         who deployed what, when, and how it ended
  ./aikit rollback                        back to the good deployment before this one
  ./aikit rotate --due                    new values for secrets that are old
  ./aikit open chat                       a service's page in the browser
  ./aikit outputs administratorPassword --show-secrets
  ./aikit users add ada --email ada@example.org --role editor
  ./aikit destroy                         remove everything but data

\b
Exit codes:
  0  done                                 2  wrong use or settings, nothing changed
  1  failed, or forbidden by a policy     3  changes not expected, or a service not healthy
  130  interrupted; the next up finishes what was begun

Settings are in Pulumi.<stack>.yaml; docs/settings.md explains each."""


def stack_option(command: Command) -> Command:
    """Add ``--stack``."""
    return click.option(
        "--stack",
        "-s",
        envvar="AIKIT_STACK",
        default="dev",
        show_default=True,
        show_envvar=True,
        metavar="NAME",
        help="Stack to work on.",
    )(command)


def yes_option(command: Command) -> Command:
    """Add ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Agree beforehand to everything that would be asked.")(
        command
    )


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def _options(stack: str, *, yes: bool = False, as_json: bool = False) -> "Options":
    from operations.lifecycle import Options

    return Options(_project(), stack, yes=yes, as_json=as_json)


def _project() -> "Project":
    """Return the project to work on: a caller's, such as a test's, else the one that this file belongs to."""
    from operations.project import Project

    given = click.get_current_context().find_object(Project)
    return given or Project()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG)
def cli() -> None:
    """A self-hosted AI platform behind single sign-on, as one dependency graph that you preview, change and test."""


@cli.command()
@stack_option
@yes_option
@json_option
@click.option("--refresh", is_flag=True, help="Also put right what was changed by hand; see `./aikit drift`.")
@click.option(
    "--rollback-on-failure",
    is_flag=True,
    help="If it fails half-way, bring the last good deployment back; exit code 1.",
)
@click.option("--returns-to", type=int, hidden=True)
def up(
    stack: str, yes: bool, as_json: bool, *, refresh: bool, rollback_on_failure: bool, returns_to: int | None
) -> int:
    """Make the platform what the settings say.

    Installs what is missing, checks this machine, the settings and the policies, shows what would change, and changes it after you
    agree. Ends with every service's address. Run it again after any change of a setting; a run that was interrupted is finished by the
    next one, and one without any change since the last says so in a second or two.
    """
    # --returns-to is how `rollback` calls the kept program of an earlier deployment: an interface between versions of this file.
    from operations import lifecycle

    return lifecycle.up(
        _options(stack, yes=yes, as_json=as_json),
        refresh=refresh,
        rollback_on_failure=rollback_on_failure,
        returns_to=returns_to,
    )


@cli.command()
@click.argument("number", required=False, type=click.IntRange(min=1), metavar="[N]")
@stack_option
@yes_option
def rollback(number: int | None, stack: str, yes: bool) -> int:
    """Deploy the program and the settings of an earlier deployment again.

    N is a deployment's number in `./aikit history`; without it, the last good one that had another program than the present one.
    Data volumes are neither replaced nor removed, and this folder's files stay as they are.

    \b
    ./aikit rollback
    ./aikit rollback 12 --yes
    """  # click wants the character itself
    from operations import lifecycle

    return lifecycle.return_to(_options(stack, yes=yes), number)


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@stack_option
@yes_option
@json_option
@click.option("--due", is_flag=True, help="Rotate every secret whose period is over; without one, nothing is done.")
@click.option("--list", "listed", is_flag=True, help="Show every secret, its age and its period; nothing is changed.")
@click.option("--force", is_flag=True, help="Rotate also what docs/secrets.md tells to prepare for.")
@click.option("--schedule/--unschedule", default=None, help="Let systemd rotate what is due every night, or stop that.")
def rotate(
    *,
    names: tuple[str, ...],
    stack: str,
    yes: bool,
    as_json: bool,
    due: bool,
    listed: bool,
    force: bool,
    schedule: bool | None,
) -> int:
    """Give generated secrets new values, and restart what uses them.

    A rotation is an `up` that makes these secrets anew: it checks the same things, also deploys what has changed in the settings, is in
    the history, and tells the same people.

    \b
    ./aikit rotate --list                    which there are, and which are due
    ./aikit rotate redis-password            one, now
    ./aikit rotate --due --yes               those that are due, without asking: for a timer
    ./aikit rotate --schedule                that timer
    """  # click wants the character itself
    from operations import rotation
    from operations import schedule as timers
    from operations.errors import Exit

    if bool(names) + due + listed + (schedule is not None) != 1:
        raise click.UsageError("Say what to rotate: names, or --due; --list shows them.")
    if force and not names:
        raise click.UsageError("--force goes with names only.")
    options = _options(stack, yes=yes, as_json=as_json)
    if schedule is not None:
        timers.install(options) if schedule else timers.remove(options)
        return Exit.OK
    if listed:
        return rotation.show(options)
    return rotation.due(options) if due else rotation.rotate(options, names, force=force)


@cli.command()
@stack_option
@json_option
def history(stack: str, as_json: bool) -> int:
    """Show the deployments: who, when, which revision, what changed, how it ended."""
    from operations import views

    return views.deployments(_options(stack, as_json=as_json))


@cli.command()
@stack_option
@json_option
def drift(stack: str, as_json: bool) -> int:
    """Show what on the running host is not as the program says; exit code 3 if anything differs.

    Each thing that was changed, removed or added by hand, property by property. Nothing is changed, not even the state: `./aikit up
    --refresh` makes it right.
    """
    from operations import drift as drifts

    return drifts.drift(_options(stack, as_json=as_json))


@cli.command()
@stack_option
@click.option("--refresh", is_flag=True, help="Compare with what really exists, not with the last run's state.")
@click.option("--expect-no-changes", is_flag=True, help="End with exit code 3 if anything would change.")
@json_option
def preview(stack: str, refresh: bool, expect_no_changes: bool, as_json: bool) -> int:
    """Show what `up` would change.

    \b
    ./aikit preview --refresh --expect-no-changes     has anything drifted? (exit code 3: yes)
    """  # click wants the character itself
    from operations import lifecycle

    return lifecycle.preview(_options(stack, as_json=as_json), refresh=refresh, expect_no_changes=expect_no_changes)


@cli.command()
@stack_option
@json_option
@click.option("--mermaid", is_flag=True, help="Print a Mermaid drawing.")
@click.option("--against", metavar="REF", help="Show the difference to the plan of a git revision instead.")
@click.option("--markdown", is_flag=True, help="Write the difference for a comment on a pull request.")
def plan(stack: str, as_json: bool, mermaid: bool, against: str | None, markdown: bool) -> int:
    """Show what the program declares, without Docker, engine, network or secrets.

    \b
    ./aikit plan                          the graph as a tree, judged by the policies
    ./aikit plan --json                   for other programs
    ./aikit plan --mermaid                a drawing
    ./aikit plan --against main           what changed since main
    """  # click wants the character itself
    from operations import plan as plans

    return plans.command(stack, as_json=as_json, mermaid=mermaid, against=against, markdown=markdown)


@cli.command()
@stack_option
@yes_option
@click.option(
    "--data", is_flag=True, help="Remove the data volumes and the generated secrets, too. Nothing brings them back."
)
@click.option("--keep-images", is_flag=True, help="Keep the images that were built.")
def destroy(stack: str, yes: bool, data: bool, keep_images: bool) -> int:
    """Remove the containers, networks and built images.

    Data volumes are kept, and with them the generated secrets: the next `up` brings back the same platform with all accounts. With
    --data everything goes.
    """
    from operations import lifecycle

    return lifecycle.destroy(_options(stack, yes=yes), data=data, keep_images=keep_images)


@cli.command()
@stack_option
def refresh(stack: str) -> int:
    """Make the state what really exists, without changing anything else."""
    from operations import lifecycle

    return lifecycle.refresh(_options(stack))


@cli.command()
@stack_option
@json_option
def status(stack: str, as_json: bool) -> int:
    """Show every service: address, health, restarts, memory; then alerts and objectives. Exit code 3 if one is not healthy."""
    from operations import views

    return views.status(_options(stack, as_json=as_json))


@cli.command(name="open")
@click.argument("page")
@stack_option
def open_page(page: str, stack: str) -> int:
    r"""Open a service's page in the browser; without one, or in a pipe, its address is printed only.

    \b
    ./aikit open chat
    ./aikit open alerts
    """
    from operations import views

    return views.browse(_options(stack), page)


@cli.command()
@stack_option
@json_option
def doctor(stack: str, as_json: bool) -> int:
    """Check settings, Docker, ports, memory, disk, host names, state and passphrase; each finding names its cure."""
    from operations import views

    return views.doctor(_options(stack, as_json=as_json))


@cli.command()
@click.argument("name", required=False)
@stack_option
@click.option("--show-secrets", is_flag=True, help="Print secrets, such as the first administrator's password.")
@json_option
def outputs(name: str | None, stack: str, show_secrets: bool, as_json: bool) -> int:
    """Print what the platform tells about itself; with NAME, the bare value of one output.

    \b
    ./aikit outputs caCertificate > ca.pem
    ./aikit outputs administratorPassword --show-secrets
    """  # click wants the character itself
    from operations import views

    return views.outputs(_options(stack, as_json=as_json), name, show_secrets=show_secrets)


@cli.command()
@click.argument("service")
@stack_option
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@click.option(
    "--tail", default=200, show_default=True, type=click.IntRange(min=0), help="Lines from the end to begin with."
)
def logs(service: str, stack: str, follow: bool, tail: int) -> int:
    """Print what a service logs.

    \b
    ./aikit logs keycloak -f
    """  # click wants the character itself
    from operations import views

    return views.logs(_options(stack), service, follow=follow, tail=tail)


@cli.group()
def silences() -> None:
    """Keep alerts from people for a while; `status` shows those that fire.

    \b
    ./aikit silences add RedisDown --hours 2 --comment "new memory"
    ./aikit silences list
    """


@silences.command("list")
@stack_option
@json_option
def list_silences(stack: str, as_json: bool) -> int:
    """Show the silences in force: which alerts, until when, by whom and why."""
    from operations import silences as silenced

    return silenced.show(_options(stack, as_json=as_json))


@silences.command("add")
@click.argument("alert")
@click.option("--service", help="Silence it for this service alone.")
@click.option(
    "--hours", type=click.FloatRange(0.01, 24 * 30), default=2.0, show_default=True, help="How long, up to 30 days."
)
@click.option("--comment", required=True, help="Why; others read it.")
@stack_option
@json_option
def add_silence(alert: str, *, service: str | None, hours: float, comment: str, stack: str, as_json: bool) -> int:
    """Tell nobody of ALERT for a while."""
    from operations import silences as silenced

    return silenced.add(_options(stack, as_json=as_json), alert, service=service, hours=hours, comment=comment)


@silences.command("remove")
@click.argument("number")
@stack_option
def remove_silence(number: str, stack: str) -> int:
    """End the silence NUMBER before its time."""
    from operations import silences as silenced

    return silenced.remove(_options(stack), number)


@cli.group()
def users() -> None:
    """Show and change people's accounts while the platform runs.

    \b
    ./aikit users list
    ./aikit users add ada --email ada@example.org --role editor
    ./aikit users disable ada                       out of every service
    ./aikit users reset ada                         lost the password or the phone
    ./aikit users events ada                        logins, refusals and changes
    ./aikit users clients                           what people sign in to

    Accounts that aikit:users declares are made by `up`; their role is changed there.
    """


ROLES = ("admin", "editor", "viewer")


@users.command("list")
@stack_option
@json_option
def list_users(stack: str, as_json: bool) -> int:
    """Show everyone: address, role, second factors, where they come from."""
    from operations import users as accounts

    return accounts.show(_options(stack, as_json=as_json))


@users.command("add")
@click.argument("name")
@click.option("--email", required=True, help="E-mail address; no two accounts have the same.")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What they may do.")
@stack_option
@json_option
def add_user(name: str, email: str, role: str, stack: str, as_json: bool) -> int:
    """Make an account for NAME. Its password is printed once and must be changed at the first login."""
    from operations import users as accounts
    from settings import Role

    return accounts.add(_options(stack, as_json=as_json), name, email, Role(role))


@users.command("disable")
@click.argument("name")
@stack_option
@json_option
def disable_user(name: str, stack: str, as_json: bool) -> int:
    """Lock NAME out: no login, and all sessions end. Nothing of theirs is deleted."""
    from operations import users as accounts

    return accounts.set_enabled(_options(stack, as_json=as_json), name, enabled=False)


@users.command("enable")
@click.argument("name")
@stack_option
@json_option
def enable_user(name: str, stack: str, as_json: bool) -> int:
    """Let NAME sign in again, also after too many failed logins."""
    from operations import users as accounts

    return accounts.set_enabled(_options(stack, as_json=as_json), name, enabled=True)


@users.command("set-role")
@click.argument("name")
@click.argument("role", type=click.Choice(ROLES))
@stack_option
@json_option
def set_role(name: str, role: str, stack: str, as_json: bool) -> int:
    """Make NAME an admin, editor or viewer, and end the sessions that have the former role."""
    from operations import users as accounts
    from settings import Role

    return accounts.set_role(_options(stack, as_json=as_json), name, Role(role))


@users.command("reset")
@click.argument("name")
@stack_option
@json_option
def reset_user(name: str, stack: str, as_json: bool) -> int:
    """Give NAME a new password, printed once, and take away second factors, for someone who lost one of them."""
    from operations import users as accounts

    return accounts.reset(_options(stack, as_json=as_json), name)


@users.command("events")
@click.argument("name", required=False)
@click.option("--count", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many of each kind.")
@stack_option
@json_option
def user_events(name: str | None, count: int, stack: str, as_json: bool) -> int:
    """Show logins, refusals and changes by administrators, the latest first; those of NAME alone if it is given."""
    from operations import users as accounts

    return accounts.events(_options(stack, as_json=as_json), username=name, count=count)


@users.command("clients")
@stack_option
@json_option
def list_clients(stack: str, as_json: bool) -> int:
    """Show what may get tokens from Keycloak, how, and where people are sent back to."""
    from operations import users as accounts

    return accounts.clients(_options(stack, as_json=as_json))


@cli.command()
@stack_option
@json_option
def policies(stack: str, as_json: bool) -> int:
    """Judge the plan by the policies; exit code 1 if it breaks a mandatory one."""
    from operations import plan as plans
    from operations.console import notes, print_json
    from operations.errors import Exit, Failure
    from policies import check

    project = _project()
    project.settings(stack)
    try:
        review = check.review(plans.plan(stack, project.root), stack)
    except plans.PlanError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(review.to_json())
    else:
        notes.print(check.render(review))
    return Exit.FAILED if review.blocking else Exit.OK


@cli.group()
def images() -> None:
    """Which official images are used, to the byte."""


@images.command("lock")
def images_lock() -> int:
    """Ask the registries for the digest of each version, and write them into images.lock.json, which is committed.

    From then on the digests are pulled. Run it again after a version in components/images.py has changed.
    """
    from operations.images import lock

    return lock(_project().root)


@cli.command()
@click.argument("stacks", nargs=-1)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(".aikit/compliance.html"),
    show_default=True,
    help="File to write.",
)
def compliance(stacks: tuple[str, ...], output: Path) -> int:
    """Write a report of what the policies demand and how each of STACKS (default: dev and prod) fulfils it."""
    from operations import compliance as reports

    return reports.command(list(stacks) or ["dev", "prod"], output)


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.option("--yes", "-y", is_flag=True, help="Agree beforehand to installing what the tests need.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(yes: bool, arguments: tuple[str, ...]) -> int:
    """Run the tests; ARGUMENTS go to pytest.

    \b
    ./aikit test                          everything, the quickest first
    ./aikit test tests/unit -k redis      some
    """  # click wants the character itself
    from operations import testing

    return testing.run(_project(), arguments, agreed=yes)


def main(arguments: list[str] | None = None, project: "Project | None" = None) -> NoReturn:
    """Run the command line and end the process with its exit code; no failure that has a known cause shows a traceback."""
    gc.set_threshold(NEW_OBJECTS)
    signal.signal(signal.SIGTERM, _terminated)
    code = run(arguments, project)
    # All that is left goes with the process: to look for garbage in it at the end takes another fifth.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str] | None = None, project: "Project | None" = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
        project: to work on; the one that this file belongs to by default.
    """
    from operations.errors import Exit, Failure

    try:
        return int(cli.main(arguments, prog_name="./aikit", standalone_mode=False, obj=project) or 0)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except Failure as failure:
        from operations.console import fail

        for message in failure.messages:
            fail(message)
        return failure.code
    except (KeyboardInterrupt, click.Abort):
        from operations.console import say

        say("interrupted; the next `./aikit up` finishes what was begun")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _terminated(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
