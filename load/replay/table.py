"""What was, what the replay makes of it, and what would have been: side by side, with what cannot be told said. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from load.replay.recorded import Recorded
from load.replay.run import Replayed
from load.simulate.table import Figure, figures, over_seeds

NOTES = (
    "Intervals are 95 % over the seeds: of what was not recorded (difficulty, drawn by category) and of ties.",
    "Answers are taken to be as long wherever they are made, and what was cached to be cached elsewhere, too.",
    "Whether an answer would have been as good is known only where the route is the same; quality is predicted.",
)


def recorded_figures(requests: Sequence[Recorded]) -> dict[str, float]:
    """Of what was. usd_charged: of the requests whose cost is known; the leases' idle time is in no charge."""
    ttfts = sorted(one.ttft_seconds for one in requests if one.ttft_seconds is not None)
    answered = [one for one in requests if one.is_ok]
    found = {
        "requests": float(len(answered)),
        "refused": float(len(requests) - len(answered)),
        "usd_charged": sum(one.cost_nanousd or 0 for one in requests) / 1e9,
        "unpriced": float(sum(one.cost_nanousd is None for one in requests)),
    }
    if ttfts:
        found["ttft_seconds_p50"] = ttfts[(len(ttfts) + 1) // 2 - 1]
        found["ttft_seconds_p99"] = ttfts[-(-99 * len(ttfts) // 100) - 1]
    return found


def replayed_figures(requests: Sequence[Recorded], played: Replayed) -> dict[str, float]:
    """Of one run. same_route_ratio: of the requests, those that went to the backend that they went to."""
    tally = played.done.tally
    same = sum(played.routes.get(number) == one.backend for number, one in enumerate(requests))
    charged = tally.useful_nanousd + tally.metered_nanousd + tally.lost_nanousd
    return {
        **figures(tally, played.done.bill),
        "usd_charged": charged / 1e9,
        "same_route_ratio": same / len(requests),
    }


def differences(before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """After less before, seed by seed: what the two have in common, chance included, cancels out."""
    return over_seeds([{name: two[name] - one[name] for name in one} for one, two in zip(before, after, strict=True)])


def moves(before: Replayed, after: Replayed) -> Counter[tuple[str, str]]:
    """From where to where requests would have gone, of those that would have gone elsewhere; "" for nowhere."""
    numbers = before.routes.keys() | after.routes.keys()
    pairs = Counter((before.routes.get(number, ""), after.routes.get(number, "")) for number in numbers)
    return Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1]})


# Heading, figure, form.
ROWS: tuple[tuple[str, str, str], ...] = (
    ("answered", "requests", "{:,.0f}"),
    ("not answered", "refused", "{:,.0f}"),
    ("$ charged", "usd_charged", "{:,.6f}"),
    ("$ in all, idle leases too", "usd_total", "{:,.6f}"),
    ("$ bought by the token", "usd_metered", "{:,.6f}"),
    ("TTFT p50 s", "ttft_seconds_p50", "{:.3f}"),
    ("TTFT p99 s", "ttft_seconds_p99", "{:.3f}"),
    ("quality, predicted", "quality", "{:.3f}"),
    ("on the recorded route", "same_route_ratio", "{:.1%}"),
)


def rows(
    was: Mapping[str, float], same: Mapping[str, Figure], other: Mapping[str, Figure], change: Mapping[str, Figure]
) -> list[tuple[str, str, str, str, str]]:
    """Figure; recorded; replayed as it was; replayed otherwise; the difference of the two replays."""
    return [
        (
            heading,
            form.format(was[name]) if name in was else "–",
            _shown(same[name], form),
            _shown(other[name], form),
            _shown(change[name], form.replace("{:", "{:+", 1)),
        )
        for heading, name, form in ROWS
    ]


def _shown(figure: Figure, form: str) -> str:
    text = form.format(figure.mean)
    return text if figure.half_width is None else f"{text} ± {form.replace('+', '').format(figure.half_width)}"


def told(
    was: Mapping[str, float], same: Mapping[str, Figure], other: Mapping[str, Figure], change: Mapping[str, Figure]
) -> dict[str, Any]:
    """For JSON."""

    def spread(found: Mapping[str, Figure]) -> dict[str, Any]:
        return {name: {"mean": one.mean, "half_width_95": one.half_width} for name, one in found.items()}

    return {
        "recorded": dict(was),
        "replayed": spread(same),
        "replayed_otherwise": spread(other),
        "difference": spread(change),
        "notes": list(NOTES),
    }
