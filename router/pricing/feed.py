"""Prices that move: what a feed's document says, and whether it is believed.

    {"at": "2026-11-26T17:30:00Z", "usd_per_hour": {"spot-h100": 1.62}}

An hour of one replica, as in the row that it moves, and the time since when it is so. A value that cannot be true leaves the
last good one in force, until that is stale. Neither clock nor network lives here.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from router.domain.immutable import immutable
from router.pricing.rows import Amount, LeaseRow, unusual

# Clocks differ a little; a time further ahead is a mistake.
AHEAD_SECONDS_MAX = 60
NS_PER_SECOND = 10**9
URL = r"^https?://[^\s/?#@]+(/[^\s#]*)?$"
_PRICE_ID = re.compile(r"(.*#[0-9a-f]{8})~(\d{1,10}(?:\.\d{1,9})?)~(\d{8}T\d{6})Z")
_MOMENT = "%Y%m%dT%H%M%S"


class FeedRefused(ValueError):
    """A document, or a value in it, that is not believed: what is wrong."""


class FeedTerms(BaseModel):
    """One feed: a file (beside prices.yaml unless its path is absolute) or a URL, read every poll_seconds.

    stale_seconds: how old what it tells may be. jump_ratio_max: by how much a price may change from one value to the next,
    either way. usd_per_hour_min, usd_per_hour_max: narrower bounds than those of any GPU-hour.
    """

    model_config = {"frozen": True, "extra": "forbid"}

    url: str | None = Field(default=None, pattern=URL)
    file: Path | None = None
    prices: tuple[str, ...] = Field(min_length=1)
    poll_seconds: float = Field(default=60.0, ge=0.1, le=86_400)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    stale_seconds: float = Field(default=900.0, gt=0)
    jump_ratio_max: Decimal = Field(default=Decimal(3), gt=1)
    usd_per_hour_min: Amount | None = None
    usd_per_hour_max: Amount | None = None

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.url is None) == (self.file is None):
            raise ValueError("a feed is read from one place; write either `url` or `file`")
        return self

    @property
    def place(self) -> str:
        return self.url or str(self.file)


@immutable
class FedPrice:
    """What a feed has told of a price. row_id: of the row that it moves. since_ns: from when, nanoseconds since 1970."""

    row_id: str
    usd_per_hour: Decimal
    since_ns: int

    @property
    def price_id(self) -> str:
        """`<row id>~<$/hour>~<time>`."""
        moment = datetime.fromtimestamp(self.since_ns // NS_PER_SECOND, UTC)
        return f"{self.row_id}~{self.usd_per_hour:f}~{moment.strftime(_MOMENT)}Z"


@immutable
class Document:
    """at_ns: since when it is so. usd_per_hour: by name, what stands there unjudged."""

    at_ns: int
    usd_per_hour: Mapping[str, Any]


def fed_price_of(price_id: str) -> FedPrice | None:
    """What a feed had told, to the second; None of a price that no feed has moved."""
    found = _PRICE_ID.fullmatch(price_id)
    if found is None:
        return None
    try:
        moment = datetime.strptime(found[3], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return FedPrice(found[1], Decimal(found[2]), int(moment.timestamp()) * NS_PER_SECOND)


def read_document(text: bytes) -> Document:
    """Raises FeedRefused when it is not of the form above."""
    try:
        members = json.loads(text, parse_float=Decimal)
        moment = datetime.fromisoformat(members["at"])
        amounts = members["usd_per_hour"]
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)  # at the ends of the calendar a time may have none in UTC
    except (ValueError, TypeError, KeyError, RecursionError, ArithmeticError) as error:
        raise FeedRefused(f"malformed: it needs `at` and `usd_per_hour` ({type(error).__name__})") from None
    if moment.tzinfo is None or not isinstance(amounts, dict):
        raise FeedRefused(
            "malformed: `at` needs a time zone, as in 2026-11-26T17:30:00Z, and `usd_per_hour` is by name"
        )
    whole = int(moment.replace(microsecond=0).timestamp())
    return Document(whole * NS_PER_SECOND + moment.microsecond * 1000, amounts)


def judge(
    document: Document, name: str, row: LeaseRow, terms: FeedTerms, now_ns: int, last: Decimal, heard_ns: int | None
) -> Decimal:
    """The $/hour that a document tells of one price. last: what is in force. heard_ns: the time of the last document believed.

    Raises FeedRefused, saying what is wrong with it.
    """
    _judge_time(document.at_ns, terms, now_ns, heard_ns)
    written = document.usd_per_hour.get(name)
    if isinstance(written, bool) or not isinstance(written, int | Decimal | str):
        raise FeedRefused("malformed: no number" if name in document.usd_per_hour else "the document does not have it")
    try:
        usd = round(Decimal(written), 9)
    except ArithmeticError:
        raise FeedRefused(f"malformed: `{str(written)[:40]}` is no number") from None
    if not usd.is_finite() or usd <= 0:
        raise FeedRefused(f"{usd:f} is no price of a lease")
    low, high = terms.usd_per_hour_min, terms.usd_per_hour_max
    if (low is not None and usd < low) or (high is not None and usd > high):
        raise FeedRefused(f"{usd:f} is out of the feed's bounds, {low if low is not None else 0} to {high or 'any'}")
    if not row.unusual_price_confirmed and (what := unusual("usd_per_hour", usd / row.gpus)):
        raise FeedRefused(what)
    if last and max(usd / last, last / usd) > terms.jump_ratio_max:
        raise FeedRefused(
            f"{usd:f} is more than {terms.jump_ratio_max} times away from {last:f}; if it is right, write it into a new row"
        )
    if document.at_ns == heard_ns and usd != last:
        raise FeedRefused(f"{usd:f} where it was {last:f}, and both at the same time")
    return usd.normalize()


def _judge_time(at_ns: int, terms: FeedTerms, now_ns: int, heard_ns: int | None) -> None:
    if at_ns > now_ns + AHEAD_SECONDS_MAX * NS_PER_SECOND:
        raise FeedRefused(f"of a time to come ({_text(at_ns)})")
    if heard_ns is not None and at_ns < heard_ns:
        raise FeedRefused(f"older ({_text(at_ns)}) than the last ({_text(heard_ns)})")
    if at_ns < now_ns - terms.stale_seconds * NS_PER_SECOND:
        raise FeedRefused(f"older ({_text(at_ns)}) than stale_seconds, {terms.stale_seconds:g}")


def _text(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_SECOND, UTC).isoformat().replace("+00:00", "Z")
