"""In which states replicas are, and how often they came into each: breakers that opened, instances that were to be taken away."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.domain.fleet import HealthState, Snapshot

BY_STATE = ("backend", "state")


class Snapshots(Protocol):
    """The fleet's present one."""

    @property
    def snapshot(self) -> Snapshot: ...


class HealthCollector(Collector):
    """Every state of every backend is told, at 0 if need be: what Prometheus sees first with a 1 has not risen in its eyes."""

    def __init__(self, fleet: Snapshots) -> None:
        self._fleet = fleet
        self._changes: Counter[tuple[str, HealthState]] = Counter()

    def became(self, backend: str, state: HealthState) -> None:
        """One of its replicas is in another state than before, this one."""
        self._changes[backend, state] += 1

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        snapshot, changes = self._fleet.snapshot, dict(self._changes)
        present = Counter(
            (name, health.state)
            for name, backend in snapshot.backends.items()
            for replica in backend.replicas
            if (health := snapshot.health.get(replica.id)) is not None
        )
        there = [(name, state) for name in snapshot.backends for state in HealthState]
        replicas, changed = families = _families()
        for name, state in there:
            replicas.add_metric((name, state.value), present[name, state])
        for name, state in dict.fromkeys([*there, *changes]):
            changed.add_metric((name, state.value), changes.get((name, state), 0))
        return families


def _families() -> tuple[GaugeMetricFamily, CounterMetricFamily]:
    return (
        GaugeMetricFamily(
            "jeton_replicas",
            "Replicas by state. limited: it asked to be left alone for a while. ejected: its answers failed, the breaker is"
            " open. leaving: it will be taken away, as a spot instance is. down: its health check fails. locked_out: it"
            " refuses our API key.",
            labels=BY_STATE,
        ),
        CounterMetricFamily(
            "jeton_replica_changes", "Times that a replica came into a state it was not in before.", labels=BY_STATE
        ),
    )
