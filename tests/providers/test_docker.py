"""Containers and what they need, on a real daemon through the real engine."""

# Values come from systems without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
import secrets
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import docker.errors
import pulumi
import pulumi_docker
import pytest
from docker import DockerClient

from tests.providers.conftest import IMAGE, Program, Run

HIDDEN = "s3cr3t-and-never-in-the-clear"
pytestmark = pytest.mark.usefixtures("busybox")


@pytest.fixture
def prefix(client: DockerClient) -> Generator[str]:
    """A name for what a test makes; what a failed test leaves is removed."""
    prefix = f"aikit-test-{secrets.token_hex(3)}"
    yield prefix
    for container in client.containers.list(all=True, filters={"name": prefix}):
        container.remove(force=True, v=True)


def _healthcheck(interval: str, test: str = "true") -> dict[str, Any]:
    return {"tests": ["CMD-SHELL", test], "interval": interval, "timeout": "2s", "retries": 2}


def _platform(prefix: str, **changes: Any) -> Program:
    """A program with everything that a service needs, and with ``changes`` to its main container."""

    def program() -> None:
        network = pulumi_docker.Network("network", name=f"{prefix}-network", labels=[{"label": "a", "value": "b"}])
        other = pulumi_docker.Network("other", name=f"{prefix}-other", internal=True)
        volume = pulumi_docker.Volume("volume", name=f"{prefix}-volume")
        memory = pulumi_docker.Volume(
            "memory",
            name=f"{prefix}-memory",
            driver="local",
            driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0750"},
        )
        image = pulumi_docker.RemoteImage("image", name=IMAGE, keep_locally=True)
        seed = pulumi_docker.Container(
            "seed",
            name=f"{prefix}-seed",
            image=image.image_id,
            start=False,
            must_run=False,
            network_mode="none",
            command=["true"],
            read_only=True,
            volumes=[{"volume_name": volume.name, "container_path": "/data"}],
            uploads=[
                {"file": "/data/deep/secret", "content": pulumi.Output.secret(HIDDEN), "permissions": "0400"},
                {"file": "/data/plain", "content_base64": "aGVsbG8=", "owner": "7"},
            ],
        )
        arguments: dict[str, Any] = {
            "name": f"{prefix}-main",
            "image": image.image_id,
            "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"],
            "envs": ["A=1", pulumi.Output.secret(f"B={HIDDEN}")],
            "read_only": True,
            "init": True,
            "memory": 64,
            "restart": "unless-stopped",
            "capabilities": {"drops": ["ALL"], "adds": ["CAP_NET_BIND_SERVICE"]},
            "healthcheck": _healthcheck("1s", "test -f /data/deep/secret"),
            "networks_advanced": [{"name": network.name, "aliases": ["chat"]}, {"name": other.id}],
            "ports": [{"internal": 80, "ip": "127.0.0.1"}],
            "volumes": [
                {"volume_name": volume.name, "container_path": "/data", "read_only": True},
                {"volume_name": memory.name, "container_path": "/memory", "read_only": True},
            ],
            "wait": True,
            "wait_timeout": 20,
        }
        main = pulumi_docker.Container("main", **(arguments | changes), opts=pulumi.ResourceOptions(depends_on=[seed]))
        pulumi_docker.Container(
            "asker",
            image=image.image_id,
            command=["sh", "-c", "nslookup chat >/dev/null && cat /data/plain"],
            networks_advanced=[{"name": network.name, "aliases": ["chat-asker"]}],
            volumes=[{"volume_name": volume.name, "container_path": "/data"}],
            attach=True,
            logs=True,
            must_run=False,
            opts=pulumi.ResourceOptions(depends_on=[main]),
        )

    return program


