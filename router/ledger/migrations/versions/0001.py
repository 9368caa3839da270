"""Where the first ledgers stand: SQLite, totals moved by a trigger."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Files of this version are stamped with it, none is made."""
