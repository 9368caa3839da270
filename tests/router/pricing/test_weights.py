"""Weights: which part of an engine step an attempt takes up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from router.pricing.weights import WEIGHT_MAX, decode_weight, mean_weight, prefill_weight


def test_a_prefill_weighs_the_arithmetic_of_what_one_step_holds() -> None:
    one_token_ns = H100_8B.compute_seconds_per_token * 1e9
    assert prefill_weight(H100_8B, 1000) == round(1000 * one_token_ns)
    assert prefill_weight(H100_8B, 1_000_000) == prefill_weight(H100_8B, H100_8B.chunk_tokens)


def test_a_prompt_that_is_all_cached_still_weighs_something() -> None:
    assert prefill_weight(H100_8B, 0) == 1


def test_a_decode_weighs_its_share_of_the_step_its_own_context_and_its_token() -> None:
    seconds = (
        (H100_8B.step_overhead_seconds + H100_8B.weight_read_seconds) / H100_8B.sequences_target
        + H100_8B.kv_read_seconds_per_token * (2000 + 300 / 2)
        + H100_8B.compute_seconds_per_token
    )
    assert decode_weight(H100_8B, 2000, 300) == round(seconds * 1e9)


def test_a_full_batch_of_decodes_weighs_the_overhead_memory_traffic_and_arithmetic_of_its_step() -> None:
    n, context = H100_8B.sequences_target, 1500
    together = n * decode_weight(H100_8B, context, 0) / 1e9
    memory = (
        H100_8B.step_overhead_seconds + H100_8B.weight_read_seconds + H100_8B.kv_read_seconds_per_token * context * n
    )
    assert together == pytest.approx(memory + n * H100_8B.compute_seconds_per_token, rel=1e-5)


def test_one_weight_for_a_whole_attempt_is_the_mean_over_its_steps() -> None:
    chunk = H100_8B.chunk_tokens
    # Two steps of prefill and two of decode.
    phases = prefill_weight(H100_8B, 2 * chunk), decode_weight(H100_8B, 2 * chunk, 2)
    assert mean_weight(H100_8B, 2 * chunk, 2) == pytest.approx(sum(phases) / 2, abs=1)
    assert mean_weight(H100_8B, 1000, 0) == prefill_weight(H100_8B, 1000)


@given(st.integers(0, 10**12), st.floats(0, 10**12))
def test_every_weight_is_one_that_the_meter_accepts(tokens: int, completion_tokens: float) -> None:
    assert 1 <= prefill_weight(H100_8B, tokens) <= WEIGHT_MAX
    assert 1 <= decode_weight(H100_8B, tokens, completion_tokens) <= WEIGHT_MAX
    assert 1 <= mean_weight(H100_8B, tokens, completion_tokens) <= WEIGHT_MAX


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_context_never_weighs_less(one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert decode_weight(H100_8B, less, 100) <= decode_weight(H100_8B, more, 100)
