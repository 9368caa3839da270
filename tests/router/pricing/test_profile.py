"""The engine profile: a roofline with overhead."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from router.pricing.profile import EngineProfile, Speculation, roofline_profile

speculations = st.none() | st.builds(
    Speculation,
    draft_tokens=st.integers(1, 8),
    acceptance_ratio=st.floats(0, 1),
    draft_seconds=st.floats(0, 1e-2),
)
profiles = st.builds(
    EngineProfile,
    step_overhead_seconds=st.floats(1e-4, 1e-2),
    weight_read_seconds=st.floats(1e-4, 1e-1),
    kv_read_seconds_per_token=st.floats(0, 1e-6),
    compute_seconds_per_token=st.floats(1e-7, 1e-3),
    kv_capacity_tokens=st.integers(1_000, 10_000_000),
    attention_seconds_per_pair=st.floats(0, 1e-8),
    speculation=speculations,
    expert_read_seconds=st.floats(0, 1e-1),
    expert_miss_ratio=st.floats(0, 1),
    token_seconds=st.floats(0, 1e-4),
    sequence_seconds=st.floats(0, 1e-4),
    prefill_overhead_seconds=st.floats(0, 1e-2),
)


@given(profiles, st.integers(1, 256), st.integers(0, 10**6), st.integers(0, 40), st.integers(0, 256))
def test_many_decode_steps_take_what_they_take_one_by_one(
    profile: EngineProfile, decoding: int, context_tokens: int, steps: int, growth: int
) -> None:
    one_by_one = sum(profile.step_seconds(decoding, context_tokens + step * growth, 0) for step in range(steps))
    alone = profile.decode_steps(decoding)
    assert alone.seconds(context_tokens, steps, growth) == pytest.approx(one_by_one, rel=1e-9)
    assert alone.seconds(context_tokens, 1, growth) == profile.step_seconds(decoding, context_tokens, 0)


@given(profiles, st.integers(0, 256), st.integers(0, 10**6), st.integers(0, 8192))
def test_more_work_never_takes_less_time(profile: EngineProfile, decoding: int, context: int, prefill: int) -> None:
    base = profile.step_seconds(decoding, context, prefill)
    assert profile.step_seconds(decoding + 1, context, prefill) >= base
    assert profile.step_seconds(decoding, context + 1, prefill) >= base
    assert profile.step_seconds(decoding, context, prefill + 1, 10) >= base


@given(profiles, st.integers(1, 256), st.integers(0, 10**5), st.integers(1, 10**5))
def test_at_a_fixed_batch_a_decode_step_is_flat_over_its_context_and_then_a_straight_line(
    profile: EngineProfile, decoding: int, context: int, stride: int
) -> None:
    times = [profile.step_seconds(decoding, context + n * stride, 0) for n in range(6)]
    rises = [after - before for before, after in pairwise(times)]
    slope = profile.kv_read_seconds_per_token * stride
    knees = [rise for rise in rises if rise != pytest.approx(0, abs=1e-12) and rise != pytest.approx(slope, abs=1e-12)]
    assert len(knees) <= 1
    assert rises == pytest.approx(sorted(rises), abs=1e-12)


def test_a_step_takes_the_longer_of_memory_and_arithmetic_and_its_overhead() -> None:
    overhead = H100_8B.step_overhead_seconds
    memory_bound = H100_8B.weight_read_seconds + 10_000 * H100_8B.kv_read_seconds_per_token
    assert H100_8B.step_seconds(8, 10_000, 0) == pytest.approx(overhead + memory_bound)
    compute_bound = (8 + 8_000) * H100_8B.compute_seconds_per_token
    assert H100_8B.step_seconds(8, 10_000, 8_000) == pytest.approx(overhead + compute_bound)


def test_what_hides_behind_nothing_is_added() -> None:
    slow = H100_8B.model_copy(
        update={"sequence_seconds": 1e-5, "token_seconds": 1e-6, "prefill_overhead_seconds": 1e-3}
    )
    added = slow.step_seconds(8, 10_000, 100) - H100_8B.step_seconds(8, 10_000, 100)
    assert added == pytest.approx(8 * 1e-5 + 108 * 1e-6 + 1e-3)
    assert slow.step_seconds(8, 10_000, 0) - H100_8B.step_seconds(8, 10_000, 0) == pytest.approx(8 * 1.1e-5)


def test_the_more_tokens_a_step_has_the_more_experts_it_reads() -> None:
    few, read = 0.03, 0.02
    moe = H100_8B.model_copy(update={"expert_read_seconds": read, "expert_miss_ratio": 1 - few})
    assert moe.read_seconds(0) == moe.weight_read_seconds
    assert moe.read_seconds(1) == pytest.approx(moe.weight_read_seconds + few * read)
    assert moe.read_seconds(1000) == pytest.approx(moe.weight_read_seconds + read)
    # Prompt tokens touch experts as others do.
    assert moe.step_seconds(4, 0, 1000) - H100_8B.step_seconds(4, 0, 1000) > moe.step_seconds(4, 0, 0) * few


def test_half_the_bytes_per_weight_are_read_in_half_the_time() -> None:
    def weight_read_seconds(weight_bytes_per_parameter: float) -> float:
        return roofline_profile(
            parameters_billion=8,
            layers=32,
            kv_bytes_per_token=131_072,
            weight_bytes_per_parameter=weight_bytes_per_parameter,
            memory_gb=80,
            bandwidth_gb_per_second=3350,
            tflops=989,
        ).weight_read_seconds

    assert weight_read_seconds(1) == pytest.approx(weight_read_seconds(2) / 2)


def test_a_mixture_of_experts_computes_and_reads_its_active_parameters_but_stores_all() -> None:
    shape = {"layers": 48, "kv_bytes_per_token": 98_304, "weight_bytes_per_parameter": 2, "memory_gb": 80}
    gpu = {"bandwidth_gb_per_second": 3350, "tflops": 989}
    moe = roofline_profile(parameters_billion=30.5, active_parameters_billion=3.3, **shape, **gpu)
    dense = roofline_profile(parameters_billion=3.3, **shape, **gpu)
    assert moe.compute_seconds_per_token == dense.compute_seconds_per_token
    assert moe.kv_capacity_tokens < dense.kv_capacity_tokens


def test_weights_that_leave_no_room_for_a_cache_are_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        roofline_profile(
            parameters_billion=70.6,
            layers=80,
            kv_bytes_per_token=327_680,
            weight_bytes_per_parameter=2,
            memory_gb=80,
            bandwidth_gb_per_second=3350,
            tflops=989,
        )


def test_a_changed_copy_works_its_figures_out_anew() -> None:
    before = H100_8B.target_share_seconds
    alone = H100_8B.model_copy(update={"sequences_target": 1})
    assert alone.target_share_seconds > before == H100_8B.target_share_seconds


@given(profiles, st.integers(0, 256), st.integers(0, 10**6), st.integers(1, 10_000))
def test_steps_worked_out_for_a_batch_take_what_any_step_takes(
    profile: EngineProfile, decoding: int, context_tokens: int, prefill_tokens: int
) -> None:
    batch = profile.batch_steps(decoding)
    with_prompt = profile.step_seconds(decoding, context_tokens, prefill_tokens)
    assert batch.seconds(context_tokens, prefill_tokens) == pytest.approx(with_prompt, rel=1e-9)
    assert batch.bare_seconds(context_tokens) == pytest.approx(
        profile.step_seconds(decoding, context_tokens, 0), rel=1e-9
    )
