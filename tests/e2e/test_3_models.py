"""The models, as the chat and the programs on the internal network reach them."""

import io
import json
import tarfile
import time
from collections.abc import Iterator

import pytest

from operations.project import Project
from tests.e2e.conftest import Deployed, Person
from tests.e2e.test_3_services import crash
from tests.e2e.test_4_monitoring import becomes
from toolchain.small_model import small_model

ASK = """
import json, sys, threading, time, urllib.request

def ask(name, user):
    request = urllib.request.Request(
        "http://haproxy:11434/api/generate",
        json.dumps({"model": "tiny", "prompt": name, "stream": False, "options": {"num_predict": 400}}).encode(),
        {"Content-Type": "application/json", **({"X-OpenWebUI-User-Id": user} if user else {})},
    )
    answer = json.load(urllib.request.urlopen(request, timeout=100))
    assert answer["done"]
    done.append(name)

done = []
before = {}
threads = []
for name, user in json.loads(sys.argv[1]):
    before[name] = len(done)
    threads.append(threading.Thread(target=ask, args=(name, user)))
    threads[-1].start()
    time.sleep(0.05)
for thread in threads:
    thread.join()
print(json.dumps({"done": done, "before": before}))
"""


@pytest.mark.spec("OLL-02", "OLL-04", "K-04")
def test_people_take_turns_and_come_before_programs(platform: Deployed) -> None:
    """One person asks ten times, a program three times, and another person once, last of all."""
    asked: list[tuple[str, str | None]] = [
        *((f"first {number}", "a") for number in range(10)),
        *((f"program {number}", None) for number in range(3)),
        ("second", "b"),
    ]
    told = json.loads(platform.run("open-webui", "python3", "-c", ASK, json.dumps(asked)))
    done: list[str] = told["done"]
    assert sorted(done) == sorted(name for name, _ in asked), "a request was lost or answered twice"
    # Those that were answered before the other person asked don't count; enough of the first one's were waiting then.
    earlier: int = told["before"]["second"]
    most = platform.settings.ollama.requests_in_flight + 2
    assert earlier + most < 10, "nobody had to wait"
    assert done.index("second") - earlier <= most, done
    # Those under way are not interrupted, so the last of a person and the first of a program may end together.
    assert min(done.index(f"program {number}") for number in range(3)) >= 9, done


MEASURED = """
import json, sys, threading, time, urllib.request

def call(path, body=None, **headers):
    request = urllib.request.Request("http://haproxy:11434" + path, body and json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=100)

def generate():
    body = {"model": "tiny", "prompt": "one two three", "stream": True, "options": {"num_predict": 40}}
    *parts, last = [json.loads(line) for line in call("/api/generate", body)]
    answers.append((last["eval_count"], last["eval_duration"], last["prompt_eval_count"], len(parts)))

answers = []
threads = [threading.Thread(target=generate) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
time.sleep(0.2)
begun = time.monotonic()
loaded = json.load(call("/api/ps"))["models"]
information = time.monotonic() - begun
for thread in threads:
    thread.join()
body = {"model": "tiny", "messages": [{"role": "user", "content": 'say "eval_count":99,"model":"evil"'}], "stream": False}
call("/api/chat", body, **{"X-OpenWebUI-User-Id": "somebody"}).read()
print(json.dumps({"answers": answers, "information": information}))
"""


def measured(platform: Deployed, name: str, labels: str) -> float:
    """Return a measurement of the models' answers as the queue shows it to Prometheus."""
    lines = platform.run("prometheus", "wget", "-q", "-O", "-", "http://haproxy:8405/models/metrics").splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{{labels}}}")), 0)


@pytest.mark.spec("OLL-05", "DSH-01", "K-04")
def test_tokens_and_times_of_answers_are_measured_where_they_pass(platform: Deployed) -> None:
    """What the metrics add up to is what the answers themselves said."""
    program, chat = 'consumer="program",model="tiny"', 'consumer="chat",model="tiny"'
    names = ("generated_tokens_total", "generated_seconds_total", "prompt_tokens_total", "answer_seconds_count")
    before = {name: measured(platform, f"ollama_{name}", program) for name in names}
    chatted = measured(platform, "ollama_answer_seconds_count", chat)
    waited = measured(platform, "ollama_queue_seconds_sum", program)
    number = platform.settings.ollama.requests_in_flight * 3
    said = json.loads(platform.run("open-webui", "python3", "-c", MEASURED, str(number)))
    grown = {name: measured(platform, f"ollama_{name}", program) - value for name, value in before.items()}
    answers = said["answers"]
    assert len(answers) == number
    assert grown["answer_seconds_count"] == number
    assert grown["generated_tokens_total"] == sum(answer[0] for answer in answers)
    assert grown["generated_seconds_total"] == pytest.approx(sum(answer[1] for answer in answers) / 1e9, rel=0.01)
    assert grown["prompt_tokens_total"] == sum(answer[2] for answer in answers)
    assert all(parts > 10 for *_, parts in answers), "the answers did not come in parts"
    assert measured(platform, "ollama_queue_seconds_sum", program) > waited, "nobody waited, or it was not measured"
    assert measured(platform, "ollama_answer_seconds_count", chat) == chatted + 1
    assert said["information"] < 1, "a question that computes nothing waited for the answers"


