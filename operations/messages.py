"""Messages about deployments, to whatever Apprise knows: chats, e-mail, webhooks.

A receiver that can't be reached is said and changes nothing; one that is named wrongly is refused before anything is deployed.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from operations.console import warn
from operations.errors import Exit, Failure
from operations.history import Entry, Result
from settings import Settings, named_file

VARIABLE = "AIKIT_MESSAGES"
"""Names receivers beside those of the settings: a pipeline's secret."""

REASON_LENGTH = 600
"""Characters of a failure's reason in a message; the whole is in the history."""


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """Somebody who is told. Their address is a secret: whoever knows it can write there."""

    where: str
    """Where the address was found; shown instead of it."""
    server: Any
    """Apprise's object for it."""


def receivers(settings: Settings) -> tuple[Receiver, ...]:
    """Return who is to be told about the deployments of a stack.

    Raises:
        Failure: the file can't be read, or an address is none; exit code 2.
    """
    lines: list[tuple[str, str]] = []
    if name := settings.deployments.messages_file:
        setting = "aikit:deployments-messages-file"
        try:
            text = named_file(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{setting} is {name!r}, which cannot be read: {error}.", code=Exit.USAGE) from error
        lines += [(f"line {number} of {name} ({setting})", line) for number, line in enumerate(text.splitlines(), 1)]
    for number, address in enumerate(os.environ.get(VARIABLE, "").split(), 1):
        lines.append((f"address {number} of {VARIABLE}", address))
    lines = [(where, line.strip()) for where, line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        return ()
    import logging

    from apprise import Apprise

    # What it logs quotes addresses; why a message did not arrive is said by `send`.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    made: list[Receiver] = []
    for where, address in lines:
        server = Apprise.instantiate(address)
        if server is None:
            raise Failure(
                f"{where} is no address of a receiver, such as mailtos://user:password@example.org, slack://... or "
                "jsons://example.org/path; https://appriseit.com/services/ lists the kinds.",
                code=Exit.USAGE,
            )
        made.append(Receiver(where=where, server=server))
    return tuple(made)


def send(to: Sequence[Receiver], entry: Entry, *, after: Entry | None = None) -> None:
    """Tell how a deployment ended; a receiver that does not answer is only warned of.

    Args:
        to: who is told.
        entry: the deployment.
        after: the rollback that followed it; None for none.
    """
    if not to or entry.result in {Result.RUNNING, Result.DECLINED}:
        return
    from apprise import NotifyType

    kind = NotifyType.SUCCESS if entry.good else NotifyType.FAILURE
    if after is not None and after.good:
        kind = NotifyType.WARNING

    def tell(receiver: Receiver) -> bool:
        try:
            return bool(receiver.server.notify(title=_title(entry, after), body=_body(entry), notify_type=kind))
        except Exception:
            # Whatever a kind of receiver raises: the deployment has ended, and its exit code is not to say otherwise.
            return False

    with ThreadPoolExecutor(max_workers=len(to), thread_name_prefix="message") as executor:
        for receiver, arrived in zip(to, executor.map(tell, to), strict=True):
            if not arrived:
                warn(f"The message about this deployment did not reach {receiver.where}; the deployment is as it is.")


def _title(entry: Entry, after: Entry | None) -> str:
    what = "rotation of secrets" if entry.rotates else "deployment"
    if entry.returns_to is not None:
        what = f"return to deployment {entry.returns_to}"
    text = f"Stack {entry.stack}: {what} {entry.result.value}"
    if after is None:
        return text
    return f"{text}, return to deployment {after.returns_to} {after.result.value}"


def _body(entry: Entry) -> str:
    took = "" if entry.seconds is None else f" in {entry.seconds:.0f} s"
    lines = [
        f"Deployment {entry.number} of {entry.revision} by {entry.who}: {entry.change_text}{took}.",
        f"Secrets with {entry.rotation_text}." if entry.rotates else "",
        entry.reason if len(entry.reason) <= REASON_LENGTH else f"{entry.reason[:REASON_LENGTH]} ...",
        entry.run,
    ]
    return "\n".join(line for line in lines if line)
