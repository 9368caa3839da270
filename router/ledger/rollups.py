"""Whole hours of the ledger: small tables that answer questions about any period, however long charges are kept.

Charges are too many to be added up for a year (at 100 requests a second, 260 million a month), and a lease has but one row
with its balance as of now. So both are rolled up by the hour: charges by the hour in which they ended, a lease's bill and idle
money by the hour in which they ran up. `roll` does so from where it stopped, inside the transaction of a checkpoint, so that
the hours equal the ledger as of that checkpoint, whenever the process dies. It needs nothing but the tables `charges` and
`leases`: a ledger of an older jeton is caught up with, up to `CHARGES_PER_ROLL` at a time. A rebuild rolls as it goes.

The hour of a lease's money: balances are looked at every second, and what ran up between two looks is spread evenly over the
time between them, cut at the full hour. That is exact for the bill, whose price is constant in between (where it changes, what
ran up until then is rolled up first: `batch.py`), and for idle time after a restart, all of which is idle; it may move what was
idle in the second that contains the full hour to the other side. Sums are exact.

A request for `auto` is also counted in its arm of the hold-out, at the attempt that settled last (`domain/periods.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from router.domain.attempt import AttemptStatus
from router.domain.periods import HOLDOUT_MODEL, HOLDOUT_REASON, HOURS_PER_DAY, NS_PER_HOUR, Arm
from router.ledger.database import Database
from router.ledger.pruned import pruned_ns
from router.ledger.rows import OUTCOME

CHARGES_PER_ROLL = 50_000
# How long after the last held-out request what is routed still counts as drawn from the same lot.
ARMS_HOURS = 24

KEYS = ("pool", "backend", "replica", "billing", "model", "tier", "tenant", "price_id", "outcome")

SUMS = {
    "attempts": "count(*)",
    "unpriced": "count(*) - count(cost_nanousd)",
    "prompt_tokens": "sum(prompt_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cost_nanousd": "coalesce(sum(cost_nanousd), 0)",
    "cost_prompt_nanousd": "coalesce(sum(cost_prompt_nanousd), 0)",
    "cost_cached_nanousd": "coalesce(sum(cost_cached_nanousd), 0)",
    "cost_completion_nanousd": "coalesce(sum(cost_nanousd - cost_prompt_nanousd - cost_cached_nanousd), 0)",
    "standard_nanousd": "coalesce(sum(standard_nanousd), 0)",
    "standard_prompt_nanousd": "coalesce(sum(standard_prompt_nanousd), 0)",
    "standard_cached_nanousd": "coalesce(sum(standard_cached_nanousd), 0)",
    "standard_completion_nanousd": (
        "coalesce(sum(standard_nanousd - standard_prompt_nanousd - standard_cached_nanousd), 0)"
    ),
    "unrated_nanousd": "coalesce(sum(cost_nanousd) FILTER (WHERE standard_nanousd IS NULL), 0)",
    "baseline_nanousd": "coalesce(sum(baseline_nanousd) FILTER (WHERE cost_nanousd IS NOT NULL), 0)",
    "compared_nanousd": "coalesce(sum(cost_nanousd) FILTER (WHERE baseline_nanousd IS NOT NULL), 0)",
    "compared_attempts": "count(*) FILTER (WHERE baseline_nanousd IS NOT NULL AND cost_nanousd IS NOT NULL)",
}
# A lease's share of its attempts is in its own currency of seconds; what a token costs there by its price is `standard`.
OWN = "coalesce(CASE WHEN billing = 'leased' THEN coalesce(standard_nanousd, cost_nanousd) ELSE cost_nanousd END, 0)"
ARM_SUMS = ("requests", "unpriced", "allocated_nanousd", "allocated_squares", "own_nanousd", "own_squares")


def _added(table: str, names: Iterable[str]) -> str:
    """What an upsert does to sums."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in names)


