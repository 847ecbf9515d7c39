"""The plan: everything that a program declares, without running it."""

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import pulumi
import pulumi_docker as docker
import pulumi_random as random
import pytest

from operations import plan as plans
from operations.difference import flatten
from operations.plan import Plan, PlanError

ROOT = plans.ROOT


def program() -> None:
    """Declare a little of everything."""
    host = docker.Provider("host")
    group = pulumi.ComponentResource("aikit:data:Thing", "thing")
    options = pulumi.ResourceOptions(parent=group, provider=host)
    password = random.RandomPassword("password", length=20, opts=pulumi.ResourceOptions(parent=group))
    volume = docker.Volume(
        "data",
        docker.VolumeArgs(name="data"),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(protect=True, retain_on_delete=True)),
    )
    docker.Container(
        "server",
        docker.ContainerArgs(
            image="redis:8.0.2",
            envs=[pulumi.Output.concat("ADDRESS=redis://:", password.result, "@", "server"), "PLAIN=1"],
            uploads=[
                docker.ContainerUploadArgs(file="/password", content=password.result),
                docker.ContainerUploadArgs(file="/literal", content=pulumi.Output.secret("hunter2")),
                docker.ContainerUploadArgs(file="/plain", content=f"root={ROOT}/services"),
            ],
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/data")],
        ),
        pulumi.ResourceOptions.merge(
            options, pulumi.ResourceOptions(replace_on_changes=["init", "healthcheck"], delete_before_replace=True)
        ),
    )
    job = docker.Container("job", docker.ContainerArgs(image="redis:8.0.2", must_run=False), options)

    def succeeded(code: int) -> int:
        if code:
            raise RuntimeError(str(code))
        return code

    pulumi.export("code", job.exit_code.apply(succeeded))
    pulumi.export("password", password.result)
    pulumi.export("literal", pulumi.Output.secret("hunter2"))
    pulumi.export("address", pulumi.Output.concat("redis://", job.name, "/", volume.mountpoint))


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The plan of the program above."""
    return plans.record(program, stack="dev")


@pytest.mark.spec("INF-04", "CI-01")
def test_every_resource_is_recorded_with_its_place(plan: Plan) -> None:
    """Types, parents, providers, dependencies and options are those of the program."""
    by_name = {resource.name: resource for resource in plan.resources}
    server, thing = by_name["server"], by_name["thing"]
    assert server.urn == "urn:pulumi:dev::aikit::aikit:data:Thing$docker:index/container:Container::server"
    assert server.parent == thing.urn
    assert thing.parent is None
    assert not thing.custom
    assert server.provider == by_name["host"].urn
    assert by_name["password"].urn in server.dependencies
    assert server.options == {"deleteBeforeReplace": True, "replaceOnChanges": ["healthcheck", "init"]}
    assert by_name["data"].options == {"protect": True, "retainOnDelete": True}
    assert plans.component(plan, server) == thing
    assert {resource.name for resource in plan.custom()} == {"password", "data", "server", "job"}


@pytest.mark.spec("INF-04")
def test_what_only_a_run_knows_is_a_reference(plan: Plan) -> None:
    """Generated values are named by where they come from; a job's exit code counts as success."""
    server = next(resource for resource in plan.resources if resource.name == "server")
    assert server.properties["volumes"] == [{"containerPath": "/data", "volumeName": "data"}]
    assert plan.outputs["address"] == "redis://${job.name}/${data.mountpoint}"
    assert plan.outputs["code"] == 0
    assert plan.outputs["password"] == "${password.result}"


@pytest.mark.spec("SEC-04")
def test_secrets_are_masked_as_references(plan: Plan) -> None:
    """A secret is its reference, or a hash and the references in it, or nothing at all."""
    server = next(resource for resource in plan.resources if resource.name == "server")
    flat = flatten(server.properties)
    envs = cast("list[str]", server.properties["envs"])
    assert envs[0].startswith("[secret ")
    assert envs[0].endswith(" of ${password.result}]")
    assert envs[1] == "PLAIN=1"
    uploads = {path: flat[f"uploads[{path}].content"] for path in ("/password", "/literal")}
    assert uploads["/password"] == "${password.result}"
    assert uploads["/literal"] == plans.MASKED
    assert plan.outputs["literal"] == plans.MASKED
    assert "hunter2" not in plans.text(plan)


@pytest.mark.spec("CI-01")
def test_paths_of_this_machine_are_not_in_a_plan(plan: Plan) -> None:
    """The project's folder is written as a point."""
    assert str(ROOT) not in plans.text(plan)
    assert "root=./services" in plans.text(plan)


@pytest.mark.spec("CI-01")
def test_a_plan_survives_json(plan: Plan) -> None:
    """Reading what was written gives an equal plan; another format is refused."""
    assert Plan.from_json(json.loads(plans.text(plan))) == plan
    with pytest.raises(PlanError, match="format 99"):
        Plan.from_json({"format": 99})


