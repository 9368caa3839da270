"""One process of a driver: sends its share of the sessions at their times and hands back what became of them.

Latency counts from the moment a request was due, so a client that falls behind shows in `sent − scheduled` and in the
latencies, and not in a load that quietly shrinks.
"""

import asyncio
import heapq
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isinf
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from load.drive.client import ask
from load.drive.outcome import CUT_OFF, Outcome
from load.drive.schedule import Session, due_seconds
from load.workload import Workload

# A body is made so long before it is due: making it takes up to milliseconds.
AHEAD_SECONDS = 0.25
REPORT_SECONDS = 0.25
CONNECT_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """url: up to and with /v1. api_keys: by tenant; "" for every tenant that is not named."""

    url: str
    api_keys: Mapping[str, str] = field(repr=False)

    def headers(self, tenant: str) -> dict[str, str]:
        api_key = self.api_keys.get(tenant, self.api_keys.get(""))
        return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


@dataclass(frozen=True, slots=True)
class Errand:
    """What one process has to do.

    until_seconds: when the last request is sent, however long sessions would go on. grace_seconds: how long answers are waited
    for after that. timeout_seconds: for one answer, to its last byte.
    """

    target: Target
    workload: Workload
    sessions: Sequence[Session]
    until_seconds: float
    grace_seconds: float
    timeout_seconds: float


def run(errand: Errand, pipe: Connection) -> None:
    """The process's main: says it is ready, is told when to begin (on `time.monotonic`'s clock, which all processes of a machine
    share), reports (sent, ended) now and then, and last the outcomes."""
    import uvloop

    pipe.send("ready")
    began_seconds: float = pipe.recv()
    driver = Driver(errand, began_seconds)
    uvloop.run(driver.run(pipe))
    pipe.send(driver.outcomes)
    pipe.close()


class Driver:
    def __init__(self, errand: Errand, began_seconds: float) -> None:
        self.outcomes: list[Outcome] = []
        self._errand = errand
        self._began_seconds = began_seconds
        self._ended = 0
        # (due, order of arrival in the heap, session, turn within it): sessions are never compared.
        self._due: list[tuple[float, int, Session, int]] = []
        self._pushed = 0
        self._news = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, pipe: Connection) -> None:
        """Send, and report meanwhile."""
        reports = asyncio.create_task(self._report(pipe))
        await self.send()
        reports.cancel()

    async def send(self) -> None:
        """All that is due, and wait for the answers."""
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        timeout = aiohttp.ClientTimeout(total=self._errand.timeout_seconds, sock_connect=CONNECT_SECONDS_MAX)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as http:
            for session in self._errand.sessions:
                self._push(session[0].arrival.seconds, session, 0)
            await self._send_all(http)
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=self._errand.grace_seconds)
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _now(self) -> float:
        return time.monotonic() - self._began_seconds

    def _push(self, due: float, session: Session, turn: int) -> None:
        heapq.heappush(self._due, (due, self._pushed, session, turn))
        self._pushed += 1
        self._news.set()

    async def _send_all(self, http: aiohttp.ClientSession) -> None:
        """Until the end, or until nothing is due any more and nothing is under way that a further turn could follow."""
        until_seconds = self._errand.until_seconds
        while self._due or self._under_way:
            self._news.clear()
            wait_seconds = (
                min(self._due[0][0] - AHEAD_SECONDS if self._due else until_seconds, until_seconds) - self._now()
            )
            if wait_seconds > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), None if isinf(wait_seconds) else wait_seconds)
                continue
            if self._now() >= until_seconds:
                return
            due, _, session, turn = heapq.heappop(self._due)
            task = asyncio.create_task(self._send(http, due, session, turn))
            self._under_way.add(task)
            task.add_done_callback(self._done)
            await asyncio.sleep(0)  # making its body takes time: let what is due before it go out

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._news.set()

    async def _send(self, http: aiohttp.ClientSession, due: float, session: Session, turn: int) -> None:
        errand, (number, arrival) = self._errand, (session[turn].number, session[turn].arrival)
        tenant, body = errand.workload.request(number, arrival)
        while (early_seconds := due - self._now()) > 0:  # noqa: ASYNC110 — a timer may go off a little before its time
            await asyncio.sleep(early_seconds)
        outcome = Outcome(number, due, self._now(), is_streamed="stream" in body, error=CUT_OFF)
        self.outcomes.append(outcome)
        try:
            outcome.error = ""
            url = f"{errand.target.url}/chat/completions"
            await ask(http, url, errand.target.headers(tenant), body, outcome, self._began_seconds)
        except asyncio.CancelledError:
            outcome.error, outcome.ended_seconds = CUT_OFF, self._now()
            raise
        finally:
            self._ended += 1
        if turn + 1 < len(session) and outcome.is_ok:  # a conversation that broke off has no next turn
            self._push(due_seconds(session[turn + 1], outcome.ended_seconds), session, turn + 1)

    async def _report(self, pipe: Connection) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            report: Any = (len(self.outcomes), self._ended)
            pipe.send(report)
