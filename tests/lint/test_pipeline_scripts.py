"""The pipelines' scripts do what they are for: they are run as the forges run them, against small stand-ins of the forges' interfaces."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Generator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from tests.lint.test_pipelines import ROOT, SCRIPTS, gitlab, workflow

TOKEN = "of-this-test"


def run(script: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a folder as runners do: it ends with the first command that fails."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


class Forge(ThreadingHTTPServer):
    """Keeps notes on one merge request, as GitLab does."""

    notes: list[dict[str, Any]]
    asked: list[tuple[str, str]]

    @property
    def address(self) -> str:
        """Address of its interface."""
        return f"http://127.0.0.1:{self.server_port}/api/v4"


class Handler(BaseHTTPRequestHandler):
    """Lists, adds and changes notes for whoever has the token."""

    def do_GET(self) -> None:
        """List the notes."""
        self._answer(self._forge.notes)

    def do_POST(self) -> None:
        """Add a note."""
        made = {"id": len(self._forge.notes) + 1, "body": self._body()}
        self._forge.notes.append(made)
        self._answer(made)

    def do_PUT(self) -> None:
        """Change a note."""
        number = int(self.path.rpartition("/")[2])
        (note,) = [note for note in self._forge.notes if note["id"] == number]
        note["body"] = self._body()
        self._answer(note)

    @property
    def _forge(self) -> Forge:
        return cast("Forge", self.server)

    def _body(self) -> str:
        return str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])

    def _answer(self, document: Any) -> None:
        self._forge.asked.append((self.command, self.path))
        known = self.path.startswith("/api/v4/projects/7/merge_requests/3/notes")
        code = 404 if not known else 200 if self.headers["PRIVATE-TOKEN"] == TOKEN else 401
        text = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        """Say nothing."""
        del format, args


@pytest.fixture
def forge() -> Generator[Forge]:
    server = Forge(("127.0.0.1", 0), Handler)
    server.notes = [
        {"id": 1, "body": "Looks good."},
        {"id": 2, "body": "<!-- aikit plan dev -->\nof the commit before"},
    ]
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.spec("CI-05")
def test_gitlabs_notes_are_written_once_and_then_kept_up_to_date(forge: Forge, tmp_path: Path) -> None:
    """A plan that there is replaces the note of before; one that is missing, or not a plan, is said to be missing."""
    (script,) = gitlab()["comment"]["script"]
    given = {
        "CI_API_V4_URL": forge.address,
        "CI_MERGE_REQUEST_PROJECT_ID": "7",
        "CI_MERGE_REQUEST_IID": "3",
        "CI_PIPELINE_URL": "https://gitlab.example.org/pipelines/9",
        "PLAN_TOKEN": TOKEN,
    }
    (tmp_path / "plan-dev.md").write_text("<!-- aikit plan dev -->\n" + "x" * 70_000)
    (tmp_path / "plan-prod.md").write_text("@everyone: click here")
    done = run(script, tmp_path, **given)
    assert done.returncode == 0, done.stderr
    first, dev, prod = (str(note["body"]) for note in forge.notes)
    assert first == "Looks good."
    assert (dev[:26], len(dev)) == ("<!-- aikit plan dev -->\nxx", 65536)
    assert prod == (
        "<!-- aikit plan prod -->\nThe plan of stack prod could not be made; see https://gitlab.example.org/pipelines/9."
    )
    (tmp_path / "plan-prod.md").write_text("<!-- aikit plan prod -->\nnothing changes")
    assert run(script, tmp_path, **given).returncode == 0
    assert [note["body"][:20] for note in forge.notes] == [
        "Looks good.",
        "<!-- aikit plan dev ",
        "<!-- aikit plan prod",
    ]
    assert forge.notes[2]["body"].endswith("nothing changes")
    assert [method for method, _ in forge.asked] == ["GET", "PUT", "POST", "GET", "PUT", "PUT"]
    refused = run(script, tmp_path, **{**given, "PLAN_TOKEN": "another"})
    assert refused.returncode != 0
    assert "401" in refused.stderr


COMMENT = """
const [script, given] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const done = [];
const record = (name) => async (values) => { done.push([name, values]); };
const github = {
  rest: {
    pulls: { list: async (values) => { done.push(['list', values]); return { data: given.pulls }; } },
    issues: { listComments: 'comments', createComment: record('create'), updateComment: record('update') },
  },
  paginate: async () => given.comments,
};
const context = { payload: { workflow_run: given.run }, repo: { owner: 'o', repo: 'r' } };
const core = { notice: (text) => { done.push(['notice', text]); } };
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
new AsyncFunction('github', 'context', 'core', 'require', script)(github, context, core, require)
  .then(() => process.stdout.write(JSON.stringify(done)));
