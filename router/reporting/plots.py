"""The report's plots, as SVG that takes its colours from the page: light, dark and on paper without a second drawing.

matplotlib, because a page with its plots is then some 60 kB that open anywhere, mail well and print sharp; Plotly's bundle
alone is 4.5 MB of JavaScript in every page. What hovering would tell stands in the tables beside, and in the JSON.

matplotlib knows no CSS, so each colour of ours is drawn as a marker, a shade that nothing else uses, which is replaced by
the page's variable. Figures are made one by one without pyplot: nothing global, no display.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from router.reporting.split import Split

# What a page must define, `--<name>`, and the shade that stands for it.
MARKERS: Mapping[str, str] = {
    "ink": "#010203",
    "soft": "#010204",
    "rule": "#010205",
    "useful": "#010206",
    "thin": "#010207",
    "idle": "#010208",
    "lost": "#010209",
    "unrated": "#01020a",
    "allocated": "#01020b",
    "standard": "#01020c",
    "paper": "#01020d",
}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it is searched, and set in the page's own font
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MARKERS["rule"],
    "axes.labelcolor": MARKERS["soft"],
    "axes.axisbelow": True,
    "text.color": MARKERS["ink"],
    "xtick.color": MARKERS["soft"],
    "ytick.color": MARKERS["soft"],
    "grid.color": MARKERS["rule"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
SHOWN = ("useful", "thin", "idle", "lost", "unrated")
WIDTH_INCHES = 8.4
NANOUSD = 1e9


def over_time(labels: Sequence[str], splits: Sequence[Split]) -> str:
    """Dollars an hour or a day, stacked by where they went."""
    with rc_context(STYLE):
        figure, axes = blank(2.9)
        below = [0.0] * len(splits)
        for name in _present(splits):
            heights = [getattr(one, name) / NANOUSD for one in splits]
            axes.bar(range(len(splits)), heights, bottom=below, width=0.86, color=MARKERS[name], label=name)
            below = [a + b for a, b in zip(below, heights, strict=True)]
        step = max(1, -(-len(labels) // 8))
        axes.set_xticks(range(0, len(labels), step), [labels[at] for at in range(0, len(labels), step)])
        axes.set_xlim(-0.6, max(len(labels), 6) - 0.4)
        axes.grid(axis="y")
        axes.set_ylabel("US dollars")
        legend(axes)
        return svg_of(figure, "time")


def shares(names: Sequence[str], splits: Sequence[Split]) -> str:
    """One bar for each place, the whole of its bill."""
    with rc_context(STYLE):
        figure, axes = blank(0.75 + 0.34 * len(names))
        for row, one in enumerate(splits):
            whole = sum(getattr(one, name) for name in SHOWN) or 1
            left = 0.0
            for name in SHOWN:
                share = getattr(one, name) / whole * 100
                axes.barh(row, share, left=left, height=0.68, color=MARKERS[name])
                if share >= 6:
                    axes.text(
                        left + share / 2,
                        row,
                        f"{share:.0f} %",
                        ha="center",
                        va="center",
                        color=MARKERS["paper"],
                        size=9,
                    )
                left += share
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("per cent of the bill")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0)
        return svg_of(figure, "shares")


def token_prices(rows: Sequence[tuple[str, float | None, float | None]]) -> str:
    """A line for each backend and class: name, allocated, standard, US dollars per million tokens."""
    with rc_context(STYLE):
        figure, axes = blank(0.85 + 0.27 * len(rows))
        for at, (_, allocated, standard) in enumerate(rows):
            if allocated and standard:
                axes.plot([allocated, standard], [at, at], color=MARKERS["rule"], linewidth=2.5, zorder=1)
        for number, (name, marker) in enumerate((("allocated", "o"), ("standard", "D"))):
            prices = [row[1] if number == 0 else row[2] for row in rows]
            points = [(price, at) for at, price in enumerate(prices) if price]
            axes.scatter(
                [point[0] for point in points],
                [point[1] for point in points],
                color=MARKERS[name],
                marker=marker,
                s=34 if marker == "o" else 26,
                label=name,
                zorder=2 + number,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_xlabel("US dollars per million tokens (logarithmic)")
        legend(axes)
        return svg_of(figure, "prices")


def savings(rows: Sequence[tuple[str, float, float | None, float | None]]) -> str:
    """A line for each way of knowing: name, dollars per thousand requests, and its interval if it has one."""
    with rc_context(STYLE):
        figure, axes = blank(0.7 + 0.42 * len(rows))
        for at, (_, saving, low, high) in enumerate(rows):
            if low is not None and high is not None:
                axes.plot([low, high], [at, at], color=MARKERS["allocated"], linewidth=2.2, solid_capstyle="butt")
                axes.plot([low, high], [at, at], "|", color=MARKERS["allocated"], markersize=9, markeredgewidth=1.6)
            axes.plot([saving], [at], "o" if low is not None else "D", color=MARKERS["allocated"], markersize=6.5)
        axes.axvline(0, color=MARKERS["soft"], linewidth=1)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_xlabel("US dollars saved per thousand requests")
        return svg_of(figure, "savings")


def blank(height_inches: float) -> tuple[Figure, Axes]:
    """A figure as wide as the page, with nothing in it."""
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    return figure, axes


def _present(splits: Sequence[Split]) -> list[str]:
    return [name for name in SHOWN if name in SHOWN[:4] or any(getattr(one, name) for one in splits)]


def legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, handlelength=1, columnspacing=1.4, borderaxespad=0.2)


def svg_of(figure: Figure, name: str, markers: Mapping[str, str] = MARKERS) -> str:
    """The same text for the same data, to be put into a page as it is. name: no other drawing of the page has it."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for variable, shade in markers.items():
        svg = re.sub(shade, f"var(--{variable})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    # Names are used within one drawing only; several are in one page.
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    return re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1)
