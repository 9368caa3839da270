"""What a request is expected to cost at a candidate, on the three bases (design: allocated, standard, marginal).

Expectations, so floats until the last step; what a request did cost is reckoned in whole numbers by `meter.py` and `cost.py`.
"""

from router.domain.decision import Quote
from router.domain.fleet import Load, Scrape
from router.pricing.cost import TOKENS_PER_RATE, rates_for
from router.pricing.forecast import Occupancy, occupancy, tpot_seconds, ttft_seconds
from router.pricing.price import LeasedPrice, MeteredPrice, Price
from router.pricing.profile import EngineProfile
from router.pricing.standard import (
    SECONDS_PER_HOUR,
    TARGET_UTILIZATION_RATIO,
    operating_point,
    standard_rates,
)
from router.pricing.weights import decode_step_seconds, prefill_step_seconds

# On an idle lease a request adds no cost but energy. An H100 draws 1.73 kW all in (SemiAnalysis, 2026); at $0.146 a kWh that
# is 7 % of $3.78 an hour, less what it draws when idle. Never 0: between two idle replicas the smaller job still wins.
IDLE_SCARCITY = 0.05
# Near saturation scarcity grows as waiting does in a queue, as 1 ÷ (what is left); this bounds it where nothing is left.
SLACK_RATIO_MIN = 0.05


def quote(
    price: Price,
    profile: EngineProfile | None,
    load: Load,
    scrape: Scrape | None,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0.0,
    audio_seconds: float = 0.0,
) -> Quote:
    """The expected cost of one request. cached_tokens: of the prompt's, those the prefix cache is expected to hold.

    Raises ValueError for a leased price without a profile.
    """
    if isinstance(price, MeteredPrice):
        return metered_quote(price, prompt_tokens, completion_tokens, cached_tokens, audio_seconds)
    if profile is None:
        raise ValueError(f"{price.price_id} is paid by the hour; without an engine profile nothing can be quoted")
    return leased_quote(
        price, profile, occupancy(profile, load, scrape), prompt_tokens, completion_tokens, cached_tokens
    )


def metered_quote(
    price: MeteredPrice,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0.0,
    audio_seconds: float = 0.0,
) -> Quote:
    """Price × expected usage. The three bases are one: there is no bill but this."""
    rates = rates_for(price, prompt_tokens)
    tokens = (
        (prompt_tokens - cached_tokens) * rates.prompt
        + cached_tokens * rates.cached
        + completion_tokens * rates.completion
    )
    audio = audio_seconds * price.audio_nanousd_per_hour / SECONDS_PER_HOUR
    nanousd = round(tokens / TOKENS_PER_RATE + audio) + price.request_nanousd
    return Quote(nanousd, nanousd, nanousd)


def leased_quote(
    price: LeasedPrice,
    profile: EngineProfile,
    busy: Occupancy,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0.0,
) -> Quote:
    """On a replica that is paid by the hour.

    allocated: what the meter would charge if the present load stayed: over the forecast prefill and decode, the request's
    share of all weight × π. It falls as the batch grows.

    standard: tokens × standard price (`standard.py`).

    marginal: the engine-seconds that the request adds × π × scarcity. Engine-seconds are those at the operating point, with
    the request's own context: how much longer a step takes *right now* would not do, for it is a whole step on an idle
    engine and almost nothing on a busy one, and a policy that follows it herds everything onto the fullest replica.
    """
    per_second = price.nanousd_per_hour / SECONDS_PER_HOUR
    uncached_tokens = prompt_tokens - cached_tokens
    prefill = prefill_step_seconds(profile, uncached_tokens)
    decode = decode_step_seconds(profile, prompt_tokens, completion_tokens)
    others = _weight_of_others(profile, busy)

    prefill_share = prefill / (prefill + others) if prefill else 0.0
    decode_share = decode / (decode + others)
    allocated = per_second * (
        ttft_seconds(profile, busy, uncached_tokens) * prefill_share
        + completion_tokens * tpot_seconds(profile, busy, prompt_tokens, completion_tokens) * decode_share
    )

    rates = standard_rates(price, profile)
    standard = uncached_tokens * rates.prompt + cached_tokens * rates.cached + completion_tokens * rates.completion

    point = operating_point(profile)
    engine_seconds = (
        uncached_tokens * point.prompt_seconds
        + cached_tokens * point.cached_seconds
        + completion_tokens * point.scale * decode
    )
    marginal = per_second * engine_seconds * scarcity(profile, busy)
    return Quote(round(allocated), round(standard / TOKENS_PER_RATE), round(marginal))


def scarcity(profile: EngineProfile, busy: Occupancy) -> float:
    """How dear a second of the engine is under this load: IDLE_SCARCITY when idle, 1 at target, 20 when nothing is left.

    The scarcer of sequence slots (target: the operating point's batch; limit: `sequences_max`) and KV cache (target:
    TARGET_UTILIZATION_RATIO of it; limit: all). Linear up to the target, for there a request takes from nobody but what
    could still come; beyond it 1 ÷ slack, the growth of waiting in a queue, for there it delays the others.
    """
    sequences = busy.decoding + busy.prefilling
    held_tokens = busy.context_tokens + busy.prefill_tokens
    target = operating_point(profile).sequences
    return max(
        _dearness(sequences / target, profile.sequences_max / target),
        _dearness(
            held_tokens / profile.kv_capacity_tokens / TARGET_UTILIZATION_RATIO,
            1 / TARGET_UTILIZATION_RATIO,
        ),
    )


def _dearness(ratio: float, limit: float) -> float:
    """ratio: use ÷ target. limit: all there is ÷ target, ≥ 1."""
    if ratio <= 1:
        return IDLE_SCARCITY + (1 - IDLE_SCARCITY) * ratio
    slack_ratio = (limit - ratio) / (limit - 1) if limit > 1 else 0.0
    return 1 / max(slack_ratio, SLACK_RATIO_MIN)


def _weight_of_others(profile: EngineProfile, busy: Occupancy) -> float:
    """Sum of the weights of what is there, in seconds of a step (`weights.py` over all of it at once)."""
    prefill_tokens = min(busy.prefill_tokens, busy.prefilling * profile.chunk_tokens)
    return (
        busy.decoding * profile.weight_read_seconds / profile.sequences_target
        + profile.kv_read_seconds_per_token * busy.context_tokens
        + profile.compute_seconds_per_token * (busy.decoding + prefill_tokens)
    )
