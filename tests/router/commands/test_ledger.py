"""`jeton ledger`: what was booked is what is shown, beside the router that books it."""

import asyncio
import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SECOND, SMALL, answered, facts
from click.testing import CliRunner, Result
from ports import free_port

from router.accounting.accountant import Accountant
from router.commands.ledger import ledger
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.usage import Usage
from router.ledger.sqlite import SqliteLedger

START = 1_795_000_000 * SECOND  # 2026-11-18 11:06:40 UTC
DAY = 86_400 * SECOND


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ledger with two days of two tenants, still held by its writer."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    store = SqliteLedger(path, commit_seconds=0.0005)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    for number in range(6):
        at_ns = START + number * DAY // 3
        one = facts(f"req_{number}", tenant="acme" if number % 2 else "zeta")
        accountant.open(one, SMALL, EDGE_PRICE, 100, 50, at_ns)
        accountant.close(one.attempt_id, AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "reset"), at_ns + SECOND)
        two = facts(f"req_{number}", LARGE, number=2, tenant=one.tenant)
        accountant.open(two, LARGE, CLOUD_PRICE, 100, 50, at_ns + SECOND)
        accountant.close(two.attempt_id, answered(), at_ns + 2 * SECOND)
    accountant.open(facts("req_open"), SMALL, EDGE_PRICE, 100, 50, START + 2 * DAY)
    unpriced = facts("req_unpriced[red]", LARGE)
    accountant.open(unpriced, LARGE, None, 100, 50, START + 2 * DAY)
    accountant.close(unpriced.attempt_id, answered(), START + 2 * DAY)
    accountant.advance(START + 2 * DAY + 10 * SECOND)
    asyncio.run(store.published(10.0))
    yield path
    store.close()


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(ledger, ["--ledger", str(path), *arguments])


def table(path: Path, *arguments: str) -> list[dict[str, str]]:
    result = run(path, *arguments, "--csv")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.output)))


def test_list_shows_the_newest_first_and_as_many_as_asked(path: Path) -> None:
    rows = table(path, "list", "--limit", "3")
    assert [row["attempt_id"] for row in rows] == ["req_unpriced[red].1", "req_5.2", "req_5.1"]


def test_list_filters(path: Path) -> None:
    assert {row["tenant"] for row in table(path, "list", "--tenant", "zeta")} == {"zeta"}
    assert {row["backend"] for row in table(path, "list", "--pool", "cloud")} == {LARGE.name}
    first_day = table(path, "list", "--since", "2026-11-18", "--until", "2026-11-19")
    assert {row["request_id"] for row in first_day} == {"req_0", "req_1"}
    assert table(path, "list", "--backend", "none") == []


def test_a12_an_unknown_cost_is_shown_as_unknown(path: Path) -> None:
    assert "unknown" in run(path, "list", "--limit", "1").output
    (row,) = table(path, "list", "--limit", "1")
    assert (row["cost_usd"], row["cost_status"]) == ("", "unpriced")


def test_what_a_name_contains_is_shown_as_it_is(path: Path) -> None:
    assert "req_unpriced[red].1" in run(path, "list").output


@pytest.mark.parametrize("by", ["tenant", "pool", "backend", "model", "tier", "day"])
def test_a02_sums_are_the_sum_of_the_list_whatever_they_are_by(path: Path, by: str) -> None:
    charges, sums = table(path, "list", "--limit", "1000"), table(path, "sum", "--by", by)
    assert sum(int(row["attempts"]) for row in sums) == len(charges)
    for column in ("cost_usd", "standard_usd"):
        listed = sum(Decimal(charge[column] or 0) for charge in charges)
        assert sum(Decimal(row[column]) for row in sums) == listed
    for column, of in (("prompt", "prompt_tokens"), ("completion", "completion_tokens")):
        assert sum(int(row[column]) for row in sums) == sum(int(charge[of]) for charge in charges)
    assert sum(int(row["unpriced"]) for row in sums) == 1


@pytest.mark.parametrize("by", ["pool", "backend"])
def test_a_places_bill_is_its_cost_and_what_is_open_and_idle(path: Path, by: str) -> None:
    rows = table(path, "sum", "--by", by)
    assert {row[by] for row in rows} > {"edge" if by == "pool" else SMALL.name}
    for row in rows:
        cost, open_, idle, bill = (Decimal(row[name]) for name in ("cost_usd", "open_usd", "idle_usd", "bill_usd"))
        assert cost + open_ + idle == bill
        if row[by] in ("edge", SMALL.name):
            assert bill == 2 * Decimal(2 * 86_400 + 10) / 1000  # two replicas at $3.60 an hour
            assert (cost, open_) == (Decimal("0.006"), Decimal("0.01"))
        else:
            assert (open_, idle) == (0, 0)


