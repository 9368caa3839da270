"""From a request to the replicas that may serve it, each with its forecasts, and to the reasons of those that may not.

Runs for every request, over every replica in scope; what does not change between two requests (who is able, at which price)
is worked out once per model name and set of needs. Ranking is the policies' business. What may not live here: the clock
(`now_seconds` is monotonic and comes from the caller).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from router.domain.decision import Candidate, Exclusion, Prediction
from router.domain.fleet import IDLE, UP, HealthState, Load, Replica, Snapshot
from router.domain.request import Capability, Endpoint, InferenceRequest
from router.errors import Refusal
from router.pricing.drift import Drifts
from router.pricing.price import MeteredPrice, Price
from router.pricing.profile import EngineProfile
from router.pricing.quote import Lease
from router.selection.eligibility import Fit, fit, why_too_long, why_unable
from router.selection.quality import tier_qualities
from router.selection.refusal import refuse_for_now, refuse_too_long, refuse_unable
from router.selection.scope import Scope
from router.selection.site import Site

# Tokens of an answer whose length nobody predicted: the mean of the 19,366 requests of Azure's conversation trace of 2023.
COMPLETION_TOKENS_UNKNOWN = 211.0
AUDIO = frozenset({Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS})
GENERATING = AUDIO | {Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES}
# Combinations of model names and needs that are remembered: more than clients that mean well ever use.
ABLE_MAX = 4096
# The prompt of audio is estimated in the frames that Whisper's encoder makes of a second (arXiv:2212.04356, 2.2).
AUDIO_TOKENS_PER_SECOND = 50


class _Able(NamedTuple):
    """The backends of a scope that can do what is needed, and why the others cannot."""

    sites: list[Site]
    exclusions: list[Exclusion]


class Finder:
    """Finds candidates under one configuration; make a new one when prices, profiles or tiers change.

    tiers: weakest first. prices: in force, by backend. profiles: by profile name. stale_seconds: the age from which on a
    scrape is not believed. drifts: how far replicas are from their profiles; it outlives this configuration.
    """

    def __init__(
        self,
        *,
        tiers: tuple[str, ...],
        prices: Mapping[str, Price],
        profiles: Mapping[str, EngineProfile],
        stale_seconds: float,
        drifts: Drifts | None = None,
    ) -> None:
        self._levels = {tier: level for level, tier in enumerate(tiers)}
        self._prices = prices
        self._profiles = profiles
        self._stale_seconds = stale_seconds
        self.drifts = drifts or Drifts()
        # By model name and needs, both from bounded sets: only configured names have a scope, and needs follow from the
        # endpoint and a few features of the body.
        self._able: dict[tuple[str, frozenset[Capability]], _Able] = {}

    def find(
        self,
        request: InferenceRequest,
        scope: Scope,
        snapshot: Snapshot,
        loads: Mapping[str, Load],
        prediction: Prediction | None,
        now_seconds: float,
        *,
        is_budgeted: bool = False,
    ) -> tuple[list[Candidate], list[Exclusion]]:
        """The candidates, at least one; and every replica or whole backend of the scope that is none, with the reason.

        Backends whose context window may be too short are candidates only where there are no others. When health leaves
        none, replicas that were ejected for their answers are candidates all the same: an ejection is a guess, and with
        everybody out a poor one (panic). One that is down, cooling or refuses our key never is.

        Raises BadRequest when nothing in scope can do what is needed, ContextTooLong when nothing is long enough,
        RateLimited or Unavailable, with the smallest wait, when nothing is fit for now.

        is_budgeted: give each candidate the most that it can cost, for `affordable.py` to judge.
        """
        able = self._able.get((scope.model, request.needs)) or self._assess(scope, request.needs)
        fitting: list[Site] = []
        doubtful: list[Site] = []
        exclusions = able.exclusions.copy()
        for site in able.sites:
            match fit(site.backend, request):
                case Fit.YES:
                    fitting.append(site)
                case Fit.DOUBTFUL:
                    doubtful.append(site)
                case Fit.NO:
                    exclusions.append(Exclusion(site.backend.name, "", why_too_long(site.backend, request)))
        sight = _Sight(snapshot, loads, now_seconds, now_seconds - self._stale_seconds, self.drifts)
        ask = _Ask(request, prediction, len(self._levels), is_budgeted=is_budgeted)
        ejected: list[tuple[Site, Replica]] = []
        candidates = _admitted(fitting, ask, sight, exclusions, ejected)
        if candidates:
            for site in doubtful:
                exclusions.append(Exclusion(site.backend.name, "", why_too_long(site.backend, request)))
        elif doubtful:
            candidates = _admitted(doubtful, ask, sight, exclusions, ejected)
        if not candidates and ejected:
            candidates = [_candidate(site, replica, ask, sight) for site, replica in ejected]
            panicking = {replica.id for _, replica in ejected}
            exclusions = [exclusion for exclusion in exclusions if exclusion.replica not in panicking]
        if not candidates:
            raise _refusal(request, scope, able.sites, fitting + doubtful, exclusions, sight)
        return candidates, exclusions

    def _assess(self, scope: Scope, needs: frozenset[Capability]) -> _Able:
        """Who is able, whatever the hour; remembered."""
        able = _Able([], [])
        for backend in scope.backends:
            price, profile = self._prices.get(backend.name), self._profiles.get(backend.profile)
            if not needs <= backend.capabilities:
                able.exclusions.append(Exclusion(backend.name, "", why_unable(backend, needs)))
            elif price is None:
                able.exclusions.append(Exclusion(backend.name, "", "no price in force"))
            elif isinstance(price, MeteredPrice):
                able.sites.append(Site(backend, self._levels[backend.tier], price))
            elif profile is None:
                able.exclusions.append(Exclusion(backend.name, "", "no engine profile to share its hours out by"))
            else:
                able.sites.append(Site(backend, self._levels[backend.tier], Lease(price, profile)))
        if len(self._able) >= ABLE_MAX:
            self._able.clear()
        self._able[scope.model, needs] = able
        return able


def expected_completion_tokens(request: InferenceRequest, prediction: Prediction | None) -> float:
    """Over all choices. A client's bound holds; where nothing is generated it is 0, where nothing is predicted a mean."""
    if prediction is not None:
        tokens = prediction.completion_tokens
    elif request.endpoint in GENERATING:
        tokens = COMPLETION_TOKENS_UNKNOWN
    else:
        return 0.0
    if request.completion_tokens_max is not None:
        tokens = min(tokens, request.completion_tokens_max)
    return tokens * request.choices


