"""Eligibility as a table: what is true of the fleet and the request, who is a candidate, and what is said of the others."""

from dataclasses import replace

import pytest

from router.domain.decision import Prediction
from router.domain.fleet import UP, Health, HealthState, Load, Scrape
from router.domain.request import Capability, Endpoint, HostedTools, PrefixMark
from router.errors import BadRequest, ContextTooLong, RateLimited, Unavailable
from router.pricing.price import ServiceTier, TokenRates
from router.pricing.quote import IDLE_SCARCITY, Lease
from router.selection.ask import (
    ANSWER_BYTES,
    COMPLETION_TOKENS_UNKNOWN,
    STREAMED_BYTES_PER_TOKEN,
    expected_completion_tokens,
)

NOW = 1000.0
EDGE_SMALL, EDGE_LARGE, CLOUD = {"edge-small/1", "edge-small/2"}, {"edge-large/1"}, {"cloud-large/1"}
ALL = EDGE_SMALL | EDGE_LARGE | CLOUD

EJECTED = Health(False, "failed 5 times in a row", NOW + 20, HealthState.EJECTED)
DOWN = Health(False, "health check fails: connect", 0.0, HealthState.DOWN)
LIMITED = Health(False, "rate limited by the backend", NOW + 7, HealthState.LIMITED)
LOCKED_OUT = Health(False, "refuses our API key", 0.0, HealthState.LOCKED_OUT)


def ids(candidates) -> set[str]:
    return {candidate.replica.id for candidate in candidates}


def said(exclusions) -> dict[str, str]:
    return {exclusion.replica or exclusion.backend: exclusion.why for exclusion in exclusions}


def test_every_replica_of_a_healthy_fleet_is_a_candidate(fleet, ask) -> None:
    candidates, exclusions = fleet.find(ask())
    assert ids(candidates) == ALL
    assert exclusions == []
    assert all(candidate.ttft_seconds > 0 and candidate.tpot_seconds > 0 for candidate in candidates)
    assert all(candidate.quote.marginal_nanousd > 0 for candidate in candidates)


@pytest.mark.parametrize("health", [EJECTED, DOWN, LIMITED, LOCKED_OUT])
def test_a_replica_that_is_not_healthy_is_excluded_with_the_reason(fleet, ask, health) -> None:
    fleet.health["edge-small/1"] = health
    candidates, exclusions = fleet.find(ask())
    assert ids(candidates) == ALL - {"edge-small/1"}
    assert said(exclusions) == {"edge-small/1": health.why}


@pytest.mark.parametrize(("health", "is_back"), [(EJECTED, True), (LIMITED, True), (DOWN, False), (LOCKED_OUT, False)])
def test_a_time_that_is_over_brings_a_replica_back_without_an_event(fleet, ask, health, is_back) -> None:
    fleet.health["edge-small/1"] = health
    candidates, _ = fleet.find(ask(), now_seconds=NOW + 20)
    assert ("edge-small/1" in ids(candidates)) is is_back


def test_a_replica_that_the_snapshot_does_not_know_yet_is_taken_for_healthy(fleet, ask) -> None:
    assert "edge-small/1" in ids(fleet.find(ask())[0])


def test_a_backend_without_the_capability_is_excluded_whole(fleet, ask) -> None:
    fleet.change("cloud-large", capabilities=frozenset({Capability.CHAT, Capability.VISION}))
    candidates, exclusions = fleet.find(ask(300, Capability.VISION))
    assert ids(candidates) == CLOUD
    assert said(exclusions) == {"edge-small": "cannot do vision", "edge-large": "cannot do vision"}


def test_a_capability_that_nobody_has_is_a_bad_request_that_names_it(fleet, ask) -> None:
    with pytest.raises(BadRequest) as refused:
        fleet.find(ask(300, Capability.VISION))
    assert "vision" in refused.value.message
    assert "No model here can" in refused.value.message


