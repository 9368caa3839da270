"""What a service tier costs, as it is booked, lost, corrected, and reckoned again from the journal."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from audited import assert_audit_is_clean
from bookkeeping import CLOUD_PRICE, LARGE, SMALL, answered, facts
from click.testing import CliRunner
from own_books import START, OwnBooks

from router.accounting.rebuild import rebuild
from router.commands.ledger import ledger
from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.fleet import Backend
from router.domain.usage import Usage, UsageSource
from router.ledger.rows import USAGE, closing_from_json, opening_from_json
from router.missing_rates import MissingRates
from router.pricing.cost import list_cost
from router.pricing.price import MeteredPrice, ServiceTier, TokenRates

FLEX = ServiceTier("flex", TokenRates(1_000_000_000, 250_000_000, 1_000_000_000, 4_000_000_000))
assert isinstance(CLOUD_PRICE, MeteredPrice)
TIERED = replace(CLOUD_PRICE, price_id="cloud-large@2026-01-01#0000000f", service_tiers=(FLEX,))


class Books(OwnBooks):
    def __init__(self, path: Path) -> None:
        super().__init__(path, TIERED)

    def open(self, request_id: str, asked: str = "", of: Backend = LARGE) -> str:
        return self.opened(request_id, of, service_tier=asked)

    def charge(self, request_id: str, served: str, *, asked: str = "", of: Backend = LARGE, **usage: object) -> Charge:
        return self.closed(self.open(request_id, asked, of), service_tier=served, **usage)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_an_attempt_is_priced_by_the_tier_that_served_it_whatever_was_asked_for(path: Path) -> None:
    books = Books(path)
    plain, flex = books.charge("p", "", asked="flex"), books.charge("f", "flex")
    assert plain.cost_nanousd == 100 * 2000 + 50 * 8000
    assert flex.cost_nanousd == flex.standard_nanousd == 100 * 1000 + 50 * 4000
    assert flex.cost_prompt_nanousd == 100 * 1000
    assert (plain.cost_status, flex.cost_status) == (CostStatus.PRICED, CostStatus.PRICED)
    books.end()
    assert_audit_is_clean(path)


def test_under_a_tier_without_rates_the_cost_is_unknown_and_never_the_plain_one(path: Path) -> None:
    books = Books(path)
    charge = books.charge("r", "priority")
    assert (charge.cost_status, charge.cost_nanousd) == (CostStatus.UNPRICED, None)
    assert (charge.standard_nanousd, charge.baseline_nanousd, charge.cost_prompt_nanousd) == (None, None, None)
    totals = books.store.totals
    books.end()
    assert sum(total.unpriced for total in totals().lines.values()) == 1
    assert assert_audit_is_clean(path).metered_nanousd == 0


def test_what_the_provider_charged_is_known_under_any_tier_but_not_of_what_it_is_made(path: Path) -> None:
    books = Books(path)
    charge = books.charge("r", "priority", provider_cost_nanousd=777)
    assert (charge.cost_status, charge.cost_nanousd) == (CostStatus.PRICED, 777)
    assert (charge.cost_prompt_nanousd, charge.cost_cached_nanousd) == (None, None)
    books.end()
    assert_audit_is_clean(path)


def test_usage_that_cannot_be_true_is_estimated_under_the_tier_that_was_told(path: Path) -> None:
    books = Books(path)
    charge = books.charge("r", "flex", cached_tokens=101)
    assert charge.usage == Usage(100, 50, source=UsageSource.ESTIMATED, service_tier="flex")
    assert charge.cost_nanousd == 100 * 1000 + 50 * 4000
    books.end()
    assert_audit_is_clean(path)


@pytest.mark.parametrize(("asked", "cost"), [("", 600_000), ("flex", 300_000), ("priority", None)])
def test_an_attempt_whose_router_died_is_booked_under_the_tier_that_it_asked_for(
    path: Path, tmp_path: Path, asked: str, cost: int | None
) -> None:
    books = Books(path)
    attempt_id = books.open("r", asked)
    books.store.close()
    books = Books(path)
    books.end()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT attempt_id, status, cost_status, cost_nanousd FROM charges").fetchall()
    assert rows == [(attempt_id, AttemptStatus.LOST, "unpriced" if cost is None else "priced", cost)]
    assert_audit_is_clean(path)
    rebuild(path, tmp_path / "fresh.sqlite")
    assert_audit_is_clean(tmp_path / "fresh.sqlite")


def test_what_a_lease_served_is_compared_with_what_the_baseline_takes_under_the_tier_asked_for(path: Path) -> None:
    books = Books(path)
    plain, flex, priority = (books.charge(name, name, asked=name, of=SMALL) for name in ("", "flex", "priority"))
    assert plain.baseline_nanousd == 2 * (flex.baseline_nanousd or 0) == 100 * 2000 + 50 * 8000
    assert priority.baseline_nanousd is None
    assert plain.cost_nanousd is not None
    assert priority.cost_nanousd is not None
    books.end()
    assert_audit_is_clean(path)


def test_the_journal_knows_the_tiers_and_one_of_an_older_jeton_had_none(path: Path) -> None:
    books = Books(path)
    books.charge("r", "flex", asked="flex")
    books.charge("s", "")
    books.end()
    with closing(sqlite3.connect(path)) as connection:  # as the jeton before tiers wrote the second one
        since = len(USAGE) - USAGE.index("service_tier")
        for kind, place in (("opened", "$[#-1]"), ("closed", "$[8][#-1]")):
            for _ in range(since):
                connection.execute(
                    "UPDATE journal SET detail = json_remove(detail, ?) WHERE kind = ? AND subject = 's.1'",
                    (place, kind),
                )
        connection.commit()
    flex, plain = (
        opening_from_json(f"{name}.1", text) for name, text in zip("rs", books.details("opened"), strict=True)
    )
    assert (flex.facts.service_tier, plain.facts.service_tier) == ("flex", "")
    assert flex.estimate_nanousd == list_cost(TIERED, Usage(100, 50, service_tier="flex"))
    served = [closing_from_json(text, 0).end.usage.service_tier for text in books.details("closed")]
    assert served == ["flex", ""]
    assert_audit_is_clean(path)


def test_a_charge_that_is_off_by_its_tier_is_found(path: Path) -> None:
    books = Books(path)
    books.charge("r", "flex")
    books.end()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE journal SET detail = replace(detail, 'flex', '') WHERE kind = 'closed'")
        connection.commit()
    with pytest.raises(AssertionError, match="cost_nanousd"):
        assert_audit_is_clean(path)


def test_the_story_of_a_request_tells_the_tier_that_it_was_billed_under(path: Path) -> None:
    books = Books(path)
    books.charge("f", "flex", asked="priority")
    books.charge("p", "", asked="flex")
    books.end()

    def shown(request_id: str) -> str:
        return CliRunner().invoke(ledger, ["--ledger", str(path), "show", request_id]).output

    lines = [line.split() for line in shown("f").splitlines()]
    assert ["│", "service_tier", "│", "flex", "│"] in lines
    assert any("service_tiers.1.rates.completion" in line for line in lines), "the price has them"
    assert "│ service_tier " not in shown("p")


def test_what_has_no_rates_is_told_once_for_each_tier_with_what_to_do(path: Path) -> None:
    books, missing = Books(path), MissingRates()
    with structlog.testing.capture_logs() as events:
        for number in range(3):
            missing.heed(books.charge(f"p{number}", "priority"), TIERED)
            missing.heed(books.charge(f"s{number}", "scale"), TIERED)
        one = facts("n", LARGE)
        books.accountant.open(one, LARGE, None, 100, 50, START)
        missing.heed(books.accountant.close(one.attempt_id, answered(), START), None)
    books.end()
    told = [event for event in events if event["log_level"] == "warning"]
    assert [(event["backend"], event["service_tier"]) for event in told] == [
        ("cloud-large", "priority"),
        ("cloud-large", "scale"),
    ]
    assert "`service_tiers` of `cloud-large` in prices.yaml" in told[0]["remedy"]
