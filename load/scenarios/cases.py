"""Runs the cases of a restated figure: on the engine, by the planner, by the simulator, or by arithmetic alone."""

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from itertools import repeat
from math import prod
from pathlib import Path
from random import Random
from typing import Any

from load.drive.result import Objectives
from load.plan import market
from load.plan.capacity import settled_rate
from load.plan.demand import Demand, lengths_like, requests_per_second
from load.plan.fleet import cheapest
from load.plan.purchase import DAYS_PER_YEAR, GpuOffer, Source, TokenOffer, cheapest_available
from load.plan.trial import Ask, Conversation, Trial, closed_trial, conversations_trial, static_trial
from load.scenarios.claim import (
    Available,
    Capacity,
    Case,
    Closed,
    Compared,
    EngineConfig,
    LengthsConfig,
    Planned,
    Reckoned,
    Restated,
    SitesConfig,
    Static,
    Talk,
    look_up,
)
from load.scenarios.sites import Sites, sized
from load.simulate.scenario import Laboratory, PolicyChoice, Scenario
from load.simulate.table import figures as figures_of
from load.traces import read_trace
from router.pricing.profile import EngineProfile, Speculation, roofline_profile
from router.pricing.roofline import Deployment, ModelShape
from router.profiles import shipped

# Prices in force on this day, so that a figure does not change overnight.
DAY = date(2026, 11, 1)
SECONDS_PER_HOUR = 3600
USERS_MAX = 4096
TALK_ATTAINMENT_MIN = 0.95
# Turns of a trial in conversations, a user; at least so many in all.
TURNS_EACH = 6
TURNS_MIN = 400

Figures = dict[str, float]


def figures_by_case(restated: Restated, directory: Path) -> dict[str, Figures]:
    """Every case's figures, in the file's order: a case may use those before it. Raises ValueError, LookupError."""
    found: dict[str, Figures] = {}
    for name, case in restated.cases.items():
        found[name] = _run(case, found, directory, restated.seed)
    return found


def _run(case: Case, so_far: Mapping[str, Figures], directory: Path, seed: int) -> Figures:
    match case:
        case Closed():
            return _closed(case, seed)
        case Static():
            return _static(case, seed)
        case Capacity():
            return _capacity(case, seed)
        case Talk():
            return _talk(case, seed)
        case Planned():
            return _planned(case, seed)
        case SitesConfig():
            return _sites(case, so_far, seed)
        case Available():
            usd, served = cheapest_available([Source(**source.model_dump()) for source in case.sources])
            return {"usd_per_hour": usd, "served_ratio": served}
        case Compared():
            return _compared(case, directory, seed)
        case Reckoned():
            return {"value": _reckoned(case, so_far)}


def profile_of(engine: EngineConfig) -> EngineProfile:
    catalogue = shipped()
    if engine.figures is not None:
        return roofline_profile(**engine.figures.model_dump())
    limits = {} if engine.sequences_max is None else {"sequences_max": engine.sequences_max}
    if engine.shape is not None:
        shape = ModelShape(name="inline", expert_parameters=0.0, expert_ratio=0.0, **engine.shape.model_dump())
        deployment = Deployment(shape, catalogue.gpus[engine.gpu], engine.quantization, engine.gpus)
    else:
        deployment = catalogue.deployment(engine.model, engine.gpu, engine.quantization, engine.gpus)
    profile = catalogue.profile(deployment, **limits)
    changed: dict[str, Any] = {}
    if engine.kv_capacity_tokens is not None:
        changed["kv_capacity_tokens"] = engine.kv_capacity_tokens
    if engine.draft is not None:
        draft = engine.draft
        small = catalogue.profile(catalogue.deployment(draft.model, engine.gpu, draft.quantization, engine.gpus))
        changed["speculation"] = Speculation(
            draft_tokens=draft.tokens,
            acceptance_ratio=draft.acceptance_ratio,
            draft_seconds=draft.tokens * small.step_seconds(1, 0, 0),
        )
    return profile.model_copy(update=changed)


@lru_cache(maxsize=1)
def _offers() -> tuple[list[GpuOffer], list[TokenOffer]]:
    gpu_offers, token_offers, _ = market.read_offers(market.PRICES, DAY)
    return gpu_offers, token_offers


