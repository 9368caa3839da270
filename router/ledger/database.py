"""One connection to a ledger's database, whichever it is.

SQL is written once, in what SQLite (3.38 and later) and PostgreSQL both take, with parameters as `:name`. It runs on the driver's
own connection: a statement that is compiled at every call would cost more than the books themselves. What differs between the
two is here and in the files of the two drivers, nowhere else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Protocol

Parameters = Mapping[str, Any]
Row = tuple[Any, ...]


class Engine(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Cursor(Protocol):
    @property
    def description(self) -> Any: ...
    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """error: what the driver raises. Between `begin` and `commit` all is one transaction; outside, every statement is its own."""

    engine: Engine
    error: type[Exception]

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor: ...

    def execute_many(self, sql: str, parameters: Iterable[Parameters], /) -> object: ...

    def insert_new(self, table: str, columns: tuple[str, ...], values: Sequence[Sequence[Any]]) -> None:
        """Many rows, in order, without those whose unique columns are there already."""

    def stream(self, sql: str, parameters: Any = ()) -> Iterator[Row]:
        """Inside a transaction: rows as they come, never all of them in memory."""

    def begin(self) -> None:
        """To write."""

    def begin_reading(self) -> None:
        """One state of the ledger, whatever is written meanwhile."""

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """Nothing where no transaction is under way."""

    def is_away(self, error: Exception) -> bool:
        """Whether this error means that the database is not to be reached; not that data or our SQL are wrong."""

    def close(self) -> None: ...


@contextmanager
def transaction(database: Database) -> Iterator[None]:
    """To write: all that is done inside, or nothing."""
    database.begin()
    try:
        yield
        database.commit()
    except BaseException:
        database.rollback()
        raise


def dicts(cursor: Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
