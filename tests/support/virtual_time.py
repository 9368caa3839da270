"""An event loop whose clock stands still while there is anything to do, and then goes to the next timer.

What runs on it is the real thing: sockets, servers, clients, all in one process. It takes no time but that of its own timers, so
what is measured on this clock does not depend on how busy the machine is. Threads live in real time; `holds` keeps the clock
where it is while one of them is waited for.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# How long the clock stands still for a thread's or the kernel's sake, when nothing else is to be done, before it is looked again.
REAL_SECONDS = 0.001
# A turn of the loop takes so long, that whoever waits for a little more than nothing does not wait for ever.
TURN_SECONDS = 1e-9
# What is sent on the loopback is there at once; a kernel that is behind with it is given another chance.
LOOKS = 3


class VirtualLoop(asyncio.SelectorEventLoop):
    """is_virtual: off, the clock goes on as any other. holds: while it says so, the clock stands still."""

    def __init__(self) -> None:
        super().__init__(_Selector(self))  # type: ignore[arg-type]
        self.is_virtual = True
        self.holds: Callable[[], bool] = lambda: False
        self._now_seconds = self._began_seconds = real_monotonic()

    def time(self) -> float:
        return self._now_seconds if self.is_virtual else self._now_seconds + real_monotonic() - self._began_seconds

    def pass_over(self, seconds: float) -> None:
        self._now_seconds += seconds

    def go_real(self) -> None:
        self.is_virtual, self._began_seconds = False, real_monotonic()


class _Selector(selectors.DefaultSelector):
    """Waits no longer than it must."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        loop = self._loop
        if not loop.is_virtual:
            return super().select(timeout)
        loop.pass_over(TURN_SECONDS)
        for _ in range(1 if timeout is not None and timeout <= 0 else LOOKS):
            if events := super().select(0):
                return events
        if timeout is None or loop.holds():
            return super().select(REAL_SECONDS)
        if timeout > 0:
            loop.pass_over(timeout)
        return []


real_monotonic = time.monotonic


@contextmanager
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    """The loop; `time.monotonic` and `time.monotonic_ns` tell its time for as long."""
    loop = VirtualLoop()
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", loop.time)
        patched.setattr(time, "monotonic_ns", lambda: int(loop.time() * 1e9))
        asyncio.set_event_loop(loop)
        try:
            yield loop
        finally:
            loop.go_real()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            asyncio.set_event_loop(None)
