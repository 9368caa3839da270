"""SQLite and PostgreSQL hold the same: the same books give the same rows, and every reader tells the same of them."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
import two_days
from audited import assert_audit_is_clean
from bookkeeping import FLEET, LARGE, PRICES, PROFILES, SECOND, SMALL, answered, assert_ledger_is_consistent, facts
from click.testing import CliRunner
from ledgers import Place
from postgres_server import PostgresServer

from router.__main__ import main
from router.accounting.accountant import Accountant
from router.accounting.rebuild import rebuild
from router.ledger.address import Address, PostgresAddress
from router.ledger.store import LedgerError
from router.ledger.tables import metadata

START = 1_795_000_000 * SECOND
# Names that are drawn, not derived.
DRAWN = {"identity": {"ledger_id"}, "position": {"term"}}
ENGINES_OWN = {"totals": {"number"}, "charge_keys": {"key"}, "charge_hours": {"key"}}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days, as the reports' tests have them."""
    directory = tmp_path_factory.mktemp("books")
    return two_days.make(directory)


def everything(place: Place) -> dict[str, list[tuple[object, ...]]]:
    rows = {}
    for table in metadata.sorted_tables:
        left_out = DRAWN.get(table.name, set()) | ENGINES_OWN.get(table.name, set())
        names = ", ".join(column.name for column in table.columns if column.name not in left_out)
        source = "charge_hours JOIN charge_keys USING (key)" if table.name == "charge_hours" else table.name
        if names:
            rows[table.name] = sorted(place.rows(f"SELECT {names} FROM {source}"), key=repr)
    return rows


def test_the_same_journal_gives_the_same_rows_in_both(books: Path, postgres: PostgresAddress, tmp_path: Path) -> None:
    file, database = Place(tmp_path / "fresh.sqlite", tmp_path), Place(postgres, tmp_path)
    for fresh in (file, database):
        rebuilt = rebuild(books, fresh.address)
        assert (rebuilt.findings, rebuilt.charges > 1000) == ([], True)
        assert_audit_is_clean(fresh.address)
        assert_ledger_is_consistent(fresh.address)
    assert everything(database) == everything(file)


def test_a_ledger_moves_to_postgresql_and_back_and_is_gone_on_with(
    books: Path, postgres: PostgresAddress, tmp_path: Path
) -> None:
    places = [Place(books, tmp_path), Place(postgres, tmp_path), Place(tmp_path / "back.sqlite", tmp_path)]
    for old, new in pairwise(places):
        rebuild(old.address, new.address)
        store = new.open()
        accountant = Accountant(store)
        at_ns = two_days.START + two_days.HOURS * two_days.HOUR + SECOND
        accountant.set_fleet(FLEET, PRICES, PROFILES, at_ns)
        one = facts(f"req_after_{new.address == postgres}", LARGE)
        accountant.open(one, LARGE, PRICES[LARGE.name], 100, 50, at_ns)
        accountant.close(one.attempt_id, answered(), at_ns + SECOND)
        accountant.advance(at_ns + 2 * SECOND)
        asyncio.run(store.published(30.0))
        store.close()
        assert_audit_is_clean(new.address)
    with_both = places[2].rows("SELECT count(*) FROM charges WHERE request_id LIKE 'req_after_%'")
    assert with_both == [(2,)]


def test_a_rebuild_goes_into_an_empty_database_only(books: Path, place: Place) -> None:
    place.open().close()
    store = place.open()
    accountant = Accountant(store)
    accountant.set_fleet((SMALL,), PRICES, PROFILES, START)
    store.close()
    result = CliRunner().invoke(main, ["ledger", "--ledger", str(books), "rebuild", "--out", told(place.address)])
    assert result.exit_code == 1
    assert "already" in result.output


def told(address: Address) -> str:
    return str(address)


