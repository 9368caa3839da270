"""What is learned of preemptions is told to the ledger, and heard from it, so that it outlives processes and all know the same.

Told at once when a replica was taken or is back, else every minute, and when the router ends; what a worker that is killed had
not told of the last minute is a minute of watching. While the ledger is away it is kept, and told when that is back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from router.ledger.address import Address
from router.ledger.preemptions import tell
from router.ledger.store import LedgerError
from router.selection.preemption import Preemptions

log = structlog.get_logger("jeton.preemptions")

TELL_SECONDS = 60.0


class PreemptionRecord:
    """now_ns: the books' clock; seconds: the one that health changes are told by. For one event loop."""

    def __init__(
        self,
        address: Address,
        preemptions: Preemptions,
        now_ns: Callable[[], int],
        seconds: Callable[[], float],
        tell_seconds: float = TELL_SECONDS,
    ) -> None:
        self._address = address
        self._preemptions = preemptions
        self._now_ns = now_ns
        self._seconds = seconds
        self._tell_seconds = tell_seconds
        self._news = asyncio.Event()
        self._is_away = False

    def heed(self) -> None:
        """Health has changed: tell it, if it is of what is learned."""
        if self._preemptions.has_news:
            self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What is remembered is known from the beginning of the block on."""
        await self.tell()
        telling = asyncio.create_task(self._tell_for_ever())
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            await self.tell()

    async def tell(self) -> None:
        """All that was seen; and hear what others have."""
        self._news.clear()
        backends = self._preemptions.backends
        if not backends:
            return
        now_ns, now_seconds = self._now_ns(), self._seconds()
        seen = self._preemptions.take(lambda seconds: now_ns + round((seconds - now_seconds) * 1e9))
        try:
            known = await asyncio.to_thread(tell, self._address, seen, backends, now_ns)
        except BaseException as error:
            self._preemptions.keep()
            if not isinstance(error, LedgerError):
                raise
            if not self._is_away:
                log.warning("preemptions could not be told, trying again", error=" ".join(str(error).split()))
            self._is_away = True
            return
        self._is_away = False
        self._preemptions.remember(known, lambda ns: now_seconds + (ns - now_ns) / 1e9, self._seconds())

    async def _tell_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tell_seconds):
                    await self._news.wait()
            try:
                await self.tell()
            except Exception:
                log.exception("preemptions could not be told")
                await asyncio.sleep(self._tell_seconds)
            if self._is_away:
                await asyncio.sleep(self._tell_seconds)
