"""What keeping the books costs a request of a worker that serves: `python -m load.bench.books_served`.

Two routers as beside a `jeton accountant` (`ledger.accountant: apart`), whose work nobody does meanwhile, or with `--alone` as
`jeton serve` is by itself, worker and accountant in one. Each is a process of its own, one of them without books: nothing is
written down there, nobody reckons, and every attempt is charged alike. Both are sent the same streamed requests at
the same rate, one after the other, a second each, time and again. Told are microseconds of CPU a request, of all threads of a
process, system calls included: what each spends, and what the one with books spends more, as the median of all pairs of
seconds and its quartiles. The caches are as a server's are; on a machine that does other work too only many pairs tell something,
and two processes of the same code differ by some microseconds, so that it takes several runs to tell 40 from 35.

`load.bench.books` tells the parts, in a process that does nothing else.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple, cast

import click
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from load.bench.hot_path import EVENT, PRICES, QUESTION
from load.bench.idle_streams import CONFIG, HEAD, NOTHING
from router.access.keys import api_key_hash, new_api_key
from router.accounting import books
from router.accounting.accountant import NO_BASIS, Accountant
from router.accounting.charging import OpenAttempt, bare_charge
from router.accounting.reporter import Reporter
from router.commands.serve import serve
from router.config.stores import AccountantPlace
from router.config_file import PEPPER
from router.domain.attempt import AttemptEnd, AttemptFacts, Charge
from router.domain.fleet import Backend
from router.ledger.journals import WorkerJournal
from router.pricing.amounts import Basis
from router.pricing.price import Price

RATES = (500, 1000, 2000)
PAIRS = 20
SLICE_SECONDS = 1.0
ANSWER_SECONDS = 0.025
# For a commit after the last answer.
SETTLE_SECONDS = 0.05
# As long as it takes for the ledger's write-ahead log to be written over, as it mostly is; while it grows each commit writes
# its inode, too. That of what the first requests bring into being is within it.
WARM_SECONDS = 10
WITHOUT = "--without-books"

BODY = orjson.dumps(
    {"model": "mock", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64, "stream": True}
)
LAST = EVENT.replace(b'"finish_reason":null', b'"finish_reason":"stop"') + b"data: [DONE]\n\n"


class NoBooks:
    """Writes nothing down and reckons nothing: every attempt is charged as the first was. accountant: for all else."""

    def __init__(self, accountant: Accountant) -> None:
        self._accountant = accountant
        self._charge: Charge | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accountant, name)

    def advance(self, at_ns: int) -> None:
        """There is nothing to book."""

    def open(
        self,
        facts: AttemptFacts,
        backend: Backend,
        price: Price | None,
        prompt_tokens: int,
        completion_tokens: int,
        at_ns: int,
        *,
        is_streaming: bool = True,
        cached_tokens: int = 0,
    ) -> None:
        if self._charge is None:
            self._first = OpenAttempt(facts, backend.pool.billing, Basis(price), NO_BASIS, at_ns)

    def first_token(self, attempt_id: str, at_ns: int) -> None:
        if attempt_id == self._first.facts.attempt_id:
            self._first.first_token_ns = at_ns

    def close(self, attempt_id: str, end: AttemptEnd, at_ns: int) -> Charge:
        if self._charge is None:
            self._charge = bare_charge(self._first, end, 1000, at_ns)
        return self._charge


class NoJournal(WorkerJournal):
    """Has registered its worker, and says no more."""

    def _run(self) -> None:
        self._closing.wait()


class Spent(NamedTuple):
    """Microseconds of CPU a request."""

    with_us: float
    without_us: float

    @property
    def books_us(self) -> float:
        return self.with_us - self.without_us


@click.command()
@click.argument("rates", type=click.IntRange(1), nargs=-1)
@click.option(
    "--ledger", "url", help="A database of PostgreSQL that is there and empty; else each has a file of SQLite."
)
@click.option("--alone", "is_alone", is_flag=True, help="Worker and accountant in one.")
@click.option("--serve", "config", type=click.Path(path_type=Path), hidden=True)
@click.option(WITHOUT, "is_without", is_flag=True, hidden=True)
def main(rates: tuple[int, ...], url: str | None, is_alone: bool, config: Path | None, is_without: bool) -> None:
    """RATES: requests a second."""
    if config is not None:
        serve_from(config, is_without=is_without)
        return
    table = Table("requests/s", "with µs", "without µs", "books µs", "quartiles", title="a worker's CPU, a request")
    for column in table.columns:
        column.justify = "right"
    key, place = new_api_key(), AccountantPlace.ALONE if is_alone else AccountantPlace.APART
    with (
        socket.create_server(("127.0.0.1", 0), backlog=4096) as engine,
        router(engine, key, url, place) as with_books,
        router(engine, key, url, place, WITHOUT) as without,
    ):
        found = uvloop.run(measure(engine, with_books, without, key, rates or RATES, PAIRS, WARM_SECONDS))
    for rate, pairs in found.items():
        low, middle, high = quantiles([pair.books_us for pair in pairs], n=4)
        with_us, without_us = median(pair.with_us for pair in pairs), median(pair.without_us for pair in pairs)
        table.add_row(f"{rate:,}", f"{with_us:.1f}", f"{without_us:.1f}", f"{middle:.1f}", f"{low:.1f} to {high:.1f}")
    Console().print(table)


class Router(NamedTuple):
    """file: of its ledger, where that is one."""

    port: int
    process: "subprocess.Popen[bytes]"
    file: Path

    @property
    def cpu_seconds(self) -> float:
        """Of all its threads; the clock of another process, as `clock_getcpuclockid(3)` has it."""
        return time.clock_gettime(~self.process.pid << 3 | 2)


@contextmanager
def router(engine: socket.socket, key: str, url: str | None, place: AccountantPlace, *options: str) -> Iterator[Router]:
    """url: of its ledger; None: a file of its own. place: who keeps the books. options: WITHOUT, or nothing."""
    with tempfile.TemporaryDirectory() as directory:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = CONFIG.format(port=port, streams=2000, hash=api_key_hash(key, b""), engine=engine.getsockname()[1])
        # Not beside router.yaml, whose folder is watched: by default it is elsewhere, too.
        file = Path(directory) / "var" / "ledger.sqlite"
        ledger = f"path: {file}" if url is None else f'url: "{url}", spool: {{path: {directory}/spool}}'
        (Path(directory) / "router.yaml").write_text(f"ledger: {{{ledger}, accountant: {place}}}\n{config}")
        (Path(directory) / "prices.yaml").write_text(PRICES)
        command = [sys.executable, "-m", "load.bench.books_served", f"--serve={directory}/router.yaml", *options]
        environment = {name: value for name, value in os.environ.items() if name != PEPPER}
        with (Path(directory) / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield Router(port, process, file)
        except RuntimeError:
            print((Path(directory) / "log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            process.kill()
            process.wait()


def serve_from(config: Path, *, is_without: bool) -> None:
    """As `jeton serve`."""
    if is_without:
        vars(books).update(
            Accountant=lambda store: NoBooks(Accountant(store)),
            Reporter=lambda journal: NoBooks(Reporter(journal)),
            WorkerJournal=NoJournal,
        )
    serve(["--config", str(config)])


async def measure(
    engine: socket.socket,
    with_books: Router,
    without: Router,
    key: str,
    rates: tuple[int, ...],
    pairs: int,
    warm_seconds: int,
) -> dict[int, list[Spent]]:
    loop = asyncio.get_running_loop()
    await loop.create_server(Engine, sock=engine)
    clients = Client(with_books, key), Client(without, key)
    for client in clients:
        await client.until_it_listens()
        for _ in range(warm_seconds):
            await client.send(max(rates))
    found: dict[int, list[Spent]] = {}
    for rate in rates:
        found[rate] = []
        for number in range(pairs):
            us = {client: await client.send(rate) for client in clients[:: 1 if number % 2 else -1]}
            found[rate].append(Spent(*(us[client] for client in clients)))
    return found


class Engine(asyncio.Protocol):
    """Says one token at once, and after a while that it was the last."""

    def __init__(self) -> None:
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, length = head.lower().partition(b"content-length:")
        if length and len(body) < int(length.split(b"\r\n", 1)[0]):
            return
        self._read = b""
        if head.startswith(b"POST"):
            self._transport.write(HEAD + _chunk(EVENT))
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._end)
        else:
            self._transport.write(NOTHING)

    def _end(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_chunk(LAST) + b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Client:
    """Sends one router requests, as many connections as it takes."""

    def __init__(self, router: Router, key: str) -> None:
        self._router = router
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        self._request = f"{head}content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY
        self._idle: list[Connection] = []

    async def until_it_listens(self) -> None:
        while self._router.process.poll() is None:
            with contextlib.suppress(ConnectionError):
                self._idle.append(await self._connected())
                return
            await asyncio.sleep(0.1)
        raise RuntimeError("the router did not start")

    async def send(self, rate: int) -> float:
        """Requests at this rate for a while, until all are answered. Returns the router's CPU, microseconds a request."""
        count, sent = round(rate * SLICE_SECONDS), 0
        answers: list[asyncio.Future[bytes]] = []
        before, began = self._router.cpu_seconds, time.monotonic()
        while sent < count:
            due = min(int((time.monotonic() - began) * rate) + 1, count)
            while sent < due:
                connection = self._idle.pop() if self._idle else await self._connected()
                answers.append(connection.ask(self._request))
                sent += 1
            await asyncio.sleep(max(began + sent / rate - time.monotonic(), 0.002))
        for answer in await asyncio.gather(*answers):
            if not answer.startswith(b"HTTP/1.1 200") or b"[DONE]" not in answer:
                raise RuntimeError(f"the router answered {answer!r}")
        await asyncio.sleep(SETTLE_SECONDS)
        return (self._router.cpu_seconds - before) / count * 1e6

    async def _connected(self) -> "Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._idle), "127.0.0.1", self._router.port)
        return connection


class Connection(asyncio.Protocol):
    """For one request at a time; idle again when it is answered."""

    def __init__(self, idle: "list[Connection]") -> None:
        self._idle = idle
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:  # for too long, says the router
            self._idle.remove(self)

    def ask(self, request: bytes) -> "asyncio.Future[bytes]":
        self._read = b""
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._read.endswith(b"0\r\n\r\n") or not self._read.startswith(b"HTTP/1.1 200"):
            self._answer.set_result(self._read)
            self._idle.append(self)


if __name__ == "__main__":
    main()
