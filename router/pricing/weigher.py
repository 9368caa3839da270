"""What the attempts at one replica weigh, from what the router knows at each one's three events: who else is there.

A weight is an attempt's part of an engine step (`shares.py`) as it will be for as long as the weight holds, so that the money
of a step, divided by weights, goes where its time went. Three things make that more than the formula of a step:

- **A prompt pays by amount, not by time.** From dispatch to first token an attempt mostly waits: for HTTP and tokenizer, for
  the step under way, for the prompts before it, for a place or for blocks when the replica is full. It weighs what its prompt
  costs, divided by the steps until it is read, so a queue of prompts does not pay for what it does not use yet.
- **Accounts are settled at the first token.** By then it is known how long it took, which prompts were waiting when its step
  began, and what the attempt has paid. The difference to what its prompt cost is charged, or given back, at once.
- **What all that decode need alike is a shared weight.** A step's overhead and the read of the weights are divided by however
  many come and go later (`meter.py`), so an attempt's main part does not depend on the moment it was weighed at.
- **A decode's own weight grows with its cache.** Nobody knows how long a completion will be, but every step adds its tokens.
  All weights together are a step × the sequences in it, so that virtual time, nanoseconds per weight, goes by one for as many
  steps as there are sequences.
- **What is cached is learnt.** How much of its prompt an attempt really computed is told with its usage: what it was charged too
  much is given back, and the next prompts are expected to be computed in the same part.

Errors against the engine's truth, beside other rules: `docs/attribution-errors.md`. An attempt of which no first token will
be seen has one weight: what all of it costs, by its steps. Pure bookkeeping, O(1) an event (what is remembered of the queue
is dropped when it is older than a step).
"""

from collections import deque
from math import ceil, exp
from typing import NamedTuple

from router.pricing.profile import EngineProfile
from router.pricing.shares import prompt_arithmetic_seconds, prompt_cost_seconds, prompt_seconds
from router.pricing.steps import BatchSteps
from router.pricing.weights import WEIGHT_MAX

NS = 1e9
# Weights in a second of a step: whole numbers, and the read of a token's cache may take a few nanoseconds. A step takes virtual
# time on by (those that share what all need alike) ÷ (those that decode), so that is what it is multiplied by where some of them
# do not share; and while none does, by 1 ÷ (those that decode).
UNITS = NS * 2**10
# From dispatch to the next step the one under way must end: half of it on average.
STEP_UNDER_WAY = 0.5
# How many of its prompt tokens an attempt really computes, of those that it was said to, is learnt from those that ended: each
# counts for a twentieth, as in the rate of prompts. Estimates are not so far off that one could not be held to this.
COMPUTED_WEIGHT = 0.05
COMPUTED_RATIO_MAX = 4.0
# First tokens of one step come within this part of the shortest step that it may have been.
WITHIN_STEP = 0.9
# What the rate of prompts is remembered of: each attempt counts for 5 % less than the next one.
RATE_DECAY = 0.95
# Below this share of steps that hold prompts, a decode weighs what it does in a step without any.
READING_SHARE_MIN = 0.02
# Sums of parts of it are whole, so that nothing is left when all are gone.
ENDING = 2**32
# What happens in a step, and more: where no first token comes, of a replica that fails all it is given, nothing else would end
# what is remembered.
ROWS_MAX = 1024


class Weighed(NamedTuple):
    """What `ReplicaMeter.reweigh` is told. weight, growth: of the cache; shared: of what all that decode pay alike; settled: what
    the prompt took and has not paid, nanoseconds, negative where it paid too much."""

    weight: int
    growth: int
    shared: int
    settled: int


