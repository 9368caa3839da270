"""Quotes: three expectations of one request's cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B, H100_HOUR, L4_8B, L4_HOUR

from router.domain.decision import Quote
from router.domain.fleet import IDLE, Load
from router.domain.usage import Usage
from router.pricing.cost import list_cost
from router.pricing.forecast import Occupancy, forecast_tpot_seconds, forecast_ttft_seconds
from router.pricing.meter import ReplicaMeter
from router.pricing.mix import CHAT
from router.pricing.price import ContextTier, LeasedPrice, MeteredPrice, Purchase, TokenRates
from router.pricing.quote import IDLE_SCARCITY, Lease, quote, scarcity
from router.pricing.standard import TARGET_UTILIZATION_RATIO, operating_point, standard_cost
from router.pricing.weigher import Weigher
from router.pricing.weights import decode_step_seconds

PROMPT, COMPLETION = CHAT.prompt_tokens, CHAT.completion_tokens
CLOUD = MeteredPrice("c", TokenRates(150_000_000, 75_000_000, 150_000_000, 600_000_000))


def decoding(attempts: int, context_tokens: float = CHAT.context_tokens) -> Load:
    return Load(attempts=attempts, decoding=attempts, context_tokens=round(attempts * context_tokens))


def h100(load: Load, prompt_tokens: float = PROMPT, completion_tokens: float = COMPLETION, cached: float = 0) -> Quote:
    return quote(H100_HOUR, H100_8B, load, None, prompt_tokens, completion_tokens, cached)


# On a metered backend


def test_a_metered_quote_is_price_times_expected_usage_on_every_basis() -> None:
    expected = list_cost(CLOUD, Usage(1000, 200, cached_tokens=400))
    assert quote(CLOUD, None, IDLE, None, 1000, 200, 400) == Quote(expected, expected, expected)


def test_a_metered_quote_knows_tiers_fees_and_audio() -> None:
    long = TokenRates(300_000_000, 150_000_000, 300_000_000, 1_200_000_000)
    dear = MeteredPrice("c", CLOUD.rates, (ContextTier(1000, long),), 500_000, 360_000_000)
    used = Usage(1001, 200, audio_seconds=90.0)
    assert quote(dear, None, IDLE, None, 1001, 200, audio_seconds=90).standard_nanousd == list_cost(dear, used)


def test_a10_the_expected_cost_of_this_request_decides_not_the_sum_of_its_rates() -> None:
    cheap_in = MeteredPrice("a", TokenRates(100_000_000, 100_000_000, 100_000_000, 2_000_000_000))
    cheap_out = MeteredPrice("b", TokenRates(500_000_000, 500_000_000, 500_000_000, 1_000_000_000))

    def cheaper(prompt_tokens: int, completion_tokens: int) -> MeteredPrice:
        return min(
            (cheap_in, cheap_out),
            key=lambda price: quote(price, None, IDLE, None, prompt_tokens, completion_tokens).marginal_nanousd,
        )

    assert cheaper(10_000, 100) is cheap_in  # though its rates add up to more
    assert cheaper(100, 10_000) is cheap_out


def test_a10_a_zero_price_is_quoted_as_zero() -> None:
    free = MeteredPrice("f", TokenRates(0, 0, 0, 0))
    assert quote(free, None, IDLE, None, 1000, 1000) == Quote(0, 0, 0)
    own = LeasedPrice("own", 0, Purchase.OWNED)
    assert quote(own, H100_8B, IDLE, None, 1000, 1000) == Quote(0, 0, 0)


# On a leased replica


def test_the_standard_quote_is_the_standard_cost_of_the_expected_tokens() -> None:
    for load in (IDLE, decoding(40)):
        quoted = h100(load, 1000, 200, 300).standard_nanousd
        assert quoted == standard_cost(H100_HOUR, H100_8B, Usage(1000, 200, cached_tokens=300))


def test_alone_on_a_replica_a_request_is_allocated_all_of_its_time() -> None:
    seconds = forecast_ttft_seconds(H100_8B, IDLE, None, 1000) + 200 * forecast_tpot_seconds(
        H100_8B, IDLE, None, 1000, 200
    )
    assert h100(IDLE, 1000, 200).allocated_nanousd == pytest.approx(seconds * 3_780_000_000 / 3600, abs=1)


@pytest.mark.parametrize("others", [1, 16, 64])
def test_the_allocated_quote_is_what_the_meter_charges_when_the_forecast_comes_true(others: int) -> None:
    load = decoding(others)
    meter, weigher = ReplicaMeter(H100_HOUR.nanousd_per_hour, 0), Weigher()

    def event(name: str, at_seconds: float, *, prompt_tokens: int = 0) -> int:
        at_ns = round(at_seconds * 1e9)
        meter.advance(at_ns)
        if prompt_tokens:
            meter.open(name, weigher.open(name, H100_8B, at_ns, prompt_tokens, 200), at_ns)
        else:
            weighed = weigher.first_token(name, at_ns, meter.occupied_seconds(name))
            assert weighed is not None
            meter.reweigh(name, weighed.weight, at_ns, *weighed[1:])
        return at_ns

    for number in range(others):
        event(f"other{number}.1", number / 20, prompt_tokens=round(CHAT.context_tokens) - 200)
        event(f"other{number}.1", number / 20 + 0.045)
    comes_seconds = others / 20 + 0.1
    event("r.1", comes_seconds, prompt_tokens=1000)
    begins_seconds = comes_seconds + forecast_ttft_seconds(H100_8B, load, None, 1000)
    event("r.1", begins_seconds)
    ends_seconds = begins_seconds + 200 * forecast_tpot_seconds(H100_8B, load, None, 1000, 200)
    charge = meter.close("r.1", round(ends_seconds * 1e9))
    assert h100(load, 1000, 200).allocated_nanousd == pytest.approx(charge, rel=0.1)


def test_the_allocated_quote_falls_as_the_batch_grows() -> None:
    quotes = [h100(decoding(attempts)).allocated_nanousd for attempts in (0, 1, 4, 16, 64, 128)]
    assert quotes == sorted(quotes, reverse=True)


def test_the_marginal_quote_rises_with_load() -> None:
    quotes = [h100(decoding(attempts)).marginal_nanousd for attempts in range(0, 260, 4)]
    assert quotes == sorted(quotes)
    assert quotes[0] < quotes[8] < quotes[32] < quotes[-1]


def test_at_target_the_marginal_quote_is_the_standard_one_without_its_idle_share() -> None:
    at_target = h100(decoding(operating_point(H100_8B).sequences))
    useful = at_target.standard_nanousd * TARGET_UTILIZATION_RATIO
    assert at_target.marginal_nanousd == pytest.approx(useful, rel=0.01)


def test_between_equal_replicas_the_idler_is_the_cheaper_at_the_margin() -> None:
    assert h100(decoding(1)).marginal_nanousd < h100(decoding(2)).marginal_nanousd


def test_idle_capacity_costs_next_to_nothing_at_the_margin_but_never_nothing() -> None:
    idle, at_target = h100(IDLE).marginal_nanousd, h100(decoding(32)).marginal_nanousd
    assert idle == pytest.approx(IDLE_SCARCITY * at_target, rel=0.01)
    assert 0 < h100(IDLE, 10, 1).marginal_nanousd < idle


def test_cached_tokens_cost_less_than_computed_ones() -> None:
    cold, warm = h100(decoding(8)), h100(decoding(8), cached=1000)
    assert warm.standard_nanousd < cold.standard_nanousd
    assert warm.marginal_nanousd < cold.marginal_nanousd
    assert warm.allocated_nanousd < cold.allocated_nanousd


def test_a_lease_without_a_profile_cannot_be_quoted() -> None:
    with pytest.raises(ValueError, match="without an engine profile"):
        quote(H100_HOUR, None, IDLE, None, 10, 10)


def test_an_appraisal_is_the_forecasts_and_the_quote() -> None:
    load = Load(attempts=9, prefill_tokens=500, decoding=8, context_tokens=9000)
    appraisal = Lease(L4_HOUR, L4_8B).appraise(load, None, 1000, 200, 100)
    assert appraisal.ttft_seconds == forecast_ttft_seconds(L4_8B, load, None, 900)
    assert appraisal.tpot_seconds == forecast_tpot_seconds(L4_8B, load, None, 1000, 200)
    assert appraisal.quote == quote(L4_HOUR, L4_8B, load, None, 1000, 200, 100)


# Scarcity


def h100_scarcity(sequences: float, context_tokens: float = 0) -> float:
    return scarcity(H100_8B, operating_point(H100_8B), Occupancy(round(sequences), 0, round(context_tokens), 0))


def test_scarcity_goes_from_its_floor_through_one_at_target_to_twenty() -> None:
    target, limit = operating_point(H100_8B).sequences, H100_8B.sequences_max
    assert h100_scarcity(0) == IDLE_SCARCITY
    assert h100_scarcity(target) == 1
    assert h100_scarcity((target + limit) / 2) == pytest.approx(2, rel=0.01)
    assert h100_scarcity(limit) == h100_scarcity(2 * limit) == 20


def test_a_full_cache_is_as_scarce_as_a_full_batch() -> None:
    assert h100_scarcity(1, TARGET_UTILIZATION_RATIO * H100_8B.kv_capacity_tokens) == pytest.approx(1, rel=1e-4)
    assert h100_scarcity(1, H100_8B.kv_capacity_tokens) == 20


def test_what_sequences_share_fills_a_cache_once() -> None:
    held = H100_8B.kv_capacity_tokens
    shared = Occupancy(1, 0, held, 0, cached_tokens=held)
    assert scarcity(H100_8B, operating_point(H100_8B), shared) == h100_scarcity(1)


def test_an_engine_whose_target_is_its_limit_is_scarce_beyond_it() -> None:
    profile = H100_8B.model_copy(update={"sequences_max": 32})
    point = operating_point(profile)
    assert scarcity(profile, point, Occupancy(32, 0, 0, 0)) == 1
    assert scarcity(profile, point, Occupancy(33, 0, 0, 0)) == 20


@given(st.integers(0, 600), st.integers(0, 600), st.integers(0, 10**6), st.integers(0, 10**6))
def test_scarcity_never_falls_as_work_is_added(sequences: int, more: int, tokens: int, more_tokens: int) -> None:
    assert h100_scarcity(sequences + more, tokens + more_tokens) >= h100_scarcity(sequences, tokens)


def test_a_quote_reckons_with_the_decode_share_of_a_typical_batch() -> None:
    # Alone on the replica the request pays for all of its time; beside one just like it, for half of what both decode.
    alone, beside = h100(IDLE, 0, COMPLETION), h100(decoding(1, COMPLETION / 2), 0, COMPLETION)
    share = H100_8B.target_share_seconds + H100_8B.kv_read_seconds_per_token * COMPLETION / 2
    assert decode_step_seconds(H100_8B, 0, COMPLETION) == pytest.approx(share)
    assert beside.allocated_nanousd == pytest.approx(alone.allocated_nanousd / 2, rel=0.05)
