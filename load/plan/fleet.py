"""The cheapest fleet for a demand, out of all ways to build a replica and to pay for it. Pure.

A formula bounds from below what each way costs (it looks at means), so they are tried out on the engine in that order, but for
those whose bound is already dearer than what has been found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple

from load.drive.result import Objectives
from load.plan.capacity import ATTAINMENT_MIN, rate_max, settled_rate, try_out
from load.plan.demand import SECONDS_PER_DAY, Demand
from load.plan.purchase import (
    DAYS_PER_YEAR,
    HOURS_PER_DAY,
    GpuOffer,
    TokenOffer,
    Way,
    serverless_replicas,
)
from router.pricing.profile import EngineProfile

# A serverless worker waits for more so long before it is let go (RunPod's default idle time-out).
LINGER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Build:
    """One way to build a replica. quality: of its answers, relative to the best model considered; None where nobody measured."""

    model: str
    gpu: str
    gpus: int
    quantization: str
    profile: EngineProfile
    quality: float | None = None
    is_measured: bool = False

    @property
    def label(self) -> str:
        return f"{self.model} {self.quantization} on {f'{self.gpus} × ' if self.gpus > 1 else ''}{self.gpu}"


class Settled(NamedTuple):
    """A build with as many replicas as the objectives take at the peak, and what a trial said of them there. rate: requests a
    second that one replica takes at most. latency_seconds: the mean."""

    build: Build
    replicas: int
    rate: float
    ttft_seconds_p99: float
    tpot_seconds_p99: float
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """settled: None where tokens are bought. utilization_ratio: of the paid capacity, what the mean demand uses."""

    way: Way
    offer: str
    model: str
    usd_per_day: float
    usd_per_million_tokens: float
    settled: Settled | None = None
    replicas: float = 0.0
    utilization_ratio: float | None = None
    quality: float | None = None

    @property
    def usd_per_year(self) -> float:
        return self.usd_per_day * DAYS_PER_YEAR

    @property
    def label(self) -> str:
        return self.settled.build.label if self.settled is not None else f"{self.model}, bought by the token"


def settle(
    build: Build,
    demand: Demand,
    objectives: Objectives,
    lengths: Sequence[tuple[int, int]],
    *,
    attainment_min: float = ATTAINMENT_MIN,
    seed: int = 1,
) -> Settled | None:
    """The fewest replicas that meet the objectives at the peak, each with its part of it; None where none would."""
    rate = settled_rate(build.profile, demand, objectives, lengths, attainment_min=attainment_min, seed=seed)
    if not rate:
        return None
    replicas = ceil(demand.peak_per_second / rate)
    trial = try_out(build.profile, demand, objectives, lengths, demand.peak_per_second / replicas, seed)
    return Settled(
        build,
        replicas,
        rate,
        trial.percentile("ttft", 99),
        trial.percentile("tpot", 99),
        sum(trial.latency_seconds) / trial.requests,
    )


def leased(settled: Settled, offer: GpuOffer, demand: Demand) -> Plan:
    """All replicas, all day; serverless ones while they work."""
    build = settled.build
    per_hour = offer.usd_per_gpu_hour * build.gpus
    replicas = float(settled.replicas)
    if offer.way is Way.SERVERLESS:
        replicas = serverless_replicas(
            demand.requests_per_second, settled.rate, settled.latency_seconds, LINGER_SECONDS
        )
    per_day = replicas * per_hour * HOURS_PER_DAY
    return Plan(
        offer.way,
        offer.name,
        build.model,
        per_day,
        per_day / demand.tokens_per_day * 1e6,
        settled,
        replicas,
        demand.requests_per_second / (replicas * settled.rate),
        build.quality,
    )


def bought(offer: TokenOffer, demand: Demand, quality: float | None) -> Plan:
    per_request = offer.usd_per_request(demand.prompt_tokens, demand.completion_tokens, demand.cached_ratio)
    per_day = per_request * demand.requests_per_second * SECONDS_PER_DAY
    return Plan(Way.METERED, offer.name, offer.model, per_day, per_day / demand.tokens_per_day * 1e6, quality=quality)


def is_good_enough(quality: float | None, demand: Demand) -> bool:
    """Where a floor is asked for, an unknown quality does not meet it."""
    return not demand.quality_min or (quality is not None and quality >= demand.quality_min)


def cheapest(
    demand: Demand,
    objectives: Objectives,
    builds: Sequence[Build],
    gpu_offers: Sequence[GpuOffer],
    token_offers: Sequence[TokenOffer],
    qualities: dict[str, float],
    lengths: Sequence[tuple[int, int]],
    *,
    wanted: int = 8,
    attainment_min: float = ATTAINMENT_MIN,
    seed: int = 1,
) -> list[Plan]:
    """The cheapest plans, cheapest first: `wanted` of them, no two of the same model, GPU, quantization and way of paying, and
    then the cheapest of every other way there is, cheapest first, too."""
    found: list[Plan] = []
    settled: dict[Build, Settled | None] = {}
    for token_offer in token_offers:
        quality = qualities.get(token_offer.model)
        if is_good_enough(quality, demand):
            found.append(bought(token_offer, demand, quality))
    for bound, build, offer in _by_bound(demand, objectives, builds, gpu_offers):
        best = _best(found, wanted)
        least_of_its_way = min((plan.usd_per_day for plan in found if plan.way is offer.way), default=inf)
        if len(best) == wanted and bound >= max(best[-1].usd_per_day, least_of_its_way):
            continue
        if build not in settled:
            settled[build] = settle(build, demand, objectives, lengths, attainment_min=attainment_min, seed=seed)
        one = settled[build]
        if one is not None:
            found.append(leased(one, offer, demand))
    best = _best(found, wanted)
    have = {plan.way for plan in best}
    others: dict[Way, Plan] = {}
    for plan in _best([plan for plan in found if plan.way not in have], len(found)):
        others.setdefault(plan.way, plan)
    return best + list(others.values())


def _best(found: Sequence[Plan], wanted: int) -> list[Plan]:
    """The cheapest of each kind of replica and way of paying, cheapest first."""
    best: dict[object, Plan] = {}
    for plan in sorted(found, key=lambda one: one.usd_per_day):
        build = plan.settled.build if plan.settled is not None else None
        what = plan.offer if build is None else (build.model, build.gpu, build.quantization)
        best.setdefault((plan.way, what), plan)
    return list(best.values())[:wanted]


def _by_bound(
    demand: Demand, objectives: Objectives, builds: Sequence[Build], offers: Sequence[GpuOffer]
) -> list[tuple[float, Build, GpuOffer]]:
    """Every way to build and pay with what it costs a day at least, the cheapest bound first."""
    found: list[tuple[float, Build, GpuOffer]] = []
    for build in builds:
        if not is_good_enough(build.quality, demand):
            continue
        most = rate_max(build.profile, demand, objectives)
        if most <= 0:
            continue
        for offer in offers:
            if offer.gpu != build.gpu:
                continue
            is_serverless = offer.way is Way.SERVERLESS
            replicas = demand.requests_per_second / most if is_serverless else ceil(demand.peak_per_second / most)
            bound = replicas * build.gpus * offer.usd_per_gpu_hour * HOURS_PER_DAY
            found.append((bound, build, offer))
    return sorted(found, key=lambda one: one[0])