def test_a_capability_that_others_have_names_them(fleet, ask) -> None:
    fleet.change("cloud-large", capabilities=frozenset({Capability.CHAT, Capability.VISION}))
    fleet.scope = ("edge-small", "edge-large")
    with pytest.raises(BadRequest, match=r"cannot do vision. Models that can: cloud-large-model\."):
        fleet.find(ask(300, Capability.VISION))


def test_capabilities_that_nobody_has_together_are_named_together(fleet, ask) -> None:
    fleet.change("cloud-large", capabilities=frozenset({Capability.CHAT, Capability.VISION}))
    with pytest.raises(BadRequest, match="chat, tools, vision together"):
        fleet.find(ask(300, Capability.VISION, Capability.TOOLS))


@pytest.mark.parametrize(
    ("tokens", "completion_tokens_max", "expected"),
    [
        (8191, None, ALL),
        (8191, 4096, ALL),  # vLLM cuts max_tokens to what is left
        (8192, None, CLOUD),  # may be too long at the edge, by our estimate
        (100_000, None, CLOUD),
        (127_999, None, CLOUD),
        (128_000, None, CLOUD),  # may be too long everywhere: the backend's own count decides
        (255_998, None, CLOUD),
        (300, 8192, ALL),
        (300, 8193, CLOUD),  # vLLM refuses max_tokens above its window
        (8191, 119_809, CLOUD),
        (8191, 123_900, CLOUD),  # may be too long together: the backend's own count decides
    ],
)
def test_the_context_window_excludes_what_does_not_fit(fleet, ask, tokens, completion_tokens_max, expected) -> None:
    candidates, exclusions = fleet.find(ask(tokens, completion_tokens_max=completion_tokens_max))
    assert ids(candidates) == expected
    assert set(said(exclusions)) == ({"edge-small", "edge-large"} if expected == CLOUD else set())


def test_a_backend_that_may_be_too_short_is_asked_only_when_there_is_no_other(fleet, ask) -> None:
    fleet.health["cloud-large/1"] = DOWN
    candidates, exclusions = fleet.find(ask(9000))
    assert ids(candidates) == EDGE_SMALL | EDGE_LARGE
    assert set(said(exclusions)) == CLOUD


def test_a_backend_that_makes_no_answer_so_long_is_asked_only_when_there_is_no_other(fleet, ask) -> None:
    fleet.change("cloud-large", completion_tokens_max=4096)
    assert ids(fleet.find(ask(300, completion_tokens_max=4096))[0]) == ALL
    candidates, exclusions = fleet.find(ask(300, completion_tokens_max=4097))
    assert ids(candidates) == ALL - CLOUD
    assert said(exclusions) == {"cloud-large": "completions of at most 4,096 tokens; up to 4,097 asked for"}
    assert ids(fleet.find(ask(100_000, completion_tokens_max=4097))[0]) == CLOUD


@pytest.mark.parametrize(
    ("tokens", "completion_tokens_max"), [(256_000, None), (10**9, None), (300, 128_001), (8191, 125_000)]
)
def test_what_surely_fits_nowhere_is_refused_with_the_largest_window(fleet, ask, tokens, completion_tokens_max) -> None:
    with pytest.raises(ContextTooLong, match="128,000"):
        fleet.find(ask(tokens, completion_tokens_max=completion_tokens_max))


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.TRANSCRIPTIONS, Endpoint.RERANK, Endpoint.TOKENIZE])
def test_inputs_that_do_not_share_a_window_are_not_measured_by_it(fleet, ask, endpoint) -> None:
    fleet.change("edge-small", capabilities=frozenset({Capability(endpoint.value)}))
    candidates, _ = fleet.find(ask(10**7, endpoint=endpoint))
    assert ids(candidates) == EDGE_SMALL


def test_prompts_in_parallel_do_not_share_a_window_either(fleet, ask) -> None:
    candidates, _ = fleet.find(ask(80_000, endpoint=Endpoint.COMPLETIONS, choices=16))
    assert ids(candidates) == ALL


