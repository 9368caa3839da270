"""Several workers' journals made one, in the order of time, as far as time is known: what the accountant folds.

A worker's *watermark* is the time up to which it has told all that it saw. What lies before the oldest watermark of those
that live can be put in order, once and for good; what comes later for a time that is folded already is *late*. Pure: queues
and numbers.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple, Protocol, TypeVar


class Timed(Protocol):
    @property
    def at_ns(self) -> int: ...


Told = TypeVar("Told", bound=Timed)


class Source(NamedTuple):
    """How far a worker has told, and how much of it was read. watermark_ns: of the worker. read_ns: the time of the last
    entry read where there are more that were not; None where all were."""

    watermark_ns: int
    read_ns: int | None = None

    @property
    def known_ns(self) -> int:
        """Before this nothing more will come, whatever waits to be read. Of the time itself something may."""
        return self.watermark_ns if self.read_ns is None else min(self.read_ns - 1, self.watermark_ns)


def horizon_ns(sources: Iterable[Source], folded_ns: int) -> int | None:
    """Up to when all is known of these; never before what is folded already. None where there are none."""
    known_ns = min((source.known_ns for source in sources), default=None)
    return None if known_ns is None else max(known_ns, folded_ns)


def take_until(queues: Mapping[str, deque[Told]], until_ns: int) -> Iterator[tuple[str, Told]]:
    """Take what happened until then out of the queues, each in its own order, all together in that of time; of equals the
    first worker's by name. An entry that is earlier than the one before it in its queue comes directly after that."""
    heads = [(queue[0].at_ns, worker) for worker, queue in queues.items() if queue and queue[0].at_ns <= until_ns]
    heapify(heads)
    while heads:
        _, worker = heads[0]
        queue = queues[worker]
        entry = queue.popleft()
        if queue and queue[0].at_ns <= until_ns:
            heapreplace(heads, (max(queue[0].at_ns, entry.at_ns), worker))
        else:
            heappop(heads)
        yield worker, entry