def test_sums_over_a_period_have_no_bill_because_leases_are_booked_as_a_whole(path: Path) -> None:
    (row,) = table(path, "sum", "--by", "pool", "--since", "2026-11-20T11:06:40")
    assert row["pool"] == "cloud"
    assert "bill_usd" not in row


def test_days_are_utc(path: Path) -> None:
    days = {row["day"]: row["attempts"] for row in table(path, "sum", "--by", "day")}
    assert days == {"2026-11-18": "4", "2026-11-19": "6", "2026-11-20": "3"}


def test_dollars_per_million_tokens(path: Path) -> None:
    (row,) = table(path, "sum", "--by", "backend", "--tenant", "acme", "--backend", LARGE.name, "--until", "2026-11-20")
    tokens = int(row["prompt"]) + int(row["completion"])
    assert Decimal(row["usd_per_million"]) == Decimal(row["cost_usd"]) / tokens * 10**6


def test_the_tables_total_is_the_sum(path: Path) -> None:
    output = run(path, "sum", "--by", "tenant").output
    total = next(line for line in output.splitlines() if "total" in line)
    cost = sum(Decimal(row["cost_usd"]) for row in table(path, "sum", "--by", "tenant"))
    assert f"{cost:.9f}" in total


def test_show_tells_the_whole_story_of_a_request(path: Path) -> None:
    output = run(path, "show", "req_3").output
    for part in ("req_3.1", "req_3.2", "opened", "closed", "reset", "0.001000000", CLOUD_PRICE.price_id):
        assert part in output
    for part in (
        "request_id=req_3",
        "rates.completion $ per million",
        "8.000000000",
        "leased",
        "nanousd_per_hour",
        "3600000000",
    ):
        assert part in output
    series = 'jeton_cost_usd_total{pool="cloud",backend="cloud-large",model="model-of-cloud-large",tier="large",tenant="acme"'
    assert series + ',basis="allocated"}' in output
    assert 'jeton_attempts_total{backend="edge-small",status="failed",fault="reset"}' in output
    assert "8000000000" not in output
    assert "req_4" not in output
    assert "opened" in run(path, "show", "req_open").output


def test_audit_of_books_in_order_says_so_and_exits_with_0(path: Path) -> None:
    result = run(path, "audit")
    assert result.exit_code == 0, result.output
    assert "clean" in result.output
    told = json.loads(run(path, "audit", "--json").output)
    assert told["is_clean"] is True
    assert told["attempts"] == 13
    assert told["open_attempts"] == 1


def test_audit_names_what_is_off_and_exits_with_1(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
        source.backup(copy)
        copy.execute("UPDATE charges SET cost_nanousd = 1600001 WHERE attempt_id = 'req_3.2'")
        copy.commit()
    result = run(tmp_path / "copy.sqlite", "audit")
    assert result.exit_code == 1
    assert "charges: req_3.2: cost_nanousd" in result.output
    assert "is 1600001, should be" in result.output
    told = json.loads(run(tmp_path / "copy.sqlite", "audit", "--json").output)
    assert told["findings"][0]["table"] == "charges"


def test_audit_without_the_metrics_it_was_told_of_says_so(path: Path) -> None:
    result = run(path, "audit", "--metrics-url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "no metrics there" in result.output


def test_rebuild_says_what_it_has_made_and_refuses_to_overwrite(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "fresh.sqlite"
    result = run(path, "rebuild", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "13 charges" in result.output
    assert run(out, "audit").exit_code == 0
    assert run(path, "rebuild", "--out", str(out)).exit_code == 1


def test_show_of_an_unknown_request_says_where_ids_come_from(path: Path) -> None:
    result = run(path, "show", "req_")  # a prefix of others
    assert result.exit_code == 1
    assert "there is no request req_ in this ledger" in result.output
    assert "there is no request req_ in this ledger" in run(path, "show", "req_.7").output


def test_show_of_an_attempt_is_that_of_its_request(path: Path) -> None:
    assert run(path, "show", "req_3.1").output == run(path, "show", "req_3").output


def test_a_missing_ledger_is_told_in_a_line(tmp_path: Path) -> None:
    result = run(tmp_path / "none.sqlite", "list")
    assert result.exit_code == 1
    assert "there is no ledger here" in result.output
    assert "Traceback" not in result.output


def test_the_file_is_the_one_that_router_yaml_names(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(f"ledger:\n  path: {path}\n")
    result = CliRunner().invoke(ledger, ["--config", str(config), "sum"])
    assert result.exit_code == 0, result.output
    assert SMALL.name in result.output


def test_without_router_yaml_it_is_the_default(tmp_path: Path) -> None:
    result = CliRunner().invoke(ledger, ["--config", str(tmp_path / "router.yaml"), "list"])
    assert "var/jeton.sqlite: there is no ledger here" in result.output
