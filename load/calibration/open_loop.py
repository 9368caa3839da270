"""What an open-loop load would meet: requests at a fixed rate, whoever is still there. Formulas, with the queue they make.

Steps that prefill come at the requests' rate and hold up the decoding of all; arrivals queue for them as at a counter with a
fixed time of service (M/D/1: Pollaczek–Khinchine). Pure.
"""

from typing import NamedTuple

from router.pricing.profile import EngineProfile

ROUNDS_MAX = 200
UTILIZATION_MAX = 0.98


class OpenLoad(NamedTuple):
    """prompt_tokens: all; uncached_tokens: those that the prefix cache does not hold."""

    requests_per_second: float
    prompt_tokens: float
    uncached_tokens: float
    completion_tokens: float


class Outcome(NamedTuple):
    """running: sequences decoding at once, on average. utilization_ratio: of the time, what prefills take."""

    ttft_seconds: float
    tpot_seconds: float
    running: float
    utilization_ratio: float

    def e2e_seconds(self, completion_tokens: float) -> float:
        return self.ttft_seconds + (completion_tokens - 1) * self.tpot_seconds


def measure_open(profile: EngineProfile, load: OpenLoad) -> Outcome:
    """Means, by a fixed point: the batch is as large as requests are slow, and they are as slow as the batch is large."""
    running = 1.0
    outcome = _at(profile, load, running)
    for _ in range(ROUNDS_MAX):
        found = min(load.requests_per_second * load.completion_tokens * outcome.tpot_seconds, profile.sequences_max)
        if abs(found - running) < 1e-3 * running:
            break
        running = (running + found) / 2
        outcome = _at(profile, load, running)
    return outcome


def _at(profile: EngineProfile, load: OpenLoad, running: float) -> Outcome:
    batch = max(round(running), 1)
    context = round(running * (load.prompt_tokens + load.completion_tokens / 2))
    tokens = max(round(load.uncached_tokens), 1)
    chunks = -(-tokens // profile.chunk_tokens)
    pairs = round(tokens * (load.prompt_tokens - load.uncached_tokens) + tokens * tokens / 2) // chunks
    decode = profile.step_seconds(batch, context, 0)
    prefill = chunks * profile.step_seconds(batch, context, tokens // chunks, pairs)
    added = prefill - chunks * decode
    utilization = min(load.requests_per_second * added, UTILIZATION_MAX)
    tpot = decode / (1 - utilization)
    wait = utilization / (2 * (1 - utilization)) * added
    step_under_way = decode / 2
    ttft = (
        profile.request_overhead_seconds
        + profile.request_seconds_per_token * load.prompt_tokens
        + step_under_way
        + wait
        + prefill
    )
    return Outcome(ttft, tpot, running, utilization)
