"""In the simulation too, drafts are accepted by the kind of answer and the router learns whose."""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from load.emulator.kinds import ANSWER_KINDS
from load.simulate.attempt import Attempt
from load.simulate.scenario import Laboratory, PolicyChoice, Scenario
from load.simulate.world import World
from router.domain.usage import Usage
from router.pricing.yields import Yield

CAPACITY = Path(__file__).parents[3] / "deploy" / "config" / "capacity"
DAY = date(2026, 11, 26)
RIGHT = {"math", "code"}
ACCEPTANCE = {kind: 0.95 if kind in RIGHT else 0.1 for kind in ANSWER_KINDS}


class Where:
    """Which kinds went where once there was something to be learned from."""

    def __init__(self) -> None:
        self.worlds: list[World] = []
        self.counts: Counter[tuple[bool, str]] = Counter()

    def watch(self, world: World) -> None:
        self.worlds.append(world)
        world.observers.append(self)

    def watch_one_that_does_not_learn(self, world: World) -> None:
        world.decider.lessons.yields.follow({})  # nobody drafts, as far as is known: the profile's word stands
        self.watch(world)

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        journey = attempt.journey
        if journey.due_seconds > 150:
            self.counts[journey.prediction.category in RIGHT, attempt.replica.backend.name] += 1

    def share(self, *, is_right: bool) -> float:
        """Of those kinds, who went to the drafts."""
        drafting, plain = self.counts[is_right, "drafting"], self.counts[is_right, "plain"]
        return drafting / (drafting + plain)


def laboratory(acceptance: Mapping[str, float], backend: str = "drafting") -> Laboratory:
    scenario = {
        "config": "speculation.yaml", "seconds": 450, "warmup_seconds": 0, "seeds": (1,), "rate": 2.0,
        "acceptance_by_kind": {backend: acceptance},
    }  # fmt: skip
    return Laboratory(Scenario.model_validate(scenario), CAPACITY, {}, DAY)


def simulated() -> tuple[Where, Yield]:
    where = Where()
    laboratory(ACCEPTANCE).simulate(PolicyChoice(name="marginal_cost"), 1, where.watch)
    found = where.worlds[0].decider.lessons.yields.of("drafting")
    assert found is not None
    return where, found


def test_the_router_learns_whose_drafts_are_accepted_and_sends_those_there() -> None:
    where, learned = simulated()
    assert learned.tokens_per_step("math") > 3.5
    assert learned.tokens_per_step("knowledge") < 1.5
    drifts = where.worlds[0].decider.lessons.drifts
    for replica in ("drafting-1", "plain-1"):  # what the drafts do is not taken for another engine than the profile's
        drift = drifts.of(replica)
        assert drift is not None
        assert 0.85 < drift.tpot.ratio < 1.15
    unaware = Where()
    laboratory(ACCEPTANCE).simulate(PolicyChoice(name="marginal_cost"), 1, unaware.watch_one_that_does_not_learn)
    assert where.share(is_right=True) > unaware.share(is_right=True) + 0.1
    assert where.share(is_right=False) < unaware.share(is_right=False) - 0.1


@pytest.mark.parametrize(
    ("acceptance", "backend", "why"),
    [
        ({"code": 1.5}, "drafting", "no ratio"),
        ({"poetry": 0.5}, "drafting", "poetry"),
        ({}, "nobody", "no backend nobody"),
    ],
)
def test_what_is_no_kind_no_ratio_or_no_backend_is_refused(
    acceptance: dict[str, float], backend: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        laboratory(acceptance, backend)
