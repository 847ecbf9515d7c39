"""The Pulumi program: ``pulumi up`` runs it as it is, and ``./aikit up`` runs the same graph."""

import pulumi

import settings
from components.platform import deploy
from operations import plain

try:
    chosen = settings.load(pulumi.get_stack())
    deploy(chosen, plain.machine(chosen), pulumi.get_stack())
except settings.SettingsError as error:
    # A sentence for each, and no traceback: nothing in the program is at fault.
    raise pulumi.RunError("\n".join(error.problems)) from None
