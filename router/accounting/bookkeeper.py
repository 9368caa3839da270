"""Keeps the books of several workers: one process at a time, whoever holds the lock; when it dies another goes on.

Every worker may run one, or a process of its own does (`jeton accountant`). Who leads reads what the workers have told, puts it
into the order of time up to the oldest worker's watermark (`pricing/merge.py`), and hands it to the accountant. A worker that
was not heard of for too long is taken for dead: from then on it keeps nobody waiting, and its attempts are lost as of its last
word. What is told of a time that is booked already is booked now; what is told of an attempt that was closed as lost is a
correction.

How far each worker's reports are booked is stored with what follows from them, so whoever goes on does so exactly there.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from router.accounting.head_accountant import HeadAccountant
from router.domain.attempt import AttemptStatus, Charge
from router.domain.fleet import Backend
from router.domain.totals import NOTHING, Totals
from router.ledger.rows import Closing
from router.ledger.store import EventKind, LedgerError, LedgerStore, LockHeld, Opening
from router.ledger.workers import Report, Told, Worker, WorkerState, is_of
from router.pricing.merge import Source, horizon_ns, take_until
from router.pricing.price import Price
from router.pricing.profile import EngineProfile

log = structlog.get_logger(__name__)

ROUND_SECONDS = 0.1
# Who does not lead asks this often whether somebody does.
WATCH_SECONDS = 0.5
# How often time is booked to the leases and open attempts are posted, but for scrapes.
POST_SECONDS = 1.0
# Of each worker at a time; then others are heard.
REPORTS_AT_ONCE = 2_000
# Between two looks at the event loop: some milliseconds.
REPORTS_IN_A_ROW = 50
# More than a supervisor remembers (`group.py`), and few enough to be looked through for every worker.
DEAD_REMEMBERED = 128
# At the end somebody else may lead; so often is looked whether he books what we have told.
CLOSE_LOOKS_MAX = 20
# Where the ledger cannot write as fast as workers tell, telling waits: reports are safe where they are.
COMMIT_SECONDS_MAX = 60.0

Fleet = tuple[tuple[Backend, ...], Mapping[str, Price], Mapping[str, EngineProfile]]


class BookStore(LedgerStore, Protocol):
    """The accountant's store, where workers tell."""

    @property
    def is_lost(self) -> bool: ...
    def book(self, booked: Mapping[str, int], silent: Sequence[str] = ()) -> None: ...
    def abandon(self) -> None: ...


class Journals(Protocol):
    """What the workers have told; all calls block."""

    def read(self, taken: Mapping[str, int], known_prices: Mapping[str, str], limit: int) -> Told: ...
    def ended(self, attempt_id: str) -> tuple[Charge | None, bool]: ...
    def close(self) -> None: ...


