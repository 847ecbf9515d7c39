"""Measuring and alerting on the running platform: every target answers, every rule can fire, and alerts arrive."""

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import settings
from components.observability import alertmanager, blackbox_exporter, rules
from components.registry import SERVICES
from components.service import FILES, SECRETS, TEMPORARY
from tests.e2e.conftest import ASK_MODEL, STACK, Deployed, aikit
from tests.unit.alert_cases import promtool_tests

RECEIVER = "alert-receiver"
"""Host of the receiver that the stack's settings name."""

RECEIVER_PROGRAM = """
import http.server, json, socketserver, threading

lock = threading.Lock()

def say(kind, text):
    with lock:
        print(json.dumps({"kind": kind, "text": text}), flush=True)

class Web(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        say(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass

class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 receiver\\r\\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper() if line.split() else b""
            if word == b"DATA":
                self.wfile.write(b"354 go on\\r\\n")
                text = b""
                while (line := self.rfile.readline()) not in (b".\\r\\n", b""):
                    text += line
                say("mail", text.decode())
            self.wfile.write(b"221 bye\\r\\n" if word == b"QUIT" else b"250 ok\\r\\n")
            if word == b"QUIT":
                return

threading.Thread(target=socketserver.ThreadingTCPServer(("", 2525), Mail).serve_forever, daemon=True).start()
say("ready", "")
http.server.ThreadingHTTPServer(("", 9000), Web).serve_forever()
"""
"""Takes alerts by http and by e-mail, and prints each."""


def get(platform: Deployed, service: str, port: int, path: str) -> Any:
    """Ask a service for a page from inside: none of these servers has a public address."""
    for _ in range(3):
        # On a busy machine Docker loses the output of a command that ends before it listens.
        if text := platform.run(service, "wget", "-q", "-O", "-", f"http://127.0.0.1:{port}{path}"):
            return json.loads(text)
    return pytest.fail(f"{service} answers {path} with nothing")


def query(platform: Deployed, expression: str) -> dict[str, float]:
    """Ask Prometheus for the current values by job."""
    path = "/api/v1/query?query=" + "".join(f"%{byte:02X}" for byte in expression.encode())
    result = get(platform, "prometheus", 9090, path)["data"]["result"]
    return {item["metric"].get("job", ""): float(item["value"][1]) for item in result}


def put(platform: Deployed, path: str, text: str) -> None:
    """Write a file in Prometheus' container."""
    platform.run("prometheus", "sh", "-c", f": > {path}.b64")
    encoded = base64.b64encode(text.encode()).decode()
    # One argument of a program may have 128 KiB.
    for start in range(0, len(encoded), 100_000):
        platform.run("prometheus", "sh", "-c", f"printf %s {encoded[start : start + 100_000]} >> {path}.b64")
    platform.run("prometheus", "sh", "-c", f"base64 -d < {path}.b64 > {path}")


def becomes(platform: Deployed, expression: str, expected: dict[str, float]) -> None:
    """Wait for values: pages are asked for every 15 s, and an earlier test may just have stopped a service."""
    deadline = time.monotonic() + 60
    while (found := query(platform, expression)) != expected:
        assert time.monotonic() < deadline, (expression, found)
        time.sleep(1)


def received(receiver: Any, kind: str) -> list[str]:
    """Return what has arrived at the receiver by one channel."""
    lines = [json.loads(line) for line in receiver.logs().decode().splitlines() if line.startswith("{")]
    return [line["text"] for line in lines if line["kind"] == kind]


