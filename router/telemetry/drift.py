"""How far each replica is from its engine profile, as metrics."""

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class DriftCollector(Collector):
    """ratios: (backend, replica, kind, factor), read at a scrape, from another thread."""

    def __init__(self, ratios: Callable[[], Iterable[tuple[str, str, str, float]]]) -> None:
        self._ratios = ratios

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for *labels, ratio in self._ratios():
            family.add_metric(labels, ratio)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "jeton_profile_correction_ratio",
            "What forecasts of the replica are multiplied by, from what it was observed to take.",
            labels=("backend", "replica", "kind"),
        )
