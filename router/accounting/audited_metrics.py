"""The money metrics that a router shows, held against what its ledger adds up to.

What each series should be is said here once more, by the contract of the metrics and not by the code that renders them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction

from prometheus_client.parser import text_string_to_metric_families

from router.accounting.derivation import Finding
from router.domain.attempt import AttemptStatus
from router.domain.money import NANOUSD_PER_USD
from router.domain.totals import Totals
from router.telemetry.money import POSITION, POSITION_NS, POSITION_SECONDS, POSITION_SEQ

# Up to here a float holds every nano-dollar; beyond, metrics are held to the cent.
EXACT_MAX = 2**53
CENT_NANOUSD = 10**7
NS_PER_SECOND = 10**9

Series = tuple[str, tuple[str, ...]]
Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
LOST = {
    AttemptStatus.FAILED: "failed",
    AttemptStatus.LOST: "router_died",
    AttemptStatus.CANCELLED: "cut_short",
    AttemptStatus.SHADOW: "shadow",
}
# The series that are compared, and the labels by which each is summed.
LABELS: Mapping[str, tuple[str, ...]] = {
    "jeton_bill_usd_total": ("pool", "backend"),
    "jeton_idle_usd_total": ("pool", "backend"),
    "jeton_cost_usd_total": ("pool", "backend", "basis"),
    "jeton_lost_usd_total": ("pool", "backend", "why"),
    "jeton_tokens_total": ("pool", "backend", "class"),
    "jeton_usage_total": ("source",),
    "jeton_unpriced_attempts_total": ("backend",),
    "jeton_corrections_usd": ("pool", "backend"),
}


def read_samples(text: str) -> Samples:
    """By name and labels, those in order."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("jeton_")
    }


def position_of(samples: Samples) -> tuple[int, int | None]:
    """(seq, at_ns) up to which scraped metrics reckon; at_ns None: they do not say."""
    parts = {labels[0][1]: int(value) for (name, labels), value in samples.items() if name == POSITION}
    if parts.keys() != {POSITION_SEQ, POSITION_SECONDS, POSITION_NS}:
        return 0, None
    return parts[POSITION_SEQ], parts[POSITION_SECONDS] * NS_PER_SECOND + parts[POSITION_NS]


def off_metrics(text: str, totals: Totals, source: str) -> Iterator[Finding]:
    """Series, summed by their `LABELS`, that are not what the totals are. Absent is 0."""
    shown: Counter[Series] = Counter()
    for (name, labels), value in read_samples(text).items():
        by = LABELS.get(name)
        values = dict(labels)
        if by is None:
            continue
        unit = NANOUSD_PER_USD if "_usd" in name else 1
        shown[name, tuple(values[label] for label in by)] += round(Fraction(value) * unit)
    expected = _expected_series(totals)
    for series in sorted(shown.keys() | expected.keys()):
        is_, should_be = shown[series], expected[series]
        if abs(is_ - should_be) > (0 if abs(should_be) < EXACT_MAX else CENT_NANOUSD):
            what = f"{'nano-dollars' if '_usd' in series[0] else 'counted'}, {source}"
            yield Finding("metrics", _series_text(series), what, str(is_), str(should_be))


def _series_text(series: Series) -> str:
    name, values = series
    labels = ", ".join(f"{label}={value}" for label, value in zip(LABELS[name], values, strict=True))
    return f"{name}{{{labels}}}"


def _expected_series(totals: Totals) -> Counter[Series]:
    """What the contract of the metrics says, in nano-dollars; not by the code that renders them."""
    series: Counter[Series] = Counter()
    for (pool, backend), lease in totals.leases.items():
        series["jeton_bill_usd_total", (pool, backend)] += lease.bill_nanousd
        series["jeton_idle_usd_total", (pool, backend)] += lease.idle_nanousd
    for line, total in totals.lines.items():
        pool, backend, billing, *_ = line.account
        if billing == "metered":
            series["jeton_bill_usd_total", (pool, backend)] += total.cost_nanousd
        if line.status in LOST:
            series["jeton_lost_usd_total", (pool, backend, LOST[line.status])] += total.lost_nanousd
        series["jeton_cost_usd_total", (pool, backend, "allocated")] += total.cost_nanousd
        series["jeton_cost_usd_total", (pool, backend, "standard")] += total.standard_nanousd
        for name in ("prompt", "cached", "completion", "reasoning"):
            series["jeton_tokens_total", (pool, backend, name)] += getattr(total, f"{name}_tokens")
        series["jeton_usage_total", (line.usage_source.value,)] += total.attempts
        series["jeton_unpriced_attempts_total", (backend,)] += total.unpriced
    for (pool, backend), nanousd in totals.corrected_nanousd.items():
        series["jeton_corrections_usd", (pool, backend)] += nanousd
    for account, owed_nanousd in totals.open_nanousd.items():
        series["jeton_cost_usd_total", (account.pool, account.backend, "allocated")] += owed_nanousd
    return series
