"""The report as one HTML page: no script, nothing fetched, light and dark by the reader's preference, light on paper."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape

from router.domain.periods import HOURS_PER_DAY
from router.reporting import plots
from router.reporting.report import Report
from router.reporting.savings import CONFIDENCE, Measured
from router.reporting.split import NOTHING, Split

# Above it a bar is a day: what the eye can tell apart on the width of a page.
HOURLY_BARS_MAX = 24 * 4
BACKEND_ROWS_MAX = 16
MILLI = 1e6  # nano-dollars a request are millionths of a dollar a thousand requests

CSS = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1d2329; --soft: #5b6670; --rule: #d9dee3; --panel: #f5f7f8;
  --useful: #1f7a5c; --thin: #c98a14; --idle: #8b97a3; --lost: #b8402f; --unrated: #6a5aa8;
  --allocated: #1f6fb2; --standard: #c0591f; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181c; --ink: #e7ebee; --soft: #9aa6b0; --rule: #333c44; --panel: #1c2228;
  --useful: #46b48c; --thin: #e0ab46; --idle: #76838f; --lost: #e0705e; --unrated: #a394e0;
  --allocated: #63aeea; --standard: #ee9059; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; } p { margin: .4rem 0 .8rem; }
.soft { color: var(--soft); } .warn { border-left: 3px solid var(--lost); padding-left: .7rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.figures div { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: .7rem .9rem; }
.figures b { display: block; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } th.l, td.l { text-align: left; } tr.sum td { font-weight: 600; }
th i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .35em; }
svg { width: 100%; height: auto; display: block; margin: .6rem 0; } svg text { font-family: inherit; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
@media print { :root { --paper: #ffffff; --ink: #000000; --soft: #444444; --rule: #cccccc; --panel: #ffffff;
  --useful: #1f7a5c; --thin: #c98a14; --idle: #8b97a3; --lost: #b8402f; --unrated: #6a5aa8;
  --allocated: #1f6fb2; --standard: #c0591f; }
  body { font-size: 9.5pt; margin: 0; max-width: none; padding: 0; } section { break-inside: avoid; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .2rem .35rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def html(report: Report) -> str:
    sections = [_head(report), _where(report), _prices(report), _savings(report)]
    sections += [_commitments(report), _energy(report), _tenants(report), _words()]
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>jeton: where the money went, {_day(report.first_hour)}</title><style>{CSS}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _head(report: Report) -> str:
    whole, known = report.whole, report.counterfactual
    tokens = sum(one.tokens for one in report.prices)
    figures = [
        (usd_text(whole.bill), "the bill"),
        (_percent(whole.useful, whole.bill), "was useful work"),
        (_percent(whole.thin + whole.idle, whole.bill), "thin batches and idle time"),
        (usd_text(known.net), f"saved against {escape(report.baseline)}, modelled, idle time taken off"),
        (f"{tokens / 1e6:,.2f} M", f"tokens served, in {report.attempts:,} attempts"),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in figures)
    warnings = []
    if report.unpriced:
        warnings.append(
            f"{report.unpriced:,} attempts have no price: what they cost is not known, and in no figure here."
        )
    if report.late_attempts:
        warnings.append(
            f"{report.late_attempts:,} attempts were booked as lost, by their estimates, and told of later; that is set right"
            f" here, in the hour in which it was told, and moved the bill by {usd_text(report.late_nanousd)}."
        )
    if report.is_catching_up:
        warnings.append(f"{report.waiting:,} charges of an older ledger are still being added up and not in here yet.")
    newest = ""
    if report.waiting and not report.is_catching_up:
        newest = f" · without the newest {report.waiting:,} charges, which the next checkpoint adds up"
    warned = "".join(f'<p class="warn">{text}</p>' for text in warnings)
    return (
        f"<header><h1>Where the money went</h1><p class='soft'>{_time(report.first_hour)} to {_time(report.end_hour)}, UTC"
        f" · made {report.made_at:%Y-%m-%d %H:%M} · amounts in US dollars{newest}</p></header>"
        f'<div class="figures">{cells}</div>{warned}'
    )


def _where(report: Report) -> str:
    hourly = report.by(hourly=True)
    hours = report.end_hour - report.first_hour
    is_daily = hours > HOURLY_BARS_MAX
    step = HOURS_PER_DAY if is_daily else 1
    first = report.first_hour // step * step
    bars: dict[int, Split] = dict.fromkeys(range(first, report.end_hour, step), NOTHING)
    for (hour,), one in hourly.items():
        at = int(str(hour)) // step * step
        bars[at] = bars.get(at, NOTHING) + one
    labels = [_label(at, is_daily=is_daily) for at in bars]
    places = report.by("pool", "backend", "replica")
    shown = places if len(places) <= BACKEND_ROWS_MAX else report.by("pool", "backend")
    names = [" / ".join(str(part) for part in (key[0], key[-1])) for key in shown]
    rows = [([*map(str, key)], one) for key, one in places.items()]
    return (
        f"<section><h2>Where each dollar went</h2>{plots.over_time(labels, list(bars.values()))}"
        f"<p class='soft'>A bar is {'a day' if is_daily else 'an hour'}.</p></section>"
        f"<section>{plots.shares(names, list(shown.values()))}</section>"
        f"<section>{_split_table(('pool', 'backend', 'replica'), rows, report.whole)}</section>"
    )


def _split_table(keys: Sequence[str], rows: Iterable[tuple[list[str], Split]], whole: Split) -> str:
    parts = ["useful", "thin", "idle", "lost"]
    if whole.unrated:
        parts.append("unrated")
    heads = [f'<th class="l">{key}</th>' for key in keys]
    heads += [f'<th><i style="background:var(--{part})"></i>{part}</th>' for part in parts]
    heads += ["<th>in flight</th>", "<th>bill</th>"]
    lines = []
    for names, one in [*rows, (["all", *[""] * (len(keys) - 1)], whole)]:
        cells = [f'<td class="l">{escape(name)}</td>' for name in names]
        cells += [f"<td>{usd_text(getattr(one, part))}</td>" for part in (*parts, "in_flight", "bill")]
        lines.append(f"<tr{' class=sum' if one is whole else ''}>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{"".join(heads)}</tr>{"".join(lines)}</table></div>'


def _prices(report: Report) -> str:
    rows = [one for one in report.prices if one.tokens]
    if not rows:
        return ""
    lines = [
        [
            one.pool,
            one.backend,
            one.token_class,
            f"{one.tokens:,}",
            _price(one.allocated_usd_per_million),
            _price(one.standard_usd_per_million),
        ]
        for one in rows
    ]
    for key, price in report.all_in.items():
        pool, backend = map(str, key)
        lines.append([pool, backend, "all-in", "", _price(price), ""])
    plot = plots.token_prices(
        [
            (
                f"{one.backend}  {one.token_class}",
                _float(one.allocated_usd_per_million),
                _float(one.standard_usd_per_million),
            )
            for one in rows[: 3 * BACKEND_ROWS_MAX]
        ]
    )
    heads = ("pool", "backend", "class", "tokens", "allocated $/M", "standard $/M")
    by_place = sorted(lines, key=lambda line: tuple(line[:2]))
    return (
        f"<section><h2>What a million tokens cost</h2>{plot}</section><section>{table(heads, by_place, left=3)}"
        "<p class='soft'><b>all-in</b> is the whole bill, idle and lost money included, over all tokens served; the classes"
        " are of the requests alone. Prompt tokens are those not cached.</p></section>"
    )


def _savings(report: Report) -> str:
    known = report.counterfactual
    lines = [
        ["the same tokens at the baseline", usd_text(known.baseline)],
        ["what they cost here, failed attempts included", usd_text(-known.compared)],
        ["attempts lost in a crash", usd_text(-known.lost_uncompared)],
        ["idle time", usd_text(-known.idle)],
        ["saved (modelled)", usd_text(known.net)],
    ]
    plotted: list[tuple[str, float, float | None, float | None]] = []
    if known.compared_attempts:
        plotted.append(("modelled, gross", known.gross / known.compared_attempts / MILLI, None, None))
    plotted += [
        (f"measured, {one.basis}", one.saving / MILLI, (one.low or 0) / MILLI, (one.high or 0) / MILLI)
        for one in _told_apart(report.measured)
        if one.saving is not None
    ]
    plot = plots.savings(plotted) if len(plotted) > 1 else ""
    skipped = ""
    if unpriced := known.uncompared_attempts - known.died_uncompared_attempts:
        skipped += f" {unpriced:,} attempts without a baseline price or a cost are left out of it."
    if known.died_uncompared_attempts:
        skipped += (
            f" {known.died_uncompared_attempts:,} attempts that were lost when jeton died are not compared: what they cost is"
            " taken off as it is."
        )
    return (
        f"<section><h2>What routing saved</h2><p><b>Modelled</b> (counterfactual), against"
        f" <code>{escape(report.baseline)}</code>: the same tokens at its price.{skipped}</p>"
        f"{table(('', 'US dollars'), lines, left=1, is_last_sum=True)}</section>"
        f"<section><p><b>Measured</b> (hold-out): {_measured_text(report.measured)}</p>{plot}"
        f"{_measured_table(report.measured)}</section>"
    )


def _measured_text(rows: Sequence[Measured]) -> str:
    if not rows:
        return (
            "nothing was held out in this period. With <code>holdout_ratio</code> in <code>router.yaml</code> chance sends"
            " that share of the requests for <code>auto</code> to the baseline, and the saving is measured."
        )
    if all(one.saving is None for one in rows):
        return f"{rows[0].held_out:,} requests were held out, too few to say."
    return (
        f"{rows[0].held_out:,} requests went to the baseline by chance, {rows[0].routed:,} as routed; what the former cost"
        f" more, per request, with its {CONFIDENCE:.0%} confidence interval (Welch). Idle time is in neither."
    )


def _told_apart(rows: Sequence[Measured]) -> Sequence[Measured]:
    """On a metered baseline both bases are one."""
    return rows[:1] if len({row[1:] for row in rows}) == 1 else rows


def _measured_table(rows: Sequence[Measured]) -> str:
    known = [one for one in _told_apart(rows) if one.saving is not None]
    if not known:
        return ""
    names = {"priced": "the baseline at its price", "allocated": "allocated, both sides"}
    lines = [
        [
            names[one.basis],
            _per_thousand(one.held_out_mean),
            _per_thousand(one.routed_mean),
            _per_thousand(one.saving or 0),
            f"{_per_thousand(one.low or 0)} to {_per_thousand(one.high or 0)}",
        ]
        for one in known
    ]
    heads = ("US dollars per thousand requests", "held out", "routed", "saved", "interval")
    return table(heads, lines, left=1)


def _commitments(report: Report) -> str:
    if not report.commitments:
        return ""
    lines = [
        [
            one.pool,
            one.backend,
            one.price,
            f"{one.hours:,.1f}",
            usd_text(one.paid_nanousd),
            usd_text(one.used_nanousd),
            usd_text(one.unused_nanousd),
        ]
        for one in report.commitments
    ]
    heads = ("pool", "backend", "price", "hours", "paid", "used", "unused")
    return f"<section><h2>Commitments</h2>{table(heads, lines, left=3)}</section>"


def _energy(report: Report) -> str:
    if not any(one.kwh is not None for one in report.energy):
        return ""
    lines = [
        [
            one.pool,
            one.region or "–",
            f"{one.hours:,.1f}",
            f"{one.hours_unknown:,.1f}",
            "–" if one.kwh is None else f"{one.kwh:,.2f}",
            "–" if one.grams is None else f"{one.grams / 1000:,.3f}",
        ]
        for one in report.energy
    ]
    heads = ("pool", "region", "replica-hours", "of unknown power", "kWh", "kg CO₂")
    return (
        f"<section><h2>Energy</h2>{table(heads, lines, left=2)}<p class='soft'>Power × hours × PUE as the price book says,"
        " idle hours at idle power where it is given; CO₂ by the region's factor. Metered capacity is not in it.</p></section>"
    )


def _tenants(report: Report) -> str:
    lines = [
        [
            one.tenant,
            f"{one.attempts:,}",
            f"{one.prompt_tokens:,}",
            f"{one.completion_tokens:,}",
            usd_text(one.cost_nanousd),
            usd_text(one.lost_nanousd),
            usd_text(one.saved_nanousd),
        ]
        for one in report.tenants
    ]
    heads = ("tenant", "attempts", "prompt tokens", "completion tokens", "cost", "of that lost", "saved (modelled)")
    return (
        f"<section><h2>Who spent it</h2>{table(heads, lines, left=1)}"
        "<p class='soft'>Idle time is nobody's, so it is in no tenant's cost or saving.</p></section>"
    )


def _words() -> str:
    return (
        "<section><h2>What the words mean</h2><p class='soft'><b>useful</b>: served work at its standard price, the replica"
        " as full as it should be. <b>thin</b>: what served work cost beyond that, because few requests shared the replica."
        " In an hour in which a batch was better than the target all of it is useful and nothing is thin. <b>idle</b>: leased"
        " time in which nothing ran. <b>lost</b>: attempts that bought no answer. <b>unrated</b>: served work of a replica"
        " without an engine profile. <b>in flight</b>: run up by attempts that cross the period's edges. They sum to the bill"
        " to the nano-dollar.</p></section>"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int, is_last_sum: bool = False) -> str:
    """The first `left` columns hold names."""
    classes = ["l" if number < left else "r" for number in range(len(heads))]
    head = "".join(f'<th class="{kind}">{escape(text)}</th>' for kind, text in zip(classes, heads, strict=True))
    lines = [
        "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in zip(classes, row, strict=True))
        for row in rows
    ]
    body = "".join(
        f"<tr{' class=sum' if is_last_sum and number == len(lines) - 1 else ''}>{line}</tr>"
        for number, line in enumerate(lines)
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def usd_text(nanousd: int) -> str:
    """To four significant places below a dollar, to the cent above: the JSON has every digit."""
    usd = Decimal(nanousd) / 10**9
    sign, size = ("−" if usd < 0 else ""), abs(usd)
    if not size:
        return "0"
    return f"{sign}{size:,.2f}" if size >= 1 else f"{sign}{size:.6f}".rstrip("0").rstrip(".") or "0"


def _price(usd: Decimal | None) -> str:
    return "–" if usd is None else f"{usd:,.2f}" if usd >= 100 else f"{usd:.4f}" if usd >= 1 else f"{float(usd):.3g}"


def _per_thousand(nanousd: float) -> str:
    usd = nanousd / MILLI
    return f"{'−' if usd < 0 else ''}{abs(usd):,.4f}"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * 3600, UTC)


def _time(hour: int) -> str:
    return f"{_moment(hour):%Y-%m-%d %H:%M}"


def _day(hour: int) -> str:
    return f"{_moment(hour):%Y-%m-%d}"


def _label(hour: int, *, is_daily: bool) -> str:
    return f"{_moment(hour):%m-%d}" if is_daily else f"{_moment(hour):%d. %H:00}"
