"""Figures are what Prometheus would make of the same text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.demo.figures import Reading, figures, histogram_quantile
from load.demo.fleet import Place

FLEET = (Place("edge", "small"), Place("central", "large"), Place("cloud", "bought"))


def reading(at_seconds: float, *, requests: int, tokens: int, cost_usd: float, idle_usd: float = 1.0) -> Reading:
    account = 'model="m",tier="small",tenant="t"'
    place = 'pool="edge",backend="small"'
    return Reading.parse(
        f"""
# TYPE jeton_requests_total counter
jeton_requests_total{{endpoint="chat",{place},tier="small",status="200"}} {requests}
jeton_requests_total{{endpoint="chat",pool="",backend="",tier="",status="429"}} 1
# TYPE jeton_in_flight gauge
jeton_in_flight{{backend="small",replica="r1"}} 2
jeton_in_flight{{backend="small",replica="r2"}} 3
# TYPE jeton_tokens_total counter
jeton_tokens_total{{{place},{account},class="prompt"}} {tokens}
jeton_tokens_total{{{place},{account},class="cached"}} {tokens}
jeton_tokens_total{{{place},{account},class="completion"}} {tokens}
# TYPE jeton_bill_usd_total counter
jeton_bill_usd_total{{{place}}} {cost_usd + idle_usd}
jeton_bill_usd_total{{pool="central",backend="large"}} {idle_usd}
# TYPE jeton_idle_usd_total counter
jeton_idle_usd_total{{{place}}} {idle_usd}
jeton_idle_usd_total{{pool="central",backend="large"}} {idle_usd}
# TYPE jeton_cost_usd_total counter
jeton_cost_usd_total{{{place},{account},basis="allocated"}} {cost_usd}
jeton_cost_usd_total{{{place},{account},basis="standard"}} {cost_usd / 4}
# TYPE jeton_saved_usd_total gauge
jeton_saved_usd_total{{tenant="t",method="standard"}} -0.5
jeton_saved_usd_total{{tenant="u",method="standard"}} 0.25
# TYPE jeton_refusals_total counter
jeton_refusals_total{{code="rate_limit_exceeded"}} 1
jeton_refusals_total{{code="overloaded"}} 0
# TYPE jeton_ttft_seconds histogram
jeton_ttft_seconds_bucket{{pool="edge",backend="small",le="0.1"}} {requests // 2}
jeton_ttft_seconds_bucket{{pool="edge",backend="small",le="+Inf"}} {requests // 2}
jeton_ttft_seconds_bucket{{pool="cloud",backend="bought",le="0.1"}} 0
jeton_ttft_seconds_bucket{{pool="cloud",backend="bought",le="+Inf"}} 0
""".lstrip(),
        at_seconds,
    )


BEFORE = reading(100.0, requests=10, tokens=1_000, cost_usd=1.0)
AFTER = reading(110.0, requests=30, tokens=6_000, cost_usd=3.0)


def test_rates_and_prices_are_of_the_span_and_amounts_since_the_beginning() -> None:
    small = figures([BEFORE, AFTER], FLEET).rows[1]
    assert (small.name, small.is_pool, small.requests, small.in_flight) == ("small", False, 30, 5)
    assert (
        small.tokens_per_second == 1_000
    )  # 5,000 prompt and 5,000 completion tokens in 10 s; cached ones are prompt tokens
    assert small.bill_usd == 4.0
    assert small.idle_ratio == 0.25
    assert small.allocated_usd_per_million == pytest.approx(200)  # $2 for 10,000 tokens
    assert small.standard_usd_per_million == pytest.approx(50)


def test_every_pool_comes_before_its_backends_even_if_nothing_was_asked_of_it() -> None:
    rows = figures([AFTER], FLEET).rows
    assert [(row.name, row.is_pool) for row in rows] == [
        ("edge", True), ("small", False), ("central", True), ("large", False), ("cloud", True), ("bought", False),
    ]  # fmt: skip
    assert rows[3].idle_ratio == 1.0
    assert rows[5].idle_ratio is None  # nothing is leased there
    assert rows[0][2:] == rows[1][2:]  # a pool of one backend


def test_one_reading_has_no_rates() -> None:
    figure = figures([AFTER], FLEET)
    assert figure.requests == 31
    assert figure.requests_per_second == 0
    assert figure.rows[1].allocated_usd_per_million is None


def test_the_bill_is_work_and_idle_and_savings_are_told_by_method() -> None:
    figure = figures([BEFORE, AFTER], FLEET)
    assert figure.bill_usd == figure.work_usd + figure.idle_usd == 5.0
    assert figure.bill_usd_per_hour == pytest.approx(2.0 / 10 * 3600)
    assert figure.saved_usd == {"standard": -0.25}
    assert figure.refusals == {"rate_limit_exceeded": 1}


def test_quantiles_are_over_all_backends_and_unknown_where_nothing_was_observed() -> None:
    figure = figures([BEFORE, AFTER], FLEET)
    assert figure.ttft_seconds_p50 == pytest.approx(0.05)
    assert figure.overhead_seconds_p50 is None


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 1 + 2 / 3), (0.875, 2.0), (1.0, 2.0)],
)
def test_a_quantile_is_linear_inside_its_bucket_and_never_beyond_the_last_bound(share: float, expected: float) -> None:
    assert histogram_quantile(share, {1.0: 4, 2.0: 7, float("inf"): 8}) == pytest.approx(expected)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_grow_with_their_share(counts: list[int], one: float, other: float) -> None:
    buckets, total = {}, 0
    for bound, count in enumerate(counts, 1):
        total += count
        buckets[float(bound)] = float(total)
    buckets[float("inf")] = float(total)
    low, high = (histogram_quantile(share, buckets) for share in sorted((one, other)))
    if total == 0:
        assert low is high is None
    else:
        assert low is not None
        assert high is not None
        assert 0 <= low <= high <= len(counts)
