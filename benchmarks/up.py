"""How long `./aikit up` takes from nothing, against Docker Compose: ``python benchmarks/up.py [STACK]``.

Compose starts the same containers from the same images, with the same files, limits, health checks and order, on fresh data volumes;
`./aikit up` also makes certificates, passwords and the realm, and has the secrets brought into memory, which Compose finds in volumes: its
Vault is empty, so the secrets agents are left out there. Images have to be there already. Bar: at most 1.2 times Compose's time.
The stack is removed **with its data** before and afterwards, so a stack with data is refused. Needs Docker's Compose plugin
(``apt install docker-compose`` on Debian 13, ``docker-compose-v2`` on Ubuntu), or its path in ``DOCKER_COMPOSE``.
"""

import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from components.data.postgres import JOB  # noqa: E402  # only found once the path is right
from components.secrets.names import AGENTS  # noqa: E402  # only found once the path is right
from operations import state  # noqa: E402
from operations.containers import DATA_LABEL, STACK_LABEL  # noqa: E402
from operations.project import Project  # noqa: E402

COMPOSE = shlex.split(os.environ.get("DOCKER_COMPOSE", "docker compose"))
"""Command line of Compose 2."""

PROJECT = "aikit-benchmark"
"""Name of the Compose project, and the start of its volumes' names."""

SETTLING_SECONDS = 20
"""How long Keycloak and the chat go on working after they are healthy, which would slow down the next measurement."""

DONE = "done"
"""A service of Compose alone, which waits for all others."""


def say(line: str) -> None:
    """Print one line of the result."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def seconds(action: Callable[[], Any]) -> float:
    """Return the wall time of ``action``."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def run(*command: str) -> None:
    """Run a command; what it says is shown only where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def order(known: state.State) -> dict[str, set[str]]:
    """Return the containers that each container waits for, by identifier; what lies between them and the agents do not count."""
    resources = {str(resource["urn"]): resource for resource in known.resources}
    urns = (str(resource["urn"]) for resource in known.of_type(state.CONTAINER))
    left_out = {f"{agent}-container" for agent in AGENTS}
    containers = {urn for urn in urns if urn.rpartition("::")[2] not in left_out}

    @functools.cache
    def needed(urn: str) -> frozenset[str]:
        found: set[str] = set()
        for dependency in resources.get(urn, {}).get("dependencies") or ():
            found |= {dependency} if dependency in containers else needed(dependency)
        return frozenset(found)

    return {str(resources[urn]["id"]): {str(resources[each]["id"]) for each in needed(urn)} for urn in containers}


def service(container: Any, waits_for: Mapping[str, str]) -> dict[str, Any]:
    """Return a container as a Compose service.

    Args:
        container: the running one.
        waits_for: the condition by name of each service that it waits for.
    """
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    check = config.get("Healthcheck")
    ports = [
        f"{binding['HostIp'] or '0.0.0.0'}:{binding['HostPort']}:{port}"  # noqa: S104 - as the container has it
        for port, bindings in (host["PortBindings"] or {}).items()
        for binding in bindings
    ]
    described: dict[str, Any] = {
        "image": config["Image"],
        "entrypoint": config["Entrypoint"],
        "command": config["Cmd"],
        "user": config["User"],
        "environment": config["Env"],
        "networks": {
            name: {"aliases": [alias for alias in network["Aliases"] or () if not container.id.startswith(alias)]}
            for name, network in container.attrs["NetworkSettings"]["Networks"].items()
            if name not in {"none", "host"}
        },
        "volumes": [f"{bind.partition(':')[0]}:{bind.partition(':')[2]}" for bind in host["Binds"] or ()],
        "tmpfs": [f"{path}:{options}" for path, options in (host.get("Tmpfs") or {}).items()],
        "ports": ports,
        "cap_drop": host["CapDrop"] or [],
        "cap_add": host["CapAdd"] or [],
        "security_opt": host["SecurityOpt"] or [],
        "read_only": host["ReadonlyRootfs"],
        "init": bool(host["Init"]),
        "mem_limit": host["Memory"],
        "memswap_limit": host["MemorySwap"],
        "shm_size": host["ShmSize"],
        "cpu_shares": host["CpuShares"] or None,
        "depends_on": {name: {"condition": condition} for name, condition in waits_for.items()},
        "restart": host["RestartPolicy"]["Name"] or "no",
    }
    if host["NetworkMode"] == "none":
        described["network_mode"] = "none"
    if host["CpuQuota"]:
        described |= {"cpu_quota": host["CpuQuota"], "cpu_period": host["CpuPeriod"]}
    if check:
        described["healthcheck"] = {
            "test": check["Test"],
            **{
                name: f"{check[key]}ns"
                for name, key in (("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod"))
                if check.get(key)
            },
            "retries": check.get("Retries") or 3,
        }
    return _escaped({key: value for key, value in described.items() if value not in (None, [], {}, "")})


def _escaped(value: Any) -> Any:
    """Double each dollar sign, which Compose would take for a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


