"""Where the models of a run come from, and what is remembered of it."""

from pathlib import Path
from typing import Any

import pytest

from operations import origins
from settings import parse

BUILT = {"toolchain-engine": "built", "toolchain-plugins": "built", "toolchain-images": "built"}
BY_NAME = {"models": [{"name": "llama3.2"}]}
DOWN = "its name does not resolve"


@pytest.mark.parametrize(
    ("values", "before", "problem", "expected"),
    [
        pytest.param(BY_NAME, None, None, "library", id="it answers"),
        pytest.param(BY_NAME, None, DOWN, "package", id="out of reach"),
        pytest.param(BY_NAME, "package", None, "library", id="it answers by now"),
        pytest.param(BY_NAME, "library", DOWN, "library", id="out of reach for a moment"),
        pytest.param({**BY_NAME, "toolchain-models": "package"}, "library", None, "package", id="package by setting"),
        pytest.param({**BY_NAME, "toolchain-models": "library"}, None, DOWN, "library", id="library by setting"),
        pytest.param({"models": [{"name": "own", "file": "own.gguf"}]}, None, DOWN, None, id="none by name"),
    ],
)
def test_models_come_from_the_library_as_soon_as_it_answers(  # noqa: PLR0917 -- one for each column
    values: dict[str, Any],
    before: str | None,
    problem: str | None,
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = tmp_path / "origins.json"
    if before:
        monkeypatch.setattr(origins, "unreachable", lambda _: None if before == "library" else DOWN)
        origins.choose(parse({**BUILT, **BY_NAME}), memory, began=False)
    monkeypatch.setattr(origins, "unreachable", lambda _: problem)
    chosen = origins.choose(parse({**BUILT, **values}), memory, began=True)
    assert (chosen.models.origin if chosen.models else None) == expected
    assert any(line.startswith("models:") for line in chosen.lines()) is (expected is not None)
