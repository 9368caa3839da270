"""What the ledger's hours say of a period: read beside a running router, as `history.py` reads single charges."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from router.domain.periods import NS_PER_HOUR, Arm, ArmSums, Leased, Spent
from router.ledger import rollups
from router.ledger.schema import open_reader
from router.ledger.store import LedgerError

SUM_NAMES = Spent._fields[10:]


class Period(NamedTuple):
    """Whole hours, the first inclusive, the last exclusive."""

    first_hour: int
    end_hour: int


class Invoiced(NamedTuple):
    """One backend's day, for comparison with its provider's: successful or not, all that was charged."""

    day: str
    backend: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nanousd: int


class Periods:
    """One consistent state of the hours.

    at_ns: up to when leases are booked. waiting: charges that are not in the hours yet (a ledger of an older jeton whose
    past is being rolled up).
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        (self.at_ns,) = connection.execute("SELECT at_ns FROM position").fetchone()
        (self.waiting,) = connection.execute(
            """
            SELECT count(*) FROM charges WHERE rowid >
                ifnull((SELECT rowid FROM charges WHERE attempt_id = (SELECT attempt_id FROM rolled)), 0)
            """
        ).fetchone()

    def whole(self) -> Period:
        """From the first hour that has anything to the one that is under way. Raises LedgerError when there is nothing."""
        first, last = self._connection.execute(
            """
            SELECT min(hour), max(hour) FROM
            (SELECT hour FROM charge_hours UNION ALL SELECT hour FROM lease_hours)
            """
        ).fetchone()
        if first is None:
            raise LedgerError("nothing is booked in this ledger yet")
        return Period(first, max(last + 1, -(-self.at_ns // NS_PER_HOUR)))

    def spent(self, period: Period, by: Collection[str] = rollups.KEYS, hours: int = 1) -> list[Spent]:
        """Charges by these members, in rows of so many hours (24: days, UTC), in order."""
        # Grouped by one number for each combination, not by its names: that is twice as quick.
        partition = ", ".join(name for name in rollups.KEYS if name in by) or "NULL"
        names = ", ".join(name if name in by else "''" for name in rollups.KEYS)
        sums = ", ".join(f"sum({name}) AS {name}" for name in SUM_NAMES)
        rows = self._connection.execute(
            f"""
            WITH combinations AS MATERIALIZED (
                SELECT key, min(key) OVER (PARTITION BY {partition}) AS combination FROM charge_keys
            )
            SELECT first_hour, {names}, {", ".join(SUM_NAMES)} FROM (
                SELECT hour / {hours} * {hours} AS first_hour, combination, {sums}
                FROM charge_hours JOIN combinations USING (key) WHERE hour >= ? AND hour < ? GROUP BY 1, 2
            ) JOIN charge_keys ON charge_keys.key = combination ORDER BY first_hour, {partition}
            """,
            period,
        )
        return [Spent(*row) for row in rows]

    def leased(self, period: Period, hours: int = 1) -> list[Leased]:
        """Leases, in rows of so many hours, in order."""
        rows = self._connection.execute(
            f"""
            SELECT hour / {hours} * {hours}, pool, backend, replica, price_id,
                sum(bill_nanousd), sum(idle_nanousd), sum(leased_ns)
            FROM lease_hours WHERE hour >= ? AND hour < ? GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
            """,
            period,
        )
        return [Leased(*row) for row in rows]

    def arms(self, period: Period) -> list[ArmSums]:
        """By arm and tenant, over the hours from the first to the last request that was held out: before and after them
        nothing was, and what was routed then has nothing to be compared with."""
        rows = self._connection.execute(
            f"""
            WITH held_out AS (
                SELECT min(hour) AS first, max(hour) AS last FROM arm_hours
                WHERE arm = '{Arm.HOLDOUT}' AND hour >= ? AND hour < ?
            )
            SELECT arm, tenant, {", ".join(f"sum({name})" for name in rollups.ARM_SUMS)}
            FROM arm_hours, held_out WHERE hour BETWEEN first AND last GROUP BY 1, 2 ORDER BY 1, 2
            """,
            period,
        )
        return [ArmSums(*row) for row in rows]

    def invoiced(self, period: Period, backends: Sequence[str]) -> list[Invoiced]:
        """Days (UTC) of these backends."""
        marks = ", ".join("?" * len(backends))
        rows = self._connection.execute(
            f"""
            SELECT date(hour * 3600, 'unixepoch'), backend, model, sum(attempts), sum(prompt_tokens), sum(cached_tokens),
                sum(completion_tokens), sum(cost_nanousd)
            FROM charge_hours JOIN charge_keys USING (key)
            WHERE hour >= ? AND hour < ? AND backend IN ({marks})
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """,
            (*period, *backends),
        )
        return [Invoiced(*row) for row in rows]


@contextmanager
def read_periods(path: Path) -> Iterator[Periods]:
    """The ledger's hours as they are now, whatever is written meanwhile. Raises LedgerError."""
    connection = open_reader(path)
    try:
        connection.execute("BEGIN")
        yield Periods(connection)
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: cannot be read ({error})") from None
    finally:
        connection.close()