def test_f07_with_everybody_ejected_the_ejected_are_asked_all_the_same(fleet, ask) -> None:
    fleet.health = {"edge-small/1": EJECTED, "edge-small/2": EJECTED, "edge-large/1": DOWN, "cloud-large/1": LIMITED}
    candidates, exclusions = fleet.find(ask())
    assert ids(candidates) == EDGE_SMALL
    assert set(said(exclusions)) == EDGE_LARGE | CLOUD


def test_where_others_are_refused_those_that_may_be_too_short_are_candidates_beside_them(fleet, ask) -> None:
    request = ask(9_000)  # the edge has 8,192, and an estimate may be twice as much as there is
    candidates, exclusions = fleet.find(request)
    assert (ids(candidates), set(said(exclusions))) == (CLOUD, {"edge-small", "edge-large"})
    candidates, exclusions = fleet.find(request, takes_doubtful=True)
    assert (ids(candidates), exclusions) == (ALL, [])
    candidates, exclusions = fleet.find(ask(20_000), takes_doubtful=True)
    assert (ids(candidates), set(said(exclusions))) == (CLOUD, {"edge-small", "edge-large"}), "surely too long"


def test_what_was_ejected_stays_out_where_others_are_refused(fleet, ask) -> None:
    fleet.health = {"edge-small/1": EJECTED, "edge-small/2": DOWN}
    candidates, exclusions = fleet.find(ask(), takes_doubtful=True)
    assert (ids(candidates), set(said(exclusions))) == (EDGE_LARGE | CLOUD, EDGE_SMALL)


def test_f06_with_everybody_limited_the_client_waits_for_the_first_to_come_back(fleet, ask) -> None:
    fleet.health = dict.fromkeys(ALL, LIMITED)
    fleet.health["edge-large/1"] = replace(LIMITED, until_seconds=NOW + 3)
    with pytest.raises(RateLimited) as refused:
        fleet.find(ask())
    assert refused.value.retry_after_seconds == 3.0


def test_f06_one_that_is_limited_among_those_that_are_out_is_what_the_client_waits_for(fleet, ask) -> None:
    fleet.health = dict.fromkeys(ALL, DOWN) | {"cloud-large/1": LIMITED, "edge-small/1": LOCKED_OUT}
    with pytest.raises(RateLimited) as refused:
        fleet.find(ask())
    assert refused.value.retry_after_seconds == 7.0


@pytest.mark.parametrize("health", [DOWN, LOCKED_OUT])
def test_with_everybody_out_it_is_unavailable_for_a_while(fleet, ask, health) -> None:
    fleet.health = dict.fromkeys(ALL, health)
    with pytest.raises(Unavailable) as refused:
        fleet.find(ask())
    assert refused.value.retry_after_seconds is not None
    assert refused.value.retry_after_seconds > 0
    assert health.why in refused.value.detail
    assert health.why not in refused.value.message


def test_f37_a_backend_without_a_price_is_no_candidate_and_not_a_free_one(fleet, ask) -> None:
    del fleet.prices["edge-large"]
    candidates, exclusions = fleet.find(ask())
    assert ids(candidates) == ALL - EDGE_LARGE
    assert said(exclusions) == {"edge-large": "no price in force"}
    fleet.prices.clear()
    with pytest.raises(Unavailable):
        fleet.find(ask())


FLEX = ServiceTier("flex", TokenRates(200_000_000, 50_000_000, 200_000_000, 800_000_000))


def test_a_price_without_rates_for_the_service_tier_is_no_price_and_a_lease_needs_none(fleet, ask) -> None:
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], service_tiers=(FLEX,))
    candidates, exclusions = fleet.find(ask(service_tier="priority"), are_holds_wanted=True)
    assert ids(candidates) == ALL - CLOUD
    assert said(exclusions) == {"cloud-large": "its price has no rates for the service tier `priority`"}
    assert ids(fleet.find(ask(service_tier="flex"))[0]) == ids(fleet.find(ask())[0]) == ALL


