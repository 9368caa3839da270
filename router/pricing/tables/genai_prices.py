"""pydantic's genai-prices (`prices/data.json` or `data_slim.json`): providers with models, US dollars per million tokens.

A model has one price, or several of which the last whose constraint holds is in force: from a day on, which becomes a dated
row, or between two times of day, which `prices.yaml` cannot say. Left out: images, video, audio, searches and tools.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from router.pricing.tables.offer import Offer, TableRefused, amount, product_of, rounded, seller_of

RATES = {
    "input_mtok": "prompt_usd_per_million",
    "cache_read_mtok": "cached_usd_per_million",
    "cache_write_mtok": "cache_write_usd_per_million",
    "output_mtok": "completion_usd_per_million",
}
TIME_OF_DAY = "depends on the time of day, which prices.yaml cannot say; this is what it costs at other times"


def is_like(document: Any) -> bool:
    providers = document.get("providers") if isinstance(document, dict) else document
    return isinstance(providers, list) and any(isinstance(one, dict) and "models" in one for one in providers)


def read(document: Any) -> Iterator[Offer | None]:
    """Every price in turn; None for a model without a price of tokens."""
    if not is_like(document):
        raise TableRefused("is no list of providers with `models`")
    for provider in document["providers"] if isinstance(document, dict) else document:
        for model in provider.get("models", ()):
            yield from _offers(str(provider.get("id", "unknown")), model)


def _offers(provider: str, model: Mapping[str, Any]) -> Iterator[Offer | None]:
    prices = model.get("prices")
    alternatives: Sequence[Any] = prices if isinstance(prices, list) else [{"prices": prices}]
    faults: tuple[str, ...] = ()
    dated: list[tuple[date | None, Mapping[str, Any]]] = []
    for one in alternatives:
        constraint = one.get("constraint") or {}
        start = constraint.get("start_date")
        if constraint and not isinstance(start, str):
            faults = (TIME_OF_DAY,)
        else:
            dated.append((date.fromisoformat(start) if start else None, one["prices"]))
    for first_day, rates in dated:
        yield _offer(provider, str(model.get("id")), rates, first_day, faults)


def _offer(provider: str, model: str, prices: Any, first_day: date | None, faults: tuple[str, ...]) -> Offer | None:
    if not isinstance(prices, dict):
        return None
    figures: dict[str, Decimal] = {}
    tiers: dict[int, dict[str, Decimal]] = {}
    for theirs, ours in RATES.items():
        value = prices.get(theirs)
        if isinstance(value, dict):
            figures[ours] = rounded(amount(value.get("base")))
            for tier in value.get("tiers", ()):
                tiers.setdefault(int(tier["start"]), {})[ours] = rounded(amount(tier.get("price")))
        elif value is not None:
            figures[ours] = rounded(amount(value))
    if prices.get("requests_kcount") is not None:
        figures["request_usd"] = rounded(amount(prices["requests_kcount"]) / 1000)
    if "prompt_usd_per_million" not in figures:
        return None
    makes_text = "completion_usd_per_million" in figures
    figures.setdefault("completion_usd_per_million", Decimal(0))
    rates = {name: usd for name, usd in figures.items() if name in RATES.values()}
    made = []
    for above, changed in sorted(tiers.items()):
        rates = rates | changed
        made.append({"above_prompt_tokens": Decimal(above), **rates})
    return Offer(
        name=f"{provider}/{model}",
        kind="tokens",
        figures=figures,
        seller=seller_of(provider),
        product=product_of(model),
        tiers=tuple(made),
        makes_text=makes_text,
        first_day=first_day,
        faults=faults,
    )
