"""Changes to a stack: up, preview, refresh and destroy."""

import functools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import click

from operations import checks, history, messages, rollback, state, unchanged
from operations.console import confirm, fail, interactive, notes, print_json, say, warn
from operations.containers import HEALTHY, STARTING, Container, StackInDocker
from operations.errors import Exit, Failure, tools
from operations.locks import RunLock
from operations.progress import Progress
from operations.project import Project, platform
from operations.session import Session, choose, open_session, tell_accelerator
from settings import Accelerator, Settings, SettingsError

HEALTH_SECONDS = 120
"""How long a container may be starting after a deployment; those that were made in it have started by then."""
RESTART_SECONDS = 60
"""How long a service may take to be healthy again that is started anew before a deployment."""

NOTHING_TO_CHANGE = "nothing to change"
"""What a run says that found everything as it should be."""

VAULT = "vault"
"""The service that the containers' secrets come from."""

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Options:
    """What every command is told."""

    project: Project
    stack: str
    yes: bool = False
    """Agree to everything beforehand."""
    as_json: bool = False


def up(
    options: Options,
    *,
    refresh: bool = False,
    rollback_on_failure: bool = False,
    returns_to: int | None = None,
    rotate: Mapping[str, str] = NOTHING,
) -> Exit:
    """Make the stack what the settings say, show where everything is, and tell those who want to know.

    Args:
        options: of every command.
        refresh: whether the engine first asks every service what it really is. Without, only containers are looked at, as that would
            take as long as everything else of a run that changes nothing.
        rollback_on_failure: whether a deployment that fails half-way brings back the last good one.
        returns_to: number of the deployment that this run repeats for another one, which tells people of it; None for an own one.
        rotate: URNs of generated secrets that get new values, by name.

    Raises:
        Failure: it can't be done; with ``rollback_on_failure`` only what is wrong before anything was changed.
    """
    _need_an_answer(options)
    if returns_to is not None:
        _refuse_another_program(options, returns_to)
    told = messages.receivers(options.project.settings(options.stack)) if returns_to is None else ()
    record = history.History(options.project, options.stack).begin(returns_to=returns_to, rotates=list(rotate))
    after: history.Entry | None = None
    try:
        with record:
            return _deploy(options, record, rotate, refresh=refresh)
    except Failure as failure:
        if not (rollback_on_failure and record.began):
            raise
        for message in failure.messages:
            fail(message)
        after = _return_to_last_good(options, record.entry)
        return Exit.FAILED
    finally:
        messages.send(told, record.entry, after=after)


def _deploy(options: Options, record: history.Record, rotate: Mapping[str, str], *, refresh: bool) -> Exit:
    started = time.monotonic()
    again = record.entry.returns_to is not None
    with prepared(options, "rotate" if rotate else "up") as ready:
        _refuse_foreign(options, ready.in_docker)
        # What comes back was judged when it was deployed first; an exemption that ended since must not stand in its way.
        if not again and not history.History(options.project, options.stack).judged(record.entry):
            _check_policies(options)
        chosen = choose(options.project, options.stack, ready.settings)
        run = unchanged.Run.of(options.project, options.stack, ready.settings, chosen, ready.subject.info)
        known = None if again or refresh or rotate else run.known(ready.in_docker)
        if known:
            _show_known(options, ready, known, started)
            return Exit.OK
        with ready.session(chosen=chosen) as session:
            recovered = recover(session, ready.in_docker)
            refresh = refresh and not recovered
            if again:
                _let_go(options, session)
                _refuse_loss(session)
            elif not options.yes and not _approve(session, rotate, refresh=refresh):
                record.decline()
                return Exit.FAILED
            before = session.state() if rotate else state.State()
            record.began = True
            progress = Progress(f"deploying stack {options.stack}")
            try:
                session.run(progress, session.stack.up, refresh=refresh, replace=list(rotate.values()) or None)
            finally:
                record.count(progress.changed.values())
                if rotate:
                    record.rotate(_replaced(rotate, before, session.state()))
            for warning in progress.warnings:
                warn(warning)
            containers = _check_health(ready.in_docker)
            if not again and not progress.warnings:
                run.keep(session.left_out)
            outcome = f"{_count(len(progress.changed))} changed" if progress.changed else NOTHING_TO_CHANGE
            say(f"stack {options.stack}: {outcome} ({time.monotonic() - started:.1f} s)")
            outputs = session.state().outputs()
        from operations.views import show_services

        show_services(options, outputs, containers)
    return Exit.OK