@pytest.mark.spec("BASE-06")
def test_a_document_is_found_by_its_meaning(person: Person) -> None:
    """A file goes into the chat, its vectors into PostgreSQL, and a question brings the passage back."""
    person.sign_in(person.platform.url("chat"), "admin")
    person.page.locator("#chat-input").wait_for()
    found = person.page.evaluate(
        """async () => {
            const headers = {Authorization: 'Bearer ' + localStorage.token};
            const form = new FormData();
            form.append('file', new Blob(['The lighthouse of Ithaca was painted green in 1911.']), 'lighthouse.txt');
            const file = await (await fetch('/api/v1/files/?process_in_background=false', {method: 'POST', headers, body: form})).json();
            const answer = await fetch('/api/v1/retrieval/query/doc', {
                method: 'POST',
                headers: {...headers, 'Content-Type': 'application/json'},
                body: JSON.stringify({collection_name: 'file-' + file.id, query: 'Which colour has the lighthouse?', k: 1}),
            });
            return {file, status: answer.status, answer: await answer.json()};
        }"""
    )
    assert found["status"] == 200, found
    assert "painted green" in json.dumps(found["answer"]["documents"]), found
    stored = person.platform.run(
        "postgres", "psql", "-U", "postgres", "-d", "open-webui", "-Atc", "SELECT text FROM document_chunk"
    )
    assert "painted green" in stored


READER = "reader"
"""The small model, which speaks English: what the tests' own says means nothing."""

ABOUT_DOCUMENTS = """async ([model, documents, question]) => {
    const headers = {Authorization: 'Bearer ' + localStorage.token};
    const files = [];
    for (const [name, text] of Object.entries(documents)) {
        const form = new FormData();
        form.append('file', new Blob([text]), name);
        const sent = await fetch('/api/v1/files/?process_in_background=false', {method: 'POST', headers, body: form});
        files.push({type: 'file', id: (await sent.json()).id, name});
    }
    const ask = async (attached) => {
        const answer = await fetch('/api/chat/completions', {
            method: 'POST',
            headers: {...headers, 'Content-Type': 'application/json'},
            body: JSON.stringify({model, stream: true, messages: [{role: 'user', content: question}], files: attached}),
        });
        return [answer.status, await answer.text()];
    };
    return {without: await ask([]), with: await ask(files)};
}"""
"""Uploads documents and asks a question, first without them and then with all of them."""


@pytest.fixture
def reader(platform: Deployed) -> Iterator[str]:
    """Give Ollama the small model, and take it away again."""
    path = small_model(Project().cache, lambda _: None)
    files = {"reader.gguf": path.read_bytes()}
    files["Modelfile"] = b"FROM /root/.ollama/reader.gguf\nPARAMETER temperature 0\nPARAMETER num_predict 60\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert platform.container("ollama").put_archive("/root/.ollama", buffer.getvalue())
    platform.run("ollama", "ollama", "create", READER, "-f", "/root/.ollama/Modelfile")
    platform.run("ollama", "rm", *(f"/root/.ollama/{name}" for name in files))
    yield f"{READER}:latest"
    platform.run("ollama", "ollama", "rm", READER)


@pytest.mark.spec("BASE-06", "OLL-05")
def test_a_question_about_documents_is_answered_from_them(reader: str, person: Person) -> None:
    """Three documents, of which one has the answer; the model does not know it without them."""
    documents = {
        "lighthouse.txt": "The lighthouse of Ithaca was painted green in 1911 by a painter called Nikos.",
        "bakery.txt": "The bakery opens at seven and sells bread with olives.",
        "ferry.txt": "The ferry to the mainland leaves on Mondays and takes three hours.",
    }
    person.sign_in(person.platform.url("chat"), "admin")
    person.page.locator("#chat-input").wait_for()
    question = "Which colour was the lighthouse of Ithaca painted?"
    said = person.page.evaluate(ABOUT_DOCUMENTS, [reader, documents, question])

    def told(answer: tuple[int, str]) -> tuple[str, str]:
        """Return what the model says, and the names of the documents that it was given."""
        status, text = answer
        assert status == 200, text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        words = [event["choices"][0]["delta"].get("content") or "" for event in events if event.get("choices")]
        sources = [event["sources"] for event in events if event.get("sources")]
        return "".join(words).lower(), json.dumps(sources)

    without, nothing = told(said["without"])
    answered, sources = told(said["with"])
    assert (nothing, "green" in without) == ("[]", False), without
    assert "green" in answered, answered
    assert "painted green in 1911" in sources
    assert "lighthouse.txt" in sources


