"""From a request to the replicas that may serve it, each with its forecasts, and to the reasons of those that may not.

Runs for every request, over every replica in scope; what does not change between two requests (who is able, at which price)
is worked out once per model name and set of needs. Ranking is the policies' business. What may not live here: the clock
(`now_seconds` is monotonic and comes from the caller).
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from router.domain.decision import Candidate, Exclusion, Prediction
from router.domain.fleet import UP, Backend, HealthState, Load, Scrape, Snapshot
from router.domain.request import Capability, HostedTools, InferenceRequest
from router.errors import Refusal
from router.pricing.price import MeteredPrice, Price
from router.pricing.profile import EngineProfile
from router.pricing.quote import Lease
from router.selection.appraisal import Sight, appraise
from router.selection.ask import NOTHING_CACHED, Ask
from router.selection.eligibility import Fit, fit, why_too_long, why_unable
from router.selection.lessons import Lessons
from router.selection.refusal import (
    refuse_for_now,
    refuse_hosted_tools,
    refuse_service_tier,
    refuse_tenant,
    refuse_too_long,
    refuse_unable,
)
from router.selection.sample import by_chance, in_order_of_chance
from router.selection.scope import Scope
from router.selection.site import Seat, Site
from router.selection.tenancy import Tenancy, why_not_for

# Of one backend, when nothing else is configured: more than most have, and few enough for a millisecond's decision.
SEATS_MAX = 64
# Combinations of model names, needs and tenants that are remembered: more than clients that mean well ever use.
ABLE_MAX = 4096


class _Able(NamedTuple):
    """The backends of a scope that can do what is needed, and why the others cannot."""

    sites: list[Site]
    exclusions: list[Exclusion]


class Finder:
    """Finds candidates under one configuration; make a new one when prices, profiles or tiers change.

    tiers: weakest first. prices: in force, by backend. profiles: by profile name. stale_seconds: the age from which on a scrape
    is not believed. lessons: what was learned of the fleet. seats_max: of one backend's replicas, how many a request looks at
    (`sample.py`).
    """

    def __init__(
        self,
        *,
        tiers: tuple[str, ...],
        prices: Mapping[str, Price],
        profiles: Mapping[str, EngineProfile],
        stale_seconds: float,
        lessons: Lessons | None = None,
        seats_max: int = SEATS_MAX,
    ) -> None:
        self._levels = {tier: level for level, tier in enumerate(tiers)}
        self._prices = prices
        self._profiles = profiles
        self._stale_seconds = stale_seconds
        self.seats_max = seats_max
        self.lessons = lessons = lessons or Lessons()
        self._drifts, self._prefixes, self._lengths = lessons.drifts, lessons.prefixes, lessons.lengths
        self._sites: dict[str, Site] = {}
        # Of the last snapshot's scrapes; a snapshot's are never changed.
        self._scrapes: Mapping[str, Scrape] = {}
        self._oldest_scrape_seconds = inf
        # By model name, needs and tenant, all from bounded sets: only configured names have a scope, needs follow from the
        # endpoint and a few features of the body, and a tenant is named here only where rules of its own hold.
        self._able: dict[tuple[str, frozenset[Capability], str], _Able] = {}

    def find(
        self,
        request: InferenceRequest,
        scope: Scope,
        snapshot: Snapshot,
        loads: Mapping[str, Load],
        prediction: Prediction | None,
        now_seconds: float,
        *,
        tenancy: Tenancy | None = None,
        are_holds_wanted: bool = False,
        takes_doubtful: bool = False,
    ) -> tuple[list[Candidate], list[Exclusion]]:
        """The candidates, at least one; and every replica or whole backend of the scope that is none, with the reason.

        Backends that may be too short, for prompt or answer, are candidates only where there are no others. When health leaves
        none, replicas that were ejected for their answers, and backends that answer too seldom, are candidates all the same: both
        are guesses, and with everybody out poor ones (panic). One that is down, cooling or refuses our key never is.

        Raises BadRequest when nothing in scope can do what is needed or has a price for the service tier (where holds are wanted,
        for hosted tools, too), ContextTooLong when nothing is long enough, RateLimited or Unavailable, with the smallest wait,
        when nothing is fit for now.

        tenancy: the tenant's rules, where it has any. are_holds_wanted: give each candidate the most that it can cost, for
        `affordable.py` and `terms.py` to judge. takes_doubtful: where these refuse all the others, backends that may be too short
        or that answer too seldom are candidates beside them; replicas that were ejected are not.
        """
        tenant, region = ("", "") if tenancy is None else (tenancy.tenant, tenancy.region)
        able = self._able.get((scope.model, request.needs, tenant)) or self._assess(scope, request.needs, tenancy)
        fitting: list[Site] = []
        doubtful: list[Site] = []
        sites, exclusions = able.sites, able.exclusions.copy()
        if request.service_tier:
            sites = _with_rates(sites, request.service_tier, exclusions)
        rated, tools = sites, request.hosted_tools
        if tools is not None and are_holds_wanted:
            sites = _with_fees(sites, tools, exclusions)
        # What surely fits needs no closer look.
        completion_tokens = request.completion_tokens_max or 1
        tokens = request.prompt.tokens_estimate + completion_tokens
        for site in sites:
            if tokens <= site.context_tokens and completion_tokens <= site.completion_tokens_max:
                fitting.append(site)
                continue
            match fit(site.backend, request):
                case Fit.YES:
                    fitting.append(site)
                case Fit.DOUBTFUL:
                    doubtful.append(site)
                case Fit.NO:
                    exclusions.append(Exclusion(site.backend.name, "", why_too_long(site.backend, request)))
        if snapshot.scrapes is not self._scrapes:
            self._scrapes = snapshot.scrapes
            self._oldest_scrape_seconds = min((one.at_seconds for one in self._scrapes.values()), default=inf)
        fresh_from = now_seconds - self._stale_seconds
        is_stale = self._oldest_scrape_seconds < fresh_from
        sight = Sight(snapshot, loads, now_seconds, fresh_from, is_stale, self._drifts)
        cached_tokens = self._prefixes.cached_tokens(request.prefix) if request.prefix else NOTHING_CACHED
        length = self._lengths.of(request, prediction)
        ask = Ask(
            request,
            prediction,
            len(self._levels),
            cached_tokens,
            length_ratio=1.0 if length is None else length.ratio,
            region=region,
            are_holds_wanted=are_holds_wanted,
        )
        ejected: list[tuple[Site, Seat]] = []
        candidates = _admitted(fitting, ask, sight, exclusions, ejected, self.seats_max, takes_doubtful)
        if candidates and not takes_doubtful:
            for site in doubtful:
                exclusions.append(Exclusion(site.backend.name, "", why_too_long(site.backend, request)))
        elif doubtful:
            candidates += _admitted(doubtful, ask, sight, exclusions, ejected, self.seats_max, takes_doubtful)
        if not candidates and ejected:
            for site, seat in ejected:
                appraise(site, (seat,), ask, sight, candidates)
            panicking = {seat.replica.id for _, seat in ejected}
            exclusions = [exclusion for exclusion in exclusions if exclusion.replica not in panicking]
        if not candidates:
            if able.sites and not rated:
                raise refuse_service_tier(request, able.sites)
            if rated and not sites:
                raise refuse_hosted_tools(request, rated)
            raise _refusal(request, scope, sites, fitting + doubtful, exclusions, sight, tenancy)
        return candidates, exclusions

    def _assess(self, scope: Scope, needs: frozenset[Capability], tenancy: Tenancy | None) -> _Able:
        """Who is able, whatever the hour; remembered."""
        able = _Able([], [])
        for backend in scope.backends:
            price, profile = self._prices.get(backend.name), self._profiles.get(backend.profile)
            if not needs <= backend.capabilities:
                able.exclusions.append(Exclusion(backend.name, "", why_unable(backend, needs)))
            elif why := why_not_for(tenancy, backend):
                able.exclusions.append(Exclusion(backend.name, "", why))
            elif price is None:
                able.exclusions.append(Exclusion(backend.name, "", "no price in force"))
            elif isinstance(price, MeteredPrice):
                able.sites.append(self._site(backend, price))
            elif profile is None:
                able.exclusions.append(Exclusion(backend.name, "", "no engine profile to share its hours out by"))
            else:
                able.sites.append(self._site(backend, Lease(price, profile)))
        if len(self._able) >= ABLE_MAX:
            self._able.clear()
        self._able[scope.model, needs, "" if tenancy is None else tenancy.tenant] = able
        return able

    def _site(self, backend: Backend, price: Lease | MeteredPrice) -> Site:
        """One for each backend, whoever asks: its seats remember their outlooks."""
        site = self._sites.get(backend.name)
        if site is None:
            self._sites[backend.name] = site = Site(backend, self._levels[backend.tier], price, self.lessons)
        return site


def _with_rates(sites: Iterable[Site], service_tier: str, exclusions: list[Exclusion]) -> list[Site]:
    """Those of which it is known what the request costs; the others go to the exclusions, as those without any price do."""
    found: list[Site] = []
    for site in sites:
        if site.has_rates(service_tier):
            found.append(site)
        else:
            why = f"its price has no rates for the service tier `{service_tier}`"
            exclusions.append(Exclusion(site.backend.name, "", why))
    return found


def _with_fees(sites: Iterable[Site], tools: HostedTools, exclusions: list[Exclusion]) -> list[Site]:
    """Those of which it is known what calls of these tools cost, so that it can be held; the others go to the exclusions."""
    found: list[Site] = []
    for site in sites:
        if unpriced := site.unpriced_tools(tools):
            names = ", ".join(f"`{tool}`" for tool in unpriced)
            exclusions.append(Exclusion(site.backend.name, "", f"its price has no fee for calls of {names}"))
        else:
            found.append(site)
    return found


def _admitted(
    sites: Iterable[Site],
    ask: Ask,
    sight: Sight,
    exclusions: list[Exclusion],
    ejected: list[tuple[Site, Seat]],
    seats_max: int,
    takes_shunned: bool,
) -> list[Candidate]:
    """The replicas of these sites that are fit for now; the others go to the exclusions, and the ejected are listed too.

    takes_shunned: sites that answer too seldom are no others.
    """
    candidates: list[Candidate] = []
    healths = sight.snapshot.health
    for site in sites:
        seats: Sequence[Seat] = site.seats
        if len(seats) > seats_max:
            if ask.cached_tokens or not site.is_up_in(healths):
                seats = _sampled(site, ask, sight, exclusions, ejected, seats_max)
            else:
                seats = by_chance(site, ask.request.request_id, seats_max)
        elif site.well_in is not healths:  # else it is known that all of them are up
            fit_seats = []
            for seat in seats:
                health = healths.get(seat.replica.id, UP)
                if health.is_usable or health.admits(sight.now_seconds):
                    fit_seats.append(seat)
                    continue
                exclusions.append(Exclusion(site.backend.name, seat.replica.id, health.why))
                if health.state is HealthState.EJECTED:
                    ejected.append((site, seat))
            if len(fit_seats) < len(seats):
                seats = fit_seats
            else:
                site.well_in = healths
        if site.lease is None and site.experience.is_shunned and not takes_shunned:
            _shun(site, seats, exclusions, ejected)
        elif seats:
            appraise(site, seats, ask, sight, candidates)
    return candidates


def _shun(site: Site, seats: Iterable[Seat], exclusions: list[Exclusion], ejected: list[tuple[Site, Seat]]) -> None:
    """It answers too seldom, so it is out like what was ejected."""
    experience = site.experience
    why = (
        f"answers {experience.availability_ratio:.0%} of what it is asked, less than {experience.availability_min:.0%}"
    )
    for seat in seats:
        exclusions.append(Exclusion(site.backend.name, seat.id, why))
        ejected.append((site, seat))


def _sampled(
    site: Site,
    ask: Ask,
    sight: Sight,
    exclusions: list[Exclusion],
    ejected: list[tuple[Site, Seat]],
    seats_max: int,
) -> tuple[Seat, ...]:
    """As many of its seats as are looked at, all of them fit for now; where most are not, all are tried."""
    found: list[Seat] = []
    healths = sight.snapshot.health
    for seat in in_order_of_chance(site, ask.request.request_id, ask.cached_tokens, seats_max):
        health = healths.get(seat.id, UP)
        if health.is_usable or health.admits(sight.now_seconds):
            found.append(seat)
            if len(found) == seats_max:
                break
            continue
        exclusions.append(Exclusion(site.backend.name, seat.id, health.why))
        if health.state is HealthState.EJECTED:
            ejected.append((site, seat))
    return tuple(found)


def _refusal(
    request: InferenceRequest,
    scope: Scope,
    able: Iterable[Site],
    fitting: Iterable[Site],
    exclusions: Iterable[Exclusion],
    sight: Sight,
    tenancy: Tenancy | None,
) -> Refusal:
    """Why nothing is left, from the lasting reasons to the passing ones."""
    capable = [backend for backend in scope.backends if request.needs <= backend.capabilities]
    if not capable:
        return refuse_unable(request, scope.backends, sight.snapshot.backends.values())
    if all(why_not_for(tenancy, backend) for backend in capable):
        return refuse_tenant(request, capable, tenancy)
    backends = [site.backend for site in fitting]
    sites = [site.backend for site in able]
    if sites and not backends:
        return refuse_too_long(request, sites)
    return refuse_for_now(request, backends, sight.snapshot, exclusions, sight.now_seconds)