@pytest.mark.spec("CI-01")
def test_the_order_of_registration_does_not_matter() -> None:
    """The same resources in another order, and at other times, give the same bytes."""

    def declare(names: list[str]) -> None:
        for name in names:
            random.RandomPassword(name, length=20)

    forward = plans.record(lambda: declare(["a", "b", "c"]), stack="dev")
    backward = plans.record(lambda: declare(["c", "b", "a"]), stack="dev")
    assert plans.text(forward) == plans.text(backward)


@pytest.mark.spec("OPS-02")
def test_a_program_that_fails_is_one_sentence() -> None:
    """The error names the stack and the cause; the next plan works."""

    def fails() -> None:
        raise ValueError("no such thing")

    with pytest.raises(PlanError, match=r"stack dev failed: ValueError: no such thing"):
        plans.record(fails, stack="dev")

    def fails_later() -> None:
        def explode(value: str) -> str:
            raise ValueError(f"later: {value}")

        pulumi.export("x", random.RandomPassword("a", length=20).result.apply(explode))

    with pytest.raises(PlanError, match="later"):
        plans.record(fails_later, stack="dev")
    assert plans.record(program, stack="dev").resources


@pytest.mark.spec("OPS-02")
def test_a_stack_that_does_not_exist_is_said_with_those_that_do() -> None:
    """The error is of use to whoever mistypes a name."""
    with pytest.raises(PlanError, match=r"no stack nowhere .*dev, prod"):
        plans.plan("nowhere")


@pytest.mark.spec("INF-04", "CI-01")
def test_the_callers_own_program_is_not_disturbed() -> None:
    """Planning leaves the runtime of the calling thread as it was, from any thread."""
    from pulumi.runtime.settings import get_root_resource

    before = get_root_resource()
    results: list[Plan] = []
    thread = threading.Thread(target=lambda: results.append(plans.record(program, stack="dev")))
    thread.start()
    thread.join()
    assert results
    assert get_root_resource() is before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_callers_garbage_is_collected_as_before(enabled: bool) -> None:
    """Whether the program ends well or not; while it runs, nobody looks for garbage."""
    seen: list[bool] = []

    def fails() -> None:
        seen.append(gc.isenabled())
        raise ValueError("no such thing")

    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        plans.record(lambda: seen.append(gc.isenabled()), stack="dev")
        assert gc.isenabled() is enabled
        with pytest.raises(PlanError):
            plans.record(fails, stack="dev")
        assert gc.isenabled() is enabled
    finally:
        gc.enable() if before else gc.disable()
    assert seen == [False, False]


@pytest.mark.spec("INF-04", "CI-01")
@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_a_real_stack_gives_the_same_bytes_in_every_process(stack: str, tmp_path: Path) -> None:
    """Neither the hash seed, nor the folder, nor a running process shows in a plan."""
    arguments = [
        sys.executable,
        "-P",
        str(ROOT / "operations" / "plan.py"),
        "--stack",
        stack,
        "--root",
        str(ROOT),
        "--output",
    ]
    texts: list[str] = []
    for seed in ("1", "2"):
        output = tmp_path / f"{seed}.json"
        subprocess.run([*arguments, str(output)], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=tmp_path, check=True)
        texts.append(output.read_text())
    assert texts[0] == texts[1] == plans.text(plans.plan(stack))


@pytest.mark.spec("INF-04")
def test_a_real_stack_names_no_secret_and_no_machine() -> None:
    """Nothing in the plan of production looks like a key or a path of this machine."""
    text = plans.text(plans.plan("prod"))
    assert "PRIVATE KEY-----" not in text
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text.replace("/root/.ollama", "")


@pytest.mark.spec("OPS-01")
def test_the_flow_chart_shows_what_waits_for_what() -> None:
    """Components are its nodes, and an arrow leads from each to what it needs."""
    chart = plans.flowchart(plans.plan("dev"))
    assert chart.startswith("flowchart LR\n")
    names = {line.split('"')[1]: line.split("[")[0].strip() for line in chart.splitlines() if '["' in line}
    assert f"  {names['open-webui']} --> {names['postgres']}" in chart


@pytest.mark.spec("CI-01", "OPS-02")
def test_the_command_prints_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Tree, JSON with the policies' results, and flow chart; an unknown stack is exit code 2."""
    assert plans.command("dev") == 0
    printed = capsys.readouterr()
    assert "haproxy-container" in printed.out
    assert "policies (dev)" in printed.err
    assert plans.command("dev", as_json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["policies"]["environment"] == "dev"
    assert plans.command("dev", mermaid=True) == 0
    assert capsys.readouterr().out.startswith("flowchart")
    assert plans.command("nowhere") == 2
    assert "no stack nowhere" in capsys.readouterr().err
