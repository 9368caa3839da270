"""Rules that divide a replica's time among requests: jeton's meter, and those that others use. Seconds in, seconds out."""

from collections.abc import Sequence

from load.attribution.run import Outcome, Request, Seen
from router.pricing.meter import ReplicaMeter
from router.pricing.profile import EngineProfile
from router.pricing.weigher import Weigher

NANOUSD_PER_HOUR = 3_600 * 10**9  # a dollar a second: charges in nano-dollars are nanoseconds
NS = 1e9


def metered(
    profile: EngineProfile,
    outcome: Outcome,
    completion_tokens_expected: float | None,
    *,
    is_hit_known: bool = True,
    is_streaming: bool = True,
) -> list[float]:
    """What `ReplicaMeter` charges with the weights of `router/pricing/weigher.py`, on three events a request.

    completion_tokens_expected: of every request; None: each one's own length is known, as where clients bound it.
    is_hit_known: whether the router knows, when it sends a request, how much of the prompt is cached. is_streaming: whether it
    sees first tokens; else two events are all there is.
    """
    meter = ReplicaMeter(NANOUSD_PER_HOUR, 0)
    weigher = Weigher()
    charges = [0.0] * len(outcome.requests)
    mean = None if completion_tokens_expected is None else round(completion_tokens_expected)
    for at_seconds, seen, position in outcome.events:
        at_ns, name = round(at_seconds * NS), str(position)
        request = outcome.requests[position]
        if seen is Seen.OPENED:
            context = request.work.prompt_tokens
            prompt = context - request.sequence.cached_tokens if is_hit_known else context
            expected = request.work.completion_tokens if mean is None else mean
            weight = weigher.open(
                name, profile, at_ns, prompt, expected, context_tokens=context, is_streaming=is_streaming
            )
            meter.open(name, weight, at_ns)
        elif seen is Seen.FIRST_TOKEN:
            meter.advance(at_ns)
            weighed = weigher.first_token(name, at_ns, meter.occupied_seconds(name))
            if weighed is not None:
                meter.reweigh(name, weighed.weight, at_ns, *weighed[1:])
        else:
            computed = None
            if request.sequence.first_token_seconds is not None:
                computed = request.work.prompt_tokens - request.sequence.cached_tokens
            given_back = weigher.close(name, at_ns, computed)
            charges[position] = (meter.close(name, at_ns, given_back) or 0) / NS
    return charges


def in_proportion(requests: Sequence[Request], sizes: Sequence[float]) -> list[float]:
    """The same total as the truth's, divided by a size of each request."""
    rate = sum(request.truth_seconds for request in requests) / sum(sizes)
    return [rate * size for size in sizes]


def flat_per_token(requests: Sequence[Request]) -> list[float]:
    """Every token alike, cached or not, prompt or completion."""
    return in_proportion(requests, [request.tokens for request in requests])


def fixed_ratio(requests: Sequence[Request], output_per_input: float = 4.0) -> list[float]:
    """A completion token costs four prompt tokens, as on many price lists; a cached one a tenth."""
    sizes = [
        request.work.prompt_tokens
        - 0.9 * request.sequence.cached_tokens
        + output_per_input * request.sequence.produced_tokens
        for request in requests
    ]
    return in_proportion(requests, sizes)


def wall_time(requests: Sequence[Request]) -> list[float]:
    """By how long each took, from sending to its end."""
    return in_proportion(requests, [request.closed_seconds - request.opened_seconds for request in requests])