LAST_ROLLED = "SELECT seq FROM rolled"
NEXT_CHARGES = """
SELECT coalesce(max(seq), 0), count(*) FROM (SELECT seq FROM charges WHERE seq > :after ORDER BY seq LIMIT :limit) AS next
"""
NEW_CHARGES = "charges WHERE seq > :after AND seq <= :until"
ADD_KEYS = f"""
INSERT INTO charge_keys ({", ".join(KEYS)})
SELECT DISTINCT {", ".join(KEYS[:-1])}, {OUTCOME} FROM {NEW_CHARGES} ON CONFLICT DO NOTHING
"""
ADD_CHARGES = f"""
INSERT INTO charge_hours (hour, key, {", ".join(SUMS)})
SELECT hour, key, {", ".join(f"new.{name}" for name in SUMS)} FROM (
    SELECT ended_ns / {NS_PER_HOUR} AS hour, {", ".join(KEYS[:-1])}, {OUTCOME} AS outcome,
        {", ".join(f"{what} AS {name}" for name, what in SUMS.items())}
    FROM {NEW_CHARGES} GROUP BY 1, {", ".join(KEYS[:-1])}, outcome
) AS new JOIN charge_keys USING ({", ".join(KEYS)}) WHERE TRUE
ON CONFLICT (hour, key) DO UPDATE SET {_added("charge_hours", SUMS)}
"""


def _earlier(amount: str) -> str:
    """What the attempts at the same request came to that were charged before this one: (a + b)² − a² = b² + 2ab. They need not
    have begun before it: one that was discarded may be read on. One that answered at once has none beside but its shadow."""
    return f"""
    CASE WHEN number = 1 AND status = '{AttemptStatus.OK}' THEN 0 ELSE coalesce((
        SELECT sum({amount}) FROM charges AS earlier
        WHERE earlier.attempt_id > charges.request_id || '.' AND earlier.attempt_id < charges.request_id || '/'
        AND earlier.seq < charges.seq AND earlier.asked_model = '{HOLDOUT_MODEL}'
    ), 0) END
    """


def _squares(amount: str) -> str:
    return f"sum(CAST({amount} AS DOUBLE PRECISION) * ({amount} + 2 * {_earlier(amount)}))"


