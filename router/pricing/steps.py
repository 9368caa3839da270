"""Steps of one engine with all that does not change from one to the next worked out before, for whoever asks for many of them.

Made by `EngineProfile.decode_steps` and `batch_steps`, which remember them by the number of sequences that decode.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.pricing.profile import EngineProfile


class DecodeSteps:
    """Steps that decode the same sequences and hold no prompt, of which all but the caches is fixed: for whoever adds up many.
    To the last bit what `EngineProfile.step_seconds` says."""

    __slots__ = ("_compute", "_experts", "_floor", "_kv_per_token", "_unhidden", "_weight")

    def __init__(self, profile: "EngineProfile", decoding: int) -> None:
        computed = decoding * profile.verified_tokens
        unhidden = profile.step_overhead_seconds + profile.sequence_seconds * decoding
        if profile.speculation is not None and decoding:
            unhidden += profile.speculation.draft_seconds
        self._unhidden = unhidden + profile.token_seconds * computed
        self._compute = profile.compute_seconds_per_token * computed
        self._weight = profile.weight_read_seconds
        self._kv_per_token = profile.kv_read_seconds_per_token
        self._experts = profile.experts_seconds(computed)
        self._floor = self._step(0)

    def seconds(self, context_tokens: int, steps: int, tokens_per_step: int) -> float:
        """Time of `steps` steps, at first over `context_tokens` (all sequences together), which grow by `tokens_per_step` from
        one to the next.

        A step's time is the larger of two straight lines over its context, so the sum has at most one knee.
        """
        if steps <= 0:
            return 0.0
        unhidden, compute = self._unhidden, self._compute
        memory = self._weight + self._kv_per_token * context_tokens + self._experts
        first = unhidden + (memory if memory > compute else compute)
        if steps == 1 or tokens_per_step == 0:
            return steps * first
        memory = self._weight + self._kv_per_token * (context_tokens + (steps - 1) * tokens_per_step) + self._experts
        last = unhidden + (memory if memory > compute else compute)
        if first > self._floor:
            return steps * (first + last) / 2
        slope = self._kv_per_token * tokens_per_step
        # Those before the knee, where the context does not matter yet.
        flat = min(steps, max(0, steps - int((last - first) / slope) - 1)) if slope else 0
        start = self._step(context_tokens + flat * tokens_per_step)
        return flat * first + (steps - flat) * (start + last) / 2

    def _step(self, context_tokens: int) -> float:
        memory = self._weight + self._kv_per_token * context_tokens + self._experts
        return self._unhidden + max(memory, self._compute)


class BatchSteps:
    """Steps that decode the same number of sequences, beside prompts or not, for whoever asks for many of them one by one: what
    `EngineProfile.step_seconds` and `shares.step_shares` say, but for the last bit, all that is fixed worked out before.

    Seconds but where said otherwise. budget_tokens: of prompts, that such a step holds, at least 1; room_tokens: the same, and
    negative where it holds none. weight: without experts; alike: overhead and weight, which all in the step need alike;
    decoders: what hides behind nothing and is theirs; experts_each: what one of them alone would touch. unseen: what a request
    waits before the scheduler sees it.
    """

    __slots__ = (
        "_bare_alike", "_bare_weight", "_computed", "_unhidden", "alike_seconds", "budget_tokens", "compute_seconds",
        "compute_seconds_per_token", "decoders_seconds", "decoding", "experts_each_seconds", "has_experts",
        "kv_seconds_per_token", "prefill_seconds", "profile", "room_tokens", "token_seconds", "unseen_seconds",
        "unseen_seconds_per_token", "weight_seconds",
    )  # fmt: skip

    def __init__(self, profile: "EngineProfile", decoding: int) -> None:
        parts = profile.step_parts(decoding, 0, 0)
        self.profile = profile
        self._computed = decoding * profile.verified_tokens
        self._unhidden = parts.overhead_seconds + parts.decoders_seconds
        self._bare_weight = parts.weight_read_seconds
        self._bare_alike = (self._unhidden + self._bare_weight) / decoding if decoding else 0.0
        self.decoding = decoding
        self.room_tokens = profile.chunk_tokens - decoding
        self.budget_tokens = max(self.room_tokens, 1)
        self.weight_seconds = profile.weight_read_seconds
        self.alike_seconds = parts.overhead_seconds + self.weight_seconds
        self.decoders_seconds = parts.decoders_seconds
        self.compute_seconds = parts.compute_seconds
        self.compute_seconds_per_token = profile.compute_seconds_per_token
        self.kv_seconds_per_token = profile.kv_read_seconds_per_token
        self.token_seconds = profile.token_seconds
        self.prefill_seconds = profile.prefill_overhead_seconds
        self.has_experts = profile.expert_read_seconds > 0
        self.experts_each_seconds = profile.experts_seconds(profile.verified_tokens)
        self.unseen_seconds = profile.request_overhead_seconds
        self.unseen_seconds_per_token = profile.request_seconds_per_token

    def seconds(self, context_tokens: int, prefill_tokens: int) -> float:
        """Of a step that prefills so many tokens, at least one."""
        memory = self.weight_seconds + self.kv_seconds_per_token * context_tokens
        if self.has_experts:
            memory += self.profile.experts_seconds(self._computed + prefill_tokens)
        compute = self.compute_seconds + self.compute_seconds_per_token * prefill_tokens
        unhidden = self._unhidden + self.prefill_seconds + self.token_seconds * prefill_tokens
        return unhidden + (memory if memory > compute else compute)

    def bare_seconds(self, context_tokens: int) -> float:
        """Of one without prompts."""
        memory = self._bare_weight + self.kv_seconds_per_token * context_tokens
        compute = self.compute_seconds
        return self._unhidden + (memory if memory > compute else compute)

    def decode_shares(self, context_tokens: int) -> tuple[float, float]:
        """Of one without prompts: what each of those that decode pays alike, and what all of them pay by their caches."""
        weight, compute = self._bare_weight, self.compute_seconds
        kv = self.kv_seconds_per_token * context_tokens
        if weight + kv >= compute:
            return self._bare_alike, kv
        by_cache = weight / (compute - kv) * kv
        by_compute = (1 - weight / (compute - kv)) * compute
        scale = (compute - weight) / (by_cache + by_compute)
        return self._bare_alike + scale * by_compute / self.decoding, scale * by_cache

    def touched_seconds(self, prompt_tokens: int, beside_tokens: int = 0) -> tuple[float, float]:
        """Reading the experts that it touches with so many tokens of a prompt and of others beside it; and those that the prompt
        alone would."""
        experts_seconds = self.profile.experts_seconds
        return experts_seconds(self._computed + prompt_tokens + beside_tokens), experts_seconds(prompt_tokens)
