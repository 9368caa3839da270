"""The pages of a load test, as text. Pure: what is told comes in, HTML goes out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from load.drive.outcome import Outcome
from load.drive.result import Objectives
from load.drive.result import rows as drive_rows
from load.report import plots
from load.simulate.recording import Recording
from load.simulate.table import COLUMNS, Figure, front
from load.simulate.table import rows as compare_rows
from load.simulate.tally import Tally
from router.reporting.page import CSS, table

# What the report's page has no colour for: bought tokens, and lines that must be told apart.
LIGHT = (
    "--bought: #6a5aa8; --s1: #1f6fb2; --s2: #c0591f; --s3: #1f7a5c; --s4: #a0368a; --s5: #8a6d00; --s6: #5b6670;"
    " --s7: #b8402f; --s8: #3b8ea5;"
)
DARK = (
    "--bought: #a394e0; --s1: #63aeea; --s2: #ee9059; --s3: #46b48c; --s4: #df86cf; --s5: #d8b740; --s6: #9aa6b0;"
    " --s7: #e0705e; --s8: #74c3d8;"
)
STYLE = f"""{CSS}
:root {{ {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
@media print {{ :root {{ {LIGHT} }} }}
body {{ max-width: 72rem; }} svg {{ max-width: 62rem; }}
table {{ font-size: .8rem; }} th, td {{ padding: .28rem .42rem; }}
pre {{ background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: .7rem .9rem;
  overflow-x: auto; font: .82rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }}
@media print {{ body {{ max-width: none; }} table {{ font-size: 7pt; }} th, td {{ padding: .18rem .25rem; }}
  pre {{ white-space: pre-wrap; font-size: 6.5pt; }} }}
"""
# Policies whose course is drawn one by one; the table has all.
COURSES_MAX = 6
WORDS = (
    "<b>useful</b>: served tokens at their standard price, the replica as full as it should be. <b>thin</b>: what they cost"
    " beyond that, because few requests shared the replica. <b>idle</b>: leased time in which nothing ran. <b>bought</b>: tokens"
    " paid for one by one. They sum to the bill. Of a pool's lease the full line is what did useful work, the dashed one what was"
    " in use. <b>TTFT</b>, <b>latency</b>: from the moment a request was due. <b>goodput</b>: answers within the objectives."
    " <b>quality</b>: the classifier's prediction for what was chosen, relative to the largest model."
)
STARS = (
    "The cheapest first; a star, and below a filled mark, for those that no other beats in cost, quality, TTFT p99 and goodput"
    " together. Means over the seeds, and the half-width of their 95 % interval."
)
FROM_OUTSIDE = (
    "What answers were charged, by the moment they ended and the backend that gave them. What of its hours was thin or idle a"
    " server does not tell; with jeton behind it, <code>jeton report</code> does."
)


@dataclass(frozen=True, slots=True)
class Course:
    """One policy's run on one seed. money: nano-dollars by MONEY."""

    policy: str
    tally: Tally
    recording: Recording

    def money(self) -> dict[str, float]:
        whole = self.recording.whole()
        return {name: sum(getattr(whole, name)) for name in plots.MONEY}


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>jeton: {escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n<header><h1>{escape(title)}</h1><p class='soft'>{escape(subtitle)}</p></header>\n{body}\n</body></html>\n"
    )


def compared(
    title: str,
    subtitle: str,
    policies: Mapping[str, Mapping[str, Figure]],
    courses: Sequence[Course],
    objectives: Objectives,
) -> str:
    """Several policies. courses: of each, one seed."""
    best = front(policies)
    order = sorted(policies, key=lambda name: policies[name]["usd_per_1000_requests"].mean)
    by_name = {course.policy: course for course in courses}
    places = [
        plots.Place(
            name,
            policies[name]["usd_per_1000_requests"].mean,
            policies[name]["quality"].mean,
            max(policies[name]["ttft_seconds_p99"].mean, 1e-3),
            max(policies[name]["latency_seconds_p99"].mean, 1e-3),
            name in best,
        )
        for name in order
    ]
    heads = ("policy", *(heading for heading, _, _ in COLUMNS))
    lines = compare_rows(policies)
    drawn = {name: by_name[name] for name in order if name in by_name}
    shown = list(drawn)[: plots.SERIES]
    ttfts = {name: drawn[name].tally.ttft.steps() for name in shown}
    latencies = {name: drawn[name].tally.latency.steps() for name in shown}
    return page(
        title,
        subtitle,
        [
            _headline(places, policies),
            _section("Policies", table(heads, lines, left=1), _soft(STARS)),
            _section("Cost, quality, latency", plots.fronts(places, "fronts")),
            _section("Where the money went", _where(drawn), _money_table(drawn)),
            _section("Time to the first token", plots.cumulative(ttfts, "ttft", objectives.ttft_seconds_max)),
            _section("Whole answers", plots.cumulative(latencies, "latency", objectives.latency_seconds_max)),
            *(_course(drawn[name], number) for number, name in enumerate(shown[:COURSES_MAX])),
            _paste(heads, lines),
            _section("What the words mean", _soft(WORDS)),
        ],
    )


def simulated(title: str, subtitle: str, course: Course, figures: Mapping[str, float], objectives: Objectives) -> str:
    """One run."""
    heads, lines = ("figure", "value"), [[name, f"{value:,.6g}"] for name, value in figures.items()]
    tally = course.tally
    cells = [
        (f"${figures['usd_total']:,.2f}", "the bill"),
        (f"${figures['usd_per_1000_requests']:.4f}", "per 1,000 requests"),
        (f"{figures['attainment_ratio']:.1%}", "within the objectives"),
        (f"{figures['ttft_seconds_p99']:.2f} s", "TTFT p99"),
        (f"{figures['quality']:.1%}", "quality, predicted"),
    ]
    curves = {"TTFT": tally.ttft.steps(), "whole answer": tally.latency.steps()}
    return page(
        title,
        subtitle,
        [
            _cells(cells),
            _course(course, 0),
            _section("Where the money went", _pools(course)),
            _section("Latency", plots.cumulative(curves, "latency", objectives.ttft_seconds_max)),
            _section("All figures", table(heads, lines, left=1)),
            _paste(heads, lines),
            _section("What the words mean", _soft(WORDS)),
        ],
    )


def driven(
    title: str,
    subtitle: str,
    outcomes: Sequence[Outcome],
    found: Mapping[str, Any],
    refused: Sequence[str],
    objectives: Objectives,
    warmup_seconds: float,
) -> str:
    """A run against a server, which is seen from outside: what of its hours was idle it does not tell."""
    counted = [one for one in outcomes if one.scheduled_seconds >= warmup_seconds]
    good = [one for one in counted if one.is_ok]
    heads, lines = ("figure", "value"), [list(row) for row in drive_rows(found)]
    warned = "".join(f'<p class="warn">Not to be believed: {escape(objection)}</p>' for objection in refused)
    curves = {
        "TTFT": _steps([one.ttft_seconds for one in good if one.ttft_seconds is not None]),
        "time of a token after it (TPOT)": _steps([one.tpot_seconds for one in good if one.tpot_seconds is not None]),
        "whole answer": _steps([one.latency_seconds for one in good]),
    }
    step, dollars, answers = _by_backend(counted)
    cost = found["cost"]
    cells = [
        (f"{found['request_count']['avg']:,}", "requests answered"),
        (f"{found['error_request_count']['avg']:,}", "failed"),
        (f"${cost['total']:,.4f}" if cost["requests_with_known_cost"] else "–", "cost, as far as it was told"),
        (f"{found['time_to_first_token'].get('p99', 0):,.0f} ms", "TTFT p99"),
    ]
    if "goodput" in found:
        cells.append((f"{found['goodput']['avg']:.2f}/s", "goodput"))
    has_cost = any(map(any, dollars.values()))
    errors = [[kind, f"{count:,}"] for kind, count in found["errors"].items()]
    by_place = [[name, f"{count:,}"] for name, count in found["backends"].items()]
    return page(
        title,
        subtitle,
        [
            _cells(cells) + warned,
            _section("Cost over time", plots.over_time(step, dollars, "cost"), _soft(FROM_OUTSIDE)) if has_cost else "",
            _section("Answers over time", plots.over_time(step, answers, "answers", unit="answers")),
            _section("Latency", plots.cumulative(curves, "latency", objectives.ttft_seconds_max)),
            _section("Figures", table(heads, lines, left=1)),
            _section("Who answered", table(("backend", "answers"), by_place, left=1)) if by_place else "",
            _section("Errors", table(("kind", "requests"), errors, left=1)) if errors else "",
            _paste(heads, lines),
        ],
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _soft(text: str) -> str:
    """HTML, in the quiet colour."""
    return f"<p class='soft'>{text}</p>"


def _headline(places: Sequence[plots.Place], policies: Mapping[str, Mapping[str, Figure]]) -> str:
    cheapest, dearest = places[0], places[-1]
    quickest = min(places, key=lambda place: place.ttft_seconds)
    finest = max(places, key=lambda place: place.quality)
    cells = [
        (f"${cheapest.usd:.4f}", f"per 1,000 requests: {cheapest.name}, the cheapest"),
        (f"${dearest.usd:.4f}", f"{dearest.name}, the dearest"),
        (f"{finest.quality:.1%}", f"quality: {finest.name}, the best"),
        (f"{quickest.ttft_seconds:.2f} s", f"TTFT p99: {quickest.name}, the quickest"),
        (str(len(policies)), "policies"),
    ]
    return _cells(cells)


def _cells(cells: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in cells)
    return f'<div class="figures">{inner}</div>'


def _where(courses: Mapping[str, Course]) -> str:
    rows = {
        name: {part: amount / max(1, course.tally.requests) / 1e6 for part, amount in course.money().items()}
        for name, course in courses.items()
    }
    return plots.where(rows, "where", unit="US dollars per 1,000 requests, to the end of the arrivals")


def _money_table(courses: Mapping[str, Course]) -> str:
    lines = []
    for name, course in courses.items():
        money = course.money()
        whole = sum(money.values())
        shares = [f"{money[part] / whole:.1%}" if whole else "–" for part in plots.MONEY]
        lines.append([name, *shares, f"{whole / 1e9:,.4f}"])
    return table(("policy", *plots.MONEY, "US dollars"), lines, left=1)


def _pools(course: Course) -> str:
    rows = {
        pool: {part: sum(getattr(slices, part)) / 1e9 for part in plots.MONEY}
        for pool, slices in course.recording.pools.items()
    }
    lines = [[pool, *(f"{parts[part]:,.4f}" for part in plots.MONEY)] for pool, parts in rows.items()]
    heads = ("pool", *plots.MONEY)
    return plots.where(rows, "where", unit="US dollars, to the end of the arrivals") + table(heads, lines, left=1)


def _course(course: Course, number: int) -> str:
    recording = course.recording
    whole = recording.whole()
    stacks = {part: [amount / 1e9 for amount in getattr(whole, part)] for part in plots.MONEY}
    pools = {
        pool: plots.Use(slices.useful_ratios(), slices.used_ratios())
        for pool, slices in recording.pools.items()
        if any(ratio is not None for ratio in slices.used_ratios())
    }
    title = f"{course.policy}: cost over time, and how far each pool was used"
    return _section(
        title,
        plots.over_time(recording.step_seconds, stacks, f"course{number}"),
        plots.use_over_time(recording.step_seconds, pools, f"used{number}") if pools else "",
    )


def _paste(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """As Markdown."""
    text = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    text += [f"| {' | '.join(cell.replace('|', '¦') for cell in line)} |" for line in lines]
    return _section("To paste", f"<pre>{escape(chr(10).join(text))}</pre>")


def _steps(values: Iterable[float]) -> list[tuple[float, float]]:
    ordered = sorted(max(value, 1e-4) for value in values)
    return [(value, (at + 1) / len(ordered)) for at, value in enumerate(ordered)]


def _by_backend(counted: Sequence[Outcome]) -> tuple[float, dict[str, list[float]], dict[str, list[float]]]:
    """(seconds of a slice, dollars, answers), the latter two by backend and slice."""
    began = min((one.scheduled_seconds for one in counted), default=0.0)
    ended = max((one.ended_seconds for one in counted), default=began + 1.0)
    slices = _slices(len(counted))
    step = max(ended - began, 1e-3) / slices
    names = dict.fromkeys(one.backend or "server" for one in counted if one.is_ok)
    dollars = {name: [0.0] * slices for name in names}
    answers = {name: [0.0] * slices for name in names}
    for one in counted:
        if one.is_ok:
            at = min(slices - 1, int((one.ended_seconds - began) / step))
            answers[one.backend or "server"][at] += 1
            dollars[one.backend or "server"][at] += (one.cost_nanousd or 0) / 1e9
    return step, dollars, answers


def _slices(requests: int) -> int:
    """As many slices of time as have some requests each."""
    return max(4, min(60, requests // 4))
