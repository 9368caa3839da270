"""Runs recorded requests over the configured fleet under one policy, in simulated time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from load.drive.schedule import Session, Turn
from load.replay.asks import RecordedAsks, by_category
from load.replay.recorded import Recorded
from load.simulate.attempt import Attempt
from load.simulate.scenario import Laboratory, PolicyChoice, Scenario, Simulation, check_policy
from load.traces import Arrival
from load.workload import read_prompts
from router.config_file import load
from router.domain.fleet import Billing
from router.domain.usage import Usage
from router.pricing.book import PriceBook


@dataclass(frozen=True, slots=True)
class Replayed:
    """One run. routes: where each request was answered, by number; one that was not is missing."""

    done: Simulation
    routes: Mapping[int, str]


class _Routes:
    """Where each request was answered."""

    def __init__(self) -> None:
        self.by_number: dict[int, str] = {}

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        if is_answered:
            journey = attempt.journey
            self.by_number[journey.session[journey.turn].number] = attempt.replica.backend.name


class Player:
    """config: a router.yaml. book: prices instead of its own, for the runs that ask for other prices. Raises as Laboratory
    does."""

    def __init__(
        self,
        config: Path,
        requests: Sequence[Recorded],
        environ: Mapping[str, str],
        day: date,
        *,
        metered_profiles: Mapping[str, str],
        book: PriceBook | None = None,
    ) -> None:
        self._requests = requests
        # The leases of the stretch, and not a moment more.
        seconds = max(1.0, requests[-1].seconds + 1e-6)
        self.scenario = Scenario(
            config=Path(config.name), seconds=seconds, warmup_seconds=0, metered_profiles=metered_profiles
        )
        self._laboratory = Laboratory(self.scenario, config.parent, environ, day)
        if not any(backend.replicas for backend in self._laboratory.loaded.backends):
            raise ValueError(f"{config} names no replica: a fleet that is found by discovery cannot be replayed on")
        self._other = self._laboratory
        if book is not None:
            self._other = Laboratory(self.scenario, config.parent, environ, day, book=book)
        self._predictions = by_category(self._laboratory.loaded.classifier, read_prompts())

    @property
    def configured(self) -> PolicyChoice:
        """The policy of the configuration."""
        return self._laboratory.policies[0]

    @staticmethod
    def metered(config: Path, environ: Mapping[str, str], day: date) -> list[str]:
        """Names of the backends that are paid by the token. Raises ConfigRefused."""
        loaded = load(config, environ=environ, day=day)
        return [backend.name for backend in loaded.backends if backend.pool.billing is Billing.METERED]

    def check(self, choice: PolicyChoice) -> None:
        """Raises ValueError for a policy that there is not, or that does not take these parameters."""
        check_policy(choice)

    def play(self, choice: PolicyChoice, seed: int, *, at_other_prices: bool = False) -> Replayed:
        routes = _Routes()
        laboratory = self._other if at_other_prices else self._laboratory
        asks = RecordedAsks(self._requests, self._predictions, seed=seed)
        done = laboratory.simulate_these(choice, seed, asks, self._sessions(), routes)
        return Replayed(done, routes.by_number)

    def _sessions(self) -> Iterator[Session]:
        for number, one in enumerate(self._requests):
            yield (Turn(number, Arrival(one.seconds, one.prompt_tokens, one.completion_tokens)),)
