"""Who is asleep, what it costs to wake one, and when that is worth it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.marginal_cost import MarginalCost
from router.domain.decision import Candidate
from router.domain.fleet import Load, ScaleToZero
from router.domain.request import InferenceRequest, PrefixMark
from router.domain.sleep import Wake
from router.selection.lessons import Lessons
from router.selection.sleep import Sleeper

TERMS = ScaleToZero(20.0, 60.0)
NOW = 1000.0
PER_SECOND = 800_000_000 / 3600  # the fleet's lease

Fleet = AskFor = Any


@pytest.fixture
def napping(fleet: Fleet) -> Fleet:
    """`edge-large` scales to zero; it and `cloud-large` are asked."""
    fleet.change("edge-large", scale_to_zero=TERMS)
    fleet.scope = ("edge-large", "cloud-large")
    fleet.sleepers.follow(fleet.backends)
    return fleet


def at_edge(fleet: Fleet, request: InferenceRequest, now_seconds: float = NOW) -> Candidate:
    candidates, _ = fleet.find(request, now_seconds=now_seconds)
    return next(one for one in candidates if one.backend.name == "edge-large")


def awake(fleet: Fleet, request: InferenceRequest) -> Candidate:
    always_there = replace(fleet, backends=[replace(one, scale_to_zero=None) for one in fleet.backends])
    return at_edge(always_there, request)


def test_whoever_wakes_it_waits_for_the_start_and_is_quoted_all_that_it_will_cost(napping: Fleet, ask: AskFor) -> None:
    request = ask()
    cold, warm = at_edge(napping, request), awake(napping, request)
    assert cold.cold_start_seconds == TERMS.cold_start_seconds
    assert cold.ttft_seconds == pytest.approx(warm.ttft_seconds + TERMS.cold_start_seconds)
    seconds = TERMS.cold_start_seconds + warm.end_seconds + TERMS.idle_seconds
    assert cold.waking_nanousd == pytest.approx(seconds * PER_SECOND, abs=1)
    assert (cold.awake_nanousd, cold.tpot_seconds) == (warm.marginal_nanousd, warm.tpot_seconds)
    assert cold.allocated_nanousd == pytest.approx(
        warm.allocated_nanousd + TERMS.cold_start_seconds * PER_SECOND, abs=1
    )
    assert cold.standard_nanousd == warm.standard_nanousd
    assert (warm.cold_start_seconds, warm.waking_nanousd) == (0.0, 0)


def test_a_start_that_is_billed_for_longer_is_quoted_so(napping: Fleet, ask: AskFor) -> None:
    napping.change("edge-large", scale_to_zero=replace(TERMS, billed_seconds_min=600.0))
    assert at_edge(napping, ask()).waking_nanousd == pytest.approx(600 * PER_SECOND, abs=1)


def test_a_hold_covers_the_start(napping: Fleet, ask: AskFor) -> None:
    held = [
        one.find(ask(), are_holds_wanted=True)[0][0].hold_nanousd
        for one in (napping, replace(napping, backends=[replace(one, scale_to_zero=None) for one in napping.backends]))
    ]
    assert held[0] - held[1] >= TERMS.cold_start_seconds * PER_SECOND


def test_while_it_starts_others_wait_for_the_rest_and_pay_nothing_for_it(napping: Fleet, ask: AskFor) -> None:
    napping.sleepers.opened(at_edge(napping, ask()), NOW)
    napping.loads["edge-large/1"] = Load(attempts=1, prefill_tokens=300)
    starting = at_edge(napping, ask(), NOW + 5)
    assert starting.cold_start_seconds == 15.0
    assert starting.waking_nanousd == 0
    assert at_edge(napping, ask(), NOW + 20).cold_start_seconds == 0.0


def test_what_another_worker_keeps_busy_is_awake(napping: Fleet, ask: AskFor) -> None:
    napping.loads["edge-large/1"] = Load(attempts=1, prefill_tokens=300)
    assert at_edge(napping, ask()).cold_start_seconds == 0.0


def test_it_is_awake_from_its_first_answer_until_its_idle_time_after_the_last() -> None:
    sleeper = Sleeper(TERMS)
    assert sleeper.is_asleep(0.0)
    sleeper.opened(100.0)
    sleeper.opened(101.0)
    assert (sleeper.wakes, sleeper.starting_seconds(105.0)) == (1, 15.0)
    sleeper.ended(110.0, has_answered=True)  # quicker than it was said to be
    assert sleeper.starting_seconds(110.0) == 0.0
    assert not sleeper.is_asleep(500.0)  # the other one still runs
    sleeper.ended(500.0, has_answered=False)
    assert not sleeper.is_asleep(559.0)
    assert sleeper.is_asleep(560.0)
    sleeper.opened(560.0)
    assert (sleeper.wakes, sleeper.starting_seconds(560.0)) == (2, 20.0)


def test_one_that_fails_while_it_starts_is_still_starting() -> None:
    sleeper = Sleeper(TERMS)
    sleeper.opened(100.0)
    sleeper.ended(101.0, has_answered=False)
    assert sleeper.starting_seconds(101.0) == 19.0


def test_requests_that_went_elsewhere_wake_it_once_they_have_paid_as_much_more_there(
    napping: Fleet, ask: AskFor
) -> None:
    """At 100 requests a second for whom nothing is urgent: in all they never pay elsewhere more than waking would have been."""
    finder, policy, request = napping.finder(), MarginalCost(), ask(1000)
    waking_nanousd = at_edge(napping, request).waking_nanousd
    lost_nanousd, now_seconds = 0, NOW
    for _ in range(10_000):
        candidates, _ = napping.find(request, now_seconds=now_seconds, finder=finder)
        choices = policy.rank(request, candidates)
        napping.sleepers.passed(choices, now_seconds)
        chosen = choices[0].candidate
        if chosen.backend.name == "edge-large":
            break
        asleep = choices[1].candidate
        lost_nanousd += chosen.marginal_nanousd - asleep.awake_nanousd
        now_seconds += 0.01
    else:
        pytest.fail("it was never woken")
    assert 0.9 * waking_nanousd <= lost_nanousd <= 1.1 * waking_nanousd
    napping.sleepers.opened(chosen, now_seconds)
    sleeper = napping.sleepers.of("edge-large/1")
    assert sleeper is not None
    assert sleeper.missed_nanousd(now_seconds) == 0.0


def test_what_sleeps_has_nothing_in_its_cache(napping: Fleet) -> None:
    lessons = Lessons(prefixes=napping.prefixes, sleepers=napping.sleepers)
    lessons.follow(napping.backends, {}, 0.8)
    prefix = (PrefixMark(1, 1024),)
    sleeper = napping.sleepers.of("edge-large/1")
    assert sleeper is not None
    sleeper.opened(NOW)
    for replica in ("edge-large/1", "edge-small/1"):
        lessons.prefixes.sent(replica, prefix)
    sleeper.ended(NOW + 10, has_answered=True)
    lessons.advance(0, NOW + 11)
    assert set(lessons.prefixes.cached_tokens(prefix)) == {"edge-large/1", "edge-small/1"}
    lessons.advance(0, NOW + 10 + TERMS.idle_seconds)
    assert set(lessons.prefixes.cached_tokens(prefix)) == {"edge-small/1"}


def test_a_request_now_and_then_never_wakes_it(napping: Fleet, ask: AskFor) -> None:
    finder, policy, request = napping.finder(), MarginalCost(), ask(1000)
    for number in range(1000):
        candidates, _ = napping.find(request, now_seconds=NOW + 60.0 * number, finder=finder)
        choices = policy.rank(request, candidates)
        napping.sleepers.passed(choices, NOW + 60.0 * number)
        assert choices[0].candidate.backend.name == "cloud-large"


def test_terms_change_with_the_configuration_and_who_is_awake_stays_so(napping: Fleet) -> None:
    sleeper = napping.sleepers.of("edge-large/1")
    assert sleeper is not None
    sleeper.opened(NOW)
    napping.change("edge-large", scale_to_zero=ScaleToZero(5.0, 10.0))
    napping.sleepers.follow(napping.backends)
    assert napping.sleepers.of("edge-large/1") is sleeper
    assert sleeper.terms.idle_seconds == 10.0
    assert not sleeper.is_asleep(NOW)
    napping.sleepers.follow([])
    assert not napping.sleepers


def ns(seconds: float) -> int:
    """By the books' clock; a worker's own begins elsewhere."""
    return round((seconds + 7000.0) * 1e9)


class Worker:
    """With a clock that begins `ahead` seconds later than the test's."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.sleeper = Sleeper(TERMS)

    def opened(self, at: float) -> None:
        self.sleeper.opened(at - self.ahead)

    def ended(self, at: float, *, has_answered: bool = True) -> None:
        self.sleeper.ended(at - self.ahead, has_answered=has_answered)

    def missed(self, nanousd: float, at: float) -> None:
        self.sleeper.missed(nanousd, at - self.ahead)

    def word(self, at: float) -> Wake | None:
        return self.sleeper.tell(at - self.ahead, lambda seconds: ns(seconds + self.ahead))

    def hear(self, at: float, *others: "Worker") -> None:
        words = [word for word in (other.word(at) for other in others) if word is not None]
        self.sleeper.hear(words, at - self.ahead, lambda told: told / 1e9 - 7000.0 - self.ahead)

    def knows(self, at: float) -> tuple[bool, float]:
        """Whether it is asleep, and how long it is still starting."""
        now = at - self.ahead
        return self.sleeper.is_asleep(now), round(self.sleeper.starting_seconds(now), 6)


