"""The models' servers, their jobs and their queue as the platform runs them, and a library that is like Ollama's own.

The containers are those of the plan; only names, images and networks are the test's own.
"""

# Docker's library is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
import dataclasses
import datetime
import hashlib
import http.server
import io
import json
import re
import secrets
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import requests

from operations.plan import Plan
from providers.docker.spec import container_config
from providers.tls import PrivateKey, SelfSignedCert
from tests.unit.test_platform import container, uploads, variant
from toolchain.tiny_model import tiny_model

PREFIX = f"aikit-models-test-{secrets.token_hex(3)}"
PORTS = {"haproxy": (11434, 8405), "telegraf": (9273,)}
"""Ports of those containers that have files and are asked from outside."""

LIBRARY = "library.test"
"""Host name of the library, which any model may be named by."""

SERVE = """
import http.server, json, pathlib, ssl, sys

class Library(http.server.SimpleHTTPRequestHandler):
    # A registry with one model, whose contents are at another host, and plain files, in parts if asked for.
    def do_GET(self):
        path = pathlib.Path("/srv" + self.path)
        if "/blobs/" in self.path and self.headers["Host"] == "library.test":
            self.send_response(307)
            self.send_header("Location", "https://store.test" + self.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        wanted = self.headers["Range"]
        begin, _, end = wanted[6:].partition("-") if wanted else ("0", "", "")
        begin, end = int(begin), int(end) + 1 if end else len(content)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[begin:end])

    def do_HEAD(self):
        path = pathlib.Path("/srv" + self.path)
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(path.stat().st_size if path.is_file() else 0))
        self.end_headers()

server = http.server.ThreadingHTTPServer(("", 443), Library)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/certificate.pem", "/srv/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def newest(docker_client: Any, name: str) -> str:
    """Return the newest local image of a service."""
    images = docker_client.images.list(name=f"aikit/{name}")
    if not images:
        pytest.skip(f"there is no local image aikit/{name}; build the images first")
    return max(images, key=lambda item: str(item.attrs["Created"])).tags[0]


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return files as an archive, with the folders that they need."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o444
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclasses.dataclass
class Machine:
    """Containers of plans, on one network and with one models' volume."""

    docker: Any
    images: Mapping[str, str]
    authority: str
    """PEM file of the library's certificate, which servers and jobs trust."""
    tiny: Path

    def start(self, plan: Plan, name: str, kind: str) -> Any:
        """Make a container of a plan from an image and start it."""
        inputs = copy.deepcopy(container(plan, name))
        volumes = inputs.setdefault("volumes", [])
        for volume in volumes:
            if volume.get("volumeName"):
                volume["volumeName"] = volume["volumeName"].replace("aikit-dev", PREFIX)
        volumes.append({"hostPath": self.authority, "containerPath": "/authority.pem", "readOnly": True})
        inputs["envs"] = [*inputs.get("envs", ()), "SSL_CERT_FILE=/authority.pem"]
        inputs |= {
            "name": f"{PREFIX}-{name}",
            "image": self.images[kind],
            "networksAdvanced": [{"name": PREFIX, "aliases": [name]}],
            "labels": [{"label": PREFIX, "value": ""}],
            "ports": [],
        }
        self.remove(name)
        if name in PORTS:
            files = uploads(plan, name)
            self._put(f"{PREFIX}-{name}-files", files)
            if name == "haproxy":
                secrets = {"certificate.pem": self._bundle(), "answers-password": "of no Redis"}
                self._put(f"{PREFIX}-{name}-secrets", secrets)
            inputs["ports"] = [{"internal": port, "external": 0, "ip": "127.0.0.1"} for port in PORTS[name]]
        self.docker.api.create_container_from_config(container_config(inputs), inputs["name"])
        made = self.docker.containers.get(inputs["name"])
        made.start()
        return made

    def _bundle(self) -> str:
        folder = Path(self.authority).parent
        return (folder / "certificate.pem").read_text() + (folder / "key.pem").read_text()

    def _put(self, volume: str, files: Mapping[str, str]) -> None:
        carrier = self.docker.containers.create(
            self.images["haproxy"], volumes={volume: {"bind": "/etc/aikit", "mode": "rw"}}, labels=[PREFIX]
        )
        carrier.put_archive("/etc/aikit", archive({name: text.encode() for name, text in files.items()}))
        carrier.remove(v=True)

    def remove(self, name: str) -> None:
        """Remove a container if there is one."""
        try:
            self.docker.containers.get(f"{PREFIX}-{name}").remove(force=True, v=True)
        except docker.errors.NotFound:
            return

    def serve(self, plan: Plan, *names: str) -> None:
        """Start servers one after the other, as a deployment does, and wait until they are healthy."""
        for name in names:
            made = self.start(plan, name, "ollama")
            wait(lambda made=made: healthy(made), f"{name} is not healthy")

    def job(self, plan: Plan, name: str) -> tuple[int, str]:
        """Run a job, and return its exit code and what it said."""
        made = self.start(plan, name, "open-webui")
        code = made.wait(timeout=120)["StatusCode"]
        said = made.logs().decode()
        self.remove(name)
        return code, said

    def run(self, name: str, *command: str) -> str:
        """Run a command in a container and return what it prints."""
        code, output = self.docker.containers.get(f"{PREFIX}-{name}").exec_run(list(command))
        assert code == 0, output.decode()
        return output.decode()

    def models(self, name: str, command: str) -> dict[str, str]:
        """Return name and digest of the models that a server has (``list``) or has loaded (``ps``)."""
        lines = self.run(name, "ollama", command).splitlines()[1:]
        return {line.split()[0]: line.split()[1] for line in lines}

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Put files where the library gives them out."""
        self.docker.containers.get(f"{PREFIX}-library").put_archive("/srv", archive(files))


def healthy(made: Any) -> bool:
    made.reload()
    return made.attrs["State"].get("Health", {}).get("Status") == "healthy"


def wait(done: Any, message: str, seconds: float = 90) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, message
        time.sleep(0.3)


def registry(model: bytes) -> dict[str, bytes]:
    """Return what a registry has for a model of one file."""
    config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
    contents = {hashlib.sha256(content).hexdigest(): content for content in (config, model)}
    entries = [
        {"mediaType": f"application/vnd.{kind}", "digest": f"sha256:{digest}", "size": len(content)}
        for kind, (digest, content) in zip(
            ("docker.container.image.v1+json", "ollama.image.model"), contents.items(), strict=True
        )
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": entries[0],
        "layers": entries[1:],
    }
    folder = "v2/models/tiny"
    return {
        f"{folder}/manifests/latest": json.dumps(manifest).encode(),
        **{f"{folder}/blobs/sha256:{digest}": content for digest, content in contents.items()},
    }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a network with a library; everything is removed after the last test."""
    client = docker.from_env()
    images = {name: newest(client, name) for name in ("ollama", "open-webui", "haproxy", "telegraf")}
    folder = tmp_path_factory.mktemp("models")
    key = PrivateKey().create(None, {"algorithm": "ECDSA", "ecdsaCurve": "P256"}).outputs["privateKeyPem"]
    made = SelfSignedCert().create(
        None,
        {
            "privateKeyPem": key,
            "subject": {"commonName": LIBRARY},
            "dnsNames": [LIBRARY, "store.test"],
            "allowedUses": ["server_auth"],
            "validityPeriodHours": 1,
            "isCaCertificate": True,
            "setSubjectKeyId": True,
            "setAuthorityKeyId": False,
        },
    )
    (folder / "certificate.pem").write_text(made.outputs["certPem"])
    (folder / "key.pem").write_text(key)
    tiny_model(folder / "tiny.gguf")
    network = client.networks.create(PREFIX, labels={PREFIX: ""})
    library = client.containers.create(
        images["open-webui"],
        entrypoint=["python3", "-c", SERVE],
        name=f"{PREFIX}-library",
        labels=[PREFIX],
        networking_config={PREFIX: client.api.create_endpoint_config(aliases=[LIBRARY, "store.test"])},
        network=PREFIX,
    )
    subject = Machine(client, images, str(folder / "certificate.pem"), folder / "tiny.gguf")
    subject.publish({"certificate.pem": made.outputs["certPem"].encode(), "key.pem": key.encode()})
    library.start()
    yield subject
    for each in client.containers.list(all=True, filters={"label": PREFIX}):
        each.remove(force=True, v=True)
    for name in ("ollama-models", "haproxy-files", "haproxy-secrets", "telegraf-files"):
        try:
            client.volumes.get(f"{PREFIX}-{name}").remove()
        except docker.errors.NotFound:
            continue
    network.remove()


