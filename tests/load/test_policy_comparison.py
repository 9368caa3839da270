"""The comparison of policies in simulated time: what its figures mean, and that its scenarios can be run."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from load.bench.comparison.command import (
    ENVIRONMENT,
    HERE,
    RECORDED_HERE,
    SETTINGS,
    choices,
    comparison,
    measure,
    scenarios,
)
from load.bench.comparison.judged import Judged, Verdicts
from load.bench.comparison.page import RECORDED, Row, equals, page
from load.simulate.scenario import PolicyChoice
from router.config_file import load
from router.domain.decision import Candidate
from router.domain.fleet import IDLE, Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt
from router.selection.loader import load_policy

MINE = Row("quality_floor", 1.0, 0.0, 0.5, 1.0, 0.2, 1.0, 0.98, 0.93, 0.5, 1.02, 0.0)
ROWS = [
    MINE,
    replace(MINE, policy="cheap and late", usd=0.1, in_time=0.5),
    replace(MINE, policy="cheap and wrong", usd=0.1, quality=0.8),
    replace(MINE, policy="as good", usd=1.5, in_time=0.975, quality=0.925),
    replace(MINE, policy="large tier only, on time", usd=4.0, quality=1.0, small=0.0),
]


def candidate(tier: str, *, quality: float) -> Candidate:
    pool = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
    backend = Backend(
        tier, pool, "m", "m", tier, "fp8", EngineKind.VLLM, 8192, frozenset({Capability.CHAT}), "p", "h", ()
    )
    return Candidate(backend, Replica(f"{tier}/1", tier, "http://h"), IDLE, 0.1, 0.01, 100.0, quality, 1, 1, 1)


def request(text: str) -> InferenceRequest:
    return InferenceRequest("r", "t", "k", Endpoint.CHAT, "auto", True, Prompt(text), frozenset({Capability.CHAT}))


def test_money_is_compared_among_those_that_keep_as_much() -> None:
    assert [row.policy for row in equals(ROWS, "quality_floor")] == [
        "quality_floor",
        "as good",
        "large tier only, on time",
    ]


def test_the_page_says_by_how_much_the_next_is_dearer_and_what_the_large_tier_alone_would_be() -> None:
    told = page({"chat": ROWS}, {"chat": "Mixed chat."}, "2026-11-26", "quality_floor")
    assert "| chat | 1.000, 98.0% in time, 93.0% right | as good 1.500 | -33.3% | 4.000 (-75%), 98.0% in time |" in told
    assert "| cheap and late |" in told
    assert "| **as good** |" in told


def test_answers_are_judged_by_what_real_models_made_of_the_question() -> None:
    judged = Judged(inner="always_small")
    Judged.listening = verdicts = Verdicts({"easy": (1, 1), "hard": (0, 1)})
    try:
        small, large = candidate("small", quality=0.7), candidate("large", quality=1.0)
        for text in ("easy", "hard"):
            judged.rank(request(text), [small])
        judged.rank(request("hard"), [large])
    finally:
        Judged.listening = None
    assert verdicts.quality == pytest.approx(2 / 3)
    assert verdicts.small_ratio == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", scenarios(RECORDED_HERE))
def test_the_fleet_of_a_recorded_trace_is_in_order_and_every_policy_is_made_for_it(name: str) -> None:
    scenario = yaml.safe_load(scenarios(RECORDED_HERE)[name].read_text(encoding="utf-8"))
    fleet = load(RECORDED_HERE / scenario["config"], environ=ENVIRONMENT)
    pools = {pool.name for pool in fleet.config.pools}
    called = {choice.called for choice in choices(name)}
    assert ("spot_first" in called, "edge_first" in called) == ("spot" in pools, "edge" in pools)


@pytest.mark.parametrize("name", scenarios())
def test_every_policy_of_a_scenario_can_be_made_and_its_fleet_is_in_order(name: str) -> None:
    for choice in choices(name):
        load_policy(choice.name, choice.parameters)
    scenario = yaml.safe_load(scenarios()[name].read_text(encoding="utf-8"))
    load(HERE / scenario["config"], environ=ENVIRONMENT)


def test_every_policy_that_the_settings_name_is_one() -> None:
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    for name in {*settings["parameters"], *settings["only"]}:
        load_policy(name, settings["parameters"].get(name, {}))


def test_a_scenario_runs_and_is_told(tmp_path) -> None:
    whole = scenarios()["edge_central"].read_text(encoding="utf-8")
    short = tmp_path / "short.yaml"
    short.write_text(
        whole.replace("seconds: 240", "seconds: 12")
        .replace("warmup_seconds: 20", "warmup_seconds: 2")
        .replace("config: ", f"config: {HERE}/")
    )
    row = measure(short, PolicyChoice(name="always_large"), (1,))
    assert row.quality == 1.0
    assert row.small == 0.0
    assert row.bought_usd == 0.0
    assert 0 < row.usd <= row.usd_in_time


def test_a_recorded_trace_is_looked_for_where_it_is_said_to_be(tmp_path) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    rows = "".join(f"2023-11-16 18:15:{second:02}.0000000,120,40\n" for second in range(10, 40))
    (tmp_path / "azure_code_2023.csv").write_text(header + rows)
    whole = scenarios(RECORDED_HERE)["azure_code"].read_text(encoding="utf-8")
    short = tmp_path / "elsewhere" / "short.yaml"
    short.parent.mkdir()
    short.write_text(
        whole.replace("seconds: 3600", "seconds: 20")
        .replace("warmup_seconds: 60", "warmup_seconds: 2")
        .replace("csv.gz", "csv")
        .replace("config: ", f"config: {RECORDED_HERE}/")
    )
    row = measure(short, PolicyChoice(name="always_large"), (1,), tmp_path)
    assert row.small == 0.0
    assert row.usd > 0
    told = page(
        {"code": [replace(row, policy="quality_floor"), replace(row, policy="large tier only, on time")]},
        {"code": "Code."},
        "2026-11-26",
        "quality_floor",
        RECORDED,
    )
    assert "`load/bench/comparison/recorded/`" in told
    assert "--traces TRACES" in told


def test_a_page_of_some_policies_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(comparison, ["--policy", "pack", "--out", str(tmp_path / "page.md")])
    assert done.exit_code == 2
    assert "leave out --policy" in done.output


def test_one_seed_has_no_interval() -> None:
    row = Row("one", 1.0, None, 0.0, 1.0, 0.1, 0.2, 0.9, 0.8, 0.5, 1.1, 0.0)
    assert (row.cells()[1], row.cells()[6], row.cells()[7]) == ("1.000", "90.0%", "80.0%")
    wide = replace(row, usd_half_width=0.25, in_time_half_width=0.01)
    assert (wide.cells()[1], wide.cells()[6]) == ("1.000 ± 0.250", "90.0% ± 1.0")
