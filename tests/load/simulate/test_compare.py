"""A scenario is simulated with the router's own decisions and prices, the same each time, and its money adds up."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from laboratories import DAY, Ends, MakeLaboratory, write_scenario

from load.__main__ import main
from load.simulate.scenario import PolicyChoice
from load.simulate.table import Figure, figures, front, over_seeds
from load.simulate.world import World


def test_a_run_is_decided_by_its_seed(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    policy = PolicyChoice(name="round_robin")
    first, again, other = (figures(*lab.run(policy, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_bill_is_what_the_replicas_cost_by_the_hour_and_charges_and_idle_are_all_of_it(
    laboratory: MakeLaboratory,
) -> None:
    """Whether or not anybody asks what each attempt paid."""
    itemized: list[World] = []
    together: list[World] = []
    ends = Ends()

    def look_on(world: World) -> None:
        itemized.append(world)
        ends.watch(world)

    lab, policy = laboratory(warmup_seconds=0), PolicyChoice(name="round_robin")
    done, again = lab.simulate(policy, 1, look_on), lab.simulate(policy, 1, together.append)
    tally, billed = done.tally, done.bill
    assert (again.bill, again.tally.useful_nanousd) == (billed, tally.useful_nanousd)
    # A replica that is still at work at the end is paid for until it is done, and no other with it.
    usd_per_hour = {"small/1": 0.80, "small/2": 0.80, "large/1": 7.56}
    nanousd = sum(usd / 3600 * 1e9 * max(60.0, ends.seconds[name]) for name, usd in usd_per_hour.items())
    assert billed.leased_nanousd == pytest.approx(nanousd, abs=8)
    assert len({max(60.0, ends.seconds[name]) for name in usd_per_hour}) > 1
    [world], [other] = itemized, together
    meters = [replica.meter for replica in world.fleet.replicas.values() if replica.meter is not None]
    totals = [replica.total for replica in other.fleet.replicas.values() if replica.total is not None]
    assert len(meters) == len(totals) == len(usd_per_hour)
    assert all(meter.bill == meter.charged_nanousd + meter.idle_nanousd + meter.residue for meter in meters)
    for parts in (meters, totals):
        charged, idle = sum(one.charged_nanousd for one in parts), sum(one.idle_nanousd for one in parts)
        assert charged == tally.useful_nanousd > 0
        assert 0 <= billed.leased_nanousd - charged - idle <= len(parts)
    assert tally.metered_nanousd > 0
    assert dict(world.decider.fleet.loads) == dict(other.decider.fleet.loads) == {}


def test_policies_send_requests_where_they_say(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    small, _ = lab.run(PolicyChoice(name="always_small"), 1)
    large, _ = lab.run(PolicyChoice(name="always_large"), 1)
    assert set(small.backends) == {"small"}
    assert set(large.backends) <= {"large", "cloud"}
    assert small.quality / small.requests < large.quality / large.requests == 1.0


def test_requests_wait_for_the_network_only_where_there_is_one(laboratory: MakeLaboratory) -> None:
    policy = PolicyChoice(name="always_small")
    far, _ = laboratory(rate=0.2).run(policy, 1)
    near, _ = laboratory(rate=0.2, has_network=False).run(policy, 1)
    assert far.ttft.mean is not None
    assert near.ttft.mean is not None
    assert far.ttft.mean > near.ttft.mean + 0.004


def test_a_session_goes_on_when_its_answer_is_there_and_hits_the_cache(
    laboratory: MakeLaboratory, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "arrival_seconds,prompt_tokens,completion_tokens,session_id,turn,think_seconds\n"
        "0,2000,200,s,0,\n0.1,2400,200,s,1,3\n0.2,2800,200,s,2,3\n"
    )
    tally, _ = laboratory(rate=None, trace="trace.csv", warmup_seconds=0, seconds=200).run(
        PolicyChoice(name="always_large"), 1
    )
    assert tally.requests == 3
    assert tally.cached_tokens >= 2000 - 16 + 2400 - 16
    assert tally.duration_seconds > 6.0


def test_a_context_that_nobody_has_is_refused_and_counted(laboratory: MakeLaboratory, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_seconds,prompt_tokens,completion_tokens\n0,500000,10\n1,100,10\n")
    tally, _ = laboratory(rate=None, trace="trace.csv", warmup_seconds=0).run(PolicyChoice(name="round_robin"), 1)
    assert tally.requests == 1
    assert tally.refused.total() == 1


def compared(tmp_path: Path, *arguments: str, **changes: Any) -> Result:
    path = write_scenario(tmp_path, **changes)
    return CliRunner().invoke(main, ["compare", str(path), "--day", DAY.isoformat(), *arguments])


@pytest.mark.usefixtures("laboratory")
def test_the_command_prints_the_cheapest_first_and_writes_every_figure(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    result = compared(tmp_path, "--json", str(told))
    assert result.exit_code == 0, result.output
    found = json.loads(told.read_text())
    assert set(found["policies"]) == {"always_small", "always_large", "round_robin"}
    small = found["policies"]["always_small"]
    assert small["usd_per_1000_requests"]["half_width_95"] > 0
    assert small["usd_total"]["mean"] == pytest.approx(small["usd_leased"]["mean"] + small["usd_metered"]["mean"])


@pytest.mark.parametrize(
    ("changes", "arguments", "why"),
    [
        ({"policies": [{"name": "cheapest"}]}, [], "there is no policy 'cheapest'"),
        (
            {"policies": [{"name": "slo", "parameters": {"ttft_second_max": 2}}]},
            [],
            "`ttft_second_max` is not a member of `policies[0].parameters`; did you mean `ttft_seconds_max`?",
        ),
        (
            {"policies": [{"name": "slo", "parameters": {"ttft_seconds_max": "soon"}}]},
            [],
            "`policies[0].parameters.ttft_seconds_max` is `soon`; it must be",
        ),
        (
            {"preemptions": [{"backend": "cloud", "every_seconds": 10, "notice_seconds": 1, "back_after_seconds": 2}]},
            [],
            "preemptions: cloud is paid by the token, and has no lease to end",
        ),
        ({"policies": [{"name": "slo"}, {"name": "slo"}]}, [], "two policies are called slo"),
        ({"metered_profiles": {}}, [], "cloud has no engine profile"),
        ({"metered_profiles": {"clod": "x"}}, [], "there is no backend clod"),
        ({"warmup_seconds": 60}, [], "takes all of"),
        ({"trace": "none.csv"}, [], "none.csv"),
        ({"speeed": 2}, [], "speeed"),
        ({"shape": "ramp:9"}, [], "none of diurnal:"),
        ({"shape": "ramp:9:60", "rate": None}, [], "goes with a `rate`"),
        ({}, ["--policy", "pack"], "the scenario has no policy pack"),
    ],
)
@pytest.mark.usefixtures("laboratory")
def test_a_scenario_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], arguments: list[str], why: str
) -> None:
    result = compared(tmp_path, *arguments, **changes)
    assert result.exit_code != 0
    assert why in result.output


@pytest.mark.parametrize(
    ("policy", "line", "why"),
    [
        (
            "{name: slo, parameters: {ttft_seconds_max: yes}}",
            9,
            "`policies[1].parameters.ttft_seconds_max` is `true`; it must be",
        ),
        (
            "{name: slo, parameters: {ttft_seconds_max: soon}}",
            9,
            "`policies[1].parameters.ttft_seconds_max` is `soon`; it must be",
        ),
        (
            "{name: slo, parameters: {ttft_seconds: 2}}",
            9,
            "`ttft_seconds` is not a member of `policies[1].parameters`; did you mean `ttft_seconds_max`?",
        ),
        ("{name: sloo}", 9, "there is no policy 'sloo'; did you mean 'slo'?"),
        ("{name: slo, label: a, label: b}", 9, "`label` is set twice (first in line 9)"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "simulate"])
@pytest.mark.usefixtures("laboratory")
def test_what_is_wrong_with_a_policy_is_told_with_file_line_and_remedy(
    tmp_path: Path, command: str, policy: str, line: int, why: str
) -> None:
    text = f"""# A line.
