"""A scenario driven live and the same scenario simulated come to the same dollars and the same times.

Live is: the load driver, sockets, the router with its ledger, and emulated replicas behind HTTP. All of it runs on one event loop
whose clock stands still while anybody works (`virtual_time.py`): what is compared is what the two make of the same scenario, not
how busy the machine was.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter
from virtual_time import VirtualLoop, virtual_time
from whole_app import CLOUD_KEY, PEPPER, WholeApp, running

from load.drive.outcome import Outcome
from load.drive.process import Driver, Errand, Target
from load.drive.schedule import sessions
from load.emulator.spec import ReplicaSpec
from load.replay.command import replay
from load.simulate.scenario import Laboratory, PolicyChoice, Scenario
from load.workload import Workload, read_prompts
from router.config.profiles import AnyProfileConfig
from router.fleet_config import build_profile
from router.pricing.profile import EngineProfile

SEED = 11
SECONDS = 30.0
COST_ERROR, TTFT_ERROR = 0.03, 0.10
PROFILES: dict[str, dict[str, Any]] = {
    "l4": {"model": "llama-3.1-8b", "gpu": "l4", "quantization": "int4"},
    "h100": {"model": "llama-3.1-70b", "gpu": "h100", "quantization": "fp8", "gpus": 2},
}
CLOUD_PROFILE = "h100x2-llama-3.1-70b-fp8"
SCENARIO: dict[str, Any] = {
    "config": "router.yaml", "rate": 4.0, "seconds": SECONDS, "warmup_seconds": 0, "seeds": [SEED], "has_network": False,
    "keeps_lengths": True, "tenants": {"tests": 1.0}, "metered_profiles": {"cloud": CLOUD_PROFILE},
}  # fmt: skip
ENVIRON = {"JETON_API_KEY_PEPPER": PEPPER, "CLOUD_API_KEY": CLOUD_KEY}
FAILS_AT, FAILS_FOR = 10.0, 12.0


class Seen(NamedTuple):
    """One of the two. nanousd: what attempts cost. errors: requests without a whole answer."""

    ttfts: Callable[[float], float | None]
    nanousd: int
    backends: Counter[str]
    errors: int


def profile(name: str) -> EngineProfile:
    shape: TypeAdapter[Any] = TypeAdapter(AnyProfileConfig)
    return build_profile(shape.validate_python(PROFILES[name]))


def spec(model: str, engine: str, **members: Any) -> ReplicaSpec:
    """Pieces of 16 tokens after the first: so many fewer events to be sent."""
    return ReplicaSpec(
        model, profile=profile(engine), block_tokens=16, stream_interval=16, has_prompt_tokens_details=True, **members
    )


SPECS = {
    "small": (spec("tiny-8b", "l4", context_tokens=16384),) * 2,
    "large": (spec("huge-70b", "h100", context_tokens=32768),),
    "cloud": (spec("gpt-x", "h100", context_tokens=131072, api_key=CLOUD_KEY),),
}


def configure(config: dict[str, Any], policy: PolicyChoice) -> None:
    config["policy"] = {"name": policy.name, "parameters": policy.parameters}
    config["profiles"] = PROFILES
    for pool in config["pools"]:
        pool["backends"] = [one for one in pool["backends"] if one["name"] in SPECS]
        for one in pool["backends"]:
            one["context_tokens"] = SPECS[one["name"]][0].context_tokens
            if pool["billing"] == "leased":
                one["profile"] = "l4" if one["name"] == "small" else "h100"


async def drive(whole: WholeApp, loop: VirtualLoop, laboratory: Laboratory) -> Sequence[Outcome]:
    waiters = whole.app._books.store._waiters  # a metered attempt waits for the ledger's thread
    loop.holds = lambda: bool(waiters)
    trace = laboratory.trace(SEED)
    target = Target(f"{whole.url}/v1", {"": whole.api_key})
    workload = Workload(trace, read_prompts(), laboratory.mix, SEED, keeps_lengths=True)
    driver = Driver(Errand(target, workload, sessions(trace), SECONDS, 600.0, 600.0), loop.time())
    await driver.run(Deaf())
    return driver.outcomes


class Deaf:
    """Nobody looks at the driver's progress."""

    def send(self, told: Any) -> None: ...


