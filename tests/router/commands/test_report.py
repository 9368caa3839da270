"""`jeton report`: three files that say the same as the ledger, to the nano-dollar."""

import asyncio
import csv
import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bookkeeping import HOUR, SECOND
from click.testing import CliRunner, Result
from two_days import FLEET, HOURS, START, make

from router.accounting.accountant import Accountant
from router.commands.report import report
from router.domain.periods import NS_PER_HOUR
from router.ledger import rollups
from router.ledger.periods import read_periods
from router.ledger.sqlite import SqliteLedger
from router.reporting.focus import COLUMNS
from router.reporting.focus_rules import ALLOWED, TYPES, broken_rules

Row = Mapping[str, str]
PARTS = ("useful_usd", "thin_usd", "idle_usd", "lost_usd", "unrated_usd", "in_flight_usd")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    make(directory)
    result = run(directory)
    assert result.exit_code == 0, result.output
    return directory


def run(directory: Path, *arguments: str, output: str = "all") -> Result:
    paths = {"--ledger": "ledger.sqlite", "--config": "router.yaml", "--output": output}
    named = [part for name, path in paths.items() for part in (name, str(directory / path))]
    return CliRunner().invoke(report, [*named, *arguments])


@pytest.fixture(scope="module")
def told(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "all.json").read_text())
    return found


@pytest.fixture(scope="module")
def focus(directory: Path) -> list[dict[str, str | None]]:
    return read_focus(directory / "all.focus.csv")


def read_focus(path: Path) -> list[dict[str, str | None]]:
    with path.open(newline="") as file:
        return [{name: text or None for name, text in row.items()} for row in csv.DictReader(file)]


def ledger_bill(directory: Path) -> Decimal:
    with closing(sqlite3.connect(directory / "ledger.sqlite")) as connection:
        (leases,) = connection.execute("SELECT sum(bill_nanousd) FROM leases").fetchone()
        (metered,) = connection.execute("SELECT sum(cost_nanousd) FROM charges WHERE billing = 'metered'").fetchone()
    return Decimal(leases + metered) / 10**9


def dollars(row: Mapping[str, Any], *names: str) -> Decimal:
    return sum((Decimal(row[name]) for name in names), Decimal(0))


def test_a02_the_bill_is_the_ledgers_and_the_sum_of_its_parts(directory: Path, told: dict[str, Any]) -> None:
    assert dollars(told["bill"], "bill_usd") == ledger_bill(directory)
    for rows in ([told["bill"]], told["pools"], told["replicas"], told["hours"]):
        assert dollars(told["bill"], "bill_usd") == sum(dollars(row, "bill_usd") for row in rows)
        for row in rows:
            assert dollars(row, *PARTS) == dollars(row, "bill_usd")


def test_every_part_of_the_story_is_there(told: dict[str, Any]) -> None:
    assert {row["replica"] for row in told["replicas"]} == {
        "edge-small/0",
        "edge-small/1",
        "central-big/0",
        "cloud-large/0",
    }
    assert all(dollars(told["bill"], part) > 0 for part in ("useful_usd", "thin_usd", "idle_usd", "lost_usd"))
    assert (told["attempts"], told["unpriced_attempts"]) == (1201, 1)
    assert (told["from"], told["to"]) == ("2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z")
    assert {row["class"] for row in told["usd_per_million_tokens"]} == {"prompt", "cached", "completion"}
    cloud = {row["class"]: row["standard"] for row in told["usd_per_million_tokens"] if row["pool"] == "cloud"}
    assert cloud["completion"] >= 8  # a fee per request is in it
    assert {row["tenant"] for row in told["tenants"]} == {"acme", "zeta"}


def test_a22_savings_are_told_by_method(told: dict[str, Any]) -> None:
    modelled, measured = told["savings"]["counterfactual"], told["savings"]["holdout"]
    gross = dollars(modelled, "baseline_usd") - dollars(modelled, "cost_usd")
    assert dollars(modelled, "gross_usd") == gross
    assert dollars(modelled, "net_usd") == gross - dollars(modelled, "idle_usd", "lost_not_compared_usd")
    assert modelled["method"].startswith("modelled")
    assert [row["basis"] for row in measured] == ["priced", "allocated"]
    for row in measured:
        assert row["method"].startswith("measured")
        assert row["requests_held_out"] + row["requests_routed"] == 1201
        assert row["saved_usd_per_request_low"] < row["saved_usd_per_request"] < row["saved_usd_per_request_high"]


