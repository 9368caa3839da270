"""What became of looking for replicas: of every process that follows the fleet. Read from the discovery at every scrape."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Discoveries(Protocol):
    """Counts by backend and result, and by backend and move."""

    @property
    def results(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def moves(self) -> Mapping[tuple[str, str], int]: ...
    def stale_seconds(self) -> Mapping[str, float]: ...


class DiscoveryCollector(Collector):
    def __init__(self, discoveries: Discoveries) -> None:
        self._discoveries = discoveries

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        results, moves, stale = families = _families()
        for labels, count in list(self._discoveries.results.items()):
            results.add_metric(labels, count)
        for labels, count in list(self._discoveries.moves.items()):
            moves.add_metric(labels, count)
        for backend, seconds in self._discoveries.stale_seconds().items():
            stale.add_metric((backend,), seconds)
        return families


def _families() -> tuple[CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily]:
    return (
        CounterMetricFamily(
            "jeton_discoveries",
            "Times that a backend's replicas were looked for. failed: nothing was told, and what was known stays.",
            labels=("backend", "result"),
        ),
        CounterMetricFamily(
            "jeton_discovered_replicas",
            "Replicas that came and went by what a backend's source told. gone: its grace is over, and with it its lease.",
            labels=("backend", "move"),
        ),
        GaugeMetricFamily(
            "jeton_discovery_stale_seconds",
            "Since when a backend's source has not been able to tell which replicas there are; 0 while it can.",
            labels=("backend",),
        ),
    )
