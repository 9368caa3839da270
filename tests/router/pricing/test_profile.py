"""The engine profile: a roofline with overhead."""

import pytest
from priced_engines import H100_8B

from router.pricing.profile import roofline_profile


def test_a_step_takes_the_longer_of_memory_and_arithmetic_and_its_overhead() -> None:
    overhead = H100_8B.step_overhead_seconds
    memory_bound = H100_8B.weight_read_seconds + 10_000 * H100_8B.kv_read_seconds_per_token
    assert H100_8B.step_seconds(8, 10_000, 0) == pytest.approx(overhead + memory_bound)
    compute_bound = (8 + 8_000) * H100_8B.compute_seconds_per_token
    assert H100_8B.step_seconds(8, 10_000, 8_000) == pytest.approx(overhead + compute_bound)


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
