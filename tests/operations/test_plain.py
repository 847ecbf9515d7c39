"""The program as plain ``pulumi`` runs it is the one that ``./aikit`` runs, and says in a sentence what it cannot do."""

import runpy
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

import settings
from operations import plain
from operations.errors import Failure
from operations.plan import ROOT, Plan, plan, record


def run(stack: str) -> Plan:
    """Run ``__main__.py`` as the engine's language host does, and return what it declares."""

    def program() -> None:
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")

    return record(program, stack=stack, project="aikit", root=ROOT)


def no_docker() -> Any:
    raise Failure("Docker does not answer")


@pytest.mark.spec("INF-04")
@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_program_is_the_same_graph(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Docker, too: a preview asks it for nothing."""
    monkeypatch.setattr("operations.containers.connect", no_docker)
    assert run(stack) == plan(stack)


@pytest.mark.spec("OPS-02")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"http-port": "many"}, "http-port"),
        ({"toolchain-images": "built"}, "aikit:toolchain-images is 'built', which ./aikit up makes"),
        ({"toolchain-models": "package"}, "aikit:toolchain-models is 'package', which ./aikit up makes"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(
    values: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("operations.containers.connect", no_docker)
    (tmp_path / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump({"config": {f"aikit:{name}": value for name, value in values.items()}})
    )
    load = settings.load
    monkeypatch.setattr(settings, "load", lambda stack: load(stack, tmp_path))
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")
    with pytest.raises(pulumi.RunError, match=said):
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


@pytest.mark.spec("OLL-01")
def test_a_graphics_card_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Docker:
        def info(self) -> dict[str, Any]:
            """Return what Docker says of itself: it has no graphics card."""
            return {"Runtimes": {"runc": {}}}

        def close(self) -> None:
            """Do nothing."""

    monkeypatch.setattr("operations.containers.connect", Docker)
    assert plain.machine(settings.parse({"accelerator": "auto"})).accelerator == "cpu"
    with pytest.raises(settings.SettingsError, match="aikit:accelerator is nvidia, but Docker has no NVIDIA runtime"):
        plain.machine(settings.parse({"accelerator": "nvidia"}))
