"""The panels that the boards are made of, with jeton's units, sizes and colours. No queries.

Widths are of 24 columns. Amounts have as many decimals as their kind needs: a token costs millionths of a dollar.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsConfig,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

USD, RATIO, SECONDS, PER_SECOND, COUNT = "currencyUSD", "percentunit", "s", "reqps", "short"
BYTES, EVENTS_PER_SECOND = "bytes", "ops"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"
FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4
STAT_HEIGHT, GRAPH_HEIGHT, TABLE_HEIGHT = 4, 9, 9

PanelBuilder = Builder[Panel]
Thresholds = Builder[ThresholdsConfig]


class Query(NamedTuple):
    """legend: as Grafana writes it, `{{pool}}`."""

    expression: str
    legend: str = ""


class Column(NamedTuple):
    """One column of a table: a query with the table's labels, its heading, and how it is written."""

    heading: str
    expression: str
    unit: str = USD
    decimals: int | None = 4


def steps(*at: tuple[float, str], base: str = GREEN) -> Thresholds:
    """Thresholds: `base` up to the first value, then each colour from its value on."""
    colours = [Threshold(value=None, color=base), *(Threshold(value=value, color=color) for value, color in at)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)


def figure(
    title: str,
    *queries: Query,
    unit: str,
    decimals: int | None = None,
    text: str = "",
    width: int = SIXTH,
    thresholds: Thresholds | None = None,
    has_line: bool = False,
) -> PanelBuilder:
    """One number, or one for each series, as of the end of the time shown. has_line: with its course behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(width)
        .height(STAT_HEIGHT)
        .unit(unit)
        .no_value("none yet")
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA if has_line else BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(thresholds or steps(base=BLUE))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(query, index, is_instant=not has_line))
    return panel


def graph(
    title: str,
    *queries: Query,
    unit: str,
    decimals: int | None = None,
    text: str = "",
    width: int = HALF,
    is_stacked: bool = False,
    thresholds: Thresholds | None = None,
    floor: float | None = 0,
    ceiling: float | None = None,
    colours: Mapping[str, str] | None = None,
) -> PanelBuilder:
    """Over time. colours: of series by the name in their legend."""
    panel = (
        series.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(width)
        .height(GRAPH_HEIGHT)
        .unit(unit)
        .draw_style(GraphDrawStyle.LINE)
        .fill_opacity(60 if is_stacked else 8)
        .line_width(1)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "lastNotNull"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if is_stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if floor is not None:
        panel = panel.min(floor)
    if ceiling is not None:
        panel = panel.max(ceiling)
    if thresholds is not None:  # a graph draws them only if it is told how
        dashed = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(thresholds).thresholds_style(dashed)
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(query, index))
    for name, color in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_name(name, [DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def gauges(
    title: str,
    query: Query,
    *,
    text: str = "",
    width: int = HALF,
    thresholds: Thresholds,
) -> PanelBuilder:
    """Shares of a whole, one bar each, 0 to 1."""
    return (
        bargauge.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(width)
        .height(GRAPH_HEIGHT)
        .unit(RATIO)
        .decimals(1)
        .min(0)
        .max(1)
        .no_value("none yet")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(thresholds)
        .with_target(_target(query, is_instant=True))
    )


def sheet(
    title: str,
    labels: Sequence[str],
    columns: Sequence[Column],
    *,
    text: str = "",
    width: int = FULL,
    height: int = TABLE_HEIGHT,
) -> PanelBuilder:
    """A table: a row for each set of labels, a column for each query, joined on the labels."""
    panel = (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(width)
        .height(height)
        .sort_by([common.TableSortByFieldState().display_name(columns[0].heading).desc(True)])
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
    )
    names = {f"Value #{_letter(index)}": column.heading for index, column in enumerate(columns)}
    order = {name: index for index, name in enumerate([*labels, *names])}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    panel = panel.with_transformation(DataTransformerConfig(id_val="organize", options=organize))
    for index, column in enumerate(columns):
        target = prometheus.Dataquery().expr(column.expression).ref_id(_letter(index)).datasource(SOURCE)
        panel = panel.with_target(target.instant().format(PromQueryFormat.TABLE))
        looks = [DynamicConfigValue(id_val="unit", value=column.unit)]
        if column.decimals is not None:
            looks.append(DynamicConfigValue(id_val="decimals", value=column.decimals))
        panel = panel.override_by_name(column.heading, looks)
    return panel


def states(title: str, query: Query, names: Mapping[int, tuple[str, str]], *, text: str = "") -> PanelBuilder:
    """Which of a few states each series was in, over time. names: what a value is called, and its colour."""
    meanings = {str(value): ValueMappingResult(text=name, color=color) for value, (name, color) in names.items()}
    return (
        statetimeline.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(HALF)
        .height(GRAPH_HEIGHT)
        .mappings(
            [
                ValueMap(options=meanings),
                SpecialValueMap(
                    options=DashboardSpecialValueMapOptions(
                        match=SpecialValueMatch.NULL, result=ValueMappingResult(text="not scraped")
                    )
                ),
            ]
        )
        .with_target(_target(query))
    )


def heat(title: str, expression: str, *, unit: str, text: str = "") -> PanelBuilder:
    """A histogram over time. expression: rates of its buckets, by `le`."""
    query = prometheus.Dataquery().expr(expression).ref_id("A").datasource(SOURCE).legend_format("{{le}}")
    return (
        heatmap.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(HALF)
        .height(GRAPH_HEIGHT)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .with_target(query.format(PromQueryFormat.HEATMAP))
    )


def _target(query: Query, index: int = 0, *, is_instant: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend or "__auto").datasource(SOURCE)
    target = target.ref_id(_letter(index))
    return target.instant() if is_instant else target.range()


def _letter(index: int) -> str:
    return chr(ord("A") + index)