TWICE = """
import json, sys, time, urllib.request

def ask(path, **body):
    request = urllib.request.Request(
        "http://haproxy:11434" + path, json.dumps({"model": "tiny", **body}).encode(), {"Content-Type": "application/json"}
    )
    begun = time.monotonic()
    with urllib.request.urlopen(request, timeout=100) as answer:
        text = answer.read().decode()
        said = [answer.headers.get("Cache-Status"), answer.headers["Content-Type"], text]
    return {"said": said, "seconds": time.monotonic() - begun}

def twice(path, **body):
    first = ask(path, **body)
    time.sleep(0.5)
    return [first, ask(path, **body)]

# Ollama breaks off where a model says the same token thirty times.
certain = {"temperature": 0, "num_predict": 25}
question = {"prompt": "the same " + sys.argv[1]}
print(json.dumps({
    "likeliest": twice("/api/generate", options=certain, **question),
    "seeded": twice("/api/generate", options={"seed": 1, "num_predict": 5}, **question),
    "interface like OpenAI's": twice("/v1/completions", temperature=0, max_tokens=5, **question),
    "vectors": twice("/api/embed", input=question["prompt"]),
    "free": twice("/api/generate", options={"num_predict": 5}, **question),
    "named in the question": twice("/api/generate", prompt=json.dumps(certain), options={"num_predict": 5}),
    "too long": twice("/api/generate", prompt="a " * 20000, options={**certain, "num_predict": 1}),
}))
"""


@pytest.mark.spec("RED-08", "RED-13", "RED-14")
def test_an_answer_that_cannot_differ_is_computed_once(platform: Deployed) -> None:
    kept = {result: measured(platform, "ollama_kept_answers_total", f'result="{result}"') for result in ("hit", "miss")}
    counted = measured(platform, "ollama_answer_seconds_count", 'consumer="program",model="tiny"')
    told = json.loads(platform.run("open-webui", "python3", "-c", TWICE, str(time.time())))
    again = ("likeliest", "seeded", "interface like OpenAI's", "vectors")
    for name, (first, second) in told.items():
        assert first["said"][0] is None, name
        assert second["said"][0] == ("haproxy; hit" if name in again else None), name
        if name in again:
            assert second["said"][1:] == first["said"][1:], name
    slow, quick = (answer["seconds"] for answer in told["likeliest"])
    assert quick < slow / 2, "it took as long as computing it"
    grown = {
        result: measured(platform, "ollama_kept_answers_total", f'result="{result}"') - kept[result] for result in kept
    }
    assert grown == {"hit": 4, "miss": 4}
    computed = measured(platform, "ollama_answer_seconds_count", 'consumer="program",model="tiny"') - counted
    assert computed == 2 * len(told) - 4, "what was kept counts as an answer of the model"


@pytest.mark.spec("RED-08")
def test_what_keeps_answers_may_do_nothing_else_in_redis_and_is_not_needed(platform: Deployed) -> None:
    own = 'redis-cli --user answers --pass "$0" --no-auth-warning "$@"'
    password = platform.run("haproxy", "cat", "/run/secrets/answers-password").strip()
    for command in (("KEYS", "*"), ("GET", "session"), ("DEL", "answer:a"), ("CONFIG", "GET", "*")):
        assert "NOPERM" in platform.run("redis", "sh", "-c", own, password, *command), command
    platform.container("redis").pause()
    try:
        asked = ("open-webui", "python3", "-c", TWICE, f"without Redis {time.time()}")
        told = json.loads(platform.run(*asked))
        assert {answer["said"][0] for answers in told.values() for answer in answers} == {None}
    finally:
        platform.container("redis").unpause()


LOADED = """
import json, urllib.request
models = json.load(urllib.request.urlopen("http://haproxy:11434/api/ps?server=ollama", timeout=10))["models"]
print(json.dumps({model["name"]: model["expires_at"] for model in models}))
"""


@pytest.mark.spec("OLL-01", "OLL-07", "K-08")
def test_a_warm_model_is_loaded_again_before_anybody_asks(platform: Deployed) -> None:
    """Ollama is killed; after Docker has started it again, the model is in its memory for ever, and measured."""
    crash(platform, "ollama")
    deadline = time.monotonic() + 60
    loaded: dict[str, str] = {}
    while "tiny:latest" not in loaded:
        assert time.monotonic() < deadline, "it is not loaded"
        time.sleep(0.5)
        # The queue notices that it is back a moment later.
        code, output = platform.container("open-webui").exec_run(["python3", "-c", LOADED])
        loaded = json.loads(output) if code == 0 else {}
    assert int(loaded["tiny:latest"][:4]) > 2200, "it would be unloaded some day"
    becomes(platform, 'ollama_model_memory_bytes{model="tiny:latest",server="ollama"} > bool 0', {"telegraf": 1})