class Bookkeeper:
    """open_store: the ledger, for who leads; LockHeld when another does. silence_seconds: after which a worker is taken for
    dead, on our monotonic clock. on_charge: told each charge that is booked.

    late_events, corrections: booked since this process leads.
    """

    def __init__(
        self,
        journals: Journals,
        open_store: Callable[[], BookStore],
        now_ns: Callable[[], int],
        *,
        silence_seconds: float,
        on_charge: Callable[[Charge], None] = lambda charge: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journals = journals
        self._open_store = open_store
        self._now_ns = now_ns
        self._silence_seconds = silence_seconds
        self._on_charge = on_charge
        self._monotonic = monotonic
        self._store: BookStore | None = None
        self._accountant: HeadAccountant | None = None
        self._fleet: Fleet | None = None
        self._fleets: deque[tuple[int, Fleet]] = deque()  # from when on, of those that are to come
        self._queues: dict[str, deque[Report]] = {}
        self._taken: dict[str, int] = {}  # by worker, the last report that was read
        self._heard: dict[str, tuple[int, float]] = {}  # by worker, its beats and since when there were no more
        self._booked: dict[str, int] = {}  # by worker, what the store was told last
        # The names by which processes began that have ended: the latest, for those before are buried.
        self._dead: deque[str] = deque(maxlen=DEAD_REMEMBERED)
        self._folded_ns = 0
        self._posted_at = 0.0
        self._round = asyncio.Lock()
        self.late_events = 0
        self.corrections = 0

    @property
    def is_leading(self) -> bool:
        return self._accountant is not None

    @property
    def open_attempts(self) -> int:
        return 0 if self._accountant is None else self._accountant.open_attempts

    @property
    def lag_seconds(self) -> float:
        """How far the books are behind our clock."""
        return max(self._now_ns() - self._folded_ns, 0) / 1e9

    def totals(self) -> Totals:
        """The ledger's, where this process leads."""
        return NOTHING if self._accountant is None else self._accountant.totals()

    def set_fleet(
        self, backends: Iterable[Backend], prices: Mapping[str, Price], profiles: Mapping[str, EngineProfile]
    ) -> None:
        """This is the fleet from now on; the books, which are behind, hear of it when they get there."""
        self._fleet = tuple(backends), prices, profiles
        if self._accountant is not None:
            self._fleets.append((self._now_ns(), self._fleet))

    async def keep(self) -> None:
        """For ever: lead if nobody does."""
        is_away = False
        while True:
            try:
                if await self.lead():
                    await self.go_on(is_asked=False)
                is_away = False
            except LedgerError as error:
                if not is_away:
                    log.error(
                        "the ledger is away; its books are kept when it is back", error=" ".join(str(error).split())
                    )
                is_away = True
                await asyncio.sleep(WATCH_SECONDS)
            except Exception:
                log.exception("books could not be kept; trying again")
                await asyncio.sleep(WATCH_SECONDS)
            if self._store is not None and self._store.is_lost:
                log.error("the ledger was away; whoever comes first keeps the books from here on")
                await asyncio.to_thread(self._resign)
            await asyncio.sleep(ROUND_SECONDS if self.is_leading else WATCH_SECONDS)

    async def posted(self, timeout_seconds: float = 1.0) -> Totals:
        """The totals once all that was told by now is on disk, for a scrape; the latest there are when that takes too long, or
        the ledger is away."""
        accountant = self._accountant
        if accountant is None:
            return NOTHING
        with suppress(TimeoutError, LedgerError):
            async with asyncio.timeout(timeout_seconds):
                await self.go_on(is_asked=True)
        return await accountant.posted(timeout_seconds)

    async def close(self) -> None:
        """Book what was told, and let another lead. Who ends last books what those have told that ended before."""
        try:
            for _ in range(CLOSE_LOOKS_MAX):
                if await self.lead():
                    await self.go_on(is_asked=True)
                    break
                told = await asyncio.to_thread(self._journals.read, {}, {}, 1)
                if all(one.state == WorkerState.LIVE or one.booked_seq >= one.reported_seq for one in told.workers):
                    break
                await asyncio.sleep(ROUND_SECONDS)
        except Exception:
            log.exception("the last reports were not booked; who leads next does it")
        await asyncio.to_thread(self._resign)

    def _resign(self) -> None:
        store, self._store, self._accountant = self._store, None, None
        try:
            if store is not None and store.is_lost:
                store.abandon()
            elif store is not None:
                store.close()
        finally:
            self._journals.close()

    async def lead(self) -> bool:
        """Whether this process leads; take over if nobody does."""
        if self._accountant is not None:
            return True
        if self._fleet is None:
            return False
        try:
            self._store = await asyncio.to_thread(self._open_store)
        except LockHeld:
            return False
        try:
            accountant = HeadAccountant(self._store)
            accountant.know(*self._fleet)
        except BaseException:
            await asyncio.to_thread(self._resign)
            raise
        self._fleets.clear()
        self._fleets.append((self._now_ns(), self._fleet))
        self._queues.clear()
        self._taken.clear()
        self._heard.clear()
        self._booked.clear()
        self._folded_ns = accountant.advanced_ns
        accountant.tell_if_ahead(self._now_ns())
        self._accountant = accountant
        log.info("keeps the books now", open_attempts=accountant.open_attempts)
        return True

    async def go_on(self, *, is_asked: bool) -> None:
        """Book all that can be booked now. is_asked: somebody wants to see it, so post it."""
        async with self._round:
            has_more = True
            while has_more and self._accountant is not None:
                has_more = await self._book_once(self._accountant)
            if self._accountant is not None and (is_asked or self._monotonic() - self._posted_at >= POST_SECONDS):
                self._posted_at = self._monotonic()
                self._accountant.advance(self._folded_ns)

    async def _book_once(self, accountant: HeadAccountant) -> bool:
        """One look at the journals, and all that follows from it. Whether there is more to read."""
        told = await asyncio.to_thread(self._journals.read, self._taken, accountant.prices_known, REPORTS_AT_ONCE)
        accountant.learn_prices(told.prices)
        for worker, reports in told.reports.items():
            if reports:
                self._queues.setdefault(worker, deque()).extend(reports)
                self._taken[worker] = reports[-1].seq
        silent = self._silent(told.workers)
        live: list[Worker] = []
        gone: list[Worker] = []
        for one in told.workers:
            (live if one.state == WorkerState.LIVE and one.worker not in silent else gone).append(one)
        waited_for = [self._source(one, told) for one in told.workers if one in live or one.worker in told.has_more]
        until_ns = horizon_ns(waited_for, self._folded_ns) or max(self._now_ns(), self._folded_ns)
        await self._bury(accountant, gone, told, until_ns)
        await self._fold(accountant, until_ns)
        self._tell_booked(silent)
        return bool(told.has_more)

    def _source(self, one: Worker, told: Told) -> Source:
        reports = self._queues.get(one.worker)
        return Source(one.watermark_ns, reports[-1].at_ns if reports and one.worker in told.has_more else None)

    async def _bury(self, accountant: HeadAccountant, gone: Sequence[Worker], told: Told, until_ns: int) -> None:
        """Close what workers that are gone have left open, each as of its last word."""
        last_words = {one.worker: one.watermark_ns for one in gone}
        known = {one.worker for one in told.workers}
        bereft = [worker for worker in accountant.open_by_worker() if worker in last_words or worker not in known]
        for worker in sorted(bereft, key=lambda name: last_words.get(name, 0)):
            last_word_ns = max(last_words.get(worker, 0), self._folded_ns)
            if worker in told.has_more or last_word_ns > until_ns:
                continue
            await self._fold(accountant, last_word_ns)
            lost = accountant.open_by_worker().get(worker, [])
            for attempt_id in lost:
                accountant.lose(attempt_id, self._folded_ns)
            if lost:
                log.warning("closed the attempts of a worker that is gone", worker=worker, attempts=len(lost))

    def _tell_booked(self, silent: Sequence[str]) -> None:
        """Reports from which nothing followed are booked, too."""
        assert self._store is not None
        booked = {
            worker: seq
            for worker, seq in self._taken.items()
            if not self._queues.get(worker) and self._booked.get(worker) != seq
        }
        self._booked |= booked
        if booked or silent:
            self._store.book(booked, silent)

    def hear_of_death(self, worker: str) -> None:
        """This process has ended, and will say nothing more."""
        self._dead.append(worker)

    def _silent(self, workers: Sequence[Worker]) -> list[str]:
        """Those that live by their own word, and are dead, or were not heard of for too long."""
        now_seconds, silent, heard = self._monotonic(), [], self._heard
        self._heard = {}
        for one in workers:
            if one.state != WorkerState.LIVE:
                continue
            beats, since_seconds = heard.get(one.worker, (-1, now_seconds))
            if beats != one.beats:
                since_seconds = now_seconds
            self._heard[one.worker] = one.beats, since_seconds
            is_dead = any(is_of(one.worker, name) for name in self._dead)
            if is_dead or now_seconds - since_seconds > self._silence_seconds:
                silent.append(one.worker)
                what = "a worker is dead" if is_dead else "a worker is silent and taken for dead"
                log.warning(what, worker=one.worker)
        return silent

    async def _fold(self, accountant: HeadAccountant, until_ns: int) -> None:
        """Everything up to then, the fleet's changes in their place."""
        while self._fleets and self._fleets[0][0] <= until_ns:
            at_ns, fleet = self._fleets[0]
            await self._fold_reports(accountant, at_ns)
            accountant.set_fleet(*fleet, max(at_ns, self._folded_ns))
            self._fleets.popleft()
        await self._fold_reports(accountant, until_ns)
        self._folded_ns = max(until_ns, self._folded_ns)

    async def _fold_reports(self, accountant: HeadAccountant, until_ns: int) -> None:
        for count, (worker, report) in enumerate(take_until(self._queues, until_ns), 1):
            try:
                await self._book(accountant, worker, report)
            except BaseException:
                self._queues[worker].appendleft(report)
                raise
            if count % REPORTS_IN_A_ROW == 0:
                await asyncio.sleep(0)
                if self._store is not None and self._store.is_full:
                    await self._store.committed(self._store.position, COMMIT_SECONDS_MAX)

    async def _book(self, accountant: HeadAccountant, worker: str, report: Report) -> None:
        at_ns, attempt_id, said = report.at_ns, report.subject, report.said
        is_late = at_ns < self._folded_ns
        if is_late:
            at_ns = self._folded_ns
        if isinstance(said, Opening):
            if is_late and (await self._ended(attempt_id))[0] is not None:
                return  # told twice
            accountant.open_told(said, at_ns, worker, report.seq)
        elif report.kind is EventKind.FIRST_TOKEN:
            accountant.first_token(attempt_id, at_ns, report.seq)
        elif isinstance(said, Closing):
            if accountant.is_open(attempt_id):
                self._on_charge(accountant.close_told(attempt_id, said, at_ns, report.seq))
            else:
                await self._correct(accountant, worker, report, said)
        self.late_events += is_late

    async def _correct(self, accountant: HeadAccountant, worker: str, report: Report, said: Closing) -> None:
        charge, is_corrected = await self._ended(report.subject)
        if charge is None:
            log.error("an attempt ended that was never opened", attempt_id=report.subject, worker=worker)
        elif charge.status is AttemptStatus.LOST and not is_corrected:
            accountant.correct(charge, said, self._folded_ns, worker, report.seq)
            self.corrections += 1

    async def _ended(self, attempt_id: str) -> tuple[Charge | None, bool]:
        """What the ledger has of an attempt that is not open; of all that was booked until now."""
        store = self._store
        assert store is not None
        await store.committed(store.position, COMMIT_SECONDS_MAX)
        return await asyncio.to_thread(self._journals.ended, attempt_id)
