"""The Pulumi program: ``pulumi up`` runs it as it is, and ``./aikit up`` runs the same graph."""

import pulumi

import settings
from components.images import Machine
from components.platform import deploy

deploy(settings.load(pulumi.get_stack()), Machine(), pulumi.get_stack())
