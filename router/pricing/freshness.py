"""How far a price can be believed now: current, stale, or unknown.

Stale is a figure that nobody has seen to hold for too long: a row past `stale_days`, or a feed that has told nothing new. It
still counts, loudly, for a wrong price is nearer than none. Unknown is no price at all: the backend is not chosen, and what
runs there is `unpriced`, never 0.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum

from router.pricing.book import PriceBook, PriceMissing

SECONDS_PER_DAY = 86_400


class PriceState(StrEnum):
    """In the words of `jeton_price_state`."""

    CURRENT = "current"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Standing:
    """name: of the price. age_seconds: since its figure was last known to hold; None where there is none. why: what is wrong with
    it, and what to do; "" while it is current."""

    name: str
    state: PriceState
    age_seconds: float | None = None
    source: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a feed has told of a price. at_seconds: the time of its last good value, else since when it is listened to.
    trouble: why it is not believed now, else ""."""

    feed: str
    at_seconds: float
    is_known: bool
    trouble: str = ""


def standing(book: PriceBook, name: str, now_seconds: float, told: Told | None = None) -> Standing:
    """Of one price of the book. now_seconds: since 1970, UTC. told: of one that a feed moves."""
    today = datetime.fromtimestamp(now_seconds, UTC).date()
    try:
        row = book.row_in_force(name, today)
    except PriceMissing as error:
        return Standing(name, PriceState.UNKNOWN, why=str(error.args[0]))
    if told is not None and told.feed in book.feeds:
        return _fed(book, name, now_seconds, told)
    known_on = row.known_on
    age_seconds = now_seconds - _midnight(known_on)
    state, why = PriceState.CURRENT, ""
    if age_seconds < 0:
        state, why = PriceState.STALE, f"is confirmed on {known_on}, a day to come; correct `confirmed`"
    elif row.until is None and age_seconds >= (book.stale_days + 1) * SECONDS_PER_DAY:
        days = int(age_seconds // SECONDS_PER_DAY)
        why = (
            f"was last known to hold on {known_on}, {days} days ago (`stale_days` is {book.stale_days}); look whether it still"
            f" does, then write `confirmed: {today}`, or a new row"
        )
        state = PriceState.STALE
    return Standing(name, state, max(age_seconds, 0.0), row.source, why)


def _fed(book: PriceBook, name: str, now_seconds: float, told: Told) -> Standing:
    """A price that a feed moves is as old as what the feed last told."""
    stale_seconds = book.feeds[told.feed].stale_seconds
    age_seconds = max(now_seconds - told.at_seconds, 0.0)
    state, why = PriceState.CURRENT, ""
    if age_seconds > stale_seconds:
        state = PriceState.STALE
        stands = "its last good value stays" if told.is_known else "the row in force stands in"
        why = f"the feed `{told.feed}` has told nothing good for {age_seconds:.0f} s, {stands}; {told.trouble or 'look at it'}"
    return Standing(name, state, age_seconds, f"feed {told.feed}", why)


def _midnight(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()
