"""How much of a demand one replica takes. Pure.

By formula for all the many ways to build a replica (`load/calibration/open_loop.py`: means, with the queue for prefills), and by
a trial on the engine for those that are worth a second look: there the objectives hold for 99 % of the requests.
"""

from collections.abc import Sequence

from load.calibration.open_loop import OpenLoad, measure_open
from load.drive.result import Objectives
from load.plan.demand import Demand
from load.plan.trial import BLOCK_TOKENS, Trial, open_trial
from router.pricing.profile import EngineProfile

ATTAINMENT_MIN = 0.99
# Of the KV cache, what sequences hold on average where it shall hardly ever overflow.
CACHE_RATIO_MAX = 0.85
# Of the time, what prefills take: beyond, arrivals queue without end.
PREFILL_RATIO_MAX = 0.9
HALVINGS = 20
# Of the formula's rate, what a trial must leave for a replica to count as one that meets the objectives at all.
SETTLED_RATIO_MIN = 1 / 16
TRIALS = 6
# A trial lasts as long as so many generations of requests, and has at least so many of them.
GENERATIONS = 6
REQUESTS_MIN = 400
REQUESTS_MAX = 6000


def holds(profile: EngineProfile, demand: Demand, objectives: Objectives, per_second: float) -> bool:
    """Whether one replica serves so many requests a second, by formula: means within the objectives, room in the cache."""
    uncached = max(1.0, demand.prompt_tokens * (1 - demand.cached_ratio))
    load = OpenLoad(per_second, demand.prompt_tokens, uncached, demand.completion_tokens)
    found = measure_open(profile, load)
    wanted_running = per_second * demand.completion_tokens * found.tpot_seconds
    context = demand.prompt_tokens + demand.completion_tokens / 2
    latency = found.ttft_seconds + (demand.completion_tokens - 1) * found.tpot_seconds
    limits = (
        (found.ttft_seconds, objectives.ttft_seconds_max),
        (found.tpot_seconds, objectives.tpot_seconds_max),
        (latency, objectives.latency_seconds_max),
    )
    return (
        found.utilization_ratio <= PREFILL_RATIO_MAX
        and wanted_running <= profile.sequences_max
        and wanted_running * context <= CACHE_RATIO_MAX * profile.kv_capacity_tokens
        and all(limit is None or value <= limit for value, limit in limits)
    )


def rate_max(profile: EngineProfile, demand: Demand, objectives: Objectives) -> float:
    """Requests a second that one replica takes by formula; 0.0 where even a rare one is too slow, or does not fit."""
    if demand.tokens > profile.kv_capacity_tokens:
        return 0.0
    low, high = 0.0, 1e-3
    if not holds(profile, demand, objectives, high):
        return 0.0
    while holds(profile, demand, objectives, high):
        low, high = high, high * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if holds(profile, demand, objectives, middle):
            low = middle
        else:
            high = middle
    return low


def try_out(
    profile: EngineProfile,
    demand: Demand,
    objectives: Objectives,
    lengths: Sequence[tuple[int, int]],
    per_second: float,
    seed: int,
) -> Trial:
    """A trial long enough that the engine has filled and what queues is seen."""
    load = OpenLoad(per_second, demand.prompt_tokens, demand.prompt_tokens, demand.completion_tokens)
    found = measure_open(profile, load)
    at_once = per_second * (found.ttft_seconds + demand.completion_tokens * found.tpot_seconds)
    requests = min(REQUESTS_MAX, max(REQUESTS_MIN, round(GENERATIONS * at_once)))
    return open_trial(
        profile, lengths, per_second,
        requests=requests, objectives=objectives, cached_ratio=demand.cached_ratio, seed=seed,
    )  # fmt: skip


def settled_rate(
    profile: EngineProfile,
    demand: Demand,
    objectives: Objectives,
    lengths: Sequence[tuple[int, int]],
    *,
    attainment_min: float = ATTAINMENT_MIN,
    seed: int = 1,
) -> float:
    """Requests a second at which one replica still meets the objectives for `attainment_min` of them in a trial, to 2 % of what
    the formula says; 0.0 where it does at none that is worth having."""
    most = rate_max(profile, demand, objectives)

    def is_met(ratio: float) -> bool:
        trial = try_out(profile, demand, objectives, lengths, most * ratio, seed)
        return trial.attainment_ratio >= attainment_min

    if most <= 0 or max(prompt + completion for prompt, completion in lengths) > _sequence_tokens_max(profile):
        return 0.0
    low, high = SETTLED_RATIO_MIN, 1.0
    if not is_met(low):
        return 0.0
    for _ in range(TRIALS):
        middle = (low + high) / 2
        if is_met(middle):
            low = middle
        else:
            high = middle
    return most * low


def _sequence_tokens_max(profile: EngineProfile) -> int:
    """The longest request that fits, in whole blocks as the engine of a trial has them."""
    return profile.kv_capacity_tokens // BLOCK_TOKENS * BLOCK_TOKENS
