"""A platform that stops a replica when nothing is asked of it, and starts it for the next request: Knative's activator, KServe,
Modal, RunPod.

    STOPPED ── any request ──▶ STARTING ── cold_start_seconds ──▶ RUNNING ── idle_seconds without one ──▶ STOPPED

Requests that come while it is stopped or being started are held, and handled in their order when it runs. Any request counts, a
health check too. What must not live here: what the replica answers.
"""

import asyncio
from collections.abc import Callable

from load.emulator.http import Exchange


class Activator:
    """For one event loop. handle: what becomes of a request when the replica runs. is_at_work: whether it still has something to
    answer. stopped: called when it was stopped.

    starts: how often it was started.
    """

    def __init__(
        self,
        cold_start_seconds: float,
        idle_seconds: float,
        *,
        handle: Callable[[Exchange], None],
        is_at_work: Callable[[], bool],
        stopped: Callable[[], None],
    ) -> None:
        self._cold_start_seconds = cold_start_seconds
        self._idle_seconds = idle_seconds
        self._handle = handle
        self._is_at_work = is_at_work
        self._stopped = stopped
        self._held: list[Exchange] = []
        self._timer: asyncio.TimerHandle | None = None
        self.is_running = False
        self.starts = 0

    def pass_on(self, exchange: Exchange) -> None:
        """To the replica, now or when it runs."""
        if self.is_running:
            self._later(self._idle_seconds, self._look)
            self._handle(exchange)
            return
        if not self._held:
            self.starts += 1
            self._later(self._cold_start_seconds, self._started)
        self._held.append(exchange)

    def work_ended(self) -> None:
        """A request is answered: the idle time begins anew."""
        if self.is_running:
            self._later(self._idle_seconds, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _started(self) -> None:
        self.is_running = True
        held, self._held = self._held, []
        self._later(self._idle_seconds, self._look)
        for exchange in held:
            if not exchange.is_over:  # its client waits still
                self._handle(exchange)

    def _look(self) -> None:
        if self._is_at_work():
            self._later(self._idle_seconds, self._look)
            return
        self.is_running = False
        self._stopped()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, call)
