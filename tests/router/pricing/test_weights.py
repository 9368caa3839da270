"""What an attempt takes up of an engine step, in a typical batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from router.pricing.weights import decode_step_seconds, prefill_step_seconds


def test_a_prefill_takes_the_arithmetic_of_what_one_step_holds() -> None:
    assert prefill_step_seconds(H100_8B, 1000) == pytest.approx(1000 * H100_8B.compute_seconds_per_token)
    assert prefill_step_seconds(H100_8B, 1_000_000) == prefill_step_seconds(H100_8B, H100_8B.chunk_tokens)


def test_a_prefill_takes_what_hides_behind_nothing_too() -> None:
    slow = H100_8B.model_copy(update={"token_seconds": 1e-6, "prefill_overhead_seconds": 1e-3})
    added = prefill_step_seconds(slow, 1000) - prefill_step_seconds(H100_8B, 1000)
    assert added == pytest.approx(1000 * 1e-6 + 1e-3)


def test_a_prompt_that_is_all_cached_takes_nothing() -> None:
    assert prefill_step_seconds(H100_8B, 0) == 0


def test_a_decode_takes_its_share_of_the_step_its_own_context_and_its_token() -> None:
    seconds = (
        (H100_8B.step_overhead_seconds + H100_8B.weight_read_seconds) / H100_8B.sequences_target
        + H100_8B.kv_read_seconds_per_token * (2000 + 300 / 2)
        + H100_8B.compute_seconds_per_token
    )
    assert decode_step_seconds(H100_8B, 2000, 300) == pytest.approx(seconds)


def test_a_full_batch_of_decodes_takes_the_overhead_memory_traffic_and_arithmetic_of_its_step() -> None:
    n, context = H100_8B.sequences_target, 1500
    memory = (
        H100_8B.step_overhead_seconds + H100_8B.weight_read_seconds + H100_8B.kv_read_seconds_per_token * context * n
    )
    together = n * decode_step_seconds(H100_8B, context, 0)
    assert together == pytest.approx(memory + n * H100_8B.compute_seconds_per_token)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_context_never_takes_less(one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert decode_step_seconds(H100_8B, less, 100) <= decode_step_seconds(H100_8B, more, 100)
