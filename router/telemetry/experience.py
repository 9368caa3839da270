"""What was learned of metered backends, as metrics."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Learned(Protocol):
    """Of one backend."""

    @property
    def availability_ratio(self) -> float: ...
    @property
    def ttft_seconds(self) -> float: ...
    @property
    def tpot_seconds(self) -> float: ...


class ExperienceCollector(Collector):
    """experiences: (backend, what was learned of it), read at a scrape, from another thread."""

    def __init__(self, experiences: Iterable[tuple[str, Learned]]) -> None:
        self._experiences = experiences

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        availability, ttft, tpot = families = _families()
        for backend, learned in self._experiences:
            availability.add_metric((backend,), learned.availability_ratio)
            ttft.add_metric((backend,), learned.ttft_seconds)
            tpot.add_metric((backend,), learned.tpot_seconds)
        return families


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "jeton_backend_availability_ratio",
            "Of attempts at a metered backend, the share that is answered, as learned over the last minutes. Below"
            " health.availability_min it is asked only when nobody else can.",
            labels=("backend",),
        ),
        GaugeMetricFamily(
            "jeton_backend_ttft_seconds",
            "What a metered backend is forecast to take to the first token of a short prompt, as learned, without its pool's"
            " rtt_seconds; with what its failures take.",
            labels=("backend",),
        ),
        GaugeMetricFamily(
            "jeton_backend_tpot_seconds",
            "What a metered backend is forecast to take for each token after the first, as learned.",
            labels=("backend",),
        ),
    )
