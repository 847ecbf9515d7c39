"""The tiny model: always the same small file, and the real Ollama answers with it where its image is there."""

from collections.abc import Callable
from pathlib import Path

import gguf

from tests.toolchain.conftest import Ollama
from toolchain.tiny_model import tiny_model


def test_small_and_deterministic(tmp_path: Path) -> None:
    first, second = tmp_path / "one.gguf", tmp_path / "deep/two.gguf"
    tiny_model(first)
    tiny_model(second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 1_000_000


def test_is_a_llama_with_a_chat_template(tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.gguf")
    reader = gguf.GGUFReader(tmp_path / "tiny.gguf")

    def value(key: str) -> str | list[str]:
        field = reader.get_field(key)
        assert field is not None, key
        return field.contents()

    assert value("general.architecture") == "llama"
    assert "message" in value("tokenizer.chat_template")
    vocabulary = value("tokenizer.ggml.tokens")
    shapes = {tensor.name: list(tensor.shape) for tensor in reader.tensors}
    assert shapes["token_embd.weight"][1] == len(vocabulary)


def test_ollama_answers_with_it(ollama: Callable[[Path], Ollama], tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.gguf")
    answer = ollama(tmp_path / "tiny.gguf").chat("Hello", num_predict=8)
    assert answer["message"]["content"]
    assert answer["eval_count"] == 8
