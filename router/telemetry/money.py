"""The money metrics: the ledger's totals in Prometheus' words, read at every scrape and kept nowhere else.

They survive restarts because the ledger does, and equal it to the nano-dollar, up to the floats of the exposition format.
There is no other counter of money; what a token costs just now, by class, is a gauge of its own (`prices.py`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from router.domain.attempt import AttemptStatus, Outcome
from router.domain.money import NANOUSD_PER_USD
from router.domain.periods import ARM_REQUESTS_MIN, Arm, ArmSums
from router.domain.totals import Account, LineTotal, Totals
from router.telemetry.labels import Vocabulary

Labels = tuple[str, ...]

BY_PLACE = ("pool", "backend")
BY_ACCOUNT = ("pool", "backend", "model", "tier", "tenant")

# Why money bought no answer, by how its attempt ended. Of cancelled ones the total tells those apart whose client had left.
WHY_LOST = {
    AttemptStatus.FAILED: Outcome.FAILED,
    AttemptStatus.LOST: Outcome.ROUTER_DIED,
    AttemptStatus.CANCELLED: Outcome.CUT_SHORT,
}

COUNTERFACTUAL, HOLDOUT = "counterfactual", "holdout"

# A float does not hold the nanoseconds since 1970, so they come in two.
POSITION, POSITION_SEQ, POSITION_SECONDS, POSITION_NS = "jeton_ledger_position", "event", "seconds", "nanoseconds"


class MoneyCollector(Collector):
    """tenants: those with series of their own; the others share one."""

    def __init__(self, totals: Callable[[], Totals], tenants: Vocabulary) -> None:
        self._totals = totals
        self._tenants = tenants

    def describe(self) -> Iterable[Metric]:
        return _families(_Sums())

    def collect(self) -> Iterable[Metric]:
        totals, sums = self._totals(), _Sums()
        for line, total in totals.lines.items():
            account = line.account
            labels = self._labels(account)
            sums.cost[*labels, "allocated"] += total.cost_nanousd
            sums.cost[*labels, "standard"] += total.standard_nanousd
            for name, count in _token_classes(total):
                sums.tokens[*labels, name] += count
            if line.status in WHY_LOST:
                sums.lost[account.pool, account.backend, WHY_LOST[line.status].value] += total.lost_nanousd
            sums.saved[labels[-1], COUNTERFACTUAL] += total.saved_nanousd
            sums.usage[line.usage_source.value,] += total.attempts
            sums.unpriced[account.backend,] += total.unpriced
        for account, owed_nanousd in totals.open_nanousd.items():
            sums.cost[*self._labels(account), "allocated"] += owed_nanousd
        for place, bill_nanousd in totals.bills().items():
            sums.bill[place] += bill_nanousd
            for why in WHY_LOST.values():  # from the beginning, or the first loss of all would be no increase
                sums.lost[*place, why.value] += 0
        for place, lease in totals.leases.items():
            sums.idle[place] += lease.idle_nanousd
        for place, corrected_nanousd in totals.corrected_nanousd.items():
            sums.corrected[place] += corrected_nanousd
        seconds, rest_ns = divmod(totals.at_ns, 10**9)
        sums.position = {(POSITION_SEQ,): totals.seq, (POSITION_SECONDS,): seconds, (POSITION_NS,): rest_ns}
        for tenant, saved_nanousd in _measured(totals.arms, self._tenants).items():
            sums.saved[tenant, HOLDOUT] += saved_nanousd
        yield from _families(sums)

    def _labels(self, account: Account) -> Labels:
        return account.pool, account.backend, account.model, account.tier, self._tenants.fold(account.tenant)


class _Sums:
    """Whole numbers by label values: nano-dollars, tokens, attempts."""

    def __init__(self) -> None:
        self.bill: defaultdict[Labels, int] = defaultdict(int)
        self.cost: defaultdict[Labels, int] = defaultdict(int)
        self.idle: defaultdict[Labels, int] = defaultdict(int)
        self.lost: defaultdict[Labels, int] = defaultdict(int)
        self.saved: defaultdict[Labels, int] = defaultdict(int)
        self.tokens: defaultdict[Labels, int] = defaultdict(int)
        self.usage: defaultdict[Labels, int] = defaultdict(int)
        self.unpriced: defaultdict[Labels, int] = defaultdict(int)
        self.corrected: defaultdict[Labels, int] = defaultdict(int)
        self.position: Mapping[Labels, int] = {}


def _families(sums: _Sums) -> Iterator[Metric]:
    """One by one, so that a scrape can let others have their turn between."""
    usd = NANOUSD_PER_USD
    yield _counter("jeton_bill_usd", "What we owe: leases by time, metered backends by use.", BY_PLACE, sums.bill, usd)
    yield _counter(
        "jeton_cost_usd",
        "Cost of attempts. allocated: shares of the bill, attempts in flight included; with jeton_idle_usd_total they"
        " sum to the bill. standard: the same tokens at list price, or at a lease's target utilization.",
        (*BY_ACCOUNT, "basis"),
        sums.cost,
        usd,
    )
    yield _counter("jeton_idle_usd", "Lease time that no attempt used.", BY_PLACE, sums.idle, usd)
    yield _counter(
        "jeton_lost_usd",
        "Cost of attempts that bought no answer, a part of jeton_cost_usd_total, allocated. failed: the backend did not deliver,"
        " whether or not another then did. cut_short: ended by us before an answer was whole (deadline, not accepted, shutdown)."
        " router_died: open when its router died. A client that left got what it stayed for.",
        (*BY_PLACE, "why"),
        sums.lost,
        usd,
    )
    yield _filled(
        GaugeMetricFamily(
            "jeton_saved_usd_total",
            "What routing saved. counterfactual: the same tokens at the baseline's list or standard price, less the cost"
            " here, failed attempts included. holdout: measured on the requests that were held out, less the routed, at the"
            " baseline's list or standard price. Neither includes idle time. A gauge, for it may fall: delta(), not rate().",
            labels=("tenant", "method"),
        ),
        sums.saved,
        usd,
    )
    yield _counter(
        "jeton_tokens",
        "Language tokens. cached is a part of prompt, reasoning of completion.",
        (*BY_ACCOUNT, "class"),
        sums.tokens,
    )
    yield _counter("jeton_usage", "Ended attempts, by how their tokens are known.", ("source",), sums.usage)
    yield _counter(
        "jeton_unpriced_attempts",
        "Ended attempts whose cost is unknown for want of a price.",
        ("backend",),
        sums.unpriced,
    )
    yield _filled(
        GaugeMetricFamily(
            "jeton_corrections_usd",
            "What workers that had been taken for dead said of their attempts after all: to be added to the cost of attempts"
            " that were counted as lost, at their estimate. A gauge, for it may fall.",
            labels=BY_PLACE,
        ),
        sums.corrected,
        usd,
    )
    yield _filled(
        GaugeMetricFamily(
            POSITION,
            "Up to where the money here reckons: the last event of the journal, and the time to which leases are booked,"
            " as whole seconds since 1970 and the nanoseconds beyond. `jeton ledger audit` reckons the same again.",
            labels=("part",),
        ),
        sums.position,
        1,
    )


def _measured(arms: Iterable[ArmSums], tenants: Vocabulary) -> Mapping[str, int]:
    """By tenant: routed requests × what a held-out one cost more. Tenants with too few held-out requests are not told."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in arms:
        entry = sums[tenants.fold(one.tenant), one.arm]
        entry[0] += one.requests
        entry[1] += one.own_nanousd if one.arm == Arm.HOLDOUT else one.allocated_nanousd
    saved = {}
    for (tenant, arm), (requests, nanousd) in list(sums.items()):
        held_out, held_out_nanousd = sums.get((tenant, Arm.HOLDOUT), (0, 0))
        if arm == Arm.ROUTED and min(held_out, requests) >= ARM_REQUESTS_MIN:
            saved[tenant] = held_out_nanousd * requests // held_out - nanousd
    return saved


