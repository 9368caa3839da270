"""Whether a run's figures may be believed: not when the client fell behind, nor when the server's queue still grew. Pure."""

from collections.abc import Sequence

import numpy as np

from load.drive.outcome import CUT_OFF, Outcome

# A user would not have been so late; later, the load was not the one that was asked for.
DISPATCH_DELAY_SECONDS_P99_MAX = 0.05
ACHIEVED_RATIO_MIN = 0.99
# How much more than the offered load the work under way may grow over the run, relative to its mean.
QUEUE_GROWTH_INDEX_MAX = 0.5
# With fewer requests a trend cannot be told from chance.
REQUESTS_MIN = 50
SAMPLES = 200


def objections(outcomes: Sequence[Outcome], *, planned: int, warmup_seconds: float, seconds: float) -> list[str]:
    """Why the figures may not be believed; none: they may.

    planned: requests that were due in the counted time, as far as that is known beforehand (first turns). seconds: when the
    last of them was due.
    """
    counted = [one for one in outcomes if one.scheduled_seconds >= warmup_seconds]
    if not counted:
        return ["no request was counted: all were due in the warm-up"]
    found = []
    delays = [one.sent_seconds - one.scheduled_seconds for one in counted]
    late = float(np.percentile(delays, 99))
    if late > DISPATCH_DELAY_SECONDS_P99_MAX:
        found.append(
            f"the client fell behind: it sent 1 % of the requests more than {1000 * late:,.0f} ms late; use more --processes, or "
            "a machine of its own"
        )
    if planned and len(counted) / planned < ACHIEVED_RATIO_MIN:
        found.append(f"only {len(counted):,} of {planned:,} requests were sent")
    growth = queue_growth_index(counted, warmup_seconds, seconds)
    if growth is not None and growth > QUEUE_GROWTH_INDEX_MAX:
        found.append(
            f"the run was not stationary: work under way grew by {growth:.1f} of its mean more than the load did; latencies "
            "depend on how long one measures"
        )
    cut = sum(one.error == CUT_OFF for one in counted)
    if cut:
        found.append(
            f"{cut:,} answers were cut off at the end: they had not come within the time that was left for them"
        )
    return found


def queue_growth_index(counted: Sequence[Outcome], from_seconds: float, to_seconds: float) -> float | None:
    """The rise of a straight line through the requests under way over the window, ÷ their mean, less the same of the requests
    that were due; None where there are too few to tell."""
    if len(counted) < REQUESTS_MIN or to_seconds <= from_seconds:
        return None
    times = np.linspace(from_seconds, to_seconds, SAMPLES)
    due = np.sort([one.scheduled_seconds for one in counted])
    ended = np.sort([one.ended_seconds for one in counted])
    under_way = np.searchsorted(due, times) - np.searchsorted(ended, times)
    window = (to_seconds - from_seconds) / 10
    offered = np.searchsorted(due, times) - np.searchsorted(due, times - window)
    settled = times >= from_seconds + window  # before, the window reaches out of what was counted
    return _rise(times[settled], under_way[settled]) - _rise(times[settled], offered[settled])


def _rise(times: "np.typing.NDArray[np.float64]", values: "np.typing.NDArray[np.int64]") -> float:
    mean = float(values.mean())
    if mean == 0:
        return 0.0
    slope = float(np.polyfit(times, values, 1)[0])
    return slope * float(times[-1] - times[0]) / mean
