"""One run of an engine under so many clients, and what a router sees of it: when each request was sent, first answered, over.

Closed loop: a client asks again a moment after its answer. Pure; virtual time; a seed decides everything.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from random import Random

from load.attribution.mixes import Mix, Work
from load.engine import Engine, EngineSequence, SequenceState, StepMember
from router.pricing.profile import EngineProfile

BLOCK_TOKENS = 16
# So that arrivals fall anywhere in a step, not at the end of the one before.
THINK_SECONDS = 0.05


@dataclass(eq=False, slots=True)
class Request:
    """A request that is over. opened_seconds: when it was sent, which is before the engine sees it (the profile's time for HTTP
    and tokenizer). truth_seconds: its true share of the engine's time."""

    work: Work
    sequence: EngineSequence
    opened_seconds: float
    is_submitted: bool = False

    @property
    def truth_seconds(self) -> float:
        return 0.0 if self.sequence.shares is None else self.sequence.shares.total_seconds

    @property
    def closed_seconds(self) -> float:
        return self.sequence.ended_seconds or 0.0

    @property
    def tokens(self) -> int:
        return self.work.prompt_tokens + self.sequence.produced_tokens


class Seen(IntEnum):
    """In the order in which events of one moment are told."""

    CLOSED = 0
    FIRST_TOKEN = 1
    OPENED = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """requests: in the order of their sending. events: when, what, of which request; in order of time."""

    requests: list[Request]
    events: list[tuple[float, Seen, int]]
    engine: Engine


OnStep = Callable[[list[StepMember]], None]


def run(
    profile: EngineProfile, mix: Mix, clients: int, requests_wanted: int, *, seed: int, on_step: OnStep | None = None
) -> Outcome:
    """Until the first so many requests are over; clients go on asking until then, so that the load holds. on_step: called with
    what every step held, which makes the run take every step by itself."""
    random = Random(seed)
    engine = Engine(profile, block_tokens=BLOCK_TOKENS, has_shares=True)
    requests: list[Request] = []
    # Clients come in over the time that a first answer may take, so that they are not in step with one another.
    typical_seconds = _typical_seconds(profile, mix, clients)
    asks = [(random.uniform(0, typical_seconds), client) for client in range(clients)]
    heapq.heapify(asks)
    arriving: list[tuple[float, int]] = []
    leaving: list[tuple[float, int]] = []
    sender_of: dict[EngineSequence, tuple[int, int]] = {}
    unfinished = requests_wanted

    def over(sequences: list[EngineSequence]) -> None:
        nonlocal unfinished
        for sequence in sequences:
            client, position = sender_of.pop(sequence)
            unfinished -= position < requests_wanted
            ended = sequence.ended_seconds or 0.0
            heapq.heappush(asks, (ended + random.expovariate(1 / THINK_SECONDS), client))

    def proceed(until: float) -> None:
        """Every client that asks again as soon as an answer is there may ask before `until`, so events come one by one."""
        if on_step is None:
            over(engine.advance(until))
            return
        due = engine.next_step_seconds
        if due is not None and due <= until:
            members = engine.step_members()
            for step in engine.advance_steps(due):
                over([sequence for sequence in dict.fromkeys(step.progressed) if sequence.is_over])
                if members:
                    on_step(members)

    while True:
        due = engine.next_event_seconds if on_step is None else engine.next_step_seconds
        ask = asks[0][0] if asks and unfinished else None
        arrival = arriving[0][0] if arriving else None
        leave = leaving[0][0] if leaving else None
        times = [at for at in (due, ask, arrival, leave) if at is not None]
        if not times or (due is None and ask is None and arrival is None):
            break
        now = min(times)
        if due == now:
            proceed(now)
        elif leave == now:
            _, position = heapq.heappop(leaving)
            sequence = requests[position].sequence
            if not sequence.is_over:
                if requests[position].is_submitted:
                    engine.abort(sequence, now)
                else:
                    sequence.state, sequence.ended_seconds = SequenceState.ABORTED, now
                over([sequence])
        elif arrival == now:
            _, position = heapq.heappop(arriving)
            request = requests[position]
            if not request.sequence.is_over:
                request.is_submitted = True
                engine.submit(request.sequence, now)
        else:
            _, client = heapq.heappop(asks)
            work = mix.draw(random)
            sequence = EngineSequence(work.prompt_tokens, work.completion_tokens, _hashes(work))
            if random.random() < mix.abort_ratio:
                heapq.heappush(leaving, (now + random.uniform(0, typical_seconds), len(requests)))
            sender_of[sequence] = client, len(requests)
            wait_seconds = profile.request_overhead_seconds + profile.request_seconds_per_token * work.prompt_tokens
            heapq.heappush(arriving, (now + wait_seconds, len(requests)))
            requests.append(Request(work, sequence, now))
    return Outcome(requests, _events(requests), engine)


def _events(requests: list[Request]) -> list[tuple[float, Seen, int]]:
    events = []
    for position, request in enumerate(requests):
        sequence = request.sequence
        events.append((request.opened_seconds, Seen.OPENED, position))
        if sequence.first_token_seconds is not None:
            events.append((sequence.first_token_seconds, Seen.FIRST_TOKEN, position))
        events.append((request.closed_seconds, Seen.CLOSED, position))
    # One that is over in the step of its first token hears of both at once, in that order.
    return sorted(events, key=lambda row: (row[0], row[1] if row[1] is not Seen.CLOSED else _close_rank(requests, row)))


def _close_rank(requests: list[Request], row: tuple[float, Seen, int]) -> int:
    return 1 if requests[row[2]].sequence.first_token_seconds == row[0] else 0


def _hashes(work: Work) -> list[int]:
    """Names of the blocks that are shared: a prefix's own, nothing of the rest."""
    return (
        [work.prefix << 20 | block for block in range(work.prefix_tokens // BLOCK_TOKENS)] if work.prefix >= 0 else []
    )


def _typical_seconds(profile: EngineProfile, mix: Mix, clients: int) -> float:
    random = Random(1)
    draws = [mix.draw(random) for _ in range(200)]
    prompt = sum(draw.prompt_tokens - draw.prefix_tokens for draw in draws) / len(draws)
    completion = sum(draw.completion_tokens for draw in draws) / len(draws)
    batch = min(clients, profile.sequences_max)
    step = profile.step_seconds(batch, int(batch * prompt), int(batch * prompt / completion))
    return completion * step