class _Seat:
    """An open attempt. prompt_tokens: to be computed; context_tokens: with those that are cached; decode_context_tokens: half
    way through its completion; compute_seconds: the prompt's arithmetic; steps: that its completion is expected to take;
    endings: how much of one a step brings nearer, in parts of ENDING."""

    __slots__ = (
        "completion_tokens",
        "compute_seconds",
        "context_tokens",
        "decode_context_tokens",
        "endings",
        "is_decoding",
        "is_sharer",
        "opened_ns",
        "profile",
        "prompt_tokens",
        "read_seconds",
        "steps",
        "told_tokens",
    )

    def __init__(
        self, profile: EngineProfile, at_ns: int, prompt_tokens: int, context_tokens: int, completion_tokens: int
    ) -> None:
        own = prompt_tokens if prompt_tokens > 1 else 1
        self.profile = profile
        self.opened_ns = at_ns
        self.prompt_tokens = own
        self.context_tokens = context_tokens if context_tokens > own else own
        self.completion_tokens = completion_tokens if completion_tokens > 1 else 1
        self.decode_context_tokens = self.context_tokens + self.completion_tokens // 2
        self.compute_seconds = prompt_arithmetic_seconds(profile, own, self.context_tokens)
        speculation = profile.speculation
        self.steps = float(self.completion_tokens)
        if speculation is not None:
            self.steps = max(1.0, self.steps / speculation.tokens_per_step)
        self.endings = max(1, round(ENDING / self.steps))
        self.is_decoding = self.is_sharer = False
        self.read_seconds, self.told_tokens = 0.0, 0


