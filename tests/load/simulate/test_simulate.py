"""A scenario's failures, preemptions, prices and scaling come about in simulated time, and the money still adds up."""

import json
import os
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from laboratories import DAY, Ends, MakeLaboratory, write_scenario

from load.__main__ import main
from load.simulate.happenings import Absence, PreemptionConfig, absences
from load.simulate.scenario import Laboratory, PolicyChoice, Simulation
from load.simulate.world import World
from router.compiled import is_compiled
from router.pricing.meter import ReplicaMeter

SMALL = PolicyChoice(name="least_busy")
EDGE_USD_PER_HOUR = 0.80
ONLY_EDGE: dict[str, Any] = {"models": {"s": 1.0}, "warmup_seconds": 0, "rate": 1.0}


def run(laboratory: Laboratory, choice: PolicyChoice = SMALL) -> Simulation:
    return laboratory.simulate(choice, 1)


def edge_usd(done: Simulation) -> float:
    return done.bill.by_backend["small"][0] / 1e9


def test_a_replica_that_fails_hands_its_work_over_and_is_paid_for_all_the_same(laboratory: MakeLaboratory) -> None:
    calm = run(laboratory(**ONLY_EDGE))
    failing = run(laboratory(**ONLY_EDGE, failures=[{"replica": "small/1", "at_seconds": 20.0, "for_seconds": 15}]))
    assert failing.happened == {"failure": 1}
    assert failing.tally.retries > 0
    assert failing.tally.lost_nanousd > 0
    assert set(failing.tally.refused) <= {"broken off"}  # streams that had begun; all others were answered elsewhere
    assert failing.tally.requests + failing.tally.refused.total() == calm.tally.requests
    assert edge_usd(failing) * 3600 == pytest.approx(EDGE_USD_PER_HOUR * failing.bill.lease_seconds["small"], rel=1e-6)
    assert 2 * 60 <= failing.bill.lease_seconds["small"] <= 2 * max(60.0, failing.seconds)


@pytest.mark.parametrize(
    ("terms", "taken"),
    [
        ([{"replica": "a", "at_seconds": 5}], [Absence("a", 5, 35, inf)]),
        ([{"replica": "a", "at_seconds": 5, "back_after_seconds": 10}], [Absence("a", 5, 35, 45)]),
        ([{"replica": "a", "at_seconds": 5, "back_after_seconds": 65}], [Absence("a", 5, 35, inf)]),  # after the end
        ([{"replica": one, "at_seconds": at} for one, at in (("a", 9), ("b", 8))],
         [Absence("b", 8, 38, inf), Absence("a", 9, 39, inf)]),
        # Told again of one that is leaving or away, and once it is back.
        ([{"replica": "a", "at_seconds": at, "notice_seconds": 4, "back_after_seconds": 6} for at in (5, 8, 14, 15, 99)],
         [Absence("a", 5, 9, 15), Absence("a", 15, 19, 25), Absence("a", 99, 103, inf)]),
    ],
)  # fmt: skip
def test_when_replicas_are_away_is_known_beforehand(terms: list[dict[str, Any]], taken: list[Absence]) -> None:
    preemptions = [PreemptionConfig.model_validate(one) for one in terms]
    assert absences(preemptions, {"little": ["a", "b"]}, 100.0, 1) == taken


def test_what_is_known_beforehand_comes_about(laboratory: MakeLaboratory) -> None:
    preemption = {"backend": "small", "every_seconds": 15, "notice_seconds": 2, "back_after_seconds": 5}
    this = laboratory(**ONLY_EDGE, preemptions=[preemption])
    replicas = {one.name: [replica.id for replica in one.replicas] for one in this.loaded.backends}
    for seed in (1, 2, 3):
        known = absences(this.scenario.preemptions, replicas, this.scenario.seconds, seed)
        assert len(known) > 2
        assert this.simulate(SMALL, seed).happened == {"preemption": len(known)}


def test_with_nobody_left_requests_are_refused_until_a_replica_is_back(laboratory: MakeLaboratory) -> None:
    away = [{"replica": f"small/{number}", "at_seconds": 20.0, "for_seconds": 20} for number in (1, 2)]
    done = run(laboratory(**ONLY_EDGE, failures=away))
    assert done.happened == {"failure": 2}
    assert done.tally.refused["nobody answered"] + done.tally.refused["Unavailable"] > 5
    assert done.tally.requests > 20