def wait_for(receiver: Any, kind: str, text: str, seconds: float) -> str:
    """Wait until something that holds a text has arrived, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in received(receiver, kind):
            if text in message:
                return message
        time.sleep(0.5)
    return pytest.fail(f"no {kind} with {text} in {seconds} s: {receiver.logs().decode()[-3000:]}")


@pytest.fixture(scope="module")
def receiver(platform: Deployed) -> Iterator[Any]:
    """Return a container on the network of the monitoring that keeps the alerts it is sent."""
    container = platform.docker.containers.run(
        platform.container("open-webui").image.id,
        entrypoint=["python3", "-u", "-c", RECEIVER_PROGRAM],
        name=f"aikit-{STACK}-{RECEIVER}",
        user="65534",
        networking_config={
            f"aikit-{STACK}-observability": platform.docker.api.create_endpoint_config(aliases=[RECEIVER])
        },
        network=f"aikit-{STACK}-observability",
        detach=True,
    )
    try:
        wait_for(container, "ready", "", 60)
        yield container
    finally:
        container.remove(force=True, v=True)


@pytest.mark.spec("BASE-07", "HAP-04")
def test_every_target_is_measured(platform: Deployed) -> None:
    deadline = time.monotonic() + 60
    while True:
        targets = get(platform, "prometheus", 9090, "/api/v1/targets")["data"]["activeTargets"]
        failed = {target["scrapeUrl"]: target["lastError"] for target in targets if target["health"] != "up"}
        if not failed:
            break
        assert time.monotonic() < deadline, failed
        time.sleep(1)
    expected = {service.name for service in platform.services if service.metrics()}
    assert {target["labels"]["job"] for target in targets} == expected | {blackbox_exporter.JOB}


@pytest.mark.spec("BASE-07", "TLS-10", "MET-02")
def test_measurements_are_of_the_real_thing(platform: Deployed) -> None:
    becomes(platform, "pg_up", {"postgres-exporter": 1})
    becomes(platform, "sum by (instance, job) (redis_up)", {"redis-exporter": 1})
    assert query(platform, 'count(redis_up{instance=~"redis|redis-queue"} == 1)') == {"": 2}
    # Each is asked for its own: the queue drops nothing, whatever its memory.
    maximum = 'redis_memory_max_bytes{instance="redis-queue"}'
    assert query(platform, maximum)["redis-exporter"] == platform.settings.n8n.queue_memory_mb << 20
    assert query(platform, 'count(pg_stat_database_numbackends{datname=~"keycloak|open-webui"})') == {"": 2}
    becomes(platform, "min(probe_success)", {"": 1})
    assert query(platform, "min(probe_ssl_earliest_cert_expiry) - time() > 86400")
    becomes(platform, 'haproxy_server_status{proxy="ollama",state="UP"}', {"haproxy": 1})
    assert 0 < query(platform, "host:memory_used:percent")["node-exporter"] < 100
    assert 0 < query(platform, "host:disk_free:percent")["node-exporter"] < 100
    assert query(platform, 'count(node_cpu_seconds_total{mode="idle"})')[""] == platform.docker.info()["NCPU"]
    # Each recorded series has values: probes ask for the chat's page, so there always are requests.
    for name in rules.recordings():
        assert query(platform, f"count({name})"), name


@pytest.mark.spec("ALR-02")
def test_every_rule_uses_measurements_that_there_are(platform: Deployed) -> None:
    everything = platform.services
    expressions = [*rules.recordings().values(), *(alert.expression for _, alert in rules.alerts(everything))]
    prefixes = "alertmanager|docker|haproxy|keycloak|n8n|node|ollama|pg|probe|prometheus|redis|up|vault"
    selector = re.compile(rf"\b(?:{prefixes})(?:_[a-z0-9_]+)?\b(?!\()(?:\{{[^}}]*\}})?")
    assert platform.run("open-webui", "python3", "-c", ASK_MODEL).strip() == "200"
    selectors = {match for expression in expressions for match in selector.findall(expression)}
    assert len(selectors) > 25
    for found in selectors:
        # What is measured of a model begins with its first answer.
        becomes(platform, f"count({found}) > bool 0", {"": 1})


@pytest.mark.spec("BASE-07")
def test_the_database_role_of_the_exporter_sees_statistics_only(platform: Deployed) -> None:
    rights = platform.run(
        "postgres",
        "psql",
        "-U",
        "postgres",
        "-Atc",
        "SELECT rolsuper, rolcreatedb, rolcreaterole, pg_has_role('postgres-exporter', 'pg_monitor', 'USAGE'),"
        " has_database_privilege('postgres-exporter', 'keycloak', 'CONNECT')"
        " FROM pg_roles WHERE rolname = 'postgres-exporter'",
    )
    assert rights.strip() == "f|f|f|t|f"


@pytest.mark.spec("BASE-07")
def test_the_number_of_series_is_bounded(platform: Deployed) -> None:
    series = get(platform, "prometheus", 9090, "/api/v1/status/tsdb")["data"]["headStats"]["numSeries"]
    assert 500 < series < 10_000


@pytest.mark.spec("BASE-07", "DSH-02")
def test_every_container_is_measured_with_its_services_name(platform: Deployed) -> None:
    path = "/api/v1/query?query=docker_container_mem_limit"
    deadline = time.monotonic() + 60
    expected = {service.name for service in platform.services}
    while True:
        found = get(platform, "prometheus", 9090, path)["data"]["result"]
        limits = {item["metric"]["aikit_service"]: float(item["value"][1]) for item in found}
        if set(limits) == expected:
            break
        assert time.monotonic() < deadline, (expected, limits)
        time.sleep(1)
    for name, limit in limits.items():
        assert limit == platform.container(name).attrs["HostConfig"]["Memory"], name


ENGINE = """
import sys, urllib.error, urllib.request

