"""One engine in virtual time under a load of its own: what a replica does with it. Pure; a seed decides everything.

Open: requests at a rate, whoever is still there. Closed: users with one request after the other, each perhaps a conversation
whose next turn has the last one as its prefix. Static: a batch is admitted when the whole batch before it has ended. Times are
the engine's and, before it, those of HTTP and tokenizer; there is no network.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from math import inf
from random import Random

import numpy as np

from load.drive.result import Objectives
from load.engine import Engine, EngineSequence
from router.pricing.profile import EngineProfile

BLOCK_TOKENS = 16
# Of a trial's requests, those at its beginning that only fill the engine.
WARMUP_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class Ask:
    """common_tokens: of the prompt's beginning, what everybody's begins with; known_tokens: how far it is that of `owner`."""

    prompt_tokens: int
    completion_tokens: int
    common_tokens: int = 0
    known_tokens: int = 0
    owner: int = 0

    def hashes(self) -> tuple[int, ...]:
        """Names of the blocks that others may have left in the cache, or may find there."""
        common = self.common_tokens // BLOCK_TOKENS
        known = max(self.common_tokens, self.known_tokens) // BLOCK_TOKENS
        return _common_hashes(common) + tuple(hash((1 + self.owner, at)) for at in range(common, known))


@lru_cache(maxsize=4096)
def _common_hashes(blocks: int) -> tuple[int, ...]:
    return tuple(hash((0, at)) for at in range(blocks))


@dataclass(slots=True)
class Trial:
    """What came of a trial, its beginning left out. Times in seconds, by request.

    began_seconds, ended_seconds: the first counted arrival, the last counted end. slots_ratio: of static batches, how many of
    the places times steps yielded a token.
    """

    ttft_seconds: list[float] = field(default_factory=list)
    tpot_seconds: list[float] = field(default_factory=list)
    latency_seconds: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    met: int = 0
    preemptions: int = 0
    began_seconds: float = inf
    ended_seconds: float = 0.0
    slots_ratio: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended_seconds - self.began_seconds if self.requests else 0.0

    @property
    def requests(self) -> int:
        return len(self.latency_seconds)

    @property
    def attainment_ratio(self) -> float:
        return self.met / self.requests if self.requests else 0.0

    @property
    def completion_tokens_per_second(self) -> float:
        return self.completion_tokens / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        return (self.prompt_tokens + self.completion_tokens) / self.seconds if self.seconds else 0.0

    def percentile(self, name: str, rank: float) -> float:
        values = getattr(self, f"{name}_seconds")
        return float(np.percentile(values, rank)) if values else 0.0


class _Run:
    """next_of: what a user asks when the answer before has come (None: nothing), and after how long. asks_max: sent in all."""

    def __init__(
        self,
        profile: EngineProfile,
        objectives: Objectives,
        asks_max: int,
        next_of: Callable[[int], tuple[Ask, float] | None],
        has_prefix_cache: bool,
        seed: int,
        warmup_ratio: float = WARMUP_RATIO,
    ) -> None:
        self.engine = Engine(profile, block_tokens=BLOCK_TOKENS, has_prefix_cache=has_prefix_cache, seed=seed)
        self._profile = profile
        self._objectives = objectives
        self._asks_max = asks_max
        self._next_of = next_of
        self._due: list[tuple[float, int, float, Ask, int]] = []
        self._sent = count()
        self._asked = 0
        self._warmup_ratio = warmup_ratio
        self._meta: dict[EngineSequence, tuple[float, int, int]] = {}
        self._ended: list[tuple[int, float, float, EngineSequence]] = []

    def ask(self, at_seconds: float, ask: Ask, user: int) -> None:
        """It is due then, and at the engine when HTTP and tokenizer are through with it."""
        if self._asked < self._asks_max:
            self._asked += 1
            profile = self._profile
            reach = (
                at_seconds + profile.request_overhead_seconds + profile.request_seconds_per_token * ask.prompt_tokens
            )
            heapq.heappush(self._due, (reach, next(self._sent), at_seconds, ask, user))

    def run(self) -> Trial:
        engine, due = self.engine, self._due
        while due or not engine.is_idle:
            event = engine.next_event_seconds
            if due and (event is None or due[0][0] <= event):
                now, number, at_seconds, ask, user = heapq.heappop(due)
                sequence = EngineSequence(ask.prompt_tokens, ask.completion_tokens, ask.hashes())
                self._meta[sequence] = (at_seconds, number, user)
                engine.submit(sequence, now)
            elif event is not None:
                for sequence in engine.advance(event):
                    self._end(sequence, event)
            else:
                raise ValueError("a request is longer than the KV cache: it would wait for ever")
        return self._trial()

    def _end(self, sequence: EngineSequence, now_seconds: float) -> None:
        at_seconds, number, user = self._meta.pop(sequence)
        ended = sequence.ended_seconds or now_seconds
        self._ended.append((number, at_seconds, ended, sequence))
        following = self._next_of(user)
        if following is not None:
            ask, wait_seconds = following
            self.ask(ended + wait_seconds, ask, user)

    def _trial(self) -> Trial:
        trial, wanted = Trial(), self._objectives
        first_counted = self._warmup_ratio * self._asked
        last_before = 0.0
        for number, at_seconds, ended, sequence in self._ended:
            if number < first_counted:
                last_before = max(last_before, ended)
                continue
            produced = sequence.produced_tokens
            first = sequence.first_token_seconds or ended
            ttft, latency = first - at_seconds, ended - at_seconds
            tpot = (ended - first) / (produced - 1) if produced > 1 else 0.0
            trial.ttft_seconds.append(ttft)
            trial.latency_seconds.append(latency)
            if produced > 1:
                trial.tpot_seconds.append(tpot)
            trial.prompt_tokens += sequence.prompt_tokens
            trial.cached_tokens += sequence.cached_tokens
            trial.completion_tokens += produced
            trial.preemptions += sequence.preemptions
            trial.met += (
                (wanted.ttft_seconds_max is None or ttft <= wanted.ttft_seconds_max)
                and (wanted.tpot_seconds_max is None or tpot <= wanted.tpot_seconds_max)
                and (wanted.latency_seconds_max is None or latency <= wanted.latency_seconds_max)
            )
            trial.began_seconds = min(trial.began_seconds, at_seconds)
            trial.ended_seconds = max(trial.ended_seconds, ended)
        return trial


def open_trial(
    profile: EngineProfile,
    lengths: Sequence[tuple[int, int]],
    per_second: float,
    *,
    requests: int,
    objectives: Objectives | None = None,
    cached_ratio: float = 0.0,
    seed: int = 1,
) -> Trial:
    """Requests at a Poisson process of this rate, their lengths drawn from `lengths`. cached_ratio: of each prompt, what others
    have left in the prefix cache (as a prompt of the system does)."""
    random = Random(seed)
    run = _Run(profile, objectives or Objectives(), requests, lambda _: None, cached_ratio > 0, seed)
    at = 0.0
    for _ in range(requests):
        at += random.expovariate(per_second)
        prompt, completion = random.choice(lengths)
        run.ask(at, Ask(prompt, completion, int(prompt * cached_ratio)), 0)
    return run.run()


def closed_trial(
    profile: EngineProfile,
    asks: Iterator[Ask],
    users: int,
    *,
    requests: int,
    objectives: Objectives | None = None,
    think_seconds: float = 0.0,
    has_prefix_cache: bool = False,
    seed: int = 1,
) -> Trial:
    """So many users, each with one request after the other, `think_seconds` apart. asks: what is asked next, whoever asks."""

    def next_of(_: int) -> tuple[Ask, float] | None:
        return next(asks), think_seconds

    run = _Run(profile, objectives or Objectives(), requests, next_of, has_prefix_cache, seed)
    random = Random(seed)
    for user in range(users):
        run.ask(random.uniform(0, think_seconds) if think_seconds else 0.0, next(asks), user)
    return run.run()


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns of one user: each prompt is all that was said before, and new_tokens. instruction_tokens: what every user's prompt
    begins with. think: an exponential pause before the next turn, with this mean."""

    turns: int
    new_tokens: int
    completion_tokens: int
    instruction_tokens: int = 0
    think_seconds: float = 0.0


