"""A trace made into another: a window of it, slower or faster, thinner, or its sessions spread over time. Pure; seeds decide."""

from bisect import bisect_left
from dataclasses import replace
from random import Random

from load.traces.trace import Arrival, Trace


def clip(trace: Trace, from_seconds: float, to_seconds: float) -> Trace:
    """The requests of [from, to), times counted from `from`. Raises ValueError where there are none.

    A session that began before goes on with the turn it had: its prompts are as long as they were.
    """
    times = [arrival.seconds for arrival in trace.arrivals]
    window = trace.arrivals[bisect_left(times, from_seconds) : bisect_left(times, to_seconds)]
    if not window:
        raise ValueError(f"no requests between {from_seconds:g} and {to_seconds:g} s")
    return replace(trace, arrivals=[one._replace(seconds=one.seconds - from_seconds) for one in window])


def from_zero(trace: Trace) -> Trace:
    """Its first request comes at 0."""
    began = trace.arrivals[0].seconds
    return replace(trace, arrivals=[one._replace(seconds=one.seconds - began) for one in trace.arrivals])


def scale(trace: Trace, speed: float) -> Trace:
    """The same requests, `speed` times as fast; what people think for stays as long. Raises ValueError unless speed > 0."""
    if not speed > 0:
        raise ValueError(f"a speed must be above 0, not {speed:g}")
    return replace(trace, arrivals=[one._replace(seconds=one.seconds / speed) for one in trace.arrivals])


def thin(trace: Trace, ratio: float, seed: int) -> Trace:
    """About this share of the requests, 0–1; of a session all or nothing. Raises ValueError when nothing is left."""
    random = Random(seed)
    kept: dict[str, bool] = {}

    def is_kept(arrival: Arrival) -> bool:
        if not arrival.session:
            return random.random() < ratio
        if arrival.session not in kept:
            kept[arrival.session] = random.random() < ratio
        return kept[arrival.session]

    return replace(trace, arrivals=[arrival for arrival in trace.arrivals if is_kept(arrival)])


def spread(trace: Trace, over_seconds: float, seed: int) -> Trace:
    """Each session begins at a random time within `over_seconds`, sub-agents (`session/…`) with their parent."""
    random = Random(seed)
    offsets: dict[str, float] = {}
    moved = []
    for arrival in trace.arrivals:
        root = arrival.session.split("/", 1)[0]
        if root not in offsets:
            offsets[root] = random.uniform(0, over_seconds) if root else 0.0
        moved.append(arrival._replace(seconds=arrival.seconds + offsets[root]))
    moved.sort(key=lambda one: one.seconds)
    return replace(trace, arrivals=moved)
