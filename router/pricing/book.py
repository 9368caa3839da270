"""The price book, prices.yaml: dated rows by name, each with its source, and which of them is in force on a day.

    prices:
      central-h100:
        - kind: lease
          from: 2026-05-07
          usd_per_hour: 3.78
          source: where the figure was read, and when
    feeds:
      spot-market:
        url: https://prices.internal/spot.json
        prices: [spot-h100]

What a row may say is `rows.py`'s, what is believed of a feed `feed.py`'s. No clock lives here: the day is always given.
"""

from datetime import date
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

from router.pricing.feed import FedPrice, FeedTerms, fed_price_of
from router.pricing.price import LeasedPrice, MeteredPrice, Price, Purchase, TokenRates
from router.pricing.rows import AnyRow, LeaseRow, OwnedRow, TokensRow

__all__ = [
    "AnyRow", "LeaseRow", "LeasedPrice", "MeteredPrice", "OwnedRow", "Price", "PriceBook", "PriceMissing", "Purchase",
    "TokenRates", "TokensRow",
]  # fmt: skip


class PriceMissing(LookupError):
    """No price of that name is in force on that day."""


def _make_a_history(rows: tuple[AnyRow, ...]) -> tuple[AnyRow, ...]:
    if not rows:
        raise ValueError("has no rows; add one, or take the name out")
    days = [row.first_day for row in rows]
    for day in days:
        if days.count(day) > 1:
            raise ValueError(f"two rows begin on {day}; keep one, or date the newer one when it began")
    return rows


Rows = Annotated[tuple[AnyRow, ...], AfterValidator(_make_a_history)]


class PriceBook(BaseModel):
    """prices.yaml, whole: rows by name, each name with its history, and the feeds that move some of them.

    stale_days: a row that nobody has confirmed for longer, and that does not say itself until when it holds, is stale.
    """

    model_config = {"frozen": True, "extra": "forbid"}

    stale_days: int = Field(default=365, gt=0)
    prices: dict[str, Rows]
    feeds: dict[str, FeedTerms] = {}

    @field_validator("feeds")
    @classmethod
    def _feeds_move_leases(cls, feeds: dict[str, FeedTerms], info: ValidationInfo) -> dict[str, FeedTerms]:
        prices: dict[str, tuple[AnyRow, ...]] = info.data.get("prices", {})
        moved_by: dict[str, str] = {}
        for feed, terms in feeds.items():
            for name in terms.prices:
                if name in moved_by:
                    raise ValueError(
                        f"`{name}` is moved by `{moved_by[name]}` and by `{feed}`; leave it to one of them"
                    )
                moved_by[name] = feed
                if prices and name not in prices:
                    raise ValueError(
                        f"`{feed}` moves `{name}`, which has no rows; add one, which holds until the feed is read"
                    )
                if any(not isinstance(row, LeaseRow) or row.purchase == "reserved" for row in prices.get(name, ())):
                    raise ValueError(
                        f"`{feed}` moves `{name}`, which is not a `lease` on spot or on demand; a feed tells their $/hour"
                    )
        return feeds

    def in_force(self, name: str, day: date, fed: FedPrice | None = None) -> Price:
        """The snapshot of a name on a day. fed: what a feed has told of the row that was then in force.

        Raises PriceMissing as `row_in_force` does.
        """
        row = self.row_in_force(name, day)
        row_id = self.row_id(name, row)
        if fed is not None and fed.row_id == row_id and isinstance(row, LeaseRow):
            return row.model_copy(update={"usd_per_hour": fed.usd_per_hour}).snapshot(fed.price_id)
        return row.snapshot(row_id)

    @staticmethod
    def row_id(name: str, row: AnyRow) -> str:
        return f"{name}@{row.first_day}#{row.digest()}"

    def feed_of(self, name: str) -> str | None:
        """The feed that moves a price."""
        return next((feed for feed, terms in self.feeds.items() if name in terms.prices), None)

    def row_in_force(self, name: str, day: date) -> AnyRow:
        """Of the rows of a name that are in force on a day, the one that began last.

        Raises PriceMissing, saying `what; what to do`: the nearest names, or the days that the name does cover.
        """
        rows = self.prices.get(name)
        if rows is None:
            near = get_close_matches(name, self.prices, n=3, cutoff=0.5) or sorted(self.prices)[:10]
            known = "there is " + ", ".join(f"`{one}`" for one in near) if near else "the price book is empty"
            raise PriceMissing(f"there is no price named `{name}`; {known}")
        current = [row for row in rows if row.is_in_force(day)]
        if not current:
            spans = ", ".join(f"{row.first_day} to {row.until or 'now'}" for row in rows)
            raise PriceMissing(f"no row of `{name}` is in force on {day}; add one (it has {spans})")
        return max(current, key=lambda one: one.first_day)

    def row_of(self, price_id: str) -> AnyRow | None:
        """The row that a snapshot was taken of, with what a feed had told; None when it is not in the book any more, or was
        edited."""
        fed = fed_price_of(price_id)
        row_id = price_id if fed is None else fed.row_id
        name = row_id.rpartition("@")[0]
        for row in self.prices.get(name, ()):
            if row_id == self.row_id(name, row):
                return row if fed is None else row.model_copy(update={"usd_per_hour": fed.usd_per_hour})
        return None
