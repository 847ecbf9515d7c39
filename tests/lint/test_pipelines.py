"""The pipelines are valid, safe, and call commands that exist."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import click
import pytest
import yaml

from operations.cli import cli

ROOT = Path(__file__).parents[2]

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7"

UNTRUSTED = re.compile(r"\$\{\{\s*(github\.(event|head_ref|base_ref)|matrix|vars|inputs)")
"""Expressions that would become part of a script's text, where they could be commands."""


def workflow(path: Path) -> dict[str, Any]:
    """Read a workflow; YAML takes its key ``on`` for a boolean."""
    data = cast("dict[Any, Any]", yaml.safe_load(path.read_text()))
    return {("on" if key is True else str(key)): value for key, value in data.items()}


def steps() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every step of every workflow with where it is."""
    for path in WORKFLOWS:
        for name, job in workflow(path)["jobs"].items():
            for number, step in enumerate(job["steps"]):
                yield f"{path.name}:{name}:{number}", step


def gitlab() -> dict[str, Any]:
    """Read GitLab's pipeline."""
    return cast("dict[str, Any]", yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text()))


def scripts() -> Iterator[tuple[str, str]]:
    """Yield every script of every pipeline with where it is."""
    for where, step in steps():
        if "run" in step:
            yield where, str(step["run"])
    for name, job in gitlab().items():
        if isinstance(job, dict):
            for part in ("before_script", "script", "after_script"):
                for number, line in enumerate(cast("dict[str, Any]", job).get(part, [])):
                    yield f".gitlab-ci.yml:{name}:{part}:{number}", str(line)
    text = (ROOT / "Jenkinsfile").read_text()
    for number, found in enumerate(re.findall(r"sh '''(.*?)'''|sh '([^'\n]*)'", text, re.DOTALL)):
        yield f"Jenkinsfile:{number}", found[0] or found[1]


SCRIPTS = list(scripts())


def calls() -> Iterator[tuple[str, list[str]]]:
    """Yield every call of ``./aikit`` with its arguments, without redirections."""
    for where, script in SCRIPTS:
        for line in script.splitlines():
            if "./aikit" in line:
                words = shlex.split(line)
                end = next(
                    (position for position, word in enumerate(words) if word in {">", ">>", "|", "&&", ";"}), len(words)
                )
                yield where, words[words.index("./aikit") + 1 : end]


CALLS = list(calls())


@pytest.mark.spec("CI-01", "CI-02", "CI-05")
@pytest.mark.parametrize(
    ("where", "arguments"), CALLS, ids=[f"{where} {' '.join(words[:3])}" for where, words in CALLS]
)
def test_every_command_of_a_pipeline_exists(where: str, arguments: list[str]) -> None:
    """Each call is understood by the command line, and each file that it names is there."""
    command = cli.commands[arguments[0]]
    context = command.make_context(arguments[0], list(arguments[1:]), resilient_parsing=False)
    assert isinstance(context, click.Context), where
    if arguments[0] == "test":
        for path in context.params["arguments"]:
            assert path.startswith("tests/"), where


@pytest.mark.spec("CI-01", "CI-02", "CI-05", "OPS-05")
@pytest.mark.parametrize("pipeline", ["deploy.yml|pull-request.yml|rotate.yml", ".gitlab-ci.yml", "Jenkinsfile"])
def test_every_pipeline_does_the_same(pipeline: str) -> None:
    """Tests, plan against the target, compliance, and deployments to dev and to prod that come back by themselves if they fail."""
    files = pipeline.split("|")
    found = {words[0] for where, words in CALLS if where.split(":")[0] in files}
    assert found == {"test", "plan", "compliance", "up", "status", "rotate"}
    text = "".join(script for where, script in SCRIPTS if where.split(":")[0] in files)
    assert "--against" in text
    assert "curl" not in text, "./aikit itself tells how a deployment ended"
    ups = [words for where, words in CALLS if where.split(":")[0] in files and words[0] == "up"]
    assert all("--rollback-on-failure" in words for words in ups)
    rotations = [words for where, words in CALLS if where.split(":")[0] in files and words[0] == "rotate"]
    assert all({"--due", "--yes"} <= set(words) for words in rotations)
    # What a rollback needs outlives the checkout, which a runner cleans.
    assert all("AIKIT_HOME" in (ROOT / path).read_text() for path in _deploying(files))