def planned(*models: Mapping[str, Any], **values: Any) -> Plan:
    return variant("dev", models=[dict(model) for model in models], **values)


NAME = f"{LIBRARY}/models/tiny"
JOB = "model-library-test-models-tiny"


@pytest.mark.spec("OLL-01", "OLL-02", "OLL-03", "OLL-05", "OLL-07", "K-08", "K-09")
def test_two_servers_with_one_store_stay_warm_and_share_the_queue(machine: Machine) -> None:
    """One after the other on purpose: each step needs the one before, and starting servers is what takes time."""
    tiny = {"name": "tiny", "file": str(machine.tiny), "answer_tokens": 400, "warm": True}
    # Ollama tells models apart by their file, so another one needs other bytes.
    other = machine.tiny.with_name("other.gguf")
    other.write_bytes(machine.tiny.read_bytes() + bytes(16))
    second = {"name": "second", "file": str(other), "warm": True, "replicas": 1, "keep_alive": "1h"}
    plan = planned(
        tiny,
        second,
        ollama_replicas=2,
        ollama_requests_in_flight=2,
        ollama_queue_length=4,
        monitoring_docker_socket="",
        monitoring_scrape_seconds=1,
    )
    machine.serve(plan, "ollama", "ollama-2")
    for name in ("model-tiny", "model-second"):
        code, said = machine.job(plan, name)
        assert code == 0, said
        assert machine.job(plan, name)[0] == 0, "run again, it fails"
    assert set(machine.models("ollama", "ps")) == {"tiny:latest", "second:latest"}
    assert set(machine.models("ollama-2", "ps")) == {"tiny:latest"}
    assert machine.models("ollama-2", "list") == machine.models("ollama", "list")
    until = machine.run("ollama", "ollama", "ps")
    assert re.search(r"tiny:latest.*Forever", until), until
    assert re.search(r"second:latest.*(About an hour|minutes) from now", until), until

    # A crash: Docker starts it again, and it is warm before anybody asks.
    for name in ("ollama", "ollama-2"):
        server = machine.docker.containers.get(f"{PREFIX}-{name}")
        warm = machine.models(name, "ps")
        server.exec_run(["sh", "-c", "kill -9 -1"])
        wait(lambda server=server: restarted(server), f"{name} did not come back")
        wait(lambda name=name, warm=warm: loaded(machine, name) == set(warm), f"{name} is not warm again")
        # One that has just ended is there until its parent has asked how it ended.
        wait(lambda name=name: not zombies(machine, name), f"{name} has processes that nobody reaps")

    queue(machine, plan)
    swept = planned(tiny, ollama_replicas=2)
    code, said = machine.job(swept, "models-removed")
    assert (code, said) == (0, "second:latest: removed, as aikit:models does not name it\n")
    assert set(machine.models("ollama-2", "list")) == {"tiny:latest"}


