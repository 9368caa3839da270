"""Where a worker's reports are put: the tables of its ledger, or a local spool while PostgreSQL is away.

The spool counts as written down, so metered attempts are dispatched meanwhile. Once PostgreSQL is back the spool is told first,
in order, each part in a transaction of its own that also says up to when all is told; a part whose commit was not confirmed is
told again to no effect. A worker that was taken for dead by then goes on under another name, as always (`journals.py`).

Each worker has a spool of its own, the first free one of `<path>.0`, `<path>.1`, …. What a worker that died left in one is told
by the next that starts here: as the dead one's word if nobody has noticed yet, else under a new name.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import orjson
import structlog

from router.ledger import rows, workers
from router.ledger.address import Address, PostgresAddress
from router.ledger.batch import PRICE_COLUMNS, WRITE_PRICE
from router.ledger.database import Database, transaction
from router.ledger.reading import read_lease_prices
from router.ledger.returning import RECONNECT_SECONDS, Returning
from router.ledger.schema import open_shared, turns_of
from router.ledger.spending import prepare_spending
from router.ledger.spool import DRAIN_BYTES, DRAIN_SECONDS, SpoolFile, SpoolTaken
from router.ledger.store import LedgerError
from router.ledger.telling import prepare_to_tell, tell_at_once
from router.ledger.workers import WorkerState

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

# What another worker has said of its work in flight is believed for so long.
ELSEWHERE_NS = 2 * 10**9


class Beat(NamedTuple):
    """watermark_ns: up to then all is told. in_flight: attempts by replica, awake: what scales to zero (`Wake`), as JSON."""

    watermark_ns: int
    in_flight: str = "{}"
    awake: str = "{}"
    state: WorkerState = WorkerState.LIVE


class ReportShelf:
    """Opened by who makes it, from then on for one thread. Opening raises LedgerError.

    name: for people, a part of the worker's own. spool: its path and the bytes that it may hold; not used where the ledger is a
    file. identity: the name by which it began; worker: the one by which it is known now (`workers.renamed`). elsewhere: attempts
    in flight at the other workers, awake: what they know of who scales to zero, both swapped whole; awake_before: what all
    workers knew when this one began. hear_seconds: how often they are read where there is more to tell.
    """

    def __init__(
        self, address: Address, name: str, at_ns: int, spool: tuple[Path, int] | None, *, hear_seconds: float
    ) -> None:
        self._address = address
        self._hear_ns = round(hear_seconds * 1e9)
        self._hear_at_ns = 0
        self.identity = f"{name}-{uuid4().hex[:12]}"
        self._turns = turns_of(address)
        self._told_seq = 0
        self._spool: SpoolFile | None = None
        self._returning: Returning[Database] | None = None
        self._reconnect_at_seconds = 0.0
        self.elsewhere: Mapping[str, int] = {}
        self.awake: workers.Awake = {}
        database = open_shared(address)
        self._database: Database | None = database
        try:
            with self._turns, transaction(database):
                self.ledger_id = prepare_spending(database)
                self.worker = self.identity
                _register(database, self.worker, at_ns, 0)
            prepare_to_tell(database)
            self.lease_prices = read_lease_prices(database)
            self.awake_before = workers.read_awake(database)
            if spool is not None and isinstance(address, PostgresAddress):
                self._take_spool(database, *spool)
        except BaseException:
            self.close()
            raise

    @property
    def spool(self) -> tuple[int, int] | None:
        """Bytes that wait in it, and those there is room for; None without one."""
        return None if self._spool is None else (self._spool.size_bytes, self._spool.bytes_max)

    def put(self, reports: Sequence[workers.ReportRow], prices: Mapping[str, str], beat: Beat) -> None:
        """Durable when it returns; whatever it raises, it is to be asked again. reports: by `workers.REPORT_MEMBERS`."""
        self._attend()
        database, spool = self._database, self._spool
        if database is not None and (spool is None or spool.is_empty):
            try:
                self._tell(database, reports, prices, beat)
                return
            except database.error as error:
                if spool is None or not database.is_away(error):
                    raise
                self._lose(error)
        assert spool is not None
        if reports or prices:
            text = orjson.dumps((self.worker, beat.watermark_ns, reports, list(prices.items())))
            spool.put(text, (self.ledger_id, 0))

    def ask(self, answer: Callable[[Database], Answer]) -> Answer:
        """Raises LedgerError while the ledger is away."""
        database = self._database
        if database is None:
            raise LedgerError(f"{self._address}: is away")
        try:
            return answer(database)
        except database.error as error:
            if self._spool is not None and database.is_away(error):
                self._lose(error)
            raise

    def has_spooled(self, worker: str) -> bool:
        """Whether a spool beside ours still has what another process has to tell."""
        if self._spool is None:
            return False
        path = self._spool.path
        return any(
            workers.is_of(told_by, worker)
            for beside in path.parent.glob(f"{path.stem}.*")
            if beside != path and beside.suffix[1:].isdigit()
            for told_by in _told_by(beside)
        )

    def close(self) -> None:
        if self._spool is not None:
            if not self._spool.is_empty:
                log.warning(
                    "ending with a spool that is not told yet: it is at the next start", bytes=self._spool.size_bytes
                )
            self._spool.close()
        returned = None if self._returning is None else self._returning.wait()
        for database in (self._database, returned):
            if database is not None:
                database.close()
        self._turns.close()

    # The ledger

    def _tell(
        self, database: Database, reports: Sequence[workers.ReportRow], prices: Mapping[str, str], beat: Beat
    ) -> None:
        """In one transaction, with the beat; and hear of the others, now and then."""
        seq = reports[-1][0] if reports else self._told_seq
        if len(reports) > 1 or prices or not self._tell_at_once(database, reports, beat, seq):
            with self._turns, transaction(database):
                worker = _tell(database, self.worker, reports, prices, beat, seq)
            if worker != self.worker:
                log.error(
                    "was silent for too long and taken for dead; goes on as another", was=self.worker, is_now=worker
                )
                self.worker = worker
        self._told_seq = seq
        if not reports or beat.watermark_ns >= self._hear_at_ns:
            since_ns = beat.watermark_ns - ELSEWHERE_NS
            self.elsewhere, self.awake = workers.read_elsewhere(database, self.worker, since_ns)
            self._hear_at_ns = beat.watermark_ns + self._hear_ns

    def _tell_at_once(self, database: Database, reports: Sequence[workers.ReportRow], beat: Beat, seq: int) -> bool:
        with self._turns:
            return tell_at_once(database, _members(self.worker, beat, seq), reports[0] if reports else None)

    def _lose(self, error: Exception) -> None:
        """The session is given up: what came of its last transaction is not known."""
        log.error("the ledger's PostgreSQL is away; reports go into the spool", error=" ".join(str(error).split()))
        if self._database is not None:
            self._database.close()
        self._database, self.elsewhere, self.awake, self._hear_at_ns = None, {}, {}, 0

    # The spool

    def _attend(self) -> None:
        """Come back, and tell what waits, for a while."""
        if self._spool is None:
            return
        if self._database is None:
            self._come_back()
        database, deadline_seconds = self._database, time.monotonic() + DRAIN_SECONDS
        if database is None or self._spool.is_empty:
            return
        try:
            while not self._spool.is_empty and time.monotonic() < deadline_seconds:
                number, size_bytes, part = _oldest(self._spool)
                self._tell(database, part.reports, part.prices, Beat(part.watermark_ns))
                self._spool.remove(number, size_bytes)
        except database.error as error:
            if not database.is_away(error):
                raise
            self._lose(error)
            return
        if self._spool.is_empty:
            log.info("the spool is told to the ledger")

    def _come_back(self) -> None:
        if self._returning is None:
            if time.monotonic() >= self._reconnect_at_seconds:
                self._returning = Returning(lambda: open_shared(self._address))
            return
        if self._returning.is_alive():
            return
        self._database, self._returning = self._returning.database, None
        self._reconnect_at_seconds = time.monotonic() + RECONNECT_SECONDS
        if self._database is not None and self._spool is not None:
            log.warning("the ledger's PostgreSQL is back", spool_bytes=self._spool.size_bytes)

    def _take_spool(self, database: Database, path: Path, bytes_max: int) -> None:
        """The first that nobody has; and what those have left that are gone is told."""
        for number in count():
            try:
                self._spool = SpoolFile(_numbered(path, number), bytes_max)
                break
            except SpoolTaken:
                continue
        assert self._spool is not None
        self._tell_for_the_dead(database, self._spool)
        for left in sorted(path.parent.glob(f"{path.name}.*")):
            if left.suffix[1:].isdigit():
                try:
                    spool = SpoolFile(left, bytes_max)
                except SpoolTaken:
                    continue
                try:
                    self._tell_for_the_dead(database, spool)
                finally:
                    spool.close()

    def _tell_for_the_dead(self, database: Database, spool: SpoolFile) -> None:
        """Raises LedgerError where it is another ledger's."""
        owner = spool.owner
        if owner is None:
            return
        if owner[0] != self.ledger_id:
            raise LedgerError(
                f"{self._address}: what the spool holds belongs to another ledger ({owner[0]}, this one is {self.ledger_id});"
                " open that one, or name another file (ledger.spool.path)"
            )
        worker = ""
        while not spool.is_empty:
            number, size_bytes, part = _oldest(spool)
            state = WorkerState.LEFT if size_bytes == spool.size_bytes else WorkerState.LIVE
            worker = worker or part.worker
            seq = part.reports[-1][0] if part.reports else 0
            with self._turns, transaction(database):
                beat = Beat(part.watermark_ns, state=state)
                worker = _tell(database, worker, part.reports, part.prices, beat, seq)
            spool.remove(number, size_bytes)
        log.warning("told what a worker that is gone had left in its spool", worker=worker)


