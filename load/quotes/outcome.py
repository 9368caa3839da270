"""Quotes at the moment of sending, and what came of them, on the engine in time. Pure.

The router's side is what the live one has: its own work in flight, told by three events a request, and the engine's profile.
The load is Poisson or held by so many clients, as `load/attribution/run.py` makes it; the charge is `ReplicaMeter`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from load.attribution.mixes import Mix
from load.attribution.rules import NANOUSD_PER_HOUR, NS, metered
from load.attribution.run import Outcome, Seen, run
from router.domain.fleet import IDLE
from router.domain.usage import Usage
from router.fleet.in_flight import InFlight, Ticket
from router.pricing.price import LeasedPrice, Purchase
from router.pricing.profile import EngineProfile
from router.pricing.quote import Appraisal, Lease
from router.pricing.standard import standard_cost

# A dollar a second: quotes and charges in nano-dollars are nanoseconds of the replica.
REPLICA = "here"
PRICE = LeasedPrice("a-dollar-a-second", NANOUSD_PER_HOUR, Purchase.ON_DEMAND)


@dataclass(frozen=True, slots=True)
class Quoted:
    """One request: forecast and outcome. Seconds; money in seconds of the replica."""

    ttft_forecast_seconds: float
    ttft_seconds: float
    tpot_forecast_seconds: float
    tpot_seconds: float
    standard_quote: float
    standard: float
    allocated_quote: float
    allocated: float


def quoted(
    profile: EngineProfile, mix: Mix, clients: int, requests_wanted: int, *, seed: int, is_length_known: bool = True
) -> list[Quoted]:
    """Every request that came to its end. is_length_known: whether the router knows how long the completion will be (a client
    that bounds it is mostly held to the bound); else it expects the mix's mean. What the prefix cache holds is known."""
    outcome = run(profile, mix, clients, requests_wanted, seed=seed)
    mean_tokens = mix.completion_tokens_mean()
    appraisals = _appraisals(profile, outcome, None if is_length_known else mean_tokens)
    charges = metered(profile, outcome, mean_tokens)
    found = []
    for request, appraisal, charge in zip(outcome.requests, appraisals, charges, strict=True):
        sequence, first = request.sequence, request.sequence.first_token_seconds
        if first is None or sequence.produced_tokens < sequence.completion_tokens or sequence.completion_tokens < 2:
            continue
        usage = Usage(sequence.prompt_tokens, sequence.produced_tokens, cached_tokens=sequence.cached_tokens)
        found.append(
            Quoted(
                appraisal.ttft_seconds,
                first - request.opened_seconds,
                appraisal.tpot_seconds,
                (request.closed_seconds - first) / (sequence.produced_tokens - 1),
                appraisal.quote.standard_nanousd / NS,
                standard_cost(PRICE, profile, usage) / NS,
                appraisal.quote.allocated_nanousd / NS,
                charge,
            )
        )
    return found


def _appraisals(profile: EngineProfile, outcome: Outcome, expected_tokens: float | None) -> Sequence[Appraisal]:
    """What the router forecast for each request when it was sent, from its work in flight at that moment."""
    lease = Lease(PRICE, profile)
    found: list[Appraisal] = []
    in_flight = InFlight()
    tickets: dict[int, Ticket] = {}
    for _, seen, position in outcome.events:
        work, sequence = outcome.requests[position].work, outcome.requests[position].sequence
        if seen is Seen.OPENED:
            tokens = float(sequence.completion_tokens) if expected_tokens is None else expected_tokens
            load = in_flight.loads.get(REPLICA, IDLE)
            found.append(lease.appraise(load, None, work.prompt_tokens, tokens, sequence.cached_tokens))
            uncached_tokens = work.prompt_tokens - sequence.cached_tokens
            tickets[position] = in_flight.enter(REPLICA, uncached_tokens, round(tokens))
        elif seen is Seen.FIRST_TOKEN:
            tickets[position].first_token(work.prompt_tokens)
        else:
            tickets.pop(position).leave()
    return found