def zombies(machine: Machine, name: str) -> int:
    return int(machine.run(name, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true"))


def restarted(server: Any) -> bool:
    server.reload()
    return server.attrs["RestartCount"] > 0 and healthy(server)


def loaded(machine: Machine, name: str) -> set[str]:
    return set(machine.models(name, "ps"))


def address(made: Any, port: int) -> str:
    """Return where a container's port can be reached."""
    made.reload()
    return f"http://127.0.0.1:{made.ports[f'{port}/tcp'][0]['HostPort']}"


def measure(machine: Machine, plan: Plan) -> None:
    """Ask each server, by way of the queue, what it has loaded, and see that both are told apart."""
    telegraf = machine.start(plan, "telegraf", "telegraf")
    wait(lambda: healthy(telegraf), f"telegraf is not healthy: {telegraf.logs(tail=20)}")

    def found() -> set[tuple[str, ...]]:
        text = requests.get(f"{address(telegraf, 9273)}/metrics", timeout=10).text
        return set(
            re.findall(r'^ollama_model_memory_bytes{model="([^"]+)",server="([^"]+)"} [1-9]', text, re.MULTILINE)
        )

    expected = {("tiny:latest", "ollama"), ("tiny:latest", "ollama-2"), ("second:latest", "ollama")}
    wait(lambda: found() == expected, f"not measured: {telegraf.logs(tail=5)}")
    machine.remove("telegraf")


def queue(machine: Machine, plan: Plan) -> None:
    """Ask both servers by way of the queue: together, more than there is room for, and when one of them is gone."""
    proxy = machine.start(plan, "haproxy", "haproxy")
    wait(lambda: healthy(proxy), f"the proxy is not healthy: {proxy.logs(tail=20)}")
    door, measurements = address(proxy, 11434), address(proxy, 8405)

    def measured(name: str) -> dict[str, float]:
        lines = requests.get(f"{measurements}/metrics", timeout=10).text
        return {
            found[1]: float(found[2])
            for found in re.finditer(
                rf'^{name}{{proxy="ollama"(?:,server="([^"]+)")?[^}}]*}} (\S+)$', lines, re.MULTILINE
            )
        }

    def ask(tokens: int = 20, person: str = "") -> tuple[int, str]:
        body = {"model": "tiny", "prompt": "?", "stream": False, "options": {"num_predict": tokens}}
        headers = {"X-OpenWebUI-User-Id": person} if person else {}
        answer = requests.post(f"{door}/api/generate", json=body, headers=headers, timeout=180)
        return answer.status_code, answer.headers.get("Retry-After", "")

    def people(number: int) -> list[str]:
        return [f"person {each}" for each in range(number)]

    wait(lambda: measured("haproxy_backend_active_servers") == {None: 2}, "the proxy does not see both servers")
    with ThreadPoolExecutor(32) as pool:
        assert {code for code, _ in pool.map(ask, [20] * 8, people(8))} == {200}
        # Each has two at the start; who is quicker has more of the rest.
        assert min(measured("haproxy_server_sessions_total").values()) >= 2, "one server did all the work"
        before = computed(machine)
        answers = list(pool.map(ask, [30] * 32, people(32)))
        assert computed(machine) - before == sum(code == 200 for code, _ in answers), "lost, or computed twice"
        # Two of the four places to wait are for people, and nobody has more than two.
        for many in ([""] * 16, ["one person"] * 16):
            flood = [pool.submit(ask, 400, person) for person in many]
            time.sleep(0.3)
            assert ask(5, "another person")[0] == 200, "there is no place left for others"
            codes = [each.result()[0] for each in flood]
            assert codes.count(200) >= 6
            assert 503 in codes
    assert {answer for answer in answers if answer[0] != 200} == {(503, "10")}
    assert 8 <= sum(code == 200 for code, _ in answers) < 32
    assert max(measured("haproxy_server_max_sessions").values()) == 2
    assert max(measured("haproxy_backend_max_queue").values()) <= 4 + 2, "the queue has no bound"

    def shown(server: str) -> int:
        return requests.get(f"{door}/api/ps", params={"server": server}, timeout=40).status_code

    sizes = [
        len(requests.get(f"{door}/api/ps", params={"server": name}, timeout=10).json()["models"])
        for name in ("ollama", "ollama-2", "ollama")
    ]
    assert sizes == [2, 1, 2], "the servers were not told apart"
    measure(machine, plan)
    keep_alives(machine, door)
    machine.docker.containers.get(f"{PREFIX}-ollama-2").stop(timeout=1)
    wait(lambda: shown("ollama-2") == 503, "the proxy does not see that one is gone")
    assert shown("ollama") == 200
    with ThreadPoolExecutor(4) as pool:
        assert {code for code, _ in pool.map(ask, [20] * 4)} == {200}
    machine.docker.containers.get(f"{PREFIX}-ollama-2").start()
    wait(lambda: shown("ollama-2") == 200, "the proxy does not see that it is back")


def computed(machine: Machine) -> int:
    """Return how many questions the servers have answered."""
    logs = [machine.docker.containers.get(f"{PREFIX}-{name}").logs().decode() for name in ("ollama", "ollama-2")]
    return sum(len(re.findall(r'POST\s+"/api/generate"', text)) for text in logs)


@pytest.mark.spec("OLL-02", "OLL-03")
def test_one_place_is_given_in_the_order_of_asking_and_waiting_ends(machine: Machine) -> None:
    tiny = {"name": "tiny", "file": str(machine.tiny), "answer_tokens": 400}
    plan = planned(tiny, ollama_requests_in_flight=1, ollama_queue_timeout_seconds=3, monitoring_docker_socket="")
    machine.remove("ollama-2")
    machine.serve(plan, "ollama")
    assert machine.job(plan, "model-tiny")[0] == 0
    proxy = machine.start(plan, "haproxy", "haproxy")
    wait(lambda: healthy(proxy), f"the proxy is not healthy: {proxy.logs(tail=20)}")
    door = address(proxy, 11434)
    ended: list[int] = []

    def ask(number: int, patience: float = 60) -> Any:
        body = {"model": "tiny", "prompt": f"{number}", "stream": False, "options": {"num_predict": 60}}
        answer = requests.post(f"{door}/api/generate", json=body, timeout=patience)
        ended.append(number)
        return answer

    def count() -> int:
        return server.logs().decode().count('"/api/generate"')

    wait(lambda: requests.get(f"{door}/api/tags", timeout=10).status_code == 200, "the proxy does not see the server")
    server = machine.docker.containers.get(f"{PREFIX}-ollama")
    with ThreadPoolExecutor(16) as pool:
        asked: list[Any] = []
        for number in range(8):
            asked.append(pool.submit(ask, number))
            time.sleep(0.03)
        assert {each.result().status_code for each in asked} == {200}
        assert ended == list(range(8))

        server.pause()
        before = count()
        first = pool.submit(ask, 100)
        time.sleep(0.2)
        with pytest.raises(requests.exceptions.ReadTimeout):
            ask(101, 0.5)
        late = ask(102)
        server.unpause()
        assert (late.status_code, late.headers["Retry-After"]) == (503, "10")
        assert first.result().status_code == 200
        assert ask(103).status_code == 200
        assert count() - before == 2, "somebody who had left was answered"


def keep_alives(machine: Machine, door: str) -> None:
    """Let a model be unloaded, ask for it in many ways, and look how long it stays."""

    def stays(**values: Any) -> float:
        """Return for how many minutes a model stays after a request that is 3 to 300000 letters long."""
        machine.run("ollama", "ollama", "stop", "second")
        machine.run("ollama-2", "ollama", "stop", "second")
        body = {"model": "second", "prompt": "?", "options": {"num_predict": 2}, "stream": False, **values}
        answer = requests.post(f"{door}/api/generate", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["done"]
        for name in ("ollama", "ollama-2"):
            for each in requests.get(f"{door}/api/ps", params={"server": name}, timeout=10).json()["models"]:
                if each["name"] == "second:latest":
                    until = datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", each["expires_at"]))
                    return (until - datetime.datetime.now(datetime.UTC)).total_seconds() / 60
        return 0

    assert 59 < stays() <= 60
    assert 59 < stays(model="second:latest", prompt="x " * 150_000) <= 60
    assert 4 < stays(keep_alive="5m") <= 5, "what the request says does not hold"
    # While it is being unloaded it is still named, with a time that has passed.
    assert stays(keep_alive=0) <= 0
    answer = requests.post(f"{door}/api/chat", data=b"nothing", timeout=60)
    assert answer.status_code == 400, "what is no request became one"


@pytest.mark.spec("K-09", "ML-04")
def test_the_digest_of_the_first_pull_is_kept_and_another_one_is_refused(machine: Machine) -> None:
    first, other = machine.tiny.read_bytes(), machine.tiny.read_bytes() + bytes(32)
    machine.publish(registry(first))
    plain = planned({"name": NAME})
    machine.serve(plain, "ollama")
    code, said = machine.job(plain, JOB)
    assert code == 0, said
    digest = machine.models("ollama", "list")[f"{NAME}:latest"]
    assert said.endswith(f"{NAME}:latest: digest {digest}\n")
    noted = json.loads(machine.run("ollama", "sh", "-c", "cat /root/.ollama/digests/library.test*tiny*"))
    assert (noted["model"], noted["pulled"][:12], noted["source"]) == (f"{NAME}:latest", digest, "library")

    # The library has another one by now. What is here stays as it is, and is not fetched again.
    machine.publish(registry(other))
    assert machine.job(plain, JOB) == (0, f"{NAME}:latest: digest {digest}\n")
    assert machine.models("ollama", "list")[f"{NAME}:latest"] == digest

    # With a context of its own it is made of what was pulled, and without it is that again; both ask the library.
    context = planned({"name": NAME, "context_length": 512})
    code, said = machine.job(context, JOB)
    assert code == 0, said
    assert "num_ctx" in machine.run("ollama", "ollama", "show", "--parameters", NAME)
    assert machine.models("ollama", "list")[f"{NAME}:latest"] != digest
    machine.publish(registry(first))
    assert machine.job(plain, JOB)[0] == 0
    assert machine.models("ollama", "list")[f"{NAME}:latest"] == digest

    # It was removed by hand, and would be another one.
    machine.publish(registry(other))
    machine.run("ollama", "ollama", "rm", NAME)
    code, said = machine.job(plain, JOB)
    assert code == 1
    assert f"not {digest} as at its first pull on {noted['at']}" in said
    assert f"{NAME}:latest" not in machine.models("ollama", "list")
    changed = re.findall(r"write digest: ([0-9a-f]{12})", said)[0]
    assert machine.job(planned({"name": NAME, "digest": "0" * 12}), JOB)[0] == 1
    code, said = machine.job(planned({"name": NAME, "digest": changed}), JOB)
    assert code == 0, said
    assert machine.models("ollama", "list")[f"{NAME}:latest"] == changed

    # A wrong number leaves what there is, and the one before comes back without the library, but with a context of its own, too.
    machine.publish(registry(first))
    code, said = machine.job(planned({"name": NAME, "digest": digest}), JOB)
    assert code == 0, said
    machine.publish(registry(machine.tiny.read_bytes() + bytes(48)))
    code, said = machine.job(planned({"name": NAME, "digest": "0" * 12}), JOB)
    assert (code, f"not {'0' * 12} as aikit:models says" in said) == (1, True)
    assert machine.models("ollama", "list")[f"{NAME}:latest"] == digest
    code, said = machine.job(planned({"name": NAME, "context_length": 256}), JOB)
    assert code == 0, said
    assert machine.job(planned({"name": NAME}), "models-removed")[0] == 0
    assert machine.job(planned({"name": NAME, "digest": changed}), JOB)[0] == 0
    assert machine.models("ollama", "list")[f"{NAME}:latest"] == changed
    assert machine.run("ollama", "ollama", "run", NAME, "hello").strip()

    # Nothing stays on the disk of what is neither there nor was there before.
    assert machine.job(planned({"name": NAME}), "models-removed")[0] == 0
    held = machine.run("ollama", "ls", "/root/.ollama/models/blobs")
    assert {hashlib.sha256(each).hexdigest() in held for each in (first, other)} == {True}
    assert hashlib.sha256(machine.tiny.read_bytes() + bytes(48)).hexdigest() not in held

    # Somebody pulled it by hand.
    machine.publish(registry(first))
    machine.run("ollama", "ollama", "pull", NAME)
    code, said = machine.job(plain, JOB)
    assert code == 1
    assert f"has the digest {digest}, but this deployment made it with {changed}" in said


@pytest.mark.spec("K-09")
def test_a_model_of_the_library_that_is_too_large_is_refused_before_it_is_fetched(machine: Machine) -> None:
    large = machine.tiny.read_bytes() + bytes(96)
    machine.publish(registry(large))
    # Holes, which nobody ever reads.
    machine.run(
        "library", "truncate", "-s", "600M", f"/srv/v2/models/tiny/blobs/sha256:{hashlib.sha256(large).hexdigest()}"
    )
    plan = planned({"name": NAME}, ollama_memory_mb=512)
    machine.serve(plan, "ollama")
    machine.job(planned(), "models-removed")
    code, said = machine.job(plan, JOB)
    assert code == 1
    assert re.search(r"has 60\d MiB, but Ollama may use 512 \(aikit:ollama-memory-mb\)", said), said
    assert "partial" not in machine.run("ollama", "ls", "/root/.ollama/models/blobs")


@pytest.mark.spec("K-09")
def test_a_model_comes_from_an_address_with_its_checksum(machine: Machine) -> None:
    content = machine.tiny.read_bytes() + bytes(64)
    machine.publish({"some.gguf": content, "none.gguf": b"not a model"})
    checksum = hashlib.sha256(content).hexdigest()
    model = {"name": "remote", "url": f"https://{LIBRARY}/some.gguf", "sha256": checksum, "answer_tokens": 5}
    plan = planned(model)
    machine.serve(plan, "ollama")

    wrong = planned(model | {"sha256": "0" * 64})
    code, said = machine.job(wrong, "model-remote")
    assert code == 1
    assert f"has the checksum {checksum}, not {'0' * 64}" in said
    missing = planned(model | {"url": f"https://{LIBRARY}/other.gguf"})
    assert "cannot be had: HTTP Error 404" in machine.job(missing, "model-remote")[1]
    none = planned(
        model | {"url": f"https://{LIBRARY}/none.gguf", "sha256": hashlib.sha256(b"not a model").hexdigest()}
    )
    assert machine.job(none, "model-remote")[0] == 1
    left = machine.run("ollama", "find", "/root/.ollama/downloads", "/root/.ollama/models/blobs", "-type", "f")
    assert hashlib.sha256(b"not a model").hexdigest() not in left
    assert "downloads/" not in left, "something is left of what was refused"

    # A job that was killed left the first half.
    half = f"head -c {len(content) // 2} /dev/zero > /root/.ollama/downloads/{'1' * 64}"
    machine.run("ollama", "sh", "-c", half)
    code, said = machine.job(plan, "model-remote")
    assert code == 0, said
    assert machine.job(plan, "model-remote") == (0, ""), "it was fetched again"
    assert machine.job(plan, "models-removed")[0] == 0
    assert machine.run("ollama", "find", "/root/.ollama/downloads", "-type", "f") == "", "the other half is still there"
    answer = machine.run("ollama", "ollama", "run", "remote", "hello")
    assert answer.strip()


def test_localhost_is_the_machine(machine: Machine) -> None:
    content = machine.tiny.read_bytes()

    class File(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with the model."""
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("", 0), File) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://localhost:{server.server_port}/tiny.gguf"
        plan = planned({"name": "near", "url": url, "sha256": hashlib.sha256(content).hexdigest()})
        machine.serve(plan, "ollama")
        code, said = machine.job(plan, "model-near")
        server.shutdown()
    assert code == 0, said
    assert "near:latest" in machine.models("ollama", "list")
