"""What `/jeton/explain` says of a decision."""

import json

from policies.quality_floor import ON_TIME, QualityFloor
from router.domain.decision import Decision, Prediction
from router.domain.fleet import Health, HealthState
from router.selection.explain import explain


def test_a_decision_is_explained_in_full_and_without_addresses(fleet, ask) -> None:
    fleet.health["edge-small/1"] = Health(False, "failed 5 times in a row", 2000.0, HealthState.EJECTED)
    request, prediction = ask(), Prediction(0.9, 120.0, "chat", 0.1)
    candidates, exclusions = fleet.find(request, prediction)
    choices = QualityFloor().rank(request, candidates)
    decision = Decision("quality_floor", choices, exclusions, prediction, "edge-large")
    told = explain(request, decision, policy=QualityFloor(quality_min=0.6))

    assert json.loads(json.dumps(told)) == told
    assert told["prediction"] == {
        "small_suffices": 0.9,
        "completion_tokens": 120.0,
        "category": "chat",
        "uncertainty": 0.1,
    }
    assert told["features"]["prompt_tokens_estimate"] == request.prompt.tokens_estimate
    assert request.prompt.text not in json.dumps(told["features"]) or not request.prompt.text
    assert told["exclusions"] == [
        {"backend": "edge-small", "replica": "edge-small/1", "why": "failed 5 times in a row"}
    ]
    assert [choice["rank"] for choice in told["ranking"]] == [1, 2, 3]
    first = told["ranking"][0]
    assert (first["replica"], first["reason"]) == (choices[0].candidate.replica.id, ON_TIME)
    marginal = first["quote"]["marginal"]
    assert marginal["nanousd"] == choices[0].candidate.quote.marginal_nanousd
    assert marginal["usd"] == f"0.{marginal['nanousd']:09d}"
    assert "http://" not in json.dumps(told)
    assert told["policy_parameters"] == {"quality_min": 0.6, "ttft_seconds_max": 2.0, "tpot_seconds_max": None}
    summary = told["summary"]
    assert summary.startswith(f"{first['replica']} would answer, by `quality_floor`: {ON_TIME}. Its quality is taken")
    assert f"If it fails, {told['ranking'][1]['replica']} is next: " in summary
    assert summary.endswith("Left out: edge-small/1: failed 5 times in a row.")


def test_a_quality_is_told_with_what_the_backend_keeps_of_its_tiers(fleet, ask) -> None:
    fleet.change("edge-large", quality_ratio=0.97)
    candidates, exclusions = fleet.find(ask())
    choices = QualityFloor(quality_min=0.0).rank(ask(), candidates)
    told = explain(ask(), Decision("quality_floor", choices, exclusions, None, "edge-large"))
    found = {row["backend"]: (row["quality"], row["quality_ratio"]) for row in told["ranking"]}
    assert found["edge-large"] == (0.97, 0.97)
    assert found["cloud-large"] == (1.0, 1.0)


def test_without_a_prediction_there_is_none(fleet, ask) -> None:
    assert explain(ask(), Decision("quality_floor", [], [], None, "edge-large"))["prediction"] is None
