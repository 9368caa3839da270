"""Wall-clock nanoseconds that never run backwards: read once at start, then carried by the monotonic clock."""

import time


class Clock:
    """A wall clock that jumps (NTP, an operator) does not move it; skew since start is `skew_ns`."""

    def __init__(self) -> None:
        self._anchor_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return self._anchor_ns + time.monotonic_ns()

    def skew_ns(self) -> int:
        """How far the wall clock has moved away from ours."""
        return time.time_ns() - self.now_ns()
