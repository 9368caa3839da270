"""What the attempts at one replica weigh, from what the router knows at each one's three events: who else is there.

A weight is an attempt's part of an engine step (`shares.py`) as it will be for as long as the weight holds, so that the money
of a step, divided by weights, goes where its time went. Three things make that more than the formula of a step:

- **A prompt pays by amount, not by time.** From dispatch to first token an attempt mostly waits: for HTTP and tokenizer, for
  the step under way, for the prompts before it, for a place or for blocks when the replica is full. It weighs what its prompt
  costs, divided by the steps until it is read, so a queue of prompts does not pay for what it does not use yet.
- **Accounts are settled at the first token.** By then it is known how long it took, which prompts were waiting when its step
  began, and what the attempt has paid. The difference to what its prompt cost is spread over the decode that is expected.
- **Weights are multiples of a step's overhead and weight read.** These are shared alike by all that decode, however many come
  and go later, so in that unit an attempt's main part does not depend on the moment it was weighed at. (They are kept in
  nanoseconds of a step × sequences in it, to be whole numbers.)
- **A decode's weight grows with its cache.** Nobody knows how long a completion will be, but every step adds its tokens. In
  that unit all weights together are a step × the sequences in it, so that virtual time, nanoseconds per weight, goes by one
  for as many steps as there are sequences (`meter.py`).

Errors against the engine's truth, beside other rules: `docs/attribution-errors.md`. An attempt of which no first token will
be seen has one weight: what all of it costs, by its steps. Pure bookkeeping, O(1) an event (what is remembered of the queue
is dropped when it is older than a step).
"""

from collections import deque
from math import ceil, exp
from typing import NamedTuple

from router.pricing.profile import BatchSteps, EngineProfile
from router.pricing.shares import prompt_seconds
from router.pricing.weights import WEIGHT_MAX

