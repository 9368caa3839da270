"""What an import does to a price book is decided before a byte of it is written."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from price_tables import GENAI_PRICES, LITELLM, OPENROUTER, SKYPILOT, offers

from router.pricing.book import PriceBook
from router.pricing.imports import Entry, Outcome, plan
from router.pricing.price import MeteredPrice
from router.pricing.suspicion import Witnesses
from router.pricing.tables.offer import Offer, OfferedTier

TODAY = date(2026, 11, 26)
EMPTY = PriceBook(prices={})
TEXT = Offer(
    "s/m",
    "tokens",
    {"prompt_usd_per_million": Decimal(1), "completion_usd_per_million": Decimal(4)},
    seller="s",
    product="m",
)


def planned(*read: Offer, book: PriceBook = EMPTY, accept: str = "", day: date = TODAY) -> list[Entry]:
    return plan(read, book, day, "a test", Witnesses(read, {}), is_accepted=lambda name: name == accept)


def book(*rows: dict[str, Any], name: str = "s/m") -> PriceBook:
    about = {"kind": "tokens", "source": "a test"}
    return PriceBook.model_validate({"prices": {name: [about | row for row in rows]}})


def row(first_day: str, prompt: str, completion: str = "4", **members: Any) -> dict[str, Any]:
    return {"from": first_day, "prompt_usd_per_million": prompt, "completion_usd_per_million": completion, **members}


def test_every_row_that_is_imported_is_one_that_the_price_book_takes() -> None:
    for path in (LITELLM, GENAI_PRICES, OPENROUTER, SKYPILOT):
        entries = planned(*offers(path))
        believed: dict[str, list[Any]] = {}
        for entry in entries:
            if entry.outcome is Outcome.IMPORTED:
                believed.setdefault(entry.name, []).append(entry.row)
        assert believed
        made = PriceBook.model_validate({"prices": believed})
        for name in believed:
            made.in_force(name, TODAY)


def test_service_tiers_that_no_table_tells_are_not_lost_with_a_change_that_it_tells() -> None:
    tiers = {"flex": {"prompt_usd_per_million": "0.5", "completion_usd_per_million": "2"}}
    (entry,) = planned(TEXT, book=book(row("2026-01-01", "1", service_tiers=tiers)))
    assert (entry.outcome, entry.in_force) == (Outcome.UNCHANGED, date(2026, 1, 1))
    dearer = book(row("2026-01-01", "0.9", service_tiers=tiers))
    (entry,) = planned(TEXT, book=dearer)
    assert entry.outcome is Outcome.QUARANTINED
    assert entry.reasons == (
        "would lose the service tiers that the row in force has (flex); write its successor by hand",
    )
    (entry,) = planned(TEXT, book=dearer, accept="s/m")
    assert (entry.outcome, "service_tiers" in entry.row) == (Outcome.CHANGED, False)


def test_fees_of_tools_that_no_table_tells_are_not_lost_with_a_change_that_it_tells() -> None:
    fees = {"web_search": "0.01"}
    (entry,) = planned(TEXT, book=book(row("2026-01-01", "1", tool_call_usd=fees)))
    assert (entry.outcome, entry.in_force) == (Outcome.UNCHANGED, date(2026, 1, 1))
    dearer = book(row("2026-01-01", "0.9", tool_call_usd=fees))
    (entry,) = planned(TEXT, book=dearer)
    assert entry.outcome is Outcome.QUARANTINED
    assert entry.reasons == (
        "would lose the fees of tools that the row in force has (web_search); write its successor by hand",
    )
    (entry,) = planned(TEXT, book=dearer, accept="s/m")
    assert (entry.outcome, "tool_call_usd" in entry.row) == (Outcome.CHANGED, False)


def test_service_tiers_that_a_table_tells_are_imported_and_changed_with_it() -> None:
    flex = OfferedTier({"prompt_usd_per_million": Decimal("0.5"), "completion_usd_per_million": Decimal(2)})
    told = replace(TEXT, service_tiers={"flex": flex})
    (entry,) = planned(told)
    assert entry.outcome is Outcome.IMPORTED
    held = PriceBook.model_validate({"prices": {"s/m": [entry.row]}})
    price = held.in_force("s/m", TODAY)
    assert isinstance(price, MeteredPrice)
    assert [tier.name for tier in price.service_tiers] == ["flex"]
    (entry,) = planned(told, book=held)
    assert entry.outcome is Outcome.UNCHANGED
    dearer = OfferedTier({**flex.figures, "completion_usd_per_million": Decimal(3)})
    later = date(2026, 11, 27)
    (entry,) = planned(replace(told, service_tiers={"flex": dearer}), book=held, day=later)
    assert (entry.outcome, entry.in_force) == (Outcome.CHANGED, TODAY)
    (entry,) = planned(replace(told, service_tiers={"priority": dearer}), book=held, day=later)
    assert entry.reasons == (
        "would lose the service tiers that the row in force has (flex); write its successor by hand",
    )


def test_a_new_name_is_imported_as_of_the_day() -> None:
    (entry,) = planned(TEXT)
    assert (entry.outcome, entry.in_force, entry.row["from"]) == (Outcome.IMPORTED, None, "2026-11-26")


def test_a_row_in_force_that_says_the_same_stays_however_it_is_written() -> None:
    for written in (row("2026-01-01", "1.00"), row("2026-01-01", "1", unusual_price_confirmed=True)):
        (entry,) = planned(TEXT, book=book(written))
        assert (entry.outcome, entry.in_force) == (Outcome.UNCHANGED, date(2026, 1, 1))


def test_a_changed_price_is_a_new_row() -> None:
    (entry,) = planned(TEXT, book=book(row("2026-01-01", "1.5")))
    assert (entry.outcome, entry.in_force) == (Outcome.CHANGED, date(2026, 1, 1))
    (entry,) = planned(TEXT, book=book(row("2026-01-01", "1", cached_usd_per_million="0.1")))
    assert entry.outcome is Outcome.CHANGED, "no cached rate any more"


def test_a_price_that_changes_by_too_much_goes_into_quarantine() -> None:
    (entry,) = planned(TEXT, book=book(row("2026-01-01", "9")))
    assert entry.outcome is Outcome.QUARANTINED
    assert entry.reasons == ("prompt_usd_per_million changes from 9 to 1",)


def test_history_is_not_rewritten_by_a_second_row_of_one_day() -> None:
    (entry,) = planned(TEXT, book=book(row("2026-11-26", "1.1")))
    assert entry.outcome is Outcome.QUARANTINED
    assert "another row from 2026-11-26" in entry.reasons[0]


def test_a_table_that_says_a_thing_twice_says_it_once() -> None:
    assert [entry.outcome for entry in planned(TEXT, replace(TEXT))] == [Outcome.IMPORTED]


def test_what_the_table_dates_in_the_past_is_imported_as_of_the_day_and_what_it_announces_as_announced() -> None:
    figures = {**TEXT.figures, "prompt_usd_per_million": Decimal(2)}
    (past,) = planned(replace(TEXT, first_day=date(2026, 3, 1)))
    assert past.row["from"] == "2026-11-26"
    now, later = planned(TEXT, replace(TEXT, figures=figures, first_day=date(2027, 1, 1)))
    assert (now.row["from"], later.row["from"]) == ("2026-11-26", "2027-01-01")
    assert later.outcome is Outcome.IMPORTED
    known = book(row("2026-11-26", "1"), row("2027-01-01", "2"))
    announced = replace(TEXT, figures=figures, first_day=date(2027, 1, 1))
    assert [(entry.outcome, entry.in_force) for entry in planned(TEXT, announced, book=known)] == [
        (Outcome.UNCHANGED, date(2026, 11, 26)),
        (Outcome.UNCHANGED, date(2027, 1, 1)),
    ]


def test_of_several_dated_prices_the_one_in_force_is_imported() -> None:
    entries = [entry for entry in planned(*offers(GENAI_PRICES)) if entry.name == "anthropic/claude-opus-4-6"]
    (entry,) = entries
    assert entry.outcome is Outcome.IMPORTED
    assert "tiers" not in entry.row, "flat since 2026-03-13"


def test_a_doubtful_price_that_is_accepted_says_so_in_its_row() -> None:
    free = replace(TEXT, figures=dict.fromkeys(TEXT.figures, Decimal(0)))
    (entry,) = planned(free)
    assert entry.outcome is Outcome.QUARANTINED
    (entry,) = planned(free, accept="s/m")
    assert (entry.outcome, entry.row["unusual_price_confirmed"]) == (Outcome.IMPORTED, True)


def test_what_no_price_book_can_hold_cannot_be_accepted() -> None:
    for usd in ("NaN", "-1", "1E+20"):
        figures = {**TEXT.figures, "prompt_usd_per_million": Decimal(usd)}
        (entry,) = planned(replace(TEXT, figures=figures), accept="s/m")
        assert entry.outcome is Outcome.QUARANTINED
        assert entry.reasons[0].startswith("prompt_usd_per_million: ")
