"""The journal says how attempts ended, the ledger what its prices were. For what was booked by then, the charges themselves are
the record."""

from alembic import op

revision = "3"
down_revision = "2"

STATEMENTS = (
    "ALTER TABLE journal RENAME COLUMN opening TO detail",
    "ALTER TABLE position ADD COLUMN seq INTEGER NOT NULL DEFAULT 0",
    "UPDATE position SET seq = (SELECT ifnull(max(state_seq), 0) FROM leases)",
    "UPDATE leases SET state_seq = 0 WHERE ended_ns IS NOT NULL",
    "ALTER TABLE position ADD COLUMN whole_from_seq INTEGER NOT NULL DEFAULT 0",
    "UPDATE position SET whole_from_seq = (SELECT ifnull(max(seq), 0) FROM journal)",
    "CREATE TABLE prices (price_id TEXT PRIMARY KEY, snapshot TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
