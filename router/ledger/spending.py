"""What each API key has spent on each day (UTC): a table of its own beside the charges, moved in the commit that adds them.

Budgets read it: a day, a month or all of a tenant's time is a sum of few rows, however many charges there are. It follows
from the charges and the totals: where the three do not agree (an older jeton has written here), it is made again. The
ledger's id lies here too: by it other routers know whose spending they are told.
"""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple
from uuid import uuid4

from router.domain.budget import DAY_NS, Span

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS spending (
        tenant TEXT NOT NULL,
        api_key_name TEXT NOT NULL,
        day INTEGER NOT NULL,
        cost_nanousd INTEGER NOT NULL,
        PRIMARY KEY (tenant, api_key_name, day)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS identity (ledger_id TEXT NOT NULL) STRICT",
)
_SUMS = f"SELECT tenant, api_key_name, ended_ns / {DAY_NS}, sum(cost_nanousd) FROM charges WHERE cost_nanousd NOT NULL"
# As `MOVE_TOTALS` in `sqlite.py`: the parameter is the last row that was there before.
MOVE_SPENDING = f"""
INSERT INTO spending {_SUMS} AND rowid > ? GROUP BY 1, 2, 3
ON CONFLICT DO UPDATE SET cost_nanousd = cost_nanousd + excluded.cost_nanousd
"""
_FIRST_DAY = f"(SELECT ifnull(min(ended_ns), 0) / {DAY_NS} FROM charges)"
_AGREE = """
SELECT (SELECT ifnull(sum(cost_nanousd), 0) FROM spending) =
    (SELECT ifnull(sum(cost_nanousd), 0) FROM totals) + (SELECT ifnull(sum(corrected_nanousd), 0) FROM corrections)
"""
# What a late worker's word has added or taken away, on the day on which it was booked (`workers.py`).
_CORRECTED = f"""
SELECT tenant, api_key_name, booked_ns / {DAY_NS}, sum(corrected_nanousd) FROM corrections
WHERE booked_ns / {DAY_NS} >= {_FIRST_DAY} GROUP BY 1, 2, 3
"""


class SpentQuestion(NamedTuple):
    """What was spent by a tenant, or one key of it (""), in a period whose bounds are midnights."""

    tenant: str
    api_key_name: str
    span: Span


def prepare_spending(connection: sqlite3.Connection) -> str:
    """Make the tables if they are missing, and right if they are not. Returns the ledger's id."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in TABLES:
            connection.execute(table)
        (agree,) = connection.execute(_AGREE).fetchone()
        if not agree:
            connection.execute(f"DELETE FROM spending WHERE day >= {_FIRST_DAY}")
            connection.execute(MOVE_SPENDING, (-1,))
            connection.execute(
                f"INSERT INTO spending {_CORRECTED}"
                " ON CONFLICT DO UPDATE SET cost_nanousd = cost_nanousd + excluded.cost_nanousd"
            )
        found = connection.execute("SELECT ledger_id FROM identity").fetchone()
        if found is None:
            found = (uuid4().hex,)
            connection.execute("INSERT INTO identity VALUES (?)", found)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return str(found[0])


def spending_differences(connection: sqlite3.Connection) -> list[tuple[str, str, int, int, int]]:
    """For an audit: tenant, key, day, what this table has and what the charges sum to, wherever the two differ; of the days
    whose charges are still there. A ledger that no router with budgets has opened yet has no such table, and no differences."""
    if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'spending'").fetchone()[0]:
        return []
    return connection.execute(
        f"""
        SELECT tenant, api_key_name, day, sum(here), sum(charged) FROM (
            SELECT tenant, api_key_name, day, cost_nanousd AS here, 0 AS charged FROM spending WHERE day >= {_FIRST_DAY}
            UNION ALL SELECT tenant, api_key_name, ended_ns / {DAY_NS}, 0, cost_nanousd FROM charges
            WHERE cost_nanousd NOT NULL
            UNION ALL SELECT tenant, api_key_name, booked_ns / {DAY_NS}, 0, corrected_nanousd FROM corrections
            WHERE booked_ns / {DAY_NS} >= {_FIRST_DAY}
        ) GROUP BY 1, 2, 3 HAVING sum(here) <> sum(charged) ORDER BY 1, 2, 3
        """
    ).fetchall()


def read_spent(connection: sqlite3.Connection, questions: Iterable[SpentQuestion]) -> list[int]:
    """Nano-dollars, an amount for each question."""
    return [_read(connection, *question) for question in questions]


def _read(connection: sqlite3.Connection, tenant: str, api_key_name: str, span: Span) -> int:
    sql = "SELECT ifnull(sum(cost_nanousd), 0) FROM spending WHERE tenant = ? AND day >= ?"
    parameters: list[str | int] = [tenant, span.start_ns // DAY_NS]
    if span.end_ns is not None:
        sql += " AND day < ?"
        parameters.append(span.end_ns // DAY_NS)
    if api_key_name:
        sql += " AND api_key_name = ?"
        parameters.append(api_key_name)
    (amount,) = connection.execute(sql, parameters).fetchone()
    return int(amount)
