"""A scenario: a fleet, a trace, what befalls the fleet, and policies. `jeton load simulate` runs one of them, `compare` all."""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, model_validator

from load.draws import Mix
from load.drive.result import Objectives
from load.drive.schedule import Session, Turn, sessions
from load.emulator.kinds import ANSWER_KINDS
from load.profiles import profile_named
from load.simulate.asks import Asks
from load.simulate.attempt import Journey
from load.simulate.decider import Decider, Price
from load.simulate.fleet import Bill
from load.simulate.happenings import FailureConfig, PreemptionConfig, PriceChangeConfig, schedule
from load.simulate.hindsight import Bounds, Place, Witness, bounds
from load.simulate.network import Network
from load.simulate.scaling import Scaler, ScalingConfig
from load.simulate.tally import Tally
from load.simulate.world import Asker, Observer, World
from load.traces import AZURE_CONVERSATION, Arrival, Trace, read_trace, shaping, synthetic
from load.workload import read_prompts
from router.config.section import Shape
from router.config_file import LoadedConfig, load
from router.config_policy import policy_at
from router.config_shape import check_shape
from router.config_source import ConfigRefused, Finding, Source, read_source
from router.deployment import deploy
from router.pricing.book import PriceBook
from router.pricing.price import LeasedPrice, MeteredPrice
from router.selection.eligibility import Fit, fit
from router.selection.loader import load_policy
from router.selection.quality import tier_qualities

# The collector's thresholds while a run lasts; Python's own are 700, 10, 10.
COLLECTING_SELDOM = (50_000, 20, 100)


class PolicyChoice(Shape):
    """label: how the table calls it; the policy's name where it is left out."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    label: str = ""

    @property
    def called(self) -> str:
        return self.label or self.name


class ObjectivesConfig(Shape):
    """What goodput counts."""

    ttft_seconds_max: float | None = Field(default=2.0, gt=0)
    tpot_seconds_max: float | None = Field(default=None, gt=0)
    latency_seconds_max: float | None = Field(default=None, gt=0)


class Scenario(Shape):
    """Paths count from the scenario's file.

    config: a router.yaml; where `policies` is left out, its own is looked at. trace: a file in any format that `jeton load
    drive` reads; the shipped ten minutes where left out. window: seconds of the trace. rate: requests a second, made up with
    the trace's lengths; variation: of the gaps, above 1 for bursts; shape: how the rate varies (`synthetic.SHAPES`). seconds: how
    long requests come. metered_profiles: an engine profile by backend for what a provider
    runs; the router does not know it. keeps_lengths: requests name the length of their completion, as those of `jeton load drive
    --keep-lengths` do, so that the router knows it beforehand. has_network: round trips and the time of HTTP and tokenizer;
    router_seconds: what a request takes in the router itself; network_jitter: by how much more, on average, a way takes than half
    the round trip.
    block_tokens: of a block of the engines' KV cache, vLLM's 16 on a GPU; prompts of a hundred thousand tokens take a run as much
    longer as there are blocks, and where the trace's own blocks are larger, smaller ones find no more in a cache.
    acceptance_by_kind: of backends that draft, how often their drafts are right for answers of a kind (a task category, or
    structured), 0–1; the router knows the profile's ratio only.
    failures, preemptions, price_changes, autoscaling: what befalls the fleet (`happenings.py`, `scaling.py`).
    """

    config: Path
    trace: Path | None = None
    window: tuple[float, float] | None = None
    speed: float = Field(default=1.0, gt=0)
    share: float = Field(default=1.0, gt=0, le=1)
    rate: float | None = Field(default=None, gt=0)
    variation: float = Field(default=1.0, gt=0)
    shape: str = ""
    seconds: float = Field(default=600.0, gt=0)
    warmup_seconds: float = Field(default=30.0, ge=0)
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    models: Mapping[str, float] = Field(default_factory=lambda: {"auto": 1.0})
    tenants: Mapping[str, float] = Field(default_factory=lambda: {"": 1.0})
    streaming_ratio: float = Field(default=1.0, ge=0, le=1)
    keeps_lengths: bool = False
    objectives: ObjectivesConfig = ObjectivesConfig()
    policies: tuple[PolicyChoice, ...] = ()
    metered_profiles: Mapping[str, str] = Field(default_factory=dict)
    has_network: bool = True
    router_seconds: float = Field(default=0.0, ge=0)
    network_jitter: float = Field(default=0.0, ge=0)
    block_tokens: int = Field(default=16, ge=1)
    acceptance_by_kind: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    failures: tuple[FailureConfig, ...] = ()
    preemptions: tuple[PreemptionConfig, ...] = ()
    price_changes: tuple[PriceChangeConfig, ...] = ()
    autoscaling: tuple[ScalingConfig, ...] = ()

    @model_validator(mode="after")
    def _labels_differ(self) -> "Scenario":
        called = sorted(policy.called for policy in self.policies)
        for one, other in pairwise(called):
            if one == other:
                raise ValueError(f"two policies are called {one}; give one of them another `label`")
        if self.shape and self.rate is None:
            raise ValueError("a `shape` goes with a `rate`; a recorded trace has its own")
        if self.rate is not None:
            synthetic.times(self.rate, self.seconds, Random(0), variation=self.variation, shape=self.shape)
        if self.warmup_seconds >= self.seconds:
            raise ValueError(f"the warm-up of {self.warmup_seconds:g} s takes all of {self.seconds:g} s")
        return self


def read_scenario(path: Path) -> Scenario:
    """A scenario's file. Raises ConfigRefused with all that is wrong with it, the parameters of its policies included."""
    source = read_source(path)
    scenario = check_shape(source, Scenario)
    mistakes = list(source.mistakes)
    for number, choice in enumerate(scenario.policies):
        policy_at(source, ("policies", number), choice.name, choice.parameters, mistakes)
    if mistakes:
        raise ConfigRefused(mistakes)
    return scenario


