"""What a ledger knows of its requests is enough to decide on them again, and what it does not know is said."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from laboratories import DAY, PRICES, write_fleet

from load.replay.command import _object, replay
from load.replay.recorded import Recorded, recorded
from load.replay.run import Player
from load.replay.table import differences, moves, recorded_figures, replayed_figures
from load.simulate.scenario import PolicyChoice
from router.pricing.book import PriceBook

SECOND = 10**9
ENVIRON = {"CLOUD_KEY": "sk-x"}
METERED = {"cloud": "h100x4-llama-3.1-70b-bf16"}


def row(request: str, number: int = 1, **members: Any) -> Mapping[str, Any]:
    return {
        "request_id": request, "number": number, "tenant": "a", "endpoint": "chat", "asked_model": "auto",
        "backend": "small", "category": "math", "status": "ok", "prompt_tokens": 1000, "cached_tokens": 0,
        "prompt_tokens_estimate": 1100, "completion_tokens": 100, "completion_tokens_estimate": 140,
        "cost_nanousd": 500, "opened_ns": 5 * SECOND, "first_token_ns": 6 * SECOND, "ended_ns": 9 * SECOND, **members,
    }  # fmt: skip


def test_a_request_is_all_of_its_attempts() -> None:
    failed = row("r", status="failed", backend="large", prompt_tokens=0, completion_tokens=0, cost_nanousd=70)
    second = row("r", 2, opened_ns=7 * SECOND, first_token_ns=8 * SECOND, cached_tokens=640)
    [one], left_out = recorded([second, failed])
    assert (one.backend, one.is_ok, one.cost_nanousd, one.ttft_seconds) == ("small", True, 570, 3.0)
    assert (one.prompt_tokens, one.cached_tokens, one.completion_tokens) == (1000, 640, 100)
    assert not left_out


def test_what_was_not_used_is_what_was_expected_and_what_has_no_price_is_unknown() -> None:
    [one], _ = recorded([row("r", status="failed", prompt_tokens=0, completion_tokens=0, cost_nanousd=None)])
    assert (one.is_ok, one.prompt_tokens, one.completion_tokens, one.cost_nanousd) == (False, 1100, 140, None)
    assert recorded_figures([one])["unpriced"] == 1


def test_requests_come_in_the_order_in_which_they_came_and_what_cannot_be_replayed_is_counted() -> None:
    rows = [row("late", opened_ns=9 * SECOND), row("early"), row("e", endpoint="embeddings"), row("c", backend="cache")]
    found, left_out = recorded(rows)
    assert [one.seconds for one in found] == [0.0, 4.0]
    assert left_out == {"endpoint embeddings": 1, "answered from the response cache": 1}
    assert recorded([]) == ([], {})


def request(number: int) -> Recorded:
    return Recorded(
        seconds=number * 0.7, tenant="a", model="auto", backend="small", category="math", is_streaming=True, is_ok=True,
        prompt_tokens=800, prompt_tokens_estimate=900, cached_tokens=160, completion_tokens=90,
        completion_tokens_estimate=120, cost_nanousd=400_000, ttft_seconds=0.2,
    )  # fmt: skip


REQUESTS = [request(number) for number in range(40)]


@pytest.fixture
def player(tmp_path: Path) -> Callable[..., Player]:
    write_fleet(tmp_path)
    return lambda **members: Player(
        tmp_path / "router.yaml", REQUESTS, ENVIRON, DAY, metered_profiles=METERED, **members
    )


def test_other_policies_move_requests_and_equal_ones_none(player: Callable[..., Player]) -> None:
    one = player()
    small, again = (one.play(PolicyChoice(name="always_small"), 1) for _ in range(2))
    large = one.play(PolicyChoice(name="always_large"), 1)
    assert not moves(small, again)
    assert moves(small, large).total() == len(REQUESTS)
    assert replayed_figures(REQUESTS, small)["same_route_ratio"] == 1.0
    change = differences(
        [replayed_figures(REQUESTS, small)] * 2, [replayed_figures(REQUESTS, large)] * 2
    )  # the same twice
    assert change["usd_charged"].mean > 0
    assert change["quality"].half_width == 0


def test_other_prices_cost_otherwise(player: Callable[..., Player]) -> None:
    prices = yaml.safe_load(PRICES)
    for name in ("prompt_usd_per_million", "cached_usd_per_million", "completion_usd_per_million"):
        prices["prices"]["cloud"][0][name] *= 3
    one = player(book=PriceBook.model_validate(prices))
    policy = PolicyChoice(name="round_robin")
    mine, other = one.play(policy, 1), one.play(policy, 1, at_other_prices=True)
    assert mine.routes == other.routes
    assert other.done.tally.metered_nanousd == pytest.approx(3 * mine.done.tally.metered_nanousd)
    assert other.done.bill.leased_nanousd == mine.done.bill.leased_nanousd


def test_what_was_cached_is_billed_as_cached(player: Callable[..., Player]) -> None:
    tally = player().play(PolicyChoice(name="round_robin"), 1).done.tally
    assert (tally.prompt_tokens, tally.cached_tokens) == (800 * len(REQUESTS), 160 * len(REQUESTS))


def test_difficulty_is_drawn_anew_for_each_seed(player: Callable[..., Player]) -> None:
    one, choice = player(), PolicyChoice(name="quality_floor", parameters={"quality_min": 0.6})
    first, again, other = (one.play(choice, seed).routes for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        (
            PolicyChoice(name="quality_floor", parameters={"quality_min": True}),
            "`parameters.quality_min` is `true`; it must be a number",
        ),
        (PolicyChoice(name="quality_floor", parameters={"quality_min": "much"}), "quality_min"),
        (PolicyChoice(name="quality"), "there is no policy 'quality'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_the_reason(
    player: Callable[..., Player], choice: PolicyChoice, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        player().check(choice)


def test_a_ledger_that_is_not_there_is_no_ledger(tmp_path: Path) -> None:
    result = CliRunner().invoke(replay, ["--ledger", str(tmp_path / "none.sqlite")])
    assert result.exit_code != 0
    assert "none.sqlite" in result.output


@pytest.mark.parametrize(
    ("parameters", "why"),
    [("{quality_min: 1}", "--parameters is no JSON"), ("[1]", "--parameters is a JSON object")],
)
def test_parameters_that_are_no_object_are_told_so(parameters: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _object(parameters)
