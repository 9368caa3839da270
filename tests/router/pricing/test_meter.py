"""The meter: every nano-dollar of a lease ends in exactly one place."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pricing.meter import CLOSED_REMEMBERED, NS_PER_HOUR, EventKind, MeterEvent, ReplicaMeter, fold
from router.pricing.weights import WEIGHT_MAX

NS_PER_SECOND = 10**9
USD = 10**9
START_NS = 1_795_000_000 * NS_PER_SECOND

rates = st.one_of(st.integers(0, 10), st.integers(0, 20 * USD), st.integers(0, 10**18))
weights = st.one_of(st.integers(1, 100), st.integers(1, 10**9), st.just(WEIGHT_MAX))
gaps_ns = st.one_of(st.just(0), st.integers(-(10**9), 10**3), st.integers(0, 10**10), st.integers(0, 10**17))
names = st.sampled_from([f"r{number}.1" for number in range(8)])

events = st.lists(
    st.one_of(
        st.tuples(st.just(EventKind.OPEN), gaps_ns, names, weights),
        st.tuples(st.just(EventKind.REWEIGH), gaps_ns, names, weights),
        st.tuples(st.just(EventKind.CLOSE), gaps_ns, names, st.just(0)),
        st.tuples(st.just(EventKind.REPRICE), gaps_ns, st.just(""), rates),
        st.tuples(st.just(EventKind.ABANDON), st.just(0), st.just(""), st.just(0)),
    ),
    max_size=60,
)


def recorded(steps: list[tuple[EventKind, int, str, int]]) -> list[MeterEvent]:
    """Steps with gaps between them, as events at instants; a negative gap is an event that came late."""
    at_ns, script = START_NS, []
    for kind, gap_ns, name, amount in steps:
        at_ns += gap_ns
        if kind is EventKind.CLOSE:
            amount = GIVEN_BACK[(gap_ns + len(name) + len(script)) % len(GIVEN_BACK)]
        more = (growth_of(amount), shared_of(amount), settled_of(amount)) if kind is EventKind.REWEIGH else ()
        script.append(MeterEvent(kind, at_ns, name, amount, *more))
    return script


GIVEN_BACK = (0, 0, 1, 10**9, WEIGHT_MAX)


def growth_of(weight: int) -> int:
    """Of a reweigh in a script: some do not grow, some a little, some beyond all bounds."""
    return (0, weight // 100, WEIGHT_MAX - weight)[weight % 3]


def shared_of(weight: int) -> int:
    """Of a reweigh in a script: some share nothing, some a little, some all that there is."""
    return (0, weight // 10, 0, WEIGHT_MAX)[weight % 4]


def settled_of(weight: int) -> int:
    """Of a reweigh in a script, nanoseconds: some settle nothing, some a little, some ask for the moon; either way."""
    return (0, weight, -weight, 10**10, -(10**10), WEIGHT_MAX, -WEIGHT_MAX)[weight % 7]


def is_first(script: list[MeterEvent], index: int) -> bool:
    one = script[index]
    return all((one.kind, one.attempt_id) != (other.kind, other.attempt_id) for other in script[:index])


def assert_balanced(meter: ReplicaMeter) -> None:
    accrued = meter.accrued_nanousd
    assert meter.bill == meter.charged_nanousd + sum(accrued.values()) + meter.idle_nanousd + meter.residue
    assert 0 <= meter.residue < len(accrued) + 1
    assert meter.charged_nanousd + meter.idle_nanousd <= meter.bill_nanousd


def balances(meter: ReplicaMeter) -> tuple[Fraction, int, int, dict[str, int], Fraction]:
    return meter.bill, meter.charged_nanousd, meter.idle_nanousd, meter.accrued_nanousd, meter.residue


def test_one_attempt_alone_pays_for_all_of_its_time() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)  # a dollar a second
    meter.open("r.1", 7, START_NS + 2 * NS_PER_SECOND)
    assert meter.close("r.1", START_NS + 5 * NS_PER_SECOND) == 3 * USD
    assert meter.idle_nanousd == 2 * USD
    assert meter.bill_nanousd == 5 * USD


def test_attempts_share_the_bill_by_weight() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("heavy.1", 3, START_NS)
    meter.open("light.1", 1, START_NS)
    meter.reweigh("heavy.1", 1, START_NS + NS_PER_SECOND)
    assert meter.close("light.1", START_NS + 3 * NS_PER_SECOND) == USD // 4 + USD
    assert meter.close("heavy.1", START_NS + 4 * NS_PER_SECOND) == USD * 3 // 4 + USD + USD


def test_a_weight_that_grows_pays_for_it_as_virtual_time_goes() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)  # a dollar a second
    meter.open("grows.1", 1, START_NS)
    meter.open("stays.1", 10**6, START_NS)
    meter.reweigh("grows.1", 10**6, START_NS, growth=2 * 10**6)
    # v nanoseconds per weight take 2 v + v² milliseconds, so a second has 30.6 of them.
    age = 1001**0.5 - 1
    assert meter.close("stays.1", START_NS + NS_PER_SECOND) == pytest.approx(10**6 * age, rel=1e-7)
    assert meter.accrued("grows.1") == pytest.approx(10**6 * (age + age**2), rel=1e-7)
    assert_balanced(meter)


def test_a_shared_weight_is_divided_by_those_who_share_whatever_their_own_weights() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)  # a dollar a second
    meter.open("a.1", 1, START_NS)
    meter.open("b.1", 1, START_NS)
    meter.reweigh("a.1", 300, START_NS, shared=600)
    meter.reweigh("b.1", 100, START_NS, shared=600)
    assert meter.close("b.1", START_NS + NS_PER_SECOND) == USD * 400 // 1000  # of 600 + 300 + 100
    # Alone it pays all; with two more that share and weigh nothing to speak of, a third of what is shared.
    for name in ("c.1", "d.1"):
        meter.open(name, 1, START_NS + NS_PER_SECOND)
        meter.reweigh(name, 1, START_NS + NS_PER_SECOND, shared=600)
    assert meter.close("a.1", START_NS + 2 * NS_PER_SECOND) == pytest.approx(USD * 600 / 1000 + USD * 500 / 902, abs=2)
    assert_balanced(meter)


def test_virtual_time_goes_on_by_steps_however_many_share() -> None:
    """A weight that grows has grown alike after as many steps, of whatever length they are."""
    grown = []
    for others in (0, 3, 63):
        meter = ReplicaMeter(3_600 * USD, START_NS)
        names = [f"r{number}.1" for number in range(others + 1)]
        for name in names:
            meter.open(name, 1, START_NS)
            meter.reweigh(name, 10**6, START_NS, growth=5 * 10**6 if name == "r0.1" else 0, shared=10**9)
        before = meter._attempts["r0.1"].weight_at(meter._virtual)
        steps, step_ns = 10, 10**9 + (others + 1) * 10**6
        meter.advance(START_NS + steps * step_ns)
        grown.append(meter._attempts["r0.1"].weight_at(meter._virtual) / before)
    assert grown == pytest.approx([51.0] * 3, rel=0.03)


def test_what_is_settled_is_charged_and_the_others_are_spared_as_much() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("waits.1", 1, START_NS)
    meter.open("goes.1", 10**6, START_NS)
    meter.reweigh("waits.1", 10**6, START_NS + 10 * NS_PER_SECOND, settled=4 * NS_PER_SECOND)
    assert meter.accrued("waits.1") == pytest.approx(4 * USD, rel=1e-4)
    assert_balanced(meter)
    # All but a sixteenth of the money makes up for it until it has; then both pay alike.
    made_up = 4 * 16 / 15
    ends_seconds = 20
    expected = 4 + made_up / 16 / 2 + (ends_seconds - 10 - made_up) / 2
    assert meter.close("waits.1", START_NS + ends_seconds * NS_PER_SECOND) == pytest.approx(expected * USD, rel=1e-4)
    assert meter.close("goes.1", START_NS + ends_seconds * NS_PER_SECOND) == pytest.approx(
        (20 - expected) * USD, rel=1e-4
    )


def test_who_ends_before_the_bill_has_come_to_what_it_settled_pays_no_more_than_was_billed() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("a.1", 1, START_NS)
    meter.open("b.1", 1, START_NS)
    meter.reweigh("a.1", 1, START_NS + 2 * NS_PER_SECOND, settled=1000 * NS_PER_SECOND)
    assert sum(meter.accrued_nanousd.values()) <= meter.bill_nanousd
    assert meter.close("a.1", START_NS + 2 * NS_PER_SECOND) == USD
    assert meter.close("b.1", START_NS + 4 * NS_PER_SECOND) == 3 * USD
    assert meter.residue == 0


def test_what_is_given_back_goes_to_the_others_at_once_and_to_nobody_when_there_are_none() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("a.1", 3, START_NS)
    meter.reweigh("a.1", 3, START_NS + NS_PER_SECOND, settled=-NS_PER_SECOND)
    assert meter.accrued("a.1") == USD
    meter.open("b.1", 1, START_NS + NS_PER_SECOND)
    meter.open("c.1", 3, START_NS + NS_PER_SECOND)
    assert meter.close("a.1", START_NS + NS_PER_SECOND, given_back=NS_PER_SECOND * 4 // 5) == USD // 5
    assert meter.accrued_nanousd == {"b.1": USD // 5, "c.1": USD * 3 // 5}
    assert meter.close("c.1", START_NS + NS_PER_SECOND, given_back=10**15) == 0
    assert meter.close("b.1", START_NS + NS_PER_SECOND, given_back=10**15) == USD * 4 // 5
    assert meter.idle_nanousd == 0


def test_what_grows_alone_pays_for_all_of_it() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("r.1", 5, START_NS)
    meter.reweigh("r.1", 7, START_NS, growth=10**6)
    assert meter.close("r.1", START_NS + 3 * NS_PER_SECOND) == 3 * USD
    assert meter.state()["open"] == {}
    meter.open("s.1", 3, START_NS + 3 * NS_PER_SECOND)
    assert meter.close("s.1", START_NS + 4 * NS_PER_SECOND) == USD


def test_a_meter_that_an_older_jeton_saved_goes_on_as_it_would_have() -> None:
    meter = ReplicaMeter(7 * USD, START_NS)
    meter.open("a.1", 3, START_NS)
    meter.open("b.1", 4, START_NS + 5)
    meter.reweigh("a.1", 11, START_NS + 12_345)
    meter.advance(START_NS + 99_991)
    state = meter.state()
    old = {name: value for name, value in state.items() if name not in ("grain_bits", "hand", "ahead")}
    old["pot"] = str(int(state["pot"]) >> 80)
    old["open"] = {
        name: [weight, since, str(int(grains) >> 80)] for name, (weight, since, grains, *_) in state["open"].items()
    }
    restored = ReplicaMeter.restore(old)  # type: ignore[arg-type]
    assert restored.state() == state


def test_an_open_attempt_tells_what_it_owes_so_far() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("r.1", 5, START_NS)
    meter.advance(START_NS + NS_PER_SECOND)
    assert meter.accrued("r.1") == USD
    assert meter.accrued_nanousd == {"r.1": USD}
    assert meter.accrued("never.1") is None


@given(rates, events)
def test_bill_equals_charges_and_accrued_and_idle_and_residue_after_any_history(
    rate: int, steps: list[tuple[EventKind, int, str, int]]
) -> None:
    meter = ReplicaMeter(rate, START_NS)
    charged = 0
    for event in recorded(steps):
        charges = fold(meter, [event])
        charged += sum(charges.values())
        assert_balanced(meter)
        assert meter.charged_nanousd == charged


@given(st.lists(st.tuples(rates, st.integers(0, 10**15)), max_size=20), st.sets(st.integers(0, 19)))
def test_the_bill_is_price_times_time_exactly_whoever_is_served(prices: list[tuple[int, int]], busy: set[int]) -> None:
    meter = ReplicaMeter(0, START_NS)
    at_ns, due = START_NS, 0
    for number, (rate, elapsed_ns) in enumerate(prices):
        meter.reprice(rate, at_ns)
        if number in busy:
            meter.open(f"r{number}.1", number + 1, at_ns)
        at_ns += elapsed_ns
        due += rate * elapsed_ns
        if number in busy and number % 2:
            meter.close(f"r{number}.1", at_ns)
    meter.advance(at_ns)
    assert meter.bill == Fraction(due, NS_PER_HOUR)
    assert meter.bill_nanousd == due // NS_PER_HOUR
    assert_balanced(meter)


@given(rates, events, st.lists(st.integers(1, 10**12), max_size=5))
def test_cutting_time_into_pieces_changes_nothing(
    rate: int, steps: list[tuple[EventKind, int, str, int]], cuts_ns: list[int]
) -> None:
    script = recorded([(kind, abs(gap_ns), name, amount) for kind, gap_ns, name, amount in steps])
    whole, pieces = ReplicaMeter(rate, START_NS), ReplicaMeter(rate, START_NS)
    expected = fold(whole, script)
    charges: dict[str, int] = {}
    for event in script:
        for cut_ns in sorted(cuts_ns):
            pieces.advance(min(pieces.last_ns + cut_ns, event.at_ns))
        charges |= fold(pieces, [event])
    assert charges == expected
    whole.advance(pieces.last_ns)
    assert balances(pieces) == balances(whole)


@given(rates, events)
def test_the_fold_over_what_was_recorded_gives_the_live_charges(
    rate: int, steps: list[tuple[EventKind, int, str, int]]
) -> None:
    live = ReplicaMeter(rate, START_NS)
    journal: list[MeterEvent] = []
    charges: dict[str, int] = {}
    for event in recorded(steps):
        live.advance(event.at_ns - 1)  # ticks are not journalled
        journal.append(replace(event, at_ns=max(event.at_ns, live.last_ns)))
        charges |= fold(live, [event])
    audited = ReplicaMeter(rate, START_NS)
    assert fold(audited, journal) == charges
    audited.advance(live.last_ns)
    assert balances(audited) == balances(live)
    assert audited.late_events == 0


@given(rates, events, st.integers(0, 60))
def test_a_meter_restored_from_json_goes_on_as_if_it_had_never_stopped(
    rate: int, steps: list[tuple[EventKind, int, str, int]], stop: int
) -> None:
    # An id that comes back after it was closed is the journal's business across restarts, so each is used once here.
    script = recorded([(kind, gap, f"{name}-{index // 12}", n) for index, (kind, gap, name, n) in enumerate(steps)])
    script = [one for index, one in enumerate(script) if one.kind != EventKind.OPEN or is_first(script, index)]
    straight, first = ReplicaMeter(rate, START_NS), ReplicaMeter(rate, START_NS)
    expected = dict(fold(straight, script))
    charges = dict(fold(first, script[:stop]))
    second = ReplicaMeter.restore(json.loads(json.dumps(first.state())))
    assert balances(second) == balances(first)
    charges |= fold(second, script[stop:])
    assert charges == expected
    assert second.state() == straight.state()


def test_after_a_crash_what_was_open_and_the_downtime_are_idle() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("r.1", 5, START_NS)
    meter.advance(START_NS + NS_PER_SECOND)
    restored = ReplicaMeter.restore(meter.state())
    assert restored.abandon() == ("r.1",)
    restored.advance(START_NS + 11 * NS_PER_SECOND)
    assert restored.idle_nanousd == 11 * USD
    assert restored.charged_nanousd == 0
    assert restored.close("r.1", START_NS + 12 * NS_PER_SECOND) is None


def test_a_late_event_is_booked_at_the_last_and_counted() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("r.1", 1, START_NS + 5 * NS_PER_SECOND)
    meter.open("late.1", 1, START_NS + NS_PER_SECOND)
    assert meter.last_ns == START_NS + 5 * NS_PER_SECOND
    assert meter.late_events == 1
    assert meter.close("late.1", START_NS + 7 * NS_PER_SECOND) == USD
    assert meter.idle_nanousd == 5 * USD


def test_an_event_delivered_twice_changes_nothing() -> None:
    once, twice = ReplicaMeter(3_600 * USD, START_NS), ReplicaMeter(3_600 * USD, START_NS)
    for meter, times in ((once, 1), (twice, 2)):
        charges = []
        for _ in range(times):
            meter.open("r.1", 5, START_NS + 1)
        for _ in range(times):
            charges.append(meter.close("r.1", START_NS + NS_PER_SECOND))
        meter.open("r.1", 5, START_NS + NS_PER_SECOND)
        assert charges[1:] == [None] * (times - 1)
    assert twice.state() == once.state()
    assert once.open_attempts == ()


def test_events_of_attempts_that_never_opened_change_nothing() -> None:
    meter = ReplicaMeter(USD, START_NS)
    before = meter.state()
    meter.reweigh("never.1", 4, START_NS + 9)
    assert meter.close("never.1", START_NS + 9) is None
    assert meter.state() == before


def test_nothing_is_billed_after_the_lease_has_ended() -> None:
    meter = ReplicaMeter(3_600 * USD, START_NS)
    meter.open("r.1", 1, START_NS)
    meter.end(START_NS + NS_PER_SECOND)
    meter.end(START_NS + 2 * NS_PER_SECOND)
    assert meter.close("r.1", START_NS + 3 * NS_PER_SECOND) == USD
    assert meter.bill_nanousd == USD
    assert meter.is_ended
    with pytest.raises(ValueError, match="has ended"):
        meter.open("s.1", 1, START_NS + 4 * NS_PER_SECOND)


def test_a10_a_price_of_zero_bills_nothing_and_still_balances() -> None:
    meter = ReplicaMeter(0, START_NS)
    meter.open("r.1", 1, START_NS)
    assert meter.close("r.1", START_NS + NS_PER_SECOND) == 0
    assert meter.bill == 0
    assert_balanced(meter)


def test_thousands_of_attempts_on_a_tiny_price_lose_nothing() -> None:
    meter = ReplicaMeter(7, START_NS)
    for number in range(5_000):
        at_ns = START_NS + number * 999_983
        meter.open(f"r{number}.1", 1 + number % 977, at_ns)
        if number >= 40:
            meter.reweigh(f"r{number - 20}.1", 3, at_ns + 11)
            meter.close(f"r{number - 40}.1", at_ns + 13)
    assert_balanced(meter)
    for name in meter.open_attempts:
        meter.close(name, START_NS + NS_PER_HOUR)
    assert_balanced(meter)
    assert meter.bill_nanousd == 7
    assert meter.charged_nanousd + meter.idle_nanousd == 7 - meter.residue


def test_the_window_of_closed_attempts_is_bounded() -> None:
    meter = ReplicaMeter(USD, START_NS)
    for number in range(CLOSED_REMEMBERED + 1):
        meter.open(f"r{number}.1", 1, START_NS)
        meter.close(f"r{number}.1", START_NS)
    meter.open("r1.1", 1, START_NS)
    assert meter.open_attempts == ()
    meter.open("r0.1", 1, START_NS)
    assert meter.open_attempts == ("r0.1",)


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_MAX + 1])
def test_a_weight_out_of_bounds_is_refused(weight: int) -> None:
    meter = ReplicaMeter(USD, START_NS)
    with pytest.raises(ValueError, match="weight"):
        meter.open("r.1", weight, START_NS)
    meter.open("r.1", 1, START_NS)
    with pytest.raises(ValueError, match="weight"):
        meter.reweigh("r.1", weight, START_NS)


@pytest.mark.parametrize("name", ["growth", "shared", "settled"])
@pytest.mark.parametrize("amount", [-WEIGHT_MAX - 1, WEIGHT_MAX + 1])
def test_what_comes_with_a_weight_and_is_out_of_bounds_is_refused(name: str, amount: int) -> None:
    meter = ReplicaMeter(USD, START_NS)
    meter.open("r.1", 1, START_NS)
    with pytest.raises(ValueError, match=f"{'settlement' if name == 'settled' else name}.* {amount}"):
        meter.reweigh("r.1", 1, START_NS, **{name: amount})


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        ReplicaMeter(-1, START_NS)
    with pytest.raises(ValueError, match="not negative"):
        ReplicaMeter(1, START_NS).reprice(-1, START_NS)
