"""The simulated router learns from its answers what a real one does."""

from pathlib import Path
from statistics import fmean

import pytest
from laboratories import MakeLaboratory

from load.simulate.attempt import Attempt
from load.simulate.scenario import PolicyChoice
from load.simulate.world import World
from router.domain.usage import Usage
from router.selection.first_token import LEVEL_SECONDS

ALTERNATELY = PolicyChoice(name="round_robin")


class Expected:
    """What each answer was expected to be, in tokens, by the one that gave it."""

    def __init__(self) -> None:
        self.tokens: list[float] = []

    def watch(self, world: World) -> None:
        world.observers.append(self)

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        self.tokens.append(attempt.candidate.completion_tokens)


def test_how_long_answers_are(laboratory: MakeLaboratory, tmp_path: Path) -> None:
    rows = "".join(f"{number / 4},300,{20 if number % 2 else 22}\n" for number in range(800))
    (tmp_path / "short.csv").write_text(f"arrival_seconds,prompt_tokens,completion_tokens\n{rows}")
    expected = Expected()
    laboratory(trace="short.csv", rate=None, seconds=200).simulate(ALTERNATELY, 1, expected.watch)
    assert len(expected.tokens) == 800
    assert fmean(expected.tokens[:20]) > 60
    assert fmean(expected.tokens[-100:]) == pytest.approx(21, rel=0.35)


def test_how_soon_clouds_begin_and_how_far_replicas_are_from_their_forecasts(laboratory: MakeLaboratory) -> None:
    worlds = list[World]()
    laboratory(rate=4.0, seconds=420).simulate(ALTERNATELY, 1, worlds.append)
    lessons = worlds[0].decider.lessons
    cloud = lessons.experiences.of("cloud")
    assert cloud is not None
    assert cloud.answers > 50
    assert cloud.ttft_seconds < LEVEL_SECONDS / 2
    drift = lessons.drifts.of("small/1")
    assert drift is not None
    assert drift.tpot.ratio != 1.0
    assert drift.tpot.ratio == pytest.approx(1.0, abs=0.3)
