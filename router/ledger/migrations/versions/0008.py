"""A row of `reports` may have several events: an older jeton could not book them."""

revision = "8"
down_revision = "7"


def upgrade() -> None:
    """The tables are the same, and rows with one event are still read."""
