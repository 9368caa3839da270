"""The retry budget: attempts stay within their bound, whatever the outage."""

from hypothesis import given
from hypothesis import strategies as st

from router.dispatch.retries import RetryBudget


@given(st.lists(st.tuples(st.floats(0, 0.2), st.booleans()), max_size=400), st.floats(0, 1), st.floats(0, 20))
def test_f15_retries_never_exceed_the_ratio_of_requests_and_the_rate(
    steps: list[tuple[float, bool]], ratio: float, per_second: float
) -> None:
    budget, now, requests, retries = RetryBudget(ratio, per_second), 0.0, 0, 0
    for pause, is_request in steps:
        now += pause
        if is_request:
            budget.request()
            requests += 1
        elif budget.take(now):
            retries += 1
    assert retries <= ratio * requests + per_second * now + max(1.0, per_second) + 1e-6


def test_a_reload_bounds_what_was_saved_up_and_adds_nothing() -> None:
    budget = RetryBudget(0.2, 50.0)
    budget.configure(0.0, 2.0)
    assert [budget.take(0.0) for _ in range(3)] == [True, True, False]
    budget.configure(0.0, 50.0)
    assert not budget.take(0.0)
    assert budget.take(0.1), "and from now on it fills as it is told"


def test_with_nothing_in_the_bucket_there_is_no_second_attempt() -> None:
    budget = RetryBudget(0.0, 0.0)
    assert budget.take(0.0)
    assert not budget.take(1e9)
