"""The router's deciding part as one object in simulated time: scopes, finder, health, work in flight, retries, and one policy.

All of them are the router's own; only the clock is another. What must not live here: engines, the queue of events.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from router.config.routing import AliasConfig
from router.deployment import Deployment
from router.dispatch.retries import RetryBudget
from router.domain.decision import Candidate, Choice, Policy, Prediction
from router.domain.fleet import Backend, Health, HealthState, Replica
from router.domain.request import InferenceRequest
from router.domain.usage import Usage
from router.fleet.state import Fleet
from router.pricing.price import LeasedPrice, MeteredPrice
from router.pricing.yields import answer_kind
from router.selection.candidates import Finder
from router.selection.lessons import replica_profiles, speculations
from router.selection.scope import Scopes
from router.selection.terms import refuse_in_a_rush

Price = LeasedPrice | MeteredPrice


class Answered(NamedTuple):
    """A request whose answer came whole. ttft_seconds: None where it was not streamed, or another was asked
    first."""

    at_seconds: float
    request_id: str
    request: InferenceRequest
    prediction: Prediction
    usage: Usage
    candidate: Candidate
    sent_seconds: float
    ttft_seconds: float | None


class Decider:
    """deployment: what the configuration amounts to; its backends, scopes and finder count until the fleet changes. clock:
    simulated seconds. capacities: tokens of KV cache by leased backend, as the prefix index believes.

    lessons: what it has learned. loads: what decisions take for the work in flight; the fleet's own count, unless somebody puts
    another view of it there."""

    def __init__(
        self,
        deployment: Deployment,
        aliases: Mapping[str, AliasConfig],
        policy: Policy,
        clock: Callable[[], float],
        *,
        stale_seconds: float,
        capacities: Mapping[str, int],
    ) -> None:
        self.attempts_max = deployment.retries.attempts_max
        self.retries = RetryBudget(deployment.retries.budget_ratio, deployment.retries.budget_per_second)
        self.lessons = lessons = deployment.finder.lessons
        self.prefixes = lessons.prefixes
        self._deployment = deployment
        self._aliases = aliases
        self._policy = policy
        self._stale_seconds = stale_seconds
        self._capacities = capacities
        self._answered: list[Answered] = []
        self._scopes, self._finder = deployment.scopes, deployment.finder
        self.fleet = Fleet(
            deployment.backends, deployment.tiers, deployment.rules, clock=clock, on_health=self._heed_health
        )
        self.loads = self.fleet.loads
        self._follow(deployment.backends)

    def configure(self, backends: Sequence[Backend], prices: Mapping[str, Price]) -> None:
        """Replicas came or went, or a price is another: what a reload does."""
        deployment = self._deployment
        self._scopes = Scopes(self._aliases, backends)
        self._finder = Finder(
            tiers=deployment.tiers,
            prices=prices,
            profiles={backend.profile: deployment.profiles[backend.name] for backend in backends if backend.profile},
            stale_seconds=self._stale_seconds,
            lessons=self.lessons,
            seats_max=self._finder.seats_max,
        )
        self.fleet.configure(backends, deployment.tiers, deployment.rules)
        self._follow(backends)

    def decide(self, request: InferenceRequest, prediction: Prediction | None, now_seconds: float) -> Sequence[Choice]:
        """The ranking. Raises Refusal."""
        fleet, deployment = self.fleet, self._deployment
        candidates, _ = self._finder.find(
            request,
            self._scopes.resolve(request.model),
            fleet.snapshot,
            self.loads,
            prediction,
            now_seconds,
            tenancy=deployment.tenancies.get(request.tenant),
        )
        choices = self._policy.rank(request, candidates)
        shedding = deployment.shedding
        if choices[0].candidate.ttft_seconds > shedding.limit_seconds(request.terms.criticality):
            refuse_in_a_rush(request, candidates, shedding)
        self.retries.request()
        return choices

    def sent(self, replica: str, request: InferenceRequest) -> None:
        """To remember whose prefix cache holds what."""
        if request.prefix and self._deployment.follows_prefixes:
            self.prefixes.sent(replica, request.prefix)

    def answered(self, answer: Answered) -> None:
        """To learn from, when `learn` is called."""
        self._answered.append(answer)

    def learn(self, until_seconds: float) -> None:
        """What answers teach that came before then, whatever the order in which they were told."""
        answered, lessons = self._answered, self.lessons
        answered.sort(key=lambda one: one[:2])
        count = bisect_left(answered, until_seconds, key=lambda one: one.at_seconds)
        for one in answered[:count]:
            lessons.lengths.observe(one.request, one.prediction, one.usage.completion_tokens)
            if one.ttft_seconds is not None:
                self._learn_times(one, one.ttft_seconds)
        del answered[:count]
        until_ns = round(until_seconds * 1e9)
        lessons.experiences.advance(until_ns)
        lessons.drifts.advance(until_ns)
        lessons.yields.advance(until_ns)

    def _learn_times(self, one: Answered, ttft_seconds: float) -> None:
        candidate, lessons = one.candidate, self.lessons
        decode_seconds = one.at_seconds - one.sent_seconds - ttft_seconds
        drift = lessons.drifts.of(candidate.replica.id)
        experience = lessons.experiences.of(candidate.backend.name)
        if experience is not None:
            experience.answered(ttft_seconds, decode_seconds, one.usage, round(one.at_seconds * 1e9))
        elif drift is not None and not candidate.cold_start_seconds:
            drift.answered(candidate, ttft_seconds, decode_seconds, one.usage.completion_tokens)
        drafting = lessons.yields.of(candidate.backend.name)
        if drafting is not None:
            kind = answer_kind(one.request, one.prediction.category)
            drafting.observe(kind, one.usage.completion_tokens, decode_seconds, candidate.step_seconds)

    def _follow(self, backends: Sequence[Backend]) -> None:
        lessons, profiles = self.lessons, self._deployment.profiles
        # That one fails is not learned: what befalls a fleet here ends at its time.
        lessons.experiences.follow(backends, availability_min=0.0)
        lessons.yields.follow(speculations(backends, profiles))
        lessons.drifts.follow(replica_profiles(backends, profiles))
        if self._deployment.follows_prefixes:
            self.prefixes.follow(
                dict(
                    chain.from_iterable(
                        ((replica.id, self._capacities[backend.name]) for replica in backend.replicas)
                        for backend in backends
                        if backend.name in self._capacities
                    )
                )
            )

    def _heed_health(self, replica: Replica, before: Health, after: Health) -> None:
        if after.state is HealthState.DOWN:
            self.prefixes.forget(replica.id)  # whatever comes back will have an empty cache
