"""What waits in the ledger's spool, where it has one."""

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class SpoolCollector(Collector):
    """spool: (bytes that wait, bytes there is room for), or None without one."""

    def __init__(self, spool: Callable[[], tuple[int, int] | None]) -> None:
        self._spool = spool

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        spool, families = self._spool(), _families()
        if spool is not None:
            for family, value in zip(families, spool, strict=True):
                family.add_metric((), value)
        return families


def _families() -> tuple[GaugeMetricFamily, ...]:
    return (
        GaugeMetricFamily(
            "jeton_ledger_spool_bytes",
            "What waits in the local spool until PostgreSQL is back; 0 while it is there. Without a value: the ledger is a file.",
        ),
        GaugeMetricFamily(
            "jeton_ledger_spool_bytes_max", "What the spool has room for; then metered traffic is refused."
        ),
    )
