"""The engine profile: one vLLM engine as a function from work to time.

Four users share it: quotes and metering weights in the router, the emulated backend, the simulator, capacity planning.
What may not live here: queues, clocks, randomness; an engine *in time* is `load/engine.py`.
"""

from typing import NamedTuple

from pydantic import BaseModel, Field

GIGA = 1e9
TERA = 1e12

# Fitted to 570 vLLM rows of measured TPOT (InferenceX runs, 2025-10..2026-04): share of peak bandwidth and FLOPs that the
# engine achieves, and the fixed time of a step. Median error 11 %. The calibration issue replaces them by fits per engine.
BANDWIDTH_EFFICIENCY = 0.79
FLOPS_EFFICIENCY = 0.63
STEP_OVERHEAD_SECONDS = 1.35e-3
LAYER_OVERHEAD_SECONDS = 18e-6


class Speculation(BaseModel, frozen=True, extra="forbid"):
    """Speculative decoding: every step drafts some tokens for each decoding sequence, and verifies them all at once.

    draft_tokens: drafted a step and sequence (`num_speculative_tokens`).
    acceptance_ratio: the chance that a drafted token is right, given that those before it were; 0–1.
    draft_seconds: what drafting adds to a step that decodes.
    """

    draft_tokens: int = Field(gt=0, le=32)
    acceptance_ratio: float = Field(ge=0, le=1)
    draft_seconds: float = Field(ge=0)

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step yields for a sequence, on average: (1 − αᵏ⁺¹) ÷ (1 − α) (Leviathan et al. 2023, equation 1)."""
        return sum(self.acceptance_ratio**position for position in range(self.draft_tokens + 1))


class StepParts(NamedTuple):
    """The parts of a step: overhead + draft + max(weight read + KV read, compute) is its time. Seconds."""

    overhead_seconds: float
    draft_seconds: float
    weight_read_seconds: float
    kv_read_seconds: float
    compute_seconds: float


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
    attention_seconds_per_pair: the arithmetic of one prompt token attending to one token before it (or itself).
    speculation: None where every step yields one token a sequence.
    """

    step_overhead_seconds: float = Field(gt=0)
    weight_read_seconds: float = Field(gt=0)
    kv_read_seconds_per_token: float = Field(ge=0)
    compute_seconds_per_token: float = Field(gt=0)
    chunk_tokens: int = Field(default=8192, gt=0)
    sequences_max: int = Field(default=256, gt=0)
    kv_capacity_tokens: int = Field(gt=0)
    sequences_target: int = Field(default=32, gt=0)
    attention_seconds_per_pair: float = Field(default=0.0, ge=0)
    speculation: Speculation | None = None

    def step_seconds(self, decoding: int, context_tokens: int, prefill_tokens: int, prefill_pairs: int = 0) -> float:
        """Time of one step that decodes each of `decoding` sequences, which hold `context_tokens` together, and prefills
        `prefill_tokens`. A roofline: the longer of moving the bytes and doing the arithmetic, plus overhead.

        prefill_pairs: over the step's prompt tokens, the sum of the tokens that each attends to; a chunk of t tokens behind
        p others has t·p + t·(t + 1) ÷ 2.
        """
        memory_seconds = self.weight_read_seconds + self.kv_read_seconds_per_token * context_tokens
        overhead_seconds = self.step_overhead_seconds
        speculation = self.speculation
        if speculation is not None and decoding:
            overhead_seconds += speculation.draft_seconds
            decoding *= 1 + speculation.draft_tokens
        compute_seconds = self.compute_seconds_per_token * (decoding + prefill_tokens)
        compute_seconds += self.attention_seconds_per_pair * prefill_pairs
        return overhead_seconds + max(memory_seconds, compute_seconds)

    def decode_steps_seconds(self, decoding: int, context_tokens: int, steps: int, tokens_per_step: int) -> float:
        """Time of `steps` steps that only decode the same sequences, whose context grows by `tokens_per_step` (all sequences
        together) from one to the next: the sum of `step_seconds`, without adding them up.

        At a fixed batch a step's time is the larger of two straight lines over its context, so the sum has at most one knee.
        """
        if steps <= 0:
            return 0.0
        first = self.step_seconds(decoding, context_tokens, 0)
        if steps == 1 or tokens_per_step == 0:
            return steps * first
        floor = self.step_seconds(decoding, 0, 0)
        slope = self.kv_read_seconds_per_token * tokens_per_step
        last = self.step_seconds(decoding, context_tokens + (steps - 1) * tokens_per_step, 0)
        flat = 0  # steps before the knee, where the context does not matter yet
        if first == floor and slope:
            flat = min(steps, max(0, steps - int((last - floor) / slope) - 1))
        rising = steps - flat
        start = self.step_seconds(decoding, context_tokens + flat * tokens_per_step, 0) if flat else first
        return flat * floor + rising * (start + last) / 2

    def step_parts(
        self, decoding: int, context_tokens: float, prefill_tokens: int, prefill_pairs: int = 0
    ) -> "StepParts":
        """What the time of a step is made of; the arguments are those of `step_seconds`."""
        draft_seconds, computed = 0.0, decoding
        if self.speculation is not None and decoding:
            draft_seconds = self.speculation.draft_seconds
            computed *= 1 + self.speculation.draft_tokens
        return StepParts(
            self.step_overhead_seconds,
            draft_seconds,
            self.weight_read_seconds,
            self.kv_read_seconds_per_token * context_tokens,
            self.compute_seconds_per_token * (computed + prefill_tokens)
            + self.attention_seconds_per_pair * prefill_pairs,
        )


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
