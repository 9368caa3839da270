"""LiteLLM's `model_prices_and_context_window.json`: a mapping of models, US dollars per token.

Read: rates of text tokens with their tiers by context length, the same of the service tiers `flex` and `priority` where none of
them is missing, fees per query, and audio by the second. Left out, because jeton does not route it or a request does not tell it:
images, video and speech, batch rates, audio tokens, reasoning tokens of another rate.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from router.pricing.tables.offer import (
    Members,
    Offer,
    OfferedTier,
    TableRefused,
    amount,
    per_million,
    product_of,
    rounded,
    seller_of,
)

MAKES_TEXT = frozenset({"chat", "completion", "responses"})
MODES = MAKES_TEXT | {"embedding", "rerank", "audio_transcription"}
RATES = {
    "input_cost_per_token": "prompt_usd_per_million",
    "cache_read_input_token_cost": "cached_usd_per_million",
    "cache_creation_input_token_cost": "cache_write_usd_per_million",
    "cache_creation_input_token_cost_above_1hr": "cache_write_hour_usd_per_million",
    "output_cost_per_token": "completion_usd_per_million",
}
NOTHING = {"prompt_usd_per_million": Decimal(0), "completion_usd_per_million": Decimal(0)}
SERVICE_TIERS = ("flex", "priority")
TIER = re.compile(rf"({'|'.join(RATES)})_above_(\d+)k_tokens")


def is_like(document: Any) -> bool:
    return isinstance(document, dict) and any(
        isinstance(entry, dict) and "litellm_provider" in entry for entry in document.values()
    )


def read(document: Any) -> Iterator[Offer | None]:
    """Every entry in turn; None for one that has no price of a kind jeton knows."""
    if not is_like(document):
        raise TableRefused("is no mapping of models with `litellm_provider`")
    earlier = document.earlier if isinstance(document, Members) else ()
    for key, entry in (*earlier, *document.items()):
        if key == "sample_spec":
            continue
        yield _offer(key, entry) if isinstance(entry, dict) and entry.get("mode") in MODES else None


def _offer(key: str, entry: Mapping[str, Any]) -> Offer | None:
    mode = entry["mode"]
    provider = str(entry.get("litellm_provider", "unknown"))
    name = key if key.startswith(f"{provider}/") else f"{provider}/{key}"
    figures = {ours: per_million(entry[theirs]) for theirs, ours in RATES.items() if entry.get(theirs) is not None}
    if not figures and mode == "audio_transcription" and entry.get("input_cost_per_second") is not None:
        figures = {"audio_usd_per_hour": rounded(amount(entry["input_cost_per_second"]) * 3600)}
    if mode == "rerank" and entry.get("input_cost_per_query"):
        figures["request_usd"] = rounded(amount(entry["input_cost_per_query"]))
    if not figures:
        return None
    figures = NOTHING | figures
    return Offer(
        name=name,
        kind="tokens",
        figures=figures,
        seller=seller_of(provider),
        product=product_of(key),
        tiers=_tiers(entry, figures),
        service_tiers=_service_tiers(entry) if mode in MAKES_TEXT else {},
        makes_text=mode in MAKES_TEXT,
    )


def _service_tiers(entry: Mapping[str, Any]) -> dict[str, OfferedTier]:
    """Those of which all is told that is told of the plain one: of one that lacks a rate, what is taken is not known."""
    priced = [name for name, value in entry.items() if value is not None and (name in RATES or TIER.fullmatch(name))]
    found = {}
    for service_tier in SERVICE_TIERS:
        own = {name: entry.get(f"{name}_{service_tier}") for name in priced}
        if priced and None not in own.values():
            figures = NOTHING | {ours: per_million(own[theirs]) for theirs, ours in RATES.items() if theirs in own}
            found[service_tier] = OfferedTier(figures, _tiers(own, figures))
    return found


def _tiers(entry: Mapping[str, Any], base: Mapping[str, Decimal]) -> tuple[Mapping[str, Decimal], ...]:
    """A tier has the whole set of rates: what it does not say is as below it."""
    tiers: dict[int, dict[str, Decimal]] = {}
    for member, value in entry.items():
        found = TIER.fullmatch(member)
        if found is not None and value is not None:
            tiers.setdefault(int(found[2]) * 1000, {})[RATES[found[1]]] = per_million(value)
    rates = {name: base[name] for name in RATES.values() if name in base}
    made = []
    for above, changed in sorted(tiers.items()):
        rates = rates | changed
        made.append({"above_prompt_tokens": Decimal(above), **rates})
    return tuple(made)
