"""Counters and histograms of one thread: a plain addition to count, and prometheus-client's families when they are scraped.

prometheus-client's own take a lock and a chain of calls for every increment, five times as long, because any thread may count.
Here the event loop alone counts; a scrape in another thread reads numbers that are each whole.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Count:
    """One series of a counter. Add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counter(Collector):
    """A counter's series by the values of its labels; `_total` is added to its name."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, *labels: str) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._series: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series of these values, made where there is none yet. Bounding the values is the caller's task."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Count()
        return series

    def describe(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, series in list(self._series.items()):
            family.add_metric(values, series.value)
        return [family]


class Distribution:
    """One series of a histogram: observations by bucket, each counted once, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Histogram(Collector):
    """A histogram's series by the values of its labels. buckets: upper bounds, ascending, without infinity."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, buckets: Sequence[float], *labels: str
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = tuple(buckets)
        self._series: dict[tuple[str, ...], Distribution] = {}
        registry.register(self)

    def labels(self, *values: str) -> Distribution:
        """As a counter's."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Distribution(self._bounds)
        return series

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, series in list(self._series.items()):
            below = 0
            buckets = []
            for name, count in zip(names, list(series.counts), strict=True):
                below += count
                buckets.append((name, below))
            family.add_metric(values, buckets, series.sum)
        return [family]
