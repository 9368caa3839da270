"""The comparison of policies: what its figures mean. (That it runs, `python -m load.bench.policies` shows; it takes minutes.)"""

from pathlib import Path

import pytest
import yaml

from load.bench.policies import FLEET, FLEET_PRICES, SETTINGS, TENANT, TTFT_SECONDS_MAX, Result, page, read_outcomes
from load.demo.fleet import read_fleet, replica_specs, router_config
from load.drive.outcome import Outcome
from router.selection.loader import load_policy, policy_names

RIGHT = {"easy": (1, 1), "hard": (0, 1), "trap": (1, 0)}


def outcome(question: str, tier: str, *, first: float = 1.0, end: float = 2.0, error: str = "") -> tuple[str, Outcome]:
    one = Outcome(
        0, 10.0, 10.0, is_streamed=True, first_seconds=10 + first, ended_seconds=10 + end, error=error, tier=tier
    )
    one.completion_tokens = 101
    return question, one


def result(*outcomes: tuple[str, Outcome]) -> Result:
    return Result("mine", outcomes, 0.006, 0.002, 0.004, 4_000_000, {"edge": len(outcomes)})


def cells(*outcomes: tuple[str, Outcome]) -> dict[str, str]:
    names = ("policy", "bill", "bought", "charged", "tokens", "p50", "p99", "goodput", "quality", "small", "failed")
    return dict(zip(names, result(*outcomes).row(RIGHT), strict=True))


def test_the_bill_is_leases_and_tokens_bought_for_all_that_was_asked() -> None:
    told = cells(
        outcome("easy", "small"),
        outcome("hard", "large"),
        outcome("hard", "", error="http_503"),
        outcome("easy", "small"),
    )
    assert (told["bill"], told["bought"], told["charged"], told["tokens"]) == ("2.000", "0.500", "1.000", "0.002")
    assert (told["small"], told["failed"]) == ("67%", "1")


@pytest.mark.parametrize(
    ("outcomes", "goodput"),
    [
        ([outcome("easy", "small")], "100.0%"),
        ([outcome("easy", "small", first=TTFT_SECONDS_MAX + 0.01, end=3.0)], "0.0%"),
        ([outcome("easy", "small", end=11.1)], "0.0%"),  # more than 0.1 s a token
        ([outcome("easy", "small"), outcome("easy", "", error="http_503")], "50.0%"),
    ],
)
def test_goodput_is_of_all_that_was_asked_and_by_both_objectives(
    outcomes: list[tuple[str, Outcome]], goodput: str
) -> None:
    assert cells(*outcomes)["goodput"] == goodput


@pytest.mark.parametrize(
    ("outcomes", "quality"),
    [
        ([outcome("easy", "small"), outcome("hard", "large")], "100.0%"),
        ([outcome("easy", "small"), outcome("hard", "small")], "50.0%"),
        (
            [outcome("easy", "small"), outcome("trap", "small")],
            "200.0%",
        ),  # the small one knew what the large one did not
    ],
)
def test_quality_is_against_what_the_large_tier_would_have_got_right(outcomes, quality: str) -> None:
    assert cells(*outcomes)["quality"] == quality


def test_a_client_that_fell_behind_is_told_of() -> None:
    question, late = outcome("easy", "small")
    late.sent_seconds = 11.0
    assert "¹ The client fell behind" in page([result((question, late))], RIGHT, 30, 1)
    assert "fell behind" not in page([result(outcome("easy", "small"))], RIGHT, 30, 1)


def test_it_is_known_of_every_question_who_answers_it_well() -> None:
    right = read_outcomes()
    assert len(right) == 360
    assert {value for pair in right.values() for value in pair} == {0, 1}


def test_what_it_runs_is_there() -> None:
    settings = yaml.safe_load(SETTINGS.read_text())
    runs = [
        *settings["parameters"].items(),
        *((run["policy"], run["parameters"]) for run in settings["variants"].values()),
    ]
    for name, parameters in runs:
        load_policy(name, parameters)
    assert set(settings["left_out"]) <= set(policy_names())
    fleet = read_fleet(FLEET)
    assert len(replica_specs(fleet, "key")) == 4
    config = router_config(fleet, ["http://r"] * 4, {TENANT: "key"}, "pepper", Path("ledger.sqlite"))
    assert [tenant["name"] for tenant in config["tenants"]] == [TENANT]
    prices = yaml.safe_load(FLEET_PRICES.read_text())["prices"]
    assert {backend["price"] for pool in fleet["pools"] for backend in pool["backends"]} == set(prices)
