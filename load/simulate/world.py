"""The one queue of events: requests arrive, are decided on, reach a replica, get their first token and end; sessions go on.

Everything a decision reads is what the live router reads: its own work in flight, the engine profiles, the price book, the
prefix index, the policy. The fleet is all up; health and scrapes say nothing beyond what the router knows by itself. Between
client and replica lie the pool's round trip and the time that HTTP and tokenizer take. Deterministic: two events of one time
keep the order in which they came about.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from load.drive.schedule import Session, due_seconds
from load.engine import EngineSequence
from load.simulate.asks import Asks
from load.simulate.replica import SimulatedReplica
from load.simulate.tally import Tally
from router.domain.decision import Policy
from router.domain.fleet import Backend, Snapshot
from router.domain.request import InferenceRequest
from router.domain.usage import Usage
from router.errors import Refusal
from router.fleet.in_flight import InFlight, Ticket
from router.pricing.cost import list_cost
from router.pricing.price import LeasedPrice, MeteredPrice
from router.pricing.profile import EngineProfile
from router.selection.candidates import Finder
from router.selection.scope import Scopes

Price = LeasedPrice | MeteredPrice

ARRIVE, REACH, STEP = range(3)


@dataclass(slots=True, eq=False)
class _Work:
    """One request on its way. next_turn: of its session."""

    request: InferenceRequest
    sequence: EngineSequence
    replica: SimulatedReplica
    ticket: Ticket
    due_seconds: float
    quality: float
    session: Session
    next_turn: int
    first_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated. prices, profiles: by backend. A metered backend works as its profile says, which is the provider's
    own affair: the router does not know it."""

    backends: Sequence[Backend]
    tiers: tuple[str, ...]
    prices: Mapping[str, Price]
    profiles: Mapping[str, EngineProfile]