def usd_per_hour(engine: EngineConfig) -> float:
    """Of the replica. Raises LookupError for a price that there is not."""
    if engine.usd_per_hour is not None:
        return engine.usd_per_hour
    for offer in _offers()[0]:
        if offer.name == engine.price:
            return offer.usd_per_gpu_hour * engine.gpus
    raise LookupError(f"there is no price {engine.price} in {market.PRICES.name}")


def lengths_of(told: LengthsConfig) -> list[tuple[int, int]]:
    if not told.vary:
        return [(told.prompt_tokens, told.completion_tokens)]
    return lengths_like(read_trace().arrivals, told.prompt_tokens, told.completion_tokens)


def _asks(told: LengthsConfig, seed: int) -> Iterator[Ask]:
    lengths = lengths_of(told)
    if len(lengths) == 1:
        yield from repeat(Ask(*lengths[0]))
    random = Random(seed)
    while True:
        yield Ask(*random.choice(lengths))


def _of_trial(trial: Trial, usd_per_hour: float) -> Figures:
    per_second = usd_per_hour / SECONDS_PER_HOUR
    return {
        "requests_per_second": trial.requests / trial.seconds,
        "tokens_per_second": trial.tokens_per_second,
        "completion_tokens_per_second": trial.completion_tokens_per_second,
        "usd_per_million_tokens": per_second / trial.tokens_per_second * 1e6,
        "usd_per_million_completion_tokens": per_second / trial.completion_tokens_per_second * 1e6,
        "usd_per_request": per_second * trial.seconds / trial.requests,
        "usd_per_hour": usd_per_hour,
        "ttft_seconds_p50": trial.percentile("ttft", 50),
        "ttft_seconds_p99": trial.percentile("ttft", 99),
        "tpot_seconds_p50": trial.percentile("tpot", 50),
        "tokens_per_second_of_a_user": 1 / trial.percentile("tpot", 50) if trial.tpot_seconds else 0.0,
        "latency_seconds_mean": sum(trial.latency_seconds) / trial.requests,
        "cached_ratio": trial.cached_tokens / trial.prompt_tokens,
        "slots_ratio": trial.slots_ratio,
    }


def _closed(case: Closed, seed: int) -> Figures:
    trial = closed_trial(
        profile_of(case.engine), _asks(case.lengths, seed), case.users, requests=case.requests, seed=seed
    )
    return _of_trial(trial, usd_per_hour(case.engine))


def _static(case: Static, seed: int) -> Figures:
    profile = profile_of(case.engine)
    trial = static_trial(profile, lengths_of(case.lengths), case.batch, requests=case.requests, seed=seed)
    return _of_trial(trial, usd_per_hour(case.engine))


def _capacity(case: Capacity, seed: int) -> Figures:
    told = case.lengths
    demand = Demand(1.0, told.prompt_tokens, told.completion_tokens, cached_ratio=case.cached_ratio)
    objectives = Objectives(case.objectives.ttft_seconds_max, case.objectives.tpot_seconds_max)
    rate = settled_rate(profile_of(case.engine), demand, objectives, lengths_of(told), seed=seed)
    if not rate:
        raise ValueError("it meets the objectives at no rate")
    hourly = usd_per_hour(case.engine)
    return {
        "requests_per_second": rate,
        "tokens_per_second": rate * demand.tokens,
        "usd_per_hour": hourly,
        "usd_per_million_tokens": hourly / SECONDS_PER_HOUR / (rate * demand.tokens) * 1e6,
        "usd_per_request": hourly / SECONDS_PER_HOUR / rate,
    }


