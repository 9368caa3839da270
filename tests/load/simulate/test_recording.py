"""A recording says where each slice of the lease went, and looks on without changing anything."""

from typing import Any

import pytest
from laboratories import MakeLaboratory

from load.simulate.recording import SLICES, Recorder
from load.simulate.scenario import PolicyChoice
from load.simulate.table import told_of_one
from load.simulate.world import World

QUIET: dict[str, Any] = {"warmup_seconds": 0, "seconds": 60, "rate": 2.0}
TURNS = PolicyChoice(name="round_robin")


def recorded(laboratory: MakeLaboratory, **changes: Any) -> tuple[Any, Any]:
    recorders: list[Recorder] = []

    def look_on(world: World) -> None:
        recorders.append(Recorder.of(world))

    done = laboratory(**{**QUIET, **changes}).simulate(TURNS, 1, look_on)
    return done, recorders[0].recording()


def test_useful_thin_and_idle_are_the_whole_lease_of_each_slice(laboratory: MakeLaboratory) -> None:
    _, recording = recorded(laboratory)
    edge, central = recording.pools["edge"], recording.pools["central"]
    # two replicas at 80 cents and one at 7.56 dollars an hour
    for slices, usd_per_hour in ((edge, 1.60), (central, 7.56)):
        for parts in zip(slices.useful, slices.thin, slices.idle, strict=True):
            assert sum(parts) == pytest.approx(usd_per_hour * 1e9 * recording.step_seconds / 3600, rel=1e-5)
            assert min(parts) >= 0


def test_what_was_bought_stands_where_its_answers_ended(laboratory: MakeLaboratory) -> None:
    done, recording = recorded(laboratory)
    bought = recording.pools["cloud"].bought
    assert sum(recording.whole().useful) > 0
    assert 0 < sum(bought) <= done.tally.metered_nanousd
    assert sum(recording.pools["edge"].bought) == 0
    assert recording.pools["cloud"].useful_ratios() == [None] * SLICES


def test_a_pool_that_nobody_asks_is_idle(laboratory: MakeLaboratory) -> None:
    _, recording = recorded(laboratory, models={"s": 1.0})
    assert sum(recording.pools["central"].useful) == sum(recording.pools["central"].thin) == 0
    assert set(recording.pools["central"].used_ratios()) == {0.0}
    assert max(ratio or 0 for ratio in recording.pools["edge"].used_ratios()) > 0.5


def test_recording_changes_no_figure(laboratory: MakeLaboratory) -> None:
    done, _ = recorded(laboratory)
    plain = laboratory(**QUIET).simulate(TURNS, 1)
    assert told_of_one(done) == told_of_one(plain)
