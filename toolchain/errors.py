"""The one exception of this package."""


class ToolchainError(RuntimeError):
    """A tool or an image can't be made; the message is one sentence that names the cause and the cure."""