"""
"""Runs the script of actions/github-script as the action does, and prints what it asked GitHub for."""


def comment(folder: Path, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Run the script of ``comment.yml`` in a folder with plans, and return what it asked GitHub for."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    job = workflow(ROOT / ".github" / "workflows" / "comment.yml")["jobs"]["comment"]
    (script,) = [step["with"]["script"] for step in job["steps"] if "script" in step.get("with", {})]
    done = subprocess.run(
        [node, "-e", COMMENT],
        cwd=folder,
        input=json.dumps([script, given]),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [(name, values) for name, values in json.loads(done.stdout)]


@pytest.mark.spec("CI-01")
def test_githubs_comments_are_written_once_and_then_kept_up_to_date(tmp_path: Path) -> None:
    """The pull request is found by its commit; a comment of a person that looks like one of ours is left alone."""
    ran = {
        "head_repository": {"owner": {"login": "ada"}},
        "head_branch": "more",
        "head_sha": "c2",
        "html_url": "https://github.com/o/r/runs/9",
    }
    bot, marker = {"type": "Bot"}, "<!-- aikit plan dev -->"
    given: dict[str, Any] = {
        "run": ran,
        "pulls": [{"number": 4, "head": {"sha": "c1"}}, {"number": 5, "head": {"sha": "c2"}}],
        "comments": [
            {"id": 1, "user": {"type": "User"}, "body": f"{marker}\nmine"},
            {"id": 2, "user": bot, "body": f"{marker}\nof the commit before"},
        ],
    }
    for stack, text in (("dev", f"{marker}\n" + "x" * 70_000), ("prod", "@everyone: click here")):
        (tmp_path / "plans" / f"plan-{stack}").mkdir(parents=True)
        (tmp_path / "plans" / f"plan-{stack}" / f"plan-{stack}.md").write_text(text)
    asked = comment(tmp_path, given)
    assert [name for name, _ in asked] == ["list", "update", "create"]
    (_, listed), (_, dev), (_, prod) = asked
    assert listed["head"] == "ada:more"
    assert (dev["comment_id"], dev["body"][:26], len(dev["body"])) == (2, f"{marker}\nxx", 65536)
    assert (prod["issue_number"], "click here" in prod["body"]) == (5, False)
    assert "could not be made; see the [run](https://github.com/o/r/runs/9)" in prod["body"]
    # Nothing is written again that says the same, and nothing where the pull request has moved on.
    given["comments"] = [{"id": 2, "user": bot, "body": dev["body"]}, {"id": 3, "user": bot, "body": prod["body"]}]
    assert [name for name, _ in comment(tmp_path, given)] == ["list"]
    assert [name for name, _ in comment(tmp_path, {**given, "pulls": given["pulls"][:1]})] == ["list", "notice"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder in which ``./aikit`` is the project's, and which what it writes does not leave."""
    (tmp_path / "aikit").write_text(f'#!/bin/sh\nexec {ROOT}/aikit "$@"\n')
    (tmp_path / "aikit").chmod(0o755)
    return tmp_path


PLANS = [(where, script) for where, script in SCRIPTS if "./aikit plan" in script]


@pytest.mark.spec("CI-01", "CI-02", "CI-05")
@pytest.mark.parametrize(("where", "script"), PLANS, ids=[where for where, _ in PLANS])
def test_the_plan_of_each_pipeline_is_made(where: str, script: str, checkout: Path) -> None:
    """The real command against a real revision, with the variables as the forge sets them."""
    git = ["git", "-C", str(ROOT), "rev-parse", "--verify", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("this is no checkout of git")
    revision = found.stdout.strip()
    # Jenkins fetches the target branch before.
    script = script.replace("origin/$CHANGE_TARGET", revision)
    done = run(script, checkout, STACK="prod", BASE=revision, CI_MERGE_REQUEST_DIFF_BASE_SHA=revision)
    assert done.returncode == 0, f"{where}: {done.stderr}"
    (written,) = checkout.glob("plan-*.md")
    stack = re.fullmatch(r"plan-(dev|prod)\.md", written.name)
    assert stack
    assert written.read_text().startswith(f"<!-- aikit plan {stack[1]} -->\n")


@pytest.mark.spec("CI-01", "CI-02", "CI-05", "SEC-04")
def test_the_compliance_report_of_the_pipelines_is_made(checkout: Path) -> None:
    reports = {script for _, script in SCRIPTS if "./aikit compliance" in script}
    assert len(reports) == 1, "each forge keeps another report"
    done = run(reports.pop(), checkout)
    assert done.returncode == 0, done.stderr
    assert json.loads((checkout / "compliance.json").read_text())["stacks"]
    assert "<html" in (checkout / "compliance.html").read_text()
