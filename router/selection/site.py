"""An able backend with all that is known of it until the next configuration, and what a request would meet there.

A site's seats, one for each replica, remember what follows from the replica's load until that changes, so that a request over
many replicas costs little more than the arithmetic that is its own.
"""

from collections.abc import Mapping
from math import gcd

from router.domain.fleet import UP, Backend, Health, Load, Replica, Scrape
from router.domain.request import HostedTools, InferenceRequest
from router.pricing.drift import Drift, Drifts
from router.pricing.price import MeteredPrice, Purchase, Tariff
from router.pricing.quote import Lease, Outlook
from router.pricing.worst_case import leased_worst_case, metered_worst_case, tools_worst_case
from router.pricing.yields import Yield
from router.selection.experience import Experience
from router.selection.extent import extent
from router.selection.lessons import Lessons
from router.selection.sleep import Sleeper

# Ways through the seats of a site that chance chooses from; each comes by all of them.
STRIDES = 64


class Seat:
    """One replica of a site, and its outlook under the load that it had when it was last looked at; None where what that was
    made of is no more.

    scrape, drift: as last surveyed. is_silent: the scrape is too old to believe. sleeper: of one that scales to zero, else None.
    """

    __slots__ = ("drift", "id", "is_silent", "outlook", "replica", "scrape", "sleeper")

    def __init__(self, replica: Replica, sleeper: Sleeper | None = None) -> None:
        self.sleeper = sleeper
        self.id = replica.id
        self.replica = replica
        self.scrape: Scrape | None = None
        self.drift: Drift | None = None
        self.is_silent = False
        self.outlook: Outlook | None = None

    def look(self, lease: Lease, load: Load, drafting: Yield | None) -> Outlook:
        """Only where there is none under this load. drafting: the site's."""
        scrape = None if self.is_silent else self.scrape
        yield_ratio = 1.0 if drafting is None else drafting.mean_ratio
        self.outlook = outlook = Outlook(lease, load, scrape, self.drift, yield_ratio)
        return outlook

    def silent_seconds(self, now_seconds: float, fresh_from: float) -> float:
        """For how long nothing was heard of the replica; 0 where its scrape is believed, or there never was one."""
        scrape = self.scrape
        is_silent = scrape is not None and scrape.at_seconds < fresh_from
        if is_silent is not self.is_silent:
            self.is_silent, self.outlook = is_silent, None
        return now_seconds - scrape.at_seconds if scrape is not None and is_silent else 0.0


