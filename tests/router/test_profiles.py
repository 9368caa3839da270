"""The profiles that come with jeton, and the roofline behind those that nobody measured."""

import pytest

from router.pricing.profile import EngineProfile
from router.pricing.roofline import Deployment, ideal, kv_capacity_tokens, peak_tflops, quantization_of
from router.profiles import LARGE_DEFAULTS, SMALL_DEFAULTS, fit_name, shipped


def derived(model: str, gpu: str, quantization: str, gpus: int = 1) -> EngineProfile:
    catalogue = shipped()
    return catalogue.profile(catalogue.deployment(model, gpu, quantization, gpus))


def test_every_measured_profile_can_be_built_and_is_found_by_its_name() -> None:
    catalogue = shipped()
    assert len(catalogue.fits) > 50
    for name, deployment in catalogue.deployments.items():
        assert fit_name(deployment) == name
        assert catalogue.named(name) == catalogue.profile(deployment)
        assert catalogue.fits[name].points > 0


def test_every_model_on_every_gpu_has_a_profile_or_does_not_fit() -> None:
    catalogue = shipped()
    for model in catalogue.models:
        for gpu in catalogue.gpus:
            for quantization in ("bf16", "fp8", "int8", "int4"):
                deployment = catalogue.deployment(model, gpu, quantization, 8)
                if kv_capacity_tokens(deployment, catalogue.constants["memory"]) < 1:
                    with pytest.raises(ValueError, match="no room for a KV cache"):
                        catalogue.profile(deployment)
                    continue
                profile = catalogue.profile(deployment)
                assert 0 < profile.step_seconds(1, 1000, 0) < 2
                assert profile.step_seconds(32, 32_000, 0) > profile.step_seconds(1, 1000, 0)


def test_a_profile_says_what_the_runs_said() -> None:
    # InferenceX, 2025-10..2026-04 (aiconfigurator's silicon samples @095f58a): 4 clients, 922 tokens in and 922 out, TPOT
    # 21.5 ms; 64 clients 37.4 ms, prefills of the others included.
    profile = shipped().named("llama-3.1-70b-fp8-h200")
    assert profile.step_seconds(4, 4 * 1382, 0) == pytest.approx(21.5e-3, rel=0.08)
    assert profile.step_seconds(64, 64 * 1382, 0) == pytest.approx(37.4e-3, rel=0.35)


def test_half_the_bytes_a_weight_are_read_in_about_half_the_time_and_leave_more_room() -> None:
    whole, half = derived("llama-3.1-8b", "h100", "bf16"), derived("llama-3.1-8b", "h100", "fp8")
    assert half.weight_read_seconds == pytest.approx(whole.weight_read_seconds / 2, rel=0.15)
    assert half.kv_capacity_tokens > whole.kv_capacity_tokens


def test_two_gpus_read_twice_as_fast_and_pay_for_the_all_reduces() -> None:
    one, two = derived("qwen3-14b", "h100", "bf16"), derived("qwen3-14b", "h100", "bf16", 2)
    assert two.weight_read_seconds == pytest.approx(one.weight_read_seconds / 2)
    assert two.step_overhead_seconds > one.step_overhead_seconds
    assert two.token_seconds > one.token_seconds * 0.7


def test_a_mixture_reads_the_experts_it_touches() -> None:
    moe, dense = derived("qwen3-30b-a3b", "h100", "bf16"), derived("qwen3-32b", "h100", "bf16")
    assert dense.expert_read_seconds == 0
    # 8 of 128, but for what power-law routing concentrates.
    assert moe.expert_miss_ratio == pytest.approx(1 - 8 / 128, abs=0.02)
    assert moe.read_seconds(1) < moe.read_seconds(8) < moe.read_seconds(64)
    assert moe.read_seconds(1000) == pytest.approx(dense.weight_read_seconds, rel=0.15)


def test_four_bit_experts_are_multiplied_in_bf16_where_a_gpu_has_no_fp4_units() -> None:
    catalogue = shipped()
    h100, b200 = catalogue.gpus["h100"], catalogue.gpus["b200"]
    assert peak_tflops(b200, "fp4")[0] == "fp4"
    assert peak_tflops(h100, "fp4")[0] == "fp8"
    assert quantization_of(catalogue.deployment("gpt-oss-120b", "h100", "fp4")).expert_compute == "bf16"
    assert peak_tflops(catalogue.gpus["a100"], "fp8")[0] == "bf16"


def test_mla_keeps_a_whole_cache_on_every_gpu_and_data_parallel_attention_divides_it() -> None:
    catalogue = shipped()
    model, gpu = catalogue.models["deepseek-r1"], catalogue.gpus["b200"]
    tensor = Deployment(model, gpu, "nvfp4", 8)
    data = Deployment(model, gpu, "nvfp4", 8, attention_groups=8)
    assert ideal(tensor).kv_read == pytest.approx(8 * ideal(data).kv_read)
    assert kv_capacity_tokens(data, 0.85) > 4 * kv_capacity_tokens(tensor, 0.85)


@pytest.mark.parametrize(
    ("model", "gpus", "blocks"),
    # Blocks of 16 tokens that vLLM reported on H100s (inference-sim/sim-to-real-accuracy-validation @dcec3fd).
    [("llama-2-7b", 1, 7463), ("llama-3.1-70b", 4, 30_251), ("mistral-nemo", 2, 48_009), ("yi-34b", 2, 20_793)],
)
def test_the_cache_is_as_large_as_vllm_reports(model: str, gpus: int, blocks: int) -> None:
    assert derived(model, "h100", "bf16", gpus).kv_capacity_tokens == pytest.approx(16 * blocks, rel=0.03)


def test_sliding_layers_keep_no_context() -> None:
    shape = shipped().models["gpt-oss-120b"]
    assert shape.kv_values_per_token * 2 == 36_864  # half of its 36 layers, 8 heads of 64, keys and values of 16 bits


def test_limits_are_vllm_s_own_for_the_gpu_unless_told() -> None:
    large, small = derived("llama-3.1-8b", "h100", "fp8"), derived("llama-3.1-8b", "l4", "int4")
    assert (large.chunk_tokens, large.sequences_max) == tuple(LARGE_DEFAULTS.values())
    assert (small.chunk_tokens, small.sequences_max) == tuple(SMALL_DEFAULTS.values())
    assert derived("llama-3.1-8b", "a100", "bf16").chunk_tokens == SMALL_DEFAULTS["chunk_tokens"]
    catalogue = shipped()
    told = catalogue.profile(catalogue.deployment("llama-3.1-8b", "h100", "fp8"), chunk_tokens=512)
    assert (told.chunk_tokens, told.sequences_max) == (512, large.sequences_max)


@pytest.mark.parametrize(
    ("model", "gpu", "says"),
    [("llama-3.1-8", "h100", "did you mean `llama-3.1-8b`?"), ("llama-3.1-8b", "h1000", "did you mean `h100`?")],
)
def test_an_unknown_model_or_gpu_is_named_with_the_nearest(model: str, gpu: str, says: str) -> None:
    with pytest.raises(LookupError) as caught:
        shipped().deployment(model, gpu, "fp8")
    assert says in str(caught.value)


def test_an_unknown_quantization_or_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no quantization `fp3`"):
        derived("llama-3.1-8b", "h100", "fp3")
    with pytest.raises(LookupError, match="did you mean"):
        shipped().named("llama-3.1-70b-fp8-h20")