config: router.yaml
seconds: 60
warmup_seconds: 5
rate: 3
metered_profiles: {{cloud: h100x4-llama-3.1-70b-bf16}}
policies:
  - {{name: quality_floor, parameters: {{quality_min: 0.5}}}}
  - {policy}
"""
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    result = CliRunner().invoke(main, [command, str(path), "--day", DAY.isoformat()])
    assert result.exit_code == 1
    told = result.output.replace("\n", "")
    assert f"scenario.yaml:{line}:" in told
    assert why in told


def test_the_front_holds_those_that_nobody_beats() -> None:
    def policy(usd: float, quality: float, ttft: float, goodput: float) -> dict[str, Figure]:
        values = {
            "usd_per_1000_requests": usd,
            "quality": quality,
            "ttft_seconds_p99": ttft,
            "goodput_per_second": goodput,
        }
        return {name: Figure(value, None) for name, value in values.items()}

    found = {
        "cheap": policy(1, 0.7, 1, 5),
        "good": policy(3, 1.0, 1, 5),
        "beaten": policy(3, 0.9, 1, 5),
        "same": policy(1, 0.7, 1, 5),
    }
    assert front(found) == {"cheap", "good", "same"}


def test_an_interval_is_students() -> None:
    figure = over_seeds([{"x": 1.0}, {"x": 2.0}, {"x": 3.0}])["x"]
    assert figure.mean == 2.0
    assert figure.half_width == pytest.approx(4.303 / 3**0.5)
    assert over_seeds([{"x": 1.0}])["x"].half_width is None