@pytest.mark.parametrize(
    ("tiers", "hint"), [((), "Leave `service_tier` out."), ((FLEX,), "Ask for flex, or for none.")]
)
def test_where_nobody_has_rates_for_the_service_tier_it_is_a_bad_request_that_says_so(fleet, ask, tiers, hint) -> None:
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], service_tiers=tiers)
    fleet.scope = ("cloud-large",)
    with pytest.raises(BadRequest) as refused:
        fleet.find(ask(service_tier="priority"))
    assert refused.value.param == "service_tier"
    assert refused.value.message == f"What serves 'auto' has no price for the service tier 'priority'. {hint}"


def test_the_quote_and_the_hold_are_of_the_service_tier_that_is_asked_for(fleet, ask) -> None:
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], service_tiers=(FLEX,))
    own = replace(fleet.prices["cloud-large"], rates=FLEX.rates, service_tiers=())

    def seen(**asked) -> list[int]:
        candidates, _ = fleet.find(ask(completion_tokens_max=100, body_bytes=900, **asked), are_holds_wanted=True)
        (one,) = [found for found in candidates if found.replica.id in CLOUD]
        return [
            one.marginal_nanousd,
            one.allocated_nanousd,
            one.standard_nanousd,
            one.hold_nanousd,
            one.list_nanousd_per_million,
        ]

    plain, flex = seen(), seen(service_tier="flex")
    fleet.prices["cloud-large"] = own
    assert seen() == flex
    assert all(cheaper < dearer for cheaper, dearer in zip(flex, plain, strict=True))


def test_a_finder_that_was_asked_for_a_service_tier_knows_the_plain_price_still(fleet, ask) -> None:
    finder = fleet.finder()
    for tier, found in (("", ALL), ("priority", ALL - CLOUD), ("", ALL)):
        assert ids(fleet.find(ask(service_tier=tier), finder=finder)[0]) == found


SEARCH = HostedTools((("web_search", 4),), 4)
FEES = (("file_search", 2_500_000), ("web_search", 10_000_000))


def test_where_it_must_be_held_a_price_without_a_fee_for_a_tool_is_no_price_and_a_lease_needs_none(fleet, ask) -> None:
    candidates, exclusions = fleet.find(ask(hosted_tools=SEARCH), are_holds_wanted=True)
    assert ids(candidates) == ALL - CLOUD
    assert said(exclusions) == {"cloud-large": "its price has no fee for calls of `web_search`"}
    assert ids(fleet.find(ask(hosted_tools=SEARCH))[0]) == ALL, "without a budget it is booked as unpriced"
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], tool_call_nanousd=FEES)
    assert ids(fleet.find(ask(hosted_tools=SEARCH), are_holds_wanted=True)[0]) == ALL
    both = HostedTools((("code_interpreter", 1), ("web_search", 4), ("x_search", 1)), 6)
    _, exclusions = fleet.find(ask(hosted_tools=both), are_holds_wanted=True)
    assert said(exclusions) == {"cloud-large": "its price has no fee for calls of `code_interpreter`, `x_search`"}


def test_where_nobody_has_a_fee_for_a_tool_it_is_a_bad_request_that_says_so(fleet, ask) -> None:
    fleet.scope = ("cloud-large",)
    with pytest.raises(BadRequest) as refused:
        fleet.find(ask(hosted_tools=SEARCH), are_holds_wanted=True)
    assert refused.value.param == "web_search_options"
    assert "'auto' has no price for calls of web_search," in refused.value.message
    with pytest.raises(BadRequest) as refused:  # the tier is the first thing that is missing
        fleet.find(ask(hosted_tools=SEARCH, service_tier="flex"), are_holds_wanted=True)
    assert refused.value.param == "service_tier"


def test_the_quote_has_one_call_of_each_tool_and_the_hold_all_that_there_can_be(fleet, ask) -> None:
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], tool_call_nanousd=FEES)
    fleet.scope = ("cloud-large",)

    def seen(tools: HostedTools | None) -> list[int]:
        (one, *_) = fleet.find(
            ask(completion_tokens_max=100, body_bytes=10**7, hosted_tools=tools), are_holds_wanted=True
        )[0]
        return [one.marginal_nanousd, one.allocated_nanousd, one.standard_nanousd, one.hold_nanousd]

    plain = seen(None)
    both = HostedTools((("file_search", 7), ("web_search", 7)), 7)
    for tools, expected, held in ((SEARCH, 10_000_000, 40_000_000), (both, 12_500_000, 70_000_000)):
        assert seen(tools) == [figure + expected for figure in plain[:3]] + [plain[3] + held]


