"""What a price ceiling, a deadline and a rush leave of the candidates, and what is said when they leave none."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest

from router.domain.fleet import Load, Scrape
from router.domain.request import Criticality, Endpoint, Terms
from router.errors import DeadlineUnreachable, Overloaded, PriceCeiling
from router.selection.terms import Shedding, ceiling_reached, refuse_in_a_rush, within_terms


@pytest.fixture
def found(fleet, ask):
    """Two small replicas, one of them with long prompts before it; a large one; a metered one."""
    fleet.loads["edge-small/2"] = Load(4, 60_000, 0, 0)
    return lambda **members: fleet.find(ask(**members), are_holds_wanted=True)[0]


def ids(candidates) -> set[str]:
    return {candidate.replica.id for candidate in candidates}


def test_a_ceiling_leaves_those_that_can_promise_to_stay_below_it(found, ask) -> None:
    request = ask(completion_tokens_max=100)
    candidates = found(completion_tokens_max=100)
    by_id = {one.replica.id: one.hold_nanousd for one in candidates}
    assert by_id["cloud-large/1"] < by_id["edge-small/1"]  # alone on an L4, a request pays for every second
    kept, exclusions = within_terms(replace(request, terms=Terms(by_id["cloud-large/1"])), candidates)
    assert ids(kept) == {"cloud-large/1"}
    assert {one.replica for one in exclusions} == ids(candidates) - ids(kept)
    assert all("above the request's ceiling of $" in one.why for one in exclusions)


def test_a_ceiling_below_all_is_refused_with_what_the_cheapest_may_cost(found, ask) -> None:
    with pytest.raises(PriceCeiling, match=r"within \$0.000000001: the cheapest may cost up to \$0\.0") as refused:
        within_terms(ask(terms=Terms(cost_nanousd_max=1)), found())
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "price_ceiling", "x-jeton-max-usd")


def test_a_ceiling_is_told_in_the_words_of_the_api(found, ask) -> None:
    request = replace(ask(terms=Terms(cost_nanousd_max=1)), endpoint=Endpoint.RESPONSES)
    with pytest.raises(PriceCeiling, match="or set a smaller `max_output_tokens`"):
        within_terms(request, found())
    assert "or set a smaller `max_output_tokens`" in ceiling_reached(3, 2, 4, Endpoint.RESPONSES).message


def test_a_ceiling_a_little_too_low_is_told_from_what_it_would_take(found, ask) -> None:
    """Rounded they would be the same."""
    least = min(one.hold_nanousd for one in found())
    with pytest.raises(PriceCeiling) as refused:
        within_terms(ask(terms=Terms(cost_nanousd_max=least - 1)), found())
    amounts = re.findall(r"\$(0\.\d+)", refused.value.message)
    assert [Decimal(amount) * 10**9 for amount in amounts] == [least - 1, least]


def test_a_deadline_leaves_those_that_are_forecast_to_meet_it(found, ask) -> None:
    kept, exclusions = within_terms(ask(terms=Terms(deadline_seconds=5.0)), found())
    assert ids(kept) == {"edge-small/1", "edge-large/1", "cloud-large/1"}
    (late,) = exclusions
    assert late.replica == "edge-small/2"
    assert late.why.endswith("beyond the deadline of 5 s")


def test_a_whole_answer_must_be_whole_by_its_deadline_a_stream_must_have_begun(found, ask) -> None:
    streamed = ask(terms=Terms(deadline_seconds=2.0))
    kept, _ = within_terms(streamed, found())
    assert "cloud-large/1" in ids(kept)
    with pytest.raises(DeadlineUnreachable):
        within_terms(replace(streamed, is_streaming=False), found())


def test_f17_a_deadline_that_nobody_can_meet_is_refused_with_the_quickest(found, ask) -> None:
    with pytest.raises(
        DeadlineUnreachable, match=r"within the deadline of 0.001 s; the quickest would take 0\."
    ) as refused:
        within_terms(ask(terms=Terms(deadline_seconds=0.001)), found())
    assert (refused.value.status, refused.value.code) == (504, "deadline_unreachable")


@pytest.mark.parametrize(
    ("criticality", "is_refused"),
    [(Criticality.SHEDDABLE, True), (Criticality.STANDARD, False), (Criticality.CRITICAL, False)],
)
def test_f16_in_a_rush_the_sheddable_are_turned_away_first(fleet, ask, criticality, is_refused) -> None:
    fleet.scope = ("edge-small",)
    for replica in ("edge-small/1", "edge-small/2"):
        fleet.loads[replica] = Load(8, 9_000, 0, 0)
    request = ask(terms=Terms(criticality=criticality))
    candidates, _ = fleet.find(request)
    wait = min(one.wait_seconds for one in candidates)
    shedding = Shedding(wait / 2, wait * 2)
    if is_refused:
        with pytest.raises(Overloaded, match="sheddable requests are turned away") as refused:
            refuse_in_a_rush(request, candidates, shedding)
        assert refused.value.status == 503
        assert refused.value.retry_after_seconds >= 1
    else:
        refuse_in_a_rush(request, candidates, shedding)


def test_f16_in_a_greater_rush_standard_work_goes_and_critical_work_stays(fleet, ask) -> None:
    for replica in ("edge-small/1", "edge-small/2", "edge-large/1"):
        fleet.loads[replica] = Load(8, 9_000, 0, 0)
    fleet.scope = ("edge-small", "edge-large")
    candidates, _ = fleet.find(ask())
    shedding = Shedding(1e-6, 1.0)
    with pytest.raises(Overloaded):
        refuse_in_a_rush(ask(), candidates, shedding)
    refuse_in_a_rush(ask(terms=Terms(criticality=Criticality.CRITICAL)), candidates, shedding)


def test_one_with_room_is_enough(found, ask) -> None:
    refuse_in_a_rush(ask(), found(), Shedding(0.1, 0.1))


def test_a_long_prompt_is_no_rush_and_neither_is_silence(fleet, ask) -> None:
    """Nobody is turned away from an idle fleet: because the prompt is long, or because its metrics cannot be read any more."""
    fleet.scope = ("edge-small",)
    for replica in ("edge-small/1", "edge-small/2"):
        fleet.scrapes[replica] = Scrape(1.0)
    request = ask(7_000)
    candidates, _ = fleet.find(request)
    assert min(one.ttft_seconds for one in candidates) > 900
    refuse_in_a_rush(request, candidates, Shedding(0.1, 0.1))
    kept, _ = within_terms(replace(request, terms=Terms(deadline_seconds=10.0)), candidates)
    assert len(kept) == 2
