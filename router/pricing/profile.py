"""The engine profile: one vLLM engine as a function from work to time.

Four users share it: quotes and metering weights in the router, the emulated backend, the simulator, capacity planning.
Where its numbers come from is `roofline.py`'s. What may not live here: queues, clocks, randomness; an engine *in time* is
`load/engine/`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, Field

from router.pricing.steps import BatchSteps, DecodeSteps


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
    """The parts of a step, in seconds: overhead + decoders + prompts + max(weight read + KV read, compute) is its time.

    weight_read: with the experts that its tokens touch; experts: what of it those are. decoders, prompts: what hides behind
    nothing and is taken by those that decode (drafting, their tokens, their sampling) and by the prompts (their tokens, and
    that there are any). decoder_experts: what of the experts one decoding sequence alone would touch.
    """

    overhead_seconds: float
    decoders_seconds: float
    weight_read_seconds: float
    kv_read_seconds: float
    compute_seconds: float
    prompts_seconds: float = 0.0
    experts_seconds: float = 0.0
    decoder_experts_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        longer = max(self.weight_read_seconds + self.kv_read_seconds, self.compute_seconds)
        return self.overhead_seconds + self.decoders_seconds + self.prompts_seconds + longer


class Figures(NamedTuple):
    """`EngineProfile.figures`: its parameters. draft_seconds: 0 without speculation."""

    step_overhead_seconds: float
    weight_read_seconds: float
    kv_read_seconds_per_token: float
    compute_seconds_per_token: float
    chunk_tokens: int
    sequences_max: int
    kv_capacity_tokens: int
    attention_seconds_per_pair: float
    expert_read_seconds: float
    expert_miss_ratio: float
    token_seconds: float
    sequence_seconds: float
    prefill_overhead_seconds: float
    request_overhead_seconds: float
    request_seconds_per_token: float
    draft_seconds: float
    verified_tokens: int


class EngineProfile(BaseModel, frozen=True, extra="forbid"):
    """Parameters of one engine: model × GPU × parallelism × quantization. Times in seconds, sizes in tokens.

    step_overhead_seconds: what every step costs, however little it does: launches, synchronization, the scheduler.
    weight_read_seconds: reading the weights that every step needs once, shared by everything in the step.
    kv_read_seconds_per_token: reading one token of context for one decoding sequence.
    compute_seconds_per_token: the arithmetic of one token, prompt or completion, that may hide behind moving the bytes.
    chunk_tokens: prefill tokens a step may hold (`max_num_batched_tokens`).
    sequences_max: sequences running at once (`max_num_seqs`).
    kv_capacity_tokens: tokens that the KV cache holds.
    sequences_target: the batch at which `standard` prices are reckoned.
    attention_seconds_per_pair: the arithmetic of one prompt token attending to one token before it (or itself).
    speculation: None where every step yields one token a sequence.
    expert_read_seconds: reading all experts of a mixture once; 0 for a dense model.
    expert_miss_ratio: the chance that one token leaves a given expert untouched, 0–1.
    token_seconds: what one token costs that hides behind nothing: its activations in memory, its share of an all-reduce.
    sequence_seconds: what one decoding sequence costs a step beside its token: sampling, scheduling, its answer's chunk.
    prefill_overhead_seconds: what a step costs more when it prefills at all: no CUDA graph fits it.
    request_overhead_seconds, request_seconds_per_token: what a request and each token of its prompt wait before the
        scheduler sees them: HTTP, tokenizer. They occupy no step.
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
    expert_read_seconds: float = Field(default=0.0, ge=0)
    expert_miss_ratio: float = Field(default=0.0, ge=0, le=1)
    token_seconds: float = Field(default=0.0, ge=0)
    sequence_seconds: float = Field(default=0.0, ge=0)
    prefill_overhead_seconds: float = Field(default=0.0, ge=0)
    request_overhead_seconds: float = Field(default=0.0, ge=0)
    request_seconds_per_token: float = Field(default=0.0, ge=0)

    def step_seconds(self, decoding: int, context_tokens: int, prefill_tokens: int, prefill_pairs: int = 0) -> float:
        """Time of one step that decodes each of `decoding` sequences, which hold `context_tokens` together, and prefills
        `prefill_tokens`. A roofline: the longer of moving the bytes and doing the arithmetic, plus what hides behind neither.

        prefill_pairs: over the step's prompt tokens, the sum of the tokens that each attends to; a chunk of t tokens behind
        p others has t·p + t·(t + 1) ÷ 2.
        """
        # One read of the profile: those of a pydantic instance are dear.
        (
            overhead_seconds, weight_read_seconds, kv_read_seconds_per_token, compute_seconds_per_token, _, _, _,
            attention_seconds_per_pair, expert_read_seconds, expert_miss_ratio, token_seconds, sequence_seconds,
            prefill_overhead_seconds, _, _, draft_seconds, verified_tokens,
        ) = self.figures  # fmt: skip
        seconds = overhead_seconds + sequence_seconds * decoding
        if decoding and verified_tokens > 1:
            seconds += draft_seconds
            decoding *= verified_tokens
        tokens = decoding + prefill_tokens
        compute_seconds = compute_seconds_per_token * tokens
        if prefill_tokens:
            seconds += prefill_overhead_seconds
            compute_seconds += attention_seconds_per_pair * prefill_pairs
        memory_seconds = weight_read_seconds + kv_read_seconds_per_token * context_tokens
        if expert_read_seconds:
            memory_seconds += expert_read_seconds * (1 - expert_miss_ratio**tokens)
        longer = memory_seconds if memory_seconds > compute_seconds else compute_seconds
        return seconds + token_seconds * tokens + longer

    def decode_steps(self, decoding: int) -> DecodeSteps:
        """Steps that only decode so many sequences; worked out once for each number of them."""
        steps = self.decode_steps_by_batch.get(decoding)
        if steps is None:
            steps = self.decode_steps_by_batch[decoding] = DecodeSteps(self, decoding)
        return steps

    def batch_steps(self, decoding: int) -> BatchSteps:
        """Steps that decode so many sequences, with or without a prompt; worked out once for each number of them."""
        steps = self.batch_steps_by_batch.get(decoding)
        if steps is None:
            steps = self.batch_steps_by_batch[decoding] = BatchSteps(self, decoding)
        return steps

    def step_parts(
        self, decoding: int, context_tokens: float, prefill_tokens: int, prefill_pairs: int = 0
    ) -> StepParts:
        """What the time of a step is made of; the arguments are those of `step_seconds`."""
        decoders_seconds, computed = 0.0, decoding
        if decoding:
            computed = decoding * self.verified_tokens
            decoders_seconds = self.sequence_seconds * decoding + self.token_seconds * computed
            if self.speculation is not None:
                decoders_seconds += self.speculation.draft_seconds
        compute_seconds = self.compute_seconds_per_token * (computed + prefill_tokens)
        prompts_seconds = 0.0
        if prefill_tokens:
            compute_seconds += self.attention_seconds_per_pair * prefill_pairs
            prompts_seconds = self.token_seconds * prefill_tokens + self.prefill_overhead_seconds
        kv_seconds = self.kv_read_seconds_per_token * context_tokens
        if not self.expert_read_seconds:
            return StepParts(
                self.step_overhead_seconds, decoders_seconds, self.weight_read_seconds, kv_seconds, compute_seconds,
                prompts_seconds,
            )  # fmt: skip
        experts_seconds = self.experts_seconds(computed + prefill_tokens)
        return StepParts(
            self.step_overhead_seconds, decoders_seconds, self.weight_read_seconds + experts_seconds, kv_seconds,
            compute_seconds, prompts_seconds, experts_seconds, self.experts_seconds(self.verified_tokens),
        )  # fmt: skip

    def experts_seconds(self, tokens: float) -> float:
        """Reading the experts that so many tokens touch: more of them the more tokens there are."""
        return self.expert_read_seconds * (1 - self.expert_miss_ratio**tokens) if self.expert_read_seconds else 0.0

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Without what has been worked out of the figures: it does not hold for others."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @cached_property
    def decode_steps_by_batch(self) -> dict[int, DecodeSteps]:
        """What `decode_steps` has worked out."""
        return {}

    @cached_property
    def batch_steps_by_batch(self) -> dict[int, BatchSteps]:
        """What `batch_steps` has worked out."""
        return {}

    @cached_property
    def figures(self) -> "Figures":
        """The parameters as a tuple, for those who read many of them often."""
        draft_seconds = 0.0 if self.speculation is None else self.speculation.draft_seconds
        own = {name: getattr(self, name) for name in Figures._fields if name in type(self).model_fields}
        return Figures(**own, draft_seconds=draft_seconds, verified_tokens=self.verified_tokens)

    @cached_property
    def prompt_figures(self) -> tuple[float, float, float, float, float]:
        """Those that a prompt's tokens meet: what each waits before the scheduler sees it; a pair's attention (t tokens have
        t · (t + 1) ÷ 2); what a token adds to a step that is bound by memory, and to one that is bound by arithmetic; the chance
        that it leaves an expert untouched, 0 where there are none."""
        return (
            self.request_seconds_per_token,
            self.attention_seconds_per_pair / 2,
            self.token_seconds,
            self.token_seconds + self.compute_seconds_per_token,
            self.expert_miss_ratio if self.expert_read_seconds else 0.0,
        )

    @cached_property
    def tokens_per_step(self) -> float:
        """Completion tokens that a step yields for each decoding sequence."""
        return 1.0 if self.speculation is None else self.speculation.tokens_per_step

    @cached_property
    def verified_tokens(self) -> int:
        """Tokens that a step computes for each decoding sequence: the next one, and those drafted."""
        return 1 if self.speculation is None else 1 + self.speculation.draft_tokens

    def read_seconds(self, tokens: float) -> float:
        """Reading the weights for a step of `tokens` tokens, with the experts that they touch."""
        return self.weight_read_seconds + self.experts_seconds(tokens)

    def shared_seconds(self, tokens: float) -> float:
        """What a step of `tokens` tokens, some of them decoding, takes whoever is in it: overhead, drafting, weight read."""
        draft_seconds = 0.0 if self.speculation is None else self.speculation.draft_seconds
        return self.step_overhead_seconds + draft_seconds + self.read_seconds(tokens)

    @cached_property
    def prompt_token_seconds(self) -> float:
        """What one prompt token adds to a step, if nothing hid."""
        return self.compute_seconds_per_token + self.token_seconds

    @cached_property
    def decode_seconds(self) -> float:
        """What one decoding sequence adds to a step beside reading its context, if nothing hid."""
        return self.verified_tokens * (self.compute_seconds_per_token + self.token_seconds) + self.sequence_seconds

    @cached_property
    def target_share_seconds(self) -> float:
        """What a decoding sequence takes of a step at the target batch beside reading its context: its part of what the step
        takes whoever is in it, and what it adds."""
        sequences = self.sequences_target
        return self.shared_seconds(sequences * self.verified_tokens) / sequences + self.decode_seconds


GIGA = 1e9
TERA = 1e12

# For a profile of which no more is known than the sheet's figures (`roofline.py` knows more): share of peak bandwidth and
# FLOPs that an engine achieves, and the fixed time of a step. Rounded from the fit that comes with jeton (`router/profiles.yaml`:
# bandwidth_bf16 and _fp8; between rate_hopper_fp8 and _bf16; step; layer, quantize and two of reduce).
BANDWIDTH_EFFICIENCY = 0.85
FLOPS_EFFICIENCY = 0.6
STEP_OVERHEAD_SECONDS = 0.3e-3
LAYER_OVERHEAD_SECONDS = 50e-6


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
    """A profile from the sheets' figures alone: bytes moved ÷ bandwidth, 2 FLOPs a parameter a token ÷ rate.

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