@pytest.mark.spec("CI-01", "CI-02", "CI-05")
@pytest.mark.parametrize(("where", "script"), SCRIPTS, ids=[where for where, _ in SCRIPTS])
def test_every_script_is_shell(where: str, script: str) -> None:
    """The shell can read it, and in GitHub no text of a pull request is part of it."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}: {done.stderr}"
    assert not UNTRUSTED.search(script), f"{where}: an expression in a script is run as its text; pass it by env"


@pytest.mark.spec("CI-01")
def test_actions_are_pinned_by_commit() -> None:
    """A tag can be moved to other code; the version stands in a comment for readers."""
    for path in WORKFLOWS:
        for line in path.read_text().splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), f"{path.name}: {line.strip()}"


@pytest.mark.spec("CI-01")
def test_what_runs_a_strangers_code_may_do_nothing() -> None:
    """A pull request's code gets a token that reads, and no secret; what may write runs none of that code."""
    for path in WORKFLOWS:
        data = workflow(path)
        text = path.read_text()
        assert data["permissions"] == {}, path.name
        assert "pull_request_target" not in text
        for name, job in data["jobs"].items():
            assert job["timeout-minutes"], name
            writes = "write" in job["permissions"].values()
            checks_out = any("actions/checkout" in str(step.get("uses")) for step in job["steps"])
            assert not (writes and checks_out), f"{path.name}:{name} may write and has code of the pull request"
        if "pull_request" in data["on"]:
            assert "secrets." not in text
    for where, step in steps():
        if "actions/checkout" in str(step.get("uses")):
            assert step["with"]["persist-credentials"] is False, where


@pytest.mark.spec("CI-01", "CI-02", "CI-05")
def test_what_starts_each_pipeline() -> None:
    """Requests are judged, the main branch is deployed, a clock rotates; nothing else starts anything."""
    started = {path.stem: workflow(path)["on"] for path in WORKFLOWS}
    assert started == {
        "pull-request": {"pull_request": None},
        "comment": {"workflow_run": {"workflows": ["Pull request"], "types": ["completed"]}},
        "deploy": {"push": {"branches": ["main"]}},
        "rotate": {"schedule": [{"cron": "17 3 * * 1"}], "workflow_dispatch": {}},
    }
    assert workflow(ROOT / ".github" / "workflows" / "pull-request.yml")["name"] == "Pull request"
    main = "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
    request = '$CI_PIPELINE_SOURCE == "merge_request_event"'
    assert gitlab()["workflow"]["rules"] == [{"if": request}, {"if": main}]
    assert gitlab()["plan"]["rules"] == [{"if": request}]
    deploy = f'{main} && $CI_PIPELINE_SOURCE != "schedule"'
    assert [gitlab()[f"deploy-{stack}"]["rules"][0]["if"] for stack in ("dev", "prod")] == [deploy, deploy]
    stages = dict(re.findall(r"stage\('([^']+)'\) \{\s+when \{ ([^\n]*) \}", (ROOT / "Jenkinsfile").read_text()))
    assert stages["Plan"] == "changeRequest()"
    for name in ("Deploy to dev", "Deploy to prod", "Rotate on dev", "Rotate on prod", "Approve"):
        assert "branch 'main'" in stages[name], name


