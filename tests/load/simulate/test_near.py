"""Where replicas keep to themselves until a decision looks at them, a run comes to the same as one in which all is done in order
and every attempt is charged for itself."""

from pathlib import Path
from typing import Any

import pytest
from laboratories import MakeLaboratory

from load.simulate.attempt import Attempt
from load.simulate.scenario import PolicyChoice, Simulation
from load.simulate.table import figures
from load.simulate.world import World
from router.compiled import is_compiled
from router.domain.usage import Usage

TRACE = "arrival_seconds,prompt_tokens,completion_tokens,session_id,turn,think_seconds\n"


class Onlooker:
    """Has every attempt told, in its order, and adds up what they cost."""

    def __init__(self) -> None:
        self.nanousd = 0
        self.times: list[float] = []

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        self.nanousd += cost_nanousd
        self.times.append(now_seconds)


def told(done: Simulation) -> Any:
    tally = done.tally
    return (
        figures(tally, done.bill), tally.useful_nanousd, tally.refused, tally.backends, tally.ttft.steps(), tally.tpot.steps(),
        tally.latency.told(), done.bill, done.decisions, done.seconds,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": 8.0},
        {"rate": 6.0, "warmup_seconds": 20},
        {"rate": 4.0, "has_network": False, "streaming_ratio": 0.5, "warmup_seconds": 0},
        {"rate": 30.0, "models": {"s": 1.0}, "seconds": 20},
    ],
)
@pytest.mark.parametrize("policy", ["quality_floor", "round_robin"])
def test_nobody_can_tell_whether_all_was_done_in_its_order(
    laboratory: MakeLaboratory, changes: dict[str, Any], policy: str
) -> None:
    lab, choice, onlooker = laboratory(**changes), PolicyChoice(name=policy), Onlooker()
    near = lab.simulate(choice, 3)
    in_order = lab.simulate(choice, 3, lambda world: world.observers.append(onlooker))
    assert told(near) == told(in_order)
    assert onlooker.times == sorted(onlooker.times)
    assert near.tally.requests > 20
    if not changes.get("warmup_seconds", 5):
        assert onlooker.nanousd == near.tally.useful_nanousd + near.tally.metered_nanousd


@pytest.mark.skipif(
    is_compiled(), reason="watches a method, which compiled code has not: `make test-interpreted` runs it"
)
def test_when_a_session_of_several_turns_begins_the_rest_is_done_in_its_order(
    laboratory: MakeLaboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    end_near = World._end_near

    def note(self: World) -> None:
        ended.append(True)
        end_near(self)

    monkeypatch.setattr(World, "_end_near", note)
    alone = [f"{at / 5},900,120,,," for at in range(100)]
    rows = [*alone, *(f"{20 + session + turn / 10},{600 * (turn + 1)},60,s{session},{turn},{1 if turn else ''}"
                      for session in range(8) for turn in range(3))]  # fmt: skip
    Path(laboratory().loaded.paths[0]).parent.joinpath("trace.csv").write_text(TRACE + "\n".join(sorted(rows, key=_at)))
    lab = laboratory(rate=None, trace="trace.csv", seconds=100)
    near = lab.simulate(PolicyChoice(name="quality_floor"), 1)
    assert ended == [True]
    in_order = lab.simulate(PolicyChoice(name="quality_floor"), 1, lambda world: world.observers.append(Onlooker()))
    assert ended == [True]
    assert told(near) == told(in_order)


def _at(row: str) -> float:
    return float(row.split(",")[0])
