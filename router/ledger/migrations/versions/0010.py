"""Workers tell one another which replicas that scale to zero are awake."""

from alembic import op

revision = "10"
down_revision = "9"


def upgrade() -> None:
    kind = "TEXT" if op.get_context().dialect.name == "sqlite" else 'TEXT COLLATE "C"'
    op.execute(f"ALTER TABLE workers ADD COLUMN awake {kind} DEFAULT '{{}}' NOT NULL")
