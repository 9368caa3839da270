"""What a feed tells is believed only where it can be true."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from price_feed import NS, document

from router.pricing.book import PriceBook
from router.pricing.feed import Document, FedPrice, FeedRefused, FeedTerms, fed_price_of, judge, read_document
from router.pricing.price import LeasedPrice, Purchase
from router.pricing.rows import LeaseRow

NOW = 1_795_714_200 * NS
MINUTE = 60 * NS
SPOT = {
    "kind": "lease",
    "purchase": "spot",
    "from": "2026-01-01",
    "gpu": "H100",
    "gpus": 2,
    "usd_per_hour": 4,
    "source": "x",
}
BOOK = PriceBook.model_validate({"prices": {"spot": [SPOT]}})
ROW = BOOK.prices["spot"][0]
assert isinstance(ROW, LeaseRow)


def told(value: Any, *, at_ns: int = NOW, last: str = "4", heard_ns: int | None = None, **terms: Any) -> Decimal:
    assert isinstance(ROW, LeaseRow)
    feed = FeedTerms.model_validate({"url": "http://feed/", "prices": ["spot"], **terms})
    return judge(Document(at_ns, {"spot": value}), "spot", ROW, feed, NOW, Decimal(last), heard_ns)


@pytest.mark.parametrize(
    "text",
    [
        b'{"at": "2026-11-26T17:30:00Z", "usd_per_hour": {"spot": 1e99999999999999999999}}',
        b'{"at": "0001-01-01T00:00:00+14:00", "usd_per_hour": {"spot": 4}}',
        b'{"at": "9999-12-31T23:59:59-14:00", "usd_per_hour": {"spot": 4}}',
    ],
)
def test_a_number_or_a_time_beyond_what_there_is_is_refused_as_malformed(text: bytes) -> None:
    with pytest.raises(FeedRefused, match="malformed"):
        read_document(text)


@pytest.mark.parametrize("value", [5, Decimal("5.00"), "5", "5.0"])
def test_a_price_of_the_usual_size_is_believed(value: Any) -> None:
    assert told(value) == 5


@pytest.mark.parametrize(
    ("value", "other", "says"),
    [
        ("five", {}, "malformed"),
        (None, {}, "malformed"),
        (True, {}, "malformed"),
        ([4], {}, "malformed"),
        (float("nan"), {}, "malformed"),
        ("NaN", {}, "no price of a lease"),
        ("Infinity", {}, "malformed"),
        (Decimal("1E+999"), {}, "malformed"),
        (0, {}, "no price of a lease"),
        (-4, {}, "no price of a lease"),
        ("1E-12", {}, "no price of a lease"),
        (400, {"jump_ratio_max": 1000}, "200 USD for a GPU-hour is more than 10 times outside"),
        ("0.04", {"jump_ratio_max": 1000}, "0.02 USD for a GPU-hour is more than 10 times outside"),
        ("12.1", {}, "more than 3 times away from 4"),
        ("1.3", {}, "more than 3 times away from 4"),
        ("4.5", {"usd_per_hour_max": "4.4"}, "out of the feed's bounds"),
        ("3.5", {"usd_per_hour_min": "3.6"}, "out of the feed's bounds"),
        (5, {"at_ns": NOW + 2 * MINUTE}, "of a time to come (2026-"),
        (5, {"at_ns": NOW - 20 * MINUTE}, "than stale_seconds, 900"),
        (5, {"at_ns": NOW - 2 * MINUTE, "heard_ns": NOW - MINUTE}, "older (2026-"),
        (5, {"at_ns": NOW - MINUTE, "heard_ns": NOW - MINUTE}, "both at the same time"),
    ],
)
def test_what_cannot_be_true_is_refused(value: Any, other: dict[str, Any], says: str) -> None:
    with pytest.raises(FeedRefused) as caught:
        told(value, **other)
    assert says in str(caught.value)


def test_what_is_told_again_at_the_same_time_is_the_same() -> None:
    assert told("4.00", at_ns=NOW - MINUTE, heard_ns=NOW - MINUTE) == 4


def test_a_price_that_is_not_told_is_refused() -> None:
    assert isinstance(ROW, LeaseRow)
    feed = FeedTerms.model_validate({"url": "http://feed/", "prices": ["spot"]})
    with pytest.raises(FeedRefused, match="does not have it"):
        judge(Document(NOW, {"other": 4}), "spot", ROW, feed, NOW, Decimal(4), None)


def test_a_document_is_read_exactly() -> None:
    read = read_document(b'{"at": "2026-11-26T18:30:00.25+01:00", "usd_per_hour": {"spot": 1.62}, "more": 1}')
    assert read.at_ns == 1_795_714_200_250_000_000
    assert read.usd_per_hour == {"spot": Decimal("1.62")}
    assert read_document(document(NOW, spot_eu=Decimal("1.62"))) == Document(NOW, {"spot-eu": "1.62"})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"1",
        b"{}",
        b"[" * 100_000,
        b'{"at": "2026-11-26T17:30:00Z"}',
        b'{"at": "2026-11-26T17:30:00Z", "usd_per_hour": [1]}',
        b'{"at": "2026-11-26T17:30:00", "usd_per_hour": {}}',
        b'{"at": 1795714200, "usd_per_hour": {}}',
        b'{"at": "now", "usd_per_hour": {}}',
    ],
)
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(FeedRefused, match="malformed"):
        read_document(text)


def test_what_a_feed_told_is_a_price_of_its_own_that_leads_back_to_its_row() -> None:
    day = date(2026, 11, 26)
    row = BOOK.row_in_force("spot", day)
    fed = FedPrice(BOOK.row_id("spot", row), Decimal("1.62"), NOW)
    price = BOOK.in_force("spot", day, fed)
    assert isinstance(price, LeasedPrice)
    assert (price.nanousd_per_hour, price.purchase, price.gpu) == (1_620_000_000, Purchase.SPOT, "H100")
    assert price.price_id == f"{fed.row_id}~1.62~20261126T173000Z"
    assert fed_price_of(price.price_id) == fed
    for other in (fed.row_id, "", "x", f"{fed.row_id}~1.62~20261399T000000Z", f"{fed.row_id}~~20261126T173000Z"):
        assert fed_price_of(other) is None
    found = BOOK.row_of(price.price_id)
    assert isinstance(found, LeaseRow)
    assert (found.usd_per_hour, found.gpus) == (Decimal("1.62"), 2)


def test_what_a_feed_told_of_a_row_is_not_taken_for_its_successor() -> None:
    rows = [SPOT, {**SPOT, "from": "2026-11-26", "usd_per_hour": 3}]
    book = PriceBook.model_validate({"prices": {"spot": rows}})
    old = FedPrice(book.row_id("spot", book.row_in_force("spot", date(2026, 11, 25))), Decimal("1.62"), NOW)
    price = book.in_force("spot", date(2026, 11, 26), old)
    assert isinstance(price, LeasedPrice)
    assert price.nanousd_per_hour == 3_000_000_000
