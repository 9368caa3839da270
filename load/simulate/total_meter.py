"""The meter of a lease of which nobody asks what a single attempt paid. Pure.

Of the money that flows while attempts are open nothing is lost between them, so what they paid together follows from when some
were open and when none was, whatever their weights: to the nano-dollar what `ReplicaMeter` says of the same history, for two
events of a busy period instead of three of every attempt.
"""

from router.pricing.meter import NS_PER_HOUR, ReplicaMeter


class TotalMeter:
    """idle_nanousd: what nobody used; charged_nanousd: what attempts paid, those that are open left out; both as `ReplicaMeter`
    has them. last_ns: until when the lease is booked. Times are nanoseconds; what is earlier than the last is booked at the
    last."""

    __slots__ = ("_bill", "_rate", "_unspent", "charged_nanousd", "idle_nanousd", "last_ns")

    def __init__(self, meter: ReplicaMeter) -> None:
        """Goes on where that meter stands. What attempts open there have paid by then is charged here, when they are closed."""
        self._rate = meter.nanousd_per_hour
        self.last_ns = meter.last_ns
        self.idle_nanousd = meter.idle_nanousd
        self.charged_nanousd = meter.charged_nanousd
        # In nano-dollar nanoseconds an hour, as the bill is exact: all of it, and what of it is in no whole nano-dollar yet.
        self._bill = int(meter.bill * NS_PER_HOUR)
        self._unspent = self._bill - (self.charged_nanousd + self.idle_nanousd) * NS_PER_HOUR

    def begin(self, at_ns: int) -> None:
        """An attempt is opened, where none was open."""
        self._flow(at_ns)
        idle_nanousd, self._unspent = divmod(self._unspent, NS_PER_HOUR)
        self.idle_nanousd += idle_nanousd

    def end(self, at_ns: int) -> None:
        """The last of those that were open is closed."""
        self._flow(at_ns)
        charged_nanousd, self._unspent = divmod(self._unspent, NS_PER_HOUR)
        self.charged_nanousd += charged_nanousd

    def paid(self, at_ns: int, *, is_idle: bool) -> tuple[int, int]:
        """The bill until then, and what of it nobody used, nano-dollars."""
        if is_idle:
            self.begin(at_ns)
        else:
            self._flow(at_ns)
        return self._bill // NS_PER_HOUR, self.idle_nanousd

    def _flow(self, at_ns: int) -> None:
        elapsed_ns = at_ns - self.last_ns
        if elapsed_ns > 0:
            self.last_ns = at_ns
            cost = self._rate * elapsed_ns
            self._bill += cost
            self._unspent += cost