COST = "coalesce(cost_nanousd, 0)"
ARM = f"CASE WHEN reason = '{HOLDOUT_REASON}' THEN '{Arm.HOLDOUT}' ELSE '{Arm.ROUTED}' END"
NEW_ARMS = f"""
SELECT ended_ns / {NS_PER_HOUR}, tenant, {ARM},
    count(*) FILTER (WHERE number = 1), count(*) - count(cost_nanousd), sum({COST}), {_squares(COST)}, sum({OWN}), {_squares(OWN)}
FROM {NEW_CHARGES} AND asked_model = '{HOLDOUT_MODEL}' GROUP BY 1, 2, 3
"""
_ARM_MARKS = ", ".join(f":{name}" for name in ARM_SUMS)
ADD_ARM_HOUR = f"""
INSERT INTO arm_hours (hour, tenant, arm, {", ".join(ARM_SUMS)}) VALUES (:hour, :tenant, :arm, {_ARM_MARKS})
ON CONFLICT (hour, tenant, arm) DO UPDATE SET {_added("arm_hours", ARM_SUMS)}
"""
ADD_ARM_TOTAL = f"""
INSERT INTO arm_totals (tenant, arm, {", ".join(ARM_SUMS)}) VALUES (:tenant, :arm, {_ARM_MARKS})
ON CONFLICT (tenant, arm) DO UPDATE SET {_added("arm_totals", ARM_SUMS)}
"""
HELD_OUT_LATELY = f"""
SELECT EXISTS (SELECT 1 FROM arm_hours WHERE hour BETWEEN :hour - {ARMS_HOURS} AND :hour AND arm = '{Arm.HOLDOUT}')
"""
READ_ARM_TOTALS = f"SELECT arm, tenant, {', '.join(ARM_SUMS)} FROM arm_totals"
# What the hours have, and what it should be.
ARM_AMOUNTS = tuple(name for name in ARM_SUMS if not name.endswith("squares"))
_SINCE = f"ended_ns >= :first * {NS_PER_HOUR}"
HERE_CHARGES = "SELECT * FROM charge_hours JOIN charge_keys USING (key) WHERE hour >= :first"
CHARGED = f"""
SELECT ended_ns / {NS_PER_HOUR} AS hour, {", ".join(KEYS[:-1])}, {OUTCOME} AS outcome,
    {", ".join(f"{what} AS {name}" for name, what in SUMS.items())}
FROM charges WHERE {_SINCE} AND seq <= :until GROUP BY 1, {", ".join(KEYS[:-1])}, outcome
"""
HERE_ARMS = "SELECT * FROM arm_hours WHERE hour >= :first"
CHARGED_ARMS = f"""
SELECT ended_ns / {NS_PER_HOUR} AS hour, tenant, {ARM} AS arm,
    count(*) FILTER (WHERE number = 1) AS requests, count(*) - count(cost_nanousd) AS unpriced, sum({COST}) AS allocated_nanousd,
    sum({OWN}) AS own_nanousd
FROM charges WHERE {_SINCE} AND seq <= :until AND asked_model = '{HOLDOUT_MODEL}' GROUP BY 1, 2, 3
"""
SQUARES = ("own_squares", "allocated_squares")
HERE_SQUARES = f"SELECT hour, tenant, arm, {', '.join(SQUARES)} FROM arm_hours WHERE hour >= :first ORDER BY 1, 2, 3"
CHARGED_SQUARES = f"""
SELECT ended_ns / {NS_PER_HOUR} AS hour, tenant, {ARM} AS arm, {_squares(OWN)}, {_squares(COST)}
FROM charges WHERE {_SINCE} AND seq <= :until AND asked_model = '{HOLDOUT_MODEL}' GROUP BY 1, 2, 3
"""
# What may be in the totals, whenever it was rolled.
ARMS_HELD_OUT = f"""
SELECT tenant, arm, {", ".join(f"sum({name})" for name in ARM_SUMS)} FROM arm_hours AS counted WHERE EXISTS (
    SELECT 1 FROM arm_hours AS held WHERE held.arm = '{Arm.HOLDOUT}'
    AND held.hour BETWEEN counted.hour - {ARMS_HOURS} AND counted.hour
) GROUP BY 1, 2 ORDER BY 1, 2
"""
HERE_LEASES = "SELECT lease_id, bill_nanousd, idle_nanousd FROM lease_hours"
LEASE_HOURS = (
    "SELECT hour, lease_id, price_id, replica, pool, backend, bill_nanousd, leased_ns FROM lease_hours ORDER BY 1, 2, 3"
)
ROLLED_LEASES = "SELECT lease_id, bill_nanousd, idle_nanousd FROM rolled_leases"
MOVED_LEASES = """
SELECT lease_id, replica, pool, backend, price_id, leases.at_ns, leases.bill_nanousd, leases.idle_nanousd,
    coalesce(rolled.at_ns, started_ns), coalesce(rolled.bill_nanousd, 0), coalesce(rolled.idle_nanousd, 0)
FROM leases LEFT JOIN rolled_leases AS rolled USING (lease_id)
WHERE (rolled.at_ns IS NULL OR leases.at_ns > rolled.at_ns
    OR leases.bill_nanousd <> rolled.bill_nanousd OR leases.idle_nanousd <> rolled.idle_nanousd)
"""
MOVED_LEASE = f"{MOVED_LEASES} AND lease_id = :lease_id"
LEASE_HOUR = ("hour", "lease_id", "price_id", "replica", "pool", "backend", "bill_nanousd", "idle_nanousd", "leased_ns")
ADD_LEASE = f"""
INSERT INTO lease_hours ({", ".join(LEASE_HOUR)}) VALUES ({", ".join(f":{name}" for name in LEASE_HOUR)})
ON CONFLICT (hour, lease_id, price_id) DO UPDATE SET
    {_added("lease_hours", ("bill_nanousd", "idle_nanousd", "leased_ns"))}
"""
KEEP_LEASE = """
INSERT INTO rolled_leases (lease_id, at_ns, bill_nanousd, idle_nanousd) VALUES (:lease_id, :at_ns, :bill, :idle)
ON CONFLICT (lease_id) DO UPDATE SET
    at_ns = excluded.at_ns, bill_nanousd = excluded.bill_nanousd, idle_nanousd = excluded.idle_nanousd
"""