class _Part(NamedTuple):
    """Of a spool."""

    worker: str
    watermark_ns: int
    reports: list[workers.ReportRow]
    prices: dict[str, str]


def _oldest(spool: SpoolFile) -> tuple[int, int, _Part]:
    number, size_bytes, texts = spool.oldest(DRAIN_BYTES)
    reports: list[workers.ReportRow] = []
    prices: dict[str, str] = {}
    worker, watermark_ns = "", 0
    for text in texts:
        worker, watermark_ns, new_reports, new_prices = orjson.loads(text)
        reports += new_reports
        prices |= new_prices
    return number, size_bytes, _Part(worker, watermark_ns, reports, prices)


def _tell(
    database: Database,
    worker: str,
    reports: Sequence[workers.ReportRow],
    prices: Mapping[str, str],
    beat: Beat,
    seq: int,
) -> str:
    """Inside a transaction. seq: of the last report that is told by then. Returns the name under which it was told.

    What was told before, unconfirmed, may be booked by now, and its reports gone: they are not told again. Whoever books waits
    for us, for the worker's row.
    """
    for price in prices.items():
        database.execute(WRITE_PRICE, dict(zip(PRICE_COLUMNS, rows.price_row(*price), strict=True)))
    while (booked := database.execute(workers.BEAT, _members(worker, beat, seq)).fetchone()) is None:
        worker = workers.renamed(worker)  # or it was already, and nobody knows: then it is found
        _register(database, worker, beat.watermark_ns, workers.first_seq(reports[0]) - 1 if reports else seq)
    told = [(worker, *report) for report in reports if report[0] > booked[0]]
    database.insert_new("reports", workers.REPORT_COLUMNS, told)
    return worker


def _members(worker: str, beat: Beat, seq: int) -> dict[str, Any]:
    """Of `workers.BEAT`."""
    return {
        "worker": worker,
        "watermark_ns": beat.watermark_ns,
        "seq": seq,
        "in_flight": beat.in_flight,
        "awake": beat.awake,
        "state": beat.state._value_,
    }


def _register(database: Database, worker: str, at_ns: int, seq: int) -> None:
    """A row of its own, unless it has one. What was told up to `seq` was told by another."""
    database.execute(workers.REGISTER, {"worker": worker, "at_ns": at_ns, "seq": seq})


def _told_by(path: Path) -> Iterator[str]:
    """Who has something in that spool, whoever has it open."""
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    ) as connection:  # to recover after a kill
        first = connection.execute("SELECT rows FROM batches ORDER BY number LIMIT 1").fetchone()
    if first is not None:
        yield orjson.loads(first[0])[0]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