def _talk(case: Talk, seed: int) -> Figures:
    profile = profile_of(case.engine)
    objectives = Objectives(case.objectives.ttft_seconds_max, case.objectives.tpot_seconds_max)
    talk = Conversation(
        case.turns, case.new_tokens, case.completion_tokens, case.instruction_tokens, case.think_seconds
    )
    tried: dict[int, Trial] = {}

    def is_met(users: int) -> bool:
        tried[users] = conversations_trial(
            profile, talk, users,
            requests=max(TURNS_MIN, TURNS_EACH * users), objectives=objectives,
            has_prefix_cache=case.has_prefix_cache, seed=seed,
        )  # fmt: skip
        return tried[users].attainment_ratio >= TALK_ATTAINMENT_MIN

    low, high = 0, 1
    while high <= USERS_MAX and is_met(high):
        low, high = high, high * 2
    if not low:
        raise ValueError("it meets the objectives for no user at all")
    while high - low > max(1, low // 20):  # to 5 %
        middle = (low + high) // 2
        if is_met(middle):
            low = middle
        else:
            high = middle
    return {"users": float(low), **_of_trial(tried[low], usd_per_hour(case.engine))}


def _planned(case: Planned, seed: int) -> Figures:
    told, table = case.lengths, market.read_qualities()
    rate = case.requests_per_second
    if rate is None:
        assert case.tokens_per_day is not None
        rate = requests_per_second(case.tokens_per_day, told.prompt_tokens, told.completion_tokens)
    demand = Demand(
        rate, told.prompt_tokens, told.completion_tokens, case.peak_ratio, case.cached_ratio, case.quality_min
    )
    qualities = market.qualities_of(case.models, {}, table)
    gpu_offers, token_offers = _offers()
    plans = cheapest(
        demand,
        Objectives(case.objectives.ttft_seconds_max, case.objectives.tpot_seconds_max),
        market.builds(case.models, case.quantizations, case.gpus, qualities, table),
        [offer for offer in gpu_offers if offer.way.value in case.ways and offer.gpu in case.gpus],
        [offer for offer in token_offers if "metered" in case.ways and offer.model in case.models],
        qualities,
        lengths_of(told),
        wanted=1,
        seed=seed,
    )
    if not plans:
        raise ValueError("nothing meets this")
    best = plans[0]
    return {
        "usd_per_day": best.usd_per_day,
        "usd_per_month": best.usd_per_day * DAYS_PER_YEAR / 12,
        "usd_per_year": best.usd_per_year,
        "usd_per_million_tokens": best.usd_per_million_tokens,
        "tokens_per_day": demand.tokens_per_day,
        "replicas": best.replicas,
        "utilization_ratio": best.utilization_ratio or 0.0,
    }


def _sites(case: SitesConfig, so_far: Mapping[str, Figures], seed: int) -> Figures:
    rate = look_up(so_far, f"{case.replica}.requests_per_second")
    hourly = look_up(so_far, f"{case.replica}.usd_per_hour")
    told = Sites(
        case.sites, case.requests_per_minute, case.hours, case.zones, case.dispersion_ratio, rate * 60,
        case.covered_ratio,
    )  # fmt: skip
    found = sized(told, case.edge_ratio_min, seed)
    per_day = case.sites * case.requests_per_minute * 60 * 24
    return {
        **{name: float(getattr(found, name)) for name in found.__dataclass_fields__},
        "edge_usd_per_1000_requests": found.edge * hourly * 24 / per_day * 1000,
        "central_usd_per_1000_requests": found.central * hourly * 24 / per_day * 1000,
        "hybrid_usd_per_1000_requests": found.hybrid * hourly * 24 / per_day * 1000,
    }


def _compared(case: Compared, directory: Path, seed: int) -> Figures:
    policy = PolicyChoice(name=case.policy.name, parameters=case.policy.parameters)
    scenario = Scenario(
        config=Path(case.config),
        trace=Path(case.trace) if case.trace else None,
        rate=case.rate,
        seconds=case.seconds,
        seeds=(seed,),
        policies=(policy,),
        metered_profiles=case.metered_profiles,
    )
    laboratory = Laboratory(scenario, directory, {"NO_KEY": "none is needed"}, DAY)
    return figures_of(*laboratory.run(policy, seed))


def _reckoned(case: Reckoned, so_far: Mapping[str, Figures]) -> float:
    def number(told: float | str) -> float:
        return told if isinstance(told, float | int) else look_up(so_far, told)

    product = prod(map(number, case.times)) / prod(map(number, case.over)) if case.times or case.over else 0.0
    return product + sum(map(number, case.plus))
