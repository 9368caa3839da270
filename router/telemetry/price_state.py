"""How far each backend's price can be believed just now, and how old it is: gauges, read at every scrape; and what feeds tell."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from router.telemetry.tally import Counter

STATES = ("current", "stale", "unknown")


def feed_polls_counter(registry: CollectorRegistry) -> Counter:
    """Of whichever process polls the feeds. Labels: the feed, and what came of it."""
    return Counter(
        registry,
        "jeton_price_feed_polls",
        "Times that a price feed was read. refused: what it told was not believed. unreachable: it told nothing.",
        "feed",
        "result",
    )


class PriceStateCollector(Collector):
    """rows: backend, state, age in seconds; None where there is no price."""

    def __init__(self, rows: Callable[[], Iterator[tuple[str, str, float | None]]]) -> None:
        self._rows = rows

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        states, ages = self._families()
        for backend, state, age_seconds in self._rows():
            for one in STATES:
                states.add_metric((backend, one), one == state)
            if age_seconds is not None:
                ages.add_metric((backend,), age_seconds)
        return states, ages

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "jeton_price_state",
                "1 for the state of the backend's price, 0 for the others. stale: nobody has seen it to hold for too long, by"
                " stale_days of the price book or stale_seconds of its feed. unknown: none is in force, and it is not chosen.",
                labels=("backend", "state"),
            ),
            GaugeMetricFamily(
                "jeton_price_age_seconds",
                "Since the backend's price was last known to hold: its row's first day, or the day on which it was confirmed, or"
                " what its feed last told.",
                labels=("backend",),
            ),
        )
