"""A price is current, stale or unknown, and says why."""

from datetime import UTC, datetime
from typing import Any

import pytest

from router.pricing.book import PriceBook
from router.pricing.freshness import PriceState, Standing, Told, standing

DAY = 86_400


def seconds(day: str, hour: int = 12) -> float:
    return datetime.fromisoformat(f"{day}T{hour:02}:00:00").replace(tzinfo=UTC).timestamp()


def at(day: str, told: Told | None = None, **members: Any) -> Standing:
    row = {"kind": "lease", "from": "2026-01-01", "usd_per_hour": 2, "source": "a contract", **members}
    feeds = {"market": {"file": "spot.json", "prices": ["p"], "stale_seconds": 60}} if told else {}
    book = PriceBook.model_validate({"stale_days": 30, "prices": {"p": [row]}, "feeds": feeds})
    return standing(book, "p", seconds(day), told)


def test_a_row_is_as_old_as_its_first_day() -> None:
    one = at("2026-01-11")
    assert (one.state, one.age_seconds, one.source, one.why) == (PriceState.CURRENT, 10.5 * DAY, "a contract", "")


@pytest.mark.parametrize(
    ("day", "members", "state"),
    [
        ("2026-01-31", {}, PriceState.CURRENT),
        ("2026-02-01", {}, PriceState.STALE),
        ("2026-02-01", {"confirmed": "2026-01-15"}, PriceState.CURRENT),
        ("2026-02-15", {"confirmed": "2026-01-15"}, PriceState.STALE),
        ("2026-02-15", {"confirmed": "2025-12-01"}, PriceState.STALE),
        ("2026-12-01", {"until": "2027-01-01"}, PriceState.CURRENT),
        ("2027-01-01", {"until": "2027-01-01"}, PriceState.UNKNOWN),
        ("2025-12-31", {}, PriceState.UNKNOWN),
        ("2026-01-11", {"confirmed": "2062-01-01"}, PriceState.STALE),
    ],
)
def test_a_row_that_nobody_has_confirmed_for_too_long_is_stale(
    day: str, members: dict[str, Any], state: PriceState
) -> None:
    one = at(day, **members)
    assert one.state is state
    assert bool(one.why) is (state is not PriceState.CURRENT)
    assert (one.age_seconds is None) is (state is PriceState.UNKNOWN)


def test_confirming_a_row_is_no_change_of_its_price() -> None:
    row = {"kind": "lease", "from": "2026-01-01", "usd_per_hour": 2, "source": "a contract"}
    ids = {
        PriceBook.model_validate({"prices": {"p": [row | about]}}).in_force("p", datetime(2026, 2, 1).date()).price_id
        for about in ({}, {"confirmed": "2026-02-01"}, {"confirmed": "2026-02-02"})
    }
    assert len(ids) == 1


def test_a_price_that_a_feed_moves_is_as_old_as_what_it_told() -> None:
    now = seconds("2026-06-01")
    one = at("2026-06-01", Told("market", now - 50, is_known=True))
    assert (one.state, one.age_seconds, one.source) == (PriceState.CURRENT, 50, "feed market")
    one = at("2026-06-01", Told("market", now - 70, is_known=True, trouble="cannot be read"))
    assert one.state is PriceState.STALE
    assert one.why == ("the feed `market` has told nothing good for 70 s, its last good value stays; cannot be read")
    one = at("2026-06-01", Told("market", now - 70, is_known=False))
    assert "the row in force stands in" in one.why
