"""One coarse timer for every deadline on the relay path.

A timer per read would cost more than the read; here arming a deadline is one attribute, and a sweep every quarter of a second
finds those that passed. A time-out is therefore late by up to `PERIOD_SECONDS`. Deadlines are on `time.monotonic`'s clock: to
ask for the running loop, and its time, is a system call on Python 3.11.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

PERIOD_SECONDS = 0.25
NEVER = float("inf")


class Watched(Protocol):
    """deadline_seconds: monotonic; NEVER while nothing is awaited."""

    deadline_seconds: float

    def expire(self) -> None: ...


class Deadline:
    """Cancels a task at a time, monotonic seconds, and remembers that it did. For use with `Watchdog.watch`."""

    __slots__ = ("_task", "deadline_seconds", "has_passed")

    def __init__(self, task: "asyncio.Task[Any] | None", deadline_seconds: float) -> None:
        self._task = task
        self.deadline_seconds = deadline_seconds
        self.has_passed = False

    def expire(self) -> None:
        if self._task is not None:
            self.has_passed = True
            self._task.cancel()


class Watchdog:
    """Runs only while something is watched."""

    def __init__(self, period_seconds: float = PERIOD_SECONDS) -> None:
        self._period_seconds = period_seconds
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, item: Watched) -> None:
        self._watched.add(item)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period_seconds, self._sweep)

    def unwatch(self, item: Watched) -> None:
        self._watched.discard(item)

    @contextmanager
    def timing(self, item: Watched, seconds: float) -> Iterator[None]:
        """The item expires if the block takes longer."""
        item.deadline_seconds = time.monotonic() + seconds
        self.watch(item)
        try:
            yield
        finally:
            self.unwatch(item)
            item.deadline_seconds = NEVER

    def _sweep(self) -> None:
        now = time.monotonic()
        for item in [item for item in self._watched if item.deadline_seconds <= now]:
            item.deadline_seconds = NEVER
            item.expire()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._period_seconds, self._sweep) if self._watched else None