def _show_known(options: Options, ready: "Prepared", known: unchanged.Known, started: float) -> None:
    """Say what a run without changes says, where the engine need not be asked for that."""
    from operations.views import show_services

    for line in known.left_out:
        say(line)
    if ready.settings.accelerator is Accelerator.AUTO:
        tell_accelerator(ready.subject.info)
    say(f"stack {options.stack}: {NOTHING_TO_CHANGE} ({time.monotonic() - started:.1f} s)")
    show_services(options, known.outputs, known.containers)


def _replaced(rotate: Mapping[str, str], before: state.State, after: state.State) -> list[str]:
    """Return the names of the secrets that the state has another value of than before."""
    old, new = ({str(each["urn"]): state.made(each) for each in known.current()} for known in (before, after))
    return [name for name, urn in rotate.items() if old.get(urn) != new.get(urn)]


def _check_health(in_docker: StackInDocker) -> list[Container]:
    """Return the containers, which all do their work; the engine has waited for what it made, but not for what was there before.

    Raises:
        Failure: a container is not healthy; exit code 3.
    """
    deadline = time.monotonic() + HEALTH_SECONDS
    while True:
        containers = in_docker.containers()
        ill = [each for each in containers if each.health not in HEALTHY]
        if not ill:
            return containers
        if time.monotonic() > deadline or any(each.health != STARTING for each in ill):
            raise Failure(
                *(
                    f"Container {each.name} is {each.health} after the deployment: see `docker logs {each.name}`."
                    for each in ill
                ),
                code=Exit.DIFFERENT,
            )
        time.sleep(1)


def _refuse_another_program(options: Options, number: int) -> None:
    """Refuse to take this folder for the program of an earlier deployment, which the policies would not judge again.

    Raises:
        Failure: this is not that deployment's kept program; exit code 2.
    """
    deployments = history.History(options.project, options.stack)
    if deployments.program(deployments.target(number)).resolve() != options.project.root.resolve():
        raise Failure(
            f"--returns-to {number} is only for the kept program of deployment {number}, and {options.project.root} is another: "
            f"run `./aikit rollback {number} --stack {options.stack}`.",
            code=Exit.USAGE,
        )


def _let_go(options: Options, session: Session) -> None:
    """Let the engine forget the data volumes that only a newer program declares; they stay in Docker.

    It refuses to forget a protected one, and so every return from a release that added data.
    """
    from operations.plan import plan

    declared = {resource.name for resource in plan(options.stack, options.project.root).custom()}
    for resource in session.state().of_type(state.VOLUME):
        name = str(resource["urn"]).rpartition("::")[2]
        if resource.get("protect") and resource.get("retainOnDelete") and name not in declared:
            session.stack.unprotect(str(resource["urn"]))


def _refuse_loss(session: Session) -> None:
    """Refuse a return to an earlier program that would touch data.

    Raises:
        Failure: a data volume would be replaced or deleted; nothing was changed.
    """
    progress = Progress(f"comparing stack {session.name}", planning=True)
    session.run(progress, session.stack.preview)
    known = {str(resource["urn"]): resource for resource in session.state().resources}
    for urn, step in progress.changed.items():
        resource = known.get(urn)
        if resource is None or not state.holds_data(resource):
            continue
        # A volume of the newer program alone is only forgotten, and stays in Docker.
        if "replace" in step or (step == "delete" and not resource.get("retainOnDelete")):
            raise Failure(
                f"Going back would {'replace' if 'replace' in step else 'delete'} {progress.name(urn)}, which holds data; nothing was "
                "changed. Correct what is deployed now instead."
            )


