"""Ways of paying, by cases that were worked out by hand."""

from math import exp

import pytest

from load.plan.purchase import (
    Source,
    TokenOffer,
    break_even_hours_per_day,
    break_even_months,
    break_even_tokens_per_day,
    busy_ratio,
    cheapest_available,
    serverless_replicas,
)


def test_a_request_bought_by_the_token_costs_its_three_classes() -> None:
    offer = TokenOffer("a/m", "m", 2.0, 0.5, 8.0)
    # 250 uncached at $2, 750 cached at $0.5 and 100 at $8 a million
    assert offer.usd_per_request(1000, 100, 0.75) == pytest.approx((250 * 2 + 750 * 0.5 + 100 * 8) / 1e6)


def test_a_lease_of_three_dollars_an_hour_breaks_even_with_tokens_at_a_dollar_a_million_at_72_million_a_day() -> None:
    assert break_even_tokens_per_day(3.0, 1.0) == pytest.approx(72e6)


def test_a_commitment_at_less_than_half_the_price_pays_from_less_than_half_of_the_day_on() -> None:
    assert break_even_hours_per_day(1.30, 3.00) == pytest.approx(10.4)


def test_hardware_pays_when_what_leasing_costs_more_has_added_up_to_its_price() -> None:
    # 30,000 dollars, 1 dollar an hour to run, 3 dollars an hour to lease: 15,000 hours of 730.5 a month
    assert break_even_months(30_000, 1.0, 3.0) == pytest.approx(15_000 / 730.5)
    assert break_even_months(30_000, 3.0, 3.0) is None


def test_a_serverless_replica_is_paid_for_while_requests_overlap_and_a_while_after() -> None:
    assert busy_ratio(0.01, 5.0, 5.0) == pytest.approx(1 - exp(-0.1))


def test_serverless_replicas_are_as_many_as_the_rate_fills_and_below_one_the_time_that_one_is_busy() -> None:
    assert serverless_replicas(30.0, 10.0, 2.0, 5.0) == pytest.approx(3.0)
    assert serverless_replicas(0.01, 10.0, 5.0, 5.0) == pytest.approx(1 - exp(-0.1))


def test_of_several_sources_the_cheapest_that_is_there_is_paid() -> None:
    usd, served = cheapest_available([Source(2.0, 0.8), Source(1.0, 0.5)])
    # half of the time at 1, of the other half four fifths at 2
    assert served == pytest.approx(0.9)
    assert usd == pytest.approx((0.5 * 1 + 0.5 * 0.8 * 2) / 0.9)


def test_work_that_a_preemption_throws_away_is_paid_twice() -> None:
    assert Source(1.0, 1.0, preemptions_per_hour=0.2, redo_hours=0.5).usd_per_useful_hour == pytest.approx(1.1)
