"""The books of one process, as its configuration places the accountant: its own alone, or a part in those of several workers.

Alone, the accountant that follows attempts is the one that keeps the books. With several workers it runs on a journal that is
reported (`ledger/journals.py`), so that what it comes to is an estimate of the same fold, exact while this one serves alone; a
bookkeeper beside it leads where nobody else does. Where there are others for sure (`jeton serve --workers`), or the accountant
is a process of its own, no fold would be exact, and what follows attempts here only reports (`reporter.py`).
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import structlog

from router.accounting.accountant import Accountant
from router.accounting.bookkeeper import Bookkeeper
from router.accounting.reporter import Reporter
from router.config.stores import AccountantPlace, LedgerConfig
from router.deployment import Deployment
from router.domain.attempt import Charge
from router.domain.fleet import Load
from router.domain.sleep import Wake
from router.domain.totals import Totals
from router.ledger.address import configured_address
from router.ledger.journals import BEAT_SECONDS, Journals, WorkerJournal
from router.ledger.opening import open_ledger
from router.ledger.shared import SharedLedger
from router.ledger.workers import Awake
from router.ledger.writer import BatchedLedger
from router.selection.sleep import Sleepers

log = structlog.get_logger("jeton.books")

# How often time is booked to the leases and open attempts are posted, so that money counters move smoothly.
ADVANCE_SECONDS = 1.0


class Fleet(Protocol):
    """What is read and told of the work in flight. clock: seconds."""

    clock: Callable[[], float]

    @property
    def loads(self) -> Mapping[str, Load]: ...
    def hear(self, elsewhere: Mapping[str, int]) -> None: ...


class Books:
    """accountant: for the attempts of this process. store: what it writes to. keeper: None where there is but one process, or
    another keeps the books. in_group: there are other workers for sure. Raises LedgerError."""

    def __init__(
        self,
        config: LedgerConfig,
        password: str,
        now_ns: Callable[[], int],
        on_charge: Callable[[Charge], None],
        *,
        in_group: bool = False,
    ) -> None:
        self._now_ns = now_ns
        self.store: BatchedLedger | WorkerJournal
        self.journal: WorkerJournal | None = None
        self.keeper: Bookkeeper | None = None
        if config.accountant is AccountantPlace.ALONE:
            self.store = open_ledger(config, password)
            self.accountant = Accountant(self.store)
        else:
            address = configured_address(config, password)
            name = f"{socket.gethostname()[:40]}-{os.getpid()}"
            spool = config.spool.path, config.spool.bytes_max
            self.store = self.journal = WorkerJournal(
                address, now_ns, name, commit_seconds=config.commit_seconds, spool=spool
            )
            only_reports = in_group or config.accountant is AccountantPlace.APART
            self.accountant = Reporter(self.journal) if only_reports else Accountant(self.journal)
        if config.accountant is AccountantPlace.INSIDE:
            self.keeper = bookkeeper(config, password, now_ns, on_charge)

    @property
    def shows_money(self) -> bool:
        """Whether the ledger's totals are to be shown here: of all processes by the one that keeps the books."""
        return self.journal is None or (self.keeper is not None and self.keeper.is_leading)

    @property
    def is_estimating(self) -> bool:
        """Whether what is charged is for another to say, or for later."""
        return self.journal is not None

    @property
    def is_accepting(self) -> bool:
        return self.accountant.is_accepting

    @property
    def unrecorded_attempts(self) -> int:
        return self.accountant.unrecorded_attempts

    @property
    def spool(self) -> tuple[int, int] | None:
        """Bytes that wait in a local spool, and those there is room for; None without one."""
        return self.store.spool

    def totals(self) -> Totals:
        """The ledger's totals as of the last time they were posted."""
        return self.accountant.totals() if self.keeper is None else self.keeper.totals()

    def lease_prices(self) -> frozenset[str]:
        """The ids of the prices by which leases run, as the last process left them."""
        return self.accountant.lease_prices() if self.journal is None else self.journal.lease_prices

    def set_fleet(self, deployment: Deployment) -> None:
        fleet = deployment.backends, deployment.prices, deployment.profiles
        self.accountant.set_fleet(*fleet, self._now_ns())
        if self.keeper is not None:
            self.keeper.set_fleet(*fleet)

    def advance(self) -> None:
        """Book the time until now."""
        self.accountant.advance(self._now_ns())

    async def post(self) -> None:
        """Before a scrape: let the totals be those of now, as near as can be."""
        if self.keeper is not None:
            await self.keeper.posted()
        elif self.journal is None:
            self.advance()
            await self.accountant.posted()

    @asynccontextmanager
    async def running(self, fleet: Fleet, sleepers: Sleepers) -> AsyncIterator[None]:
        """Kept while the block runs; closed, with all that waits, when it ends."""
        tasks = []
        awake = self.accountant.awake() if self.journal is None else self.journal.awake_before
        _hear_awake(awake, fleet, sleepers, self._now_ns())
        if self.journal is not None:
            tasks.append(
                asyncio.create_task(_tell_for_ever(self.journal, fleet, sleepers, self.accountant, self._now_ns))
            )
        if self.keeper is not None:
            tasks.append(asyncio.create_task(self.keeper.keep()))
        try:
            yield
        finally:
            self.advance()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            try:
                await asyncio.to_thread(self.store.close)
            finally:
                if self.keeper is not None:
                    await self.keeper.close()


async def _tell_for_ever(
    journal: WorkerJournal, fleet: Fleet, sleepers: Sleepers, accountant: Accountant, now_ns: Callable[[], int]
) -> None:
    """What is in flight here and who is awake, for the others; and what they have, for our choices and our estimate."""
    while True:
        fleet.hear(journal.elsewhere)
        _hear_awake(journal.awake, fleet, sleepers, now_ns())
        in_flight = {replica: load.attempts for replica, load in fleet.loads.items()}
        journal.tell(in_flight, _awake_here(fleet, sleepers, now_ns()))
        accountant.estimate_among(journal.elsewhere, now_ns())
        await asyncio.sleep(BEAT_SECONDS)


def _hear_awake(awake: Awake, fleet: Fleet, sleepers: Sleepers, now_ns: int) -> None:
    now_seconds = fleet.clock()
    sleepers.hear(awake, now_seconds, lambda ns: now_seconds + (ns - now_ns) / 1e9)


def _awake_here(fleet: Fleet, sleepers: Sleepers, now_ns: int) -> dict[str, Wake]:
    now_seconds = fleet.clock()
    return sleepers.tell(now_seconds, lambda seconds: now_ns + round((seconds - now_seconds) * 1e9))


def bookkeeper(
    config: LedgerConfig, password: str, now_ns: Callable[[], int], on_charge: Callable[[Charge], None]
) -> Bookkeeper:
    """One that has not led yet."""
    address = configured_address(config, password)
    return Bookkeeper(
        Journals(address),
        lambda: SharedLedger(address, commit_seconds=config.commit_seconds),
        now_ns,
        silence_seconds=config.silence_seconds,
        on_charge=on_charge,
    )