def test_what_a_search_finds_may_fill_the_window(fleet, ask) -> None:
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], tool_call_nanousd=FEES)
    fleet.scope = ("cloud-large",)

    def held(tools: HostedTools | None, body_bytes: int) -> int:
        asked = ask(completion_tokens_max=100, body_bytes=body_bytes, hosted_tools=tools)
        return fleet.find(asked, are_holds_wanted=True)[0][0].hold_nanousd

    assert held(SEARCH, 900) == held(None, 10**7) + 40_000_000 > held(None, 900) + 40_000_000


def test_a10_a_price_of_zero_is_quoted_as_zero(fleet, ask) -> None:
    fleet.prices["cloud-large"] = replace(fleet.prices["cloud-large"], rates=TokenRates(0, 0, 0, 0))
    quotes = {found.backend.name: found.quote.marginal_nanousd for found in fleet.find(ask())[0]}
    assert quotes["cloud-large"] == 0 < quotes["edge-small"]


def test_a10_the_quote_is_of_this_request_and_weighs_its_prompt_and_its_answer(fleet, ask) -> None:
    def quoted(prompt_tokens: int, completion_tokens: float) -> int:
        candidates, _ = fleet.find(ask(prompt_tokens), Prediction(0.5, completion_tokens, "chat", 0.0))
        return next(found.quote.marginal_nanousd for found in candidates if found.backend.name == "cloud-large")

    # $0.40 and $1.60 a million: 1,000 + 10 tokens against 10 + 1,000
    assert quoted(1000, 10.0) == 416_000
    assert quoted(10, 1000.0) == 1_604_000


def test_a_busy_replica_is_forecast_later_and_quoted_dearer(fleet, ask) -> None:
    fleet.loads["edge-small/1"] = Load(attempts=30, prefill_tokens=9000, decoding=25, context_tokens=40_000)
    by_id = {found.replica.id: found for found in fleet.find(ask())[0]}
    busy, idle = by_id["edge-small/1"], by_id["edge-small/2"]
    assert busy.load == fleet.loads["edge-small/1"]
    assert busy.ttft_seconds > idle.ttft_seconds
    assert busy.tpot_seconds > idle.tpot_seconds
    assert busy.quote.marginal_nanousd > idle.quote.marginal_nanousd


def test_a_replica_that_was_found_slower_than_its_profile_is_forecast_so_and_priced_as_before(fleet, ask) -> None:
    before = {found.replica.id: found for found in fleet.find(ask())[0]}
    fleet.drifts.follow({"edge-small/1": next(iter(fleet.profiles.values()))})
    drift = fleet.drifts.of("edge-small/1")
    drift.ttft.ratio, drift.tpot.ratio = 1.5, 1.25
    after = {found.replica.id: found for found in fleet.find(ask())[0]}
    slow, as_was = after["edge-small/1"], before["edge-small/1"]
    rtt = as_was.backend.pool.rtt_seconds
    assert slow.ttft_seconds - rtt == pytest.approx(1.5 * (as_was.ttft_seconds - rtt))
    assert slow.tpot_seconds == pytest.approx(1.25 * as_was.tpot_seconds)
    assert slow.quote.allocated_nanousd > as_was.quote.allocated_nanousd
    assert slow.quote.standard_nanousd == as_was.quote.standard_nanousd
    assert slow.quote.marginal_nanousd == as_was.quote.marginal_nanousd
    assert after["edge-small/2"] == before["edge-small/2"]


def test_other_peoples_work_counts_by_the_scrape(fleet, ask) -> None:
    fleet.scrapes["edge-small/1"] = Scrape(NOW - 1, running=25, waiting=5)
    by_id = {found.replica.id: found for found in fleet.find(ask())[0]}
    assert by_id["edge-small/1"].ttft_seconds > by_id["edge-small/2"].ttft_seconds


