"""Replicas that scale to zero, as metrics: who is asleep, and how often they were woken."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

BY_REPLICA = ("backend", "replica")


class SleepCollector(Collector):
    """replicas: (backend, replica, is asleep, wakes), read at a scrape, from another thread."""

    def __init__(self, replicas: Callable[[], Iterable[tuple[str, str, bool, int]]]) -> None:
        self._replicas = replicas

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        asleep, wakes = families = _families()
        for backend, replica, is_asleep, count in self._replicas():
            asleep.add_metric((backend, replica), is_asleep)
            wakes.add_metric((backend, replica), count)
        return families


def _families() -> tuple[GaugeMetricFamily, CounterMetricFamily]:
    return (
        GaugeMetricFamily(
            "jeton_replica_asleep",
            "1 while a replica that scales to zero is taken to be stopped: nothing was asked of it for its idle time.",
            labels=BY_REPLICA,
        ),
        CounterMetricFamily(
            "jeton_replica_wakes",
            "Requests that were sent to a replica that was taken to be stopped.",
            labels=BY_REPLICA,
        ),
    )
