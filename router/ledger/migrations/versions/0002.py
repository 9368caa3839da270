"""Totals are moved by the writer, many rows at a time, no longer by a trigger."""

from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    op.execute("DROP TRIGGER IF EXISTS charges_total")
