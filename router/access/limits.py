"""How often a tenant may ask, and how often an address may show a wrong key. Time is monotonic and passed in.

Both are the generic cell rate algorithm (ITU-T I.371): one number for each party, the time at which its bucket will be
full again. Neither grows with what clients send: tenants come from the configuration, addresses are a bounded table.
"""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from router.access.keys import Identity
from router.errors import RateLimited

MINUTE_SECONDS = 60.0


class RequestLimits:
    """Requests per minute of each tenant, all its keys together.

    A minute's allowance may come at once and refills evenly: in any t seconds at most limit × (1 + t/60) requests pass.
    """

    def __init__(self) -> None:
        self._full_at_seconds: dict[str, float] = {}

    def admit(self, identity: Identity, now_seconds: float) -> None:
        """Count one request. Raises RateLimited with the time to wait; a refused request is not counted."""
        limit = identity.requests_per_minute
        if limit is None:
            return
        full_at = max(self._full_at_seconds.get(identity.tenant, now_seconds), now_seconds) + MINUTE_SECONDS / limit
        wait_seconds = full_at - now_seconds - MINUTE_SECONDS
        # Sums of binary fractions miss the exact minute by some 1e-12; a request that is due must not be late for that.
        if wait_seconds > 1e-9:
            raise RateLimited(
                f"Rate limit reached: {limit} requests per minute. Please try again in {wait_seconds:.3f}s.",
                retry_after_seconds=wait_seconds,
                detail=f"tenant {identity.tenant}",
            )
        self._full_at_seconds[identity.tenant] = full_at


class WrongKeyThrottle:
    """Slows down whoever tries keys: wrong keys above the rate are answered 429 instead of 401.

    A right key always passes, whatever its address did before: behind an ingress or NAT many clients share one address,
    and locking it out would let one of them lock out the others. The table holds `addresses_max` addresses; the one
    quiet for longest makes room. IPv6 clients are counted by their /64, the smallest network that a client is given.
    """

    def __init__(self, failures_per_minute: int = 60, burst: int = 20, addresses_max: int = 10_000) -> None:
        self._interval_seconds = MINUTE_SECONDS / failures_per_minute
        self._burst_seconds = burst * self._interval_seconds
        self._addresses_max = addresses_max
        self._full_at_seconds: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at_seconds)

    def failed(self, address: str, now_seconds: float) -> None:
        """Count one wrong key from an address (call it on Unauthenticated). Raises RateLimited when there are too many."""
        network = _network(address)
        full_at = max(self._full_at_seconds.get(network, now_seconds), now_seconds) + self._interval_seconds
        wait_seconds = full_at - now_seconds - self._burst_seconds
        if wait_seconds > 1e-9:
            self._full_at_seconds.move_to_end(network)
            raise RateLimited(
                "Too many incorrect API keys.", retry_after_seconds=wait_seconds, detail=f"address {address}"
            )
        self._full_at_seconds[network] = full_at
        self._full_at_seconds.move_to_end(network)
        if len(self._full_at_seconds) > self._addresses_max:
            self._full_at_seconds.popitem(last=False)


def _network(address: str) -> str:
    """The party behind an address; one name for all that are none (a Unix socket's client has no address)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(int(parsed) >> 64)
    return str(parsed)