def roll(database: Database) -> bool:
    """Add to the hours what has come since the last time, inside the caller's transaction. Whether charges still wait."""
    is_behind = _roll_charges(database)
    _add_leases(database, database.execute(MOVED_LEASES).fetchall())
    return is_behind


def roll_lease(database: Database, lease_id: str) -> None:
    """Add what the lease has run up until now, at the price that it has, for that is about to change."""
    _add_leases(database, database.execute(MOVED_LEASE, {"lease_id": lease_id}).fetchall())


def _roll_charges(database: Database) -> bool:
    (after,) = database.execute(LAST_ROLLED).fetchone()
    next_charges = {"after": after, "limit": CHARGES_PER_ROLL}
    until, count = database.execute(NEXT_CHARGES, next_charges).fetchone()
    if not count:
        return False
    bounds = {"after": after, "until": until}
    for statement in (ADD_KEYS, ADD_CHARGES):
        database.execute(statement, bounds)
    for row in database.execute(NEW_ARMS, bounds).fetchall():
        arm = dict(zip(("hour", "tenant", "arm", *ARM_SUMS), row, strict=True))
        database.execute(ADD_ARM_HOUR, arm)
        if database.execute(HELD_OUT_LATELY, {"hour": arm["hour"]}).fetchone()[0]:
            database.execute(ADD_ARM_TOTAL, {name: arm[name] for name in ("tenant", "arm", *ARM_SUMS)})
    database.execute("UPDATE rolled SET seq = :until", {"until": until})
    return bool(count == CHARGES_PER_ROLL)


def _add_leases(database: Database, moved: Iterable[Sequence[Any]]) -> None:
    hours, kept = [], []
    for lease_id, replica, pool, backend, price_id, *balances in moved:
        at_ns, bill, idle, before_ns, bill_before, idle_before = balances
        for hour, bill_part, idle_part, leased_ns in by_hour(before_ns, at_ns, bill - bill_before, idle - idle_before):
            row = (hour, lease_id, price_id, replica, pool, backend, bill_part, idle_part, leased_ns)
            hours.append(dict(zip(LEASE_HOUR, row, strict=True)))
        kept.append({"lease_id": lease_id, "at_ns": at_ns, "bill": bill, "idle": idle})
    if kept:
        database.execute_many(ADD_LEASE, hours)
        database.execute_many(KEEP_LEASE, kept)


class LeaseHour(NamedTuple):
    """place: replica, pool, backend. leased_ns: at that price."""

    hour: int
    lease_id: str
    price_id: str
    place: tuple[str, str, str]
    bill_nanousd: int
    leased_ns: int


def lease_hours(database: Database) -> Iterator[LeaseHour]:
    """Of all leases, in order."""
    for hour, lease_id, price_id, *place, bill_nanousd, leased_ns in database.execute(LEASE_HOURS):
        yield LeaseHour(hour, lease_id, price_id, (place[0], place[1], place[2]), bill_nanousd, leased_ns)


def rolled_until(database: Database) -> dict[str, int]:
    """By lease, up to when its money is in the hours."""
    return dict(database.execute("SELECT lease_id, at_ns FROM rolled_leases").fetchall())


def is_anything_rolled(database: Database) -> bool:
    """Whether the ledger knows how far its hours go, as every one does."""
    return database.execute(LAST_ROLLED).fetchone() is not None


