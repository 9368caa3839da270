"""The truth about attribution: the time of every step, shared among those in it by the rule of `router/pricing/shares.py`.

`ShareBook` adds the steps up without looking at the sequences that decode: their shares are a straight line over their context,
so one ledger serves them all. `shapley_seconds` is Shapley's value itself, by sampling, to hold the rule against.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add
from random import Random
from typing import NamedTuple

from router.pricing.profile import EngineProfile, StepParts
from router.pricing.shares import StepShares, memory_share, step_shares


@dataclass(slots=True)
class Shares:
    """GPU-seconds of one sequence, by what they were spent on. Overhead includes drafting."""

    overhead_seconds: float = 0.0
    weight_read_seconds: float = 0.0
    kv_read_seconds: float = 0.0
    compute_seconds: float = 0.0

    @property
    def total_seconds(self) -> float:
        return self.overhead_seconds + self.weight_read_seconds + self.kv_read_seconds + self.compute_seconds


class Ledger(NamedTuple):
    """What a sequence that had decoded since the beginning would have been charged, per sequence and per token of context.

    kv_by_token: seconds per token of context, summed; kv_by_clock: the same, each times what the token clock showed. A
    sequence with `base` tokens more than the clock owes base · kv_by_token + kv_by_clock.
    """

    overhead: float = 0.0
    weight: float = 0.0
    compute: float = 0.0
    kv_by_token: float = 0.0
    kv_by_clock: float = 0.0


class ShareBook:
    """Charges steps to the sequences in them, those that decode all at once."""

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        self.ledger = Ledger()

    def settle(self, shares: Shares, joined: Ledger, base_tokens: int) -> None:
        """Give a sequence what it owes for its decoding since it joined."""
        now = self.ledger
        shares.overhead_seconds += now.overhead - joined.overhead
        shares.weight_read_seconds += now.weight - joined.weight
        shares.compute_seconds += now.compute - joined.compute
        shares.kv_read_seconds += (
            base_tokens * (now.kv_by_token - joined.kv_by_token) + now.kv_by_clock - joined.kv_by_clock
        )

    def clear(self) -> None:
        """Nobody decodes: start from zero, where floats are finest."""
        self.ledger = Ledger()

    def decode_steps(self, decoding: int, context_tokens: int, clock_tokens: float, steps: int, slope: int) -> None:
        """`steps` steps of the same sequences alone. context_tokens: at the first; slope: how much it grows a step."""
        gain = slope / decoding
        profile = self._profile
        while steps:
            parts = profile.step_parts(decoding, context_tokens, 0)
            # The caches only grow: once the bytes take longer, they do so to the end.
            run = steps if memory_share(parts) == 1.0 else 1
            self._charge(parts, step_shares(parts, decoding, ()), decoding, context_tokens, clock_tokens, gain, run)
            steps -= run
            context_tokens += run * slope
            clock_tokens += run * gain

    def mixed_step(
        self, decoding: int, context_tokens: int, clock_tokens: float, prefills: Sequence[tuple[Shares, int, int]]
    ) -> None:
        """One step with prompts in it. prefills: whose, how many tokens, how many pairs of attention."""
        profile = self._profile
        tokens = sum(tokens for _, tokens, _ in prefills)
        pairs = sum(pairs for _, _, pairs in prefills)
        parts = profile.step_parts(decoding, context_tokens, tokens, pairs)
        told = step_shares(parts, decoding, [profile.step_parts(0, 0, tokens, pairs) for _, tokens, pairs in prefills])
        of_prompts = zip(prefills, told.prompt_weight_seconds, told.prompt_seconds, strict=True)
        for (shares, _, _), weight_seconds, seconds in of_prompts:
            shares.overhead_seconds += told.alike_overhead_seconds
            shares.weight_read_seconds += weight_seconds
            shares.compute_seconds += seconds
        if decoding:
            self._charge(parts, told, decoding, context_tokens, clock_tokens, 0.0, 1)

    def _charge(
        self,
        parts: StepParts,
        told: StepShares,
        decoding: int,
        context_tokens: int,
        clock_tokens: float,
        gain: float,
        steps: int,
    ) -> None:
        """Those that decode, for `steps` steps alike but for the context."""
        old = self.ledger
        # By the caches, and where they grow in a run of steps that is bound by them, by what they have become.
        per_token = told.kv_read_seconds / context_tokens
        self.ledger = Ledger(
            old.overhead + steps * (told.alike_overhead_seconds + parts.decoders_seconds / decoding),
            old.weight + steps * told.decode_weight_seconds,
            old.compute + steps * told.compute_seconds / decoding,
            old.kv_by_token + steps * per_token,
            old.kv_by_clock + per_token * steps * (clock_tokens + gain * (steps - 1) / 2),
        )


class StepMember(NamedTuple):
    """One sequence's work in a step: a decoding one's context, or a chunk of a prompt."""

    context_tokens: int
    prefill_tokens: int
    prefill_pairs: int


def step_of(profile: EngineProfile, members: Sequence[StepMember]) -> float:
    """What a step with just these members takes; nothing when there are none."""
    if not members:
        return 0.0
    decoding = [member.context_tokens for member in members if not member.prefill_tokens]
    tokens = sum(member.prefill_tokens for member in members)
    pairs = sum(member.prefill_pairs for member in members)
    return profile.step_seconds(len(decoding), sum(decoding), tokens, pairs)


def shares_of_step(profile: EngineProfile, members: Sequence[StepMember]) -> list[float]:
    """The rule above for one step, member by member: the definition, which `ShareBook` adds up."""
    decoding = [member for member in members if not member.prefill_tokens]
    context_tokens = sum(member.context_tokens for member in decoding)
    tokens = sum(member.prefill_tokens for member in members)
    pairs = sum(member.prefill_pairs for member in members)
    parts = profile.step_parts(len(decoding), context_tokens, tokens, pairs)
    prompts = [member for member in members if member.prefill_tokens]
    each = [profile.step_parts(0, 0, one.prefill_tokens, one.prefill_pairs) for one in prompts]
    told = step_shares(parts, len(decoding), each)
    of_prompts = map(add, told.prompt_weight_seconds, told.prompt_seconds)
    shares = []
    for member in members:
        if member.prefill_tokens:
            shares.append(told.alike_overhead_seconds + next(of_prompts))
        else:
            own = told.decode_weight_seconds + (parts.decoders_seconds + told.compute_seconds) / len(decoding)
            own += told.kv_read_seconds * member.context_tokens / context_tokens
            shares.append(told.alike_overhead_seconds + own)
    return shares


def shapley_seconds(
    members: Sequence[StepMember], value: Callable[[Sequence[StepMember]], float], permutations: int, random: Random
) -> list[float]:
    """Shapley's value by sampling: what each adds to those before it, averaged over random orders and all their rotations.

    Among the rotations of an order each comes first once, and at every other place: who pays for what the first one needs,
    which is most of a step, is then not left to chance.
    """
    totals = [0.0] * len(members)
    order = list(range(len(members)))
    for _ in range(permutations):
        random.shuffle(order)
        for start in range(len(order)):
            present: list[StepMember] = []
            before = 0.0
            for position in (*order[start:], *order[:start]):
                present.append(members[position])
                after = value(present)
                totals[position] += after - before
                before = after
    return [total / (len(order) * permutations) for total in totals]
