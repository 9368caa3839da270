"""What calls of hosted tools cost, as it is booked, lost, told, and reckoned again from the journal."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from audited import assert_audit_is_clean
from bookkeeping import CLOUD_PRICE, LARGE, SMALL, facts
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from own_books import OwnBooks

from router.accounting.rebuild import rebuild
from router.commands.ledger import ledger
from router.domain.attempt import AttemptEnd, AttemptStatus, Charge, CostStatus
from router.domain.fleet import Backend
from router.domain.usage import ToolCalls, Usage, UsageSource
from router.ledger.rows import USAGE, closing_from_json, closing_json, opening_from_json
from router.missing_rates import MissingRates
from router.pricing.price import MeteredPrice

assert isinstance(CLOUD_PRICE, MeteredPrice)
WITH_FEES = replace(
    CLOUD_PRICE,
    price_id="cloud-large@2026-01-01#0000000e",
    tool_call_nanousd=(("file_search", 2_500_000), ("web_search", 10_000_000)),
)
TOKENS = 100 * 2000 + 50 * 8000
SEARCHED: ToolCalls = (("file_search", 1), ("web_search", 3))


class Books(OwnBooks):
    def __init__(self, path: Path) -> None:
        super().__init__(path, WITH_FEES)

    def open(self, request_id: str, asked: ToolCalls = (), of: Backend = LARGE) -> str:
        return self.opened(request_id, of, tool_calls_estimate=asked)

    def charge(
        self, request_id: str, tool_calls: ToolCalls, *, asked: ToolCalls = (), of: Backend = LARGE, **usage: object
    ) -> Charge:
        return self.closed(self.open(request_id, asked, of), tool_calls=tool_calls, **usage)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_an_attempt_pays_for_the_calls_that_were_told_whatever_was_expected(path: Path, tmp_path: Path) -> None:
    books = Books(path)
    none, searched = books.charge("n", (), asked=(("web_search", 1),)), books.charge("s", SEARCHED)
    assert none.cost_nanousd == TOKENS
    assert searched.cost_nanousd == searched.standard_nanousd == TOKENS + 2_500_000 + 3 * 10_000_000
    parts = searched.cost_prompt_nanousd, searched.cost_cached_nanousd
    assert all(part is not None for part in parts)
    books.end()
    assert_audit_is_clean(path)
    rebuild(path, tmp_path / "fresh.sqlite")
    assert_audit_is_clean(tmp_path / "fresh.sqlite")


def test_calls_without_a_fee_leave_the_cost_unknown_unless_the_provider_tells_it(path: Path) -> None:
    books = Books(path)
    unknown = books.charge("u", (("x_search", 1),))
    told = books.charge("t", (("x_search", 1),), provider_cost_nanousd=777)
    assert (unknown.cost_status, unknown.cost_nanousd) == (CostStatus.UNPRICED, None)
    assert (told.cost_status, told.cost_nanousd) == (CostStatus.PRICED, 777)
    books.end()
    assert assert_audit_is_clean(path).metered_nanousd == 777


@pytest.mark.parametrize(
    ("usage", "told", "counted"),
    [
        ({"cached_tokens": 101}, SEARCHED, SEARCHED),
        ({}, (("web_search", 2**60),), (("file_search", 1),)),
        ({}, (("web_search", -1),), (("file_search", 1),)),
    ],
)
def test_usage_that_cannot_be_true_is_estimated_with_the_calls_that_can_be(
    path: Path, usage: dict[str, int], told: ToolCalls, counted: ToolCalls
) -> None:
    books = Books(path)
    charge = books.charge("r", told, asked=(("file_search", 1),), **usage)
    assert charge.usage == Usage(100, 50, source=UsageSource.ESTIMATED, tool_calls=counted)
    assert charge.cost_status is CostStatus.PRICED
    books.end()
    assert_audit_is_clean(path)


@pytest.mark.parametrize(
    ("asked", "cost"),
    [((), TOKENS), ((("web_search", 1),), TOKENS + 10_000_000), ((("web_search", 1), ("x_search", 1)), None)],
)
def test_an_attempt_whose_router_died_is_booked_with_one_call_of_each_tool_that_it_asked_for(
    path: Path, tmp_path: Path, asked: ToolCalls, cost: int | None
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


def test_what_a_lease_served_is_compared_with_what_the_baseline_takes_for_the_same_calls(path: Path) -> None:
    books = Books(path)
    searched, other = books.charge("s", SEARCHED, of=SMALL), books.charge("o", (("x_search", 1),), of=SMALL)
    assert searched.baseline_nanousd == TOKENS + 2_500_000 + 3 * 10_000_000
    assert other.baseline_nanousd is None
    assert searched.cost_nanousd is not None
    assert other.cost_nanousd is not None
    books.end()
    assert_audit_is_clean(path)


def test_the_journal_knows_the_calls_and_one_of_an_older_jeton_had_none(path: Path) -> None:
    books = Books(path)
    books.charge("r", SEARCHED, asked=(("web_search", 1),))
    books.charge("s", ())
    books.end()
    assert USAGE[-1] == "tool_calls"
    with closing(sqlite3.connect(path)) as connection:  # as the jeton before them wrote the second one
        for kind, place in (("opened", "$[#-1]"), ("closed", "$[8][#-1]")):
            connection.execute(
                "UPDATE journal SET detail = json_remove(detail, ?) WHERE kind = ? AND subject = 's.1'", (place, kind)
            )
        connection.commit()
    searched, plain = (
        opening_from_json(f"{name}.1", text) for name, text in zip("rs", books.details("opened"), strict=True)
    )
    assert (searched.facts.tool_calls_estimate, plain.facts.tool_calls_estimate) == ((("web_search", 1),), ())
    assert searched.estimate_nanousd == TOKENS + 10_000_000
    told = [closing_from_json(text, 0).end.usage.tool_calls for text in books.details("closed")]
    assert told == [SEARCHED, ()]
    assert_audit_is_clean(path)


@pytest.mark.parametrize("told", ['"web_search"', "[3]", '[["web_search","3"]]', "[[3,3]]", '[["web_search",3,3]]'])
def test_calls_that_cannot_be_read_are_named_by_the_audit(path: Path, told: str) -> None:
    books = Books(path)
    books.charge("r", SEARCHED)
    books.end()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE journal SET detail = json_set(detail, '$[8][#-1]', json(?)) WHERE kind = 'closed'", (told,)
        )
        connection.commit()
    with pytest.raises(AssertionError, match=r"r\.1"):
        assert_audit_is_clean(path)


def test_a_charge_that_is_off_by_a_call_is_found(path: Path) -> None:
    books = Books(path)
    books.charge("r", SEARCHED)
    books.end()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE journal SET detail = replace(detail, '\"web_search\",3', '\"web_search\",2') WHERE kind = 'closed'"
        )
        connection.commit()
    with pytest.raises(AssertionError, match="cost_nanousd"):
        assert_audit_is_clean(path)


@given(st.dictionaries(st.text(min_size=1, max_size=64), st.integers(1, 10**6), max_size=5))
def test_whatever_was_called_is_read_from_the_journal_as_it_was_written(calls: dict[str, int]) -> None:
    told = tuple(sorted(calls.items()))
    charge = Charge(
        facts("r", LARGE), "metered", "p", 1, None, 2, AttemptStatus.OK, "", 200, Usage(1, 2, tool_calls=told),
        CostStatus.UNPRICED, None, None,
    )  # fmt: skip
    end: AttemptEnd = closing_from_json(closing_json(charge, 2), 2).end
    assert end.usage == charge.usage
    assert hash(end.usage) == hash(charge.usage)


def test_the_story_of_a_request_tells_the_calls_that_it_was_billed_for(path: Path) -> None:
    books = Books(path)
    books.charge("s", SEARCHED)
    books.charge("n", ())
    books.end()

    def shown(request_id: str) -> str:
        return CliRunner().invoke(ledger, ["--ledger", str(path), "show", request_id]).output

    told = shown("s")
    assert ["│", "calls", "of", "web_search", "│", "3", "│"] in [line.split() for line in told.splitlines()]
    assert "tool_call_nanousd" in told, "the price has them"
    assert "calls of" not in shown("n")


def test_what_has_no_fee_is_told_once_for_each_tool_with_what_to_do(path: Path) -> None:
    books, missing = Books(path), MissingRates()
    calls: ToolCalls = (("web_search", 1), ("x_search", 2), ("y_search", 1))
    with structlog.testing.capture_logs() as events:
        for number in range(3):
            missing.heed(books.charge(f"c{number}", calls), WITH_FEES)
        missing.heed(books.charge("p", (("z_search", 1),), service_tier="priority"), WITH_FEES)
    books.end()
    told = [event for event in events if event["log_level"] == "warning"]
    named = [(event["backend"], event.get("tool"), event.get("service_tier")) for event in told]
    assert named == [
        ("cloud-large", "x_search", None),
        ("cloud-large", "y_search", None),
        ("cloud-large", None, "priority"),
        ("cloud-large", "z_search", None),
    ]
    assert "`tool_call_usd` of `cloud-large` in prices.yaml" in told[0]["remedy"]
