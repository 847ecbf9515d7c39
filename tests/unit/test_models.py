"""What the models' jobs are told, how a file is fetched, and which graphics card is found."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.ai.ollama import remove_others, task
from operations import accelerator, checks
from services.models import job
from settings import Accelerator, Ollama, OllamaModel

CONTENT = b"".join(hashlib.sha256(bytes([number])).digest() * (job.CHUNK // 32) for number in range(3)) + b"the end"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Files(http.server.BaseHTTPRequestHandler):
    """Gives out one file, in the middle if asked for, and breaks the connection as often as it is told."""

    content = CONTENT
    breaks = 0
    """How often an answer ends after one and a half pieces."""
    ranges = True
    asked: list[str | None]
    """Of each request which part it asked for."""

    def do_GET(self) -> None:
        """Answer, wholly or in part."""
        kind = type(self)
        kind.asked.append(self.headers["Range"])
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/model.gguf")
            self.end_headers()
            return
        begin = int(self.headers["Range"][6:-1]) if self.headers["Range"] and self.ranges else 0
        if begin >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        end = begin + job.CHUNK * 3 // 2 if kind.breaks else len(self.content)
        kind.breaks = max(0, kind.breaks - 1)
        self.wfile.write(self.content[begin:end])

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing."""


@pytest.fixture
def files() -> Iterator[tuple[type[Files], str]]:
    class Handler(Files):
        asked: list[str | None] = []  # noqa: RUF012 -- a class for each test

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Handler, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def fetch(url: str, path: Path, checksum: str = CHECKSUM, limit_mb: int = 0) -> None:
    job.download(url, path, checksum, model="m", limit_mb=limit_mb, pause=0)


