"""What a budget leaves of the candidates, and what is said when it leaves none."""

from dataclasses import fields
from typing import Any

import pytest

from router.domain.budget import DAY_NS, Allowance, Budget, Degrade, Period, span_at
from router.domain.decision import Candidate
from router.domain.request import Endpoint
from router.errors import BudgetExceeded
from router.selection.affordable import RETRY_SECONDS_MAX, affordable

NOON = 20_000 * DAY_NS + DAY_NS // 2
USD = 10**9
SMALL, POOL = Degrade(0.8, tiers=("small",)), Degrade(0.9, pools=("edge",))


def allowance(
    left: int, unspent: int | None = None, period: Period = Period.DAY, limit: int = 50 * USD, *degrades: Degrade
) -> Allowance:
    budget = Budget("acme", "", period, limit)
    span = span_at(period, NOON)
    return Allowance(
        budget, span, left, left if unspent is None else unspent, tuple((degrade, budget) for degrade in degrades)
    )


def as_candidate(prospect: Candidate, **changes: Any) -> Candidate:
    return Candidate(**{field.name: getattr(prospect, field.name) for field in fields(Candidate)} | changes)


@pytest.fixture
def candidates(fleet, ask) -> list[Candidate]:
    """Two small and a large one at the edge, and a large one in the cloud; each may cost a dollar, the cloud's two."""
    found, _ = fleet.find(ask())
    return [as_candidate(one, hold_nanousd=2 * USD if one.backend.pool.name == "cloud" else USD) for one in found]


def names(found) -> set[str]:
    return {one.backend.name for one in found}


def test_enough_for_all_leaves_all(candidates) -> None:
    assert affordable(candidates, allowance(2 * USD), NOON, Endpoint.CHAT) == (candidates, [], False)


def test_what_may_cost_more_than_is_left_is_left_out_and_told(candidates) -> None:
    found = affordable(candidates, allowance(USD), NOON, Endpoint.CHAT)
    assert names(found.candidates) == {"edge-small", "edge-large"}
    [exclusion] = found.exclusions
    assert exclusion.why == "may cost up to $2.00, and $1.00 is left of the budget of $50.00 a day of the tenant acme"
    assert not found.is_degraded


@pytest.mark.parametrize(
    ("degrades", "left"),
    [
        ((SMALL,), {"edge-small"}),
        ((POOL,), {"edge-small", "edge-large"}),
        ((SMALL, POOL), {"edge-small"}),
        ((Degrade(0.8, tiers=("medium",)),), {"edge-small", "edge-large", "cloud-large"}),
        ((Degrade(0.8, tiers=("small", "large")),), {"edge-small", "edge-large", "cloud-large"}),
    ],
)
def test_under_pressure_what_can_be_steered_is(candidates, degrades, left) -> None:
    found = affordable(candidates, allowance(10 * USD, None, Period.DAY, 50 * USD, *degrades), NOON, Endpoint.CHAT)
    assert names(found.candidates) == left
    assert found.is_degraded == (len(left) < 3)
    assert len(found.candidates) + len(found.exclusions) == len(candidates)


@pytest.mark.parametrize(
    ("given", "says", "retry_after_seconds"),
    [
        (
            allowance(USD // 2),
            "The budget of $50.00 a day of the tenant acme cannot take this request: it may cost up to $1.00, and $0.50 is"
            " left. It renews at 2024-10-05T00:00Z; until then set a smaller `max_tokens`.",
            RETRY_SECONDS_MAX,
        ),
        (
            allowance(USD // 2, None, Period.TOTAL),
            "and $0.50 is left. It does not renew: set a smaller `max_tokens`.",
            None,
        ),
        (
            allowance(USD // 2, 3 * USD),
            "hold $2.50; try again when they end, or set a smaller `max_tokens`.",
            1.0,
        ),
        (allowance(0, None, Period.TOTAL), "and $0.00 is left. It does not renew.", None),
        (allowance(-5 * USD, -5 * USD), "and $0.00 is left. It renews at", RETRY_SECONDS_MAX),
        (allowance(0, 3 * USD), "Running requests hold $3.00; try again when they end.", 1.0),
        (allowance(USD // 4, None, Period.DAY, USD // 4), "more than the whole budget: set a smaller `max_tok", None),
        (allowance(0, None, Period.MONTH), "It renews at 2024-11-01T00:00Z.", RETRY_SECONDS_MAX),
    ],
)
def test_a_refusal_says_what_is_left_when_it_renews_and_what_helps(
    candidates, given, says, retry_after_seconds
) -> None:
    with pytest.raises(BudgetExceeded) as raised:
        affordable(candidates, given, NOON, Endpoint.CHAT)
    assert says in raised.value.message
    assert raised.value.retry_after_seconds == retry_after_seconds
    assert raised.value.tenant == "acme"


@pytest.mark.parametrize(
    ("endpoint", "advice"),
    [
        (Endpoint.RESPONSES, "set a smaller `max_output_tokens`."),
        (Endpoint.MESSAGES, "set a smaller `max_tokens`."),
        (Endpoint.EMBEDDINGS, "send less."),
    ],
)
def test_what_helps_is_said_in_the_words_of_the_api(candidates, endpoint, advice) -> None:
    for given in (allowance(USD // 2), allowance(USD // 4, None, Period.DAY, USD // 4)):
        with pytest.raises(BudgetExceeded) as raised:
            affordable(candidates, given, NOON, endpoint)
        assert raised.value.message.endswith(advice)


def test_just_before_midnight_the_wait_is_short(candidates) -> None:
    with pytest.raises(BudgetExceeded) as raised:
        affordable(candidates, allowance(0), NOON + DAY_NS // 2 - 90 * 10**9, Endpoint.CHAT)
    assert raised.value.retry_after_seconds == 90