class _Log:
    """A pair of counters, and what they were up to a step ago."""

    __slots__ = ("_rows", "count", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.count = 0
        self._rows: deque[tuple[int, int, int]] = deque(((0, 0, 0),), maxlen=ROWS_MAX)

    def add(self, at_ns: int, tokens: int, count: int) -> None:
        self.tokens += tokens
        self.count += count
        self._rows.append((at_ns, self.tokens, self.count))

    def forget(self) -> None:
        """From here on only what is now is remembered."""
        rows = self._rows
        if len(rows) > 1:
            rows.clear()
            rows.append((0, self.tokens, self.count))

    def at(self, at_ns: int) -> tuple[int, int]:
        """Tokens and count at that time; what was before it is forgotten."""
        rows = self._rows
        while len(rows) > 1 and rows[1][0] <= at_ns:
            rows.popleft()
        return rows[0][1:]


class Weigher:
    """Weights of one replica's attempts, in UNITS of a step times the sequences that decode, 1..WEIGHT_MAX.

    Events of attempts that are not open change nothing. Times are nanoseconds of any one clock.
    """

    __slots__ = (
        "_arrivals",
        "_bare_seconds",
        "_computed_ratio",
        "_context_tokens",
        "_decoding",
        "_endings",
        "_last_ns",
        "_rate",
        "_read_count",
        "_read_ns",
        "_read_tokens",
        "_seats",
        "_sharers",
        "_waiting",
    )

    def __init__(self) -> None:
        self._seats: dict[str, _Seat] = {}
        self._decoding = 0
        self._context_tokens = 0  # of those that decode
        self._endings = 0  # theirs
        self._sharers = 0  # those of them whose first token was seen
        self._computed_ratio = 1.0
        # The last step that read prompts to their ends: when its first tokens came, what it held of those prompts, and how long
        # a step without any was at that time.
        self._read_ns = self._read_tokens = self._read_count = 0
        self._bare_seconds = 0.0
        self._waiting = _Log()  # prompts that are not read yet
        self._arrivals = _Log()  # prompts that have come, ever
        self._last_ns: int | None = None
        self._rate = (0.0, 0.0, 0.0)  # nanoseconds, and prompts and prompt tokens that came in them; all fade

    def open(
        self,
        attempt_id: str,
        profile: EngineProfile,
        at_ns: int,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        context_tokens: int | None = None,
        is_streaming: bool = True,
    ) -> int:
        """prompt_tokens: to be computed, as far as is known; context_tokens: with what is cached, the same when None;
        completion_tokens: expected. Returns the weight until the first token, or for good when nobody will tell of one (not
        is_streaming)."""
        computed_ratio = self._computed_ratio
        seat = _Seat(
            profile,
            at_ns,
            prompt_tokens if computed_ratio == 1.0 else round(prompt_tokens * computed_ratio),
            prompt_tokens if context_tokens is None else context_tokens,
            completion_tokens,
        )
        seat.told_tokens = prompt_tokens
        self._seats[attempt_id] = seat
        decoding, own_tokens, waiting = self._decoding, seat.prompt_tokens, self._waiting
        batch = profile.batch_steps(decoding)
        budget = batch.budget_tokens
        waiting_tokens, waiting_count = waiting.tokens, waiting.count
        ahead_tokens = own_tokens
        if waiting_tokens:
            step_ns = batch.seconds(self._context_tokens, min(waiting_tokens, budget)) * NS
            before_tokens, before_count = self._arrivals.at(at_ns - int(step_ns * STEP_UNDER_WAY))
            # Prompts that have waited for longer are in the step under way, as many as it holds; the rest are ahead of this one.
            recent_tokens = self._arrivals.tokens - before_tokens
            under_way_tokens = min(budget, max(0, waiting_tokens - recent_tokens))
            if under_way_tokens < budget:
                waiting_count = min(waiting_count, self._arrivals.count - before_count)
            ahead_tokens += waiting_tokens - under_way_tokens
        else:
            self._arrivals.forget()  # whoever came before has been read
        self._arrivals.add(at_ns, own_tokens, 1)
        self._remember(at_ns, own_tokens)
        steps = 1 if ahead_tokens <= budget else ceil(ahead_tokens / budget)
        room_steps = self._steps_until_room(seat) if decoding else 0.0  # where none decodes, none makes room
        if room_steps:  # then they come in one by one, as others end
            tokens, count = 0, 0.0
        else:
            tokens, count = ahead_tokens - (steps - 1) * budget, waiting_count / steps + 1
        seconds = prompt_cost_seconds(batch, self._context_tokens, own_tokens, seat.compute_seconds, tokens, count)
        steps_until_read = steps + room_steps + STEP_UNDER_WAY
        if decoding:
            unseen_seconds = batch.unseen_seconds + batch.unseen_seconds_per_token * seat.context_tokens
            if unseen_seconds:  # the others' steps go by before the scheduler has seen it
                steps_until_read += unseen_seconds / self._bare_seconds
        if is_streaming:
            waiting.add(at_ns, own_tokens, 1)
            return _whole(seconds / steps_until_read * (UNITS * (decoding or 1) / (self._sharers or 1)))
        self._decode(seat)
        decode_steps = seat.steps
        alike_seconds, kv_seconds = self._decode_shares(profile.batch_steps(self._decoding))
        seconds += (alike_seconds + kv_seconds * seat.decode_context_tokens) * decode_steps
        return _whole(seconds / (steps_until_read + decode_steps) * (UNITS * self._decoding / (self._sharers or 1)))

    def first_token(self, attempt_id: str, at_ns: int, paid_seconds: float) -> Weighed | None:
        """paid_seconds: what it has paid so far, in seconds of the replica's time. Returns its weights from here to the end and
        what it settles; None when it is not open, or has one weight for good."""
        seat = self._seats.get(attempt_id)
        if seat is None or seat.is_decoding:
            return None
        profile, decoding, context_tokens = seat.profile, self._decoding, self._context_tokens
        batch, waiting = profile.batch_steps(decoding), self._waiting
        own_tokens = tokens = seat.prompt_tokens
        count, chunk_tokens = 1, profile.chunk_tokens
        for _ in range(2):  # the step's length says who was in it, which says its length
            step_seconds = batch.seconds(context_tokens, tokens if tokens < chunk_tokens else chunk_tokens)
            there = waiting.at(at_ns - int(step_seconds * NS * 0.999))
            if there[0] <= tokens:
                break
            tokens, count = there
        is_same_step = at_ns - self._read_ns < self._bare_seconds * WITHIN_STEP * NS
        if decoding + count > profile.sequences_max or context_tokens + tokens > profile.kv_capacity_tokens:
            # Of those that waited few have found room. Those before it whose first tokens have just come were in its step.
            tokens, count = own_tokens, 1
            if is_same_step:
                tokens, count = tokens + self._read_tokens, count + self._read_count
        budget, last_tokens = batch.room_tokens, own_tokens
        if last_tokens > budget > 0:
            last_tokens = last_tokens % budget or budget
        if is_same_step:
            self._read_tokens += last_tokens
            self._read_count += 1
        else:
            self._read_ns, self._read_tokens, self._read_count = at_ns, last_tokens, 1
        seconds = prompt_cost_seconds(batch, context_tokens, own_tokens, seat.compute_seconds, tokens, count)
        elapsed_seconds = (at_ns - seat.opened_ns) / NS
        if seconds > elapsed_seconds:  # it cannot have taken more than all there was since it came
            seconds = elapsed_seconds
        waiting.add(at_ns, -own_tokens, -1)
        self._decode(seat)
        self._sharers += 1
        seat.is_sharer = True
        decoding += 1
        alike_seconds, kv_seconds = self._decode_shares(profile.batch_steps(decoding))
        read_seconds = seconds - alike_seconds - profile.prefill_overhead_seconds
        seat.read_seconds = read_seconds if read_seconds > 0 else 0.0
        unit = UNITS * decoding / self._sharers
        weight = kv_seconds * unit
        growth = int(weight * profile.tokens_per_step * unit / NS)
        settled = int((seconds - paid_seconds) * NS)
        return Weighed(
            _whole(weight * seat.context_tokens),
            growth if growth < WEIGHT_MAX else WEIGHT_MAX,
            _whole(alike_seconds * decoding * UNITS),
            settled if -WEIGHT_MAX < settled < WEIGHT_MAX else WEIGHT_MAX if settled > 0 else -WEIGHT_MAX,
        )

    def close(self, attempt_id: str, at_ns: int, computed_tokens: int | None = None) -> int:
        """computed_tokens: how many of its prompt were, as the engine says at the end. Returns what it was charged too much at
        its first token, for prompt tokens that were cached after all: nanoseconds."""
        seat = self._seats.pop(attempt_id, None)
        if seat is None:
            return 0
        if seat.is_decoding:
            self._decoding -= 1
            self._sharers -= seat.is_sharer
            self._context_tokens -= seat.decode_context_tokens
            self._endings -= seat.endings
        else:
            self._waiting.add(at_ns, -seat.prompt_tokens, -1)
        if computed_tokens is None:
            return 0
        computed_ratio = min(computed_tokens / max(seat.told_tokens, 1), COMPUTED_RATIO_MAX)
        self._computed_ratio += COMPUTED_WEIGHT * (computed_ratio - self._computed_ratio)
        if computed_tokens >= seat.prompt_tokens:
            return 0
        return int(seat.read_seconds * (1 - computed_tokens / seat.prompt_tokens) * NS)

    def _decode(self, seat: _Seat) -> None:
        seat.is_decoding = True
        self._decoding += 1
        self._context_tokens += seat.decode_context_tokens
        self._endings += seat.endings

    def _remember(self, at_ns: int, prompt_tokens: int) -> None:
        elapsed_ns, prompts, tokens = self._rate
        if self._last_ns is not None:
            elapsed_ns = elapsed_ns * RATE_DECAY + max(0, at_ns - self._last_ns)
            prompts = prompts * RATE_DECAY + 1
            tokens = tokens * RATE_DECAY + prompt_tokens
        self._last_ns = at_ns
        self._rate = elapsed_ns, prompts, tokens

    def _steps_until_room(self, seat: _Seat) -> float:
        """How many steps until those who decode have left a place, and blocks, for this one and those before it.

        Of n sequences that take C steps each, one ends every C ÷ n steps, and with it 1 ÷ n of the context goes. Where they
        take different times, 1 ÷ C is the mean of theirs.
        """
        profile, decoding = seat.profile, self._decoding
        places = len(self._seats) - profile.sequences_max
        tokens = self._context_tokens + self._waiting.tokens + seat.prompt_tokens - profile.kv_capacity_tokens
        if places <= 0 and tokens <= 0:
            return 0.0
        return max(places, tokens / self._context_tokens * decoding) * ENDING / self._endings

    def _decode_shares(self, batch: BatchSteps) -> tuple[float, float]:
        """What it pays of a step beside its cache, and for every token of that, in seconds: on average over steps with and
        without prompts, at the rate that those come."""
        context_tokens = self._context_tokens
        alike, kv = batch.decode_shares(context_tokens)
        elapsed_ns, prompts, tokens = self._rate
        self._bare_seconds = bare_seconds = batch.bare_seconds(context_tokens)
        if batch.decoding == 1 or elapsed_ns < 1 or prompts * bare_seconds * NS <= elapsed_ns * READING_SHARE_MIN:
            return alike, kv / context_tokens
        budget = batch.budget_tokens
        # The mean step, if prompts filled the steps they are in: of those a share f = full steps a second × the mean step, which
        # is longer the more of them there are. How full they are hardly matters to that.
        full_per_second = tokens / elapsed_ns * NS / budget
        more_seconds = batch.seconds(context_tokens, budget) - bare_seconds
        idle = 1 - full_per_second * more_seconds
        share = 1.0
        if idle > 0:
            share = full_per_second * bare_seconds / idle
            if share > 1.0:
                share = 1.0
        mean_ns = (bare_seconds + share * more_seconds) * NS
        # What they do is come one by one, so that the steps in which none has come are fewer (Poisson), and the others hold less.
        poisson = 1 - exp(-prompts / elapsed_ns * mean_ns)
        if poisson > share:
            share = poisson
        chunk = round(tokens / elapsed_ns * mean_ns / share) or 1
        beside_alike, beside_kv = self._beside_a_prompt(batch, chunk if chunk < budget else budget)
        return (1 - share) * alike + share * beside_alike, ((1 - share) * kv + share * beside_kv) / context_tokens

    def _beside_a_prompt(self, batch: BatchSteps, chunk: int) -> tuple[float, float]:
        """Of a step with so many tokens of one prompt, what those that decode pay alike, and what they pay by their caches:
        what `step_shares` says, without its lists (this runs for every request)."""
        decoding, alike_weight, compute = batch.decoding, batch.weight_seconds, batch.compute_seconds
        kv = batch.kv_seconds_per_token * self._context_tokens
        prompt_compute = batch.compute_seconds_per_token * chunk
        weight, own_experts = alike_weight, 0.0
        if batch.has_experts:
            experts, alone = batch.touched_seconds(chunk)
            each = batch.experts_each_seconds
            own_experts = experts * each / (decoding * each + alone)
            weight += experts
        added = prompt_seconds(weight, kv, compute, prompt_compute)
        own = batch.alike_seconds / (decoding + 1) + own_experts + batch.decoders_seconds / decoding
        whole_compute = compute + prompt_compute
        if weight + kv >= whole_compute:  # the bytes take longer to the end: all that is left goes by caches
            return own, kv - added if added < kv else 0.0
        rest = whole_compute - weight
        if added > rest:
            added = rest
        by_cache = weight / (whole_compute - kv)
        kv, compute = kv * by_cache, compute * (1 - by_cache)
        scale = (rest - added) / (kv + compute) if kv + compute else 0.0
        return own + compute * scale / decoding, kv * scale


def _whole(units: float) -> int:
    whole = int(units) + 1
    return whole if whole < WEIGHT_MAX else WEIGHT_MAX
