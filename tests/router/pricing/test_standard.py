"""Standard prices: at its operating point a replica earns, at these prices, exactly what it costs."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B, H100_HOUR, H100X2_70B, L4_8B, L4_HOUR

from router.domain.usage import Usage
from router.pricing.forecast import Occupancy, tpot_seconds
from router.pricing.mix import CHAT, Mix
from router.pricing.price import LeasedPrice, MeteredPrice, Purchase, TokenRates
from router.pricing.profile import EngineProfile, Speculation
from router.pricing.standard import (
    TARGET_UTILIZATION_RATIO,
    operating_point,
    standard_cost,
    standard_prices,
    standard_rates,
)

profiles = st.builds(
    EngineProfile,
    step_overhead_seconds=st.floats(1e-4, 1e-2),
    weight_read_seconds=st.floats(1e-4, 1e-1),
    kv_read_seconds_per_token=st.floats(0, 1e-6),
    compute_seconds_per_token=st.floats(1e-6, 1e-3),
    chunk_tokens=st.integers(512, 16_384),
    sequences_max=st.integers(1, 1024),
    kv_capacity_tokens=st.integers(1_000, 10_000_000),
    sequences_target=st.integers(1, 512),
    speculation=st.none()
    | st.builds(
        Speculation, draft_tokens=st.integers(1, 8), acceptance_ratio=st.floats(0, 1), draft_seconds=st.floats(0, 1e-2)
    ),
    expert_read_seconds=st.floats(0, 1e-1),
    expert_miss_ratio=st.floats(0, 1),
    token_seconds=st.floats(0, 1e-4),
    sequence_seconds=st.floats(0, 1e-4),
    prefill_overhead_seconds=st.floats(0, 1e-2),
)
mixes = st.builds(Mix, prompt_tokens=st.integers(1, 50_000), completion_tokens=st.integers(1, 5_000))


@given(profiles, mixes)
def test_the_engine_seconds_of_a_step_s_tokens_are_the_step(profile: EngineProfile, mix: Mix) -> None:
    point = operating_point(profile, mix)
    made = point.sequences * point.tokens_per_step
    reckoned = made * point.completion_seconds + point.prefill_tokens * point.prompt_seconds
    assert reckoned == pytest.approx(point.step_seconds)


@given(profiles, mixes, st.floats(0.05, 1))
def test_an_hour_at_target_utilization_earns_the_price_of_an_hour(
    profile: EngineProfile, mix: Mix, utilization_ratio: float
) -> None:
    price = LeasedPrice("p", 3_600_000_000_000, Purchase.ON_DEMAND)
    point, rates = operating_point(profile, mix), standard_rates(price, profile, utilization_ratio, mix)
    steps = utilization_ratio * 3600 / point.step_seconds
    made = point.sequences * point.tokens_per_step
    earned = steps * (made * rates.completion + point.prefill_tokens * rates.prompt) / 10**6
    assert earned == pytest.approx(price.nanousd_per_hour, rel=1e-6)


@given(profiles, mixes)
def test_the_operating_point_fits_the_engine(profile: EngineProfile, mix: Mix) -> None:
    sequences = operating_point(profile, mix).sequences
    assert 1 <= sequences <= max(1, min(profile.sequences_target, profile.sequences_max))
    if sequences > 1:
        assert sequences * mix.context_tokens <= profile.kv_capacity_tokens
        assert sequences * (1 + mix.prompt_tokens / mix.completion_tokens) <= profile.chunk_tokens


@pytest.mark.parametrize(("sequences", "measured_ratio"), [(4, 57), (32, 12), (64, 7)])
def test_an_output_token_costs_about_as_many_input_tokens_as_was_measured(
    sequences: int, measured_ratio: float
) -> None:
    # Medians by concurrency over 335 deployments, of Llama 70B more than of any other (InferenceX, 2025-10..2026-04, in NVIDIA
    # aiconfigurator's silicon samples @095f58a, Apache-2.0).
    point = operating_point(H100X2_70B.model_copy(update={"sequences_target": sequences}))
    ratio = point.completion_seconds / point.prompt_seconds
    assert measured_ratio / 1.5 < ratio < measured_ratio * 1.5


def test_a_prompt_pays_for_its_own_prefill_overhead_once_however_small_its_share_of_a_step() -> None:
    slow = H100_8B.model_copy(update={"prefill_overhead_seconds": 1e-3, "sequences_target": 1})
    without = operating_point(H100_8B.model_copy(update={"sequences_target": 1}))
    added = operating_point(slow).prompt_seconds - without.prompt_seconds
    assert added == pytest.approx(1e-3 / CHAT.prompt_tokens, rel=0.05)


def test_drafts_that_are_right_make_a_token_cheaper_and_sooner_and_drafts_that_are_wrong_dearer() -> None:
    def drafting(acceptance_ratio: float) -> EngineProfile:
        speculation = Speculation(draft_tokens=3, acceptance_ratio=acceptance_ratio, draft_seconds=0.5e-3)
        return H100_8B.model_copy(update={"speculation": speculation})

    plain = standard_rates(H100_HOUR, H100_8B).completion
    assert (
        standard_rates(H100_HOUR, drafting(0.9)).completion
        < plain
        < standard_rates(H100_HOUR, drafting(0.0)).completion
    )
    tpots = [
        tpot_seconds(profile, Occupancy(4, 0, 4000, 0), 500) for profile in (drafting(0.9), H100_8B, drafting(0.0))
    ]
    assert tpots == sorted(tpots)


def test_a_half_full_replica_makes_a_token_twice_as_dear() -> None:
    full, half = standard_rates(H100_HOUR, H100_8B, 0.8), standard_rates(H100_HOUR, H100_8B, 0.4)
    assert half.completion == pytest.approx(2 * full.completion)
    assert half.prompt == pytest.approx(2 * full.prompt)


@pytest.mark.parametrize("utilization_ratio", [0, -0.5, 1.01])
def test_a_utilization_that_cannot_be_is_refused(utilization_ratio: float) -> None:
    with pytest.raises(ValueError, match="utilization"):
        standard_rates(H100_HOUR, H100_8B, utilization_ratio)


def test_standard_cost_is_tokens_times_standard_rate_with_subsets_counted_once() -> None:
    rates = standard_rates(H100_HOUR, H100_8B)
    used = Usage(1_000_000, 2_000_000, cached_tokens=400_000, reasoning_tokens=1_500_000)
    exact = (600_000 * rates.prompt + 400_000 * rates.cached + 2_000_000 * rates.completion) / 10**6
    assert standard_cost(H100_HOUR, H100_8B, used) == pytest.approx(exact, abs=0.5)
    assert standard_cost(H100_HOUR, H100_8B, Usage(0, 0)) == 0


def test_a_lease_of_nothing_makes_tokens_of_nothing() -> None:
    free = LeasedPrice("own@2026-01-01#00000000", 0, Purchase.OWNED)
    assert standard_cost(free, H100_8B, Usage(1000, 1000)) == 0


def test_standard_prices_are_dollars_per_million_by_class() -> None:
    prices = standard_prices(H100_HOUR, H100_8B)
    assert list(prices) == ["prompt", "cached", "completion"]
    # Between the cheapest and the dearest provider of this model: 0.02–0.72 in, 0.03–0.72 out (28 providers, 2026-08).
    assert Decimal("0.01") < prices["prompt"] < Decimal("0.72")
    assert Decimal("0.03") < prices["completion"] < Decimal("0.72")
    assert prices["cached"] < prices["prompt"]
    assert standard_prices(L4_HOUR, L4_8B)["prompt"] > prices["prompt"]


def test_a_metered_price_is_its_own_standard() -> None:
    metered = MeteredPrice("c", TokenRates(150_000_000, 75_000_000, 150_000_000, 600_000_000))
    assert standard_prices(metered, None) == {
        "prompt": Decimal("0.15"),
        "cached": Decimal("0.075"),
        "completion": Decimal("0.6"),
    }


def test_a_lease_without_a_profile_has_no_price_per_token() -> None:
    with pytest.raises(ValueError, match="without an engine profile"):
        standard_prices(H100_HOUR, None)


def test_the_defaults_are_the_documented_ones() -> None:
    assert standard_rates(H100_HOUR, H100_8B) == standard_rates(H100_HOUR, H100_8B, TARGET_UTILIZATION_RATIO, CHAT)