@pytest.fixture(scope="module")
def both(books: Path, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[list[str]]:
    """One ledger in both engines."""
    file, database = tmp_path_factory.mktemp("both") / "ledger.sqlite", postgres_server.database()
    for address in (file, database):
        rebuild(books, address)
    yield [told(file), told(database)]
    postgres_server.drop(database)


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "list --limit 7 --csv --tenant acme",
        "list --csv --since 2026-11-21 --until 2026-11-21T06:00 --backend cloud-large",
        *(f"sum --by {by} --csv" for by in ("tenant", "pool", "backend", "model", "tier", "day")),
        "sum --by pool",
        "sum --by day --pool edge --since 2026-11-21",
        "show req_7",
        "show req_unpriced",
        "audit",
        "audit --json",
    ],
)
def test_every_command_tells_the_same_of_both(both: list[str], books: Path, command: str) -> None:
    outputs = []
    for ledger in both:
        result = CliRunner().invoke(
            main, ["ledger", "--ledger", ledger, "--config", str(books.parent / "router.yaml"), *command.split()]
        )
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) > 1


def test_budgets_are_told_the_same_of_both(both: list[str], tmp_path: Path, books: Path) -> None:
    config = (books.parent / "router.yaml").read_text()
    config += "tenants:\n  - {name: acme, budgets: [{usd: 100, per: total}, {usd: 5, per: day}]}\n"
    (tmp_path / "router.yaml").write_text(config)
    outputs = [
        CliRunner()
        .invoke(main, ["ledger", "--ledger", one, "--config", str(tmp_path / "router.yaml"), "budgets"])
        .output
        for one in both
    ]
    assert outputs[0] == outputs[1]
    assert "acme" in outputs[0]


def test_a_report_is_the_same_of_both(both: list[str], books: Path, tmp_path: Path) -> None:
    made = []
    for number, ledger in enumerate(both):
        output = tmp_path / str(number)
        arguments = [
            "report",
            "--ledger",
            ledger,
            "--config",
            str(books.parent / "router.yaml"),
            "--output",
            str(output),
        ]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        report = json.loads(output.with_suffix(".json").read_text())
        report.pop("made_at", None)
        made.append((report, output.with_suffix(".focus.csv").read_text()))
    assert made[0] == made[1]


def test_an_invoice_is_reconciled_the_same_with_both(both: list[str], tmp_path: Path) -> None:
    (tmp_path / "export.csv").write_text("date,model,n,usd\n2026-11-20,model-of-cloud-large,3,0.5\n")
    (tmp_path / "mapping.yaml").write_text(
        "columns: {day: date, model: model, requests: n, cost_usd: usd}\nbackends: [cloud-large]\n"
    )
    outputs = []
    for ledger in both:
        arguments = ["--invoice", str(tmp_path / "export.csv"), "--mapping", str(tmp_path / "mapping.yaml"), "--csv"]
        result = CliRunner().invoke(main, ["ledger", "--ledger", ledger, "reconcile", *arguments])
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert outputs[0] == outputs[1]
    assert "2026-11-20" in outputs[0]


def test_of_a_database_without_a_ledger_and_of_none_it_is_said_plainly(
    postgres: PostgresAddress, tmp_path: Path
) -> None:
    def told_of(url: str) -> str:
        result = CliRunner().invoke(main, ["ledger", "--ledger", url, "list"])
        assert result.exit_code == 1
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.output

    assert "there is no ledger here" in told_of(postgres.url)
    assert "cannot be read as a ledger" in told_of(f"postgresql://postgres@/none?host={tmp_path}")
    Place(postgres, tmp_path).open().close()
    assert "no ledger" not in CliRunner().invoke(main, ["ledger", "--ledger", postgres.url, "list"]).output


def test_a_database_that_is_something_elses_is_refused_and_left_alone(
    postgres: PostgresAddress, tmp_path: Path
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE mine (x int)")
    with pytest.raises(LedgerError, match="tables of something else"):
        Place(postgres, tmp_path).open()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)