def composition(client: docker.DockerClient, stack: str) -> dict[str, Any]:
    """Return the running stack as a Compose file."""
    labelled: dict[str, str | list[str] | bool] = {"label": f"{STACK_LABEL}={stack}"}
    waits = order(state.read(Project().state(stack)) or state.State())
    # Those that were never started only carried files.
    containers = [
        each
        for each in client.containers.list(all=True, filters=labelled)
        if each.attrs["State"]["Status"] != "created" and each.labels["aikit.service"] not in AGENTS
    ]
    names = {str(each.id): each.labels["aikit.service"] for each in containers}
    conditions = {
        names[str(each.id)]: "service_healthy" if each.attrs["State"]["Running"] else "service_completed_successfully"
        for each in containers
    }
    services = {
        names[str(each.id)]: service(
            each, {names[other]: conditions[names[other]] for other in waits.get(str(each.id), ()) if other in names}
        )
        for each in containers
    }
    # Compose's own --wait takes a job that ended well for a failure; what depends on all is started when all are as they should be.
    some = next(iter(services.values()))
    services[DONE] = {
        "image": some["image"],
        "entrypoint": ["true"],
        "network_mode": "none",
        "depends_on": {name: {"condition": condition} for name, condition in conditions.items()},
    }
    return {
        "name": PROJECT,
        "services": services,
        "networks": {
            network.name: {"internal": network.attrs["Internal"]} for network in client.networks.list(filters=labelled)
        },
        "volumes": {
            volume.name: {"external": True, "name": f"{PROJECT}-{volume.name}"}
            for volume in client.volumes.list(filters=labelled)
        },
    }


def copy_volumes(client: docker.DockerClient, stack: str, image: str) -> None:
    """Make Compose's volumes: with the files that the deployment wrote, and empty for data."""
    for volume in client.volumes.list(filters={"label": f"{STACK_LABEL}={stack}"}):
        name = f"{PROJECT}-{volume.name}"
        client.volumes.create(name, labels={"aikit.benchmark": stack})
        if DATA_LABEL not in (volume.attrs["Labels"] or {}):
            in_container(client, image, "cp -a /from/. /to/", {volume.name: "/from", name: "/to"})


def in_container(
    client: docker.DockerClient, image: str, script: str, volumes: Mapping[str, str], **environment: str
) -> None:
    """Run a script in a container with volumes, each at its folder."""
    container = client.containers.run(
        image,
        ["-c", script],
        entrypoint="sh",
        user="0",
        network_mode="none",
        detach=True,
        environment=environment,
        volumes={name: {"bind": folder, "mode": "rw"} for name, folder in volumes.items()},
    )
    try:
        if container.wait()["StatusCode"]:
            raise SystemExit(f"`{script}` failed in a container: {container.logs().decode().strip()}")
    finally:
        # With the volumes that its image asks for.
        container.remove(force=True, v=True)


def give_passwords(client: docker.DockerClient, stack: str, image: str) -> None:
    """Let Compose's job give the databases' roles the passwords that the copied files have; Vault did so."""
    query = "SELECT format('ALTER ROLE %I PASSWORD %L;', rolname, rolpassword) FROM pg_authid WHERE rolpassword <> ''"
    server = client.containers.get(f"aikit-{stack}-postgres")
    done: Any = server.exec_run(["psql", "--username=postgres", "--tuples-only", "--no-align", "-c", query])
    if done.exit_code:
        raise SystemExit(f"Reading the roles of stack {stack} failed: {done.output.decode().strip()}")
    volume = f"{PROJECT}-aikit-{stack}-{JOB}-secrets"
    script = 'printf "%s" "$ROLES" >> /to/databases.sql'
    in_container(client, image, script, {volume: "/to"}, ROLES=done.output.decode())


@contextmanager
def compose(client: docker.DockerClient, stack: str, file: Path) -> Generator[list[str]]:
    """Lend the command line of Compose; what it made is removed at the end."""
    command = [*COMPOSE, "-f", str(file)]
    try:
        yield command
    finally:
        run(*command, "down", "--volumes", "--timeout", "5")
        for volume in client.volumes.list(filters={"label": f"aikit.benchmark={stack}"}):
            volume.remove(force=True)


def main(stack: str) -> None:
    """Measure both, one after the other, and print the ratio."""
    client = docker.from_env(timeout=120)
    if client.volumes.list(filters={"label": [f"{STACK_LABEL}={stack}", DATA_LABEL]}):
        raise SystemExit(f"Stack {stack} has data, which this would remove: ./aikit destroy --data --stack {stack}")
    run(*COMPOSE, "version")
    aikit = [str(ROOT / "aikit")]
    destroy = [*aikit, "destroy", "--stack", stack, "--yes", "--data", "--keep-images"]
    up = [*aikit, "up", "--stack", stack, "--yes"]
    ours = seconds(lambda: run(*up))
    time.sleep(SETTLING_SECONDS)
    again = seconds(lambda: run(*up))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "compose.yaml"
        described = composition(client, stack)
        file.write_text(yaml.safe_dump(json.loads(json.dumps(described))))
        image = next(iter(described["services"].values()))["image"]
        copy_volumes(client, stack, image)
        give_passwords(client, stack, image)
        run(*destroy)
        with compose(client, stack, file) as command:
            theirs = seconds(lambda: run(*command, "up", "--detach", "--quiet-pull"))
    count = len(described["services"]) - 1
    say(f"./aikit up, from nothing   {ours:6.1f} s  {count} containers, certificates, passwords, realm")
    say(f"docker compose up --detach {theirs:6.1f} s  {count} containers")
    say(f"ratio                      {ours / theirs:6.2f}    (bar 1.20)")
    say(f"./aikit up, again          {again:6.1f} s  (bar 6)")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "test")