def test_a_file_that_is_cut_off_goes_on_where_it_ended(files: tuple[type[Files], str], tmp_path: Path) -> None:
    server, address = files
    server.breaks = 2
    path = tmp_path / "downloads" / CHECKSUM
    fetch(f"{address}/elsewhere", path)
    assert path.read_bytes() == CONTENT
    # Each time by way of the redirect, whose target is asked for the same part.
    assert server.asked[::2] == [None, f"bytes={job.CHUNK * 3 // 2}-", f"bytes={job.CHUNK * 3}-"]
    # It is whole, but its job was killed before it could say so.
    fetch(f"{address}/model.gguf", path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_always_begins_anew_and_a_longer_old_half(files: tuple[type[Files], str], tmp_path: Path) -> None:
    server, address = files
    server.ranges = False
    path = tmp_path / "m"
    path.write_bytes(b"x" * 1000)
    fetch(f"{address}/m", path)
    assert path.read_bytes() == CONTENT


def test_what_is_given_up_is_kept_for_the_next_deployment(files: tuple[type[Files], str], tmp_path: Path) -> None:
    server, address = files
    server.content = CONTENT * 8
    server.breaks = job.TRIES
    path, checksum = tmp_path / "m", hashlib.sha256(server.content).hexdigest()
    with pytest.raises(job.ProblemError, match="the next deployment goes on with it"):
        fetch(f"{address}/m", path, checksum)
    assert path.stat().st_size == job.TRIES * job.CHUNK * 3 // 2
    fetch(f"{address}/m", path, checksum)
    assert server.asked[-1] == f"bytes={job.TRIES * job.CHUNK * 3 // 2}-"


@pytest.mark.parametrize(
    ("checksum", "limit_mb", "words"),
    [("0" * 64, 0, f"has the checksum {CHECKSUM}, not 0000"), (CHECKSUM, 3, "m has 4 MiB, but Ollama may use 3")],
)
def test_nothing_is_left_of_what_is_refused(
    files: tuple[type[Files], str], tmp_path: Path, checksum: str, limit_mb: int, words: str
) -> None:
    path = tmp_path / "m"
    with pytest.raises(job.ProblemError, match=words):
        fetch(f"{files[1]}/m", path, checksum, limit_mb)
    assert not path.exists()


def test_a_secure_address_never_leads_to_an_insecure_one() -> None:
    request = job.urllib.request.Request("https://example.org/m")
    with pytest.raises(job.ProblemError, match="which is not https"):
        job.SecureRedirects().redirect_request(request, None, 302, "", {}, "http://example.org/m")


def model(**values: Any) -> OllamaModel:
    return OllamaModel.model_validate({"name": "llama3.2", **values})


def servers(**values: Any) -> Ollama:
    return Ollama.model_validate(values)


def test_a_job_is_told_what_the_settings_say() -> None:
    warm = task(model(context_length=8192, warm=True), servers(replicas=3))
    assert warm["servers"] == ["http://ollama:11434", "http://ollama-2:11434", "http://ollama-3:11434"]
    assert (warm["warm"], warm["keep_alive"]) == (3, "-1s")
    assert warm["parameters"] == {"num_ctx": 8192}
    assert task(model(temperature=0), servers())["parameters"] == {"temperature": 0}, "0 is a temperature, too"
    assert warm["model"] == "llama3.2:latest"
    some = task(model(warm=True, replicas=2, keep_alive="90"), servers(replicas=3))
    assert (some["warm"], some["keep_alive"]) == (2, "90s")
    assert task(model(keep_alive="1h"), servers())["warm"] == 0
    there = {"sha256": "0" * 64, "answer_tokens": 4}
    address = task(model(url="http://localhost:8000/a/b.gguf?c=d", **there), servers())["url"]
    assert address == "http://host.docker.internal:8000/a/b.gguf?c=d"
    assert task(model(url="https://example.org/b.gguf", **there), servers())["url"] == "https://example.org/b.gguf"
    swept = remove_others([model(), model(name="b", url="https://example.org/b.gguf", **there)], servers(replicas=2))
    assert (swept["kept"], swept["downloads"]) == (["llama3.2:latest", "b:latest"], ["0" * 64])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sha256": "0" * 64}, "sha256, which is for"),
        ({"digest": "0" * 12, "file": "m.gguf"}, "digest, which is for"),
        ({"answer_tokens": 4}, "answer_tokens, which is for"),
        ({"digest": "0" * 12, "temperature": 0}, "without context_length and temperature"),
        ({"warm": True, "purpose": "embedding"}, "warm, which is for"),
        ({"url": "https://example.org/m.gguf"}, "must have the sha256"),
        ({"url": "https://example.org/m.gguf", "sha256": "0" * 64, "file": "m"}, "from one of them only"),
        ({"replicas": 2}, "must be warm"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model(**values)


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


@pytest.mark.spec("BASE-01", "OLL-06")
def test_fewer_cards_than_servers_is_said_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    discovered = {"DiscoveredDevices": [{"ID": f"nvidia.com/gpu={name}"} for name in ("0", "1", "all", "GPU-1")]}
    assert accelerator.count(Accelerator.NVIDIA, discovered, tmp_path) == 2
    assert accelerator.count(Accelerator.NVIDIA, {}, tmp_path) is None
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert accelerator.count(Accelerator.NVIDIA, {}, tmp_path) == 1
    (tmp_path / "dev/dri/renderD128").mkdir(parents=True)
    assert accelerator.count(Accelerator.AMD, {}, tmp_path) == 1
    words = "aikit:ollama-replicas is 3, but there are 2 graphics cards"
    assert words in str(accelerator.too_few(Accelerator.NVIDIA, servers(replicas=3), discovered, tmp_path))
    assert accelerator.too_few(Accelerator.NVIDIA, servers(replicas=2), discovered, tmp_path) is None
    assert accelerator.too_few(Accelerator.CPU, servers(replicas=9), discovered, tmp_path) is None
    words = "aikit:ollama-gpu-count is 4, but there are 2 graphics cards"
    assert words in str(accelerator.too_few(Accelerator.NVIDIA, servers(gpu_count=4), discovered, tmp_path))
    words = "aikit:ollama-gpu-device-ids names 7, but there is 1 graphics card"
    assert words in str(accelerator.too_few(Accelerator.NVIDIA, servers(gpu_device_ids=["0", "7"]), {}, tmp_path))
    assert accelerator.too_few(Accelerator.NVIDIA, servers(gpu_device_ids=["0", "GPU-1"]), {}, tmp_path) is None


def test_where_the_library_says_how_large_a_model_is() -> None:
    addresses = {
        "llama3.2:latest": "https://registry.ollama.ai/v2/library/llama3.2/manifests/latest",
        "ada/mine:1b": "https://registry.ollama.ai/v2/ada/mine/manifests/1b",
        "hf.co/ada/mine:Q4": "https://hf.co/v2/ada/mine/manifests/Q4",
    }
    for name, address in addresses.items():
        assert checks.library_address(name) == address
