"""The real Ollama with a model of a file, where its image is there."""

# Docker's library is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import docker
import pytest
from docker.errors import DockerException


@dataclass(frozen=True)
class Ollama:
    """A server with one model."""

    container: Any

    def chat(self, question: str, **options: Any) -> dict[str, Any]:
        """Ask the model, and return all that Ollama says."""
        self.container.reload()
        network = next(iter(self.container.attrs["NetworkSettings"]["Networks"].values()))
        content = {
            "model": "model",
            "stream": False,
            "messages": [{"role": "user", "content": question}],
            "options": {"seed": 1, "temperature": 0, **options},
        }
        request = Request(
            f"http://{network['IPAddress']}:11434/api/chat",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=300) as response:
            return json.load(response)


@pytest.fixture
def ollama() -> Generator[Callable[[Path], Ollama]]:
    """Return what makes a server with the model of a file."""
    try:
        client = docker.from_env()
        images = [tag for image in client.images.list("aikit/ollama") for tag in image.tags]
    except DockerException:
        pytest.skip("no Docker daemon")
    if not images:
        pytest.skip("no image aikit/ollama")
    made: list[Any] = []

    def serve(file: Path) -> Ollama:
        container: Any = client.containers.run(
            images[0],
            name=f"toolchain-test-{uuid.uuid4().hex[:8]}",
            detach=True,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "", "/root/.ollama": ""},  # noqa: S108
            volumes={str(file): {"bind": "/models/model.gguf", "mode": "ro"}},
        )
        made.append(container)
        deadline = time.monotonic() + 60
        while container.exec_run(["ollama", "ls"]).exit_code != 0:
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.5)
        created = container.exec_run(
            ["sh", "-c", "echo FROM /models/model.gguf > /tmp/Modelfile && ollama create model -f /tmp/Modelfile"]
        )
        assert created.exit_code == 0, created.output.decode()
        return Ollama(container)

    yield serve
    for container in made:
        container.remove(force=True, v=True)
