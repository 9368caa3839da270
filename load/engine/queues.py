"""Who waits for a place in the batch, and who goes next: first come first served, or by priority, as vLLM's two policies."""

import heapq
from typing import Protocol

from load.engine.sequence import EngineSequence


class WaitingQueue(Protocol):
    """count: how many wait. `put_back` is for one that had a place and lost it."""

    count: int

    def push(self, sequence: EngineSequence) -> None: ...
    def put_back(self, sequence: EngineSequence) -> None: ...
    def head(self) -> EngineSequence: ...
    def remove(self, sequence: EngineSequence) -> None: ...
    def victim(self, running: dict[EngineSequence, None]) -> EngineSequence:
        """Who of the running gives up its place when the cache is full."""
        ...


class ArrivalQueue:
    """First come first served; one that was preempted goes to the head, and the youngest is preempted."""

    def __init__(self) -> None:
        self.count = 0
        self._returned: list[EngineSequence] = []  # the last is the head
        self._arrived: dict[EngineSequence, None] = {}

    def push(self, sequence: EngineSequence) -> None:
        self.count += 1
        self._arrived[sequence] = None

    def put_back(self, sequence: EngineSequence) -> None:
        self.count += 1
        self._returned.append(sequence)

    def head(self) -> EngineSequence:
        return self._returned[-1] if self._returned else next(iter(self._arrived))

    def remove(self, sequence: EngineSequence) -> None:
        self.count -= 1
        if sequence in self._arrived:
            del self._arrived[sequence]
        else:
            self._returned.remove(sequence)

    def victim(self, running: dict[EngineSequence, None]) -> EngineSequence:
        return next(reversed(running))


class PriorityQueue:
    """Smallest priority first, then first come first served, preempted or not; the last by that order is preempted."""

    def __init__(self) -> None:
        self.count = 0
        self._heap: list[tuple[int, float, int, EngineSequence]] = []
        self._waiting: set[EngineSequence] = set()

    def push(self, sequence: EngineSequence) -> None:
        self.count += 1
        self._waiting.add(sequence)
        heapq.heappush(self._heap, (*_rank(sequence), sequence))

    def put_back(self, sequence: EngineSequence) -> None:
        self.push(sequence)

    def head(self) -> EngineSequence:
        while self._heap[0][-1] not in self._waiting:
            heapq.heappop(self._heap)
        return self._heap[0][-1]

    def remove(self, sequence: EngineSequence) -> None:
        """Its entry in the heap goes when it comes to the top, or with the last of them. One that is put back later finds
        an entry of the same rank, which serves as well."""
        self.count -= 1
        self._waiting.remove(sequence)
        if not self._waiting:
            self._heap.clear()

    def victim(self, running: dict[EngineSequence, None]) -> EngineSequence:
        return max(running, key=_rank)


def _rank(sequence: EngineSequence) -> tuple[int, float, int]:
    return sequence.priority, sequence.arrived_seconds, sequence._ordinal
