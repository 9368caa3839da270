"""No policy comes below the bound, and where it is plain what the least is, the bound is that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from laboratories import DAY, MakeLaboratory, write_scenario

from load.__main__ import main
from load.engine import Engine, EngineSequence
from load.simulate.attempt import Attempt
from load.simulate.hindsight import Place, Served, bounds, work_seconds
from load.simulate.scenario import Laboratory, PolicyChoice
from load.simulate.world import World
from router.domain.usage import Usage
from router.pricing.price import LeasedPrice, MeteredPrice, Purchase, TokenRates
from router.pricing.profile import EngineProfile, Speculation

# A token of a prompt or an answer takes a millisecond, and nothing else takes anything that counts.
PLAIN = EngineProfile(
    step_overhead_seconds=1e-12,
    weight_read_seconds=1e-12,
    kv_read_seconds_per_token=0.0,
    compute_seconds_per_token=1e-3,
    kv_capacity_tokens=10**9,
)
# $3.60 an hour is 1,000,000 nano-dollars a second.
LEASE = LeasedPrice("lease", 3_600_000_000, Purchase.ON_DEMAND)
CLOUD = MeteredPrice("cloud", TokenRates(1_000_000_000, 500_000_000, 1_000_000_000, 2_000_000_000))


def served(qualities: tuple[float | None, ...], due: float = 0.0) -> Served:
    """100 tokens of prompt and 51 of answer: 150 ms of a replica, or 100 × 1,000 + 51 × 2,000 nano-dollars."""
    return Served(due, 100, 0, 51, qualities)


BOUGHT = 202_000


def test_what_the_leases_had_time_for_need_not_have_been_bought() -> None:
    places = [Place(LEASE, PLAIN, lease_seconds=0.3, replicas=1), Place(CLOUD, PLAIN)]
    found = bounds([served((1.0, 1.0))] * 5, places, 5.0, ended_seconds=10.0)
    assert found.metered_nanousd == pytest.approx(3 * BOUGHT)  # two of the five fit into the lease
    assert found.total_nanousd == pytest.approx(5 * 150_000)  # leased by the second it would be the cheaper one


def test_quality_has_its_price() -> None:
    places = [Place(LEASE, PLAIN, lease_seconds=100.0, replicas=1), Place(CLOUD, PLAIN)]
    asked = [served((0.5, 1.0))] * 4
    assert bounds(asked, places, 2.0, 100.0).metered_nanousd == pytest.approx(0, abs=1)
    assert bounds(asked, places, 3.0, 100.0).metered_nanousd == pytest.approx(2 * BOUGHT)
    assert bounds(asked, places, 4.0, 100.0).metered_nanousd == pytest.approx(4 * BOUGHT)


def test_time_that_passed_before_a_request_came_is_of_no_use_to_it() -> None:
    places = [Place(LEASE, PLAIN, lease_seconds=10.0, replicas=1), Place(CLOUD, PLAIN)]
    late = [served((1.0, 1.0), due=9.7)] * 5
    assert bounds(late, places, 5.0, ended_seconds=10.0).metered_nanousd == pytest.approx(3 * BOUGHT)


def test_a_request_goes_only_where_it_could_have_gone() -> None:
    places = [Place(LEASE, PLAIN, lease_seconds=10.0, replicas=1), Place(CLOUD, PLAIN)]
    found = bounds([served((None, 1.0)), served((1.0, None))], places, 2.0, 10.0)
    assert found.metered_nanousd == pytest.approx(BOUGHT)
    assert found.total_nanousd == pytest.approx(BOUGHT + 150_000)
    assert bounds([], places, 0.0, 10.0).total_nanousd == 0


PROFILES = st.builds(
    EngineProfile,
    step_overhead_seconds=st.floats(1e-4, 1e-2),
    weight_read_seconds=st.floats(1e-4, 2e-2),
    kv_read_seconds_per_token=st.floats(0, 1e-6),
    compute_seconds_per_token=st.floats(1e-6, 1e-4),
    attention_seconds_per_pair=st.floats(0, 1e-8),
    token_seconds=st.floats(0, 1e-5),
    sequence_seconds=st.floats(0, 1e-4),
    prefill_overhead_seconds=st.floats(0, 1e-2),
    chunk_tokens=st.sampled_from([256, 2048]),
    sequences_max=st.sampled_from([2, 8, 64]),
    kv_capacity_tokens=st.sampled_from([4_000, 40_000]),
    speculation=st.none() | st.just(Speculation(draft_tokens=3, acceptance_ratio=0.7, draft_seconds=1e-4)),
)


@settings(max_examples=30)
@given(PROFILES, st.lists(st.tuples(st.integers(1, 1500), st.integers(1, 300)), min_size=1, max_size=40))
def test_no_engine_is_busy_for_less_than_the_work(profile: EngineProfile, lengths: list[tuple[int, int]]) -> None:
    engine = Engine(profile, block_tokens=16, has_prefix_cache=False)
    for prompt_tokens, completion_tokens in lengths:
        engine.submit(EngineSequence(prompt_tokens, completion_tokens), 0.0)
    while (due := engine.next_event_seconds) is not None:
        engine.advance(due)
    asked = np.array([(prompt, 0, completion) for prompt, completion in lengths], dtype=float)
    assert work_seconds(profile, asked).sum() <= engine.counters.busy_seconds * (1 + 1e-9)


@pytest.mark.parametrize("policy", ["always_small", "round_robin", "quality_floor"])
@pytest.mark.parametrize("changes", [{}, {"failures": [{"backend": "small", "every_seconds": 20, "for_seconds": 5}]}])
def test_no_policys_bill_is_below_its_bound(laboratory: MakeLaboratory, policy: str, changes: dict[str, Any]) -> None:
    done = laboratory(rate=3.0, seconds=20, **changes).simulate(PolicyChoice(name=policy), 1, has_bounds=True)
    assert done.bounds is not None
    assert done.tally.requests > 20
    assert 0 <= done.bounds.metered_nanousd <= done.tally.metered_nanousd + 1
    assert 0 < done.bounds.total_nanousd <= done.bill.leased_nanousd + done.tally.metered_nanousd


class Compared:
    """Quality of each answer by its candidate, and by the bound's reckoning at the same backend."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self.pairs: dict[str, list[tuple[float, float | None]]] = {}

    def watch(self, world: World) -> None:
        world.observers.append(self)

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        names = [backend.name for backend in self._laboratory._deployment.backends]
        backend = attempt.candidate.backend.name
        reckoned = self._laboratory._qualities(attempt.journey)[names.index(backend)]
        self.pairs.setdefault(backend, []).append((attempt.candidate.quality, reckoned))


