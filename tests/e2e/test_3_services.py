"""The services are wired as they say: databases, caches, limits, secrets."""

import json
import time
from typing import Any

import pytest

import settings
from tests.e2e.conftest import STACK, Deployed


def sql(platform: Deployed, database: str, query: str) -> str:
    return platform.run("postgres", "psql", "-U", "postgres", "-d", database, "-Atc", query).strip()


def redis(platform: Deployed, *command: str, server: str = "redis") -> str:
    """Ask a Redis as its own administrator."""
    script = 'export REDISCLI_AUTH="$(cat /run/secrets/password)"; exec redis-cli "$@"'
    return platform.run(server, "sh", "-c", script, "sh", *command).strip()


@pytest.mark.spec("BASE-04", "SSO-02")
def test_each_service_has_a_database_and_cannot_enter_another(platform: Deployed) -> None:
    for name in ("keycloak", "open-webui"):
        assert (
            sql(platform, name, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
            == name
        )
        assert (
            int(sql(platform, name, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"))
            > 10
        )
    assert sql(platform, "postgres", "SELECT has_database_privilege('keycloak', 'open-webui', 'CONNECT')") == "f"
    assert sql(platform, "keycloak", "SELECT count(*) FROM realm WHERE name = 'aikit'") == "1"


@pytest.mark.spec("BASE-04")
def test_what_a_service_asks_of_the_database_ends_in_time(platform: Deployed) -> None:
    """The limits are in force for a service's role, and not for the superuser."""
    shown = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    assert sql(platform, "postgres", shown) == "0|0"
    password = platform.run("n8n", "cat", "/run/secrets/database-password")
    asked = platform.container("postgres").exec_run(
        ["psql", "--host=127.0.0.1", "--username=n8n", "--dbname=n8n", "-Atc", shown],
        environment={"PGPASSWORD": password},
    )
    assert asked.output.decode().strip() == "30s|30s"
    assert sql(platform, "postgres", "SHOW idle_in_transaction_session_timeout") == "1min"


@pytest.mark.spec("BASE-06")
def test_vectors_are_found_by_distance(platform: Deployed) -> None:
    query = (
        "CREATE TEMP TABLE v (n int, e vector(3)); INSERT INTO v VALUES (1, '[1,0,0]'), (2, '[0,1,0]');"
        "SELECT n FROM v ORDER BY e <-> '[0,0.9,0.1]' LIMIT 1"
    )
    assert sql(platform, "open-webui", query).splitlines()[-1] == "2"


@pytest.mark.spec("RED-01", "RED-02", "RED-03", "RED-04", "RED-05", "RED-06", "RED-09")
def test_redis_keeps_what_was_written_through_a_crash(platform: Deployed) -> None:
    assert redis(platform, "CONFIG", "GET", "maxmemory").splitlines()[1] == str(256 * 1024 * 1024)
    assert redis(platform, "CONFIG", "GET", "maxmemory-policy").splitlines()[1] == "volatile-lru"
    assert redis(platform, "SET", "kept", "yes") == "OK"
    assert redis(platform, "SAVE") == "OK"
    assert "dump.rdb" in platform.run("redis", "ls", "/data")
    assert redis(platform, "CONFIG", "GET", "save").splitlines()[1] == "900 1 300 100 60 10000"
    mounts = {mount["Destination"]: mount["Name"] for mount in platform.container("redis").attrs["Mounts"]}
    assert mounts["/data"] == f"aikit-{STACK}-redis-data"
    # After the snapshot, so that the log alone has it.
    assert redis(platform, "SET", "logged", "yes") == "OK"
    time.sleep(1.5)
    crash(platform, "redis")
    assert redis(platform, "MGET", "kept", "logged").split() == ["yes", "yes"]
    refused = platform.container("redis").exec_run(["redis-cli", "GET", "kept"])
    assert b"NOAUTH" in refused.output
    assert redis(platform, "-n", "1", "KEYS", "*") != ""


def crash(platform: Deployed, *services: str) -> None:
    """Kill the processes of services as a crash would, and wait until all are healthy again."""
    containers = [platform.container(service) for service in services]
    before = {container.name: container.attrs["RestartCount"] for container in containers}
    for container in containers:
        container.exec_run(["sh", "-c", "kill -9 -1"])
    deadline = time.monotonic() + 120 + 10 * len(services)
    for container in containers:
        while True:
            container.reload()
            state = container.attrs["State"]
            if (
                container.attrs["RestartCount"] > before[container.name]
                and state.get("Health", {}).get("Status") == "healthy"
            ):
                break
            assert time.monotonic() < deadline, (container.name, state)
            time.sleep(0.5)


@pytest.mark.spec("K-08", "MNT-01")
def test_a_crashed_service_comes_back_by_itself(platform: Deployed) -> None:
    crash(platform, "ollama")


@pytest.mark.spec("OLL-08", "OLL-09", "OLL-10")
def test_every_container_is_limited_and_hardened(platform: Deployed) -> None:
    containers = platform.docker.containers.list(filters={"label": f"aikit.stack={STACK}"})
    assert len(containers) >= 6
    for container in containers:
        host: dict[str, Any] = container.attrs["HostConfig"]
        name = container.name
        assert host["Memory"] > 0, name
        assert host["MemorySwap"] == host["Memory"], name
        assert host["CpuQuota"] > 0, name
        assert {limit["Name"] for limit in host["Ulimits"]} >= {"nproc"}, name
        assert host["CapDrop"] == ["ALL"], name
        assert host["ReadonlyRootfs"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert not host["Privileged"], name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}, name
        assert container.attrs["State"]["Health"]["Status"] == "healthy", name
    ollama = platform.container("ollama").attrs
    assert ollama["HostConfig"]["ShmSize"] == 2147483648
    assert "OLLAMA_MAX_LOADED_MODELS=2" in ollama["Config"]["Env"]
    assert "OLLAMA_KEEP_ALIVE=10m" in ollama["Config"]["Env"]


@pytest.mark.spec("VLT-11", "VLT-12", "CFG-03")
def test_no_inspection_log_or_state_shows_a_secret(platform: Deployed) -> None:
    environment = platform.run("open-webui", "cat", "/run/secrets/environment")
    secrets = {
        line.split("=", 1)[1].strip().strip("'")
        for line in environment.splitlines()
        if "_KEY=" in line or "_SECRET=" in line
    }
    secrets |= {
        platform.outputs["administratorPassword"],
        platform.run("redis", "cat", "/run/secrets/password").strip(),
    }
    assert len(secrets) >= 4
    assert all(len(secret) >= 16 for secret in secrets)
    for container in platform.docker.containers.list(all=True, filters={"label": f"aikit.stack={STACK}"}):
        shown = json.dumps(container.attrs) + container.logs().decode(errors="replace")
        assert not [1 for secret in secrets if secret in shown], container.name
    for path in (settings.ROOT / ".aikit").rglob("*"):
        if path.is_file() and path.stat().st_size < 50_000_000:
            data = path.read_bytes()
            assert not [1 for secret in secrets if secret.encode() in data], path
