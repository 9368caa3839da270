"""What lies between client, router and replica, as time. Pure; chance comes from whoever asks."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Network:
    """exists: round trips and the time of HTTP and tokenizer are there; without, requests are at the engine at once.

    router_seconds: what a request takes in the router itself. jitter: a way takes this much more on average, 0 for none; the
    excess is exponential, so that some take much longer.
    """

    exists: bool = True
    router_seconds: float = 0.0
    jitter: float = 0.0

    def way_seconds(self, rtt_seconds: float, random: Random) -> float:
        """One way between router and replica."""
        if not self.exists:
            return 0.0
        seconds = rtt_seconds / 2
        return seconds * (1 + random.expovariate(1 / self.jitter)) if self.jitter else seconds

    @property
    def is_fixed(self) -> bool:
        """Whether a way takes always the same."""
        return not (self.exists and self.jitter)
