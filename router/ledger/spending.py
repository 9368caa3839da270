"""What each API key has spent on each day (UTC): a table of its own beside the charges, moved in the commit that adds them.

Budgets read it: a day, a month or all of a tenant's time is a sum of few rows, however many charges there are. It follows
from the charges and the totals: where the three do not agree (an older jeton has written here), it is made again. The
ledger's id lies here too: by it other routers know whose spending they are told.
"""

from collections.abc import Iterable
from uuid import uuid4

from router.domain.budget import DAY_NS, Span
from router.ledger.database import Database, Engine
from router.ledger.pruned import pruned_ns
from router.ledger.store import SpentQuestion

_SUMS = f"""
SELECT tenant, api_key_name, ended_ns / {DAY_NS} AS day, sum(cost_nanousd) AS cost_nanousd FROM charges
WHERE cost_nanousd IS NOT NULL
"""
# As `MOVE_TOTALS` in `batch.py`.
MOVE_SPENDING = f"""
INSERT INTO spending (tenant, api_key_name, day, cost_nanousd) {_SUMS} AND month >= :month AND seq > :after GROUP BY 1, 2, 3
ON CONFLICT (tenant, api_key_name, day) DO UPDATE SET cost_nanousd = spending.cost_nanousd + excluded.cost_nanousd
"""
_AGREE = """
SELECT (SELECT coalesce(sum(cost_nanousd), 0) FROM spending) =
    (SELECT coalesce(sum(cost_nanousd), 0) FROM totals) + (SELECT coalesce(sum(corrected_nanousd), 0) FROM corrections)
"""
# What a late worker's word has added or taken away, on the day on which it was booked (`workers.py`).
_CORRECTED = f"""
SELECT tenant, api_key_name, booked_ns / {DAY_NS}, sum(corrected_nanousd) FROM corrections WHERE booked_ns >= :since
GROUP BY 1, 2, 3
"""
ADD_SPENDING = (
    "ON CONFLICT (tenant, api_key_name, day) DO UPDATE SET cost_nanousd = spending.cost_nanousd + excluded.cost_nanousd"
)


def prepare_spending(database: Database) -> str:
    """Inside a transaction: make the table right if it is not. Returns the ledger's id."""
    if database.engine is Engine.POSTGRESQL:
        # One by one: of several that start at once on a ledger that is new each would give it an id (in SQLite a transaction is
        # alone anyway).
        database.execute("LOCK TABLE identity IN EXCLUSIVE MODE")
    (agree,) = database.execute(_AGREE).fetchone()
    if not agree:
        since_ns = pruned_ns(database)
        database.execute("DELETE FROM spending WHERE day >= :first", {"first": since_ns // DAY_NS})
        database.execute(
            f"INSERT INTO spending (tenant, api_key_name, day, cost_nanousd) {_SUMS} AND ended_ns >= :since GROUP BY 1, 2, 3",
            {"since": since_ns},
        )
        database.execute(
            f"INSERT INTO spending (tenant, api_key_name, day, cost_nanousd) {_CORRECTED} {ADD_SPENDING}",
            {"since": since_ns},
        )
    found = database.execute("SELECT ledger_id FROM identity").fetchone()
    if found is None:
        found = (uuid4().hex,)
        database.execute("INSERT INTO identity (ledger_id) VALUES (:ledger_id)", {"ledger_id": found[0]})
    return str(found[0])


def spending_differences(database: Database) -> list[tuple[str, str, int, int, int]]:
    """For an audit: tenant, key, day, what this table has and what the charges sum to, wherever the two differ; of the days
    whose charges are still there."""
    since_ns = pruned_ns(database)
    return database.execute(
        f"""
        SELECT tenant, api_key_name, day, sum(here), sum(charged) FROM (
            SELECT tenant, api_key_name, day, cost_nanousd AS here, 0 AS charged FROM spending WHERE day >= :first
            UNION ALL SELECT tenant, api_key_name, ended_ns / {DAY_NS}, 0, cost_nanousd FROM charges
            WHERE cost_nanousd IS NOT NULL AND ended_ns >= :since
            UNION ALL SELECT tenant, api_key_name, booked_ns / {DAY_NS}, 0, corrected_nanousd FROM corrections
            WHERE booked_ns >= :since
        ) AS both_of_them GROUP BY tenant, api_key_name, day HAVING sum(here) <> sum(charged) ORDER BY 1, 2, 3
        """,
        {"first": since_ns // DAY_NS, "since": since_ns},
    ).fetchall()


def read_spent(database: Database, questions: Iterable[SpentQuestion]) -> list[int]:
    """Nano-dollars, an amount for each question."""
    return [_read(database, *question) for question in questions]


def _read(database: Database, tenant: str, api_key_name: str, span: Span) -> int:
    sql = "SELECT coalesce(sum(cost_nanousd), 0) FROM spending WHERE tenant = :tenant AND day >= :first"
    parameters: dict[str, str | int] = {"tenant": tenant, "first": span.start_ns // DAY_NS}
    if span.end_ns is not None:
        sql += " AND day < :end"
        parameters["end"] = span.end_ns // DAY_NS
    if api_key_name:
        sql += " AND api_key_name = :api_key_name"
        parameters["api_key_name"] = api_key_name
    (amount,) = database.execute(sql, parameters).fetchone()
    return int(amount)