for line in sys.argv[1:]:
    method, path = line.split()
    request = urllib.request.Request("http://docker-api:2375" + path, method=method)
    try:
        print(urllib.request.urlopen(request, timeout=20).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.mark.spec("BASE-07")
def test_the_door_to_dockers_api_lets_questions_about_containers_through_and_nothing_else(platform: Deployed) -> None:
    name = f"aikit-{STACK}-redis"
    allowed = ("GET /_ping", "GET /v1.41/containers/json", f"GET /v1.41/containers/{name}/json")
    refused = (
        f"POST /v1.41/containers/{name}/kill",
        f"POST /v1.41/containers/{name}/exec",
        "POST /v1.41/containers/create",
        f"DELETE /v1.41/containers/{name}",
        f"GET /v1.41/containers/{name}/logs?stdout=1",
        f"GET /v1.41/containers/{name}/archive?path=/etc",
        f"GET /v1.41/containers/{name}/export",
        f"GET /v1.41/containers/{name}%2F..%2F{name}/logs",
        "GET /v1.41/volumes",
        "GET /v1.41/events",
    )
    network = platform.docker.networks.get(f"aikit-{STACK}-engine")
    assert network.attrs["Internal"]
    names = {platform.container(service).id for service in ("docker-api", "telegraf")}
    assert set(network.attrs["Containers"]) == names, "others can ask Docker, too"
    said = platform.docker.containers.run(
        platform.container("open-webui").image.id,
        ["-c", ENGINE, *allowed, *refused],
        entrypoint="python3",
        network=network.name,
        remove=True,
    )
    assert said.decode().split() == ["200"] * len(allowed) + ["403"] * len(refused)
    platform.container("redis").reload()
    assert platform.container("redis").status == "running"


@pytest.mark.spec("BASE-07", "HAP-04")
def test_no_port_of_the_monitoring_is_published(platform: Deployed) -> None:
    for service in platform.services:
        if service.area == "observability":
            assert not any(platform.container(service.name).ports.values()), service.name
    assert "8405/tcp" not in {port for port, bound in platform.container("haproxy").ports.items() if bound}


@pytest.mark.spec("ALR-02", "ALR-03")
def test_the_real_programs_accept_the_files(platform: Deployed) -> None:
    assert "SUCCESS" in platform.run("prometheus", "promtool", "check", "config", f"{FILES}/prometheus.yml")
    assert "SUCCESS" in platform.run(
        "prometheus", "promtool", "check", "rules", "--lint=all", "--lint-fatal", f"{FILES}/rules.yml"
    )
    assert "SUCCESS" in platform.run("alertmanager", "amtool", "check-config", f"{FILES}/alertmanager.yml")


@pytest.mark.spec("ALR-02", "ALR-09", "ALR-10", "ALR-11", "ALR-12", "ALR-15", "ALR-16", "TLS-11", "MET-02")
def test_every_rule_fires_and_stays_quiet(platform: Deployed) -> None:
    # Of every service, also of those that this machine does not get.
    everything = [kind(platform.settings) for kind in SERVICES]
    put(platform, f"{TEMPORARY}/rules.yml", yaml.safe_dump(rules.document(everything)))
    put(platform, f"{TEMPORARY}/proofs.yml", yaml.safe_dump(promtool_tests(everything, f"{TEMPORARY}/rules.yml")))
    assert "SUCCESS" in platform.run("prometheus", "promtool", "test", "rules", f"{TEMPORARY}/proofs.yml")


@pytest.mark.spec("ALR-03", "ALR-05", "ALR-06", "ALR-07", "ALR-08")
def test_every_channel_delivers_and_alerts_are_grouped_muted_and_silenced(platform: Deployed, receiver: Any) -> None:
    chosen = settings.parse(
        {
            "monitoring-webhooks": [f"http://{RECEIVER}:9000/hook"],
            "monitoring-watchdog-webhook": f"http://{RECEIVER}:9000/alive",
            "monitoring-slack-webhook-file": "slack",
            "monitoring-discord-webhook-file": "discord",
            "monitoring-email-to": "ada@example.org",
            "monitoring-email-from": "kit@example.org",
            "monitoring-email-server": f"{RECEIVER}:2525",
            "monitoring-email-tls": False,
        }
    ).monitoring
    files = {
        f"{FILES}/alertmanager.yml": alertmanager.configuration(chosen),
        f"{SECRETS}/{alertmanager.SLACK}": f"http://{RECEIVER}:9000/slack",
        f"{SECRETS}/{alertmanager.DISCORD}": f"http://{RECEIVER}:9000/discord",
    }
    write = " && ".join(
        f"echo {base64.b64encode(text.encode()).decode()} | base64 -d > {path}" for path, text in files.items()
    )
    server: Any = platform.docker.containers.run(
        platform.container("alertmanager").image.id,
        entrypoint=[
            "sh",
            "-c",
            f"{write} && exec alertmanager --config.file={FILES}/alertmanager.yml --storage.path={TEMPORARY}"
            " --cluster.listen-address=",
        ],
        command=[],
        name=f"aikit-{STACK}-alert-channels",
        user="65534",
        tmpfs={FILES: "mode=1777", SECRETS: "mode=1777", TEMPORARY: "mode=1777"},
        network=f"aikit-{STACK}-observability",
        detach=True,
    )

    def amtool(*arguments: str) -> str:
        deadline = time.monotonic() + 30
        while True:
            code, output = server.exec_run(["amtool", "--alertmanager.url=http://127.0.0.1:9093", *arguments])
            if code == 0:
                return output.decode()
            assert time.monotonic() < deadline, output.decode() + server.logs().decode()
            time.sleep(0.5)

    def add(name: str, severity: str, kind: str, instance: str = "") -> None:
        labels = [f"alertname={name}", f"severity={severity}", "service=postgres", f"kind={kind}"]
        amtool("alert", "add", *labels, f"instance={instance}", f"--annotation=summary=This is {name} {instance}")

    try:
        amtool("silence", "add", "alertname=Repairing", "--comment=works", "--duration=1h", "--author=ada")
        add("Great", "critical", "memory")
        add("Small", "warning", "memory")
        add("Repairing", "critical", "disk")
        for instance in ("one", "two"):
            add("Other", "warning", "connections", instance)
        add(rules.WATCHDOG, "none", "watchdog")
        assert "Great" in wait_for(receiver, "/slack", "Great", 40)
        assert "Great" in wait_for(receiver, "/discord", "Great", 40)
        assert "To: ada@example.org" in wait_for(receiver, "mail", "This is Great", 40)
        wait_for(receiver, "/alive", rules.WATCHDOG, 40)
        group = json.loads(wait_for(receiver, "/hook", "This is Other two", 40))
        assert [alert["labels"]["instance"] for alert in group["alerts"]] == ["one", "two"]
        wait_for(receiver, "/hook", "This is Great", 40)
        sent = "".join(received(receiver, "/hook"))
        assert "Small" not in sent
        assert "Repairing" not in sent
        assert rules.WATCHDOG not in sent
        assert "Small" in amtool("alert", "query", "--inhibited")
        assert "Repairing" in amtool("alert", "query", "--silenced")
    finally:
        server.remove(force=True, v=True)


@pytest.mark.spec("ADM-04", "MET-02")
def test_status_shows_alerts_and_objectives(platform: Deployed) -> None:
    deadline = time.monotonic() + 90
    while (found := json.loads(aikit("status", "--json").stdout))["alerts"] is None or not found["objectives"]:
        assert time.monotonic() < deadline, found["monitoring"]
        time.sleep(2)
    assert rules.WATCHDOG not in {alert["name"] for alert in found["alerts"]}
    (chat,) = found["objectives"]
    assert (chat["name"], chat["objective"]) == ("chat availability", rules.OBJECTIVE)
    assert 0 < chat["measured"] <= 1
    name = rules.down_name("redis-exporter")
    exporter = platform.container("redis-exporter")
    exporter.pause()
    try:
        deadline = time.monotonic() + 120
        while name not in {
            alert["name"] for alert in json.loads(aikit("status", "--json", check=False).stdout)["alerts"]
        }:
            assert time.monotonic() < deadline
            time.sleep(5)
        shown = aikit("status", check=False).stdout
    finally:
        exporter.unpause()
    assert "redis-exporter is down" in shown
    assert f"docs/runbooks/{name}.md" in shown
    assert "Objective chat availability" in shown


def test_open_prints_the_address_of_a_page(platform: Deployed) -> None:
    assert aikit("open", "alerts").stdout.strip() == f"{platform.url('alerts')}/"
    assert aikit("open", "keycloak").stdout == aikit("open", "auth").stdout
    wrong = aikit("open", "nothing", check=False)
    assert wrong.returncode == 2
    assert "alerts" in wrong.stderr


@pytest.mark.spec("ALR-01", "ALR-03", "ALR-07", "MET-02")
def test_what_stops_reaches_the_receiver_within_two_minutes(platform: Deployed, receiver: Any) -> None:
    """An exporter and the models' server hang, and the chat is stopped, all at the same time."""
    exporter, models, chat = (platform.container(name) for name in ("redis-exporter", "ollama", "open-webui"))
    name = rules.down_name("redis-exporter")
    started = time.monotonic()
    exporter.pause()
    models.pause()
    chat.kill()
    try:
        message = json.loads(wait_for(receiver, "/", f'"{name}"', 120))
        page = json.loads(wait_for(receiver, "/", f"{platform.url('chat')}/health cannot be used", 120))
        wait_for(receiver, "/", '"OllamaNotAnswering"', 120)
        took = time.monotonic() - started
    finally:
        exporter.unpause()
        models.unpause()
        chat.start()
    assert took < 120
    alert = next(alert for alert in message["alerts"] if alert["labels"]["alertname"] == name)
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["service"] == "redis-exporter"
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    # The text has been filled in: no template is left.
    assert "{{" not in json.dumps(alert["annotations"])
    assert alert["annotations"]["description"].startswith(
        "Prometheus gets no measurements of redis-exporter from redis"
    )
    assert {each["labels"]["service"] for each in page["alerts"]} == {"open-webui"}
    # Its end is told, too.
    wait_for(receiver, "/", '"status":"resolved"', 180)
    deadline = time.monotonic() + 120
    while not set(platform.health().values()) <= {"healthy", "done"}:
        assert time.monotonic() < deadline, platform.health()
        time.sleep(1)


@pytest.mark.spec("K-06", "ALR-03")
def test_an_alert_is_silenced_by_a_command_and_again_told_of(platform: Deployed) -> None:
    made = json.loads(aikit("silences", "add", "RedisDown", "--hours", "1", "--comment", "new memory", "--json").stdout)
    listed = json.loads(aikit("silences", "list", "--json").stdout)
    assert [(each["id"], each["alerts"], each["comment"]) for each in listed] == [
        (made["id"], 'alertname="RedisDown"', "new memory")
    ]
    known = get(platform, "alertmanager", 9093, "/api/v2/silences")
    assert [each["status"]["state"] for each in known if each["id"] == made["id"]] == ["active"]
    aikit("silences", "remove", made["id"])
    assert json.loads(aikit("silences", "list", "--json").stdout) == []
    for arguments, said in (
        (("add", "RedisDwn", "--comment", "x"), "no alert RedisDwn"),
        (("remove", "x"), "no silence x"),
    ):
        refused = aikit("silences", *arguments, check=False)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


@pytest.mark.spec("ALR-03")
def test_the_watchdog_always_fires_and_the_server_is_reached(platform: Deployed) -> None:
    alerts = get(platform, "alertmanager", 9093, "/api/v2/alerts")
    assert rules.WATCHDOG in {alert["labels"]["alertname"] for alert in alerts}
    assert query(platform, "prometheus_notifications_alertmanagers_discovered") == {"prometheus": 1}
    assert query(platform, "sum(increase(prometheus_rule_evaluation_failures_total[5m]))") in ({}, {"": 0})