def test_what_another_worker_wakes_is_starting_and_then_awake_until_its_idle_time_here_too() -> None:
    one, other = Worker(), Worker(ahead=300.0)
    assert one.word(400.0) is None
    one.opened(400.0)
    other.hear(401.0, one)
    assert other.knows(401.0) == (False, 19.0)
    one.ended(412.0)
    other.hear(413.0, one)
    assert other.knows(413.0) == (False, 0.0)
    assert other.knows(412.0 + TERMS.idle_seconds - 0.1) == (False, 0.0)
    assert other.knows(412.0 + TERMS.idle_seconds) == (True, 0.0)
    other.opened(450.0)
    assert other.sleeper.wakes == 0
    other.ended(460.0)
    one.hear(461.0, other)
    assert one.knows(460.0 + TERMS.idle_seconds - 0.1) == (False, 0.0)


def test_while_one_of_them_is_at_work_there_it_does_not_sleep() -> None:
    one, other = Worker(), Worker(ahead=300.0)
    one.opened(400.0)
    for at in (401.0, 600.0):
        other.hear(at, one)
        assert not other.knows(at)[0]
    assert other.knows(600.0 + TERMS.idle_seconds)[0]  # of one that is not heard of any more


def test_those_who_wake_it_at_once_wait_for_one_start() -> None:
    one, other = Worker(), Worker(ahead=300.0)
    one.opened(400.0)
    other.opened(400.1)
    for at in (400.3, 400.5):
        one.hear(at, other)
        other.hear(at, one)
    assert one.knows(410.0) == other.knows(410.0) == (False, 10.0)
    other.ended(412.0)  # the one's client left before the answer came
    one.ended(405.0, has_answered=False)
    one.hear(413.0, other)
    other.hear(413.0, one)
    assert one.knows(413.0) == other.knows(413.0) == (False, 0.0)


