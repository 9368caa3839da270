"""Whole hours of the ledger: small tables that answer questions about any period, however long charges are kept.

Charges are too many to be added up for a year (at 100 requests a second, 260 million a month), and a lease has but one row
with its balance as of now. So both are rolled up by the hour: charges by the hour in which they ended, a lease's bill and idle
money by the hour in which they ran up. `roll` does so from where it stopped, inside the transaction of a checkpoint, so that
the hours equal the ledger as of that checkpoint, whenever the process dies. It needs nothing but the tables `charges` and
`leases`: a ledger of an older jeton is caught up with, up to `CHARGES_PER_ROLL` at a time. A rebuild rolls as it goes.

The hour of a lease's money: balances are looked at every second, and what ran up between two looks is spread evenly over the
time between them, cut at the full hour. That is exact for the bill, whose price is constant in between (a new price is told to
the ledger when it begins), and for idle time after a restart, all of which is idle; it may move what was idle in the second
that contains the full hour to the other side. Sums are exact.

A request for `auto` is also counted in its arm of the hold-out, at the attempt that settled last (`domain/periods.py`).
"""

import sqlite3
from collections.abc import Iterator

from router.domain.periods import HOLDOUT_MODEL, HOLDOUT_REASON, NS_PER_HOUR, Arm, Outcome

CHARGES_PER_ROLL = 50_000
# How long after the last held-out request what is routed still counts as drawn from the same lot.
ARMS_HOURS = 24

KEYS = ("pool", "backend", "replica", "billing", "model", "tier", "tenant", "price_id", "outcome")

OUTCOME = f"""
CASE WHEN status = 'ok' THEN '{Outcome.SERVED}' WHEN status = 'lost' THEN '{Outcome.ROUTER_DIED}'
WHEN status = 'failed' THEN '{Outcome.FAILED}' WHEN fault = 'client_gone' THEN '{Outcome.CLIENT_GONE}'
ELSE '{Outcome.CUT_SHORT}' END
"""
SUMS = {
    "attempts": "count(*)",
    "unpriced": "sum(cost_nanousd IS NULL)",
    "prompt_tokens": "sum(prompt_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cost_nanousd": "ifnull(sum(cost_nanousd), 0)",
    "cost_prompt_nanousd": "ifnull(sum(cost_prompt_nanousd), 0)",
    "cost_cached_nanousd": "ifnull(sum(cost_cached_nanousd), 0)",
    "cost_completion_nanousd": "ifnull(sum(cost_nanousd - cost_prompt_nanousd - cost_cached_nanousd), 0)",
    "standard_nanousd": "ifnull(sum(standard_nanousd), 0)",
    "standard_prompt_nanousd": "ifnull(sum(standard_prompt_nanousd), 0)",
    "standard_cached_nanousd": "ifnull(sum(standard_cached_nanousd), 0)",
    "standard_completion_nanousd": (
        "ifnull(sum(standard_nanousd - standard_prompt_nanousd - standard_cached_nanousd), 0)"
    ),
    "unrated_nanousd": "ifnull(sum(iif(standard_nanousd IS NULL, cost_nanousd, 0)), 0)",
    "baseline_nanousd": "ifnull(sum(iif(cost_nanousd IS NULL, NULL, baseline_nanousd)), 0)",
    "compared_nanousd": "ifnull(sum(iif(baseline_nanousd IS NULL, NULL, cost_nanousd)), 0)",
    "compared_attempts": "sum(baseline_nanousd IS NOT NULL AND cost_nanousd IS NOT NULL)",
}
# A lease's share of its attempts is in its own currency of seconds; what a token costs there by its price is `standard`.
OWN = "ifnull(iif(billing = 'leased', ifnull(standard_nanousd, cost_nanousd), cost_nanousd), 0)"
ARM_SUMS = ("requests", "unpriced", "allocated_nanousd", "allocated_squares", "own_nanousd", "own_squares")