def test_a_stale_scrape_is_not_believed_but_its_age_is_feared(fleet, ask) -> None:
    fresh = fleet.find(ask())[0]
    fleet.scrapes["edge-small/1"] = Scrape(NOW - 12.0, running=0, waiting=0)
    candidates, exclusions = fleet.find(ask())
    assert ids(candidates) == ALL
    assert exclusions == []
    by_id = {found.replica.id: found for found in candidates}
    before = {found.replica.id: found for found in fresh}
    assert by_id["edge-small/1"].ttft_seconds == pytest.approx(before["edge-small/1"].ttft_seconds + 12.0)
    assert by_id["edge-small/1"].quote == before["edge-small/1"].quote
    assert by_id["edge-small/2"] == before["edge-small/2"]


def test_the_network_is_part_of_the_forecast(fleet, ask) -> None:
    near = {found.replica.id: found.ttft_seconds for found in fleet.find(ask())[0]}
    for found in list(fleet.backends):
        fleet.change(found.name, pool=replace(found.pool, rtt_seconds=found.pool.rtt_seconds + 0.5))
    far = {found.replica.id: found.ttft_seconds for found in fleet.find(ask())[0]}
    assert far == pytest.approx({replica: seconds + 0.5 for replica, seconds in near.items()})


def test_quality_and_level_go_by_tier(fleet, ask) -> None:
    candidates, _ = fleet.find(ask(), Prediction(0.8, 100.0, "chat", 0.5))
    assert {(found.backend.tier, found.tier_level, round(found.quality, 9)) for found in candidates} == {
        ("small", 0, 0.6),
        ("large", 1, 1.0),
    }


@pytest.mark.parametrize(
    ("prediction", "small_ratio", "cloud_ratio", "expected"),
    [
        (Prediction(0.8, 100.0, "chat", 0.5), 1.0, 1.0, {"edge-small": 0.6, "edge-large": 1.0, "cloud-large": 1.0}),
        (Prediction(0.8, 100.0, "chat", 0.5), 0.9, 0.98, {"edge-small": 0.54, "edge-large": 1.0, "cloud-large": 0.98}),
        (Prediction(1.0, 100.0, "chat", 0.0), 0.9, 0.5, {"edge-small": 0.9, "edge-large": 1.0, "cloud-large": 0.5}),
        (None, 0.9, 0.98, {"edge-small": 0.9, "edge-large": 1.0, "cloud-large": 0.98}),
    ],
)
def test_a_quality_is_the_tiers_times_what_the_backend_keeps_of_it(
    fleet, ask, prediction, small_ratio, cloud_ratio, expected
) -> None:
    fleet.change("edge-small", quality_ratio=small_ratio)
    fleet.change("cloud-large", quality_ratio=cloud_ratio)
    candidates, _ = fleet.find(ask(), prediction)
    assert {found.backend.name: found.quality for found in candidates} == pytest.approx(expected)


def test_what_a_backend_keeps_of_its_quality_changes_nothing_else(fleet, ask) -> None:
    prediction = Prediction(0.8, 100.0, "chat", 0.5)

    def told():
        members = ("ttft_seconds", "tpot_seconds", "quote", "hold_nanousd", "tier_level", "completion_tokens")
        found, _ = fleet.find(ask(), prediction, are_holds_wanted=True)
        return {one.replica.id: [getattr(one, name) for name in members] for one in found}

    before = told()
    for name in ("edge-small", "edge-large", "cloud-large"):
        fleet.change(name, quality_ratio=0.5)
    assert told() == before