def test_a_preempted_replica_costs_nothing_while_it_is_away(laboratory: MakeLaboratory) -> None:
    notice, away = 5.0, 20.0
    preemption = {"replica": "small/1", "at_seconds": 10.0, "notice_seconds": notice, "back_after_seconds": away}
    ends = Ends()
    done = laboratory(**ONLY_EDGE, preemptions=[preemption]).simulate(SMALL, 1, ends.watch)
    assert done.happened == {"preemption": 1}
    seconds = [max(60.0, ends.seconds[name]) for name in ("small/1", "small/2")]
    assert edge_usd(done) * 3600 == pytest.approx(EDGE_USD_PER_HOUR * (sum(seconds) - away), rel=1e-6)
    ends = Ends()
    gone = laboratory(**ONLY_EDGE, preemptions=[{**preemption, "back_after_seconds": None}]).simulate(
        SMALL, 1, ends.watch
    )
    seconds = [10 + notice, max(60.0, ends.seconds["small/2"])]
    assert edge_usd(gone) * 3600 == pytest.approx(EDGE_USD_PER_HOUR * sum(seconds), rel=1e-6)


def test_what_ends_within_the_notice_is_not_broken_off(laboratory: MakeLaboratory) -> None:
    preemption = {"replica": "small/1", "at_seconds": 30.0, "back_after_seconds": 10.0}
    sudden = run(laboratory(**ONLY_EDGE, preemptions=[{**preemption, "notice_seconds": 0.0}]))
    announced = run(laboratory(**ONLY_EDGE, preemptions=[{**preemption, "notice_seconds": 25.0}]))
    assert sudden.tally.refused["broken off"] + sudden.tally.retries > 0
    assert announced.tally.refused.total() == 0
    assert announced.tally.lost_nanousd == 0


def test_a_changed_price_holds_from_its_time_on(laboratory: MakeLaboratory) -> None:
    changes = [
        {"at_seconds": 15.0, "backend": "small", "usd_per_hour": 3.20},
        {"at_seconds": 45.0, "backend": "small", "factor": 0},
    ]
    done = run(laboratory(**ONLY_EDGE, price_changes=changes))
    assert edge_usd(done) * 3600 == pytest.approx(2 * (15 * 0.80 + 30 * 3.20), rel=1e-6)
    cloud = {"models": {"c": 1.0}, "warmup_seconds": 0, "rate": 1.0}
    dear = run(laboratory(**cloud, price_changes=[{"at_seconds": 0.0, "backend": "cloud", "factor": 3}]))
    assert dear.tally.metered_nanousd == pytest.approx(3 * run(laboratory(**cloud)).tally.metered_nanousd, rel=1e-9)


def test_a_policy_that_goes_by_price_leaves_a_backend_that_became_dear(laboratory: MakeLaboratory) -> None:
    cheapest, change = PolicyChoice(name="marginal_cost"), {"at_seconds": 30.0, "backend": "small", "factor": 10_000}
    before = run(laboratory(rate=1.0, warmup_seconds=0), cheapest)
    after = run(laboratory(rate=1.0, warmup_seconds=0, price_changes=[change]), cheapest)
    assert after.tally.backends["small"] < 0.7 * before.tally.backends["small"]


def test_a_backend_grows_with_its_load_and_shrinks_again(laboratory: MakeLaboratory) -> None:
    spike = {"warmup_seconds": 0, "models": {"s": 1.0}, "seconds": 300, "rate": None, "trace": "trace.csv"}
    scaling = {"backend": "small", "replicas_min": 1, "replicas_max": 6, "target_attempts": 4, "interval_seconds": 5,
               "startup_seconds": 10, "scale_down_after_seconds": 30}  # fmt: skip
    lab = laboratory()
    directory = Path(lab.loaded.paths[0]).parent
    rows = [f"{at / 4},1000,150" for at in range(240)] + ["250,1000,10"]
    (directory / "trace.csv").write_text("arrival_seconds,prompt_tokens,completion_tokens\n" + "\n".join(rows))
    done = run(laboratory(**spike, autoscaling=[scaling]))
    assert 2 <= done.happened["scaled up"] <= 4 + done.happened["scaled down"]
    assert done.happened["scaled down"] >= done.happened["scaled up"] + 1  # down to one, of two at the start
    assert done.tally.requests == 241
    seconds = 300
    assert 1 * seconds < edge_usd(done) / EDGE_USD_PER_HOUR * 3600 < 6 * seconds