def test_a_commitment_is_paid_whether_used_or_not(told: dict[str, Any]) -> None:
    (one,) = told["commitments"]
    assert (one["price"], one["hours"]) == ("h100-reserved", HOURS)
    assert dollars(one, "paid_usd") == HOURS * Decimal("2.268") == dollars(one, "used_usd", "unused_usd")


def test_energy_is_told_where_power_is_known(told: dict[str, Any]) -> None:
    pools = {row["pool"]: row for row in told["energy"]}
    assert pools["central"]["kwh"] == pytest.approx(HOURS * 0.9 * 1.25)
    assert 2 * HOURS * 0.03 * 1.54 < pools["edge"]["kwh"] < 2 * HOURS * 0.072 * 1.54
    assert pools["edge"]["co2_grams"] == pytest.approx(pools["edge"]["kwh"] * 400)
    assert pools["central"]["co2_grams"] is None
    assert "cloud" not in pools


def test_the_focus_file_bills_what_the_ledger_bills(directory: Path, focus: list[Row]) -> None:
    for column in ("BilledCost", "EffectiveCost"):
        assert sum(Decimal(row[column]) for row in focus) == ledger_bill(directory)


def test_the_focus_file_keeps_the_rules(focus: list[Row]) -> None:
    assert broken_rules(list(focus[0]), focus) == []
    assert tuple(focus[0]) == COLUMNS


def test_idle_time_is_a_row_of_its_own_and_nobodys(directory: Path, focus: list[Row], told: dict[str, Any]) -> None:
    idle = [row for row in focus if row["x_Basis"] == "idle"]
    assert {row["SubAccountId"] for row in idle} == {None}
    assert sum(Decimal(row["EffectiveCost"]) for row in idle) == dollars(told["bill"], "idle_usd")
    by_tenant = sum(Decimal(row["EffectiveCost"]) for row in focus if row["SubAccountId"])
    assert by_tenant == sum(dollars(row, "cost_usd") for row in told["tenants"])


def test_commitments_are_a_purchase_and_its_use(focus: list[Row]) -> None:
    rows = [row for row in focus if row["CommitmentDiscountId"] == "h100-reserved"]
    purchases = [row for row in rows if row["ChargeCategory"] == "Purchase"]
    assert {row["ChargePeriodStart"] for row in purchases} == {"2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"}
    assert {row["CommitmentDiscountStatus"] for row in rows} == {None, "Used", "Unused"}
    assert {Decimal(row["ListUnitPrice"]) for row in rows} == {Decimal("3.78")}
    assert {Decimal(row["ContractedUnitPrice"]) for row in rows} == {Decimal("2.268")}


def test_tokens_of_the_focus_file_are_the_ledgers(directory: Path, focus: list[Row]) -> None:
    with closing(sqlite3.connect(directory / "ledger.sqlite")) as connection:
        sums = connection.execute(
            "SELECT sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), count(*) FROM charges WHERE price_id <> ''"
        ).fetchone()
    columns = ("x_PromptTokens", "x_CachedTokens", "x_CompletionTokens", "x_Attempts")
    assert tuple(sum(int(row[column] or 0) for row in focus) for column in columns) == sums


def test_a_period_is_cut_at_full_hours_and_its_bill_is_still_exact(directory: Path) -> None:
    bills = []
    for since, until in (("2026-11-20", "2026-11-20T13:00"), ("2026-11-20T13:00", "2026-11-22")):
        assert run(directory, "--from", since, "--to", until, output="part").exit_code == 0
        told = json.loads((directory / "part.json").read_text())
        rows = read_focus(directory / "part.focus.csv")
        bills.append(dollars(told["bill"], "bill_usd"))
        assert sum(Decimal(row["BilledCost"] or 0) for row in rows) == bills[-1]
        assert min(row["ChargePeriodStart"] or "" for row in rows) == told["from"]
        assert max(row["ChargePeriodEnd"] or "" for row in rows) == told["to"]
    assert sum(bills) == ledger_bill(directory)


def test_a_period_beyond_what_the_ledger_has_is_what_it_has(directory: Path) -> None:
    """Not as many empty hours as there may be in eight thousand years."""
    told = []
    for arguments in ([], ["--from", "1000-01-01", "--to", "9999-12-31"]):
        assert run(directory, *arguments, output="part").exit_code == 0
        told.append(json.loads((directory / "part.json").read_text()))
    assert (told[0]["from"], told[0]["to"], told[0]["bill"]) == (told[1]["from"], told[1]["to"], told[1]["bill"])


