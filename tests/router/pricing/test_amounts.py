"""The amounts of an attempt: whatever a backend reports, they can be reckoned, and an estimate says that it is one."""

import pytest
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, LARGE, PROFILE, SMALL, facts
from hypothesis import given
from hypothesis import strategies as st

from router.domain.attempt import AttemptEnd, AttemptStatus, Outcome, outcome_of
from router.domain.fleet import Backend
from router.domain.usage import Usage, UsageSource
from router.pricing.amounts import Basis, baseline_amount, believable_usage, metered_amount, standard_amount

EDGE, CLOUD = Basis(EDGE_PRICE, PROFILE), Basis(CLOUD_PRICE)
LEDGER_MAX = 2**63 - 1

counts = st.one_of(st.integers(-5, 5), st.integers(-(2**70), 2**70), st.integers(0, 2**31))
usages = st.builds(
    Usage,
    prompt_tokens=counts,
    completion_tokens=counts,
    cached_tokens=counts,
    cache_write_tokens=counts,
    reasoning_tokens=counts,
    audio_seconds=st.one_of(st.just(0.0), st.floats()),
    provider_cost_nanousd=st.one_of(st.none(), counts),
    source=st.sampled_from(UsageSource),
)


@given(usages, st.sampled_from(AttemptStatus))
def test_a21_whatever_is_reported_becomes_an_amount_that_the_ledger_can_hold(
    usage: Usage, status: AttemptStatus
) -> None:
    believed = believable_usage(AttemptEnd(status, usage), facts("r1"))
    for amount in (
        metered_amount(CLOUD_PRICE, believed, status),
        standard_amount(EDGE, believed),
        baseline_amount(facts("r1"), outcome_of(status, ""), CLOUD, believed, cost=1),
    ):
        assert amount is not None
        assert 0 <= amount <= LEDGER_MAX


@given(usages)
def test_usage_that_can_be_true_is_left_as_it_is(usage: Usage) -> None:
    believed = believable_usage(AttemptEnd(AttemptStatus.OK, usage), facts("r1"))
    if believed.source is not UsageSource.ESTIMATED:
        assert (believed.prompt_tokens, believed.completion_tokens) == (usage.prompt_tokens, usage.completion_tokens)
        assert believed.source is usage.source is not UsageSource.MISSING


def test_an_attempt_that_failed_before_it_made_anything_may_have_used_nothing() -> None:
    nothing = Usage(0, 0, source=UsageSource.MISSING)
    assert believable_usage(AttemptEnd(AttemptStatus.FAILED, nothing, "connect"), facts("r1")) == nothing


def test_a22_the_baseline_is_a_backend_and_its_price_its_own() -> None:
    usage = Usage(1000, 500)
    to_cloud, to_edge = facts("r1", SMALL, baseline=LARGE.name), facts("r2", LARGE, baseline=SMALL.name)
    assert baseline_amount(to_cloud, Outcome.SERVED, CLOUD, usage, cost=1) == standard_amount(CLOUD, usage)
    assert baseline_amount(to_edge, Outcome.SERVED, EDGE, usage, cost=1) == standard_amount(EDGE, usage)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.is_lost])
@pytest.mark.parametrize("backend", [SMALL, LARGE])
def test_what_bought_no_answer_saves_nothing_and_costs_what_it_cost(outcome: Outcome, backend: Backend) -> None:
    """At the baseline it would not have been made: what a cascade discards least of all."""
    assert baseline_amount(facts("r1", backend, baseline=LARGE.name), outcome, CLOUD, Usage(1000, 500), cost=7) == 0


def test_a_lease_without_a_profile_has_no_standard_price() -> None:
    assert standard_amount(Basis(EDGE_PRICE, None), Usage(1, 1)) is None
    assert standard_amount(Basis(), Usage(1, 1)) is None
