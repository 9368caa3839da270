"""OpenRouter's list of models (`GET /api/v1/models`): US dollars per token, as text.

Read: rates of text tokens, `overrides` for longer prompts, and the fee per request. Left out: images, web search, audio.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from router.pricing.tables.offer import Offer, TableRefused, amount, per_million, product_of, rounded

RATES = {
    "prompt": "prompt_usd_per_million",
    "input_cache_read": "cached_usd_per_million",
    "input_cache_write": "cache_write_usd_per_million",
    "completion": "completion_usd_per_million",
}
NEEDED = ("prompt", "completion")


def is_like(document: Any) -> bool:
    models = document.get("data") if isinstance(document, dict) else None
    return isinstance(models, list) and any(isinstance(one, dict) and "pricing" in one for one in models)


def read(document: Any) -> Iterator[Offer | None]:
    """Every model in turn; None for one without a price of tokens."""
    if not is_like(document):
        raise TableRefused("has no `data`: a list of models with `pricing`")
    for model in document["data"]:
        pricing = model.get("pricing") if isinstance(model, dict) else None
        name = model.get("id") if isinstance(model, dict) else None
        if not isinstance(pricing, dict) or not isinstance(name, str) or any(rate not in pricing for rate in NEEDED):
            yield None
            continue
        figures = _rates(pricing)
        if request_usd := amount(pricing.get("request", 0)):
            figures["request_usd"] = rounded(request_usd)
        tiers, faults = _tiers(pricing, figures)
        outputs = (model.get("architecture") or {}).get("output_modalities") or ["text"]
        yield Offer(
            name=f"openrouter/{name}",
            kind="tokens",
            figures=figures,
            seller="openrouter",
            product=product_of(name),
            tiers=tiers,
            makes_text="text" in outputs,
            faults=faults,
        )


def _rates(pricing: Mapping[str, Any]) -> dict[str, Decimal]:
    rates = {ours: per_million(pricing[theirs]) for theirs, ours in RATES.items() if pricing.get(theirs) is not None}
    # A cache that costs nothing to read or write is how older lists say that there is none.
    for name in ("cached_usd_per_million", "cache_write_usd_per_million"):
        if rates.get(name) == 0:
            del rates[name]
    return rates


def _tiers(
    pricing: Mapping[str, Any], base: Mapping[str, Decimal]
) -> tuple[tuple[Mapping[str, Decimal], ...], tuple[str, ...]]:
    rates = {name: base[name] for name in RATES.values() if name in base}
    made, faults = [], []
    for override in pricing.get("overrides") or ():
        above = override.get("min_prompt_tokens") if isinstance(override, dict) else None
        if not isinstance(above, int) or above <= 0:
            faults.append("has overrides that are not by the prompt's length, which prices.yaml cannot say")
            continue
        made.append((above, override))
    tiers = []
    for above, override in sorted(made, key=lambda pair: pair[0]):
        rates = rates | _rates(override)
        tiers.append({"above_prompt_tokens": Decimal(above), **rates})
    return tuple(tiers), tuple(dict.fromkeys(faults))
