"""Entry point of the policy pack: the engine runs this folder."""

import sys
from pathlib import Path

# The engine puts this folder on the path; the modules are found from the project's.
sys.path[:] = [
    str(Path(__file__).resolve().parent.parent),
    *(entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent),
]

from policies.pack import serve  # noqa: E402  # only found once the path is right

serve()
