"""What the queue in front of the models costs, and what it does: ``python benchmarks/models.py --stack dev --model tiny``.

On a running stack, from one container on the models' network: the same requests by way of the queue and straight to Ollama, in
turns; then 64 people and programs at once; then a model's first load against its next one.
"""

import argparse
import json
import sys

import docker

PROGRAM = """
import json, statistics, sys, threading, time, urllib.request

model, turns = sys.argv[1], int(sys.argv[2])
DIRECT, QUEUE = "http://ollama:11434", "http://haproxy:11434"

def ask(base, tokens=1, user=None, **more):
    body = {"model": model, "prompt": "?", "stream": False, "options": {"num_predict": tokens}, **more}
    headers = {"Content-Type": "application/json", **({"X-OpenWebUI-User-Id": user} if user else {})}
    begun = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(base + "/api/generate", json.dumps(body).encode(), headers), timeout=600) as answer:
        said = json.load(answer)
    return time.perf_counter() - begun, said

def version(base):
    begun = time.perf_counter()
    urllib.request.urlopen(base + "/api/version", timeout=60).read()
    return time.perf_counter() - begun

def compare(measure):
    times = {base: [] for base in (DIRECT, QUEUE)}
    for turn in range(turns):
        # In turns, and each one first as often as the other: what else the machine does meets both.
        for base in (DIRECT, QUEUE) if turn % 2 else (QUEUE, DIRECT):
            times[base].append(measure(base))
    return {name: statistics.quantiles(values, n=100) for name, values in (("direct", times[DIRECT]), ("queue", times[QUEUE]))}

ask(DIRECT)
found = {"version": compare(version), "token": compare(lambda base: ask(base)[0])}

waits, failed = {"chat": [], "program": []}, []

def one(kind, user):
    try:
        waits[kind].append(ask(QUEUE, tokens=20, user=user)[0])
    except Exception as error:
        failed.append(str(error))

threads = [threading.Thread(target=one, args=("program", None)) for _ in range(32)]
threads += [threading.Thread(target=one, args=("chat", f"person-{number}")) for number in range(32)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
found["waits"], found["failed"] = {kind: statistics.median(times) for kind, times in waits.items()}, failed

# Out of memory first, by a keep-alive of nothing.
ask(DIRECT, keep_alive=0)
time.sleep(1)
found["loads"] = [ask(DIRECT)[1]["load_duration"] / 1e9 for _ in range(2)]
print(json.dumps(found))
"""


def say(line: str) -> None:
    """Print one line of the result."""
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", default="dev")
    parser.add_argument("--model", required=True, help="a model of the stack, as ./aikit status names it")
    parser.add_argument("--turns", type=int, default=200, help="requests on each way")
    options = parser.parse_args()
    client = docker.from_env()
    image = client.containers.get(f"aikit-{options.stack}-open-webui").image
    if image is None:
        sys.exit(f"stack {options.stack} does not run")
    said = client.containers.run(
        str(image.id),
        ["-c", PROGRAM, options.model, str(options.turns)],
        entrypoint="python3",
        network=f"aikit-{options.stack}-models",
        remove=True,
    )
    found = json.loads(said)
    say(f"{'':34}{'direct':>10}{'queue':>10}{'added':>10}{'ratio':>8}")
    for name, title in (("version", "a question that computes nothing"), ("token", "a token of an answer")):
        for percent in (50, 99):
            direct, queue = (found[name][way][percent - 1] * 1000 for way in ("direct", "queue"))
            say(
                f"{title + f', p{percent}':34}{direct:7.2f} ms{queue:7.2f} ms{queue - direct:7.2f} ms{queue / direct:8.2f}"
            )
    waits = found["waits"]
    say(
        f"64 at once: {len(found['failed'])} failed; half of the people waited {waits['chat']:.2f} s or less, "
        f"of the programs {waits['program']:.2f} s (ratio {waits['program'] / waits['chat']:.2f})"
    )
    first, second = found["loads"]
    say(f"a model's first load {first:.3f} s, its next {second:.3f} s (ratio {second / first:.3f})")


if __name__ == "__main__":
    main()
