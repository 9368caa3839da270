"""What a step of the backends that draft was learned to yield, as a metric."""

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class YieldCollector(Collector):
    """figures: (backend, kind of answer, tokens per step), read at a scrape, from another thread. Kinds are a closed set."""

    def __init__(self, figures: Callable[[], Iterable[tuple[str, str, float]]]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return (_family(),)

    def collect(self) -> Iterable[Metric]:
        family = _family()
        for *labels, tokens in self._figures():
            family.add_metric(labels, tokens)
        return (family,)


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "jeton_backend_tokens_per_step",
        "Tokens that a step of a backend with speculative decoding yields to an answer of this kind (a task category, or"
        " structured), as learned from how fast such answers came, if its steps take what its profile says. Only kinds that were"
        " seen.",
        labels=("backend", "answer_kind"),
    )
