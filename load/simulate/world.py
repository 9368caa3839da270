"""The one queue of events: requests arrive, are decided on, reach a replica, get their first token and end; sessions go on; and
whatever happens to the fleet meanwhile (`happenings.py`, `scaling.py`).

Everything a decision reads is what the live router reads (`decider.py`): its own work in flight, health as its requests and
checks show it, the engine profiles, the price book, the prefix index, the policy. Scrapes say nothing beyond what the router
knows by itself. Between client and replica lie the router's own time, the pool's round trip, and the time that HTTP and tokenizer
take.
Deterministic: two events of one time keep the order in which they came about.

Where nothing befalls the fleet, nobody looks on, and no request waits for another's answer, replicas have nothing to do with one
another but that decisions look at their loads. Each then has a queue of its own, and is brought up to now when a decision looks
at it (`NearLoads`): of a thousand replicas a request costs no more than of the few that it looks at.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from math import floor, inf
from random import Random
from typing import Any, Protocol

from load.drive.schedule import Session, due_seconds
from load.engine import EngineSequence
from load.simulate.asks import Ask
from load.simulate.attempt import Attempt, Journey
from load.simulate.blocks import BlockNames
from load.simulate.decider import Answered, Decider, Price
from load.simulate.fleet import Bill, SimulatedFleet
from load.simulate.network import Network
from load.simulate.replica import SimulatedReplica
from load.simulate.tally import Answer, Tally
from load.traces import Arrival
from router.domain.fleet import IDLE, Backend, Load, Replica
from router.domain.usage import Usage
from router.errors import Refusal
from router.fleet.health import CHECKS_TO_DOWN
from router.pricing.cost import tariff_cost
from router.pricing.price import MeteredPrice
from router.pricing.profile import EngineProfile
from router.pricing.yields import answer_kind

# What takes a moment of simulated time, in the order of their frequency.
STEP, ATTEMPT, ARRIVE, HAPPEN = range(4)
# So many answers are added to the tally at once, and so many requests are made before they are due.
ANSWERS_AT_ONCE = 4096
REQUESTS_AT_ONCE = 512
NO_ACCEPTANCES: Mapping[str, Mapping[str, float]] = {}
NO_ACCEPTANCE_BY_KIND: Mapping[str, float] = {}


class NearLoads(Mapping[str, Load]):
    """Work in flight by replica, each brought up to now when it is looked at."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._replicas = world.fleet.replicas
        self._loads = world.decider.fleet.loads

    def get(self, replica: str, default: Any = None) -> Any:
        one, now_seconds = self._replicas[replica], self._world.now_seconds
        if one.next_seconds < now_seconds:
            self._world.catch_up(one, now_seconds)
        return self._loads.get(replica, default)

    def __getitem__(self, replica: str) -> Load:
        load: Load = self.get(replica, IDLE)
        return load

    def __iter__(self) -> Iterator[str]:
        return iter(self._replicas)

    def __len__(self) -> int:
        return len(self._replicas)


class Observer(Protocol):
    """Looks on, and changes nothing."""

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        """An attempt is over. is_answered: with a whole answer; else its replica failed."""


class Asker(Protocol):
    """Makes the requests. common_tokens: what all prompts with a context begin with."""

    common_tokens: int

    def ask(self, number: int, arrival: Arrival) -> Ask: ...


