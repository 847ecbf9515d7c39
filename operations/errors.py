"""How a command ends: its exit codes, and the one exception that carries a message for the person."""

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

from toolchain.errors import ToolchainError


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    """Something went wrong, or a policy forbids it."""
    USAGE = 2
    """The command line or a setting is wrong; nothing was changed."""
    DIFFERENT = 3
    """Changes where none were expected, or a service that is not healthy."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C or a signal; the next ``up`` finishes what was begun."""


class Failure(Exception):  # noqa: N818  # it ends a command in an orderly way; nothing in the program is at fault
    """A command can't go on; each message is a sentence or two that name the cause and the cure."""

    def __init__(self, *messages: str, code: Exit = Exit.FAILED) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages
        self.code = code


@contextmanager
def tools() -> Generator[None]:
    """Let the command fail with what the toolchain says it can't make."""
    try:
        yield
    except ToolchainError as error:
        raise Failure(str(error)) from error
