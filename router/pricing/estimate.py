"""What attempts at one leased replica run up, about: the reckoning of `meter.py` for whoever has no need of its last digits.

A worker among others tells its clients what an answer cost; the books say it later, and have the last word. So here virtual time
is a float, and an attempt weighs what `weights.py` says of its phase in a typical batch, whoever else is there.

That is a fraction of the work of the meter and its weigher, and no further from the books than they would be: where four workers
share a replica, each sees its own attempts and how many there are of the others. Simulated, an H100 with an 8B model in FP8,
traced chat, 32 and 128 clients: off by 11 % and 20 % (median), where each worker's own fold of its part of the price was off by
13 % and 24 %; with one worker by 6 % and 8 %, where the fold is exact. Worst where a few long prompts meet many short ones: 59 %
(`load/bench/estimates.py`).
"""

from router.pricing.profile import EngineProfile
from router.pricing.weights import decode_step_seconds, prefill_step_seconds

NS_PER_HOUR = 3_600 * 10**9
# Without a profile all weigh the same.
WEIGHT_WITHOUT_PROFILE = 1e-3
# A prompt that is all cached weighs next to nothing, not nothing: somebody must pay.
WEIGHT_MIN = 1e-9


class Share:
    """An open attempt's: its weight, in seconds of a step, and what it had run up at the virtual time `since`.
    decode_weight: from its first token on; None where nobody will tell of one."""

    __slots__ = ("decode_weight", "nanousd", "replica", "since", "weight")

    def __init__(self, replica: "ReplicaEstimate", weight: float, decode_weight: float | None) -> None:
        self.replica = replica
        self.weight = weight
        self.decode_weight = decode_weight
        self.since = replica.virtual
        self.nanousd = 0.0


class ReplicaEstimate:
    """Times are nanoseconds of one clock; an event earlier than the last is taken to be at the last. others: attempts of other
    processes at the replica, each taken to weigh what ours do on average."""

    __slots__ = ("_last_ns", "_open", "_per_ns", "_weight", "others", "virtual")

    def __init__(self, nanousd_per_hour: int, at_ns: int) -> None:
        self._per_ns = nanousd_per_hour / NS_PER_HOUR
        self._last_ns = at_ns
        self.virtual = 0.0
        self._weight = 0.0
        self._open = 0
        self.others = 0

    @property
    def open_attempts(self) -> int:
        return self._open

    def reprice(self, nanousd_per_hour: int, at_ns: int) -> None:
        self.advance(at_ns)
        self._per_ns = nanousd_per_hour / NS_PER_HOUR

    def share_with(self, others: int, at_ns: int) -> None:
        """From now on others have so many attempts there."""
        self.advance(at_ns)
        self.others = others

    def advance(self, at_ns: int) -> None:
        elapsed_ns = at_ns - self._last_ns
        if elapsed_ns > 0:
            self._last_ns = at_ns
            if self._open:
                own = self._open
                self.virtual += self._per_ns * elapsed_ns * own / (self._weight * (own + self.others))

    def open(
        self,
        profile: EngineProfile | None,
        prompt_tokens: int,
        cached_tokens: int,
        completion_tokens: int,
        at_ns: int,
        *,
        is_streaming: bool,
    ) -> Share:
        """The arguments are those of `Accountant.open`."""
        self.advance(at_ns)
        weight, decode_weight = _weights(
            profile, prompt_tokens, cached_tokens, completion_tokens, is_streaming=is_streaming
        )
        self._open += 1
        self._weight += weight
        return Share(self, weight, decode_weight)

    def first_token(self, share: Share, at_ns: int) -> bool:
        """Whether anybody was to tell of it; if not, nothing changes."""
        weight = share.decode_weight
        if weight is None:
            return False
        self.advance(at_ns)
        virtual = self.virtual
        share.nanousd += share.weight * (virtual - share.since)
        share.since = virtual
        self._weight += weight - share.weight
        share.weight = weight
        return True

    def close(self, share: Share, at_ns: int) -> int:
        """What it has run up, nano-dollars. Once."""
        self.advance(at_ns)
        nanousd = share.nanousd + share.weight * (self.virtual - share.since)
        self._open -= 1
        if self._open:
            self._weight -= share.weight
        else:  # nobody refers to it; keeps errors of rounding from adding up
            self._weight = self.virtual = 0.0
        return round(nanousd)


def _weights(
    profile: EngineProfile | None,
    prompt_tokens: int,
    cached_tokens: int,
    completion_tokens: int,
    *,
    is_streaming: bool,
) -> tuple[float, float | None]:
    """Until the first token and from it on; without one over the steps of both phases."""
    if profile is None:
        return WEIGHT_WITHOUT_PROFILE, None
    computed_tokens = prompt_tokens - cached_tokens
    prefill = max(prefill_step_seconds(profile, computed_tokens), WEIGHT_MIN)
    decode = max(decode_step_seconds(profile, prompt_tokens, completion_tokens), WEIGHT_MIN)
    if is_streaming:
        return prefill, decode
    read_steps = max(-(-computed_tokens // profile.chunk_tokens), 1)
    decode_steps = completion_tokens / profile.tokens_per_step
    return (prefill * read_steps + decode * decode_steps) / (read_steps + decode_steps), None
