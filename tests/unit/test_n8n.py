"""The automation: what its containers are told, who gets to the editor, and what the samples say."""

import json
import re
from typing import Any

import pytest

from components.ai import n8n
from components.identity.sign_in_proxy import IDENTITY, KEY_HEADER
from settings import OllamaModel, SettingsError, parse
from tests.unit.test_platform import container, kept_files, of_type, planned, secret_files, uploads, variant


def environment(properties: Any) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in properties["envs"])


@pytest.mark.spec("BASE-03", "RED-12")
def test_every_process_uses_postgresql_and_the_queue() -> None:
    plan = planned("dev")
    for name in ("n8n", "n8n-worker", "n8n-samples"):
        told = environment(container(plan, name))
        assert told["DB_TYPE"] == "postgresdb"
        assert told["DB_POSTGRESDB_DATABASE"] == told["DB_POSTGRESDB_USER"] == "n8n"
        assert told["EXECUTIONS_MODE"] == "queue"
        assert told["QUEUE_BULL_REDIS_HOST"] == "redis-queue"
        files = secret_files(plan, name)
        for secret in ("DB_POSTGRESDB_PASSWORD", "QUEUE_BULL_REDIS_PASSWORD", "N8N_ENCRYPTION_KEY"):
            assert told[f"{secret}_FILE"].removeprefix("/run/secrets/") in files
            assert secret not in told
        assert "${n8n-encryption-key.result}" in kept_files(plan, name), "one cannot read what another one encrypts"
    assert {database.name for database in n8n.N8n(parse({})).databases()} == {"n8n", "workflows"}


@pytest.mark.spec("RED-06", "RED-12")
def test_the_queue_drops_nothing_whatever_the_cache_does() -> None:
    plan = variant("dev", redis_eviction="allkeys-lru", n8n_queue_memory_mb=77)
    assert "maxmemory-policy allkeys-lru\n" in uploads(plan, "redis")["redis.conf"]
    queue = uploads(plan, "redis-queue")["redis.conf"]
    assert "maxmemory 77mb\nmaxmemory-policy noeviction\n" in queue
    assert "appendonly yes\nappendfsync everysec\n" in queue
    assert container(plan, "redis-queue")["memory"] == 2 * 77 + 64
    assert not any("redis-queue" in resource.name for resource in variant("dev", n8n_deploy=False).resources)


def test_workers_follow_the_settings() -> None:
    plan = variant("dev", n8n_workers=3, n8n_concurrency=4, n8n_stop_seconds=90, n8n_worker_memory_mb=777)
    for name in ("n8n-worker", "n8n-worker-2", "n8n-worker-3"):
        worker = container(plan, name)
        assert worker["command"] == ["/docker-entrypoint.sh", "worker", "--concurrency=4"]
        assert worker["memory"] == 777
        assert worker["destroyGraceSeconds"] > int(environment(worker)["N8N_GRACEFUL_SHUTDOWN_TIMEOUT"]) == 90
    assert not any(item.name == "n8n-worker-4-container" for item in of_type(plan, "Container"))
    without = variant("dev", n8n_deploy=False)
    assert not any("n8n" in resource.name for resource in without.resources)
    with pytest.raises(SettingsError, match=r"n8n-timezone is \"Mars\", but must be a name of the IANA"):
        parse({"n8n-timezone": "Mars"})


@pytest.mark.spec("SSO-07", "SSO-08", "SSO-09", "SSO-22", "TLS-14")
def test_the_editor_is_behind_the_sign_in_and_webhooks_are_not() -> None:
    plan = planned("prod")
    proxy, guard = uploads(plan, "haproxy")["haproxy.cfg"], uploads(plan, "sign-in-proxy")
    choices = [line.strip() for line in proxy.splitlines() if line.startswith("    use_backend n8n")]
    named = "if { hdr(host),field(1,:) -i n8n.ai.example.org }"
    assert choices == [
        f"use_backend n8n-open {named} {{ path_beg {' '.join(n8n.OPEN_PATHS)} }}",
        f"use_backend n8n {named}",
    ]
    backends = {
        name: proxy.partition(f"\nbackend {name}\n")[2].partition("\nbackend ")[0] for name in ("n8n", "n8n-open")
    }
    assert "server sign-in-proxy sign-in-proxy:8080" in backends["n8n"]
    assert "server n8n n8n:5678" in backends["n8n-open"]
    assert all(re.fullmatch(r"/[a-z-]+/", path) for path in n8n.OPEN_PATHS), "one could be the beginning of another"
    host = guard["apache2.conf"].partition("ServerName n8n.")[2].partition("</VirtualHost>")[0]
    assert "ProxyPass / http://n8n:5678/ addressttl=5 upgrade=websocket" in host
    for header in (KEY_HEADER, *IDENTITY):
        assert f"RequestHeader unset {header} early" in host
        assert f"RequestHeader set {header} " in host
        assert f"RequestHeader set {header} " not in guard["apache2.conf"].replace(host, ""), (
            "only who asks for it is told"
        )
    assert "sign-in-key" in secret_files(plan, "n8n")
    assert "${sign-in-proxy-n8n-key.result}" in kept_files(plan, "n8n")
    assert "${sign-in-proxy-n8n-key.result}" in kept_files(plan, "sign-in-proxy")
    assert environment(container(plan, "n8n"))["N8N_WEBHOOK_URL"] == "https://n8n.ai.example.org/"


def test_samples_are_whole_and_ask_the_queue() -> None:
    stored = n8n.credentials("p", "k")
    assert stored[0]["data"]["baseUrl"] == "http://haproxy:11434"
    known = {(credential["id"], credential["name"]): credential["type"] for credential in stored}
    models = [
        OllamaModel.model_validate({"name": "embedder", "purpose": "embedding"}),
        OllamaModel.model_validate({"name": "talker"}),
    ]
    samples = n8n.workflows(models)
    assert len({sample["id"] for sample in samples}) == len(samples) >= 2
    for sample in samples:
        names = {node["name"] for node in sample["nodes"]}
        for source, outputs in sample["connections"].items():
            assert source in names
            assert {edge["node"] for kinds in outputs.values() for edges in kinds for edge in edges} <= names
        for node in sample["nodes"]:
            for kind, reference in node.get("credentials", {}).items():
                assert known[reference["id"], reference["name"]] == kind
        webhooks = [node for node in sample["nodes"] if node["type"].endswith(".webhook")]
        assert all(node["parameters"]["authentication"] == "headerAuth" for node in webhooks)
    assert '"model": "talker:latest"' in json.dumps(samples)
