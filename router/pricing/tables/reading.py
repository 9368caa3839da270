"""From a file's text to offers, whichever of the known tables it is."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from router.pricing.tables import genai_prices, litellm, openrouter, skypilot
from router.pricing.tables.offer import Members, Offer, TableRefused, amount


class Table(StrEnum):
    """The public tables whose form is known."""

    SKYPILOT = "skypilot"
    LITELLM = "litellm"
    OPENROUTER = "openrouter"
    GENAI_PRICES = "genai-prices"


_IS_LIKE: Mapping[Table, Callable[[Any], bool]] = {
    Table.LITELLM: litellm.is_like,
    Table.OPENROUTER: openrouter.is_like,
    Table.GENAI_PRICES: genai_prices.is_like,
}
_READ: Mapping[Table, Callable[[Any], Iterator[Offer | None]]] = {
    Table.LITELLM: litellm.read,
    Table.OPENROUTER: openrouter.read,
    Table.GENAI_PRICES: genai_prices.read,
}


def read_table(text: str, table: Table | None = None, *, cloud: str = "") -> tuple[Table, list[Offer], int]:
    """Which table it is, its offers, and how many of its entries have no price of a kind that jeton knows.

    table: None to tell it by its content. cloud: whose catalogue, for SkyPilot's. Raises TableRefused, saying what is wrong.
    """
    if table is Table.SKYPILOT or (table is None and skypilot.is_like(text)):
        if not cloud:
            raise TableRefused("is a catalogue of SkyPilot's, which does not say of which cloud; name it with --cloud")
        try:
            return Table.SKYPILOT, *_sorted_out(skypilot.read(text, cloud))
        except csv.Error as error:
            raise TableRefused(f"has a line that is not as {Table.SKYPILOT.value} has them ({error})") from None
    try:
        # What is no amount is kept for the quarantine: a table with one wrong price is not a wrong table.
        document = json.loads(text, parse_float=amount, object_pairs_hook=Members.of)
    except (ValueError, RecursionError) as error:
        known = ", ".join(Table)
        raise TableRefused(f"is neither JSON ({error}) nor a catalogue of SkyPilot's; known are {known}") from None
    if table is None:
        table = next((one for one, is_like in _IS_LIKE.items() if is_like(document)), None)
    if table is None:
        raise TableRefused(f"is JSON, but of none of the known tables ({', '.join(Table)})")
    try:
        return table, *_sorted_out(_READ[table](document))
    except TableRefused:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableRefused(f"has an entry that is not as {table.value} has them ({error!r})") from None


def _sorted_out(read: Iterator[Offer | None]) -> tuple[list[Offer], int]:
    offers, others = [], 0
    for offer in read:
        if offer is None:
            others += 1
        else:
            offers.append(_shown(offer))
    return offers, others


def _shown(offer: Offer) -> Offer:
    """What nobody can read, and a terminal might obey, is spelled out."""
    if (offer.name + offer.gpu).isprintable():
        return offer
    name, gpu = (text.encode("unicode_escape").decode() for text in (offer.name, offer.gpu))
    return replace(offer, name=name, gpu=gpu, faults=(*offer.faults, "has characters in its name that cannot be shown"))
