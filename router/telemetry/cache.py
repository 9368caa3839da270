"""What the response cache holds, read at every scrape."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Answers(Protocol):
    """The response cache's own figures; of the answers in this process alone."""

    @property
    def entries(self) -> int: ...
    @property
    def bytes_held(self) -> int: ...
    @property
    def evictions(self) -> int: ...
    @property
    def store_failures(self) -> int: ...


class CacheCollector(Collector):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        answers = self._answers
        entries = GaugeMetricFamily("jeton_cache_entries", "Answers kept in this process.", labels=())
        entries.add_metric((), answers.entries)
        held = GaugeMetricFamily("jeton_cache_bytes", "Bytes of answers kept and recorded in this process.", labels=())
        held.add_metric((), answers.bytes_held)
        evictions = CounterMetricFamily("jeton_cache_evictions", "Answers that made room for others.", labels=())
        evictions.add_metric((), answers.evictions)
        failures = CounterMetricFamily("jeton_cache_store_failures", "Times that Redis did not answer.", labels=())
        failures.add_metric((), answers.store_failures)
        return entries, held, evictions, failures
