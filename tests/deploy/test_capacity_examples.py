"""Each example of a kind of capacity in `deploy/config/capacity/`: it is in order, and the router does with it what it says."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from policies.marginal_cost import MarginalCost
from policies.quality_floor import QualityFloor
from policies.slo import Slo
from router.config_file import load
from router.deployment import deploy
from router.domain.decision import Choice, Policy, Prediction
from router.domain.fleet import UP, Health, HealthState, Load, Snapshot
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt, Terms
from router.pricing.price import LeasedPrice, Purchase

HERE = Path(__file__).parents[2] / "deploy" / "config" / "capacity"
EXAMPLES = sorted(file.stem for file in HERE.glob("*.yaml") if file.stem != "prices")
DAY = date(2026, 11, 26)
ENVIRONMENT = {"CLOUD_API_KEY": "none"}
# 250 that decode completions of 200 tokens to prompts of 1,500, and 80 such prompts that wait.
FULL = Load(
    attempts=330,
    prefill_tokens=80 * 1500,
    decoding=250,
    context_tokens=400_000,
    endings=250 * 1_000_000 // 200,
    renewed_tokens=250 * 1_000_000 // 200 * 1500,
)
LIMITED = Health(False, "rate limited by the backend", 99.0, HealthState.LIMITED)
LEAVING = Health(False, "is being taken away", 0.0, HealthState.LEAVING)


def ranking(
    example: str,
    *,
    model: str = "auto",
    prompt_tokens: int = 500,
    region: str = "",
    loads: Mapping[str, Load] | None = None,
    health: Mapping[str, Health] | None = None,
    prediction: Prediction | None = None,
    request_id: str = "r1",
    endpoint: Endpoint = Endpoint.CHAT,
) -> list[Choice]:
    """How a request for this model is ranked. loads, health: by backend or replica; idle and up where left out."""
    deployment = deploy(load(HERE / f"{example}.yaml", environ=ENVIRONMENT, day=DAY), DAY)
    replicas = [replica for backend in deployment.backends for replica in backend.replicas]

    def of_each(given: Mapping[str, Any] | None) -> dict[str, Any]:
        found = {}
        for one in replicas:
            for name in (one.id, one.backend):
                if given and name in given:
                    found[one.id] = given[name]
        return found

    snapshot = Snapshot(
        {backend.name: backend for backend in deployment.backends},
        {one.id: UP for one in replicas} | of_each(health),
        {},
        deployment.tiers,
    )
    request = InferenceRequest(
        request_id, "t", "k", endpoint, model, True, Prompt("hello", tokens_estimate=prompt_tokens),
        frozenset({Capability(endpoint.value)}), terms=Terms(region=region),
    )  # fmt: skip
    candidates, _ = deployment.finder.find(
        request, deployment.scopes.resolve(model), snapshot, of_each(loads), prediction, 1.0
    )
    return deployment.policies.pick("t", model, 0).policy.rank(request, candidates)


def first(example: str, **told) -> str:
    return ranking(example, **told)[0].candidate.backend.name


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_is_in_order_and_nothing_in_it_is_stale(example: str) -> None:
    loaded = load(HERE / f"{example}.yaml", environ=ENVIRONMENT, day=DAY)
    assert not [one for one in loaded.warnings if "API key" not in str(one)]


@pytest.mark.parametrize(
    ("model", "quality_min", "expected", "cheaper"),
    [("auto", 0.98, "llama-fp8", {"llama-nvfp4", "llama-int4"}), ("draft", 0.94, "llama-nvfp4", set())],
)
@pytest.mark.parametrize("suffices", [0.0, 0.5, 1.0])
def test_the_cheapest_precision_that_keeps_enough_answers(
    model: str, quality_min: float, expected: str, cheaper: set[str], suffices: float
) -> None:
    """cheaper: what would have been, but for the floor."""
    choices = ranking("quantization", model=model, prediction=Prediction(suffices, 200.0, "chat", 0.0))
    candidates = [choice.candidate for choice in choices]
    enough = [one for one in candidates if one.backend.quality_ratio >= quality_min]
    assert candidates[: len(enough)] == sorted(enough, key=lambda one: one.marginal_nanousd)
    assert candidates[0].backend.name == expected
    others = candidates[len(enough) :]
    cost = candidates[0].marginal_nanousd
    assert {one.backend.name for one in others if one.marginal_nanousd < cost} == cheaper
    assert [one.quality for one in others] == sorted((one.backend.quality_ratio for one in others), reverse=True)


def test_a_full_precision_makes_way_for_the_next_that_keeps_enough() -> None:
    assert first("quantization", model="draft", loads={"llama-nvfp4": FULL}) == "llama-int4"
    assert first("quantization", loads={"llama-fp8": FULL}) == "llama-bf16"  # not int4, though it is cheaper


def test_who_asks_for_all_bits_gets_nothing_less() -> None:
    choices = ranking("quantization", model="llama-full", prediction=Prediction(1.0, 200.0, "chat", 0.0))
    assert {choice.candidate.backend.name for choice in choices} == {"llama-bf16"}


def test_work_goes_to_the_generation_whose_token_is_cheapest_until_that_is_full() -> None:
    choices = ranking("generations")
    quotes = [one.candidate.marginal_nanousd for one in choices if "within" in one.reason]
    assert quotes == sorted(quotes)
    cheapest = choices[0].candidate.backend.name
    assert first("generations", loads={cheapest: FULL}) != cheapest


def test_an_owned_generation_stands_among_the_rented_ones_at_the_price_of_ones_books() -> None:
    deployment = deploy(load(HERE / "generations.yaml", environ=ENVIRONMENT, day=DAY), DAY)
    price = deployment.prices["gaudi3"]
    assert isinstance(price, LeasedPrice)
    assert price.purchase is Purchase.OWNED
    assert price.nanousd_per_hour / 1e9 == pytest.approx(2.0, abs=0.005)
    rented = {one.candidate.backend.name: one.candidate for one in ranking("generations")}
    gaudi = rented.pop("gaudi3")
    assert gaudi.tpot_seconds < rented["h100"].tpot_seconds  # its memory is the faster one
    full = dict.fromkeys([name for name in rented if rented[name].marginal_nanousd < gaudi.marginal_nanousd], FULL)
    assert full
    assert first("generations", loads=full) == "gaudi3"


def test_a_prompt_that_would_keep_a_cpu_for_long_goes_elsewhere_unless_its_client_is_patient() -> None:
    places = {one.candidate.backend.name: one.reason for one in ranking("generations", prompt_tokens=8000)}
    assert places["cpu"].startswith("least violation")
    assert first("generations", prompt_tokens=8000, model="patient") == "cpu"


def test_near_is_near_only_for_its_own_region_and_as_long_as_the_prompt_fits() -> None:
    times = {
        region: {
            one.candidate.backend.name: one.candidate.ttft_seconds for one in ranking("near_and_far", region=region)
        }
        for region in ("", "eu-central")
    }
    assert times["eu-central"]["near"] < times[""]["near"]
    assert times["eu-central"]["far"] == times[""]["far"]
    assert first("near_and_far", region="eu-central") == "near"
    assert first("near_and_far", region="eu-central", prompt_tokens=60_000) == "far"
    assert first("near_and_far", region="eu-central", loads={"near": FULL}) == "far"


def test_a_commitment_is_filled_before_what_is_paid_as_it_is_used() -> None:
    assert first("commitments") == "committed"
    assert first("commitments", loads={"committed": FULL}) == "on-demand"
    both = {"committed": FULL, "on-demand": FULL}
    assert first("commitments", loads=both) == "deepinfra"
    assert first("commitments", loads=both, health={"deepinfra": LIMITED}) == "together"


def test_spot_goes_first_but_for_the_share_that_is_kept_elsewhere_and_not_when_it_is_leaving() -> None:
    names = [first("spot", request_id=f"r{number}") for number in range(300)]
    assert 0.05 < names.count("steady") / len(names) < 0.16
    steady = next(number for number, name in enumerate(names) if name == "spot")
    assert first("spot", request_id=f"r{steady}", health={"spot": LEAVING}) == "steady"


def test_accepted_drafts_make_a_token_cheaper() -> None:
    assert first("speculation") == "drafting"
    by_name = {one.candidate.backend.name: one.candidate for one in ranking("speculation")}
    assert by_name["drafting"].tpot_seconds < by_name["plain"].tpot_seconds


def test_once_it_is_learned_whose_drafts_are_accepted_each_kind_has_its_pool() -> None:
    deployment = deploy(load(HERE / "speculation.yaml", environ=ENVIRONMENT, day=DAY), DAY)
    lessons = deployment.finder.lessons
    lessons.follow(deployment.backends, deployment.profiles, 0.5)
    snapshot = Snapshot(
        {backend.name: backend for backend in deployment.backends},
        {replica.id: UP for backend in deployment.backends for replica in backend.replicas},
        {},
        deployment.tiers,
    )
    prompt = Prompt("hello", tokens_estimate=50)
    request = InferenceRequest("r1", "t", "k", Endpoint.CHAT, "auto", True, prompt, frozenset({Capability.CHAT}))

    def firsts(category: str) -> set[str]:
        prediction = Prediction(0.5, 200.0, category, 0.0)
        candidates, _ = deployment.finder.find(
            request, deployment.scopes.resolve("auto"), snapshot, {}, prediction, 1.0
        )
        policies: list[Policy] = [Slo(), MarginalCost(), QualityFloor(quality_min=0.0)]
        return {policy.rank(request, candidates)[0].candidate.backend.name for policy in policies}

    assert (firsts("code"), firsts("chat")) == ({"drafting"}, {"drafting"})
    drafting = lessons.yields.of("drafting")
    assert drafting is not None
    for kind, tokens_per_step in (("code", 3.4), ("chat", 1.2)) * 10:
        drafting.observe(kind, 201, 200 / tokens_per_step * 0.02, 0.02)
    assert (firsts("code"), firsts("chat")) == ({"drafting"}, {"plain"})


def test_speech_goes_to_its_own_pool_and_is_bought_by_the_minute_when_that_is_full() -> None:
    minute = {"endpoint": Endpoint.TRANSCRIPTIONS, "prompt_tokens": 60 * 50}
    by_name = {one.candidate.backend.name: one.candidate for one in ranking("audio", **minute)}
    assert by_name["bought"].marginal_nanousd == 6_000_000
    assert by_name["whisper-l4"].marginal_nanousd < by_name["bought"].marginal_nanousd
    assert by_name["whisper-l4"].completion_tokens == 200.0  # of a hundred and fifty words
    assert first("audio", **minute) == "whisper-l4"
    half_full = Load(attempts=20, prefill_tokens=0, decoding=20, context_tokens=20 * 3000)
    assert first("audio", loads={"whisper-l4": half_full}, **minute) == "whisper-l4"
    waiting = Load(
        attempts=84, prefill_tokens=20 * 180_000, decoding=64, context_tokens=64 * 3000
    )  # twenty hours of sound
    assert first("audio", loads={"whisper-l4": waiting}, **minute) == "bought"