def _return_to_last_good(options: Options, failed: history.Entry) -> history.Entry | None:
    """Bring the last good deployment back after a failed one, and return how that went; None if there was nothing to bring back."""
    deployments = history.History(options.project, options.stack)
    good = deployments.last_good(before=failed.number, unlike=failed.program)
    if good is None:
        warn("There is no earlier good deployment of another program to return to.")
        return None
    return _return_to(options, good)[1]


def _return_to(options: Options, entry: history.Entry) -> tuple[Exit, history.Entry | None]:
    rollback.announce(entry)
    deployments = history.History(options.project, options.stack)
    last = max((each.number for each in deployments.entries()), default=0)
    code = rollback.deploy_again(options.project, entry)
    made = next(
        (each for each in deployments.entries() if each.number > last and each.returns_to == entry.number), None
    )
    if code == Exit.OK:
        say(
            f"stack {options.stack}: returned to deployment {entry.number} ({entry.revision}). "
            "The next `./aikit up` deploys this folder's files again: correct them first."
        )
    else:
        fail(f"Stack {options.stack} could not be returned to deployment {entry.number}: see above.")
    return code, made


def return_to(options: Options, number: int | None) -> Exit:
    """Deploy an earlier deployment's program and settings again, and tell those who want to know.

    Args:
        options: of every command.
        number: of the deployment; None is the last good one before the present one that had another program.

    Raises:
        Failure: there is no such deployment, or its program is no longer kept.
    """
    _need_an_answer(options)
    target = history.History(options.project, options.stack).target(number)
    try:
        told = messages.receivers(options.project.settings(options.stack))
    except Failure as failure:
        # The settings of today may be why someone goes back.
        warn(f"Nobody is told of this: {' '.join(failure.messages)}")
        told = ()
    question = (
        f"Return stack {options.stack} to deployment {target.number} ({target.revision}, by {target.who})? Data stays."
    )
    if not options.yes and not click.confirm(question, err=True):
        return Exit.FAILED
    code, made = _return_to(options, target)
    if made:
        messages.send(told, made)
    return code


def preview(options: Options, *, refresh: bool, expect_no_changes: bool) -> Exit:
    """Show what `up` would change."""
    with prepared(options, "preview", change=False) as ready, ready.session() as session:
        if refresh:
            _need_logins(session)
        progress = Progress(f"comparing stack {options.stack}", planning=True)
        session.run(progress, session.stack.preview, refresh=refresh)
        _show_changes(progress, options)
        return Exit.DIFFERENT if progress.changed and expect_no_changes else Exit.OK


def refresh(options: Options) -> Exit:
    """Make the state what really exists."""
    with prepared(options, "refresh") as ready, ready.session() as session:
        recover(session, ready.in_docker)
        _need_logins(session)
        progress = Progress(f"reading what stack {options.stack} really is")
        session.run(progress, session.stack.refresh)
        say(
            f"stack {options.stack}: {_count(len(progress.changed))} differed from the state"
            if progress.changed
            else f"stack {options.stack}: the state is true"
        )
    return Exit.OK