def test_what_cannot_be_asked_is_told_in_a_line(directory: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["--from", "2026-11-20T10:30"], "not a full hour"),
        (["--from", "2026-11-21", "--to", "2026-11-20"], "the period is empty"),
        (["--from", "2030-01-01"], "the ledger has nothing in this period: it goes from 2026-11-20T"),
        (["--to", "2026-01-01"], "the ledger has nothing in this period: it goes from 2026-11-20T"),
    ):
        result = run(directory, *arguments, output="none")
        assert result.exit_code == 1
        assert said in result.output
    result = CliRunner().invoke(report, ["--ledger", str(tmp_path / "none.sqlite"), "--output", str(tmp_path / "x")])
    assert (result.exit_code, "there is no ledger here" in result.output) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_without_a_configuration_the_bill_is_the_same(directory: Path) -> None:
    arguments = [
        "--ledger",
        str(directory / "ledger.sqlite"),
        "--config",
        "none.yaml",
        "--output",
        str(directory / "bare"),
    ]
    assert CliRunner().invoke(report, arguments).exit_code == 0
    told, rows = json.loads((directory / "bare.json").read_text()), read_focus(directory / "bare.focus.csv")
    assert (
        dollars(told["bill"], "bill_usd")
        == ledger_bill(directory)
        == sum(Decimal(row["BilledCost"] or 0) for row in rows)
    )
    assert (told["commitments"], {row["CommitmentDiscountId"] for row in rows}) == ([], {None})
    assert {row["ContractedUnitPrice"] for row in rows if row["SkuId"] == "h100-reserved"} == {"2.268"}