class _Ask:
    """What of the request bears on every candidate alike."""

    __slots__ = ("audio_seconds", "completion_tokens", "holds_nanousd", "prompt_tokens", "qualities", "request")

    def __init__(
        self, request: InferenceRequest, prediction: Prediction | None, tiers: int, *, is_budgeted: bool
    ) -> None:
        self.request = request
        self.holds_nanousd: dict[str, int] | None = {} if is_budgeted else None
        # Tokenizing is not inference: the engine computes none of it.
        self.prompt_tokens = 0 if request.endpoint is Endpoint.TOKENIZE else request.prompt.tokens_estimate
        self.completion_tokens = expected_completion_tokens(request, prediction)
        self.audio_seconds = self.prompt_tokens / AUDIO_TOKENS_PER_SECOND if request.endpoint in AUDIO else 0.0
        self.qualities = tier_qualities(prediction, tiers)

    def hold_nanousd(self, site: Site) -> int:
        """The same for all replicas of a site."""
        holds = self.holds_nanousd
        if holds is None:
            return 0
        name = site.backend.name
        if name not in holds:
            holds[name] = site.worst_case(self.request)
        return holds[name]


class _Sight(NamedTuple):
    """What is known of the fleet now. fresh_from: scrapes from before that time are not believed."""

    snapshot: Snapshot
    loads: Mapping[str, Load]
    now_seconds: float
    fresh_from: float
    drifts: Drifts


def _admitted(
    sites: Iterable[Site],
    ask: _Ask,
    sight: _Sight,
    exclusions: list[Exclusion],
    ejected: list[tuple[Site, Replica]],
) -> list[Candidate]:
    """The replicas of these sites that are fit for now; the others go to the exclusions, and the ejected are listed too."""
    candidates: list[Candidate] = []
    healths = sight.snapshot.health
    for site in sites:
        for replica in site.backend.replicas:
            health = healths.get(replica.id, UP)
            if health.is_usable or health.admits(sight.now_seconds):
                candidates.append(_candidate(site, replica, ask, sight))
                continue
            exclusions.append(Exclusion(site.backend.name, replica.id, health.why))
            if health.state is HealthState.EJECTED:
                ejected.append((site, replica))
    return candidates


def _candidate(site: Site, replica: Replica, ask: _Ask, sight: _Sight) -> Candidate:
    """The replica with its forecasts.

    One that we have not heard of for too long may have stood still since: it is forecast to answer that much later, so that
    it is asked last without being refused. One that was never scraped is taken as we know it from our own work.
    """
    load = sight.loads.get(replica.id, IDLE)
    scrape = sight.snapshot.scrapes.get(replica.id)
    silent_seconds = 0.0
    if scrape is not None and scrape.at_seconds < sight.fresh_from:
        silent_seconds = sight.now_seconds - scrape.at_seconds
        scrape = None
    ttft_seconds, tpot_seconds, quote = site.appraise(
        load, scrape, ask.prompt_tokens, ask.completion_tokens, ask.audio_seconds, sight.drifts.of(replica.id)
    )
    level = site.level
    return Candidate(
        site.backend,
        replica,
        load,
        ttft_seconds + silent_seconds,
        tpot_seconds,
        ask.completion_tokens,
        ask.qualities[level],
        quote,
        level,
        ask.hold_nanousd(site),
    )


def _refusal(
    request: InferenceRequest,
    scope: Scope,
    able: Iterable[Site],
    fitting: Iterable[Site],
    exclusions: Iterable[Exclusion],
    sight: _Sight,
) -> Refusal:
    """Why nothing is left, from the lasting reasons to the passing ones."""
    capable = [backend for backend in scope.backends if request.needs <= backend.capabilities]
    if not capable:
        return refuse_unable(request, scope.backends, sight.snapshot.backends.values())
    backends = [site.backend for site in fitting]
    sites = [site.backend for site in able]
    if sites and not backends:
        return refuse_too_long(request, sites)
    return refuse_for_now(request, backends, sight.snapshot, exclusions, sight.now_seconds)
