"""What a ledger store promises, and the rows it is given.

Four tables and their law. The *journal* has every metering event, once by (subject, kind), and *prices* every price that an
event refers to, as it was. *Charges* has one row for every attempt that ended. *Leases* has one row for every lease of a
replica, with its meter's saved state. Totals are the sum of the charges, moved in the transaction that writes them, so that a
total is the sum of its parts at every commit.

Journal, prices and the position of the last checkpoint are the record, all else can be derived from them
(`router/accounting/derivation.py`): so a closed event carries how the attempt ended, which the store takes from the charge that
is written with it.

A saved meter state is as of a position in the journal; the events after it are its tail. State and tail together are the
meter as it was at the last commit: that is how a restart goes on without losing or counting anything twice.

`sqlite.py` is the embedded store, `postgres.py` the one at scale; both pass the same tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from router.domain.attempt import AttemptFacts, Charge
from router.domain.budget import Span
from router.domain.immutable import immutable
from router.domain.totals import Account, Totals


class LedgerError(Exception):
    """The ledger cannot be opened or read; the message says why and what to do."""


class LockHeld(LedgerError):
    """Another accountant has the ledger."""


class EventKind(StrEnum):
    OPENED = "opened"
    FIRST_TOKEN = "first_token"
    CLOSED = "closed"
    CORRECTED = "corrected"
    LEASED = "leased"
    REPRICED = "repriced"
    RELEASED = "released"


class Event(NamedTuple):
    """One line of the journal.

    subject: the attempt id; for a lease's events the lease id (a reprice's carries its time too: it may happen often).
    lease_id: of the meter that books it, "" on a metered backend.
    amount: the weight of an opened or first_token, the nanoseconds that a closed is given back, the nano-dollars an hour of a
    leased or repriced, else 0.
    detail: of an opened, what is known of the attempt; of a leased or repriced, its terms; of a first_token that a worker has
    told, what the attempt had run up by then, nano-dollars. A closed or corrected event's is written down too, but handed
    over as the charge.
    growth, shared, settled: of a first_token's weight (`pricing/meter.py`); written down as its detail.
    worker, number: who has told it, and as which of its reports (`journals.py`); "" where the process that keeps the books
    saw it happen itself.
    """

    subject: str
    kind: EventKind
    at_ns: int
    lease_id: str = ""
    amount: int = 0
    detail: "Opening | Terms | int | None" = None
    growth: int = 0
    worker: str = ""
    number: int = 0
    shared: int = 0
    settled: int = 0


@immutable
class Opening:
    """What is known of an attempt when it is opened.

    estimate_nanousd: what the estimated usage costs at the price of that moment; metered backends only. is_streaming: whether
    a first token will be told; it is reported and not journalled, for the weight says it.
    """

    facts: AttemptFacts
    billing: str
    price_id: str
    estimate_nanousd: int | None = None
    is_streaming: bool = True


@immutable
class Terms:
    """What a lease is of, and at which price from now on."""

    replica: str
    pool: str
    backend: str
    price_id: str


class Lease(NamedTuple):
    """One lease of one replica. Money in nano-dollars, as of at_ns.

    ended_ns: None while it runs. state: the meter's, JSON-able, or None where only the money moved since it was last saved.
    state_seq: the journal position of that state; the store sets it, to 0 when the lease has ended and needs none.
    """

    lease_id: str
    replica: str
    pool: str
    backend: str
    price_id: str
    started_ns: int
    at_ns: int
    ended_ns: int | None = None
    bill_nanousd: int = 0
    idle_nanousd: int = 0
    state: Mapping[str, Any] | None = None
    state_seq: int = 0


@immutable
class Checkpoint:
    """Every live lease with its state, and what open attempts owe, all booked up to at_ns.

    open_from_seq: no attempt that is open now was opened before this position; None when none is open.
    """

    at_ns: int
    leases: Sequence[Lease]
    open_nanousd: Mapping[Account, int]
    open_from_seq: int | None


class Opened(NamedTuple):
    """An attempt that was opened and never closed, as the journal has it. prefill_nanousd: run up at its first token, where
    a worker told of one; None where not. seq: of the event."""

    opening: Opening
    at_ns: int
    seq: int = 0
    worker: str = ""
    has_first_token: bool = False
    prefill_nanousd: int | None = None


@immutable
class Recovery:
    """What a previous process left behind.

    leases: those that have not ended. tail: the events of each since its state was saved, in order. openings: by attempt
    id, attempts opened and never closed, in order. prices: snapshots by id. at_ns: up to when leases were booked.
    """

    leases: Sequence[Lease]
    tail: Mapping[str, Sequence[Event]]
    openings: Mapping[str, Opened]
    prices: Mapping[str, str] = field(default_factory=dict)
    at_ns: int = 0


@immutable
class Correction:
    """An attempt that was closed as lost, by the word of the worker that had been taken for dead.

    charge: what it would have been. corrected_nanousd: to be added to what was charged; 0 on a leased replica, whose bill was
    given out by then, and where the cost is not known. booked_ns: the day and hour it belongs to; a period that is closed
    stays as it was.
    """

    charge: Charge
    corrected_nanousd: int
    booked_ns: int


class SpentQuestion(NamedTuple):
    """What was spent by a tenant, or one key of it (""), in a period whose bounds are midnights."""

    tenant: str
    api_key_name: str
    span: Span


class LedgerStore(Protocol):
    """Accepts from one thread (the event loop's), commits on its own. Nothing that was accepted is dropped."""

    @property
    def is_accepting(self) -> bool:
        """Whether what is written now is likely to be committed soon: there is room, and the last commit went well."""

    @property
    def is_full(self) -> bool:
        """Whether the bound on what waits for a commit is reached."""

    @property
    def ledger_id(self) -> str:
        """A name that no other ledger has, and that stays."""

    @property
    def position(self) -> int:
        """The position of the last event that was appended."""

    def recover(self) -> Recovery:
        """What the last process left. Before the first append."""

    def keep_price(self, price_id: str, snapshot: str) -> None:
        """Write down what this price is, on disk no later than any event that is appended from now on. The first word counts."""

    def append(
        self,
        events: Sequence[Event],
        charge: Charge | None = None,
        lease: Lease | None = None,
        correction: Correction | None = None,
    ) -> int:
        """Write together: events, the charge they lead to or correct, the lease they move, and of those that a worker has
        told, how far its reports are booked. Returns the position of the last event."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Save all meters as of now; publishes the totals when committed. A later one may take its place before that."""

    async def committed(self, seq: int, timeout_seconds: float) -> None:
        """Wait until the event at this position is on disk. Raises TimeoutError."""

    async def published(self, timeout_seconds: float) -> Totals:
        """Wait until the last checkpoint is on disk; the totals with it. Raises TimeoutError."""

    async def spent(self, questions: Sequence[SpentQuestion], timeout_seconds: float) -> tuple[list[int], int]:
        """What was spent, an amount for each question, and the position through which charges are in them: at least that of the
        last event which this process had appended when it asked, where it keeps the books itself. TimeoutError."""

    def totals(self) -> Totals:
        """As of the last checkpoint that was committed."""

    def close(self) -> None:
        """Commit what waits, and let go of the file. Blocks. Raises LedgerError when something could not be committed."""
