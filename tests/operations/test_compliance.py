"""The compliance report."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from operations import compliance
from operations import plan as plans
from operations.compliance import Report, Result
from policies.catalogue import POLICIES
from policies.exemptions import Exemption
from policies.model import Environment

DAY = date(2026, 11, 23)


@pytest.fixture(scope="module")
def planned() -> dict[str, plans.Plan]:
    """The plans of the real stacks."""
    return {stack: plans.plan(stack) for stack in ("dev", "prod")}


@pytest.fixture(scope="module")
def report(planned: dict[str, plans.Plan]) -> Report:
    """The report on the real stacks."""
    return compliance.report(planned, on=DAY)


@pytest.mark.spec("SEC-04")
def test_every_control_has_a_result_in_every_stack(report: Report) -> None:
    """Nothing is left out, and nothing mandatory is broken."""
    assert [control.policy for control in report.controls] == list(POLICIES)
    for control in report.controls:
        assert set(control.assessments) == {"dev", "prod"}
    assert report.violated == ()
    by_id = {control.policy.id: control for control in report.controls}
    assert by_id["no-privileged"].assessments["prod"].result is Result.MET
    assert by_id["no-privileged"].assessments["prod"].subjects > 5
    assert by_id["image-digest"].assessments["dev"].result is Result.OFF
    assert by_id["vault-audit"].assessments["dev"].result in {Result.NOTHING, Result.MET}


@pytest.mark.spec("SEC-04")
def test_exemptions_are_listed_and_end(planned: dict[str, plans.Plan]) -> None:
    """An exemption that has ended is a violation in the report, too."""
    allowed = Exemption(
        policy="image-digest",
        resource="*",
        environments=frozenset({Environment.PROD}),
        reason="because <b>",
        ends=date(2026, 1, 1),
    )
    ended = compliance.report(planned, on=DAY, exemptions=[allowed])
    assert "prod: image-digest" in ended.violated
    page = compliance.to_html(ended)
    assert "Not compliant" in page
    assert "ended</span>" in page
    assert "because &lt;b&gt;" in page
    assert ended.to_json()["exemptions"][0]["expired"] is True


@pytest.mark.spec("SEC-04")
def test_the_page_needs_nothing_else(report: Report) -> None:
    """One file without requests or scripts, in light and dark, with everything that the data has."""
    page = compliance.to_html(report)
    assert not re.search(r"<script|<link|@import|url\(|src=|https?://", page)
    assert "prefers-color-scheme: dark" in page
    assert "$" not in page
    for policy in POLICIES:
        assert f'id="{policy.id}"' in page
    assert page == compliance.to_html(report)


@pytest.mark.spec("SEC-04")
def test_the_data_says_where_each_control_is_enforced(report: Report) -> None:
    """Files that exist, for the control itself and for its rule."""
    for control in report.to_json()["controls"]:
        assert (plans.ROOT / control["rule"]).is_file(), control["rule"]
        if control["id"] == "image-digest":
            continue  # Its file is written where an image registry answers.
        for place in control["enforced"].split(", "):
            assert (plans.ROOT / place).exists(), place


@pytest.mark.spec("SEC-04")
def test_the_command_writes_both_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is that of the controls; an unknown stack is one sentence."""
    assert compliance.command(["dev"], tmp_path / "deep" / "report.html") == 0
    assert json.loads((tmp_path / "deep" / "report.json").read_text())["stacks"].keys() == {"dev"}
    assert (tmp_path / "deep" / "report.html").read_text().startswith("<!doctype html>")
    assert compliance.command(["nowhere"], tmp_path / "report.html") == 2
    assert "no stack nowhere" in capsys.readouterr().err
