"""What is known of replicas' prefix caches, and what workers tell one another of them, read at every scrape."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Index(Protocol):
    """What was sent where."""

    @property
    def own_tokens(self) -> int: ...
    @property
    def heard_tokens(self) -> int: ...
    @property
    def given_up(self) -> int: ...


class Exchange(Protocol):
    """What is told through Redis."""

    @property
    def told(self) -> int: ...
    @property
    def heard(self) -> int: ...
    @property
    def unreadable(self) -> int: ...
    @property
    def failures(self) -> int: ...


class PrefixCollector(Collector):
    """exchange: None where workers tell one another nothing."""

    def __init__(self, index: Index, exchange: Exchange | None) -> None:
        self._index = index
        self._exchange = exchange

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        index, exchange = self._index, self._exchange
        known = CounterMetricFamily(
            "jeton_prefix_known_tokens",
            "Prompt tokens, estimated, that the replica which computed them was known to hold, by whose requests: this"
            " worker's own, or others' of which it was told.",
            labels=("by",),
        )
        known.add_metric(("own",), index.own_tokens)
        known.add_metric(("others",), index.heard_tokens)
        news = CounterMetricFamily(
            "jeton_prefix_news",
            "What workers told one another of prompts that replicas computed. given_up: nobody could be told in time;"
            " unreadable: messages in Redis that are none.",
            labels=("fate",),
        )
        news.add_metric(("told",), exchange.told if exchange is not None else 0)
        news.add_metric(("given_up",), index.given_up)
        news.add_metric(("heard",), exchange.heard if exchange is not None else 0)
        news.add_metric(("unreadable",), exchange.unreadable if exchange is not None else 0)
        failures = CounterMetricFamily(
            "jeton_prefix_news_failures",
            "Times that Redis did not answer when such news were told or asked for.",
            labels=(),
        )
        failures.add_metric((), exchange.failures if exchange is not None else 0)
        return known, news, failures