def test_the_life_of_a_platform(stack: Callable[[Program], Run], client: DockerClient, prefix: str) -> None:
    run = stack(_platform(prefix))
    assert run.up() == {"create": 9}
    main = client.containers.get(f"{prefix}-main")
    assert main.attrs["HostConfig"]["Memory"] == 64 * 1024 * 1024
    assert main.attrs["State"]["Health"]["Status"] in {"healthy", "starting"}, "its check passed before Docker ran it"
    assert set(main.attrs["NetworkSettings"]["Networks"]) == {f"{prefix}-network", f"{prefix}-other"}
    # The job has found the container by its alias on their network, and the upload in the volume.
    assert run.outputs("asker")["containerLogs"] == "hello"
    assert run.outputs("asker")["exitCode"] == 0
    assert run.outputs("asker")["name"].startswith("asker-")
    assert run.outputs("main")["ports"][0]["external"] > 0
    assert main.exec_run(["stat", "-c", "%a %u", "/data/deep/secret"]).output == b"400 0\n"
    mounts = str(main.exec_run(["cat", "/proc/mounts"]).output)
    assert re.search(r"tmpfs /memory tmpfs ro,\S*size=1024k,mode=750", mounts)
    assert HIDDEN not in str(run.state())

    # Nothing changes, whether the systems are looked at or not.
    assert run.up(refresh=True) == {"same": 9}

    # In place: the same container afterwards. By replacement: another one that really has the new check.
    assert run.up(_platform(prefix, memory=96, memory_swap=96, restart="always")) == {"same": 8, "update": 1}
    main.reload()
    assert main.attrs["HostConfig"]["MemorySwap"] == 96 * 1024 * 1024
    assert main.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
    changed = _platform(prefix, healthcheck=_healthcheck("2s"))
    assert run.preview(changed) == {"same": 8, "replace": 1}
    assert run.up() == {"same": 8, "replace": 1}
    replaced = client.containers.get(f"{prefix}-main")
    assert replaced.id != main.id
    assert replaced.attrs["Config"]["Healthcheck"]["Interval"] == 2 * 10**9

    # Drift: stopped is started again with its file system, disconnected and removed are made anew.
    replaced.stop(timeout=1)
    assert run.up(refresh=True) == {"same": 8, "update": 1}
    replaced.reload()
    assert replaced.status == "running"
    client.networks.get(f"{prefix}-other").disconnect(replaced)
    client.containers.get(f"{prefix}-seed").remove()
    replaced.update(mem_limit="32m", memswap_limit="64m")
    assert run.up(refresh=True) == {"same": 7, "create": 1, "replace": 1}
    repaired = client.containers.get(f"{prefix}-main")
    assert set(repaired.attrs["NetworkSettings"]["Networks"]) == {f"{prefix}-network", f"{prefix}-other"}
    assert repaired.attrs["HostConfig"]["Memory"] == 64 * 1024 * 1024

    run.destroy()
    assert not client.containers.list(all=True, filters={"name": prefix})
    assert not client.networks.list(names=[f"{prefix}-"])
    assert not client.volumes.list(filters={"name": prefix})


def test_failures_say_why_and_the_next_run_repairs(
    stack: Callable[[Program], Run], client: DockerClient, prefix: str, tmp_path: Path
) -> None:
    # A folder of its own: the stack's state is beside it, and files that the engine writes come and go.
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nARG WORD=none\nRUN echo $WORD > /word && test $WORD = good\n")

    def program(*, good: bool, word: str) -> Program:
        def containers() -> None:
            def container(name: str, command: str, **more: Any) -> pulumi_docker.Container:
                return pulumi_docker.Container(
                    name,
                    name=f"{prefix}-{name}",
                    image=IMAGE,
                    command=["sh", "-c", command],
                    destroy_grace_seconds=0,
                    **more,
                )

            health = {
                "wait": True,
                "wait_timeout": 30,
                "healthcheck": _healthcheck("0.5s", "test -e /ok || { echo no; exit 1; }"),
            }
            container("sick", "touch /ok; sleep 60" if good else "sleep 60", **health)
            container("gone", "touch /ok; sleep 60" if good else "echo broken; exit 3", **health)
            job = {"attach": True, "logs": True, "must_run": False, "envs": [pulumi.Output.secret(f"S={HIDDEN}")]}
            container("job", "echo done" if good else f"echo said {HIDDEN}; exit 7", **job)
            ports = [{"internal": 80, "external": 1 if word == "good" else 0x1FFFF, "ip": "127.0.0.1"}]
            container("port", "sleep 60", ports=ports, must_run=False)
            pulumi_docker.Image(
                "image",
                image_name=f"aikit-test/built:{prefix}",
                skip_push=True,
                build={"context": str(context), "args": {"WORD": word}},
            )

        return containers

    run = stack(program(good=False, word="bad"))
    started = time.monotonic()
    said = run.up_fails()
    assert time.monotonic() - started < 20, "a container that cannot become healthy must not use up its timeout"
    assert "sick is unhealthy; its last check said: no" in said
    assert "gone exited with code 3 before it was healthy; its last lines:" in said
    assert "broken" in said
    assert "job exited with code 7" in said
    assert "said [secret]" in said
    assert HIDDEN not in said
    assert "Traceback" not in said
    assert "cannot build image" in said
    assert "RUN echo $WORD" in said
    # What never ran is neither on the machine nor in the state; what ran is in both.
    names = {item["urn"].split("::")[-1] for item in run.state() if item.get("custom")}
    assert {"sick", "gone", "job"} <= names
    assert not {"port", "image"} & names
    assert not client.containers.list(all=True, filters={"name": f"{prefix}-port"})

    before = client.containers.get(f"{prefix}-job").id
    assert run.up(program(good=True, word="good")) == {"same": 1, "replace": 3, "create": 2}
    assert client.containers.get(f"{prefix}-job").id != before
    assert client.images.get(f"aikit-test/built:{prefix}")
    assert run.up() == {"same": 6}

    # An unchanged job that failed is run again, not taken for done.
    bad = program(good=False, word="good")
    run.up_fails(bad)
    assert run.preview()["replace"] == 3
    client.images.remove(f"aikit-test/built:{prefix}")


