"""What is learned of spot replicas that are taken away is remembered: when, for how long, and how long how many were there."""

from alembic import op

revision = "9"
down_revision = "8"

PREEMPTIONS = """
CREATE TABLE preemptions (
    replica {words} NOT NULL, taken_ns {number} NOT NULL, backend {words} NOT NULL, pool {words} NOT NULL, why {words} NOT NULL,
    until_ns {number}, is_back {number} NOT NULL, PRIMARY KEY (replica, taken_ns)
) {options}
"""
AWAY = "CREATE UNIQUE INDEX preemptions_away ON preemptions (replica) WHERE until_ns IS NULL"
WATCHED = """
CREATE TABLE watched_days (
    backend {words} NOT NULL, day {number} NOT NULL, until_ns {number} NOT NULL, watched_ns {number} NOT NULL,
    PRIMARY KEY (backend, day)
) {options}
"""
SQLITE = {"words": "TEXT", "number": "INTEGER", "options": "STRICT, WITHOUT ROWID"}
POSTGRES = {"words": 'TEXT COLLATE "C"', "number": "BIGINT", "options": ""}


def upgrade() -> None:
    kinds = SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRES
    for statement in (PREEMPTIONS, AWAY, WATCHED):
        op.execute(statement.format(**kinds))