def test_a_later_start_takes_the_place_of_an_earlier_one_and_never_the_other_way_round() -> None:
    one, other = Worker(), Worker(ahead=300.0)
    one.opened(400.0)
    one.ended(410.0)
    other.hear(411.0, one)
    other.opened(600.0)
    other.hear(601.0, one)
    assert other.knows(601.0) == (False, 19.0)
    one.hear(601.0, other)
    assert one.knows(601.0) == (False, 19.0)
    assert other.sleeper.wakes == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_all_of_them_lost_because_it_slept_counts_against_the_price_of_waking_it(count: int) -> None:
    """Each sees its part of the requests; all of them together wake it as soon as one alone would have."""
    workers = [Worker(ahead=100.0 * number) for number in range(count)]
    for number in range(120):
        at = 1000.0 + number / 10
        workers[number % count].missed(1e6, at)
        if number % 4 == 3:
            for worker in workers:
                worker.hear(at, *(other for other in workers if other is not worker))
    at = 1000.0 + 119 / 10
    lost = [worker.sleeper.missed_nanousd(at - worker.ahead) for worker in workers]
    alone = sum(1e6 * 2 ** (-(119 - number) / 10 / TERMS.idle_seconds) for number in range(120))
    assert lost == [pytest.approx(alone, rel=1e-5)] * count

    workers[0].opened(at + 0.1)
    for _ in range(2):
        for worker in workers:
            worker.hear(at + 0.3, *(other for other in workers if other is not worker))
    assert [worker.sleeper.missed_nanousd(at + 0.3 - worker.ahead) for worker in workers] == [0.0] * count


times = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(("open", "answer", "fail", "hear")), st.integers(1, 40)), max_size=40
)


@given(times)
def test_whatever_they_tell_one_another_none_takes_it_for_asleep_that_another_keeps_awake(
    steps: list[tuple[int, str, int]],
) -> None:
    """As long as they hear one another after each step."""
    workers, running, at, last = [Worker(ahead=50.0 * number) for number in range(3)], [0, 0, 0], 1000.0, None
    for number, what, seconds in steps:
        at += seconds
        worker = workers[number]
        if what == "open":
            worker.opened(at)
            running[number] += 1
        elif what in ("answer", "fail") and running[number]:
            worker.ended(at, has_answered=what == "answer")
            running[number] -= 1
            last = at
        for one in workers:
            one.hear(at, *(other for other in workers if other is not one))
        is_awake = any(running) or (last is not None and at < last + TERMS.idle_seconds)
        for one in workers:
            is_asleep, starting_seconds = one.knows(at)
            assert is_asleep is not is_awake
            assert starting_seconds <= TERMS.cold_start_seconds
    assert sum(worker.sleeper.wakes for worker in workers) <= 1 + sum(what == "open" for _, what, _ in steps)
