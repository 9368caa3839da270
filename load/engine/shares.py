"""The truth about attribution: how the time of every step was shared among the sequences in it.

A step takes o + max(w + K, C): its overhead, then the longer of moving the bytes (weights w once, K the caches of those that
decode) and doing the arithmetic C. The overhead and the weights are needed by the first sequence and free to the others, so
all share them alike (drafting: all that decode). What is left of the maximum is shared by Aumann and Shapley's rule: let the
batch grow evenly from nothing to all of it, and charge each at every moment by what adds time then. Moving bytes is what
takes longer up to the fraction s = w ÷ (C − K) of the batch, arithmetic from there on (s = 1 when the bytes take longer to
the end), so a sequence pays

    o ÷ n + w ÷ n + s · its share of K + (1 − s) · its share of C

which adds up to the step's time, exactly. It is Shapley's value for a batch of many small sequences, and comes near it for
few (`shapley_seconds`, and the table of `docs/attribution-errors.md`); unlike it, it is cheap, and for decoding sequences a
straight line over their context, so many steps can be added up at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from router.pricing.profile import EngineProfile, StepParts


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


def memory_share(parts: StepParts) -> float:
    """s: up to which fraction of the batch moving bytes takes longer than arithmetic, 0–1."""
    if parts.weight_read_seconds + parts.kv_read_seconds >= parts.compute_seconds:
        return 1.0
    return parts.weight_read_seconds / (parts.compute_seconds - parts.kv_read_seconds)


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
            share = memory_share(parts)
            # The caches only grow: once the bytes take longer, they do so to the end.
            run = steps if share == 1.0 else 1
            self._charge(
                parts, share, decoding, decoding, context_tokens, clock_tokens, gain, run, parts.compute_seconds
            )
            steps -= run
            context_tokens += run * slope
            clock_tokens += run * gain

    def mixed_step(
        self, decoding: int, context_tokens: int, clock_tokens: float, prefills: Sequence[tuple[Shares, int, int]]
    ) -> None:
        """One step with prompts in it. prefills: whose, how many tokens, how many pairs of attention."""
        tokens = sum(tokens for _, tokens, _ in prefills)
        pairs = sum(pairs for _, _, pairs in prefills)
        parts = self._profile.step_parts(decoding, context_tokens, tokens, pairs)
        share = memory_share(parts)
        members = decoding + len(prefills)
        decode_compute_seconds = parts.compute_seconds
        for shares, tokens, pairs in prefills:
            compute_seconds = self._profile.step_parts(0, 0, tokens, pairs).compute_seconds
            decode_compute_seconds -= compute_seconds
            shares.overhead_seconds += parts.overhead_seconds / members
            shares.weight_read_seconds += parts.weight_read_seconds / members
            shares.compute_seconds += (1 - share) * compute_seconds
        if decoding:
            self._charge(
                parts, share, members, decoding, context_tokens, clock_tokens, 0.0, 1, max(decode_compute_seconds, 0.0)
            )

    def _charge(
        self,
        parts: StepParts,
        share: float,
        members: int,
        decoding: int,
        context_tokens: int,
        clock_tokens: float,
        gain: float,
        steps: int,
        compute_seconds: float,
    ) -> None:
        """Those that decode, for `steps` steps alike but for the context."""
        old = self.ledger
        per_token = share * parts.kv_read_seconds / context_tokens
        self.ledger = Ledger(
            old.overhead + steps * (parts.overhead_seconds / members + parts.draft_seconds / decoding),
            old.weight + steps * parts.weight_read_seconds / members,
            old.compute + steps * (1 - share) * compute_seconds / decoding,
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
    share = memory_share(parts)
    alike = (parts.overhead_seconds + parts.weight_read_seconds) / len(members)
    shares = []
    for member in members:
        if member.prefill_tokens:
            own = profile.step_parts(0, 0, member.prefill_tokens, member.prefill_pairs)
            shares.append(alike + (1 - share) * own.compute_seconds)
        else:
            own = profile.step_parts(1, member.context_tokens, 0)
            drafting = parts.draft_seconds / len(decoding)
            shares.append(alike + drafting + share * own.kv_read_seconds + (1 - share) * own.compute_seconds)
    return shares


def shapley_seconds(
    members: Sequence[StepMember], value: Callable[[Sequence[StepMember]], float], permutations: int, random: Random
) -> list[float]:
    """Shapley's value by sampling: what each adds to those before it, averaged over random orders and their reverses.

    An order and its reverse (antithetic sampling) together have far less variance than two independent ones.
    """
    totals = [0.0] * len(members)
    order = list(range(len(members)))
    for _ in range(permutations):
        random.shuffle(order)
        for turn in (order, order[::-1]):
            present: list[StepMember] = []
            before = 0.0
            for position in turn:
                present.append(members[position])
                after = value(present)
                totals[position] += after - before
                before = after
    return [total / (2 * permutations) for total in totals]