TABLES = f"""
CREATE TABLE rolled (id INTEGER PRIMARY KEY CHECK (id = 1), attempt_id TEXT NOT NULL) STRICT;
INSERT INTO rolled VALUES (1, '');
CREATE TABLE rolled_leases (
    lease_id TEXT PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    bill_nanousd INTEGER NOT NULL,
    idle_nanousd INTEGER NOT NULL
) STRICT;
CREATE TABLE charge_keys (
    key INTEGER PRIMARY KEY,
    {", ".join(f"{name} TEXT NOT NULL" for name in KEYS)},
    UNIQUE ({", ".join(KEYS)})
) STRICT;
CREATE TABLE charge_hours (
    hour INTEGER NOT NULL,
    key INTEGER NOT NULL REFERENCES charge_keys,
    {", ".join(f"{name} INTEGER NOT NULL" for name in SUMS)},
    PRIMARY KEY (hour, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE lease_hours (
    hour INTEGER NOT NULL,
    lease_id TEXT NOT NULL,
    price_id TEXT NOT NULL,
    replica TEXT NOT NULL,
    pool TEXT NOT NULL,
    backend TEXT NOT NULL,
    bill_nanousd INTEGER NOT NULL,
    idle_nanousd INTEGER NOT NULL,
    leased_ns INTEGER NOT NULL,
    PRIMARY KEY (hour, lease_id, price_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE arm_hours (
    hour INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    arm TEXT NOT NULL,
    {", ".join(f"{name} {'REAL' if name.endswith('squares') else 'INTEGER'} NOT NULL" for name in ARM_SUMS)},
    PRIMARY KEY (hour, tenant, arm)
) STRICT, WITHOUT ROWID;
CREATE TABLE arm_totals (
    tenant TEXT NOT NULL,
    arm TEXT NOT NULL,
    {", ".join(f"{name} {'REAL' if name.endswith('squares') else 'INTEGER'} NOT NULL" for name in ARM_SUMS)},
    PRIMARY KEY (tenant, arm)
) STRICT, WITHOUT ROWID;
"""

ROWID_MAX = 2**63 - 1
LAST_ROLLED = "SELECT ifnull((SELECT rowid FROM charges WHERE attempt_id = (SELECT attempt_id FROM rolled)), 0)"
LAST_CHARGE = "SELECT rowid, attempt_id FROM charges WHERE rowid <= ? ORDER BY rowid DESC LIMIT 1"
NEW_CHARGES = "charges WHERE charges.rowid > ? AND charges.rowid <= ?"
ADD_KEYS = f"""
INSERT OR IGNORE INTO charge_keys ({", ".join(KEYS)})
SELECT DISTINCT {", ".join(KEYS[:-1])}, {OUTCOME} FROM {NEW_CHARGES}
"""
ADD_CHARGES = f"""
INSERT INTO charge_hours (hour, key, {", ".join(SUMS)})
SELECT hour, key, {", ".join(f"new.{name}" for name in SUMS)} FROM (
    SELECT ended_ns / {NS_PER_HOUR} AS hour, {", ".join(KEYS[:-1])}, {OUTCOME} AS outcome,
        {", ".join(f"{what} AS {name}" for name, what in SUMS.items())}
    FROM {NEW_CHARGES} GROUP BY 1, {", ".join(KEYS[:-1])}, outcome
) AS new JOIN charge_keys USING ({", ".join(KEYS)}) WHERE TRUE
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}
"""


def _earlier(amount: str) -> str:
    """What the attempts before this one at the same request came to: (a + b)² − a² = b² + 2ab."""
    return f"""
    ifnull(iif(number = 1, 0, (
        SELECT sum({amount}) FROM charges AS earlier
        WHERE earlier.attempt_id > charges.request_id || '.' AND earlier.attempt_id < charges.request_id || '/'
        AND earlier.number < charges.number
    )), 0)
    """


def _squares(amount: str) -> str:
    return f"sum(CAST({amount} AS REAL) * ({amount} + 2 * {_earlier(amount)}))"


