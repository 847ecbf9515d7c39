"""Serves every provider until its standard input ends: ``python -m providers`` writes the value of ``PULUMI_DEBUG_PROVIDERS``.

Its arguments are the URNs of what a run that was killed may have made.
"""

import os
import sys

from providers.catalogue import PROVIDERS
from providers.server import serve

PATIENCE_SECONDS = 120.0
"""How long operations under way may go on when whoever started this was killed.

The engine then lives a while longer: what it hears of is in the state, and what was cut off would be there without it.
"""

servers = serve([provider() for provider in PROVIDERS], frozenset(sys.argv[1:]))
sys.stdout.write(f"{servers.environment}\n")
sys.stdout.flush()
# Nobody reads further lines.
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
# Ends with whoever started this, however that ends.
sys.stdin.read()
servers.close(patience=PATIENCE_SECONDS)
os._exit(0)