def destroy(options: Options, *, data: bool, keep_images: bool) -> Exit:
    """Remove the stack from Docker; its data and secrets only with ``data``.

    What lives in the data volumes (databases, realm, accounts) stays in the state together with the generated secrets that open
    them, so the engine is not asked to delete those one by one: the containers go, and it is told to look again. The next `up` is
    then the same platform.
    """
    with prepared(options, "destroy", checked=False) as ready:
        found = state.read(options.project.state(options.stack))
        if (
            found is None
            and not ready.in_docker.containers()
            and not ready.in_docker.networks()
            and not (data and ready.in_docker.volumes())
        ):
            say(f"stack {options.stack}: nothing to remove")
            return Exit.OK
        _refuse_protected(found, options, data=data)
        if not _agree_to_destroy(options, data=data):
            return Exit.FAILED
        with ready.session() as session:
            before = session.state()
            images = [
                str(resource["outputs"].get("imageName", ""))
                for resource in before.of_type(state.IMAGE)
                if resource.get("outputs")
            ]
            containers = ready.in_docker.containers()
            ready.in_docker.remove_containers(stop_order(before, containers), _indented)
            ready.in_docker.remove_networks(_indented)
            ready.in_docker.remove_volumes(_indented, data=data)
            if not keep_images:
                ready.in_docker.remove_built(images, _indented)
            if data:
                session.stack.workspace.remove_stack(options.stack, force=True)
            elif targets := before.in_docker():
                _look_again(session, targets)
        _check_gone(ready.in_docker, data=data)
    say(
        f"stack {options.stack}: removed with all its data"
        if data
        else f"stack {options.stack}: removed; its data and secrets are kept for the next up"
    )
    return Exit.OK


def recover(session: Session, in_docker: StackInDocker) -> bool:
    """Put right what a killed run or a person left: orphans are removed, and the engine told of containers that do not run.

    It is told, too, of data volumes that were removed, and of what Vault has lost.

    Returns:
        Whether the engine has just looked at everything in Docker, so that no further refresh is needed. Where a container is
        missing, it must be none: asking a service that does not run for its users or roles would fail.
    """
    known = session.state()
    identifiers = frozenset(str(resource.get("id")) for resource in known.resources)
    containers = in_docker.containers()
    orphans = [container for container in containers if container.id not in identifiers]
    if orphans:
        say("removing what an interrupted run left behind")
        in_docker.remove_containers([orphans], _indented)
    if any(network.id not in identifiers for network in in_docker.networks()):
        in_docker.remove_networks(_indented, keep=identifiers)
    if any(f"{state.AUDIT}::" in urn for urn in known.unfinished()):
        containers = _start_again(in_docker, containers, VAULT)
    if everything_runs(known, containers) and not known.pending:
        return False
    targets = known.in_docker()
    data = {str(each.get("id")): str(each["urn"]) for each in known.of_type(state.VOLUME) if state.holds_data(each)}
    # Docker would make a volume that a container asks for, but not as the program declares it.
    targets += [data[name] for name in sorted(in_docker.missing_volumes(data))]
    vault = any(each.service == VAULT and each.health == "healthy" and each.id in identifiers for each in containers)
    if vault and not known.outdated_logins():
        # Nothing starts without what is in it, and where that was lost only this tells the engine.
        targets += known.in_vault()
    if targets := targets or [str(resource["urn"]) for resource in known.resources[:1]]:
        _look_again(session, targets, clear_pending_creates=bool(known.pending))
    return True


def _start_again(in_docker: StackInDocker, containers: list[Container], service: str) -> list[Container]:
    """Start a service again that a killed run may have left halfway, and return the containers when it is healthy.

    Vault does so with a log of accesses: where the request was cut off it is registered and in no list, until Vault starts anew.
    """
    for container in containers:
        if container.service == service and container.status == "running":
            say(f"starting {service} again, which an interrupted run left halfway")
            container.raw.restart()
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        found = in_docker.containers()
        waiting = [each for each in found if each.service == service and each.health not in HEALTHY]
        if not waiting or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _need_logins(session: Session) -> None:
    """Refuse to ask services that have another secret for the deployment's login than the state.

    Raises:
        Failure: a rotation was cut off in between.
    """
    if session.state().outdated_logins():
        raise Failure(
            f"A rotation of the deployment's own logins was interrupted: `./aikit up --stack {session.name}` finishes it."
        )


def everything_runs(known: state.State, containers: Iterable[Container]) -> bool:
    """Whether every container that the state or its outputs name is there and healthy, and can be logged in to where that is needed."""
    well = [container for container in containers if container.health in HEALTHY]
    expected = {str(resource.get("id")) for resource in known.of_type(state.CONTAINER)}
    # After a destroy that kept the data the state knows realm and accounts, but no container that could be asked for them.
    services = {str(service["container"]) for service in known.outputs().get("services", ())}
    return (
        expected <= {container.id for container in well}
        and services <= {container.name for container in well}
        and not known.outdated_logins()
    )


