"""The plots of a load test, in the manner of `router/reporting/plots.py`. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes

from router.reporting.plots import MARKERS, STYLE, blank, legend, svg_of

# Lines that must be told apart; the page defines `--s1` … in light and dark.
SERIES = 8
SHADES: Mapping[str, str] = {
    **MARKERS,
    "bought": "#010211",
    **{f"s{number}": f"#01022{number}" for number in range(1, SERIES + 1)},
}
MONEY = ("useful", "thin", "idle", "bought")
POINT_LABELS_MAX = 24
CURVE_POINTS = 200


class Place(NamedTuple):
    """A policy in the plane of cost and something else. is_best: no other beats it."""

    name: str
    usd: float
    quality: float
    ttft_seconds: float
    latency_seconds: float
    is_best: bool


def shade(number: int) -> str:
    return SHADES[f"s{number % SERIES + 1}"]


def over_time(
    step_seconds: float, stacks: Mapping[str, Sequence[float]], name: str, *, unit: str = "US dollars"
) -> str:
    """Bars stacked by what they are, each as long as a slice of time. stacks: by a name of MONEY, or any other."""
    with rc_context(STYLE):
        figure, axes = blank(2.7)
        below: list[float] = []
        for number, (label, heights) in enumerate(stacks.items()):
            below = below or [0.0] * len(heights)
            colour = SHADES[label] if label in MONEY else shade(number)
            lefts = [at * step_seconds for at in range(len(heights))]
            axes.bar(lefts, heights, bottom=below, width=step_seconds * 0.9, align="edge", color=colour, label=label)
            below = [low + high for low, high in zip(below, heights, strict=True)]
        axes.grid(axis="y")
        axes.set_xlabel("seconds")
        axes.set_ylabel(unit)
        axes.set_xlim(0, step_seconds * max(1, len(below)))
        axes.set_ylim(0, 1.06 * max(below, default=0.0) or 1.0)
        _told_apart(axes)
        return svg_of(figure, name, SHADES)


class Use(NamedTuple):
    """Of a pool's lease, slice by slice, as ratios: what did useful work, and what was in use at all; None without a lease."""

    useful: Sequence[float | None]
    used: Sequence[float | None]


def use_over_time(step_seconds: float, pools: Mapping[str, Use], name: str) -> str:
    """A line for what did useful work, and a thin one for what was in use."""
    with rc_context(STYLE):
        figure, axes = blank(2.3)
        length = 0
        for number, (label, use) in enumerate(pools.items()):
            for values, width, line, text in ((use.useful, 1.8, "-", label), (use.used, 0.9, (0, (3, 2)), None)):
                points = [(at * step_seconds, 100 * value) for at, value in enumerate(values) if value is not None]
                axes.step(
                    [at for at, _ in points],
                    [value for _, value in points],
                    where="post",
                    color=shade(number),
                    linewidth=width,
                    linestyle=line,
                    label=text,
                )
                length = max(length, len(values))
        axes.set_ylim(0, 104)
        axes.set_xlim(0, step_seconds * max(1, length))
        axes.grid(axis="y")
        axes.set_xlabel("seconds")
        axes.set_ylabel("per cent of the lease")
        _told_apart(axes)
        return svg_of(figure, name, SHADES)


def fronts(places: Sequence[Place], name: str) -> str:
    """Cost against quality and against the first token's and the whole answer's time; what nobody beats is filled."""
    with rc_context(STYLE):
        figure, axes = blank(3.3 + 0.17 * len(places[:POINT_LABELS_MAX]) / 2)
        figure.delaxes(axes)
        panels = figure.subplots(1, 3)
        kinds = (
            ("quality", "quality", False),
            ("ttft_seconds", "TTFT p99, seconds", True),
            ("latency_seconds", "latency p99, seconds", True),
        )
        for panel, (attribute, label, is_log) in zip(panels, kinds, strict=True):
            panel.patch.set_alpha(0)
            for number, place in enumerate(places):
                value = getattr(place, attribute)
                colour = shade(number) if number < SERIES else SHADES["soft"]
                face = colour if place.is_best else "none"
                panel.scatter([place.usd], [value], s=42, facecolor=face, edgecolor=colour, linewidth=1.6, zorder=3)
                if attribute == "quality" and number < POINT_LABELS_MAX:
                    panel.scatter([], [], s=42, facecolor=face, edgecolor=colour, linewidth=1.6, label=place.name)
            if is_log:
                panel.set_yscale("log")
                panel.yaxis.set_major_formatter(lambda number, _: f"{number:g}")
                panel.yaxis.set_minor_formatter(lambda number, _: "")
            panel.margins(0.14)
            panel.grid()
            panel.set_title(label, loc="left", fontsize=10)
        panels[1].set_xlabel("US dollars per 1,000 requests")
        figure.legend(loc="outside lower center", ncols=3, handlelength=1)
        return svg_of(figure, name, SHADES)


def cumulative(
    curves: Mapping[str, Sequence[tuple[float, float]]], name: str, limit_seconds: float | None = None
) -> str:
    """Distributions of seconds: (seconds, share up to there). limit_seconds: an objective, drawn as a line."""
    with rc_context(STYLE):
        figure, axes = blank(2.7)
        for number, (label, whole) in enumerate(curves.items()):
            points = _thinned(whole)
            if points:
                axes.step(
                    [seconds for seconds, _ in points],
                    [100 * share for _, share in points],
                    where="post",
                    color=shade(number),
                    linewidth=1.6,
                    label=label,
                )
        if limit_seconds is not None:
            axes.axvline(limit_seconds, color=SHADES["soft"], linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
        axes.set_ylim(0, 101)
        axes.grid()
        axes.set_xlabel("seconds (logarithmic)")
        axes.set_ylabel("per cent of requests")
        _told_apart(axes)
        return svg_of(figure, name, SHADES)


def _told_apart(axes: Axes) -> None:
    """A legend, where there is anything to tell apart."""
    if axes.get_legend_handles_labels()[0]:
        legend(axes)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """As many of them as can be told apart, the last among them."""
    every = max(1, len(points) // CURVE_POINTS)
    return [*points[:-1:every], points[-1]] if points else []


def where(rows: Mapping[str, Mapping[str, float]], name: str, *, unit: str) -> str:
    """A bar for each row, stacked by MONEY."""
    with rc_context(STYLE):
        figure, axes = blank(0.95 + 0.34 * len(rows))
        for number, parts in enumerate(rows.values()):
            left = 0.0
            for part in MONEY:
                width = parts.get(part, 0.0)
                axes.barh(number, width, left=left, height=0.66, color=SHADES[part], label=part if not number else None)
                left += width
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel(unit)
        _told_apart(axes)
        return svg_of(figure, name, SHADES)
