"""What was learned of spot replicas that are taken away, as metrics."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Learned(Protocol):
    """Of one backend."""

    @property
    def count(self) -> int: ...
    @property
    def per_hour(self) -> float: ...
    @property
    def away_seconds(self) -> float: ...


class PreemptionCollector(Collector):
    """preemptions: (backend, what was learned of it), read at a scrape, from another thread."""

    def __init__(self, preemptions: Iterable[tuple[str, Learned]]) -> None:
        self._preemptions = preemptions

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        count, per_hour, away = families = _families()
        for backend, learned in self._preemptions:
            count.add_metric((backend,), learned.count)
            per_hour.add_metric((backend,), learned.per_hour)
            away.add_metric((backend,), learned.away_seconds)
        return families


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "jeton_preemptions_seen",
            "Spot replicas that were taken away in the last 30 days, as the ledger and this process have seen: told to leave, or"
            " down without a word. Of backends with a declared preemption.",
            labels=("backend",),
        ),
        GaugeMetricFamily(
            "jeton_preemptions_per_hour",
            "How often a spot replica is taken away, as learned from what was declared and seen.",
            labels=("backend",),
        ),
        GaugeMetricFamily(
            "jeton_preemption_away_seconds",
            "How long until a spot replica that was taken away serves again, as learned.",
            labels=("backend",),
        ),
    )
