"""The engine profile: one vLLM engine as a function from work to time.

Four users share it: quotes and metering weights in the router, the emulated backend, the simulator, capacity planning.
What may not live here: queues, clocks, randomness; an engine *in time* is `load/engine.py`.
"""

from pydantic import BaseModel, Field

GIGA = 1e9
TERA = 1e12

# Fitted to 570 vLLM rows of measured TPOT (InferenceX runs, 2025-10..2026-04): share of peak bandwidth and FLOPs that the
# engine achieves, and the fixed time of a step. Median error 11 %. The calibration issue replaces them by fits per engine.
BANDWIDTH_EFFICIENCY = 0.79
FLOPS_EFFICIENCY = 0.63
STEP_OVERHEAD_SECONDS = 1.35e-3
LAYER_OVERHEAD_SECONDS = 18e-6


class EngineProfile(BaseModel, frozen=True, extra="forbid"):
    """Parameters of one engine: model × GPU × parallelism × quantization. Times in seconds, sizes in tokens.

    step_overhead_seconds: what every step costs, however little it does.
    weight_read_seconds: reading the weights once, shared by everything in the step.
    kv_read_seconds_per_token: reading one token of context for one decoding sequence.
    compute_seconds_per_token: the arithmetic of one token, prompt or completion.
    chunk_tokens: prefill tokens a step may hold (`max_num_batched_tokens`).
    sequences_max: sequences running at once (`max_num_seqs`).
    kv_capacity_tokens: tokens that the KV cache holds.
    sequences_target: the batch at which `standard` prices are reckoned.
    """

    step_overhead_seconds: float = Field(gt=0)
    weight_read_seconds: float = Field(gt=0)
    kv_read_seconds_per_token: float = Field(ge=0)
    compute_seconds_per_token: float = Field(gt=0)
    chunk_tokens: int = Field(default=8192, gt=0)
    sequences_max: int = Field(default=256, gt=0)
    kv_capacity_tokens: int = Field(gt=0)
    sequences_target: int = Field(default=32, gt=0)

    def step_seconds(self, decoding: int, context_tokens: int, prefill_tokens: int) -> float:
        """Time of one step that decodes one token of each of `decoding` sequences, which hold `context_tokens` together,
        and prefills `prefill_tokens`. A roofline: the longer of moving the bytes and doing the arithmetic, plus overhead."""
        memory_seconds = self.weight_read_seconds + self.kv_read_seconds_per_token * context_tokens
        compute_seconds = self.compute_seconds_per_token * (decoding + prefill_tokens)
        return self.step_overhead_seconds + max(memory_seconds, compute_seconds)


def roofline_profile(
    *,
    parameters_billion: float,
    active_parameters_billion: float | None = None,
    layers: int,
    kv_bytes_per_token: int,
    weight_bytes_per_parameter: float,
    memory_gb: float,
    bandwidth_gb_per_second: float,
    tflops: float,
    chunk_tokens: int = 8192,
    sequences_max: int = 256,
    sequences_target: int = 32,
) -> EngineProfile:
    """A profile from the model's shape and the GPU's sheet: bytes moved ÷ bandwidth, 2 FLOPs a parameter a token ÷ rate.

    The KV cache gets 90 % of memory (vLLM's default `gpu_memory_utilization`) less the weights. Raises ValueError when the
    weights do not fit.
    """
    active = (active_parameters_billion or parameters_billion) * GIGA
    weight_bytes = parameters_billion * GIGA * weight_bytes_per_parameter
    kv_bytes = 0.9 * memory_gb * GIGA - weight_bytes
    if kv_bytes < kv_bytes_per_token:
        raise ValueError(f"{weight_bytes / GIGA:.0f} GB of weights leave no room for a KV cache in {memory_gb:.0f} GB")
    bandwidth = bandwidth_gb_per_second * GIGA * BANDWIDTH_EFFICIENCY
    return EngineProfile(
        step_overhead_seconds=STEP_OVERHEAD_SECONDS + layers * LAYER_OVERHEAD_SECONDS,
        weight_read_seconds=active * weight_bytes_per_parameter / bandwidth,
        kv_read_seconds_per_token=kv_bytes_per_token / bandwidth,
        compute_seconds_per_token=2 * active / (tflops * TERA * FLOPS_EFFICIENCY),
        chunk_tokens=chunk_tokens,
        sequences_max=sequences_max,
        kv_capacity_tokens=int(kv_bytes / kv_bytes_per_token),
        sequences_target=sequences_target,
    )