def test_a_container_is_ready_when_its_check_passes_and_not_when_docker_looks(
    client: DockerClient, prefix: str
) -> None:
    from providers.docker.container import Container

    defaults = {name: known.default for name, known in Container.properties.items() if known.default is not None}
    command = ["sh", "-c", "sleep 1; touch /ok; sleep 60"]
    inputs = {**defaults, "name": f"{prefix}-quick", "image": IMAGE, "command": command, "wait": True}
    for check in (_healthcheck("60s", "test -e /ok"), {**_healthcheck("60s"), "tests": ["CMD", "test", "-e", "/ok"]}):
        made = Container().create(client, {**inputs, "healthcheck": check})
        try:
            container: Any = client.containers.get(made.identifier)
            assert container.attrs["State"]["Health"]["Status"] == "starting", "Docker has not looked yet"
            assert container.exec_run(["test", "-e", "/ok"]).exit_code == 0
        finally:
            Container().delete(client, made.identifier, {"destroyGraceSeconds": 0})


def test_a_wait_ends_when_the_run_is_cancelled(client: DockerClient, prefix: str) -> None:
    from providers.docker.container import Container
    from providers.resource import Operation, PartialFailureError, begin

    cancelled = threading.Event()
    begin(Operation(report=lambda _: None, cancelled=cancelled))
    defaults = {name: known.default for name, known in Container.properties.items() if known.default is not None}
    inputs = {**defaults, "name": f"{prefix}-slow", "image": IMAGE, "command": ["sleep", "60"], "wait": True}
    inputs["healthcheck"] = _healthcheck("30s", "false")
    threading.Timer(1, cancelled.set).start()
    with pytest.raises(PartialFailureError, match="cancelled") as caught:
        Container().create(client, inputs)
    Container().delete(client, caught.value.identifier, {"destroyGraceSeconds": 0})
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(f"{prefix}-slow")


def test_what_a_job_says_is_its_progress(client: DockerClient, prefix: str) -> None:
    from providers.docker.container import Container
    from providers.resource import Operation, begin

    said: list[str] = []
    begin(Operation(report=said.append, cancelled=threading.Event()))
    defaults = {name: known.default for name, known in Container.properties.items() if known.default is not None}
    command = ["sh", "-c", "for part in 1 2 3; do sleep 2; echo part $part of 3; done"]
    inputs = {**defaults, "name": f"{prefix}-job", "image": IMAGE, "command": command, "attach": True, "mustRun": False}
    made = Container().create(client, inputs)
    assert [line for line in said if line][:2] == ["part 1 of 3", "part 2 of 3"]
    Container().delete(client, made.identifier, {"destroyGraceSeconds": 0})
