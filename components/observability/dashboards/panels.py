"""The few kinds of panels that all dashboards are made of, and how they are laid out."""

import dataclasses
from collections.abc import Sequence

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from components.observability.grafana import PROMETHEUS_UID
from settings import Settings

COLUMNS = 24
"""Width of a dashboard, in Grafana's columns."""

LOW, TALL = 4, 8
"""Heights of panels with one number and of those with a curve, in Grafana's rows."""

RATE = "[$__rate_interval]"
"""Time span of rates: Grafana makes it long enough for the time between two measurements."""

CPU, MEMORY = "host:cpu_used:percent", "host:memory_used:percent"
DISK = "max(100 - host:disk_free:percent)"
"""What of the machine's processor, memory and disk is used, in per cent, as the alerts judge it."""

FIRING = 'count(ALERTS{alertstate="firing",severity!="none"}) or vector(0)'
"""Number of alerts that fire, without the watchdog."""

SOURCE = model.DataSourceRef(type_val="prometheus", uid=PROMETHEUS_UID)

Panel = bargauge.Panel | stat.Panel | table.Panel | text.Panel | timeseries.Panel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What there is to draw."""

    settings: Settings
    services: frozenset[str]
    """Names of the services that are deployed."""


@dataclasses.dataclass(frozen=True)
class Query:
    """A question to Prometheus."""

    expression: str
    legend: str = ""
    """Name of each series, which may hold labels in double braces."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of numbers in a table."""

    title: str
    expression: str
    """PromQL with one series for each row."""
    unit: str


@dataclasses.dataclass(frozen=True)
class Steps:
    """Colours of values: the first below all steps, then each from its value on."""

    first: str = "green"
    then: tuple[tuple[float, str], ...] = ()


def rising(warning: float, critical: float) -> Steps:
    """Return the colours of what is bad when it is much."""
    return Steps("green", ((warning, "yellow"), (critical, "red")))


def falling(critical: float, warning: float) -> Steps:
    """Return the colours of what is bad when it is little."""
    return Steps("red", ((critical, "yellow"), (warning, "green")))


PLAIN = Steps()
NONE_ALLOWED = Steps("green", ((1, "red"),))


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(None, steps.first), *(model.Threshold(value, color) for value, color in steps.then)])
    )


def _target(query: Query, number: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expression)
        .legend_format(query.legend or "__auto")
        .ref_id(chr(ord("A") + number))
        .datasource(SOURCE)
    )


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def number(title: str, expression: str, unit: str, steps: Steps = PLAIN, about: str = "") -> stat.Panel:
    """Return a panel with one current number."""
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(_target(Query(expression), 0).instant())
        .reduce_options(_last())
        .unit(unit)
        .thresholds(_thresholds(steps))
        .color_mode(options.BigValueColorMode.VALUE)
        .graph_mode(options.BigValueGraphMode.NONE)
    )


def state(title: str, expression: str, about: str = "") -> stat.Panel:
    """Return a panel that says whether something is up: 1 is, 0 is not."""
    words = {
        "0": model.ValueMappingResult(text="down", color="red"),
        "1": model.ValueMappingResult(text="up", color="green"),
    }
    return (
        number(title, expression, "none", Steps("red", ((1, "green"),)), about)
        .mappings([model.ValueMap(options=words)])
        .color_mode(options.BigValueColorMode.BACKGROUND)
    )


def curves(
    title: str,
    unit: str,
    *queries: Query,
    steps: Steps = PLAIN,
    stacked: bool = False,
    maximum: float | None = None,
    about: str = "",
) -> timeseries.Panel:
    """Return a panel with curves over time; the steps are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .targets([_target(query, number).range() for number, query in enumerate(queries)])
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(steps))
        .fill_opacity(40 if stacked else 10)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    if steps.then:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.LINE))
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if maximum is not None:
        panel.max(maximum)
    return panel


def bars(title: str, unit: str, query: Query, steps: Steps = PLAIN, about: str = "") -> bargauge.Panel:
    """Return a panel with a bar for the current value of each series."""
    return (
        bargauge.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(_target(query, 0).instant())
        .reduce_options(_last())
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(steps))
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
    )


def rows(title: str, label: str, heading: str, *columns: Column, about: str = "") -> table.Panel:
    """Return a table with a row for each value of a label and columns of current numbers."""
    # With one query Grafana calls its column Value, with more it adds their letters.
    names = ["Value"] if len(columns) == 1 else [f"Value #{chr(ord('A') + number)}" for number in range(len(columns))]
    titles = {label: heading, **{name: column.title for name, column in zip(names, columns, strict=True)}}
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .targets(
            [
                _target(Query(column.expression), number).instant().format(PromQueryFormat.TABLE)
                for number, column in enumerate(columns)
            ]
        )
        # Each column has its own; text has none.
        .unit("none")
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: number for number, name in enumerate(titles)},
                    "renameByName": titles,
                },
            )
        )
    )
    for column in columns:
        panel.override_by_name(column.title, [model.DynamicConfigValue("unit", column.unit)])
    return panel


def note(title: str, markdown: str) -> text.Panel:
    """Return a panel of text."""
    return text.Panel().title(title).content(markdown)


def choice(name: str, label: str, metric: str, of: str) -> dashboard.QueryVariable:
    """Return a variable of a dashboard: some or all values of a label of a metric, chosen at its top."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": f"label_values({metric},{of})", "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


def board(
    uid: str,
    title: str,
    about: str,
    *lines: Sequence[Panel],
    hours: int = 1,
    choices: Sequence[dashboard.QueryVariable] = (),
) -> model.Dashboard:
    """Return a dashboard of lines of panels, which share each line's width and have its greatest height.

    Args:
        uid: its identifier, which addresses and links hold.
        title: its name.
        about: what it is for.
        lines: the panels from top to bottom; an empty line is left out.
        hours: time span that it opens with, in hours.
        choices: variables that the queries use.
    """
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["aikit"])
        .time(f"now-{hours}h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(list(choices))
        .link(
            dashboard.DashboardLink("Dashboards")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["aikit"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    top = identifier = 0
    for line in filter(None, lines):
        height = LOW if all(isinstance(panel, stat.Panel) for panel in line) else TALL
        for place, panel in enumerate(line):
            identifier += 1
            left, right = COLUMNS * place // len(line), COLUMNS * (place + 1) // len(line)
            panel.id(identifier).grid_pos(model.GridPos(x=left, y=top, w=right - left, h=height))
            made.with_panel(panel)
        top += height
    return made.build()