def _look_again(session: Session, targets: list[str], **options: Any) -> None:
    session.run(Progress("reading what is left in Docker"), session.stack.refresh, target=targets, **options)


def stop_order(known: state.State, containers: Iterable[Container]) -> list[list[Container]]:
    """Group containers so that each is stopped before those it depends on; unknown ones come first."""
    resources = {str(resource["urn"]): resource for resource in known.resources}

    @functools.cache
    def height(urn: str) -> int:
        """How long the longest chain is that ``urn`` depends on."""
        resource = resources.get(urn)
        if resource is None:
            return 0
        provider = str(resource.get("provider", "")).rpartition("::")[0]
        return 1 + max(
            (
                height(str(needed))
                for needed in [*(resource.get("dependencies") or ()), *([provider] if provider else [])]
            ),
            default=0,
        )

    heights = {str(resource.get("id")): height(str(resource["urn"])) for resource in known.of_type(state.CONTAINER)}
    groups: dict[int, list[Container]] = {}
    for container in containers:
        groups.setdefault(heights.get(container.id, len(resources) + 1), []).append(container)
    return [groups[key] for key in sorted(groups, reverse=True)]


@dataclass(frozen=True)
class Prepared:
    """What a command works with while it holds the run lock."""

    options: Options
    settings: Settings
    subject: checks.Subject
    in_docker: StackInDocker
    session: Callable[..., Any]
    """Opens a session; takes ``chosen`` of `open_session`."""


@contextmanager
def prepared(options: Options, command: str, *, checked: bool = True, change: bool = True) -> Generator[Prepared]:
    """Check everything that can be known beforehand, and hold the run lock meanwhile.

    Args:
        options: of the command.
        command: its name.
        checked: whether this machine has to be fit for a running platform; the state must be in order in any case.
        change: whether ports, memory and disk matter.
    """
    settings = options.project.settings(options.stack)
    with RunLock(options.project.local / f"{options.stack}.run", command) as lock:
        client = _docker(options)
        try:
            subject = checks.Subject(options.project, options.stack, settings, client)
            outcomes = (
                checks.examine(subject, clear=True)
                if checked and change
                else [checks.check_state(options.project, options.stack, clear=True)]
            )
            for check in outcomes:
                if check.level == "advice":
                    warn(check.message)
            if problems := [check.message for check in outcomes if check.level == "error"]:
                raise Failure(*problems)
            open_it = functools.partial(open_session, options.project, options.stack, settings, lock, command=command)
            yield Prepared(options, settings, subject, subject.in_docker(), open_it)
        finally:
            client.close()


def _docker(options: Options) -> Any:
    """Connect to Docker; where this machine has none, it is installed after asking.

    Raises:
        Failure: there is none, or it can't be reached.
    """
    from operations.containers import address, connect, is_local

    try:
        return connect()
    except Failure:
        if not is_local() or address() != "unix:///var/run/docker.sock":
            raise
        ensure_docker(agreed=options.yes)
        return connect()


def ensure_docker(*, agreed: bool) -> None:
    """Install and start Docker where it is missing.

    Raises:
        Failure: it can't be, or the person does not agree.
    """
    from operations.console import reporter
    from toolchain.docker_engine import ensure_docker as ensure

    with tools():
        ensure(reporter("docker"), lambda question: confirm(question, agreed=agreed))


def _check_policies(options: Options) -> None:
    """Judge the plan before anything is made of it.

    Raises:
        Failure: a mandatory policy forbids it.
    """
    if options.project.deploy is not platform:
        return  # The policies are about the platform, not about another program.
    from operations.plan import PlanError, plan
    from policies import check as policies

    try:
        planned = plan(options.stack, options.project.root)
    except SettingsError as error:
        raise Failure(*error.problems, code=Exit.USAGE) from error
    except PlanError as error:
        raise Failure(str(error)) from error
    review = policies.review(planned, options.stack)
    if review.blocking or review.violations:
        notes.print(policies.render(review))
    if review.blocking:
        raise Failure("The plan breaks a mandatory policy (see above); nothing was changed.")


