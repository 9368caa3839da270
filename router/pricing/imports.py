"""What an import of a public table does to a price book: which prices are new, the same, changed, or not believed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from router.pricing.book import AnyRow, LeaseRow, PriceBook, TokensRow
from router.pricing.suspicion import Limits, Witnesses, same_figures, suspicions
from router.pricing.tables.offer import Offer

_ROW: TypeAdapter[AnyRow] = TypeAdapter(AnyRow)
# What a row says beside its price.
_ABOUT = {"first_day", "until", "confirmed", "source", "unusual_price_confirmed"}


class Outcome(StrEnum):
    """What became of an offer. unchanged: the row in force says the same, and is confirmed as of today."""

    IMPORTED = "imported"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Entry:
    """One price of the table. row: as `prices.yaml` has it. reasons: why it is in quarantine, else empty. in_force: the first day
    of the row that it confirms, or takes the place of; None for a new name."""

    name: str
    outcome: Outcome
    row: Mapping[str, Any]
    reasons: tuple[str, ...] = ()
    in_force: date | None = None


def plan(
    offers: Iterable[Offer],
    book: PriceBook,
    day: date,
    source: str,
    witnesses: Witnesses,
    limits: Limits = Limits(),  # noqa: B008  (immutable)
    is_accepted: Callable[[str], bool] = lambda name: False,
) -> list[Entry]:
    """In the table's order. is_accepted: whether a name is believed whatever speaks against it, as far as a book can hold it."""
    offers = list(offers)
    since: dict[str, date] = {}  # the day from which a name's present price is, by the table
    for offer in offers:
        if (offer.first_day or date.min) <= day:
            since[offer.name] = max(offer.first_day or date.min, since.get(offer.name, date.min))
    seen: dict[tuple[str, str], Offer] = {}
    entries = []
    for offer in offers:
        if (offer.first_day or date.min) < since.get(offer.name, date.min):
            continue  # what it cost once
        row = offer.row(day, source)
        earlier = seen.setdefault((offer.name, row["from"]), offer)
        if earlier is not offer and same_figures(earlier, offer):
            continue
        entries.append(_entry(offer, row, book, day, witnesses, limits, is_accepted=is_accepted(offer.name)))
    return entries


def _entry(
    offer: Offer,
    row: dict[str, Any],
    book: PriceBook,
    day: date,
    witnesses: Witnesses,
    limits: Limits,
    *,
    is_accepted: bool,
) -> Entry:
    rows = book.prices.get(offer.name, ())
    in_force = max((one for one in rows if one.is_in_force(day)), key=lambda one: one.first_day, default=None)
    first_day = None if in_force is None else in_force.first_day
    reasons = suspicions(offer, witnesses, in_force, limits)
    if is_accepted and reasons:
        row, reasons = {**row, "unusual_price_confirmed": True}, list(_impossible(row))
    else:
        reasons += [] if reasons else _impossible(row)
    if not reasons:
        made = _ROW.validate_python(row)
        same_day = next((one for one in rows if one.first_day == made.first_day), None)
        for known in (same_day, in_force if made.first_day <= day else None):
            if known is not None and _price(known, beside=made) == _price(made):
                return Entry(offer.name, Outcome.UNCHANGED, row, in_force=known.first_day)
        for what, names_of in (("service tiers", _service_tiers), ("fees of tools", _tools)):
            lost = ", ".join(sorted(names_of(in_force) - names_of(made)))
            if lost and not is_accepted:
                reasons += [f"would lose the {what} that the row in force has ({lost}); write its successor by hand"]
        if same_day is not None:
            reasons += [f"there is another row from {made.first_day} on in the price book; correct that one by hand"]
    outcome = Outcome.QUARANTINED if reasons else Outcome.IMPORTED if in_force is None else Outcome.CHANGED
    return Entry(offer.name, outcome, row, tuple(reasons), first_day)


def _impossible(row: Mapping[str, Any]) -> list[str]:
    """Why the book could not hold it even if somebody had confirmed it."""
    try:
        _ROW.validate_python({**row, "unusual_price_confirmed": True})
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors(include_url=False)]
    return []


def _service_tiers(row: AnyRow | None) -> frozenset[str]:
    return frozenset(row.service_tiers) if isinstance(row, TokensRow) else frozenset()


def _tools(row: AnyRow | None) -> frozenset[str]:
    return frozenset(row.tool_call_usd) if isinstance(row, TokensRow) else frozenset()


def _price(row: AnyRow, beside: AnyRow | None = None) -> dict[str, Any]:
    """What two rows have in common that cost the same, however they are written. A lease's GPU is a name, and no price.

    beside: with no other service tiers and fees of tools than that one's; most tables tell none, and that is no change.
    """
    price = row.model_dump(exclude=_ABOUT | ({"gpu"} if isinstance(row, LeaseRow) else set()), exclude_none=True)
    for member, names_of in (("service_tiers", _service_tiers), ("tool_call_usd", _tools)):
        if beside is not None and member in price:
            kept = names_of(beside)
            price[member] = {name: one for name, one in price[member].items() if name in kept}
    return price