def differences(database: Database) -> Iterator[tuple[str, str, str, int, int]]:
    """For an audit: table, row, column, what the hours have and what they were rolled up from sums to, wherever the two differ;
    of the hours whose charges are still there. Squares are left out: sums of floats go by their order."""
    (until,) = database.execute(LAST_ROLLED).fetchone()
    first = pruned_ns(database) // NS_PER_HOUR
    for table, keys, names, here, there in (
        ("charge_hours", ("hour", *KEYS), tuple(SUMS), HERE_CHARGES, CHARGED),
        ("arm_hours", ("hour", "tenant", "arm"), ARM_AMOUNTS, HERE_ARMS, CHARGED_ARMS),
        ("lease_hours", ("lease_id",), ("bill_nanousd", "idle_nanousd"), HERE_LEASES, ROLLED_LEASES),
    ):
        columns = ", ".join((*keys, *names))
        sums = ", ".join(f"sum(is_here * {name}), sum((1 - is_here) * {name})" for name in names)
        differs = " OR ".join(f"sum((2 * is_here - 1) * {name}) <> 0" for name in names)
        for row in database.execute(
            f"""
            SELECT {", ".join(keys)}, {sums} FROM (
                SELECT 1 AS is_here, {columns} FROM ({here}) AS here
                UNION ALL SELECT 0, {columns} FROM ({there}) AS there
            ) AS both_of_them GROUP BY {", ".join(keys)} HAVING {differs} ORDER BY {", ".join(keys)}
            """,
            {"until": until, "first": first},
        ):
            amounts = row[len(keys) :]
            for name, is_, should_be in zip(names, amounts[::2], amounts[1::2], strict=True):
                if is_ != should_be:
                    yield table, " ".join(map(str, row[: len(keys)])), name, is_, should_be


def arm_differences(database: Database) -> Iterator[tuple[str, str, str, float, str]]:
    """For an audit: table, row, column, what the arms have and what they should. Whether what was routed in the hour in which a
    hold-out began is in its totals goes by which came first, so these are at most what the hours have. Squares are sums of
    floats, and equal where all but their last digits do; of the first day after what was pruned they are not known."""
    summed = {tuple(row[:2]): row[2:] for row in database.execute(ARMS_HELD_OUT).fetchall()}
    totals = {(tenant, arm): amounts for arm, tenant, *amounts in database.execute(READ_ARM_TOTALS).fetchall()}
    for tenant, arm in dict.fromkeys([*summed, *totals]):
        here, there = totals.get((tenant, arm)), summed.get((tenant, arm), (0,) * len(ARM_SUMS))
        if here is None and arm == Arm.ROUTED:
            continue
        for name, is_, should_be in zip(ARM_SUMS, here or (0,) * len(ARM_SUMS), there, strict=True):
            if is_ > should_be and not _is_close(is_, should_be):
                yield "arm_totals", f"{tenant} {arm}", name, is_, f"at most {should_be}"
            elif arm == Arm.HOLDOUT and not _is_close(is_, should_be):
                yield "arm_totals", f"{tenant} {arm}", name, is_, str(should_be)
    (until,) = database.execute(LAST_ROLLED).fetchone()
    first = pruned_ns(database) // NS_PER_HOUR
    first += HOURS_PER_DAY if first else 0
    squares = {
        tuple(row[:3]): row[3:]
        for row in database.execute(CHARGED_SQUARES, {"until": until, "first": first}).fetchall()
    }
    for *row, own, allocated in database.execute(HERE_SQUARES, {"first": first}).fetchall():
        for name, is_, should_be in zip(SQUARES, (own, allocated), squares.get(tuple(row), (0.0, 0.0)), strict=True):
            if not _is_close(is_, should_be):
                yield "arm_hours", " ".join(map(str, row)), name, is_, str(should_be)


def _is_close(one: float, other: float) -> bool:
    """Sums of whole numbers are exact; those of floats go by their order."""
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    return abs(one - other) <= 1e-9 * max(abs(one), abs(other))


def by_hour(from_ns: int, to_ns: int, *amounts: int) -> Iterator[tuple[int, ...]]:
    """Amounts that ran up evenly from one time to another, cut at the full hours: (hour, *amounts, nanoseconds).

    The pieces of each amount sum to it. What has no duration falls into the hour of its time.
    """
    elapsed_ns = to_ns - from_ns
    if elapsed_ns <= 0:
        yield to_ns // NS_PER_HOUR, *amounts, 0
        return
    given = [0] * len(amounts)
    at_ns = from_ns
    while at_ns < to_ns:
        hour = at_ns // NS_PER_HOUR
        end_ns = min((hour + 1) * NS_PER_HOUR, to_ns)
        until = [amount * (end_ns - from_ns) // elapsed_ns for amount in amounts]
        yield hour, *(now - before for now, before in zip(until, given, strict=True)), end_ns - at_ns
        given, at_ns = until, end_ns