def test_simulator_and_bound_take_a_declared_quality_ratio_as_the_router_does(
    laboratory: MakeLaboratory, tmp_path: Path
) -> None:
    full = laboratory(seconds=20).simulate(PolicyChoice(name="always_small"), 1)
    router = tmp_path / "router.yaml"
    text = router.read_text()
    assert text.count("tier: small,") == 1
    router.write_text(text.replace("tier: small,", "tier: small, quality_ratio: 0.8,"))
    there = laboratory(seconds=20)
    by_policy = {}
    for policy in ("always_small", "round_robin"):
        compared = Compared(there)
        by_policy[policy] = there.simulate(PolicyChoice(name=policy), 1, compared.watch, has_bounds=True)
        assert all(mine == reckoned for pairs in compared.pairs.values() for mine, reckoned in pairs)
    assert compared.pairs.keys() == {"small", "large", "cloud"}
    lossy = by_policy["always_small"]
    assert lossy.tally.requests == full.tally.requests > 20
    assert lossy.tally.quality == pytest.approx(0.8 * full.tally.quality)
    assert lossy.bill == full.bill


@pytest.mark.usefixtures("laboratory")
def test_what_is_left_to_gain_is_a_column(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    path = write_scenario(tmp_path, seconds=15, warmup_seconds=2, seeds=[1])
    arguments = ["compare", str(path), "--bound", "--day", DAY.isoformat(), "--json", str(told)]
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "to gain" in result.output
    for found in json.loads(told.read_text())["policies"].values():
        assert 0 <= found["to_gain_ratio"]["mean"] <= found["to_gain_any_fleet_ratio"]["mean"] < 1
        assert found["usd_bound"]["mean"] <= found["usd_total"]["mean"]
