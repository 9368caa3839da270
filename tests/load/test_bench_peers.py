"""What is told of jeton's peers is reckoned alike for all, from what the fleet has served."""

import pytest

from load.bench.answers import read_outcomes
from load.bench.live.case import FLEET
from load.bench.peers import CONTENDERS, Row, cells, litellm_config, markdown, quality_of, row_of
from load.demo.fleet import read_fleet
from load.draws import Mix
from load.drive.outcome import Outcome
from load.traces import Arrival, Trace
from load.workload import Workload, read_prompts

FLEET_READ = read_fleet(FLEET)
PLACES = [(pool, backend) for pool in FLEET_READ["pools"] for backend in pool["backends"] for _ in backend["replicas"]]
WORKLOAD = Workload(
    Trace([Arrival(float(at), 20, 5) for at in range(200)]), read_prompts(), Mix({"auto": 1.0}, {"": 1.0}, 1.0), seed=1
)


def outcome(number: int, tier: str = "") -> Outcome:
    at = 10.0 + number
    return Outcome(number, at, at, True, at + 0.5, at + 1.0, completion_tokens=11, tier=tier)


def served(bought_tokens: int) -> list[dict[str, int]]:
    rows = []
    for pool, _ in PLACES:
        is_cloud = pool["billing"] == "metered"
        tokens = bought_tokens if is_cloud else 1000
        rows.append({"finished": 1, "aborted": 0, "prompt_tokens": tokens, "completion_tokens": tokens})
    return rows


def test_money_is_the_leases_hours_and_what_the_cloud_served_at_its_list_price() -> None:
    row = row_of(CONTENDERS[0], WORKLOAD, [outcome(0), outcome(1)], served(1_000_000), PLACES, 3600.0, "1")
    # two L4 and two A100 for an hour; a million tokens each way of gpt-4.1
    assert row.usd_leased == pytest.approx(2 * 0.7992 + 10.2414)
    assert row.usd_bought == pytest.approx(2.00 + 8.00)
    assert row.small_ratio == pytest.approx(0.5)
    assert row.goodput_ratio == 1.0


def test_quality_is_by_question_where_the_tier_is_told_and_by_share_where_it_is_not() -> None:
    right = list(read_outcomes().values())
    everything = [outcome(number) for number in range(200)]
    assert quality_of(WORKLOAD, everything, 0.0) == 1.0
    all_small = quality_of(WORKLOAD, everything, 1.0)
    assert all_small == quality_of(WORKLOAD, [outcome(number, "small") for number in range(200)], 0.3)
    assert all_small == pytest.approx(sum(s for s, _ in right) / sum(b for _, b in right), abs=0.15)
    assert quality_of(WORKLOAD, [outcome(number, "large") for number in range(200)], 0.3) == 1.0


def test_litellm_gets_every_replica_as_a_deployment_of_one_group() -> None:
    contender = next(one for one in CONTENDERS if one.kind == "litellm")
    offered = [(f"http://{number}", pool, backend) for number, (pool, backend) in enumerate(PLACES)]
    config = litellm_config(contender, offered)
    assert {one["model_name"] for one in config["model_list"]} == {"auto"}
    kinds = [one["litellm_params"]["model"].split("/")[0] for one in config["model_list"]]
    assert kinds == ["hosted_vllm", "hosted_vllm", "hosted_vllm", "openai"]
    assert config["router_settings"] == {"routing_strategy": "simple-shuffle"}


def test_a_row_whose_client_fell_behind_says_so() -> None:
    row = Row("a", "1", "2026-01-01", 60, 100, 1, 0.99, 0.99, 0.2, 1.0, 0.03, 0.9, 0.5, 0.9, 0.5, 1.5)
    assert cells(row)[0] == "a (1) ¹"
    assert cells(row)[1:3] == ["20.000", "10.000"]
    assert "fell behind" in markdown([row], 1.0)


def test_a_router_that_buys_nothing_is_offered_no_cloud() -> None:
    assert {one.kind for one in CONTENDERS if not one.buys} == {"sglang"}
