"""A scenario: a fleet, a trace, and the policies that are to be compared on it. `jeton load compare scenario.yaml` reads one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, model_validator

from load.drive.result import Objectives
from load.drive.schedule import Session, sessions
from load.profiles import profile_named
from load.simulate.asks import Asks
from load.simulate.tally import Tally
from load.simulate.world import Bill, Fleet, World
from load.traces import AZURE_CONVERSATION, Trace, read_trace, shaping, synthetic
from load.workload import read_prompts
from router.classify.classifier import Classifier
from router.config.section import Shape
from router.config_file import LoadedConfig, load
from router.deployment import deploy
from router.pricing.price import MeteredPrice
from router.selection.loader import load_policy


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
    the trace's lengths. seconds: how long requests come. metered_profiles: an engine profile by backend for what a provider
    runs; the router does not know it. has_network: round trips and the time of HTTP and tokenizer.
    """

    config: Path
    trace: Path | None = None
    window: tuple[float, float] | None = None
    speed: float = Field(default=1.0, gt=0)
    share: float = Field(default=1.0, gt=0, le=1)
    rate: float | None = Field(default=None, gt=0)
    variation: float = Field(default=1.0, gt=0)
    seconds: float = Field(default=600.0, gt=0)
    warmup_seconds: float = Field(default=30.0, ge=0)
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    models: Mapping[str, float] = Field(default_factory=lambda: {"auto": 1.0})
    tenants: Mapping[str, float] = Field(default_factory=lambda: {"": 1.0})
    streaming_ratio: float = Field(default=1.0, ge=0, le=1)
    objectives: ObjectivesConfig = ObjectivesConfig()
    policies: tuple[PolicyChoice, ...] = ()
    metered_profiles: Mapping[str, str] = Field(default_factory=dict)
    has_network: bool = True

    @model_validator(mode="after")
    def _labels_differ(self) -> "Scenario":
        called = sorted(policy.called for policy in self.policies)
        for one, other in pairwise(called):
            if one == other:
                raise ValueError(f"two policies are called {one}; give one of them another `label`")
        if self.warmup_seconds >= self.seconds:
            raise ValueError(f"the warm-up of {self.warmup_seconds:g} s takes all of {self.seconds:g} s")
        return self


class Laboratory:
    """A scenario with its files read. Raises ConfigRefused, OSError and ValueError for what cannot be used."""

    def __init__(self, scenario: Scenario, directory: Path, environ: Mapping[str, str], day: date) -> None:
        self.scenario = scenario
        self.loaded: LoadedConfig = load(directory / scenario.config, environ=environ, day=day)
        self._day = day
        self._classifier = Classifier.load()
        self._questions = read_prompts()
        self._base = read_trace(directory / scenario.trace if scenario.trace is not None else AZURE_CONVERSATION)
        self.policies: Sequence[PolicyChoice] = scenario.policies or (
            PolicyChoice(name=self.loaded.config.policy.name, parameters=dict(self.loaded.config.policy.parameters)),
        )
        for policy in self.policies:
            try:
                load_policy(policy.name, policy.parameters)
            except LookupError as error:
                raise ValueError(str(error)) from error
        deployment = deploy(self.loaded, day)
        known = {backend.name for backend in deployment.backends}
        for name in scenario.metered_profiles:
            if name not in known:
                raise ValueError(f"metered_profiles: there is no backend {name}; there are {', '.join(sorted(known))}")
        for backend in deployment.backends:
            if backend.name not in self._profiles(deployment.profiles):
                raise ValueError(f"{backend.name} has no engine profile; give it one in metered_profiles")

    def trace(self, seed: int) -> Trace:
        scenario, trace = self.scenario, self._base
        if scenario.window is not None:
            trace = shaping.clip(trace, *scenario.window)
        if scenario.share < 1:
            trace = shaping.thin(trace, scenario.share, seed)
        if scenario.rate is not None:
            random = Random(seed)
            times = synthetic.gamma(scenario.rate, scenario.variation, scenario.seconds, random)
            return synthetic.made_up(times, trace.arrivals, random)
        return shaping.clip(shaping.scale(shaping.from_zero(trace), scenario.speed), 0, scenario.seconds)

    def run(self, choice: PolicyChoice, seed: int) -> tuple[Tally, Bill]:
        """One policy on one seed, from a cold start."""
        scenario, deployment = self.scenario, deploy(self.loaded, self._day)
        trace = self.trace(seed)
        asks = Asks(
            self._classifier,
            self._questions,
            models=scenario.models,
            tenants=scenario.tenants,
            streaming_ratio=scenario.streaming_ratio,
            block_tokens=trace.block_tokens,
            seed=seed,
        )
        wanted = scenario.objectives
        tally = Tally(Objectives(wanted.ttft_seconds_max, wanted.tpot_seconds_max, wanted.latency_seconds_max))
        fleet = Fleet(deployment.backends, deployment.tiers, deployment.prices, self._profiles(deployment.profiles))
        finder = deployment.finder
        finder.prefixes.follow(
            {
                replica.id: fleet.profiles[backend.name].kv_capacity_tokens
                for backend in fleet.backends
                for replica in backend.replicas
                if not isinstance(fleet.prices[backend.name], MeteredPrice)
            }
        )
        world = World(
            fleet,
            finder,
            deployment.scopes,
            load_policy(choice.name, choice.parameters),
            asks,
            tally,
            warmup_seconds=scenario.warmup_seconds,
            trace_block_tokens=trace.block_tokens,
            follows_prefixes=deployment.follows_prefixes,
            has_network=scenario.has_network,
            seed=seed,
        )
        ordered: Iterator[Session] = iter(sessions(trace))
        world.run(ordered, scenario.seconds)
        return tally, world.bill(scenario.seconds)

    def _profiles(self, known: Mapping[str, Any]) -> dict[str, Any]:
        return {**known, **{name: profile_named(profile) for name, profile in self.scenario.metered_profiles.items()}}