@pytest.mark.parametrize(
    ("prediction", "members", "tokens"),
    [
        (Prediction(0.5, 100.0, "chat", 0.0), {}, 100.0),
        (Prediction(0.5, 100.0, "chat", 0.0), {"completion_tokens_max": 40}, 40.0),
        (Prediction(0.5, 100.0, "chat", 0.0), {"completion_tokens_max": 400, "choices": 3}, 300.0),
        (None, {}, COMPLETION_TOKENS_UNKNOWN),
        (None, {"endpoint": Endpoint.TRANSCRIPTIONS}, pytest.approx(300 / 50 * 2.5 * 4 / 3)),  # six seconds of speech
        (None, {"endpoint": Endpoint.EMBEDDINGS}, 0.0),
        (None, {"endpoint": Endpoint.TOKENIZE}, 0.0),
    ],
)
def test_the_answer_is_expected_as_long_as(ask, prediction, members, tokens) -> None:
    assert expected_completion_tokens(ask(300, **members), prediction) == tokens


def test_tokenizing_a_long_prompt_is_quoted_no_dearer_than_a_short_one(fleet, ask) -> None:
    fleet.change("edge-small", capabilities=frozenset({Capability.TOKENIZE}))
    short, _ = fleet.find(ask(1, endpoint=Endpoint.TOKENIZE))
    long, _ = fleet.find(ask(10**6, endpoint=Endpoint.TOKENIZE))
    assert [found.quote for found in short] == [found.quote for found in long]


def test_finding_changes_nothing_that_the_next_request_sees(fleet, ask) -> None:
    fleet.change("cloud-large", capabilities=frozenset({Capability.CHAT, Capability.VISION}))
    fleet.health["edge-small/1"] = EJECTED
    first = fleet.find(ask(9000))
    assert fleet.find(ask(9000)) == first
    fleet.health["edge-small/1"] = UP
    assert ids(fleet.find(ask())[0]) == ALL


def test_what_the_prefix_cache_holds_makes_the_answer_earlier_and_the_quote_smaller(fleet, ask) -> None:
    marks = (PrefixMark(1, 1500), PrefixMark(2, 2000))
    fleet.prefixes.follow({"edge-small/1": 100_000, "cloud-large/1": 100_000})
    before = {found.replica.id: found for found in fleet.find(ask(2000, prefix=marks))[0]}
    for replica in ("edge-small/1", "cloud-large/1"):
        fleet.prefixes.sent(replica, marks[:1])
    after = {found.replica.id: found for found in fleet.find(ask(2000, prefix=marks))[0]}
    for replica in ("edge-small/1", "cloud-large/1"):
        warm, cold = after[replica], before[replica]
        assert (warm.cached_tokens, cold.cached_tokens) == (1500, 0)
        assert warm.marginal_nanousd < cold.marginal_nanousd
        assert warm.standard_nanousd < cold.standard_nanousd
        assert warm.allocated_nanousd < cold.allocated_nanousd
    assert after["edge-small/1"].ttft_seconds < before["edge-small/1"].ttft_seconds
    assert after["edge-small/2"] == before["edge-small/2"]


def test_moving_a_conversation_costs_the_tokens_that_must_be_computed_anew(fleet, ask) -> None:
    """The price of switching is the difference between two equal replicas of which one holds the prefix."""
    marks = (PrefixMark(1, 1500), PrefixMark(2, 2000))
    fleet.prefixes.follow({"edge-small/1": 100_000})
    fleet.prefixes.sent("edge-small/1", marks[:1])
    by_id = {found.replica.id: found for found in fleet.find(ask(2000, prefix=marks))[0]}
    stay, move = by_id["edge-small/1"], by_id["edge-small/2"]
    lease = Lease(fleet.prices["edge-small"], fleet.profiles["l4"])
    lost_nanousd = 1500 * lease.cache_saving_seconds * lease.nanousd_per_second * IDLE_SCARCITY
    assert move.marginal_nanousd - stay.marginal_nanousd == pytest.approx(lost_nanousd, abs=1)


def test_a_busy_holder_of_the_prefix_is_left_when_waiting_costs_more_than_computing(fleet, ask) -> None:
    marks = (PrefixMark(1, 1500), PrefixMark(2, 2000))
    fleet.prefixes.follow({"edge-small/1": 100_000})
    fleet.prefixes.sent("edge-small/1", marks[:1])
    sticky = []
    for others in range(0, 40, 2):
        fleet.loads["edge-small/1"] = Load(others, 0, others, 1000 * others)
        by_id = {found.replica.id: found for found in fleet.find(ask(2000, prefix=marks))[0]}
        sticky.append(by_id["edge-small/1"].marginal_nanousd < by_id["edge-small/2"].marginal_nanousd)
    assert sticky[0]
    assert not sticky[-1]
    assert sticky == sorted(sticky, reverse=True)