@dataclass(frozen=True, slots=True)
class Simulation:
    """A run. bounds: where they were asked for. happened: what befell the fleet, how often. seconds: when the last answer was
    there."""

    tally: Tally
    bill: Bill
    bounds: Bounds | None
    happened: Counter[str]
    decisions: int
    seconds: float


class Laboratory:
    """A scenario with its files read. Raises ConfigRefused, OSError and ValueError for what cannot be used."""

    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        environ: Mapping[str, str],
        day: date,
        *,
        book: PriceBook | None = None,
    ) -> None:
        """book: prices instead of the configuration's."""
        self.scenario = scenario
        self.loaded: LoadedConfig = load(directory / scenario.config, environ=environ, day=day)
        if book is not None:
            self.loaded = replace(self.loaded, book=book)
        self.day = day
        self._classifier = self.loaded.classifier
        self._questions = read_prompts()
        self._base = read_trace(directory / scenario.trace if scenario.trace is not None else AZURE_CONVERSATION)
        self.policies: Sequence[PolicyChoice] = scenario.policies or (
            PolicyChoice(name=self.loaded.config.policy.name, parameters=dict(self.loaded.config.policy.parameters)),
        )
        for policy in self.policies:
            check_policy(policy)
        self._deployment = deployment = deploy(self.loaded, day)
        for backend in deployment.backends:
            if backend.name not in deployment.prices:
                raise ValueError(f"{backend.name} has no price in force on {day}")
            if backend.scale_to_zero is not None:
                raise ValueError(
                    f"{backend.name} scales to zero, which is not simulated; take `scale_to_zero` out of a copy"
                )
        _check_names(scenario, {one.name: [replica.id for replica in one.replicas] for one in deployment.backends})
        for backend in deployment.backends:
            if backend.name not in self._profiles(deployment.profiles):
                raise ValueError(f"{backend.name} has no engine profile; give it one in metered_profiles")
        for change in scenario.price_changes:
            change.after(deployment.prices[change.backend])
        for preemption in scenario.preemptions:
            if preemption.backend and not isinstance(deployment.prices[preemption.backend], LeasedPrice):
                raise ValueError(f"preemptions: {preemption.backend} is paid by the token, and has no lease to end")
        for scaling in scenario.autoscaling:
            if not isinstance(deployment.prices[scaling.backend], LeasedPrice):
                raise ValueError(f"autoscaling: {scaling.backend} is paid by the token, and has no replicas to add")

    def trace(self, seed: int) -> Trace:
        """Its requests, all at once."""
        scenario = self.scenario
        if scenario.rate is not None:
            return Trace([turn.arrival for [turn] in self.sessions(seed)])
        return shaping.clip(shaping.scale(shaping.from_zero(self._lengths(seed)), scenario.speed), 0, scenario.seconds)

    def _lengths(self, seed: int) -> Trace:
        """The recorded trace, or what the scenario wants of it."""
        scenario, trace = self.scenario, self._base
        if scenario.window is not None:
            trace = shaping.clip(trace, *scenario.window)
        if scenario.share < 1:
            trace = shaping.thin(trace, scenario.share, seed)
        return trace

    def sessions(self, seed: int) -> Iterator[Session]:
        """As they begin. What is made up is made when it is asked for, so that a million requests take no room."""
        scenario = self.scenario
        if scenario.rate is None:
            yield from sessions(self.trace(seed))
            return
        lengths = self._lengths(seed).arrivals
        random = Random(seed)
        times = synthetic.times(
            scenario.rate, scenario.seconds, random, variation=scenario.variation, shape=scenario.shape
        )
        for number, at in enumerate(times):
            like = random.choice(lengths)
            yield (Turn(number, Arrival(at, like.prompt_tokens, like.completion_tokens, kind=like.kind)),)

    @property
    def mix(self) -> Mix:
        return Mix(self.scenario.models, self.scenario.tenants, self.scenario.streaming_ratio)

    def run(self, choice: PolicyChoice, seed: int) -> tuple[Tally, Bill]:
        """One policy on one seed, from a cold start."""
        done = self.simulate(choice, seed)
        return done.tally, done.bill

    def simulate(
        self,
        choice: PolicyChoice,
        seed: int,
        look_on: Callable[[World], object] = lambda world: None,
        *,
        has_bounds: bool = False,
    ) -> "Simulation":
        """One policy on one seed, from a cold start, with all that can be told of it.

        look_on: told of the world before it begins.
        has_bounds: with what the same answers must have cost, which takes scipy, and some 2 kB a request.
        """
        world, tally = self._world(choice, seed)
        witness = None
        if has_bounds:
            witness = Witness(
                self._qualities, block_tokens=self.scenario.block_tokens, warmup_seconds=self.scenario.warmup_seconds
            )
            world.observers.append(witness)
        look_on(world)
        with _seldom_collecting():
            world.run(self.sessions(seed))
        bill = world.bill()
        found = None
        if witness is not None:
            found = bounds(witness.served(), self._places(world, bill), tally.quality, bill.ended_seconds)
        return Simulation(tally, bill, found, world.happened, world.decisions, world.answered_seconds)

    def simulate_these(
        self,
        choice: PolicyChoice,
        seed: int,
        asks: Asker,
        these: Iterator[Session],
        observer: Observer,
    ) -> "Simulation":
        """Requests that are not the scenario's."""
        world, tally = self._world(choice, seed, asks)
        world.observers.append(observer)
        with _seldom_collecting():
            world.run(these)
        return Simulation(tally, world.bill(), None, world.happened, world.decisions, world.answered_seconds)

    def _qualities(self, journey: Journey) -> tuple[float | None, ...]:
        """Of the request at each backend; None where it is out of the question."""
        request, deployment = journey.request, self._deployment
        scope = {backend.name for backend in deployment.scopes.resolve(request.model).backends}
        tiers = deployment.tiers
        qualities = dict(zip(tiers, tier_qualities(journey.prediction, len(tiers)), strict=True))
        return tuple(
            qualities[backend.tier] * backend.quality_ratio
            if backend.name in scope and request.needs <= backend.capabilities and fit(backend, request) is not Fit.NO
            else None
            for backend in deployment.backends
        )

    def _places(self, world: World, bill: Bill) -> list[Place]:
        profiles = self._profiles(self._deployment.profiles)
        return [
            Place(
                min(world.fleet.prices_seen[backend.name], key=_rate),
                profiles[backend.name],
                bill.lease_seconds.get(backend.name, 0.0),
                bill.replicas_max.get(backend.name, 0),
            )
            for backend in self._deployment.backends
        ]

    def _world(self, choice: PolicyChoice, seed: int, asks: Asker | None = None) -> tuple[World, Tally]:
        scenario, deployment = self.scenario, deploy(self.loaded, self.day)
        block_tokens = 0 if scenario.rate is not None else self._base.block_tokens
        wanted = scenario.objectives
        tally = Tally(Objectives(wanted.ttft_seconds_max, wanted.tpot_seconds_max, wanted.latency_seconds_max))
        profiles, prices = self._profiles(deployment.profiles), deployment.prices
        config = self.loaded.config
        decider_on: Callable[[Callable[[], float]], Decider] = partial(
            Decider,
            deployment,
            config.aliases,
            load_policy(choice.name, choice.parameters),
            stale_seconds=config.health.stale_seconds,
            capacities={
                backend.name: profiles[backend.name].kv_capacity_tokens
                for backend in deployment.backends
                if not isinstance(prices[backend.name], MeteredPrice)
            },
        )
        world = World(
            deployment.backends,
            prices,
            profiles,
            decider_on,
            asks
            or Asks(
                self._classifier,
                self._questions,
                self.mix,
                block_tokens=block_tokens,
                seed=seed,
                keeps_lengths=scenario.keeps_lengths,
            ),
            tally,
            warmup_seconds=scenario.warmup_seconds,
            until_seconds=scenario.seconds,
            trace_block_tokens=block_tokens,
            network=Network(scenario.has_network, scenario.router_seconds, scenario.network_jitter),
            check_seconds=config.health.interval_seconds,
            block_tokens=scenario.block_tokens,
            seed=seed,
            acceptances=scenario.acceptance_by_kind,
        )
        schedule(
            world,
            failures=scenario.failures,
            preemptions=scenario.preemptions,
            price_changes=scenario.price_changes,
            prices=prices,
            seed=seed,
        )
        for scaling in scenario.autoscaling:
            Scaler(world, scaling)
        return world, tally

    def _profiles(self, known: Mapping[str, Any]) -> dict[str, Any]:
        return {**known, **{name: profile_named(profile) for name, profile in self.scenario.metered_profiles.items()}}


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Python's collector looks for cycles among all that lives, again and again, and a run makes hardly any: a third of the
    time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECTING_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _rate(price: Price) -> int:
    """For the least of several prices of one backend, which differ by a factor."""
    return price.nanousd_per_hour if isinstance(price, LeasedPrice) else price.rates.prompt + price.rates.completion