async def live(directory: Path, loop: VirtualLoop, policy: PolicyChoice, *, fails: bool) -> Seen:
    async with running(directory, lambda config: configure(config, policy), SPECS) as whole:
        laboratory = Laboratory(Scenario.model_validate(SCENARIO), directory, ENVIRON, date.today())
        if fails:
            fail = whole.replica("small").faults
            loop.call_later(FAILS_AT, lambda: fail(api_death=True, seconds=FAILS_FOR))
        outcomes = await drive(whole, loop, laboratory)
        loop.go_real()
        charges = await whole.charges()
    ttfts = sorted(one.ttft_seconds for one in outcomes if one.is_ok and one.ttft_seconds is not None)
    return Seen(
        lambda rank: ttfts[ceil(len(ttfts) * rank / 100) - 1],
        sum(charge["cost_nanousd"] for charge in charges),
        Counter(one.backend for one in outcomes if one.is_ok),
        sum(not one.is_ok for one in outcomes),
    )


def simulated(directory: Path, policy: PolicyChoice, *, fails: bool) -> Seen:
    failures = [{"replica": "small/1", "at_seconds": FAILS_AT, "for_seconds": FAILS_FOR}] if fails else []
    scenario = Scenario.model_validate({**SCENARIO, "failures": failures})
    tally, _ = Laboratory(scenario, directory, ENVIRON, date.today()).run(policy, SEED)
    nanousd = tally.useful_nanousd + tally.metered_nanousd + tally.lost_nanousd
    return Seen(tally.ttft.percentile, nanousd, tally.backends, tally.refused.total())


@pytest.mark.parametrize(
    ("policy", "fails"),
    [
        (PolicyChoice(name="least_busy"), False),
        (PolicyChoice(name="quality_floor", parameters={"quality_min": 0.55}), False),
        (PolicyChoice(name="round_robin"), True),
    ],
    ids=["by load", "by quality and price", "with a failure"],
)
def test_a_scenario_costs_and_takes_the_same_live_and_simulated(
    policy: PolicyChoice, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with virtual_time(monkeypatch) as loop:
        one = loop.run_until_complete(live(tmp_path, loop, policy, fails=fails))
    other = simulated(tmp_path, policy, fails=fails)
    assert sum(one.backends.values()) > 100
    assert other.nanousd == pytest.approx(one.nanousd, rel=COST_ERROR)
    for rank in (50, 99):
        assert other.ttfts(rank) == pytest.approx(one.ttfts(rank), rel=TTFT_ERROR)
    assert (other.backends - one.backends).total() <= 0.02 * one.backends.total()
    assert one.errors == other.errors
    if policy.name == "least_busy":  # which needs to know nothing that the ledger does not
        replayed(tmp_path, monkeypatch, one)


def replayed(directory: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    """From the ledger that the live run left, without a word of what was asked."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    told = directory / "replay.json"
    arguments = ["--config", str(directory / "router.yaml"), "--policy", "always_large", "--seed", "1", "--seed", "2"]
    arguments += ["--metered-profile", f"cloud={CLOUD_PROFILE}", "--json", str(told)]
    result = CliRunner().invoke(replay, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(told.read_text())
    was, same = found["recorded"], {name: one["mean"] for name, one in found["replayed"].items()}
    assert was["usd_charged"] == pytest.approx(seen.nanousd / 1e9)
    assert same["usd_charged"] == pytest.approx(was["usd_charged"], rel=COST_ERROR)
    assert same["requests"] == was["requests"] == seen.backends.total()
    assert same["same_route_ratio"] > 0.95
    for rank in ("ttft_seconds_p50", "ttft_seconds_p99"):
        assert same[rank] == pytest.approx(was[rank], rel=TTFT_ERROR)
    assert {target for _, target, _ in found["moves"]} <= {"large", "cloud"}
    assert found["replayed_otherwise"]["quality"]["mean"] == 1.0
    assert found["difference"]["quality"]["mean"] > 0