def test_a_provider_caches_no_short_prefix(fleet, ask) -> None:
    marks = (PrefixMark(1, 900), PrefixMark(2, 2000))
    fleet.prefixes.follow({"cloud-large/1": 100_000})
    fleet.prefixes.sent("cloud-large/1", marks[:1])
    by_id = {found.replica.id: found for found in fleet.find(ask(2000, prefix=marks))[0]}
    assert by_id["cloud-large/1"].cached_tokens == 0


def test_an_outlook_is_made_anew_when_anything_it_rests_on_changes(fleet, ask) -> None:
    finder = fleet.finder()

    def ttft() -> float:
        return fleet.find(ask(), finder=finder)[0][0].ttft_seconds

    seen = [ttft(), ttft()]
    assert seen[0] == seen[1]
    fleet.loads["edge-small/1"] = Load(9, 9000, 0, 0)
    seen.append(ttft())
    fleet.scrapes["edge-small/1"] = Scrape(NOW, running=30, waiting=9)
    seen.append(ttft())
    assert len(set(seen)) == 3
    fleet.scrapes.clear()
    fleet.loads.clear()
    assert ttft() == seen[0]


@pytest.mark.parametrize("prompt_tokens", [0, 1, 300, 5000, 8100])
@pytest.mark.parametrize(
    "load", [Load(), Load(9, 2000, 8, 9000), Load(60, 0, 60, 300_000), Load(300, 0, 300, 10_000), Load(3, 8190, 2, 100)]
)
def test_what_is_forecast_and_quoted_in_passing_is_what_an_appraisal_says(fleet, ask, prompt_tokens, load) -> None:
    profile = next(iter(fleet.profiles.values())).model_copy(
        update={
            "expert_read_seconds": 5e-3, "expert_miss_ratio": 0.999, "token_seconds": 1e-6, "request_overhead_seconds": 2e-3,
            "attention_seconds_per_pair": 1e-11,
        }
    )  # fmt: skip
    fleet.profiles = dict.fromkeys(fleet.profiles, profile)
    fleet.loads["edge-small/1"] = load
    fleet.scrapes["edge-small/1"] = scrape = Scrape(NOW, running=5, waiting=1, kv_usage_ratio=0.2)
    found = next(one for one in fleet.find(ask(prompt_tokens))[0] if one.replica.id == "edge-small/1")
    said = Lease(fleet.prices["edge-small"], profile).appraise(load, scrape, prompt_tokens, found.completion_tokens)
    assert found.ttft_seconds - found.backend.pool.rtt_seconds == pytest.approx(said.ttft_seconds)
    assert found.tpot_seconds == pytest.approx(said.tpot_seconds)
    assert found.marginal_nanousd == pytest.approx(said.quote.marginal_nanousd, abs=1)
    assert found.quote.allocated_nanousd == pytest.approx(said.quote.allocated_nanousd, abs=1)


def test_egress_is_in_the_quote_where_it_is_configured(fleet, ask) -> None:
    free = {found.replica.id: found for found in fleet.find(ask(is_streaming=True))[0]}
    fleet.change("cloud-large", pool=replace(fleet.backends[-1].pool, egress_nanousd_per_gb=90_000_000))
    paid = {found.replica.id: found for found in fleet.find(ask(is_streaming=True))[0]}
    bytes_out = ANSWER_BYTES + COMPLETION_TOKENS_UNKNOWN * STREAMED_BYTES_PER_TOKEN
    added = paid["cloud-large/1"].marginal_nanousd - free["cloud-large/1"].marginal_nanousd
    assert added == round(bytes_out * 0.09)
    assert paid["cloud-large/1"].standard_nanousd == free["cloud-large/1"].standard_nanousd
    assert paid["edge-small/1"] == free["edge-small/1"]
