"""The metrics of a group of processes as one: what each of them counts is summed, and what is the ledger's is shown once.

A *tally* is a registry's families as plain values. A process that died takes its counts with it; so that no counter falls,
what it told last is kept. How gauges are put together goes by what they say (`GAUGES`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric

from router.domain.totals import NOTHING
from router.telemetry.exposition import Exposition
from router.telemetry.labels import Vocabulary
from router.telemetry.money import MoneyCollector
from router.telemetry.prices import RecentPrices

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]
Tally = Sequence[Any]
"""Families: [name, type, help text, [[sample's name, labels, value], …]]."""

# The ledger's families: shown by the one process that keeps the books, and taken as they are.
LEDGERS = frozenset(
    family.name
    for collector in (MoneyCollector(lambda: NOTHING, Vocabulary(1)), RecentPrices())
    for family in collector.describe()
)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# Each process sees its own part of the work in flight and of the tokens; a replica is up, and the ledger accepts, where all say
# so; of what is left of a budget the scarcest word counts, of what is used or stale the largest. Replicas
# by state are to sum up to all.
GAUGES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "jeton_in_flight": sum,
    "jeton_meter_drift_ratio": sum,
    "jeton_replica_up": min,
    "jeton_replica_asleep": min,
    "jeton_ledger_accepting": min,
    "jeton_budget_remaining_usd": min,
    "jeton_profile_correction_ratio": _mean,
    "jeton_replicas": _mean,
    "jeton_preemptions_per_hour": _mean,
    "jeton_preemption_away_seconds": _mean,
    "jeton_backend_availability_ratio": _mean,
    "jeton_backend_ttft_seconds": _mean,
    "jeton_backend_tpot_seconds": _mean,
    "jeton_backend_tokens_per_step": _mean,
}
SUMMED = frozenset({"counter", "histogram"})


def tally_row(family: Metric) -> list[Any]:
    """One family of a tally."""
    samples = [[one.name, one.labels, one.value] for one in family.samples]
    return [family.name, family.type, family.documentation, samples]


class Gathered:
    """The tallies of a group's processes, each under a number that no other had."""

    def __init__(self) -> None:
        self._last: dict[int, Tally] = {}
        self._retired: dict[str, Samples] = {}  # by family, what processes that are gone had counted
        self._about: dict[str, tuple[str, str]] = {}  # by family, its type and help text
        self._ledgers: list[Metric] = []
        self._exposition = Exposition()

    def told(self, process: int, tally: Tally) -> None:
        self._last[process] = tally
        for name, kind, text, _ in tally:
            self._about.setdefault(name, (kind, text))

    def gone(self, process: int) -> None:
        """It will tell no more; what it has counted stays counted."""
        for name, kind, _, samples in self._last.pop(process, ()):
            if kind in SUMMED and name not in LEDGERS:
                _add(self._retired.setdefault(name, {}), samples)

    def render(self, present: Iterable[int]) -> bytes:
        """The exposition text. present: who has told just now; of the others that live, counts alone are believed."""
        return self._exposition.write(self._families(frozenset(present)))

    def _families(self, present: frozenset[int]) -> Iterator[Metric]:
        counts = {name: dict(samples) for name, samples in self._retired.items()}
        gauges: dict[str, dict[tuple[str, Labels], list[float]]] = {}
        ledgers: list[Metric] = []
        for process, tally in self._last.items():
            for name, kind, text, samples in tally:
                if name in LEDGERS:
                    if process in present and samples:
                        ledgers.append(_metric(name, kind, text, _read(samples)))
                elif kind in SUMMED:
                    _add(counts.setdefault(name, {}), samples)
                elif process in present:
                    values = gauges.setdefault(name, {})
                    for key, value in _read(samples).items():
                        values.setdefault(key, []).append(value)
        # While nobody keeps the books the last word stands: all of it is of one moment.
        self._ledgers = ledgers or self._ledgers
        yield from self._ledgers
        for name, (kind, text) in self._about.items():
            if name in counts:
                yield _metric(name, kind, text, counts[name])
            elif name in gauges:
                merge: Callable[[Sequence[float]], float] = GAUGES.get(name, max)
                yield _metric(name, kind, text, {key: merge(values) for key, values in gauges[name].items()})


def _read(samples: Iterable[Sequence[Any]]) -> Samples:
    """In the order in which they came: a histogram's buckets ascend."""
    return {(name, tuple(labels.items())): value for name, labels, value in samples}


def _add(sums: Samples, samples: Iterable[Sequence[Any]]) -> None:
    for key, value in _read(samples).items():
        sums[key] = sums.get(key, 0) + value


def _metric(name: str, kind: str, text: str, samples: Mapping[tuple[str, Labels], float]) -> Metric:
    metric = Metric(name, text, kind)
    for (sample, labels), value in samples.items():
        metric.add_sample(sample, dict(labels), value)
    return metric
