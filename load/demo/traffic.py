"""Sends timed requests at their times, whatever became of those before: open loop, over plain HTTP, as any client would.

Answers are read to their end and thrown away. What they cost is not measured here: that is the router's to tell.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

import aiohttp

from load.workload import TimedRequest

# A client with more than this under way would measure itself. What is due beyond it is left out, and counted.
IN_FLIGHT_MAX = 500
NOT_SENT = "not sent"
CUT_OFF = "cut off at the end"
CONNECT_SECONDS_MAX = 5.0


class Traffic:
    """outcomes: how requests ended: an HTTP status, the name of an error of the connection, or one of the words above."""

    def __init__(self, url: str, api_keys: Mapping[str, str]) -> None:
        """url: the router's. api_keys: by tenant."""
        self._url = f"{url}/v1/chat/completions"
        self._headers = {tenant: {"Authorization": f"Bearer {api_key}"} for tenant, api_key in api_keys.items()}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._is_ending = False
        self.outcomes: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """What is still under way is cut off."""
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._session.close()

    async def send(self, requests: Iterable[TimedRequest], *, speed: float) -> None:
        """speed: 2 sends the same requests in half of the time. Those under way outlive a cancellation of this."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for request in requests:
            await asyncio.sleep(max(0.0, start + request.at_seconds / speed - loop.time()))
            if len(self._in_flight) >= IN_FLIGHT_MAX:
                self.outcomes[NOT_SENT] += 1
                continue
            task = asyncio.create_task(self._ask(request))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    def expect_end(self) -> None:
        """The router is about to be ended: what fails from now on was cut off."""
        self._is_ending = True

    async def settled(self, seconds_max: float) -> None:
        """Wait for the answers under way, not longer than this."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds_max)

    async def _ask(self, request: TimedRequest) -> None:
        outcome = CUT_OFF
        try:
            headers = self._headers[request.tenant]
            async with self._session.post(self._url, json=request.body, headers=headers) as answer:
                async for _ in answer.content.iter_any():
                    pass
                if answer.status == 200 or not self._is_ending:
                    outcome = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            if not self._is_ending:
                outcome = type(error).__name__
        finally:
            self.outcomes[outcome] += 1
