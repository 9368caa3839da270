"""Several workers and an accountant in one process, the clocks in hand: real journals in a real ledger, flushed when told."""

import asyncio

from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, PRICES, PROFILES, SECOND, SMALL, answered, facts

from router.accounting.accountant import Accountant
from router.accounting.bookkeeper import Bookkeeper
from router.accounting.reporter import Reporter
from router.domain.attempt import AttemptEnd, Charge
from router.domain.fleet import Backend
from router.ledger.address import Address
from router.ledger.journals import Journals, WorkerJournal
from router.ledger.shared import SharedLedger

START = 1_795_000_000 * SECOND
SILENCE_SECONDS = 10.0
NEVER_SECONDS = 1e6
PATIENCE_SECONDS = 30.0


class Clock:
    """now_ns: what the workers' and the accountant's clocks say; seconds: what the accountant measures silence by."""

    def __init__(self) -> None:
        self.now_ns = START
        self.seconds = 0.0

    def wait(self, seconds: float) -> None:
        self.now_ns += max(round(seconds * SECOND), 1)
        self.seconds += seconds


class AtWork:
    """One worker over a journal that is written when `flush` is called, and not before. kind: with its own estimate of the fold,
    or one that only reports."""

    def __init__(self, address: Address, clock: Clock, name: str, kind: type[Accountant] = Accountant) -> None:
        self.clock = clock
        self.journal = WorkerJournal(
            address, lambda: clock.now_ns, name, commit_seconds=NEVER_SECONDS, beat_seconds=NEVER_SECONDS
        )
        self.accountant = Reporter(self.journal) if kind is Reporter else Accountant(self.journal)
        self.accountant.set_fleet(FLEET, PRICES, PROFILES, clock.now_ns)
        self.open: list[str] = []
        self.told: set[str] = set()  # attempts whose opening is in the ledger

    def begin(
        self,
        request_id: str,
        of: Backend = SMALL,
        replica: int = 0,
        *,
        is_streaming: bool = True,
        endpoint: str = "chat",
    ) -> str:
        one = facts(request_id, of, replica=replica % len(of.replicas), endpoint=endpoint)
        price = EDGE_PRICE if of is SMALL else CLOUD_PRICE
        self.accountant.open(one, of, price, 100, 50, self.clock.now_ns, is_streaming=is_streaming)
        self.open.append(one.attempt_id)
        return one.attempt_id

    def first_token(self, attempt_id: str) -> None:
        self.accountant.first_token(attempt_id, self.clock.now_ns)

    def end(self, attempt_id: str, end: AttemptEnd | None = None) -> Charge:
        self.open.remove(attempt_id)
        return self.accountant.close(attempt_id, end or answered(), self.clock.now_ns)

    async def flush(self) -> None:
        await self.journal.spent([], PATIENCE_SECONDS)


class Keeping:
    """The accountant's part, by whoever has it now."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self.address = address
        self.clock = clock
        self.charges: list[Charge] = []
        self.keeper = self._new()

    def _new(self) -> Bookkeeper:
        keeper = Bookkeeper(
            Journals(self.address),
            lambda: SharedLedger(self.address, commit_seconds=0.0005),
            lambda: self.clock.now_ns,
            silence_seconds=SILENCE_SECONDS,
            on_charge=self.charges.append,
            monotonic=lambda: self.clock.seconds,
        )
        keeper.set_fleet(FLEET, PRICES, PROFILES)
        return keeper

    async def book(self) -> None:
        """All that can be booked now is, and is on disk."""
        await self.lead()
        await self.keeper.go_on(is_asked=True)
        await self.keeper.posted(PATIENCE_SECONDS)

    async def lead(self) -> None:
        """PostgreSQL frees the lock of a session that ended when it notices."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self.keeper.lead():
                await asyncio.sleep(0.01)

    async def take_over(self) -> None:
        """Another process goes on."""
        await self.keeper.close()
        self.keeper = self._new()

    async def close(self) -> None:
        await self.book()
        await self.keeper.close()
