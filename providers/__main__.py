"""Serves every provider until its standard input ends: ``python -m providers`` writes the value of ``PULUMI_DEBUG_PROVIDERS``."""

import os
import sys

from providers.catalogue import PROVIDERS
from providers.server import serve

with serve([provider() for provider in PROVIDERS]) as servers:
    sys.stdout.write(f"{servers.environment}\n")
    sys.stdout.flush()
    # Nobody reads further lines.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Ends with whoever started this, however that ends.
    sys.stdin.read()
# Operations under way are cut off; an ordinary end would wait for them.
os._exit(0)
