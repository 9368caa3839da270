"""Useful, thin, idle, lost and what is in flight are the bill, whatever happened."""

from hypothesis import given
from hypothesis import strategies as st

from router.domain.periods import Leased, Outcome, Spent
from router.reporting.split import NOTHING, Place, split, split_hours, summed

amounts = st.integers(0, 10**15)


@st.composite
def charges(draw: st.DrawFn) -> Spent:
    cost = draw(amounts)
    has_standard = draw(st.booleans())
    billing = draw(st.sampled_from(["leased", "metered"]))
    standard = cost if billing == "metered" else draw(amounts) if has_standard else 0
    return Spent(
        draw(st.integers(0, 3)),
        "pool",
        "backend",
        draw(st.sampled_from(["a", "b"])),
        billing,
        outcome=draw(st.sampled_from(list(Outcome))),
        cost_nanousd=cost,
        standard_nanousd=standard,
        unrated_nanousd=0 if has_standard or billing == "metered" else cost,
    )


@st.composite
def leases(draw: st.DrawFn) -> Leased:
    bill = draw(amounts)
    idle = draw(st.integers(0, bill))
    return Leased(draw(st.integers(0, 3)), "pool", "backend", draw(st.sampled_from(["a", "b"])), "p@1#2", bill, idle, 1)


@given(st.lists(charges(), max_size=20), st.lists(leases(), max_size=10))
def test_a02_the_parts_sum_to_the_bill(spent: list[Spent], leased: list[Leased]) -> None:
    bill = sum(one.bill_nanousd for one in leased) + sum(one.cost_nanousd for one in spent if one.billing == "metered")
    splits = split_hours(spent, leased)
    for one in splits.values():
        assert one.useful + one.thin + one.idle + one.lost + one.unrated + one.in_flight == one.bill
        assert min(one.useful, one.thin, one.idle, one.lost, one.unrated, one.better) >= 0
    whole = sum(splits.values(), NOTHING)
    assert whole.bill == bill
    assert whole.idle == sum(one.idle_nanousd for one in leased)
    assert whole.lost == sum(one.cost_nanousd for one in spent if one.is_lost)
    for by in (("pool",), ("pool", "backend", "replica"), ()):
        assert sum(summed(splits, by_hour=False, by=by).values(), NOTHING) == whole


def charge(cost: int, standard: int, outcome: Outcome = Outcome.SERVED) -> Spent:
    return Spent(0, billing="leased", outcome=outcome, cost_nanousd=cost, standard_nanousd=standard)


def test_a_thin_batch_is_what_served_work_cost_beyond_its_standard_price() -> None:
    one = split([charge(100, 60)], [Leased(0, "", "", "", "", 150, 40, 1)])
    assert (one.useful, one.thin, one.idle, one.lost, one.in_flight, one.better) == (60, 40, 40, 0, 10, 0)


def test_a_batch_better_than_the_target_is_all_useful_and_told_beside() -> None:
    one = split([charge(100, 130)], [Leased(0, "", "", "", "", 100, 0, 1)])
    assert (one.useful, one.thin, one.better, one.bill) == (100, 0, 30, 100)


def test_a_good_hour_does_not_make_up_for_a_thin_one() -> None:
    rows = [charge(100, 130), charge(100, 70)._replace(hour=1)]
    splits = split_hours(rows, [Leased(hour, "", "", "", "", 100, 0, 1) for hour in (0, 1)])
    whole = sum(splits.values(), NOTHING)
    assert (whole.useful, whole.thin, whole.better) == (170, 30, 30)


def test_what_failed_is_lost_and_a_client_that_left_got_what_it_stayed_for() -> None:
    rows = [charge(10, 5, outcome) for outcome in (Outcome.FAILED, Outcome.CUT_SHORT, Outcome.ROUTER_DIED)]
    one = split([*rows, charge(10, 5, Outcome.CLIENT_GONE)], [])
    assert (one.lost, one.useful, one.thin) == (30, 5, 5)


def test_a_metered_cost_is_useful_and_never_thin() -> None:
    row = charge(70, 70)._replace(billing="metered")
    assert split([row], [])[:6] == (70, 0, 0, 0, 0, 0)


def test_places_are_told_apart() -> None:
    found = split_hours([charge(1, 1)._replace(pool="p", backend="b", replica="r")], [])
    assert list(found) == [(0, Place("p", "b", "r"))]
