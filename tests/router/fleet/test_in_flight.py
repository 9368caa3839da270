"""Work in flight: whatever happens to the attempts, the counts are theirs and end at nothing."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from router.domain.fleet import Load
from router.fleet.in_flight import InFlight, Ticket


def test_an_attempt_counts_as_prefill_and_then_as_decode() -> None:
    in_flight = InFlight()
    with in_flight.enter("a/0", 300) as ticket:
        assert in_flight.loads["a/0"] == Load(attempts=1, prefill_tokens=300)
        ticket.first_token(310)
        assert in_flight.loads["a/0"] == Load(attempts=1, decoding=1, context_tokens=310)
        ticket.first_token(350)
        assert in_flight.loads["a/0"] == Load(attempts=1, decoding=1, context_tokens=350)
    assert not in_flight.loads


def test_leaving_twice_takes_away_once() -> None:
    in_flight = InFlight()
    stays = in_flight.enter("a/0", 10)
    with in_flight.enter("a/0", 20) as ticket:
        ticket.leave()
        ticket.leave()
        ticket.first_token(99)
    assert in_flight.loads["a/0"] == Load(attempts=1, prefill_tokens=10)
    stays.leave()
    assert not in_flight.loads


class Bookkeeping(RuleBasedStateMachine):
    """Any order of events on three replicas, against a plain list of who is there."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = InFlight()
        self.there: dict[Ticket, tuple[str, int, int | None]] = {}

    @rule(target=tickets, replica=st.sampled_from(["a/0", "a/1", "b/0"]), tokens=st.integers(0, 10**6))
    def enter(self, replica: str, tokens: int) -> Ticket:
        ticket = self.in_flight.enter(replica, tokens)
        self.there[ticket] = (replica, tokens, None)
        return ticket

    @rule(ticket=tickets, tokens=st.integers(0, 10**6))
    def first_token(self, ticket: Ticket, tokens: int) -> None:
        ticket.first_token(tokens)
        if ticket in self.there:
            self.there[ticket] = (self.there[ticket][0], 0, tokens)

    @rule(ticket=tickets)
    def leave(self, ticket: Ticket) -> None:
        ticket.leave()
        self.there.pop(ticket, None)

    @rule(ticket=consumes(tickets))
    def leave_for_good(self, ticket: Ticket) -> None:
        self.leave(ticket)

    @invariant()
    def loads_are_the_sums_of_those_who_are_there(self) -> None:
        expected: dict[str, Load] = {}
        for replica, prefill, context in self.there.values():
            load = expected.get(replica, Load())
            decodes = context is not None
            expected[replica] = Load(
                load.attempts + 1,
                load.prefill_tokens + prefill,
                load.decoding + decodes,
                load.context_tokens + (context or 0),
            )
        assert dict(self.in_flight.loads) == expected

    def teardown(self) -> None:
        for ticket in list(self.there):
            ticket.leave()
        assert not self.in_flight.loads


TestBookkeeping = Bookkeeping.TestCase


@given(seed=st.integers(0, 2**32), cancelled_at=st.lists(st.integers(0, 6), min_size=1, max_size=12))
async def test_cancelled_at_any_await_nothing_stays(seed: int, cancelled_at: list[int]) -> None:
    """Attempts that fail over between replicas as the relay's do, each cancelled at an await of its own choice."""
    in_flight = InFlight()
    dice = random.Random(seed)
    awaited: dict[int, int] = {}

    async def pause(number: int) -> None:
        """An await; the attempt's task is cancelled while it is in its nth one."""
        awaited[number] = awaited.get(number, -1) + 1
        if awaited[number] == cancelled_at[number]:
            tasks[number].cancel()
        await asyncio.sleep(0)
        if dice.random() < 0.1:
            raise ConnectionResetError

    async def request(number: int) -> None:
        for replica in ("a/0", "a/1"):
            await pause(number)
            try:
                with in_flight.enter(replica, dice.randrange(1000)) as ticket:
                    await pause(number)
                    ticket.first_token(dice.randrange(1000))
                    await pause(number)
            except ConnectionResetError:
                continue

    tasks = [asyncio.ensure_future(request(number)) for number in range(len(cancelled_at))]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not in_flight.loads


def test_work_of_other_workers_is_seen_beside_our_own_and_never_counted_as_ours() -> None:
    in_flight = InFlight()
    in_flight.hear({"a/0": 3, "b/0": 2})
    with in_flight.enter("a/0", 300) as ticket:
        ticket.first_token(310)
        assert in_flight.all_loads["a/0"] == Load(attempts=4, decoding=4, context_tokens=4 * 310)
        assert in_flight.all_loads["b/0"] == Load(attempts=2, decoding=2)
        assert in_flight.all_loads.get("c/0") is None
        assert dict(in_flight.all_loads).keys() == {"a/0", "b/0"}
        assert in_flight.loads == {"a/0": Load(attempts=1, decoding=1, context_tokens=310)}
        before = in_flight.all_loads["b/0"]
        ticket.first_token(400)
        assert in_flight.all_loads["a/0"].context_tokens == 4 * 400
        assert in_flight.all_loads["b/0"] is before  # by that the forecasts know that nothing has changed
    assert dict(in_flight.all_loads).keys() == {"a/0", "b/0"}
    in_flight.hear({})
    assert dict(in_flight.all_loads) == {}
