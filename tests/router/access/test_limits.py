from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.access.keys import Identity
from router.access.limits import RequestLimits, WrongKeyThrottle
from router.errors import RateLimited

gaps = st.lists(st.floats(min_value=0, max_value=30, allow_nan=False), min_size=1, max_size=300)


def wait_told(count: Callable[[float], None], now: float) -> float | None:
    """The seconds to wait that a refusal names, None if there was none."""
    try:
        count(now)
    except RateLimited as refusal:
        return refusal.retry_after_seconds
    return None


def admitted_at(limit: int, times: list[float]) -> list[float]:
    limits, identity, admitted = RequestLimits(), Identity("red", "laptop", (), limit), []
    for now in times:
        try:
            limits.admit(identity, now)
        except RateLimited:
            continue
        admitted.append(now)
    return admitted


def running(gaps: list[float], start: float = 1e6) -> list[float]:
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    return times


@given(limit=st.integers(1, 200), gaps=gaps)
def test_no_window_lets_more_through_than_the_allowance_and_its_refill(limit: int, gaps: list[float]) -> None:
    admitted = admitted_at(limit, running(gaps))
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            window = admitted[last] - admitted[first]
            assert last - first + 1 <= limit * (1 + window / 60) + 1e-6


@given(limit=st.integers(1, 200), gaps=gaps)
def test_whoever_waits_as_long_as_told_is_admitted(limit: int, gaps: list[float]) -> None:
    limits, identity, now = RequestLimits(), Identity("red", "laptop", (), limit), 1e6
    for gap in gaps:
        now += gap
        wait_seconds = wait_told(partial(limits.admit, identity), now)
        if wait_seconds is not None:
            assert 0 < wait_seconds <= 60 / limit + 1e-6
            now += wait_seconds
            limits.admit(identity, now)


@given(limit=st.integers(1, 500))
def test_an_even_stream_at_the_limit_is_never_refused(limit: int) -> None:
    times = [number * 60 / limit for number in range(3 * limit)]
    assert len(admitted_at(limit, times)) == len(times)


def test_a_minutes_allowance_may_come_at_once_and_no_more() -> None:
    assert len(admitted_at(60, [5.0] * 200)) == 60


def test_tenants_do_not_take_from_each_other_but_keys_of_one_do() -> None:
    limits = RequestLimits()
    limits.admit(Identity("red", "laptop", (), 1), 0.0)
    limits.admit(Identity("blue", "laptop", (), 1), 0.0)
    with pytest.raises(RateLimited) as refusal:
        limits.admit(Identity("red", "desktop", (), 1), 0.0)
    assert refusal.value.status == 429
    assert refusal.value.retry_after_seconds == pytest.approx(60)


def test_no_limit_is_no_limit_and_keeps_nothing() -> None:
    limits = RequestLimits()
    for _ in range(1000):
        limits.admit(Identity("red", "laptop"), 0.0)
    assert limits._full_at_seconds == {}


def test_b56_ten_thousand_wrong_keys_are_throttled() -> None:
    throttle = WrongKeyThrottle(failures_per_minute=60, burst=20)
    times = [number / 1000 for number in range(10_000)]  # a thousand a second, for ten seconds
    waits = [wait_told(partial(throttle.failed, "203.0.113.9"), now) for now in times]
    refused = [wait for wait in waits if wait is not None]
    assert len(refused) == 10_000 - 20 - 9, "the burst, and what the rate allows in ten seconds"
    assert all(0 < wait <= 1 for wait in refused)
    assert len(throttle) == 1


def test_b56_the_table_of_addresses_is_bounded_and_forgets_the_quietest() -> None:
    throttle = WrongKeyThrottle(failures_per_minute=1, burst=1, addresses_max=100)
    for number in range(100):
        throttle.failed(f"10.0.0.{number}", 0.0)
    with pytest.raises(RateLimited):
        throttle.failed("10.0.0.0", 0.0)  # heard again: now 10.0.0.1 has been quiet for longest
    for number in range(50):
        throttle.failed(f"10.0.1.{number}", 0.0)
    assert len(throttle) == 100
    with pytest.raises(RateLimited):
        throttle.failed("10.0.0.0", 0.0)
    throttle.failed("10.0.0.1", 0.0)


def test_an_address_does_not_speak_for_others() -> None:
    throttle = WrongKeyThrottle(failures_per_minute=1, burst=1)
    throttle.failed("203.0.113.9", 0.0)
    throttle.failed("203.0.113.10", 0.0)
    with pytest.raises(RateLimited):
        throttle.failed("203.0.113.9", 0.0)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", "unix:/run/jeton.sock"),
    ],
)
def test_one_party_is_counted_once_whatever_address_it_takes(one: str, same: str) -> None:
    throttle = WrongKeyThrottle(failures_per_minute=1, burst=1)
    throttle.failed(one, 0.0)
    with pytest.raises(RateLimited):
        throttle.failed(same, 0.0)
