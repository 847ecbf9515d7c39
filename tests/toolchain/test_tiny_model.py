"""The tiny model: always the same small file, and the real Ollama answers with it where its image is there."""

import json
import time
import uuid
from pathlib import Path
from urllib.request import Request, urlopen

import docker
import gguf
import pytest
from docker.errors import DockerException

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


def ask(address: str, path: str, content: object) -> dict[str, object]:
    request = Request(f"{address}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as response:
        return json.load(response)


def test_ollama_answers_with_it(tmp_path: Path) -> None:
    try:
        client = docker.from_env()
        images = [tag for image in client.images.list("aikit/ollama") for tag in image.tags]
    except DockerException:
        pytest.skip("no Docker daemon")
    if not images:
        pytest.skip("no image aikit/ollama")
    tiny_model(tmp_path / "tiny.gguf")
    (tmp_path / "Modelfile").write_text("FROM /models/tiny.gguf\nPARAMETER num_predict 8\n")
    container = client.containers.run(
        images[0],
        name=f"tiny-model-{uuid.uuid4().hex[:8]}",
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "", "/root/.ollama": ""},  # noqa: S108
        volumes={str(tmp_path): {"bind": "/models", "mode": "ro"}},
    )
    try:
        for _ in range(60):
            if container.exec_run(["ollama", "ls"]).exit_code == 0:
                break
            time.sleep(0.5)
        created = container.exec_run(["ollama", "create", "tiny", "-f", "/models/Modelfile"])
        assert created.exit_code == 0, created.output
        container.reload()
        network = next(iter(container.attrs["NetworkSettings"]["Networks"].values()))
        answer = ask(
            f"http://{network['IPAddress']}:11434",
            "/api/chat",
            {"model": "tiny", "stream": False, "messages": [{"role": "user", "content": "Hello"}]},
        )
        message = answer["message"]
        assert isinstance(message, dict)
        assert message["content"]
        assert answer["eval_count"] == 8
    finally:
        container.remove(force=True, v=True)