@dataclass(frozen=True, slots=True)
class Bill:
    """Nano-dollars over the run. leased: of all replicas by the hour; idle: what of it nobody used. By pool and backend."""

    leased_nanousd: int
    idle_nanousd: int
    by_backend: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class World:
    """has_network: round trips and the time of HTTP and tokenizer are there; without, requests are at the engine at once."""

    def __init__(
        self,
        fleet: Fleet,
        finder: Finder,
        scopes: Scopes,
        policy: Policy,
        asks: Asks,
        tally: Tally,
        *,
        warmup_seconds: float = 0.0,
        block_tokens: int = 16,
        trace_block_tokens: int = 0,
        follows_prefixes: bool = True,
        has_network: bool = True,
        seed: int = 0,
    ) -> None:
        self._finder = finder
        self._scopes = scopes
        self._policy = policy
        self._asks = asks
        self._tally = tally
        self._warmup_seconds = warmup_seconds
        self._follows_prefixes = follows_prefixes
        self._has_network = has_network
        self._block_tokens = block_tokens
        self._trace_block_tokens = trace_block_tokens
        self._in_flight = InFlight()
        self._snapshot = Snapshot({backend.name: backend for backend in fleet.backends}, {}, {}, fleet.tiers)
        self.replicas = {
            replica.id: SimulatedReplica(
                backend, replica, fleet.prices[backend.name], fleet.profiles[backend.name],
                block_tokens=block_tokens, seed=seed + position,
            )
            for position, (backend, replica) in enumerate(
                (backend, replica) for backend in fleet.backends for replica in backend.replicas
            )
        }  # fmt: skip
        self._work: dict[EngineSequence, _Work] = {}
        self._events: list[tuple[float, int, int, object]] = []
        self._order = count()
        self.now_seconds = 0.0
        self.decisions = 0

    def run(self, sessions: Iterator[Session], until_seconds: float) -> None:
        """All sessions that begin before the end, to the end of their last answer; no turn is sent after the end.

        sessions: in the order in which they begin; the next is asked for when its predecessor has begun.
        """
        self._push_session(sessions)
        events = self._events
        while events:
            at_seconds, _, kind, what = heapq.heappop(events)
            if kind == STEP:
                replica = what
                assert isinstance(replica, SimulatedReplica)
                if replica.armed_seconds == at_seconds:
                    self.now_seconds = at_seconds
                    replica.armed_seconds = None
                    self._step(replica, until_seconds)
                continue
            self.now_seconds = at_seconds
            if kind == REACH:
                assert isinstance(what, _Work)
                self._reach(what)
            else:
                assert isinstance(what, tuple)
                session, turn = what
                if turn == 0:
                    self._push_session(sessions)
                if at_seconds < until_seconds:
                    self._arrive(session, turn)

    def bill(self, until_seconds: float) -> Bill:
        """Of the time from 0 to the end, or to the last event if that is later."""
        at_ns = int(max(until_seconds, self.now_seconds) * 1e9)
        by_backend: dict[str, tuple[int, int]] = {}
        for replica in self.replicas.values():
            if replica.meter is not None:
                replica.meter.advance(at_ns)
                bill, idle = by_backend.get(replica.backend.name, (0, 0))
                meter = replica.meter
                by_backend[replica.backend.name] = bill + meter.bill_nanousd, idle + meter.idle_nanousd
        return Bill(
            sum(bill for bill, _ in by_backend.values()), sum(idle for _, idle in by_backend.values()), by_backend
        )

    def _push(self, at_seconds: float, kind: int, what: object) -> None:
        heapq.heappush(self._events, (at_seconds, next(self._order), kind, what))

    def _push_session(self, sessions: Iterator[Session]) -> None:
        session = next(sessions, None)
        if session is not None:
            self._push(session[0].arrival.seconds, ARRIVE, (session, 0))

    def _arrive(self, session: Session, turn: int) -> None:
        arrival, now = session[turn].arrival, self.now_seconds
        request, prediction = self._asks.ask(arrival)
        try:
            scope = self._scopes.resolve(request.model)
            candidates, _ = self._finder.find(request, scope, self._snapshot, self._in_flight.loads, prediction, now)
        except Refusal as refusal:
            if now >= self._warmup_seconds:
                self._tally.refused[type(refusal).__name__] += 1
            return
        self.decisions += 1
        choice = self._policy.rank(request, candidates)[0].candidate
        replica = self.replicas[choice.replica.id]
        sequence = EngineSequence(
            arrival.prompt_tokens, arrival.completion_tokens, self._hashes(request.tenant, session, turn)
        )
        if arrival.prompt_tokens + arrival.completion_tokens > replica.engine.sequence_tokens_max:
            if now >= self._warmup_seconds:
                self._tally.refused["larger than the cache"] += 1
            return
        ticket = self._in_flight.enter(replica.name, request.prompt.tokens_estimate)
        replica.opened(
            request.request_id, now, request.prompt.tokens_estimate, round(choice.completion_tokens),
            is_streaming=request.is_streaming,
        )  # fmt: skip
        if self._follows_prefixes and request.prefix:
            self._finder.prefixes.sent(replica.name, request.prefix)
        work = _Work(request, sequence, replica, ticket, now, choice.quality, session, turn + 1)
        self._work[sequence] = work
        if self._has_network:
            profile = replica.profile
            overhead = profile.request_overhead_seconds + profile.request_seconds_per_token * arrival.prompt_tokens
            self._push(now + replica.backend.pool.rtt_seconds / 2 + overhead, REACH, work)
        else:
            self._reach(work)

    def _reach(self, work: _Work) -> None:
        """The request is at the engine."""
        replica = work.replica
        replica.engine.submit(work.sequence, self.now_seconds)
        replica.starting[work.sequence] = None
        self._arm(replica)

    def _arm(self, replica: SimulatedReplica) -> None:
        due = replica.engine.next_event_seconds
        if due is not None and due != replica.armed_seconds:
            replica.armed_seconds = due
            self._push(due, STEP, replica)

    def _step(self, replica: SimulatedReplica, until_seconds: float) -> None:
        """A stretch of steps has ended: first tokens, and ends."""
        over = replica.engine.advance(self.now_seconds)
        starting = replica.starting
        if starting:
            for sequence in [one for one in starting if one.first_token_seconds is not None]:
                del starting[sequence]
                self._first_token(self._work[sequence])
        for sequence in over:
            self._end(self._work.pop(sequence), until_seconds)
        self._arm(replica)

    def _first_token(self, work: _Work) -> None:
        seconds = work.sequence.first_token_seconds or self.now_seconds
        work.first_seconds = seconds + self._way_back_seconds(work)
        if work.request.is_streaming:
            work.ticket.first_token(work.request.prompt.tokens_estimate)
            work.replica.first_token(work.request.request_id, seconds)

    def _way_back_seconds(self, work: _Work) -> float:
        return work.replica.backend.pool.rtt_seconds / 2 if self._has_network else 0.0

    def _end(self, work: _Work, until_seconds: float) -> None:
        sequence, replica = work.sequence, work.replica
        ended = sequence.ended_seconds or self.now_seconds
        work.ticket.leave()
        usage = Usage(sequence.prompt_tokens, sequence.produced_tokens, cached_tokens=sequence.cached_tokens)
        cost = replica.closed(work.request.request_id, ended)
        is_metered = isinstance(replica.price, MeteredPrice)
        if isinstance(replica.price, MeteredPrice):
            cost = list_cost(replica.price, usage)
        ended += self._way_back_seconds(work)
        if work.due_seconds >= self._warmup_seconds:
            self._tally.answered(
                due_seconds=work.due_seconds,
                first_seconds=work.first_seconds,
                ended_seconds=ended,
                backend=replica.backend.name,
                prompt_tokens=sequence.prompt_tokens,
                cached_tokens=sequence.cached_tokens,
                completion_tokens=sequence.produced_tokens,
                cost_nanousd=cost or 0,
                is_metered=is_metered,
                quality=work.quality,
            )
        session, turn = work.session, work.next_turn
        if turn < len(session):
            due = due_seconds(session[turn], ended)
            if due < until_seconds:
                self._push(due, ARRIVE, (session, turn))

    def _hashes(self, tenant: str, session: Session, turn: int) -> Sequence[int]:
        """Names of the prompt's whole blocks in the engine's size, each for all before it; tenants share none. Where the trace
        has no blocks, a session's text is one stretch that each turn has more of."""
        arrival, size = session[turn].arrival, self._block_tokens
        whole = arrival.prompt_tokens // size
        if arrival.blocks:
            ids, each = list(arrival.block_ids()), self._trace_block_tokens
            return [
                hash((tenant, ids[at * size // each], at * size % each))
                for at in range(min(whole, len(ids) * each // size))
            ]
        if arrival.session:
            return [hash((tenant, session[0].number, at)) for at in range(whole)]
        return ()