class World:
    """backends: with their replicas at the start. prices, profiles: by backend. A metered backend works as its profile says,
    which is the provider's own affair: the router does not know it. decider_on: makes the deciding part on a clock.

    acceptances: how often drafts are right, by backend and kind of answer, which nobody knows; the profile's ratio for the rest.
    observers: told of every attempt that is over.
    fleet: as it is. happened: what befell it, how often. now_seconds: simulated.
    """

    def __init__(
        self,
        backends: Iterable[Backend],
        prices: Mapping[str, Price],
        profiles: Mapping[str, EngineProfile],
        decider_on: Callable[[Callable[[], float]], Decider],
        asks: Asker,
        tally: Tally,
        *,  # those without a default first: mypyc takes no others
        until_seconds: float,
        network: Network,
        warmup_seconds: float = 0.0,
        block_tokens: int = 16,
        trace_block_tokens: int = 0,
        check_seconds: float = 2.0,
        seed: int = 0,
        acceptances: Mapping[str, Mapping[str, float]] = NO_ACCEPTANCES,
    ) -> None:
        self.until_seconds = until_seconds
        self.now_seconds = self.answered_seconds = 0.0
        self.fleet = SimulatedFleet(backends, prices)
        self._profiles = profiles
        self._acceptances = acceptances
        self._asks = asks
        self._tally = tally
        self._warmup_seconds = warmup_seconds
        self._network = network
        self._jitter = Random(f"{seed}/network")
        self._check_seconds = check_seconds
        self._block_tokens = block_tokens
        self._block_names = BlockNames(asks.common_tokens, block_tokens, trace_block_tokens)
        self._seeds = count(seed)
        self._replicas = self.fleet.replicas
        for backend in self.fleet.backends.values():
            for one in backend.replicas:
                self.fleet.add(self._made(backend, one))
        self._events: list[tuple[float, int, int, Any]] = []
        self._order = count()
        self.decisions = 0
        self.happened: Counter[str] = Counter()
        self.observers: list[Observer] = []
        self._answers: list[Answer] = []
        self._is_itemized = self._is_near = False
        self._learn_seconds = 0
        self.decider = decider_on(lambda: self.now_seconds)

    def run(self, sessions: Iterator[Session]) -> None:
        """All sessions that begin before the end, to the end of their last answer; no turn is sent after the end.

        sessions: in the order in which they begin; they are asked for as far ahead as REQUESTS_AT_ONCE says.
        """
        # Who looks on, and what fails, asks what each attempt paid, and which choices were left.
        self._is_itemized = bool(self.observers or self._events)
        if not self._is_itemized and self._network.is_fixed:
            self._is_near = True
            self.decider.loads = NearLoads(self)
        coming = self._coming(sessions)
        self._push_session(coming)
        events, pop = self._events, heapq.heappop
        while events:
            at_seconds, _, kind, what = pop(events)
            if kind == STEP:
                if what.armed_seconds == at_seconds:
                    self.now_seconds = at_seconds
                    what.armed_seconds = None
                    self._step(what)
                    self._arm(what)
                continue
            self.now_seconds = at_seconds
            if kind == ARRIVE:
                session, turn, ask = what
                if turn == 0:
                    self._push_session(coming)
                if at_seconds < self.until_seconds:
                    self._arrive(session, turn, ask)
            elif kind == ATTEMPT:
                come_about, attempt = what
                come_about(attempt)
            else:
                what()
        for one in self._replicas.values():
            self.catch_up(one, inf)
        self._tally.answered(self._answers)
        self._answers.clear()
        self._tally.useful_nanousd += self.fleet.charged_together_nanousd()

    def at(self, at_seconds: float, happening: Callable[[], object]) -> None:
        """Let it happen then."""
        self._push(at_seconds, HAPPEN, happening)

    def catch_up(self, one: SimulatedReplica, until_seconds: float) -> None:
        """Let what is due at the replica before then come about, where it has been left to itself."""
        events, engine, now_seconds = one.events, one.engine, self.now_seconds
        while True:
            at_seconds = events[0][0] if events else inf
            due_seconds = engine.next_event_seconds
            if due_seconds is not None and due_seconds < at_seconds:
                if due_seconds >= until_seconds:
                    one.next_seconds = due_seconds
                    break
                self.now_seconds = due_seconds
                self._step(one)
            elif at_seconds < until_seconds:
                _, _, come_about, attempt = heapq.heappop(events)
                self.now_seconds = at_seconds
                come_about(attempt)
            else:
                one.next_seconds = at_seconds
                break
        self.now_seconds = now_seconds

    def bill(self) -> Bill:
        """Of the time from 0 to the end, or for as long as replicas still answered."""
        return self.fleet.bill(self.until_seconds, max(self.until_seconds, self.answered_seconds))

    # ------------------------------------------------------------------ the fleet

    def fail(self, name: str, for_seconds: float) -> None:
        """The replica's process dies, and another is there after so long. It is paid for meanwhile."""
        one = self._replicas.get(name)
        if one is None or not one.is_running:
            return
        self.happened["failure"] += 1
        self._break(one, "reset")
        fleet, now = self.decider.fleet, self.now_seconds
        for check in range(1, CHECKS_TO_DOWN + 1):
            if check * self._check_seconds < for_seconds:
                self.at(now + check * self._check_seconds, lambda: fleet.check_missed(name, "connect"))

        def recover() -> None:
            if self._replicas.get(name) is one:  # not taken away meanwhile
                one.start()
                self.at(self.now_seconds + self._check_seconds, lambda: fleet.check_passed(name))

        self.at(now + for_seconds, recover)

    def preempt(self, name: str, notice_seconds: float, back_after_seconds: float | None) -> None:
        """The replica is taken away after a notice, and its lease ends; another takes its place after so long (None: none does).
        What it is at by then is broken off."""
        one = self._replicas.get(name)
        if one is None or one.is_leaving:
            return
        self.happened["preemption"] += 1
        one.is_leaving = True
        self.decider.fleet.leave(name, "taken away")

        def take() -> None:
            if self._replicas.get(name) is not one:
                return
            self._break(one, "leaving")
            if self._replicas.get(name) is one:
                self._remove(one)
            if back_after_seconds is not None and self.now_seconds + back_after_seconds < self.until_seconds:
                self.at(self.now_seconds + back_after_seconds, partial(self.add, one.backend.name, one.replica))

        self.at(self.now_seconds + notice_seconds, take)

    def reprice(self, backend: str, price: Price) -> None:
        """From now on it costs that; attempts under way on a metered backend keep the price they began with."""
        self.happened["price change"] += 1
        self.fleet.reprice(backend, price, self.now_seconds)
        self._configure()

    def add(self, backend: str, replica: Replica, *, startup_seconds: float = 0.0) -> SimulatedReplica:
        """A replica whose lease begins now, and which takes work when it has started."""
        one = self._made(self.fleet.backends[backend], replica)
        one.is_running = False
        self.fleet.add(one)

        def begin() -> None:
            if self._replicas.get(replica.id) is one:
                one.is_running = True
                self.fleet.admit(one)
                self._configure()

        if startup_seconds:
            self.at(self.now_seconds + startup_seconds, begin)
        else:
            begin()
        return one

    def retire(self, name: str) -> None:
        """The replica gets no new work, and goes with its last attempt."""
        one = self._replicas[name]
        one.is_leaving = one.goes_when_idle = True
        if one.open_attempts == 0:
            self._remove(one)
        else:
            self.decider.fleet.leave(name, "scaled down")

    def _made(self, backend: Backend, one: Replica) -> SimulatedReplica:
        return SimulatedReplica(
            backend,
            one,
            self.fleet.prices[backend.name],
            self._profiles[backend.name],
            block_tokens=self._block_tokens,
            seed=next(self._seeds),
            way_seconds=self._drawn_way_seconds(backend) if self._network.is_fixed else None,
            acceptance_by_kind=self._acceptances.get(backend.name, NO_ACCEPTANCE_BY_KIND),
            now_seconds=self.now_seconds,
        )

    def _remove(self, one: SimulatedReplica) -> None:
        self.fleet.remove(one, self.now_seconds)
        self._configure()

    def _configure(self) -> None:
        self.decider.configure(tuple(self.fleet.backends.values()), self.fleet.prices)

    def _break(self, one: SimulatedReplica, fault: str) -> None:
        """All that runs there fails, those first that came first."""
        for attempt in one.stop():
            self._failed(attempt, fault)

    # ------------------------------------------------------------------ what comes about

    def _push(self, at_seconds: float, kind: int, what: object) -> None:
        heapq.heappush(self._events, (at_seconds, next(self._order), kind, what))

    def _coming(self, sessions: Iterator[Session]) -> Iterator[tuple[Session, Ask]]:
        """Each with its first request, which depends on nothing that happens: many at once are made in less time."""
        while several := list(islice(sessions, REQUESTS_AT_ONCE)):
            yield from [(session, self._asks.ask(session[0].number, session[0].arrival)) for session in several]

    def _push_session(self, coming: Iterator[tuple[Session, Ask]]) -> None:
        for session, ask in coming:
            if self._is_near and len(session) > 1:
                self._end_near()
            self._push(session[0].arrival.seconds, ARRIVE, (session, 0, ask))
            return

    def _later(self, at_seconds: float, come_about: Callable[[Attempt], None], attempt: Attempt) -> None:
        """Let it come about at the attempt's replica."""
        if not self._is_near:
            self._push(at_seconds, ATTEMPT, (come_about, attempt))
            return
        one = attempt.replica
        heapq.heappush(one.events, (at_seconds, next(self._order), come_about, attempt))
        if at_seconds < one.next_seconds:
            one.next_seconds = at_seconds

    def _end_near(self) -> None:
        """A request will wait for another's answer: from now on all that comes about does so in its order."""
        self._is_near = False
        self.decider.loads = self.decider.fleet.loads
        for one in self._replicas.values():
            self.catch_up(one, self.now_seconds)
            for at_seconds, order, come_about, attempt in one.events:
                heapq.heappush(self._events, (at_seconds, order, ATTEMPT, (come_about, attempt)))
            one.events.clear()
            self._arm(one)

    # ------------------------------------------------------------------ a request

    def _arrive(self, session: Session, turn: int, ask: Ask) -> None:
        request, prediction, prompt_tokens, has_context, cached_tokens = ask
        if self.now_seconds >= self._learn_seconds:
            self._learn(floor(self.now_seconds))
        try:
            choices = self.decider.decide(request, prediction, self.now_seconds)
        except Refusal as refusal:
            self._refuse(type(refusal).__name__, self.now_seconds)
            return
        self.decisions += 1
        self._attempt(
            Journey(
                request,
                prediction,
                choices,
                prompt_tokens,
                has_context,
                cached_tokens,
                session,
                turn,
                self.now_seconds,
            )
        )

    def _learn(self, until_seconds: int) -> None:
        """From what has ended before then. Once a second, so that replicas that keep to themselves need not tell it at once."""
        self._learn_seconds = until_seconds + 1
        if self._is_near:
            for one in self._replicas.values():
                if one.next_seconds < until_seconds:
                    self.catch_up(one, until_seconds)
        self.decider.learn(until_seconds)

    def _attempt(self, journey: Journey) -> None:
        """Try the next choice."""
        candidate = journey.choices[journey.place].candidate
        journey.place += 1
        if not self._is_itemized:  # then this one answers; and what nobody needs is not kept for as long as it takes
            journey.choices = ()
        one = self._replicas.get(candidate.replica.id)
        if one is None:  # taken away since the decision
            self._go_on(journey, "leaving")
            return
        request, now = journey.request, self.now_seconds
        arrival = journey.session[journey.turn].arrival
        completion_tokens = arrival.completion_tokens
        if journey.prompt_tokens + completion_tokens > one.engine.sequence_tokens_max:
            self._refuse("larger than the cache", journey.due_seconds)
            return
        estimate = request.prompt.tokens_estimate
        attempt = Attempt(
            journey.retries + 1,
            journey,
            candidate,
            one,
            one.price,
            self.decider.fleet.enter(
                one.name, max(0, estimate - candidate.cached_tokens), round(candidate.completion_tokens)
            ),
            EngineSequence(
                journey.prompt_tokens - journey.known_cached_tokens,
                completion_tokens,
                self._block_names.of(journey, arrival),
                0,
                answer_kind(request, journey.prediction.category) if self._acceptances else "",
            ),
        )
        if now < self._warmup_seconds:
            one.uncounted_attempts += 1
        elif not (self._is_itemized or one.uncounted_attempts or one.meter is None):
            one.go_by_totals()
        one.opened(
            attempt,
            now,
            estimate,
            round(candidate.completion_tokens),
            cached_tokens=candidate.cached_tokens,
            is_streaming=request.is_streaming,
        )
        self.decider.sent(one.name, request)
        if self._network.exists:
            overhead = one.request_overhead_seconds + one.request_seconds_per_token * journey.prompt_tokens
            self._later(now + self._network.router_seconds + self._way_seconds(one) + overhead, self._reach, attempt)
        else:
            self._reach(attempt)

    def _reach(self, attempt: Attempt) -> None:
        """The request is at the engine."""
        one = attempt.replica
        if not one.is_running:
            self._failed(attempt, "connect")
            return
        one.engine.submit(attempt.sequence, self.now_seconds)
        one.at_work[attempt.sequence] = attempt
        self._arm(one)

    def _arm(self, one: SimulatedReplica) -> None:
        """Let the engine's next stretch end in its time."""
        due = one.engine.next_event_seconds
        if self._is_near:
            if due is not None and due < one.next_seconds:
                one.next_seconds = due
        elif due is not None and due != one.armed_seconds:
            one.armed_seconds = due
            self._push(due, STEP, one)

    def _step(self, one: SimulatedReplica) -> None:
        """A stretch of steps has ended: first tokens, and ends."""
        engine, at_work = one.engine, one.at_work
        over = engine.advance(self.now_seconds)
        way_seconds = self._way_seconds(one) if one.way_seconds is None else one.way_seconds
        for sequence in engine.begun:
            if way_seconds:
                self._later(self.now_seconds + way_seconds, self._hear_first, at_work[sequence])
            else:
                self._hear_first(at_work[sequence])
        for sequence in over:
            if way_seconds:
                self._later(self.now_seconds + way_seconds, self._hear_end, at_work.pop(sequence))
            else:
                self._hear_end(at_work.pop(sequence))

    def _way_seconds(self, one: SimulatedReplica) -> float:
        return self._drawn_way_seconds(one.backend) if one.way_seconds is None else one.way_seconds

    def _drawn_way_seconds(self, backend: Backend) -> float:
        return self._network.way_seconds(backend.pool.rtt_seconds, self._jitter)

    def _hear_first(self, attempt: Attempt) -> None:
        if attempt.is_over:
            return
        attempt.first_seconds = self.now_seconds
        request = attempt.journey.request
        if request.is_streaming:
            attempt.ticket.first_token(request.prompt.tokens_estimate)
            attempt.replica.first_token(attempt, self.now_seconds)

    def _hear_end(self, attempt: Attempt) -> None:
        """The answer is whole."""
        journey, one, sequence, now = attempt.journey, attempt.replica, attempt.sequence, self.now_seconds
        known, completion_tokens = journey.known_cached_tokens, sequence.produced_tokens
        usage = Usage(sequence.prompt_tokens + known, completion_tokens, cached_tokens=sequence.cached_tokens + known)
        if self._is_itemized:  # else nothing has ever failed that this could put right
            self.decider.fleet.succeeded(one.name)
        request, sent_seconds, first = journey.request, journey.due_seconds, attempt.first_seconds
        ttft_seconds = None if journey.retries or first is None else first - sent_seconds
        self.decider.answered(
            Answered(
                now,
                request.request_id,
                request,
                journey.prediction,
                usage,
                attempt.candidate,
                sent_seconds,
                ttft_seconds,
            )
        )
        cost = self._close(attempt, usage, is_answered=True)
        self.answered_seconds = max(self.answered_seconds, now)
        if journey.due_seconds >= self._warmup_seconds:
            answers = self._answers
            answers.append(
                Answer(
                    journey.due_seconds,
                    now if first is None or not journey.request.is_streaming else first,
                    now,
                    one.backend.name,
                    usage.prompt_tokens,
                    usage.cached_tokens,
                    completion_tokens,
                    cost,
                    not one.is_leased,
                    attempt.candidate.quality,
                )
            )
            if len(answers) == ANSWERS_AT_ONCE:
                self._tally.answered(answers)
                answers.clear()
        session, turn = journey.session, journey.turn + 1
        if turn < len(session):
            due = due_seconds(session[turn], now)
            if due < self.until_seconds:
                one_turn = session[turn]
                self._push(due, ARRIVE, (session, turn, self._asks.ask(one_turn.number, one_turn.arrival)))

    def _failed(self, attempt: Attempt, fault: str) -> None:
        """The replica did not deliver. Where nothing of the answer has gone out, another is asked."""
        if attempt.is_over:
            return
        sequence, one, journey = attempt.sequence, attempt.replica, attempt.journey
        has_begun = sequence.first_token_seconds is not None and journey.request.is_streaming
        if fault != "leaving":
            self.decider.fleet.failed(one.name, fault)
        cost = self._close(attempt, Usage(0, 0), is_answered=False)
        if journey.due_seconds >= self._warmup_seconds:
            self._tally.lost_nanousd += cost
        if has_begun:
            self._refuse("broken off", journey.due_seconds)
        else:
            self._go_on(journey, fault)

    def _go_on(self, journey: Journey, fault: str) -> None:
        """To the next choice, as far as retries go; the client hears of no other."""
        journey.retries += 1
        decider = self.decider
        if (
            journey.place == len(journey.choices)
            or journey.retries == decider.attempts_max
            or (fault != "leaving" and not decider.retries.take(self.now_seconds))
        ):
            self._refuse("nobody answered", journey.due_seconds)
            return
        if journey.due_seconds >= self._warmup_seconds:
            self._tally.retries += 1
        self._attempt(journey)

    def _close(self, attempt: Attempt, usage: Usage, *, is_answered: bool) -> int:
        """The attempt is over, however. What it cost, nano-dollars."""
        attempt.is_over = True
        attempt.ticket.leave()
        one = attempt.replica
        computed_tokens = usage.prompt_tokens - usage.cached_tokens if usage.prompt_tokens else None
        if attempt.journey.due_seconds < self._warmup_seconds:
            one.uncounted_attempts -= 1
        cost = one.closed(attempt, self.now_seconds, computed_tokens)
        if cost is None:
            assert isinstance(attempt.price, MeteredPrice)
            cost = tariff_cost(attempt.price, usage)
        if one.goes_when_idle and one.open_attempts == 0:
            self._remove(one)
        for observer in self.observers:
            observer.closed(attempt, usage, cost, self.now_seconds, is_answered=is_answered)
        return cost

    def _refuse(self, why: str, due_seconds: float) -> None:
        if due_seconds >= self._warmup_seconds:
            self._tally.refused[why] += 1
