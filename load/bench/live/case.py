"""What is sent to which fleet, the same for every policy: of flags, or of a scenario that is also run in simulated time.

Pure but for reading files. A scenario's requests are those of its simulation: `Laboratory` makes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import takewhile
from pathlib import Path

import click

from load.bench.comparison.command import ENVIRONMENT
from load.demo.emulation import Terms
from load.draws import Draws, Mix
from load.drive.result import Objectives
from load.drive.schedule import Session, Turn
from load.simulate.happenings import Absence, absences
from load.simulate.scenario import Laboratory, read_scenario
from load.traces import read_trace
from load.workload import Workload, read_prompts, timed_arrivals

HERE = Path(__file__).resolve().parents[1]
FLEET, FLEET_PRICES = HERE / "policies_fleet.yaml", HERE / "policies_prices.yaml"
TENANT = "bench"
MIX = Mix(models={"auto": 1.0}, tenants={TENANT: 1.0}, streaming_ratio=1.0)
SEED = 2023_11_16
TTFT_SECONDS_MAX = 2.0
TPOT_SECONDS_MAX = 0.1
OBJECTIVES = Objectives(TTFT_SECONDS_MAX, TPOT_SECONDS_MAX)
# What befalls a fleet in simulated time alone, as `Scenario` calls it.
SIMULATED_ALONE = ("failures", "price_changes", "autoscaling", "acceptance_by_kind", "keeps_lengths")


@dataclass(frozen=True)
class Case:
    """seconds: of sending, of which the first `warmup_seconds` are not counted. sessions: what is sent, and with `workload` its
    bodies. scenario: its name, "" where there is none. speed: against the trace, or the scenario. terms: of the emulation;
    None: the demo's. absences: replicas that are taken away."""

    fleet: Path
    seconds: float
    warmup_seconds: float
    speed: float
    seed: int
    objectives: Objectives
    workload: Workload
    sessions: Sequence[Session]
    scenario: str = ""
    terms: Terms | None = None
    absences: Sequence[Absence] = field(default=())

    @classmethod
    def of_flags(cls, fleet: Path, seconds: float, warmup_seconds: float, speed: float) -> "Case":
        """A stretch of the shipped trace, again from its beginning where it is too short."""
        trace = read_trace()
        arrivals = takewhile(lambda timed: timed[1] < seconds * speed, timed_arrivals(trace))
        sessions = [
            (Turn(number, arrival._replace(seconds=at_seconds / speed)),) for number, at_seconds, arrival in arrivals
        ]
        workload = Workload(trace, read_prompts(), MIX, seed=SEED)
        return cls(fleet, seconds, warmup_seconds, speed, SEED, OBJECTIVES, workload, sessions)

    @classmethod
    def of_scenario(
        cls,
        path: Path,
        *,
        seconds: float | None = None,
        warmup_seconds: float | None = None,
        speed: float = 1.0,
        seed: int | None = None,
    ) -> "Case":
        """A scenario as its file says, or for so long, so many times as fast, and by another seed. Raises ConfigRefused, OSError
        and ValueError for what cannot be used, and click's BadParameter for what is simulated alone."""
        scenario = read_scenario(path)
        for name in SIMULATED_ALONE:
            if getattr(scenario, name):
                raise click.BadParameter(f"{path.stem} has {name}, which is simulated alone", param_hint="--scenario")
        changed: dict[str, object] = {"speed": scenario.speed * speed}
        if scenario.rate is not None:
            changed["rate"] = scenario.rate * speed
        if seconds is not None:
            changed["seconds"] = seconds
        if warmup_seconds is not None:
            changed["warmup_seconds"] = warmup_seconds
        scenario = scenario.model_copy(update=changed)
        seed = scenario.seeds[0] if seed is None else seed
        laboratory = Laboratory(scenario, path.parent, ENVIRONMENT, date.today())
        trace = laboratory.trace(seed)
        taken = absences(
            scenario.preemptions,
            {backend.name: [one.id for one in backend.replicas] for backend in laboratory.loaded.backends},
            scenario.seconds,
            seed,
        )
        wanted = scenario.objectives
        return cls(
            (path.parent / scenario.config).resolve(),
            scenario.seconds,
            scenario.warmup_seconds,
            speed,
            seed,
            Objectives(wanted.ttft_seconds_max, wanted.tpot_seconds_max, wanted.latency_seconds_max),
            Workload(trace, read_prompts(), laboratory.mix, seed=seed),
            list(laboratory.sessions(seed)),
            scenario=path.stem,
            terms=Terms(
                metered_profiles=dict(scenario.metered_profiles),
                completion_tokens=tuple(arrival.completion_tokens for arrival in trace.arrivals),
                block_tokens=scenario.block_tokens,
                has_dev_mode=bool(taken),
            ),
            absences=taken,
        )

    def questions(self) -> dict[int, str]:
        """By the number of the request."""
        questions = self.workload.questions
        draws = Draws(self.workload.mix, len(questions), self.workload.seed)
        return {
            turn.number: questions[draws.draw(turn.number, turn.arrival).question]
            for session in self.sessions
            for turn in session
        }
