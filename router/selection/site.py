"""An able backend with all that is known of it until the next configuration, and what a request would meet there.

A site's seats, one for each replica, remember what follows from the replica's load until that changes, so that a request over
many replicas costs little more than the arithmetic that is its own.
"""

from collections.abc import Mapping
from functools import cached_property

from router.domain.fleet import Backend, Health, Load, Replica, Scrape
from router.domain.request import InferenceRequest
from router.pricing.price import MeteredPrice, Purchase
from router.pricing.quote import Lease, Outlook
from router.pricing.worst_case import leased_worst_case, metered_worst_case
from router.selection.extent import extent


class Seat:
    """One replica of a site, and its outlook under the load that it had when it was last looked at."""

    __slots__ = ("id", "outlook", "replica")

    def __init__(self, replica: Replica) -> None:
        self.id = replica.id
        self.replica = replica
        self.outlook: Outlook | None = None

    def look(self, lease: Lease, load: Load, scrape: Scrape | None) -> Outlook:
        """Only where load or scrape are others than before."""
        self.outlook = outlook = Outlook(lease, load, scrape)
        return outlook


class Site:
    """level: the tier's place, 0 for the weakest. price: a lease with its engine's profile, or the price of tokens.
    egress_nanousd_per_byte: of what leaves the pool. well_in: the last verdicts on replicas' health that all of its own
    passed."""

    def __init__(self, backend: Backend, level: int, price: Lease | MeteredPrice) -> None:
        self.backend = backend
        self.level = level
        self.price = price
        self.seats = tuple(Seat(replica) for replica in backend.replicas)
        self.egress_nanousd_per_byte = backend.pool.egress_nanousd_per_gb / 1e9
        self.well_in: Mapping[str, Health] | None = None
        self.is_spot = isinstance(price, Lease) and price.purchase is Purchase.SPOT

    @cached_property
    def _rtts(self) -> Mapping[str, float]:
        return dict(self.backend.pool.rtt_seconds_from)

    def rtt_seconds(self, region: str) -> float:
        """Of the network, from clients in this region; the pool's own figure where nothing is said of it."""
        pool = self.backend.pool
        return self._rtts.get(region, pool.rtt_seconds) if region else pool.rtt_seconds

    def worst_case(self, request: InferenceRequest) -> int:
        """The most that an attempt here can cost, nano-dollars."""
        most = extent(request, self.backend)
        if isinstance(self.price, Lease):
            rtt_seconds = self.backend.pool.rtt_seconds
            return leased_worst_case(self.price, most.prompt_tokens, most.completion_tokens, rtt_seconds)
        return metered_worst_case(self.price, most.prompt_tokens, most.completion_tokens, most.audio_seconds)