class Site:
    """level: the tier's place, 0 for the weakest. experience: with it, where it is metered; else nothing is learned. price: a
    lease with its engine's profile, or the price of tokens. drafting: what its steps were learned to yield, where it drafts.
    egress_nanousd_per_byte: of what leaves the pool. well_in: the last verdicts on replicas' health that all its own passed."""

    def __init__(
        self,
        backend: Backend,
        level: int,
        price: Lease | MeteredPrice,
        lessons: Lessons | None = None,
    ) -> None:
        lessons = lessons or Lessons()
        self.backend = backend
        self.level = level
        self.quality_ratio = backend.quality_ratio
        self.price = price
        self.scale_to_zero = backend.scale_to_zero
        self.experience = lessons.experiences.of(backend.name) or Experience()
        self.drafting = lessons.yields.of(backend.name)
        self.preempted = lessons.preemptions.of(backend.name)
        self.seats = tuple(Seat(replica, lessons.sleepers.of(replica.id)) for replica in backend.replicas)
        self.lease = price if isinstance(price, Lease) else None
        self.context_tokens = backend.context_tokens
        self.completion_tokens_max = backend.completion_tokens_max or backend.context_tokens
        self.own_rtt_seconds = backend.pool.rtt_seconds
        self.egress_nanousd_per_byte = backend.pool.egress_nanousd_per_gb / 1e9
        self.well_in: Mapping[str, Health] | None = None
        self._is_up = False
        self._up_in: Mapping[str, Health] | None = None
        self.is_spot = self.lease is not None and self.lease.purchase is Purchase.SPOT
        self._scrapes: Mapping[str, Scrape] | None = None
        self._drifts_version = -1
        self._is_stale = False
        # Ways through the seats for `sample.py`: steps by which one goes round without coming by one twice.
        self.strides = _strides(len(self.seats))
        self._by_id = {seat.id: seat for seat in self.seats}
        self._rtts = dict(backend.pool.rtt_seconds_from)

    def survey(self, scrapes: Mapping[str, Scrape], drifts: Drifts, *, is_stale: bool) -> None:
        """Have each seat know its replica's last scrape and drift, and forget the outlooks that others were in. is_stale: some of
        the scrapes are not believed."""
        version = drifts.version
        if scrapes is self._scrapes and version == self._drifts_version and is_stale is self._is_stale:
            return
        is_otherwise = version != self._drifts_version or is_stale is not self._is_stale
        self._scrapes, self._drifts_version, self._is_stale = scrapes, version, is_stale
        for seat in self.seats:
            scrape = scrapes.get(seat.id)
            if is_otherwise or scrape is not seat.scrape:
                seat.scrape, seat.drift, seat.outlook = scrape, drifts.of(seat.id), None
                seat.is_silent = False

    def loss_ratio(self, completion_tokens: float) -> float:
        """Of what a request takes of a replica, what is lost when replicas are taken away; its answer is as long as at the
        operating point."""
        if self.preempted is None or self.lease is None:
            return 0.0
        point = self.lease.point
        return self.preempted.loss_ratio(completion_tokens / point.tokens_per_step * point.step_seconds)

    def is_up_in(self, healths: Mapping[str, Health]) -> bool:
        """Whether all of its replicas may take work by these verdicts, whatever the time. They are gone through once."""
        if healths is not self._up_in:
            self._up_in = healths
            self._is_up = all(healths.get(seat.id, UP).is_usable for seat in self.seats)
        return self._is_up

    def holders(self, cached_tokens: Mapping[str, int], count: int) -> list[Seat]:
        """Seats whose prefix cache holds something of the prompt, those first that hold most; at most `count`."""
        by_id = self._by_id
        holding = [seat for replica in cached_tokens if (seat := by_id.get(replica)) is not None]
        holding.sort(key=lambda seat: (-cached_tokens[seat.id], seat.id))
        return holding[:count]

    def rtt_seconds(self, region: str) -> float:
        """Of the network, from clients in this region; the pool's own figure where nothing is said of it."""
        return self._rtts.get(region, self.own_rtt_seconds)

    def worst_case(self, request: InferenceRequest) -> int:
        """The most that an attempt here can cost, nano-dollars."""
        most = extent(request, self.backend)
        if isinstance(self.price, Lease):
            rtt_seconds = self.backend.pool.rtt_seconds
            starting = 0 if self.scale_to_zero is None else self.scale_to_zero.cold_start_seconds
            return leased_worst_case(
                self.price, most.prompt_tokens, most.completion_tokens, rtt_seconds, starting_seconds=starting
            )
        tariff = self.tariff(request.service_tier)
        tools = request.hosted_tools
        tools_nanousd = 0 if tools is None else tools_worst_case(self.price, tools)
        return tools_nanousd + metered_worst_case(
            tariff, most.prompt_tokens, most.completion_tokens, most.audio_seconds
        )

    def has_rates(self, service_tier: str) -> bool:
        """Whether it is known what a request costs here that asks for that service tier; on a lease it asks for nothing."""
        return isinstance(self.price, Lease) or self.price.tariff(service_tier) is not None

    def unpriced_tools(self, tools: HostedTools) -> list[str]:
        """Those of which it is not known what a call costs here; on a lease nothing beside its time."""
        price = self.price
        return [] if isinstance(price, Lease) else [tool for tool, _ in tools.calls if price.tool_nanousd(tool) is None]

    def tools_nanousd(self, tools: HostedTools) -> int:
        """Of the calls that are expected, as far as there are fees."""
        price = self.price
        assert not isinstance(price, Lease)
        return sum((price.tool_nanousd(tool) or 0) * calls for tool, calls in tools.expected_calls)

    def tariff(self, service_tier: str) -> Tariff:
        """Of one that is metered, and has rates."""
        price = self.price
        assert not isinstance(price, Lease)
        if not service_tier:
            return price
        tariff = price.tariff(service_tier)
        assert tariff is not None, "it was no candidate"
        return tariff


def _strides(count: int) -> tuple[int, ...]:
    """Steps by which one goes round `count` places without coming by one twice, spread over their range."""
    prime_to = [stride for stride in range(1, max(2, count)) if gcd(stride, count) == 1]
    every = max(1, len(prime_to) // STRIDES)
    return tuple(prime_to[::every][:STRIDES])
