"""Answers in this process: at most so many bytes, the longest unused make room, none older than it may be."""

from collections import OrderedDict
from collections.abc import Callable

from router.cache.answer import StoredAnswer


class MemoryAnswers:
    """clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bytes_max = 0
        self._kept: OrderedDict[bytes, tuple[StoredAnswer, float]] = OrderedDict()
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._kept)

    def limit(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._make_room()

    def get(self, key: bytes) -> StoredAnswer | None:
        found = self._kept.get(key)
        if found is None:
            return None
        answer, expires_seconds = found
        if self._clock() >= expires_seconds:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: StoredAnswer, ttl_seconds: float) -> None:
        self._drop(key)
        self._kept[key] = answer, self._clock() + ttl_seconds
        self.bytes += answer.bytes
        self._make_room()

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.bytes -= found[0].bytes

    def _make_room(self) -> None:
        while self.bytes > self._bytes_max:
            _, (answer, _) = self._kept.popitem(last=False)
            self.bytes -= answer.bytes
            self.evictions += 1