def _need_an_answer(options: Options) -> None:
    if not options.yes and not interactive():
        raise Failure("Nobody can be asked here: run it with --yes to agree beforehand.", code=Exit.USAGE)


def _approve(session: Session, rotate: Mapping[str, str], *, refresh: bool) -> bool:
    """Show what would change and ask."""
    progress = Progress(f"comparing stack {session.name}", planning=True)
    session.run(progress, session.stack.preview, refresh=refresh, replace=list(rotate.values()) or None)
    if not progress.changed:
        return True
    for line in _changes(progress):
        notes.print(line)
    return click.confirm(f"Change {_count(len(progress.changed))}?", err=True)


def _changes(progress: Progress) -> Iterator[str]:
    marks = {
        "create": "[green]+ create[/]",
        "delete": "[red]- delete[/]",
        "update": "[yellow]~ update[/]",
        "replace": "[magenta]± replace[/]",
    }
    for urn, step in sorted(progress.changed.items(), key=lambda item: (item[1], item[0])):
        mark = marks.get("replace" if "replace" in step else step, step)
        yield f"  {mark} {progress.name(urn)}"


def _show_changes(progress: Progress, options: Options) -> None:
    if options.as_json:
        print_json({"changes": progress.changed})
        return
    for line in _changes(progress):
        notes.print(line)
    say(
        f"stack {options.stack}: {_count(len(progress.changed))} would change"
        if progress.changed
        else f"stack {options.stack}: {NOTHING_TO_CHANGE}"
    )


def _count(number: int) -> str:
    return f"{number} resource{'' if number == 1 else 's'}"


def _refuse_foreign(options: Options, in_docker: StackInDocker) -> None:
    """Refuse to take another checkout's containers for orphans: a killed run of this one would have left a state file."""
    path = options.project.state(options.stack)
    if path is not None and not path.exists() and (found := in_docker.containers()):
        raise Failure(
            f"Docker has containers of a stack {options.stack} ({', '.join(each.name for each in found[:3])} ...), but this "
            f"folder has no state of it: work in the folder that deployed them, or put its .aikit folder here, or remove "
            f"them with `./aikit destroy --stack {options.stack}` (data volumes stay, but not the secrets that open them)."
        )


def _refuse_protected(found: state.State | None, options: Options, *, data: bool) -> None:
    protected = [resource for resource in (found.of_type(state.VOLUME) if found else ()) if resource.get("protect")]
    if data and protected:
        raise Failure(
            f"The data of stack {options.stack} is protected (aikit:protect-data): set it to false in Pulumi.{options.stack}.yaml and "
            f"run `./aikit up --stack {options.stack}`, then destroy it."
        )


def _agree_to_destroy(options: Options, *, data: bool) -> bool:
    if options.yes:
        return True
    _need_an_answer(options)
    if not data:
        return click.confirm(
            f"Remove the containers, networks and built images of stack {options.stack}? Its data is kept.", err=True
        )
    warn(f"All data of stack {options.stack} will be lost: databases, accounts, conversations, models.")
    if click.prompt("Type the stack's name to go on", err=True, default="", show_default=False) != options.stack:
        say("not the stack's name: nothing was removed")
        return False
    return True


def _check_gone(in_docker: StackInDocker, *, data: bool) -> None:
    left: Mapping[str, list[Any]] = {
        "containers": in_docker.containers(),
        "networks": in_docker.networks(),
        "volumes": in_docker.volumes(data=data),
    }
    names = [f"{kind}: {', '.join(thing.name for thing in things)}" for kind, things in left.items() if things]
    if names:
        raise Failure(f"These are still in Docker: {'; '.join(names)}. Run the same command again.")


def _indented(line: str) -> None:
    say(f"  {line}")
