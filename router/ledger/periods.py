"""What the ledger's hours say of a period: read beside a running router, as `history.py` reads single charges."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

from router.domain.periods import HOURS_PER_DAY, NS_PER_HOUR, Arm, ArmSums, Leased, Spent
from router.ledger import rollups
from router.ledger.address import Address
from router.ledger.corrections import ENTRIES
from router.ledger.database import Database
from router.ledger.rows import OUTCOME
from router.ledger.schema import reading
from router.ledger.store import LedgerError

SUM_NAMES = Spent._fields[10:]
EPOCH_DAY = date(1970, 1, 1).toordinal()


class Period(NamedTuple):
    """Whole hours, the first inclusive, the last exclusive."""

    first_hour: int
    end_hour: int


class Invoiced(NamedTuple):
    """One backend's day, for comparison with its provider's: successful or not, all that was charged.

    unpriced: of the requests, those whose cost is not known and not in the sum.
    """

    day: str
    backend: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nanousd: int
    unpriced: int


class Periods:
    """One consistent state of the hours.

    at_ns: up to when leases are booked. waiting: charges that are not in the hours yet, those since the last checkpoint.
    is_catching_up: they are more than a checkpoint takes, so the past of a ledger of an older jeton is being rolled up.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        (self.at_ns,) = database.execute("SELECT at_ns FROM position").fetchone()
        (self.waiting,) = database.execute(
            "SELECT count(*) FROM charges WHERE seq > (SELECT seq FROM rolled)"
        ).fetchone()
        self.is_catching_up = self.waiting > rollups.CHARGES_PER_ROLL

    def whole(self) -> Period:
        """From the first hour that has anything to the one that is under way. Raises LedgerError when there is nothing."""
        ends = [  # one by one: each is found at an end of its table's index
            self._database.execute(f"SELECT {end}(hour) FROM {table}").fetchone()[0]
            for table in ("charge_hours", "lease_hours")
            for end in ("min", "max")
        ]
        hours = [hour for hour in ends if hour is not None]
        if not hours:
            raise LedgerError("nothing is booked in this ledger yet")
        return Period(min(hours), max(max(hours) + 1, -(-self.at_ns // NS_PER_HOUR)))

    def spent(self, period: Period, by: Collection[str] = rollups.KEYS, hours: int = 1) -> list[Spent]:
        """Charges by these members, in rows of so many hours (24: days, UTC), in order."""
        order = "".join(f", {name}" for name in rollups.KEYS if name in by)
        # Grouped by one number for each combination, not by its names: that is twice as quick.
        partition = ", ".join(name for name in rollups.KEYS if name in by) or "1"
        names = ", ".join(name if name in by else "''" for name in rollups.KEYS)
        sums = ", ".join(f"sum({name}) AS {name}" for name in SUM_NAMES)
        rows = self._database.execute(
            f"""
            WITH combinations AS MATERIALIZED (
                SELECT key, min(key) OVER (PARTITION BY {partition}) AS combination FROM charge_keys
            )
            SELECT first_hour, {names}, {", ".join(SUM_NAMES)} FROM (
                SELECT hour / {hours} * {hours} AS first_hour, combination, {sums}
                FROM charge_hours JOIN combinations USING (key) WHERE hour >= :first_hour AND hour < :end_hour GROUP BY 1, 2
            ) AS spent JOIN charge_keys ON charge_keys.key = combination ORDER BY first_hour{order}
            """,
            period._asdict(),
        )
        return [Spent(*row) for row in rows]

    def corrected(self, period: Period, by: Collection[str] = rollups.KEYS, hours: int = 1) -> list[Spent]:
        """What was told late and booked in this period, as entries beside `spent`: those that take back are negative."""
        keys = [name if name != "outcome" else f"{OUTCOME} AS outcome" for name in rollups.KEYS if name in by]
        names = ", ".join(name if name in by else "''" for name in rollups.KEYS)
        found: list[Spent] = []
        for sign, entries in ENTRIES:
            for row in self._database.execute(
                f"""
                SELECT first_hour, {names}, {", ".join(SUM_NAMES)} FROM (
                    SELECT ended_ns / {NS_PER_HOUR} / {hours} * {hours} AS first_hour, {"".join(f"{key}, " for key in keys)}
                        {", ".join(f"{what} AS {name}" for name, what in rollups.SUMS.items())}
                    FROM {entries} WHERE ended_ns >= :first_hour * {NS_PER_HOUR} AND ended_ns < :end_hour * {NS_PER_HOUR}
                    GROUP BY 1{"".join(f", {name}" for name in rollups.KEYS if name in by)}
                ) AS told ORDER BY first_hour
                """,
                period._asdict(),
            ):
                found.append(Spent(*row[: -len(SUM_NAMES)], *(sign * amount for amount in row[-len(SUM_NAMES) :])))
        return found

    def leased(self, period: Period, hours: int = 1) -> list[Leased]:
        """Leases, in rows of so many hours, in order."""
        rows = self._database.execute(
            f"""
            SELECT hour / {hours} * {hours}, pool, backend, replica, price_id,
                sum(bill_nanousd), sum(idle_nanousd), sum(leased_ns)
            FROM lease_hours WHERE hour >= :first_hour AND hour < :end_hour GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
            """,
            period._asdict(),
        )
        return [Leased(*row) for row in rows]

    def arms(self, period: Period) -> list[ArmSums]:
        """By arm and tenant, over the hours from the first to the last request that was held out: before and after them
        nothing was, and what was routed then has nothing to be compared with."""
        rows = self._database.execute(
            f"""
            WITH held_out AS (
                SELECT min(hour) AS first_held, max(hour) AS last_held FROM arm_hours
                WHERE arm = '{Arm.HOLDOUT}' AND hour >= :first_hour AND hour < :end_hour
            )
            SELECT arm, tenant, {", ".join(f"sum({name})" for name in rollups.ARM_SUMS)}
            FROM arm_hours, held_out WHERE hour BETWEEN first_held AND last_held GROUP BY 1, 2 ORDER BY 1, 2
            """,
            period._asdict(),
        )
        return [ArmSums(*row) for row in rows]

    def invoiced(self, period: Period, backends: Sequence[str]) -> list[Invoiced]:
        """Days (UTC) of these backends, what was told late on the day on which it was booked."""
        by = ("backend", "model")
        spent = [*self.spent(period, by, HOURS_PER_DAY), *self.corrected(period, by, HOURS_PER_DAY)]
        sums: dict[tuple[int, str, str], list[int]] = {}
        for one in spent:
            if one.backend in backends:
                entry = sums.setdefault((one.hour // HOURS_PER_DAY, one.backend, one.model), [0] * 6)
                tokens = one.prompt_tokens, one.cached_tokens, one.completion_tokens
                for number, amount in enumerate((one.attempts, *tokens, one.cost_nanousd, one.unpriced)):
                    entry[number] += amount
        return [
            Invoiced(f"{date.fromordinal(EPOCH_DAY + day):%Y-%m-%d}", backend, model, *sums[day, backend, model])
            for day, backend, model in sorted(sums)
        ]


@contextmanager
def read_periods(address: Address) -> Iterator[Periods]:
    """The ledger's hours as they are now, whatever is written meanwhile. Raises LedgerError."""
    with reading(address) as database:
        yield Periods(database)