@pytest.mark.parametrize("is_older", [False, True])
def test_only_an_older_ledgers_past_is_warned_of_not_the_newest_charges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_older: bool
) -> None:
    make(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE rolled SET seq = (SELECT seq FROM charges ORDER BY seq DESC LIMIT 1 OFFSET 10)")
    if is_older:
        monkeypatch.setattr(rollups, "CHARGES_PER_ROLL", 9)
    assert run(tmp_path).exit_code == 0
    html = (tmp_path / "all.html").read_text()
    warned = re.findall(r'<p class="warn">(.*?)</p>', html)
    assert ("10 charges of an older ledger are still being added up and not in here yet." in warned) == is_older
    assert ("without the newest 10 charges, which the next checkpoint adds up" in html) == (not is_older)


def test_attempts_lost_in_a_crash_are_not_said_to_lack_a_baseline_price(directory: Path, tmp_path: Path) -> None:
    """One attempt is still open at the end of the two days: who starts again finds it lost."""
    store = SqliteLedger(make(tmp_path), commit_seconds=0.0005)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, {}, {}, START + (HOURS + 1) * HOUR)
    accountant.advance(START + (HOURS + 1) * HOUR + SECOND)
    asyncio.run(store.published(10.0))
    store.close()
    assert run(tmp_path).exit_code == 0
    before, after = (
        json.loads((place / "all.json").read_text())["savings"]["counterfactual"] for place in (directory, tmp_path)
    )
    assert after["attempts_not_compared"] == before["attempts_not_compared"] + 1
    assert (before["attempts_not_compared_because_lost"], after["attempts_not_compared_because_lost"]) == (0, 1)
    html = (tmp_path / "all.html").read_text()
    assert (
        f" {before['attempts_not_compared']:,} attempts without a baseline price or a cost are left out of it." in html
    )
    assert " 1 attempts that were lost when jeton died are not compared" in html
    assert "lost when jeton died" not in (directory / "all.html").read_text()


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_runs_nothing(directory: Path) -> None:
    text = (directory / "all.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.tags.count("svg") == 4
    assert "script" not in page.tags
    assert [reference for reference in page.references if not reference.startswith("#")] == []
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "#0102" not in text  # every marker has become a colour of the page
    assert len(text) < 300_000
    for colour in re.findall(r"var\(--(\w+)\)", text):
        assert f"--{colour}: #" in text


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    path = make(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE charge_keys SET tenant = '<b>&', backend = 'x<script>' WHERE tenant = 'acme'")
    assert run(tmp_path).exit_code == 0
    text = (tmp_path / "all.html").read_text()
    assert "<script" not in text
    assert "&lt;b&gt;&amp;" in text


@pytest.mark.parametrize("name", ["na", "None", "unknown", "null"])
def test_what_is_called_as_nothing_is_still_has_a_row_in_the_focus_file(tmp_path: Path, name: str) -> None:
    path = make(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE charge_keys SET tenant = ?, pool = ? WHERE tenant = 'acme'", (name, name))
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    rows = [row for row in read_focus(tmp_path / "all.focus.csv") if row["x_Tenant"] == name]
    assert {(row["SubAccountId"], row["ProviderName"], row["x_Pool"]) for row in rows} == {
        (f"{name} (name)", f"{name} (name)", name)
    }


def test_nothing_is_written_where_the_focus_file_cannot_be(directory: Path) -> None:
    result = run(directory, "--account", "", output="nameless")
    assert result.exit_code == 1
    assert "BillingAccountId is ``, which stands for nothing" in result.output
    assert list(directory.glob("nameless*")) == []


BREAKS = {
    "CostAndUsage-D": lambda row: row.pop("BilledCost"),
    "BilledCost-C": lambda row: row.update(BilledCost=None),
    "NumericFormat-A-003-M": lambda row: row.update(ListCost="1,000.00"),
    "DateTimeFormat-A-003-M": lambda row: row.update(ChargePeriodEnd="2026-11-21 00:00"),
    "ChargePeriodEnd-C-004-M": lambda row: row.update(ChargePeriodEnd=row["ChargePeriodStart"]),
    "BillingPeriodStart-C-004-M": lambda row: row.update(BillingPeriodStart="2026-11-21T00:00:00Z"),
    "BillingCurrency-C-003-M": lambda row: row.update(BillingCurrency="dollars"),
    "ChargeCategory-C-003-M": lambda row: row.update(ChargeCategory="Idle"),
    "ServiceSubcategory-C-003-M": lambda row: row.update(ServiceSubcategory="LLM"),
    "NullHandling-A-002-M": lambda row: row.update(RegionId="N/A", RegionName="N/A"),
    "KeyValueFormat-A-001-M": lambda row: row.update(Tags="a=b"),
    "KeyValueFormat-A-004-M": lambda row: row.update(Tags='{"a": [1]}'),
    "ListUnitPrice-C-005-C": lambda row: row.update(ListUnitPrice=None),
    "ContractedUnitPrice-C-011-C": lambda row: row.update(ContractedUnitPrice="17"),
    "ConsumedQuantity-C-006-C": lambda row: row.update(ConsumedQuantity=None, ConsumedUnit=None),
    "PricingUnit-C-005-C": lambda row: row.update(PricingUnit=None),
    "SubAccountName-C-004-C": lambda row: row.update(SubAccountName=None),
    "CommitmentDiscountStatus-C-003-C": lambda row: row.update(CommitmentDiscountStatus="Used"),
    "CommitmentDiscountName-C-004-C": lambda row: row.update(CommitmentDiscountId="x"),
    "SkuPriceId-C-008-M": lambda row: row.update(SkuId="another"),
    "ColumnHandling-A-010-M": lambda row: row.update(Tenant="acme"),
    "EffectiveCost-C-012-C": lambda row: row.update(
        CommitmentDiscountId="h100-reserved", CommitmentDiscountName="x", CommitmentDiscountCategory="Usage",
        CommitmentDiscountType="x", CommitmentDiscountStatus="Used", CommitmentDiscountUnit="Hours",
        CommitmentDiscountQuantity="1", PricingCategory="Committed", BilledCost="0", EffectiveCost="1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_found(focus: list[Row], rule: str) -> None:
    rows: list[Any] = [dict(row) for row in focus]
    at = next(n for n, row in enumerate(rows) if row["SubAccountId"] and row["CommitmentDiscountId"] is None)
    BREAKS[rule](rows[at])
    assert rule in {finding.partition(":")[0] for finding in broken_rules(list(rows[at]), rows)}


def test_rules_are_of_columns_that_exist() -> None:
    assert ALLOWED.keys() <= TYPES.keys() <= set(COLUMNS)


def test_the_hours_of_the_fixture_are_all_there(directory: Path) -> None:
    with read_periods(directory / "ledger.sqlite") as periods:
        assert periods.whole() == (START // NS_PER_HOUR, START // NS_PER_HOUR + HOURS)