def check_policy(choice: PolicyChoice) -> None:
    """Raises ValueError, in the words of `jeton check`, for a policy that there is not, or that does not take the parameters."""
    places: list[tuple[str | int, ...]] = [(), ("name",), ("parameters",)]
    places += [("parameters", name) for name in choice.parameters]
    marks = dict.fromkeys(places, (1, 1))  # only what is there counts: the file is not known here
    source = Source(Path(), {"name": choice.name, "parameters": choice.parameters}, marks, marks)
    mistakes: list[Finding] = []
    policy_at(source, (), choice.name, choice.parameters, mistakes)
    if mistakes:
        raise ValueError("\n".join(f"policy {choice.name}: {one.what}; {one.remedy}" for one in mistakes))


def _check_names(scenario: Scenario, replicas: Mapping[str, Iterable[str]]) -> None:
    """Raises ValueError for a backend or a replica that is none. replicas: by backend."""
    ids = [one for several in replicas.values() for one in several]
    befalling = [("failures", one) for one in scenario.failures], [("preemptions", one) for one in scenario.preemptions]
    named = [
        *(("metered_profiles", name) for name in scenario.metered_profiles),
        *((where, one.backend) for several in befalling for where, one in several if one.backend),
        *(("price_changes", one.backend) for one in scenario.price_changes),
        *(("autoscaling", one.backend) for one in scenario.autoscaling),
        *(("acceptance_by_kind", name) for name in scenario.acceptance_by_kind),
    ]
    for where, name in named:
        if name not in replicas:
            raise ValueError(f"{where}: there is no backend {name}; there are {', '.join(sorted(replicas))}")
    for name, ratios in scenario.acceptance_by_kind.items():
        for kind, ratio in ratios.items():
            if kind not in ANSWER_KINDS or not 0 <= ratio <= 1:
                kinds = ", ".join(sorted(ANSWER_KINDS))
                raise ValueError(f"acceptance_by_kind: {name}: {kind}: {ratio} is no ratio, 0 to 1, of one of {kinds}")
    for several in befalling:
        for where, one in several:
            if one.replica and one.replica not in ids:
                raise ValueError(f"{where}: there is no replica {one.replica}; there are {', '.join(sorted(ids))}")
