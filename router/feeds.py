"""Reads the feeds of the price book, each on its own beat, and keeps the last good value of every price that they move.

What is believed is `pricing/feed.py`'s to say. Only files and addresses that the price book names are read; redirects are not
followed, and an answer may have 1 MiB. A feed that cannot be read, or tells nonsense, changes nothing and is told in the log.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

import httpx
import structlog

from router.pricing.book import LeaseRow, PriceBook, PriceMissing
from router.pricing.feed import NS_PER_SECOND, Document, FedPrice, FeedRefused, FeedTerms, judge, read_document

log = structlog.get_logger("jeton.feeds")

DOCUMENT_BYTES_MAX = 2**20


class PollResult(StrEnum):
    """The label of `jeton_price_feed_polls_total`, the worst of a feed's prices. refused: told, and not believed."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


_WORST_FIRST = (PollResult.REFUSED, PollResult.CHANGED, PollResult.UNCHANGED)


@dataclass(slots=True)
class Hearing:
    """What is known of one moved price. fed: None until a value was believed. heard_ns: the time of the last one, else when we
    began to listen. trouble: why the last poll brought nothing, else ""."""

    feed: str
    heard_ns: int
    fed: FedPrice | None = None
    trouble: str = ""


@dataclass(slots=True)
class _Running:
    terms: FeedTerms
    task: "asyncio.Task[None]"


@dataclass
class Feeds:
    """now_ns: nanoseconds since 1970. on_change: called after a poll that has changed a price. count: each poll, by feed."""

    now_ns: Callable[[], int]
    on_change: Callable[[], None]
    count: Callable[[str, PollResult], None]
    hearings: dict[str, Hearing] = field(default_factory=dict)
    _book: PriceBook = field(default_factory=lambda: PriceBook(prices={}))
    _folder: Path = Path()
    _running: dict[str, _Running] = field(default_factory=dict)
    _client: httpx.AsyncClient | None = None

    def fed(self, name: str) -> FedPrice | None:
        """What was last believed of a price, if it is moved by a feed at all."""
        hearing = self.hearings.get(name)
        return None if hearing is None else hearing.fed

    def follow(self, book: PriceBook, folder: Path) -> None:
        """This is the price book from now on, and where it lies. What was heard stays, as far as the same feed still tells it."""
        self._book, self._folder = book, folder
        moved = {name: feed for feed, terms in book.feeds.items() for name in terms.prices}
        for name, feed in moved.items():
            if name not in self.hearings or self.hearings[name].feed != feed:
                self.hearings[name] = Hearing(feed, self.now_ns())
        for name in self.hearings.keys() - moved.keys():
            del self.hearings[name]
        if self._client is not None:
            self._start()

    def remember(self, fed: FedPrice) -> None:
        """What an earlier process had been told last, as far as a feed still moves that row and has told nothing yet."""
        hearing = self.hearings.get(fed.row_id.rpartition("@")[0])
        if hearing is not None and hearing.fed is None and self._book.row_of(fed.price_id) is not None:
            hearing.fed, hearing.heard_ns = fed, fed.since_ns

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Polls while the block runs, each feed at once and then on its beat."""
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as self._client:
            self._start()
            try:
                yield
            finally:
                running, self._running = list(self._running.values()), {}
                for one in running:
                    one.task.cancel()
                await asyncio.gather(*(one.task for one in running), return_exceptions=True)
        self._client = None

    def _start(self) -> None:
        for feed, one in list(self._running.items()):
            if self._book.feeds.get(feed) != one.terms:
                one.task.cancel()
                del self._running[feed]
        for feed, terms in self._book.feeds.items():
            if feed not in self._running:
                self._running[feed] = _Running(terms, asyncio.create_task(self._poll_for_ever(feed, terms)))

    async def _poll_for_ever(self, feed: str, terms: FeedTerms) -> None:
        while True:
            try:
                await self.poll(feed, terms)
            except Exception:
                log.exception("feed could not be polled", feed=feed)
            await asyncio.sleep(terms.poll_seconds)

    async def poll(self, feed: str, terms: FeedTerms) -> PollResult:
        """Read it once, and put into effect what is believed."""
        try:
            document = read_document(await self._read(terms))
        except (OSError, httpx.HTTPError, TimeoutError) as error:
            result, changed = PollResult.UNREACHABLE, False
            for name in terms.prices:
                self._trouble(name, f"cannot be read ({type(error).__name__}: {error})")
        except FeedRefused as refusal:
            result, changed = PollResult.REFUSED, False
            for name in terms.prices:
                self._trouble(name, str(refusal))
        else:
            outcomes = [self._take(document, name, terms) for name in terms.prices]
            changed = PollResult.CHANGED in outcomes
            result = next(one for one in _WORST_FIRST if one in outcomes)
        self.count(feed, result)
        if changed:
            self.on_change()
        return result

    async def _read(self, terms: FeedTerms) -> bytes:
        if terms.url is None:
            assert terms.file is not None
            return await asyncio.to_thread(_read_file, self._folder / terms.file)
        assert self._client is not None
        async with asyncio.timeout(terms.timeout_seconds):
            headers = {"accept": "application/json"}
            async with self._client.stream("GET", terms.url, headers=headers, timeout=terms.timeout_seconds) as answer:
                if answer.status_code != 200:
                    raise OSError(f"status {answer.status_code}")
                read = b""
                async for piece in answer.aiter_bytes():
                    read += piece
                    if len(read) > DOCUMENT_BYTES_MAX:
                        raise FeedRefused(f"malformed: larger than {DOCUMENT_BYTES_MAX} bytes")
                return read

    def _take(self, document: Document, name: str, terms: FeedTerms) -> PollResult:
        hearing = self.hearings.get(name)
        today = datetime.fromtimestamp(self.now_ns() / NS_PER_SECOND, UTC).date()
        row = self._row(name, today)
        if hearing is None or row is None:
            return PollResult.UNCHANGED  # the price book has changed meanwhile
        row_id = self._book.row_id(name, row)
        fed = hearing.fed if hearing.fed is not None and hearing.fed.row_id == row_id else None
        last = row.usd_per_hour if fed is None else fed.usd_per_hour
        heard_ns = None if hearing.fed is None else hearing.heard_ns
        try:
            usd = judge(document, name, row, terms, self.now_ns(), last, heard_ns)
        except FeedRefused as refusal:
            self._trouble(name, str(refusal))
            return PollResult.REFUSED
        if hearing.trouble:
            log.info("feed is believed again", feed=hearing.feed, price=name)
        hearing.heard_ns, hearing.trouble = document.at_ns, ""
        if fed is not None and usd == last:
            return PollResult.UNCHANGED
        hearing.fed = FedPrice(row_id, usd, document.at_ns)
        if usd == last:
            return PollResult.UNCHANGED
        log.info("price moved", price=name, feed=hearing.feed, before_usd_per_hour=str(last), usd_per_hour=str(usd))
        return PollResult.CHANGED

    def _row(self, name: str, today: date) -> LeaseRow | None:
        try:
            row = self._book.row_in_force(name, today)
        except PriceMissing:
            return None
        return row if isinstance(row, LeaseRow) else None

    def _trouble(self, name: str, why: str) -> None:
        """Told when it begins, and when it becomes another."""
        hearing = self.hearings.get(name)
        if hearing is not None and hearing.trouble != why:
            hearing.trouble = why
            log.warning("feed not believed, the last good price stays", feed=hearing.feed, price=name, why=why)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        read = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(read) > DOCUMENT_BYTES_MAX:
        raise FeedRefused(f"malformed: larger than {DOCUMENT_BYTES_MAX} bytes")
    return read
