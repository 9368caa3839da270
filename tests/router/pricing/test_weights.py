"""What an attempt takes up of an engine step, in a typical batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from router.pricing.weights import decode_step_seconds


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
