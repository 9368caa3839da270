"""How the books of several workers are kept, as metrics of the process that keeps them."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Keeper(Protocol):
    """What is read from the bookkeeper."""

    late_events: int

    @property
    def is_leading(self) -> bool: ...
    @property
    def lag_seconds(self) -> float: ...


class KeeperCollector(Collector):
    """The lag is shown by whoever leads."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        lag, late = families = self._families()
        if self._keeper.is_leading:
            lag.add_metric((), self._keeper.lag_seconds)
        late.add_metric((), self._keeper.late_events)
        return families

    def _families(self) -> tuple[GaugeMetricFamily, CounterMetricFamily]:
        return (
            GaugeMetricFamily(
                "jeton_ledger_lag_seconds",
                "How far the books are behind the clock, where several workers share a ledger: one that is not heard of holds"
                " them up until it is taken for dead.",
                labels=(),
            ),
            CounterMetricFamily(
                "jeton_late_events",
                "Events that workers told of a time that was booked already; they were booked as of when they were told.",
                labels=(),
            ),
        )
