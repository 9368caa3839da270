"""Reads the router's `/metrics` every second and shows the figures: in place on a terminal, one after the other elsewhere."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Self

import aiohttp
from rich.console import Console
from rich.live import Live

from load.demo.figures import Reading, figures
from load.demo.fleet import Place
from load.demo.view import render

REFRESH_SECONDS = 1.0
# Where nothing can be overwritten: often enough to see money move, seldom enough to be read.
PLAIN_REFRESH_SECONDS = 4.0
# What rates are taken over: long enough for a few requests at every backend, short enough to see a change.
SPAN_SECONDS = 30.0
SCRAPE_SECONDS_MAX = 5.0


class Screen:
    def __init__(self, console: Console, url: str, fleet: Sequence[Place], baseline: str, is_plain: bool) -> None:
        """url: the router's. baseline: the backend that savings are measured against. is_plain: never overwrite anything."""
        self._console = console
        self._url = f"{url}/metrics"
        self._fleet = fleet
        self._baseline = baseline
        self._live = None if is_plain or not console.is_terminal else Live(console=console, auto_refresh=False)
        self._readings: deque[Reading] = deque()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS_MAX))
        self._start_seconds = asyncio.get_running_loop().time()
        await self._read()
        if self._live is not None:
            self._live.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        await self._session.close()

    async def refresh(self) -> None:
        """Read and show until cancelled."""
        interval_seconds = PLAIN_REFRESH_SECONDS if self._live is None else REFRESH_SECONDS
        while True:
            await asyncio.sleep(interval_seconds)
            await self._read()
            self._show()

    async def last(self) -> None:
        """Read and show once more, and leave that standing."""
        await self._read()
        self._show()
        if self._live is not None:
            self._live.stop()

    async def _read(self) -> None:
        """A scrape that fails is left out: the next one shows what it would have shown."""
        now_seconds = asyncio.get_running_loop().time()
        try:
            async with self._session.get(self._url) as answer:
                answer.raise_for_status()
                text = await answer.text()
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            return
        self._readings.append(Reading.parse(text, now_seconds))
        while self._readings[0].at_seconds < now_seconds - SPAN_SECONDS:
            self._readings.popleft()

    def _show(self) -> None:
        if not self._readings:
            return
        elapsed_seconds = self._readings[-1].at_seconds - self._start_seconds
        view = render(figures(self._readings, self._fleet), baseline=self._baseline, elapsed_seconds=elapsed_seconds)
        if self._live is not None:
            self._live.update(view, refresh=True)
        else:
            self._console.print(view)
