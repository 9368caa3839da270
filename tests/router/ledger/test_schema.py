"""Ledgers are made, and brought up to date, whole or not at all; what comes out of both ways is the same."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory
from bookkeeping import (
    OF_PREEMPTIONS,
    OF_SEVERAL_WORKERS,
    make_version_2,
    make_version_3,
    make_version_4,
    make_version_6,
)
from ledgers import Place
from postgres_server import PostgresServer
from sqlalchemy import create_engine, inspect

from router.ledger import schema
from router.ledger.address import PostgresAddress
from router.ledger.rows import CHARGE_COLUMNS, EVENT_COLUMNS, LEASE_COLUMNS, LINE_COLUMNS, PLACED_CHARGE_COLUMNS
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerError
from router.ledger.tables import metadata


def shape(path: Path) -> dict[str, object]:
    """Tables with their columns, what is unique in them, and how they are stored."""
    with closing(sqlite3.connect(path)) as connection:
        found: dict[str, object] = {}
        for name, without_rowid, strict in connection.execute(
            "SELECT name, wr, strict FROM pragma_table_list"
        ).fetchall():
            if name.startswith("sqlite_"):
                continue
            info = connection.execute(f"PRAGMA table_info({name})")
            columns = {column: (kind, bool(not_null or key)) for _, column, kind, not_null, _, key in info}
            indices = sorted(
                (unique, tuple(column[2] for column in connection.execute(f"PRAGMA index_info('{index}')")))
                for _, index, unique, *_ in connection.execute(f"PRAGMA index_list({name})").fetchall()
            )
            found[name] = (columns, indices, without_rowid, strict)
        return found


@pytest.mark.parametrize("make_older", [make_version_6, make_version_4, make_version_3, make_version_2])
def test_an_older_ledger_becomes_what_a_fresh_one_is(tmp_path: Path, make_older: Callable[[Path], None]) -> None:
    old, fresh = tmp_path / "old.sqlite", tmp_path / "fresh.sqlite"
    for path in (old, fresh):
        SqliteLedger(path).close()
    make_older(old)
    assert shape(old) != shape(fresh)
    SqliteLedger(old).close()
    assert shape(old) == shape(fresh)
    for path in (old, fresh):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(str(schema.VERSION),)]


def test_an_older_ledger_in_postgresql_becomes_what_a_fresh_one_is(
    postgres: PostgresAddress, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    old, fresh = Place(postgres, tmp_path), Place(postgres_server.database(), tmp_path)
    for place in (old, fresh):
        place.open().close()
    old.change(
        "DROP TABLE workers, reports, corrections, preemptions, watched_days",
        "ALTER TABLE totals DROP COLUMN lost_nanousd",
        "UPDATE alembic_version SET version_num = '5'",
    )
    with pytest.raises(LedgerError, match="older jeton"):
        schema.open_reader(postgres)
    old.open().close()
    assert old.rows(columns) == fresh.rows(columns)
    assert old.rows("SELECT version_num FROM alembic_version") == [(str(schema.VERSION),)]
    assert isinstance(fresh.address, PostgresAddress)
    postgres_server.drop(fresh.address)


def test_the_newest_revision_is_the_version_of_the_program() -> None:
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert scripts.get_heads() == [str(schema.VERSION)]
    assert [script.revision for script in scripts.walk_revisions()] == [str(n) for n in range(schema.VERSION, 0, -1)]


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteLedger(path).close()
    make_version_2(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE pruned (mine INTEGER)")  # which the last revision will want to make
    before = shape(path)
    with pytest.raises(LedgerError, match="pruned already exists"):
        SqliteLedger(path)
    assert shape(path) == before
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE pruned")
    SqliteLedger(path).close()


def test_the_tables_have_the_columns_that_rows_are_written_by(place: Place) -> None:
    assert [column.name for column in metadata.tables["charges"].columns] == list(PLACED_CHARGE_COLUMNS)
    assert {column.name for column in metadata.tables["journal"].columns} == {*EVENT_COLUMNS, "worker"}
    assert [column.name for column in metadata.tables["leases"].columns] == list(LEASE_COLUMNS)
    assert [column.name for column in metadata.tables["totals"].columns] == ["number", *LINE_COLUMNS]
    place.open().close()
    for table in metadata.sorted_tables:
        names = ", ".join(column.name for column in table.columns)
        place.rows(f"SELECT {names} FROM {table.name}")
    assert set(CHARGE_COLUMNS) < set(PLACED_CHARGE_COLUMNS)


def test_in_postgresql_what_may_be_empty_is_what_may_be_empty_in_a_file(
    postgres: PostgresAddress, tmp_path: Path
) -> None:
    Place(postgres, tmp_path).open().close()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(postgres.url))
    inspector = inspect(engine)
    for table in metadata.sorted_tables:
        there = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert there == {column.name: column.nullable for column in table.columns}, table.name
    engine.dispose()


def test_partitions_are_there_before_they_are_needed_and_keep_what_is_unique(
    postgres: PostgresAddress, tmp_path: Path
) -> None:
    place = Place(postgres, tmp_path)
    place.open().close()
    partitions = place.rows(
        "SELECT inhparent::regclass::text, count(*) FROM pg_inherits"
        " WHERE inhparent::regclass::text IN ('journal', 'charges') GROUP BY 1 ORDER BY 1"
    )
    assert partitions == [("charges", 3), ("journal", 3)]
    unique = place.rows(
        "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE 'CREATE UNIQUE%' AND tablename ~ '^(journal|charges)_'"
    )
    assert len(unique) == 2 * 2 * 3


def test_a_serving_router_does_not_import_what_only_changes_tables(tmp_path: Path) -> None:
    """150 ms and 20 MB of every start."""
    SqliteLedger(tmp_path / "ledger.sqlite").close()
    program = (
        "import sys; from pathlib import Path; import router.app; from router.ledger.sqlite import SqliteLedger;"
        f" SqliteLedger(Path({str(tmp_path / 'ledger.sqlite')!r})).close();"
        " print(sorted({name.partition('.')[0] for name in sys.modules} & {'sqlalchemy', 'alembic', 'psycopg'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def columns(place: Place) -> list[tuple[object, ...]]:
    """Of every table, as the engine describes them."""
    if isinstance(place.address, Path):
        return place.rows(
            'SELECT m.name, p.name, p.type, p."notnull", p.pk FROM sqlite_master AS m, pragma_table_info(m.name) AS p'
        )
    return place.rows(
        """
        SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY table_name, ordinal_position
        """
    )


def test_a_ledger_of_one_process_becomes_one_that_several_may_share_in_either_engine(place: Place) -> None:
    place.open().close()
    fresh = columns(place)
    place.change(
        *(f"DROP TABLE {name}" for name in (*OF_SEVERAL_WORKERS, *OF_PREEMPTIONS)),
        "ALTER TABLE totals DROP COLUMN lost_nanousd",
        "UPDATE alembic_version SET version_num = '5'",
    )
    if isinstance(place.address, Path):
        with closing(sqlite3.connect(place.address)) as connection:
            connection.execute("PRAGMA user_version = 5")
    place.open().close()
    assert sorted(columns(place)) == sorted(fresh)