def conversations_trial(
    profile: EngineProfile,
    talk: Conversation,
    users: int,
    *,
    requests: int,
    objectives: Objectives | None = None,
    has_prefix_cache: bool = True,
    seed: int = 1,
) -> Trial:
    """So many users at once, each in conversation after conversation; they begin at different turns."""
    random = Random(seed)
    fresh = count()
    state: dict[int, tuple[int, int]] = {}

    def ask_of(user: int) -> Ask:
        number, turn = state[user]
        said = turn * (talk.new_tokens + talk.completion_tokens) + talk.new_tokens
        whole = talk.instruction_tokens + said
        return Ask(whole, talk.completion_tokens, talk.instruction_tokens, whole, number)

    def next_of(user: int) -> tuple[Ask, float] | None:
        number, turn = state[user]
        state[user] = (number, turn + 1) if turn + 1 < talk.turns else (next(fresh), 0)
        return ask_of(user), random.expovariate(1 / talk.think_seconds) if talk.think_seconds else 0.0

    run = _Run(profile, objectives or Objectives(), requests, next_of, has_prefix_cache, seed)
    for user in range(users):
        state[user] = (next(fresh), random.randrange(talk.turns))
        run.ask(random.uniform(0, talk.think_seconds) if talk.think_seconds else 0.0, ask_of(user), user)
    return run.run()


def static_trial(
    profile: EngineProfile, lengths: Sequence[tuple[int, int]], batch: int, *, requests: int, seed: int = 1
) -> Trial:
    """Batches of `batch` requests, each admitted when all of the one before it have ended; slots_ratio: of the places times
    steps, those that yielded a token."""
    random = Random(seed)
    trial = Trial()
    took = slots = 0
    for _ in range(-(-requests // batch)):
        drawn = [random.choice(lengths) for _ in range(batch)]
        run = _Run(profile, Objectives(), batch, lambda _: None, False, seed, 0.0)
        for prompt, completion in drawn:
            run.ask(0.0, Ask(prompt, completion), 0)
        one = run.run()
        trial.ended_seconds += max(one.latency_seconds)
        for name in ("ttft_seconds", "tpot_seconds", "latency_seconds"):
            getattr(trial, name).extend(getattr(one, name))
        trial.prompt_tokens += one.prompt_tokens
        trial.completion_tokens += one.completion_tokens
        trial.met += one.met
        took += one.completion_tokens
        slots += batch * max(completion for _, completion in drawn)
    trial.began_seconds, trial.slots_ratio = 0.0, took / slots
    return trial
