"""The panels' money is the ledger's, to the nano-dollar: what Prometheus answers, against the journal reckoned again.

Two scrapes are chosen. Each tells up to which event and time its money reckons, so the ledger can be brought to that very state.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import pytest
from grafana_boards import queries
from ledger_instant import ledger_at
from prometheus_server import PrometheusServer

from router.domain.totals import Line, LineTotal, Totals

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(300)]

NS_PER_SECOND = 10**9

Labels = tuple[str, ...]
Amounts = Mapping[Labels, Fraction]


@dataclass(frozen=True)
class Scrape:
    """When it was, and the ledger as it was then."""

    at_seconds: float
    totals: Totals


@dataclass(frozen=True)
class Shown:
    """Two scrapes and what was spent between them, by whatever it is asked for."""

    first: Scrape
    last: Scrape

    @property
    def range(self) -> str:
        return f"{round((self.last.at_seconds - self.first.at_seconds) * 1000)}ms"

    def spent(self, figure: str, *by: str) -> dict[Labels, int]:
        """Differences, of every set of labels that there is at the end."""
        after, before = (nanousd(scrape.totals, figure, by) for scrape in (self.last, self.first))
        return {labels: amount - before.get(labels, 0) for labels, amount in after.items()}


def nanousd(totals: Totals, figure: str, by: Labels) -> dict[Labels, int]:
    """One figure of the ledger summed by labels. Not by the code that exports it."""
    sums: defaultdict[Labels, int] = defaultdict(int)

    def add(amount: int, **labels: str) -> None:
        sums[tuple(labels[name] for name in by)] += amount

    if figure in ("bill", "idle"):
        for (pool, backend), lease in totals.leases.items():
            add(lease.bill_nanousd if figure == "bill" else lease.idle_nanousd, pool=pool, backend=backend)
    for line, total in totals.lines.items():
        add_line(figure, line, total, add)
    if figure == "cost":
        for account, owed_nanousd in totals.open_nanousd.items():
            add(owed_nanousd, pool=account.pool, backend=account.backend, tenant=account.tenant)
    return dict(sums)


def add_line(figure: str, line: Line, total: LineTotal, add) -> None:
    account = line.account
    labels = {"pool": account.pool, "backend": account.backend, "tenant": account.tenant, "method": "counterfactual"}
    if (figure == "bill" and account.billing == "metered") or figure == "cost":
        add(total.cost_nanousd, **labels)
    elif figure == "standard":
        add(total.standard_nanousd, **labels)
    elif figure == "saved":
        add(total.saved_nanousd, **labels)
    elif figure == "lost":
        add(total.lost_nanousd, **labels)
    elif figure == "tokens":
        add(total.prompt_tokens + total.completion_tokens, **labels)
    elif figure == "attempts":
        add(total.attempts, **labels)
    elif figure == "unpriced":
        add(total.unpriced, **labels)
    elif figure == "guessed" and line.usage_source != "provider":
        add(total.attempts, **labels)


@pytest.fixture(scope="module")
def shown(watched) -> Shown:
    """The last scrape, and one before which nothing had befallen the demo."""
    parts: defaultdict[float, dict[str, int]] = defaultdict(dict)
    for series in watched.prometheus.scraped('jeton_ledger_position{job="jeton"}', 600):
        for at_seconds, value in series.points:
            parts[at_seconds][series.labels["part"]] = int(value)
    return Shown(*(scrape(watched.ledger, at, parts[at]) for at in (watched.quiet_seconds, max(parts))))


def scrape(ledger, at_seconds: float, part: Mapping[str, int]) -> Scrape:
    at_ns = part["seconds"] * NS_PER_SECOND + part["nanoseconds"]
    return Scrape(at_seconds, ledger_at(ledger, part["event"], at_ns))


def answer(prometheus: PrometheusServer, shown: Shown, panel: str, letter: str, *by: str) -> dict[Labels, float]:
    [query] = [one for one in queries() if (one.board, one.panel, one.letter) == ("cost", panel, letter)]
    assert query.is_instant
    found = prometheus.query(query.filled(__range=shown.range, job="jeton"), shown.last.at_seconds)
    return {tuple(one.labels[name] for name in by): one.value for one in found}


PLACE = ("pool", "backend")
AMOUNTS = [
    ("Bill in the time shown", "A", (), "bill"),
    ("In the time shown", "A", PLACE, "bill"),
    ("In the time shown", "D", PLACE, "idle"),
    ("In the time shown", "E", PLACE, "lost"),
    ("Saved in the time shown", "A", ("method",), "saved"),
    ("Tenants, in the time shown", "A", ("tenant",), "cost"),
    ("Tenants, in the time shown", "D", ("tenant",), "saved"),
]


@pytest.mark.parametrize(("panel", "letter", "by", "figure"), AMOUNTS, ids=lambda value: str(value))
def test_an_amount_is_what_the_ledger_gained_in_the_time_shown(watched, shown, panel, letter, by, figure) -> None:
    answered = answer(watched.prometheus, shown, panel, letter, *by)
    expected = shown.spent(figure, *by)
    assert any(expected.values())
    assert {labels: round(value * NS_PER_SECOND) for labels, value in answered.items()} == expected


def test_what_was_spent_is_told_apart_into_useful_thin_idle_and_lost_without_a_rest(watched, shown) -> None:
    bill, useful, thin, idle, lost = (
        {
            labels: round(value * NS_PER_SECOND)
            for labels, value in answer(watched.prometheus, shown, "In the time shown", letter, *PLACE).items()
        }
        for letter in "ABCDE"
    )
    cost, standard = shown.spent("cost", *PLACE), shown.spent("standard", *PLACE)
    assert lost == {place: shown.spent("lost", *PLACE).get(place, 0) for place in lost}
    served = {place: cost[place] - lost[place] for place in cost}
    assert thin == {place: max(served[place] - standard[place], 0) for place in cost}
    assert useful == {place: served[place] - thin[place] for place in cost}
    for place, amount in bill.items():
        rest = amount - useful[place] - thin[place] - idle.get(place, 0) - lost[place]
        assert abs(rest) < 1000, place  # a nano-dollar for each attempt that runs or ran at one end


def test_the_bill_since_the_beginning_is_the_ledgers_and_adds_up(watched, shown) -> None:
    prometheus, totals = watched.prometheus, shown.last.totals
    [bill] = answer(prometheus, shown, "Bill since the ledger began", "A").values()
    assert round(bill * NS_PER_SECOND) == nanousd(totals, "bill", ())[()]
    [rest] = answer(prometheus, shown, "Bill − cost − idle", "A").values()
    expected = nanousd(totals, "bill", ())[()] - nanousd(totals, "cost", ())[()] - nanousd(totals, "idle", ())[()]
    assert round(rest * NS_PER_SECOND) == expected
    assert 0 <= expected < 1000


def test_shares_and_prices_are_quotients_of_the_ledgers_sums(watched, shown) -> None:
    prometheus, close = watched.prometheus, pytest.approx
    [idle] = answer(prometheus, shown, "Of it idle, in the time shown", "A").values()
    assert idle == close(shown.spent("idle")[()] / shown.spent("bill")[()], rel=1e-9)
    saved = sum(shown.spent("saved").values()) - shown.spent("idle")[()]
    [after_idle] = answer(prometheus, shown, "In the time shown, idle time paid", "A").values()
    assert round(after_idle * NS_PER_SECOND) == saved
    tokens, cost = shown.spent("tokens", "tenant"), shown.spent("cost", "tenant")
    counted = answer(prometheus, shown, "Tenants, in the time shown", "B", "tenant")
    assert {labels: round(value) for labels, value in counted.items()} == tokens
    for labels, price in answer(prometheus, shown, "Tenants, in the time shown", "C", "tenant").items():
        assert price == close(cost[labels] / tokens[labels] / 1000, rel=1e-9)


def test_what_is_not_sure_is_counted_as_the_ledger_counts_it(watched, shown) -> None:
    prometheus, attempts = watched.prometheus, shown.spent("attempts")[()]
    [unpriced] = answer(prometheus, shown, "Attempts without a price, in the time shown", "A").values()
    assert unpriced == shown.spent("unpriced")[()] == 0
    [guessed] = answer(prometheus, shown, "Attempts with estimated usage, in the time shown", "A").values()
    assert guessed == pytest.approx(shown.spent("guessed").get((), 0) / attempts, rel=1e-9)
