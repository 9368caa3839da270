"""`jeton ledger budgets`: what is spent of the budgets in router.yaml."""

import asyncio
import time
from pathlib import Path

import pytest
from bookkeeping import FLEET, LARGE, PRICES, PROFILES, answered, facts, make_version_4
from click.testing import CliRunner, Result

from router.accounting.accountant import Accountant
from router.commands.ledger import ledger
from router.ledger.sqlite import SqliteLedger

CONFIG = Path(__file__).parents[3] / "deploy" / "config" / "router.yaml"
COST = 100 * 2000 + 50 * 8000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = SqliteLedger(tmp_path / "ledger.sqlite")
    accountant = Accountant(store)
    now_ns = time.time_ns()
    accountant.set_fleet(FLEET, PRICES, PROFILES, now_ns)
    for number, key in enumerate(("notebooks", "another")):
        one = facts(f"req_{number}", LARGE, tenant="research", api_key_name=key)
        accountant.open(one, LARGE, PRICES[LARGE.name], 100, 50, now_ns)
        accountant.close(one.attempt_id, answered(), now_ns)
    accountant.advance(now_ns)
    asyncio.run(store.published(10.0))
    store.close()
    return tmp_path / "ledger.sqlite"


def run(path: Path) -> Result:
    return CliRunner().invoke(ledger, ["--ledger", str(path), "--config", str(CONFIG), "budgets"])


def test_every_budget_is_listed_with_what_is_spent_and_left(path: Path) -> None:
    result = run(path)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if "research" in line]
    assert [row[:3] for row in rows] == [["research", "all", "day"], ["research", "notebooks", "month"]]
    assert rows[0][3:6] == [
        "50.000000000",
        f"0.{2 * COST:09d}",
        f"{50 * 10**9 - 2 * COST:011d}".replace("49", "49.", 1),
    ]
    assert rows[1][4] == f"0.{COST:09d}"
    assert rows[0][6].endswith("T00:00")


def test_a_ledger_of_an_older_jeton_says_what_to_do(path: Path) -> None:
    make_version_4(path)
    result = run(path)
    assert result.exit_code == 1
    assert "written by an older jeton" in result.output


def test_without_router_yaml_it_says_which_option_names_it(path: Path) -> None:
    result = CliRunner().invoke(
        ledger, ["--ledger", str(path), "--config", str(path.with_name("none.yaml")), "budgets"]
    )
    assert result.exit_code == 1
    assert "none.yaml: there is no such file" in result.output
    assert "`jeton ledger --config FILE budgets` names" in result.output
