"""What the models' jobs do, with a program in the place of ``ollama`` that writes down what it is asked."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.ai.ollama import fetch, remove_others
from operations import accelerator
from settings import Accelerator, OllamaModel

LISTED = "NAME ID SIZE MODIFIED\nllama3.2:latest a80c4f17acd5 2.0GB now\nold:1b 0123456789ab 1GB now\n"


class Shell:
    """Runs a job's commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said = folder / "said"
        self.has("llama3.2")
        program = folder / "ollama"
        program.write_text(
            f'#!/bin/sh\necho "$*" >> {self._said}\n'
            f'case "$1" in list) cat {folder}/list;; show) grep -q "^$2" {folder}/there;; esac\n'
        )
        program.chmod(0o755)
        (folder / "list").write_text(LISTED)

    def has(self, *names: str) -> None:
        """Make these the models that are there."""
        (self._folder / "there").write_text("\n".join(names))

    def __call__(self, command: str) -> tuple[int, list[str], str]:
        """Return the exit code, what ``ollama`` was asked, and what was said of errors."""
        self._said.write_text("")
        environment = {**os.environ, "PATH": f"{self._folder}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        return done.returncode, self._said.read_text().splitlines(), done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def model(**values: Any) -> OllamaModel:
    return OllamaModel.model_validate({"name": "llama3.2", **values})


def test_a_model_that_is_there_is_not_fetched_again(shell: Shell) -> None:
    assert shell(fetch(model())) == (0, ["show llama3.2"], "")
    shell.has()
    assert shell(fetch(model())) == (0, ["show llama3.2", "pull llama3.2"], "")


def test_another_digest_is_refused_and_removed(shell: Shell) -> None:
    assert shell(fetch(model(digest="a80c4f17acd5")))[0] == 0
    code, asked, error = shell(fetch(model(digest="ffffffffffff")))
    assert code == 1
    assert asked[-1] == "rm llama3.2"
    assert "has the digest a80c4f17acd5, not ffffffffffff as aikit:models says" in error


def test_a_changed_file_is_refused(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    right = hashlib.sha256(b"GGUF").hexdigest()
    for checksum, code, asked in ((right, 0, 1), ("0" * 64, 1, 0)):
        command = fetch(model(file=str(file), sha256=checksum)).replace("/model/", f"{tmp_path}/")
        result = shell(command)
        assert (result[0], len(result[1])) == (code, asked), result


def test_context_and_warmth(shell: Shell) -> None:
    code, asked, _ = shell(fetch(model(context_length=8192, warm=True)))
    assert code == 0
    assert asked == ["show llama3.2", "create llama3.2 -f /tmp/Modelfile", "run --keepalive -1s llama3.2 "]
    assert Path("/tmp/Modelfile").read_text() == "FROM llama3.2\nPARAMETER num_ctx 8192\n"  # noqa: S108


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sha256": "0" * 64}, "sha256 is for"),
        ({"digest": "0" * 12, "file": "m.gguf"}, "digest is for"),
        ({"answer_tokens": 4}, "answer_tokens is for"),
        ({"warm": True, "purpose": "embedding"}, "warm is for"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model(**values)


def test_what_is_not_in_the_settings_any_more_is_removed(shell: Shell) -> None:
    assert shell(remove_others([model()])) == (0, ["list", "rm old:1b"], "")
    assert shell(remove_others([model(), model(name="old:1b")])) == (0, ["list"], "")


@pytest.mark.spec("BASE-01", "OLL-06")
def test_the_accelerator_is_what_docker_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    device = tmp_path / "kfd"
    nothing: dict[str, Any] = {"Runtimes": {"runc": {}}}
    runtime = {"Runtimes": {"runc": {}, "nvidia": {}}}
    discovered = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}
    assert accelerator.find(nothing, device)[0] is Accelerator.CPU
    assert {accelerator.find(info, device)[0] for info in (runtime, discovered)} == {Accelerator.NVIDIA}
    assert "NVIDIA Container Toolkit" in str(accelerator.problem(Accelerator.NVIDIA, nothing, device))
    assert "amdgpu" in str(accelerator.problem(Accelerator.AMD, nothing, device))
    device.touch()
    assert accelerator.find(nothing, device)[0] is Accelerator.AMD
    for wanted in (Accelerator.AMD, Accelerator.AUTO, Accelerator.CPU):
        assert accelerator.problem(wanted, nothing, device) is None
    assert accelerator.problem(Accelerator.AMD, runtime, device) is None, "both cards, and the other one is wanted"
