"""Journal and charges in PostgreSQL, a partition for each month: made before it is needed, and dropped whole."""

from router.domain.periods import month_after
from router.ledger.database import transaction
from router.ledger.postgres_database import PostgresDatabase

# A month and those that follow it: so many there are at any time.
MONTHS_AHEAD = 2

# What is unique, and how rows are found. Not on the whole table, where PostgreSQL wants the month in every unique index: an
# event that is delivered twice has the same time, so it meets itself in its own month.
INDICES = {
    "journal": ("UNIQUE INDEX {name}_seq ON {name} (seq)", "UNIQUE INDEX {name}_subject ON {name} (subject, kind)"),
    "charges": ("UNIQUE INDEX {name}_seq ON {name} (seq)", "UNIQUE INDEX {name}_attempt ON {name} (attempt_id)"),
}


def months_there(database: PostgresDatabase) -> set[int]:
    found = database.execute(
        "SELECT relname FROM pg_class JOIN pg_inherits ON oid = inhrelid WHERE inhparent = 'journal'::regclass"
    )
    return {int(name.rpartition("_")[2]) for (name,) in found}


def make_months(database: PostgresDatabase, month: int, there: set[int]) -> None:
    """This month and the next ones, where they are not among `there`; those made are put into it.

    Attaching lets others read and write the table meanwhile, unlike creating a partition in place.
    """
    for _ in range(MONTHS_AHEAD + 1):
        if month not in there:
            with transaction(database):
                for table, indices in INDICES.items():
                    name = f"{table}_{month}"
                    database.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS)")
                    for index in indices:
                        database.execute("CREATE " + index.format(name=name))
                    database.execute(
                        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({month}) TO ({month_after(month)})"
                    )
            there.add(month)
        month = month_after(month)
