"""How the time of one engine step is shared among the sequences in it: the rule that the engine's truth and the weights share.

A step takes o + max(w + K, C): its overhead, then the longer of moving the bytes (weights w once, K the caches of those that
decode) and doing the arithmetic C. Overhead and weights are needed by the first sequence in the step and free to the others,
so all n share them alike; the experts of a mixture in proportion to those that each would touch alone. What hides behind
nothing is paid by whose it is. What is left of the maximum is shared by what each adds to it: let the others be there to a
fraction u, evenly, and let u go from nothing to all.

- A prompt with arithmetic c adds the mean over u of max(w + u·K, c + u·(C − c)) − max(w + u·K, u·(C − c)).
- One decoding sequence is too small to move the maximum by itself: up to the fraction s = w ÷ (C − K) of the batch it is the
  bytes that add time, from there on the arithmetic (s = 1 when the bytes take longer to the end). All that decode share what
  the prompts leave, s parts by their caches and 1 − s by their arithmetic.

This is Shapley's value with the others taken at their mean (Owen's multilinear extension, along its diagonal), and comes near
it: see the table of `docs/attribution-errors.md`. Unlike it, it is cheap, and for those that decode it is a straight line over
their context, so that many steps can be added up at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

from router.pricing.profile import EngineProfile, StepParts
from router.pricing.steps import BatchSteps


class StepShares(NamedTuple):
    """Seconds. alike_overhead: each sequence's. decode_weight: of the weights, each one's that decodes; prompt_weight: each
    prompt's, in order. prompt: each prompt's own part of the maximum, with what hides behind nothing. kv_read and compute: what
    all that decode pay together, by their caches and by their arithmetic."""

    alike_overhead_seconds: float
    decode_weight_seconds: float
    prompt_weight_seconds: Sequence[float]
    prompt_seconds: Sequence[float]
    kv_read_seconds: float
    compute_seconds: float


def memory_share(parts: StepParts) -> float:
    """s: up to which fraction of the batch moving bytes takes longer than arithmetic, 0–1."""
    if parts.weight_read_seconds + parts.kv_read_seconds >= parts.compute_seconds:
        return 1.0
    return parts.weight_read_seconds / (parts.compute_seconds - parts.kv_read_seconds)


def prompt_seconds(weight_read: float, kv_read: float, others_compute: float, own_compute: float) -> float:
    """What a prompt adds to the larger of bytes and arithmetic, beyond its share of the weights. All in seconds; kv_read and
    others_compute are the others', together."""
    # Each is the mean over u in 0..1 of max(0, start + u · slope), with and without its own arithmetic.
    slope = others_compute - kv_read
    start = own_compute - weight_read
    end = start + slope
    if start <= 0 and end <= 0:
        return 0.0
    if start >= 0 and end >= 0:
        excess = (start + end) / 2
    else:
        positive = start if start > 0 else end
        excess = positive * positive / (2 * abs(slope))
    without = slope - weight_read
    return excess - without * without / (2 * slope) if without > 0 else excess


def prompt_arithmetic_seconds(profile: EngineProfile, tokens: int, context_tokens: int) -> float:
    """Of so many prompt tokens at the end of a context, themselves included."""
    pairs = tokens * (context_tokens - tokens) + tokens * (tokens + 1) // 2
    return profile.compute_seconds_per_token * tokens + profile.attention_seconds_per_pair * pairs


def prompt_cost_seconds(
    batch: BatchSteps, context_tokens: float, own: int, compute_seconds: float, tokens: float = 0, count: float = 0
) -> float:
    """What a prompt of `own` tokens costs in all, read beside those that decode, in steps that hold `tokens` of `count` prompts,
    its own included. compute_seconds: its arithmetic."""
    budget = batch.room_tokens
    chunk = own if own < budget else (budget if budget > 1 else 1)
    beside = int(tokens) - chunk if tokens < budget else budget - chunk
    if beside < 0:
        beside = 0
    prompts = 1.0
    if beside and count > 1 and tokens > own:
        prompts += beside * (count - 1) / (tokens - own)
    weight_seconds, experts_seconds = batch.weight_seconds, 0.0
    if batch.has_experts:  # all that the step touches, in proportion to what each would touch alone
        touched_seconds, alone = batch.touched_seconds(chunk, beside)
        others = batch.decoding * batch.experts_each_seconds
        if prompts > 1:
            others += (prompts - 1) * batch.profile.experts_seconds(beside / (prompts - 1))
        experts_seconds = touched_seconds * alone / (alone + others)
        weight_seconds += touched_seconds
    seconds = prompt_seconds(
        weight_seconds,
        batch.kv_seconds_per_token * context_tokens,
        batch.compute_seconds + batch.compute_seconds_per_token * beside,
        compute_seconds * chunk / own,
    )
    seconds += batch.alike_seconds / (batch.decoding + prompts) + experts_seconds
    seconds += batch.token_seconds * chunk + batch.prefill_seconds / prompts
    return seconds * own / chunk


def step_shares(parts: StepParts, decoding: int, prompts: Sequence[StepParts]) -> StepShares:
    """The whole step. prompts: each one's parts of a step of its own. Everything adds up to the step's time."""
    members = decoding + len(prompts)
    weight, kv, compute = parts.weight_read_seconds, parts.kv_read_seconds, parts.compute_seconds
    rest = max(weight + kv, compute) - weight
    computes = [prompt.compute_seconds for prompt in prompts]
    added = [prompt_seconds(weight, kv, compute - seconds, seconds) for seconds in computes]
    total = sum(added)
    if total and (total > rest or not decoding):  # the mean of the others is not quite the others
        added = [seconds * rest / total for seconds in added]
        total = rest
    elif added and not decoding:  # what they add to bytes that must be moved anyway is nothing
        added, total = [rest / len(added)] * len(added), rest
    share = memory_share(parts)
    kv *= share
    compute = (1 - share) * max(0.0, compute - sum(computes))
    scale = (rest - total) / (kv + compute) if kv + compute else 0.0
    alike_weight = (weight - parts.experts_seconds) / members
    touched = decoding * parts.decoder_experts_seconds + sum(prompt.experts_seconds for prompt in prompts)
    per_touch = parts.experts_seconds / touched if touched else 0.0
    unhidden = sum(prompt.prompts_seconds for prompt in prompts)
    per_unhidden = parts.prompts_seconds / unhidden if unhidden else 0.0
    return StepShares(
        parts.overhead_seconds / members,
        alike_weight + per_touch * parts.decoder_experts_seconds,
        [alike_weight + per_touch * prompt.experts_seconds for prompt in prompts],
        [own + per_unhidden * prompt.prompts_seconds for own, prompt in zip(added, prompts, strict=True)],
        kv * scale,
        compute * scale,
    )
