"""The dashboards as Grafana will read them: complete, in order, and with a unit to every number."""

import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

import settings
from components.images import Machine
from components.observability.dashboards import catalogue
from components.registry import deployed

UIDS = {
    "system-overview",
    "ollama-dashboard",
    "ai-models-performance",
    "gpu-cpu-performance",
    "users-sessions",
    "cost-estimation",
    "executive-summary",
    "ollama-optimization-monitoring",
    "additional-services",
}
CURRENCIES = {f"currency{name}" for name in ("USD", "EUR", "GBP", "CHF")}
UNITS = CURRENCIES | {
    "none",
    "short",
    "percent",
    "percentunit",
    "bytes",
    "Bps",
    "s",
    "ops",
    "reqps",
    "watt",
    "celsius",
    "bool_yes_no",
}


def rendered(**values: Any) -> dict[str, dict[str, Any]]:
    chosen = settings.parse({key.replace("_", "-"): value for key, value in values.items()})
    names = frozenset(service.name for service in deployed(chosen, Machine()))
    return {uid: json.loads(text) for uid, text in catalogue.render(chosen, names).items()}


VARIANTS = pytest.mark.parametrize(
    "values", [{}, {"accelerator": "nvidia"}, {"accelerator": "amd", "costs_gpu_watts": 300}]
)


@pytest.mark.spec("DSH-07")
def test_there_are_nine_dashboards_with_the_identifiers_that_links_hold() -> None:
    found = rendered()
    assert set(found) == UIDS
    assert len({document["title"] for document in found.values()}) == len(UIDS)
    for uid, document in found.items():
        # The typed model takes every property back: none is unknown to Grafana's schema.
        assert json.loads(json.dumps(Dashboard.from_json(document), cls=catalogue.JSONEncoder)) == document, uid


@VARIANTS
@pytest.mark.spec("DSH-07")
def test_panels_fill_the_grid_without_overlapping(values: dict[str, Any]) -> None:
    for uid, document in rendered(**values).items():
        taken: set[tuple[int, int]] = set()
        for panel in document["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (uid, panel["title"])
            assert place["x"] + place["w"] <= 24, (uid, panel["title"])
            taken |= cells
        assert len(taken) == 24 * (1 + max(y for _, y in taken)), uid
        assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


@VARIANTS
@pytest.mark.spec("DSH-01", "DSH-02", "DSH-03", "DSH-05", "DSH-06")
def test_every_panel_asks_prometheus_and_has_a_unit_where_grafana_looks_for_it(values: dict[str, Any]) -> None:
    for uid, document in rendered(**values).items():
        variables = {variable["name"] for variable in document["templating"]["list"]}
        used: set[str] = set()
        for panel in document["panels"]:
            if panel["type"] == "text":
                continue
            where = (uid, panel["title"])
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"] in UNITS, where
            if panel["type"] != "table":
                first, *others = [step["value"] for step in defaults["thresholds"]["steps"]]
                assert first is None, where
                assert others == sorted(set(others)), where
            for override in panel["fieldConfig"]["overrides"]:
                assert {item["value"] for item in override["properties"] if item["id"] == "unit"} <= UNITS, where
            assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}, where
            references = [target["refId"] for target in panel["targets"]]
            assert references, where
            assert len(set(references)) == len(references), where
            for target in panel["targets"]:
                assert target["expr"].count("(") == target["expr"].count(")"), where
                used |= set(re.findall(r"\$([a-z]+)\b", target["expr"]))
        assert used == variables, uid
    # No prediction of what is not measured.
    assert "predict_linear" not in json.dumps(rendered(**values))


@pytest.mark.spec("DSH-04", "K-05")
def test_prices_are_settings() -> None:
    def costs(**values: Any) -> str:
        return json.dumps(rendered(**values)["cost-estimation"])

    base = costs()
    for changed, seen in (
        ({"costs_cpu_hour": "0.77"}, "0.77 * sum(rate("),
        ({"costs_memory_gb_hour": 0.78}, "0.78 * sum(avg_over_time"),
        ({"costs_kwh": "0.79"}, "0.79 * (40 + 80 *"),
        ({"costs_idle_watts": 20, "costs_busy_watts": 220}, "(20 + 200 *"),
        ({"costs_gpu_watts": 321}, "vector(0.30 * 321 / 1000)"),
        ({"costs_cloud_million_tokens": "0.81"}, "/ 0.81 * 1e6"),
        ({"costs_currency": "EUR"}, "currencyEUR"),
        ({"accelerator": "nvidia"}, "0.30 * sum(avg_over_time(DCGM_FI_DEV_POWER_USAGE"),
    ):
        assert seen not in base
        assert seen in costs(**changed), changed
    assert 'in a cloud", ' not in costs(costs_cloud_million_tokens=0)
    with pytest.raises(settings.SettingsError, match="costs-busy-watts"):
        settings.parse({"costs-busy-watts": 10})