NS = 1e9
# From dispatch to the next step the one under way must end: half of it on average.
STEP_UNDER_WAY = 0.5
# An attempt that has paid too much before its first token still pays this share of its decode.
DECODE_SHARE_MIN = 0.1
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
    """weight: 1..WEIGHT_MAX, from here on; growth: of it in a nanosecond per weight of virtual time, 0..WEIGHT_MAX."""

    weight: int
    growth: int


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
        "profile",
        "prompt_tokens",
        "steps",
    )

    def __init__(self, profile: EngineProfile, prompt_tokens: int, context_tokens: int, completion_tokens: int) -> None:
        own = prompt_tokens if prompt_tokens > 1 else 1
        self.profile = profile
        self.prompt_tokens = own
        self.context_tokens = context_tokens if context_tokens > own else own
        self.completion_tokens = completion_tokens if completion_tokens > 1 else 1
        self.decode_context_tokens = self.context_tokens + self.completion_tokens // 2
        pairs = own * (self.context_tokens - own) + own * (own + 1) // 2
        self.compute_seconds = profile.compute_seconds_per_token * own + profile.attention_seconds_per_pair * pairs
        speculation = profile.speculation
        self.steps = float(self.completion_tokens)
        if speculation is not None:
            self.steps = max(1.0, self.steps / speculation.tokens_per_step)
        self.endings = max(1, round(ENDING / self.steps))
        self.is_decoding = False


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
    """Weights of one replica's attempts, in nanoseconds of a step times the sequences that decode, 1..WEIGHT_MAX.

    Events of attempts that are not open change nothing. Times are nanoseconds of any one clock.
    """

    __slots__ = ("_arrivals", "_context_tokens", "_decoding", "_endings", "_last_ns", "_rate", "_seats", "_waiting")

    def __init__(self) -> None:
        self._seats: dict[str, _Seat] = {}
        self._decoding = 0
        self._context_tokens = 0  # of those that decode
        self._endings = 0  # theirs
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
        """prompt_tokens: to be computed; context_tokens: with what is cached, the same when None; completion_tokens:
        expected. Returns the weight until the first token, or for good when nobody will tell of one (not is_streaming)."""
        seat = _Seat(
            profile, prompt_tokens, prompt_tokens if context_tokens is None else context_tokens, completion_tokens
        )
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
        room_steps = self._steps_until_room(seat) if decoding else 0.0
        if room_steps:  # then they come in one by one, as others end
            seconds = self._prompt_seconds(seat, batch, 0, 0)
        else:
            seconds = self._prompt_seconds(seat, batch, ahead_tokens - (steps - 1) * budget, waiting_count / steps + 1)
        steps_until_read = steps + room_steps + STEP_UNDER_WAY
        if decoding:
            unseen_seconds = batch.unseen_seconds + batch.unseen_seconds_per_token * seat.context_tokens
            if unseen_seconds:  # the others' steps go by before the scheduler has seen it
                steps_until_read += unseen_seconds / batch.bare_seconds(self._context_tokens)
        if is_streaming:
            waiting.add(at_ns, own_tokens, 1)
            return _whole(seconds / steps_until_read * (decoding or 1))
        self._decode(seat)
        decode_steps = seat.steps
        alike_seconds, kv_seconds = self._decode_shares(profile.batch_steps(self._decoding))
        seconds += (alike_seconds + kv_seconds * seat.decode_context_tokens) * decode_steps
        return _whole(seconds / (steps_until_read + decode_steps) * self._decoding)

    def first_token(self, attempt_id: str, at_ns: int, paid_seconds: float) -> Weighed | None:
        """paid_seconds: what it has paid so far, in seconds of the replica's time. Returns the weight from here to the end,
        and how it grows; None when it is not open, or has one weight for good."""
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
        is_full = decoding + count > profile.sequences_max or context_tokens + tokens > profile.kv_capacity_tokens
        seconds = (
            self._prompt_seconds(seat, batch, 0, 0) if is_full else self._prompt_seconds(seat, batch, tokens, count)
        )
        waiting.add(at_ns, -own_tokens, -1)
        self._decode(seat)
        decoding += 1
        alike_seconds, kv_seconds = self._decode_shares(profile.batch_steps(decoding))
        first_seconds = alike_seconds + kv_seconds * seat.context_tokens
        settled = first_seconds + (seconds - paid_seconds) / seat.steps
        least = first_seconds * DECODE_SHARE_MIN
        growth = round(kv_seconds * profile.tokens_per_step * decoding * decoding * NS)
        return Weighed(
            _whole((settled if settled > least else least) * decoding), growth if growth < WEIGHT_MAX else WEIGHT_MAX
        )

    def close(self, attempt_id: str, at_ns: int) -> None:
        seat = self._seats.pop(attempt_id, None)
        if seat is None:
            return
        if seat.is_decoding:
            self._decoding -= 1
            self._context_tokens -= seat.decode_context_tokens
            self._endings -= seat.endings
        else:
            self._waiting.add(at_ns, -seat.prompt_tokens, -1)

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
        if not decoding:
            return 0.0
        places = len(self._seats) - profile.sequences_max
        tokens = self._context_tokens + self._waiting.tokens + seat.prompt_tokens - profile.kv_capacity_tokens
        if places <= 0 and tokens <= 0:
            return 0.0
        return max(places, tokens / self._context_tokens * decoding) * ENDING / self._endings

    def _prompt_seconds(self, seat: _Seat, batch: BatchSteps, tokens: float, count: float) -> float:
        """What its prompt costs, read in steps that hold `tokens` of `count` prompts, its own included, beside those that
        decode."""
        own, budget = seat.prompt_tokens, batch.room_tokens
        chunk = own if own < budget else (budget if budget > 1 else 1)
        beside = int(tokens) - chunk if tokens < budget else budget - chunk
        if beside < 0:
            beside = 0
        prompts = 1.0
        if beside and count > 1 and tokens > own:
            prompts += beside * (count - 1) / (tokens - own)
        weight_seconds, experts_seconds = batch.weight_seconds, 0.0
        if batch.has_experts:  # all that the step touches, in proportion to what each would touch alone
            profile, decoding = seat.profile, batch.decoding
            alone = profile.experts_seconds(chunk)
            others = decoding * batch.experts_each_seconds
            if prompts > 1:
                others += (prompts - 1) * profile.experts_seconds(beside / (prompts - 1))
            touched_seconds = profile.experts_seconds(decoding * profile.verified_tokens + chunk + beside)
            experts_seconds = touched_seconds * alone / (alone + others)
            weight_seconds += touched_seconds
        seconds = prompt_seconds(
            weight_seconds,
            batch.kv_seconds_per_token * self._context_tokens,
            batch.compute_seconds + batch.compute_seconds_per_token * beside,
            seat.compute_seconds * chunk / own,
        )
        seconds += batch.alike_seconds / (batch.decoding + prompts) + experts_seconds
        seconds += batch.token_seconds * chunk + batch.prefill_seconds / prompts
        return seconds * own / chunk

    def _decode_shares(self, batch: BatchSteps) -> tuple[float, float]:
        """What it pays of a step beside its cache, and for every token of that, in seconds: on average over steps with and
        without prompts, at the rate that those come."""
        context_tokens = self._context_tokens
        alike, kv = batch.decode_shares(context_tokens)
        elapsed_ns, prompts, tokens = self._rate
        bare_seconds = batch.bare_seconds(context_tokens)
        if batch.decoding == 1 or not elapsed_ns or prompts * bare_seconds * NS <= elapsed_ns * READING_SHARE_MIN:
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


def _whole(seconds: float) -> int:
    weight = round(seconds * NS)
    return weight if 1 <= weight <= WEIGHT_MAX else (1 if weight < 1 else WEIGHT_MAX)
