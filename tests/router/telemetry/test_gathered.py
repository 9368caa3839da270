"""Metrics of several processes as one: counts are summed and never fall, what is the ledger's is shown once."""

from collections.abc import Callable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from router.domain.totals import LeaseTotal, Totals
from router.telemetry.gathered import LEDGERS, Gathered, Tally, tally_row
from router.telemetry.labels import Vocabulary
from router.telemetry.money import MoneyCollector
from router.telemetry.tally import Counter, Histogram

PLACE = ("edge", "small")


class Process:
    """A registry with a counter, a histogram and gauges."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(self.registry, "jeton_requests", "Requests.", "status")
        self.seconds = Histogram(self.registry, "jeton_request_seconds", "How long.", (1, 10))
        self.gauges: dict[str, float] = {}
        self.registry.register(_Gauges(self.gauges))

    def keeps_the_books(self, bill_nanousd: Callable[[], int]) -> None:
        """It shows the ledger's totals."""
        totals = lambda: Totals(0, {}, {}, {PLACE: LeaseTotal(bill_nanousd(), 0)})  # noqa: E731
        self.registry.register(MoneyCollector(totals, Vocabulary(9)))  # type: ignore[arg-type]


class _Gauges(Collector):
    def __init__(self, values: dict[str, float]) -> None:
        self._values = values

    def collect(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily(name, "A gauge.", value=value) for name, value in self._values.items()]


def tally(process: Process) -> Tally:
    return [tally_row(family) for family in process.registry.collect()]


def shown(gathered: Gathered, *present: int) -> dict[str, float]:
    text = gathered.render(present).decode()
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(gathered: Gathered, *processes: Process) -> None:
    for number, process in enumerate(processes):
        gathered.told(number, tally(process))


def test_counters_and_histograms_are_summed() -> None:
    gathered, one, other = Gathered(), Process(), Process()
    one.requests.labels("200").value += 3
    other.requests.labels("200").value += 4
    other.requests.labels("503").value += 1
    one.seconds.labels().observe(0.5)
    other.seconds.labels().observe(5)
    told(gathered, one, other)
    seen = shown(gathered, 0, 1)
    assert (seen["jeton_requests_total200"], seen["jeton_requests_total503"]) == (7, 1)
    assert [seen[f"jeton_request_seconds_bucket{le}"] for le in ("1.0", "10.0", "+Inf")] == [1, 2, 2]
    assert (seen["jeton_request_seconds_count"], seen["jeton_request_seconds_sum"]) == (2, 5.5)


def test_what_a_process_had_counted_stays_counted_when_it_is_gone_and_another_begins_at_nothing() -> None:
    gathered, one, other, next_one = Gathered(), Process(), Process(), Process()
    one.requests.labels("200").value += 3
    one.seconds.labels().observe(0.5)
    other.requests.labels("200").value += 4
    told(gathered, one, other)
    gathered.gone(0)
    assert shown(gathered, 1)["jeton_requests_total200"] == 7
    next_one.requests.labels("200").value += 1
    gathered.told(2, tally(next_one))
    seen = shown(gathered, 1, 2)
    assert (seen["jeton_requests_total200"], seen["jeton_request_seconds_count"]) == (8, 1)


def test_of_a_process_that_does_not_answer_the_counts_stand_and_the_gauges_are_not_believed() -> None:
    gathered, one, other = Gathered(), Process(), Process()
    one.requests.labels("200").value += 3
    one.gauges["jeton_in_flight"] = 5
    other.gauges["jeton_in_flight"] = 2
    told(gathered, one, other)
    seen = shown(gathered, 1)
    assert (seen["jeton_requests_total200"], seen["jeton_in_flight"]) == (3, 2)


def test_gauges_are_put_together_by_what_they_say() -> None:
    gathered, one, other = Gathered(), Process(), Process()
    for name, here, there, together in (
        ("jeton_in_flight", 5, 2, 7),
        ("jeton_replica_up", 1, 0, 0),
        ("jeton_scrape_age_seconds", 1.5, 0.2, 1.5),
        ("jeton_budget_remaining_usd", 9, 7, 7),
        ("jeton_meter_drift_ratio", 0.25, 0.75, 1),
        ("jeton_profile_correction_ratio", 1.2, 0.8, 1),
        ("jeton_replicas", 3, 2, 2.5),
    ):
        one.gauges[name], other.gauges[name] = here, there
        told(gathered, one, other)
        assert shown(gathered, 0, 1)[name] == together


def test_the_ledgers_families_are_those_of_the_one_that_keeps_the_books() -> None:
    """Not summed, and not kept beside those of the next one."""
    gathered, one, other = Gathered(), Process(), Process()
    one.keeps_the_books(lambda: 5 * 10**9)
    told(gathered, one, other)
    bill = "jeton_bill_usd_total" + PLACE[1] + PLACE[0]
    assert shown(gathered, 0, 1)[bill] == 5
    gathered.gone(0)
    assert shown(gathered, 1)[bill] == 5  # while nobody keeps them, the last word stands
    other.keeps_the_books(lambda: 6 * 10**9)
    gathered.told(1, tally(other))
    assert shown(gathered, 1)[bill] == 6


def test_every_money_counter_is_the_ledgers() -> None:
    for name in ("jeton_bill_usd", "jeton_cost_usd", "jeton_idle_usd", "jeton_tokens", "jeton_saved_usd_total"):
        assert name in LEDGERS
    assert "jeton_requests" not in LEDGERS