COST = "ifnull(cost_nanousd, 0)"
NEW_ARMS = f"""
SELECT ended_ns / {NS_PER_HOUR}, tenant, iif(reason = '{HOLDOUT_REASON}', '{Arm.HOLDOUT}', '{Arm.ROUTED}'),
    sum(number = 1), sum(cost_nanousd IS NULL), sum({COST}), {_squares(COST)}, sum({OWN}), {_squares(OWN)}
FROM {NEW_CHARGES} AND asked_model = '{HOLDOUT_MODEL}' GROUP BY 1, 2, 3
"""
_ADD_SUMS = ", ".join(f"{name} = {name} + excluded.{name}" for name in ARM_SUMS)
_ARM_MARKS = ", ".join("?" * len(ARM_SUMS))
ADD_ARM_HOUR = f"""
INSERT INTO arm_hours (hour, tenant, arm, {", ".join(ARM_SUMS)}) VALUES (?, ?, ?, {_ARM_MARKS})
ON CONFLICT DO UPDATE SET {_ADD_SUMS}
"""
ADD_ARM_TOTAL = f"""
INSERT INTO arm_totals (tenant, arm, {", ".join(ARM_SUMS)}) VALUES (?, ?, {_ARM_MARKS})
ON CONFLICT DO UPDATE SET {_ADD_SUMS}
"""
HELD_OUT_LATELY = (
    f"SELECT EXISTS (SELECT 1 FROM arm_hours WHERE hour BETWEEN ? - {ARMS_HOURS} AND ? AND arm = '{Arm.HOLDOUT}')"
)
READ_ARM_TOTALS = f"SELECT arm, tenant, {', '.join(ARM_SUMS)} FROM arm_totals"
# What the hours have, and what it should be.
ARM_AMOUNTS = tuple(name for name in ARM_SUMS if not name.endswith("squares"))
HERE_CHARGES = "SELECT * FROM charge_hours JOIN charge_keys USING (key) WHERE hour >= :first"
CHARGED = f"""
SELECT ended_ns / {NS_PER_HOUR} AS hour, {", ".join(KEYS[:-1])}, {OUTCOME} AS outcome,
    {", ".join(f"{what} AS {name}" for name, what in SUMS.items())}
FROM charges WHERE rowid <= :until GROUP BY 1, {", ".join(KEYS[:-1])}, outcome
"""
HERE_ARMS = "SELECT * FROM arm_hours WHERE hour >= :first"
CHARGED_ARMS = f"""
SELECT ended_ns / {NS_PER_HOUR} AS hour, tenant, iif(reason = '{HOLDOUT_REASON}', '{Arm.HOLDOUT}', '{Arm.ROUTED}') AS arm,
    sum(number = 1) AS requests, sum(cost_nanousd IS NULL) AS unpriced, sum({COST}) AS allocated_nanousd,
    sum({OWN}) AS own_nanousd
FROM charges WHERE rowid <= :until AND asked_model = '{HOLDOUT_MODEL}' GROUP BY 1, 2, 3
"""
HERE_LEASES = "SELECT lease_id, bill_nanousd, idle_nanousd FROM lease_hours"
ROLLED_LEASES = "SELECT lease_id, bill_nanousd, idle_nanousd FROM rolled_leases"
MOVED_LEASES = """
SELECT lease_id, replica, pool, backend, price_id, leases.at_ns, leases.bill_nanousd, leases.idle_nanousd,
    ifnull(rolled.at_ns, started_ns), ifnull(rolled.bill_nanousd, 0), ifnull(rolled.idle_nanousd, 0)
FROM leases LEFT JOIN rolled_leases AS rolled USING (lease_id)
WHERE rolled.lease_id IS NULL OR leases.at_ns > rolled.at_ns
    OR leases.bill_nanousd <> rolled.bill_nanousd OR leases.idle_nanousd <> rolled.idle_nanousd
"""
ADD_LEASE = """
INSERT INTO lease_hours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET bill_nanousd = bill_nanousd + excluded.bill_nanousd,
    idle_nanousd = idle_nanousd + excluded.idle_nanousd, leased_ns = leased_ns + excluded.leased_ns
"""
KEEP_LEASE = """
INSERT INTO rolled_leases VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    at_ns = excluded.at_ns, bill_nanousd = excluded.bill_nanousd, idle_nanousd = excluded.idle_nanousd
"""


