"""Our tokens against the replicas' own: what we metered at each, and how far its counters rose meanwhile.

Both begin at the first scrape that has both counters, and are compared as of the last one, so that neither runs ahead. A
counter that falls was reset by a restart of the replica and counts again from 0; what it had counted since the scrape before
is not known. Requests that did not come through this process are in the replica's counters and not in ours: the ratio cannot
tell them from tokens that we failed to meter, and is for a person to judge.
"""

from collections.abc import Iterable

from router.domain.fleet import Replica, Scrape

Counters = tuple[int, int]
"""Prompt and completion tokens, as a replica says them."""


class _Comparison:
    """Of one replica. ours_then: as of the last scrape."""

    __slots__ = ("backend", "counters", "ours", "ours_then", "theirs", "url")

    def __init__(self, replica: Replica) -> None:
        self.backend = replica.backend
        self.url = replica.url
        self.counters: Counters | None = None
        self.ours = self.ours_then = self.theirs = 0

    def scraped(self, counters: Counters) -> None:
        if self.counters is None:
            self.ours = 0  # from here on
        else:
            for now, before in zip(counters, self.counters, strict=True):
                self.theirs += now - before if now >= before else now
        self.ours_then = self.ours
        self.counters = counters


class MeterDrift:
    """For one event loop; `ratios` from any thread."""

    def __init__(self) -> None:
        self._comparisons: dict[str, _Comparison] = {}

    def configure(self, replicas: Iterable[Replica]) -> None:
        """These are the replicas now; one at another address is another one."""
        before = self._comparisons
        self._comparisons = {
            replica.id: one
            if (one := before.get(replica.id)) is not None and one.url == replica.url
            else _Comparison(replica)
            for replica in replicas
        }

    def metered(self, replica_id: str, tokens: int) -> None:
        """So many tokens of an attempt there, prompt and completion together, went into our books."""
        comparison = self._comparisons.get(replica_id)
        if comparison is not None:
            comparison.ours += tokens

    def scraped(self, replica_id: str, scrape: Scrape) -> None:
        """What the replica said; without one of the counters it says nothing here."""
        comparison = self._comparisons.get(replica_id)
        prompt_tokens, completion_tokens = scrape.prompt_tokens_total, scrape.completion_tokens_total
        if comparison is not None and prompt_tokens is not None and completion_tokens is not None:
            comparison.scraped((prompt_tokens, completion_tokens))

    def ratios(self) -> dict[str, float]:
        """Ours ÷ theirs by backend, without those whose replicas have counted nothing."""
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        for one in list(self._comparisons.values()):
            ours[one.backend] = ours.get(one.backend, 0) + one.ours_then
            theirs[one.backend] = theirs.get(one.backend, 0) + one.theirs
        return {backend: ours[backend] / count for backend, count in theirs.items() if count}
