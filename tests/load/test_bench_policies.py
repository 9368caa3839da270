"""The comparison of policies live: what its figures mean, what it sends, and what a run with preemptions comes to."""

from math import inf
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from load.bench.answers import read_outcomes
from load.bench.comparison.command import HERE, scenarios
from load.bench.live.bill import lease_usd
from load.bench.live.case import FLEET, FLEET_PRICES, TENANT, TTFT_SECONDS_MAX, Case
from load.bench.live.page import LeftOut, Result, page
from load.bench.live.spot import LISTS, found_by_lists
from load.bench.policies import SETTINGS, policies
from load.demo.fleet import read_fleet, replica_specs, router_config
from load.drive.outcome import Outcome
from load.emulator.reply import ReplyOptions, Style, plan_reply
from load.simulate.happenings import Absence
from router.ledger.store import Lease
from router.selection.loader import load_policy, policy_names

RIGHT = {"easy": (1, 1), "hard": (0, 1), "trap": (1, 0)}
CASE = Case.of_flags(FLEET, 30, 0, 1)
SECOND_NS = 10**9


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
    assert "¹ The client fell behind" in page([result((question, late))], RIGHT, CASE)
    assert "fell behind" not in page([result(outcome("easy", "small"))], RIGHT, CASE)


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


def test_without_a_scenario_requests_come_at_the_traces_times_and_again_from_its_beginning() -> None:
    twice_as_fast = Case.of_flags(FLEET, 400, 0, 2)
    dues = [session[0].arrival.seconds for session in twice_as_fast.sessions]
    assert dues == sorted(dues)
    assert 300 < dues[-1] < 400  # the trace has 600 s
    once = Case.of_flags(FLEET, 30, 0, 1)
    assert [due * 2 for due in dues if due < 15] == [session[0].arrival.seconds for session in once.sessions]
    assert [turn.number for session in once.sessions for turn in session] == list(range(len(once.sessions)))


def test_a_scenario_is_sent_as_its_file_says() -> None:
    case = Case.of_scenario(scenarios()["chat_metered"])
    assert (case.seconds, case.warmup_seconds, case.seed) == (120, 20, 11)
    assert (case.objectives.ttft_seconds_max, case.objectives.tpot_seconds_max) == (2.0, 0.1)
    assert case.fleet == HERE / "chat_metered_fleet.yaml"
    assert case.terms is not None
    by_backend = {spec.model: spec.profile for spec in case.terms.of(read_fleet(case.fleet), "key", 8)}
    assert by_backend["gpt-4o-mini"] != by_backend["gpt-4.1"]
    lengths = sorted(turn.arrival.completion_tokens for session in case.sessions for turn in session)
    assert sorted(case.terms.completion_tokens) == lengths


@pytest.mark.parametrize(("name", "factor"), [("chat", 0.5), ("bursts", 0.5)])
def test_a_scenario_half_as_fast_has_half_of_the_requests(name: str, factor: float) -> None:
    whole, slow = (len(Case.of_scenario(scenarios()[name], speed=speed).sessions) for speed in (1.0, factor))
    assert slow / whole == pytest.approx(factor, rel=0.15)


