"""How many second attempts the fleet may see, so that an outage is not multiplied by retrying.

A token bucket: every request adds `ratio`, every second `per_second`; a retry takes one. Over any stretch of time attempts
stay ≤ (1 + ratio) × requests + per_second × seconds + burst. The idea is Finagle's RetryBudget.
"""


class RetryBudget:
    """Times are monotonic seconds, passed in."""

    def __init__(self, ratio: float, per_second: float) -> None:
        self._at_seconds: float | None = None
        self._tokens = max(1.0, per_second)
        self.configure(ratio, per_second)

    def configure(self, ratio: float, per_second: float) -> None:
        """What was not taken stays, as far as the new bounds have room for it."""
        self._ratio = ratio
        self._per_second = per_second
        self._burst = max(1.0, per_second)
        self._tokens = min(self._tokens, self._burst + 100 * ratio)

    def request(self) -> None:
        self._tokens = min(self._tokens + self._ratio, self._burst + 100 * self._ratio)

    def take(self, now_seconds: float) -> bool:
        """Whether one more attempt may be made now."""
        if self._at_seconds is not None and self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + (now_seconds - self._at_seconds) * self._per_second)
        self._at_seconds = now_seconds
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
