"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from ledgers import ENGINES, Place
from postgres_server import PostgresServer

from router.ledger.address import PostgresAddress

# Examples are judged by what they show, not by how long a busy machine takes over them.
settings.register_profile("jeton", deadline=None)
settings.load_profile("jeton")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One for each process that runs tests."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresAddress]:
    """An empty database."""
    address = postgres_server.database()
    yield address
    postgres_server.drop(address)


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a ledger may be made, in each of the engines."""
    if request.param == "sqlite":
        return Place(tmp_path / "var" / "ledger.sqlite", tmp_path)
    return Place(request.getfixturevalue("postgres"), tmp_path)


@pytest.fixture(scope="session")
def mortal_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def own_server(mortal_server: PostgresServer) -> Iterator[PostgresServer]:
    """One that may be killed and frozen; it is there again for the next test."""
    yield mortal_server
    mortal_server.start_again()
    mortal_server.thaw()