def roll(connection: sqlite3.Connection) -> int:
    """Add to the hours what has come since the last time, inside the caller's transaction. How many charges still wait."""
    waiting = _roll_charges(connection)
    _roll_leases(connection)
    return waiting


def _roll_charges(connection: sqlite3.Connection) -> int:
    # By the attempt's name and not by its row's number, which a VACUUM may change.
    (after,) = connection.execute(LAST_ROLLED).fetchone()
    last, _ = connection.execute(LAST_CHARGE, (ROWID_MAX,)).fetchone() or (0, "")
    if last <= after:
        return 0
    # Row numbers may have gaps, but what lies behind the last one that was rolled is there.
    until, last_attempt_id = connection.execute(LAST_CHARGE, (min(last, after + CHARGES_PER_ROLL),)).fetchone()
    for statement in (ADD_KEYS, ADD_CHARGES):
        connection.execute(statement, (after, until))
    arms = connection.execute(NEW_ARMS, (after, until)).fetchall()
    connection.executemany(ADD_ARM_HOUR, arms)
    for hour, *arm in arms:
        if connection.execute(HELD_OUT_LATELY, (hour, hour)).fetchone()[0]:
            connection.execute(ADD_ARM_TOTAL, arm)
    connection.execute("UPDATE rolled SET attempt_id = ?", (last_attempt_id,))
    return int(last - until)


def _roll_leases(connection: sqlite3.Connection) -> None:
    for lease_id, replica, pool, backend, price_id, *balances in connection.execute(MOVED_LEASES).fetchall():
        at_ns, bill, idle, before_ns, bill_before, idle_before = balances
        for hour, bill_part, idle_part, leased_ns in by_hour(before_ns, at_ns, bill - bill_before, idle - idle_before):
            row = (hour, lease_id, price_id, replica, pool, backend, bill_part, idle_part, leased_ns)
            connection.execute(ADD_LEASE, row)
        connection.execute(KEEP_LEASE, (lease_id, at_ns, bill, idle))


def differences(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str, int, int]]:
    """For an audit: table, row, column, what the hours have and what they were rolled up from sums to, wherever the two differ;
    of the hours whose charges are still there. Squares are left out: sums of floats go by their order."""
    (until,) = connection.execute(LAST_ROLLED).fetchone()
    (first,) = connection.execute(f"SELECT ifnull(min(ended_ns), 0) / {NS_PER_HOUR} FROM charges").fetchone()
    for table, keys, names, here, there in (
        ("charge_hours", ("hour", *KEYS), tuple(SUMS), HERE_CHARGES, CHARGED),
        ("arm_hours", ("hour", "tenant", "arm"), ARM_AMOUNTS, HERE_ARMS, CHARGED_ARMS),
        ("lease_hours", ("lease_id",), ("bill_nanousd", "idle_nanousd"), HERE_LEASES, ROLLED_LEASES),
    ):
        columns = ", ".join((*keys, *names))
        sums = ", ".join(f"sum(is_here * {name}), sum((1 - is_here) * {name})" for name in names)
        differs = " OR ".join(f"sum((2 * is_here - 1) * {name}) <> 0" for name in names)
        for row in connection.execute(
            f"""
            SELECT {", ".join(keys)}, {sums} FROM (
                SELECT 1 AS is_here, {columns} FROM ({here}) UNION ALL SELECT 0, {columns} FROM ({there})
            ) GROUP BY {", ".join(keys)} HAVING {differs} ORDER BY {", ".join(keys)}
            """,
            {"until": until, "first": first},
        ):
            amounts = row[len(keys) :]
            for name, is_, should_be in zip(names, amounts[::2], amounts[1::2], strict=True):
                if is_ != should_be:
                    yield table, " ".join(map(str, row[: len(keys)])), name, is_, should_be


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