@pytest.mark.spec("CI-02", "OPS-05")
def test_production_needs_an_approval() -> None:
    """In each pipeline someone has to say yes, and dev comes first."""
    deploy = workflow(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"]
    assert deploy["prod"]["environment"] == "prod"
    assert deploy["prod"]["needs"] == "dev"
    assert deploy["dev"]["needs"] == "test"
    assert gitlab()["deploy-prod"]["rules"][0]["when"] == "manual"
    assert gitlab()["deploy-prod"]["needs"] == ["deploy-dev"]
    rotate = workflow(ROOT / ".github" / "workflows" / "rotate.yml")["jobs"]
    assert (rotate["prod"]["environment"], rotate["prod"]["needs"]) == ("prod", "dev")
    assert gitlab()["rotate-prod"]["rules"][0]["when"] == "manual"
    text = (ROOT / "Jenkinsfile").read_text()
    assert text.index("up --stack dev") < text.index("input message") < text.index("up --stack prod")
    assert text.index("--due --stack dev") < text.index("input message") < text.index("--due --stack prod")


@pytest.mark.spec("CI-05", "VLT-14")
def test_a_schedule_only_rotates() -> None:
    """Where a clock began the run, nothing else is tested, deployed or planned."""
    for name, job in gitlab().items():
        if name.startswith(("test", "deploy-", "plan", "comment")):
            assert all('!= "schedule"' in rule["if"] or "merge_request_event" in rule["if"] for rule in job["rules"]), (
                name
            )
    clock = '$CI_PIPELINE_SOURCE == "schedule" && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH'
    assert {name: job["rules"] for name, job in gitlab().items() if name.startswith("rotate-")} == {
        "rotate-dev": [{"if": clock}],
        "rotate-prod": [{"if": clock, "when": "manual"}],
    }
    stages = re.split(r"stage\('", (ROOT / "Jenkinsfile").read_text())[1:]
    by_clock = {stage.partition("'")[0]: "not { triggeredBy 'TimerTrigger' }" not in stage for stage in stages}
    assert by_clock == {
        "Check": False,
        "Plan": True,
        "Deploy to dev": False,
        "Rotate on dev": True,
        "Approve": True,
        "Deploy to prod": False,
        "Rotate on prod": True,
    }


@pytest.mark.spec("CI-05")
def test_gitlabs_pipeline_is_sound() -> None:
    """Every job has a known stage, what it needs and extends exists, and only known keywords are used."""
    data = gitlab()
    keywords = {
        *(
            "stage",
            "image",
            "tags",
            "timeout",
            "script",
            "after_script",
            "artifacts",
            "rules",
            "parallel",
            "variables",
            "needs",
        ),
        *("extends", "environment", "resource_group", "interruptible"),
    }
    jobs = {name: cast("dict[str, Any]", job) for name, job in data.items() if name not in {"stages", "workflow"}}
    for name, job in jobs.items():
        assert set(job) <= keywords, name
        merged = job
        while "extends" in merged:
            parent = jobs[str(merged["extends"])]
            merged = {**parent, **{key: value for key, value in merged.items() if key != "extends"}}
        assert merged["script"], name
        if not name.startswith("."):
            assert merged["stage"] in data["stages"], name
        assert set(job.get("needs", [])) <= set(jobs), name
        if "extends" in job:
            assert job["extends"] in jobs, name


@pytest.mark.spec("CI-01")
def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    """The workflows are what GitHub understands; actionlint is built once by Go's own cache where it is not installed."""
    program = shutil.which("actionlint")
    if program is None:
        go = shutil.which("go")
        if go is None:
            pytest.skip("neither actionlint nor go is installed")
        program = str(tmp_path / "actionlint")
        environment = {"GOBIN": str(tmp_path), "GOFLAGS": "-modcacherw"}
        built = subprocess.run(
            [go, "install", ACTIONLINT],
            env={**_environment(), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            pytest.skip(f"actionlint can't be built here: {built.stderr[-200:]}")
    done = subprocess.run([program, "-no-color"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.spec("CI-05")
def test_gitlabs_schema_accepts_its_pipeline(tmp_path: Path) -> None:
    """GitLab's own JSON schema for pipelines, which the checker brings along, finds nothing; it does find a mistake."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text((ROOT / ".gitlab-ci.yml").read_text().replace("when: manual", "when: sometimes"))
    for path, code in ((ROOT / ".gitlab-ci.yml", 0), (wrong, 1)):
        done = subprocess.run(
            [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr


def _deploying(files: list[str]) -> list[str]:
    return [f".github/workflows/{name}.yml" for name in ("deploy", "rotate")] if "deploy.yml" in files else files


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)
