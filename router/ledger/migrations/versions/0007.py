"""Totals know what of their cost bought no answer: of cancelled attempts they did not say whose client had left.

Of months that were pruned that is in the hours, by account; there it goes to the first of an account's cancelled lines that have
room for it.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from alembic import op
from sqlalchemy import Connection, text

revision = "7"
down_revision = "6"

KEYS = ("pool", "backend", "billing", "model", "tier", "tenant", "status", "usage_source")
ACCOUNT = ", ".join(KEYS[:6])
# In a line as it was kept.
STATUS, COST, MEMBERS = 6, 15, 18
CUT_SHORT = f"""
SELECT {", ".join(KEYS)}, sum(cost_nanousd) FROM charges
WHERE status = 'cancelled' AND fault <> 'client_gone' AND cost_nanousd IS NOT NULL AND seq > :after GROUP BY {", ".join(KEYS)}
"""
CUT_SHORT_BEFORE = f"""
SELECT {ACCOUNT}, sum(cost_nanousd) FROM charge_hours JOIN charge_keys USING (key)
WHERE outcome = 'cut_short' AND hour < :first_hour GROUP BY {ACCOUNT}
"""
ADD = f"UPDATE totals SET lost_nanousd = lost_nanousd + :lost WHERE {' AND '.join(f'{key} = :{key}' for key in KEYS)}"


def upgrade() -> None:
    database = op.get_bind()
    kind = "INTEGER" if database.dialect.name == "sqlite" else "BIGINT"
    database.exec_driver_sql(f"ALTER TABLE totals ADD COLUMN lost_nanousd {kind} DEFAULT 0 NOT NULL")
    database.exec_driver_sql("UPDATE totals SET lost_nanousd = cost_nanousd WHERE status IN ('failed', 'lost')")
    pruned = database.execute(text("SELECT month, seq, kept FROM pruned")).fetchone()
    for *keys, lost in database.execute(text(CUT_SHORT), {"after": 0 if pruned is None else pruned[1]}).fetchall():
        _add(database, keys, lost)
    if pruned is not None:
        month, _, kept = pruned
        _add_pruned(database, month, json.loads(kept))


def _add_pruned(database: Connection, month: int, kept: dict[str, Any]) -> None:
    first_hour = int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp()) // 3600
    found = database.execute(text(CUT_SHORT_BEFORE), {"first_hour": first_hour}).fetchall()
    left: dict[tuple[Any, ...], int] = {tuple(account): int(nanousd) for *account, nanousd in found}
    for line in kept["lines"]:
        account, lost = tuple(line[:STATUS]), 0
        if line[STATUS] in ("failed", "lost"):
            lost = line[COST]
        elif line[STATUS] == "cancelled":
            lost = min(left.get(account, 0), line[COST])
            left[account] = left.get(account, 0) - lost
            _add(database, line[: len(KEYS)], lost)
        line[MEMBERS:] = [lost]
    database.execute(text("UPDATE pruned SET kept = :kept"), {"kept": json.dumps(kept)})


def _add(database: Connection, keys: Any, lost: int) -> None:
    named: Mapping[str, Any] = dict(zip(KEYS, keys, strict=True))
    database.execute(text(ADD), {**named, "lost": int(lost)})