EVERYTHING: dict[str, Any] = {
    "warmup_seconds": 0, "rate": 4.0, "router_seconds": 0.0005, "network_jitter": 0.3,
    "failures": [{"backend": "small", "every_seconds": 25, "for_seconds": 8}],
    "preemptions": [{"backend": "large", "every_seconds": 40, "notice_seconds": 2, "back_after_seconds": 5}],
    "price_changes": [{"at_seconds": 20.0, "backend": "small", "factor": 2}],
    "autoscaling": [{"backend": "small", "replicas_max": 5, "target_attempts": 6, "interval_seconds": 2,
                     "startup_seconds": 3, "scale_down_after_seconds": 2}],
}  # fmt: skip


@pytest.mark.skipif(
    is_compiled(), reason="watches a method, which compiled code has not: `make test-interpreted` runs it"
)
def test_charges_and_idle_time_are_all_of_the_bill_whatever_happens(
    laboratory: MakeLaboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters: list[ReplicaMeter] = []
    made = World._made

    def keep(self: World, *arguments: Any) -> Any:
        one = made(self, *arguments)
        if one.meter is not None:
            meters.append(one.meter)
        return one

    monkeypatch.setattr(World, "_made", keep)
    done = run(laboratory(**EVERYTHING), PolicyChoice(name="round_robin"))
    assert {"failure", "preemption", "scaled up", "scaled down"} <= done.happened.keys()
    assert all(meter.bill == meter.charged_nanousd + meter.idle_nanousd + meter.residue for meter in meters)
    assert not any(meter.open_attempts for meter in meters)
    assert sum(meter.bill_nanousd for meter in meters) == done.bill.leased_nanousd
    assert sum(meter.idle_nanousd for meter in meters) == done.bill.idle_nanousd
    charged = sum(meter.charged_nanousd for meter in meters)
    assert charged == done.tally.useful_nanousd + done.tally.lost_nanousd


@pytest.mark.usefixtures("laboratory")
def test_a_run_is_the_same_in_another_process(tmp_path: Path) -> None:
    trace = "arrival_seconds,prompt_tokens,completion_tokens,session_id,turn,think_seconds\n" + "\n".join(
        f"{session + turn / 10},{400 * (turn + 1)},60,s{session},{turn},{'' if turn == 0 else 1}"
        for session in range(12)
        for turn in range(3)
    )
    (tmp_path / "trace.csv").write_text(trace)
    path = write_scenario(tmp_path, **{**EVERYTHING, "rate": None, "trace": "trace.csv"})
    arguments = ["simulate", str(path), "--policy", "round_robin", "--day", DAY.isoformat(), "--json"]
    told = [tmp_path / "one.json", tmp_path / "other.json"]
    result = CliRunner().invoke(main, [*arguments, str(told[0])])
    assert result.exit_code == 0, result.output
    subprocess.run(
        [sys.executable, "-m", "load", *arguments, str(told[1])],
        check=True, env={**os.environ, "PYTHONHASHSEED": "12345"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    one, other = (json.loads(path.read_text()) for path in told)
    assert one.pop("made_at")
    assert other.pop("made_at")
    assert one == other
    assert one["figures"]["requests"] > 20
    assert one["happened"]["failure"] > 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"failures": [{"backend": "smal", "every_seconds": 9, "for_seconds": 1}]}, "failures: there is no backend smal"),
        ({"failures": [{"replica": "small/9", "at_seconds": 9, "for_seconds": 1}]}, "there is no replica small/9"),
        ({"preemptions": [{"replica": "small/1", "every_seconds": 9}]}, "`replica` with `at_seconds`"),
        ({"price_changes": [{"at_seconds": 1, "backend": "cloud", "usd_per_hour": 2}]}, "paid by the token"),
        ({"price_changes": [{"at_seconds": 1, "backend": "small"}]}, "either `factor` or `usd_per_hour`"),
        ({"autoscaling": [{"backend": "cloud", "replicas_max": 3, "target_attempts": 2}]}, "paid by the token"),
        ({"autoscaling": [{"backend": "small", "replicas_min": 4, "replicas_max": 3, "target_attempts": 2}]}, "above rep"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("laboratory")
def test_happenings_that_cannot_be_are_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    result = CliRunner().invoke(main, ["simulate", str(write_scenario(tmp_path, **changes)), "--day", DAY.isoformat()])
    assert result.exit_code != 0
    assert why in " ".join(result.output.split())
