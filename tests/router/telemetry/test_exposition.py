"""What Prometheus reads is prometheus-client's own text, byte for byte, written in turns with the event loop's other work."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from load.bench.scrapes import LABEL_SETS, full_metrics
from router.telemetry.exposition import PIECE_LINES, Exposition

STRANGE = ("", "plain", 'quo"ted', "back\\slash", "line\nbreak", "ünï 💶", "\\n", "{}", "a,b=c")


class Odd(Collector):
    def collect(self) -> Iterable[Metric]:
        counter = CounterMetricFamily("c", 'help with \\ and\nline and "quotes"', labels=("z", "a"))
        gauge = GaugeMetricFamily("g", "", labels=())
        for number, value in enumerate(STRANGE):
            counter.add_metric((value, f"{number}"), number * 1.5)
        for value in (0, -1, 1e9, 123456789.123, 1e-9, 1e22, float("inf"), float("-inf"), float("nan"), True):
            gauge.add_metric((), value)
        histogram = HistogramMetricFamily("h", "a histogram", labels=("x",))
        histogram.add_metric(("one",), [("0.5", 1), ("1.0", 2), ("+Inf", 3)], 2.5)
        yield from (counter, gauge, histogram, GaugeMetricFamily("none", "without samples"))


def test_it_is_written_as_prometheus_client_writes_it() -> None:
    registry = CollectorRegistry()
    registry.register(Odd())
    exposition = Exposition(labels_max=4)
    for _ in range(3):  # the labels' text is kept, and thrown away where there is too much of it
        assert exposition.write(registry.collect()) == generate_latest(registry)
    metrics = full_metrics(1000)
    assert metrics.render()[0] == generate_latest(metrics.registry)


def test_no_piece_is_large() -> None:
    metrics = full_metrics()
    pieces = list(Exposition().pieces(metrics.registry.collect()))
    assert b"".join(pieces).count(b"\n") > LABEL_SETS * 0.95
    assert max(piece.count(b"\n") for piece in pieces) <= PIECE_LINES + 1


async def test_f40_the_loop_has_its_turn_all_through_a_scrape_at_the_cap() -> None:
    metrics = full_metrics()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await asyncio.sleep(0)
    text, content_type = await metrics.scrape()
    other.cancel()
    assert turns >= LABEL_SETS / PIECE_LINES
    assert (text, content_type) == metrics.render()


async def test_scrapes_at_once_do_not_mix() -> None:
    metrics = full_metrics(3000)
    (whole, _), *others = await asyncio.gather(*(metrics.scrape() for _ in range(3)))
    assert [text for text, _ in others] == [whole, whole]