def test_the_next_turn_of_an_agent_says_all_that_was_said_before() -> None:
    case = Case.of_scenario(scenarios()["agents"])
    session = next(session for session in case.sessions if len(session) > 2)
    first, second, third = (
        case.workload.request(turn.number, turn.arrival)[1]["messages"][0]["content"] for turn in session[:3]
    )
    assert len(first) < len(second) < len(third)
    whole_blocks = len(first) * 9 // 10  # the last block may be cut
    assert second.startswith(first[:whole_blocks])
    assert third.startswith(second[: len(second) * 9 // 10])


def test_what_is_only_simulated_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prices.change.yaml"
    whole = scenarios()["spot"].read_text().replace("config: ", f"config: {HERE}/")
    file.write_text(whole + "price_changes: [{at_seconds: 9, backend: cloud-large, factor: 2}]\n")
    done = CliRunner().invoke(policies, ["--scenario", str(file)])
    assert done.exit_code == 2
    assert "price_changes, which is simulated alone" in done.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--scenario", "nowhere"], "there is no nowhere"),
        (["--scenario", "spot", "--policy", "best_ever"], "there is no best_ever"),
        (["--scenario", "spot", "--warmup", "300"], "takes all of the 240 s"),
        (["--scenario", "spot", "--fleet", str(FLEET)], "a scenario has its fleet"),
        (["--seed", "7"], "--seed is of a scenario"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(arguments: list[str], why: str) -> None:
    done = CliRunner().invoke(policies, arguments)
    assert done.exit_code == 2
    assert why in done.output


def test_answers_are_as_long_as_the_scenarios() -> None:
    style = Style(completion_tokens=(7, 30))
    lengths = {
        len(plan_reply(list(range(4, 4 + number)), ReplyOptions(1000), style).token_ids) for number in range(9, 40)
    }
    assert lengths == {7, 30}


# The price is a dollar a second; it is booked up to 50 s.
@pytest.mark.parametrize(
    ("started", "ended", "usd"),
    [
        (0, None, 60),  # it runs before, and goes on after
        (30, None, 50),  # it begins in between
        (0, 50, 30),  # and ends
        (30, 50, 20),
        (0, 15, 0),  # it was before
        (90, None, 0),  # or after
    ],
)
def test_a_lease_is_paid_for_its_part_of_the_time(started: int, ended: int | None, usd: float) -> None:
    at = ended or max(50, started + 1)
    lease = Lease(
        "l", "r", "pool", "backend", "price", started * SECOND_NS, at * SECOND_NS, ended and ended * SECOND_NS,
        bill_nanousd=(at - started) * SECOND_NS,
    )  # fmt: skip
    assert lease_usd(lease, 20 * SECOND_NS, 80 * SECOND_NS) == pytest.approx(usd)


def test_only_backends_that_lose_replicas_are_found_by_lists() -> None:
    fleet = read_fleet(HERE / "spot_fleet.yaml")
    config = found_by_lists(fleet, [Absence("spot-large-2", 1, 2, inf)])
    backends = {backend["name"]: backend for pool in config["pools"] for backend in pool["backends"]}
    assert backends["spot-large"]["discovery"]["file"] == f"{LISTS}/spot-large.yaml"
    assert "replicas" not in backends["spot-large"]
    assert [name for name, backend in backends.items() if "discovery" in backend] == ["spot-large"]


def test_a_policy_that_cannot_serve_the_fleet_is_told_of() -> None:
    told = page([], RIGHT, CASE, [LeftOut("edge_first", "it needs an edge")])
    assert "- edge_first is left out: it needs an edge" in told


def test_a_policy_that_the_fleet_does_not_suit_is_left_out_with_a_line() -> None:
    done = CliRunner().invoke(
        policies, ["--scenario", "bursts", "--policy", "edge_first", "--seconds", "5", "--warmup", "0"]
    )
    assert done.exit_code == 0, done.output
    assert "edge_first is left out: the policy `edge_first` needs an edge" in done.output


def test_a_run_with_a_preemption_pays_no_lease_while_the_replica_is_away(tmp_path: Path) -> None:
    file = tmp_path / "taken.yaml"
    file.write_text(
        f"""
config: {HERE}/spot_fleet.yaml
rate: 3
seconds: 9
warmup_seconds: 1
metered_profiles: {{cloud-large: h100x4-llama-3.1-70b-bf16}}
preemptions: [{{replica: spot-large-1, at_seconds: 2, notice_seconds: 1, back_after_seconds: 4}}]
seeds: [1]
"""
    )
    out = tmp_path / "section.md"
    done = CliRunner().invoke(
        policies, ["--scenario", str(file), "--policy", "spot_first", "--out", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    section = out.read_text()
    assert "Taken away, with a notice before: spot-large-1 after 3 s." in section
    [told] = [line for line in section.splitlines() if line.startswith("- spot_first: ")]
    leases = {
        name: float(usd.removeprefix("$"))
        for name, usd in (one.split(" ") for one in told.partition("leases ")[2].split(", "))
    }
    assert leases["central-large"] == pytest.approx(7.56 * 8 / 3600, abs=1e-4)
    both_all_the_time = 2 * 3.4697 * 8 / 3600
    assert both_all_the_time * 0.7 < leases["spot-large"] < both_all_the_time * 0.9  # one of two for half of it
