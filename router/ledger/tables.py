"""The tables of a ledger, the same in SQLite and in PostgreSQL; what is not the same says for which of them it is.

A change here is a new revision in `migrations/`, which a ledger of an older jeton goes through; a fresh one is made from this
file. Statements are SQL that both engines take (`database.py`), so only tables are declared here.

*Journal* and *charges* are what grows, and are cut by the month in which they were booked: in PostgreSQL into partitions
(`partitions.py`), whose own indices hold what is unique. Months never go back as `seq` goes on, so a month is one piece of the
journal, and the charges of a month are those that this piece closed. A subject's kind is unique: an event that is delivered
twice is one event. `seq` orders the journal, is never reused and leaves no gap; a charge has that of the event that closed it.

The *position* is the last checkpoint: leases are booked up to `at_ns`, and events up to `seq` are in their states. `detail` holds
what an event says beyond its columns (`rows.py`), so that all other tables can be derived from journal, prices and position
alone, for every event after `whole_from_seq`; what an older jeton wrote up to there has less. Where a month was pruned, *pruned*
has what the rest goes on from. `term` counts the accountants that PostgreSQL has seen (`postgres.py`). Totals are kept in the
order in which they first appeared (`number`).
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from router.ledger import rollups, rows

Number = BigInteger().with_variant(Integer(), "sqlite")
Real: Any = Double().with_variant(REAL(), "sqlite")
# In PostgreSQL too by code points: ids are looked for by what they begin with.
Words = Text().with_variant(Text(collation="C"), "postgresql")

# Of a charge.
MAY_BE_UNKNOWN = frozenset(
    {
        "first_token_ns",
        "provider_cost_nanousd",
        "cost_nanousd",
        "standard_nanousd",
        "baseline_nanousd",
        "cost_prompt_nanousd",
        "cost_cached_nanousd",
        "standard_prompt_nanousd",
        "standard_cached_nanousd",
    }
)
NUMBERS = frozenset({"number", "http_status", "attempts", "unpriced", "requests", "compared_attempts"})
STRICT: dict[str, Any] = {"sqlite_strict": True}
CLUSTERED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
BY_MONTH: dict[str, Any] = {"sqlite_strict": True, "postgresql_partition_by": "RANGE (month)"}

metadata = MetaData()


def _numbers(*names: str) -> list[Column[int]]:
    return [Column(name, Number, nullable=False, autoincrement=False) for name in names]


def _words(*names: str) -> list[Column[str]]:
    return [Column(name, Words, nullable=False) for name in names]


def _column(name: str, *, may_be_unknown: bool = False) -> Column[Any]:
    """Of the kind that its name says, whose end is its unit."""
    kind: Any = Words
    if name in NUMBERS or name.endswith(("_ns", "_nanousd", "_tokens", "_estimate")):
        kind = Number
    elif name.endswith(("_seconds", "_squares")):
        kind = Real
    return Column(name, kind, nullable=may_be_unknown, autoincrement=False)


journal = Table(
    "journal",
    metadata,
    *_numbers("seq"),
    Column("month", Integer, nullable=False),
    Column("worker", Words, nullable=False, server_default=""),
    *_words("subject", "kind"),
    *_numbers("at_ns"),
    *_words("lease_id"),
    *_numbers("amount"),
    Column("detail", Words),
    PrimaryKeyConstraint("seq").ddl_if(dialect="sqlite"),
    UniqueConstraint("subject", "kind").ddl_if(dialect="sqlite"),
    **BY_MONTH,
)

charges = Table(
    "charges",
    metadata,
    *_numbers("seq"),
    Column("month", Integer, nullable=False),
    *(_column(name, may_be_unknown=name in MAY_BE_UNKNOWN) for name in rows.CHARGE_COLUMNS),
    PrimaryKeyConstraint("seq").ddl_if(dialect="sqlite"),
    UniqueConstraint("attempt_id").ddl_if(dialect="sqlite"),
    Index("charges_ended", "ended_ns"),
    **BY_MONTH,
)

Table(
    "totals",
    metadata,
    Column("number", Number, Identity(), primary_key=True),
    *map(_column, rows.LINE_COLUMNS[:-1]),
    Column("lost_nanousd", Number, nullable=False, server_default=text("0")),
    UniqueConstraint(*rows.LINE_KEYS),
    **STRICT,
)

Table(
    "leases",
    metadata,
    Column("lease_id", Words, primary_key=True),
    *_words("replica", "pool", "backend", "price_id"),
    *_numbers("started_ns", "at_ns"),
    Column("ended_ns", Number),
    *_numbers("bill_nanousd", "idle_nanousd"),
    Column("state", Words),
    *_numbers("state_seq"),
    **STRICT,
)

Table(
    "position",
    metadata,
    Column("id", Number, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    *_numbers("at_ns"),
    Column("seq", Number, nullable=False, server_default=text("0")),
    *_numbers("open_from_seq"),
    Column("whole_from_seq", Number, nullable=False, server_default=text("0")),
    Column("term", Number, nullable=False, server_default=text("0")),
    **STRICT,
)

# sha256: of the snapshot. A rate that is off by little need not show in any charge.
Table("prices", metadata, Column("price_id", Words, primary_key=True), *_words("snapshot", "sha256"), **STRICT)

Table(
    "spending",
    metadata,
    *_words("tenant", "api_key_name"),
    *_numbers("day", "cost_nanousd"),
    PrimaryKeyConstraint("tenant", "api_key_name", "day"),
    **CLUSTERED,
)

Table("identity", metadata, *_words("ledger_id"), **STRICT)

# One row at most: all before `month`, which is the journal up to `seq`, is gone; `kept` is what was open then and the totals
# of what is gone, as JSON (`retention.py`).
Table(
    "pruned",
    metadata,
    Column("id", Number, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("month", Integer, nullable=False),
    *_numbers("seq"),
    *_words("kept"),
    **STRICT,
)

# Several workers: `workers.py`.
Table(
    "workers",
    metadata,
    Column("worker", Words, primary_key=True),
    *_words("state"),
    *_numbers("started_ns", "watermark_ns", "beats", "reported_seq", "booked_seq"),
    *_words("in_flight"),
    Column("awake", Words, nullable=False, server_default="{}"),
    **CLUSTERED,
)

Table(
    "reports",
    metadata,
    *_words("worker"),
    *_numbers("seq"),
    *_words("subject", "kind"),
    *_numbers("at_ns"),
    Column("detail", Words),
    PrimaryKeyConstraint("worker", "seq"),
    **CLUSTERED,
)

Table(
    "corrections",
    metadata,
    *_numbers("seq", "booked_ns", "corrected_nanousd"),
    *(_column(name, may_be_unknown=name in MAY_BE_UNKNOWN) for name in rows.CHARGE_COLUMNS),
    PrimaryKeyConstraint("attempt_id"),
    **STRICT,
)

# Spot replicas that were taken away, and how long how many were there: `preemptions.py`. Nothing of it is in the journal.
preemptions = Table(
    "preemptions",
    metadata,
    *_words("replica"),
    *_numbers("taken_ns"),
    *_words("backend", "pool", "why"),
    Column("until_ns", Number),
    *_numbers("is_back"),
    PrimaryKeyConstraint("replica", "taken_ns"),
    **CLUSTERED,
)
# A replica is away once.
Index(
    "preemptions_away",
    preemptions.c.replica,
    unique=True,
    sqlite_where=preemptions.c.until_ns.is_(None),
    postgresql_where=preemptions.c.until_ns.is_(None),
)

Table(
    "watched_days",
    metadata,
    *_words("backend"),
    *_numbers("day", "until_ns", "watched_ns"),
    PrimaryKeyConstraint("backend", "day"),
    **CLUSTERED,
)

# The hours: `rollups.py`.
Table(
    "rolled",
    metadata,
    Column("id", Number, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    *_numbers("seq"),
    **STRICT,
)

Table(
    "rolled_leases",
    metadata,
    Column("lease_id", Words, primary_key=True),
    *_numbers("at_ns", "bill_nanousd", "idle_nanousd"),
    **STRICT,
)

Table(
    "charge_keys",
    metadata,
    Column("key", Number, Identity(), primary_key=True),
    *_words(*rollups.KEYS),
    UniqueConstraint(*rollups.KEYS),
    **STRICT,
)

Table(
    "charge_hours",
    metadata,
    *_numbers("hour"),
    Column("key", Number, ForeignKey("charge_keys.key"), nullable=False),
    *_numbers(*rollups.SUMS),
    PrimaryKeyConstraint("hour", "key"),
    **CLUSTERED,
)

Table(
    "lease_hours",
    metadata,
    *_numbers("hour"),
    *_words("lease_id", "price_id", "replica", "pool", "backend"),
    *_numbers("bill_nanousd", "idle_nanousd", "leased_ns"),
    PrimaryKeyConstraint("hour", "lease_id", "price_id"),
    **CLUSTERED,
)

Table(
    "arm_hours",
    metadata,
    *_numbers("hour"),
    *_words("tenant", "arm"),
    *map(_column, rollups.ARM_SUMS),
    PrimaryKeyConstraint("hour", "tenant", "arm"),
    **CLUSTERED,
)

Table(
    "arm_totals",
    metadata,
    *_words("tenant", "arm"),
    *map(_column, rollups.ARM_SUMS),
    PrimaryKeyConstraint("tenant", "arm"),
    **CLUSTERED,
)

# Every ledger has these rows from its beginning.
FIRST_ROWS = (
    "INSERT INTO position (id, at_ns, open_from_seq) VALUES (1, 0, 0)",
    "INSERT INTO rolled (id, seq) VALUES (1, 0)",
)