def _counter(name: str, text: str, label_names: Labels, amounts: Mapping[Labels, int], unit: int = 1) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=label_names), amounts, unit)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, amounts: Mapping[Labels, int], unit: int
) -> CounterMetricFamily | GaugeMetricFamily:
    """Its samples are made as they are read: thousands at once would hold the event loop up for milliseconds."""
    suffix = "_total" if family.type == "counter" else ""
    family.samples = _Samples(family.name + suffix, family._labelnames, amounts, unit)  # type: ignore[assignment]
    return family


class _Samples:
    """Those of one family. Read once or more; the amounts must not change meanwhile."""

    def __init__(self, name: str, label_names: Sequence[str], amounts: Mapping[Labels, int], unit: int) -> None:
        self._name, self._label_names = name, label_names
        self._amounts, self._unit = amounts, unit

    def __iter__(self) -> Iterator[Sample]:
        for labels, amount in self._amounts.items():
            yield Sample(self._name, dict(zip(self._label_names, labels, strict=True)), amount / self._unit)


def _token_classes(total: LineTotal) -> Iterable[tuple[str, int]]:
    yield "prompt", total.prompt_tokens
    yield "cached", total.cached_tokens
    yield "completion", total.completion_tokens
    yield "reasoning", total.reasoning_tokens
