"""Arrivals that nobody recorded: times by a rate that may vary, lengths drawn from a trace. Pure; a seed decides everything.

A rate is requests a second as a function of time. Times follow a Poisson process of that rate, by thinning (Lewis and Shedler,
1979), or, for bursts, a renewal process with gamma-distributed gaps whose coefficient of variation is given.
"""

from collections.abc import Callable, Iterator, Sequence
from math import inf, pi, sin
from random import Random

from load.traces.trace import Arrival, Trace

Rate = Callable[[float], float]


def steady(per_second: float) -> Rate:
    return lambda _: per_second


def diurnal(mean_per_second: float, peak_ratio: float, day_seconds: float = 86_400.0) -> Rate:
    """A sine over the day, from its lowest at 0; peak_ratio: the highest rate ÷ the mean, 1–2."""
    swing = peak_ratio - 1
    return lambda seconds: mean_per_second * (1 - swing * sin(2 * pi * (seconds / day_seconds + 0.25)))


def ramp(from_per_second: float, to_per_second: float, seconds: float) -> Rate:
    """Straight from one rate to the other, and then that."""
    slope = (to_per_second - from_per_second) / seconds
    return lambda at: from_per_second + slope * min(at, seconds)


def spikes(base_per_second: float, spike_per_second: float, on_seconds: float, off_seconds: float) -> Rate:
    """The base rate for `off_seconds`, the spike's for `on_seconds`, and again."""
    period = on_seconds + off_seconds
    return lambda at: base_per_second if at % period < off_seconds else spike_per_second


# What a shape's numbers are, in the order in which they are written.
SHAPES = {
    "diurnal": ("peak ÷ mean", "seconds of a day"),
    "ramp": ("requests a second at the end", "seconds until then"),
    "spikes": ("requests a second in a spike", "seconds of a spike", "seconds between"),
}


def shaped(text: str, per_second: float) -> tuple[Rate, float]:
    """A rate that varies as the text says, and its bound: `diurnal:1.8:600`, `ramp:20:300` or `spikes:20:10:50`, whose numbers
    are those of SHAPES; per_second: its mean, what it begins with, or what it is between spikes. Raises ValueError."""
    kind, *told = text.split(":")
    try:
        numbers = [float(one) for one in told]
        if len(numbers) != len(SHAPES[kind]) or not all(0 < number < inf for number in numbers):
            raise ValueError
    except (KeyError, ValueError):
        forms = "; ".join(f"{name}:{':'.join(f'<{one}>' for one in of)}" for name, of in SHAPES.items())
        raise ValueError(f"the shape `{text}` is none of {forms}") from None
    if kind == "diurnal":
        peak, day = numbers
        if not 1 <= peak <= 2:
            raise ValueError(f"the shape `{text}`: a day's peak is 1 to 2 times its mean")
        return diurnal(per_second, peak, day), per_second * peak
    if kind == "ramp":
        to_per_second, over = numbers
        return ramp(per_second, to_per_second, over), max(per_second, to_per_second)
    spike, on, off = numbers
    return spikes(per_second, spike, on, off), max(per_second, spike)


def times(
    per_second: float, seconds: float, random: Random, *, variation: float = 1.0, shape: str = ""
) -> Iterator[float]:
    """Arrivals at this rate: bursts where the variation is above 1, or a Poisson process of a rate that varies. Raises ValueError
    for both at once, and as `shaped` does."""
    if not shape:
        return gamma(per_second, variation, seconds, random)
    if variation != 1:
        raise ValueError(
            f"a variation of {variation:g} and the shape `{shape}`: gaps vary, or the rate does; leave one out"
        )
    return poisson(*shaped(shape, per_second), seconds, random)


def poisson(rate: Rate, rate_max: float, seconds: float, random: Random) -> Iterator[float]:
    """Times of a Poisson process. rate_max: above every value of `rate`; ValueError where it is not."""
    at = 0.0
    while (at := at + random.expovariate(rate_max)) < seconds:
        now = rate(at)
        if now > rate_max:
            raise ValueError(f"the rate at {at:g} s is {now:g}, above the {rate_max:g} that was given as its bound")
        if random.random() * rate_max < now:
            yield at


def gamma(per_second: float, variation: float, seconds: float, random: Random) -> Iterator[float]:
    """Times with gamma-distributed gaps. variation: their standard deviation ÷ their mean; 1 is Poisson, above it bursts."""
    shape = 1 / variation**2
    at = 0.0
    while (at := at + random.gammavariate(shape, 1 / (per_second * shape))) < seconds:
        yield at


def made_up(times: Iterator[float], lengths: Sequence[Arrival], random: Random) -> Trace:
    """Requests at these times, each as long as one of `lengths` drawn at random: its prompt and its completion together."""
    arrivals = []
    for at in times:
        like = random.choice(lengths)
        arrivals.append(Arrival(at, like.prompt_tokens, like.completion_tokens, kind=like.kind))
    return Trace(arrivals)
