"""One request: authenticate, parse, classify, find candidates, decide, reserve, dispatch, meter, settle, record, in order.

The detail lives in the rooms, and here values are passed between them; rooms that do I/O do not know one another. Reading a body
is `intake.py`. From reserve on each step is taken once per attempt, by `failover.py`: `parcels.py` makes what is sent,
`delivery.py` sends the answer on.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from router.access.keys import Identity
from router.access.limits import RequestLimits, WrongKeyThrottle
from router.access.repeats import Repeats, repeat_name
from router.accounting.bursar import Bursar
from router.classify.classifier import Classifier
from router.clock import Clock
from router.cohort import Cohort
from router.conversation import Conversation, Header, by_name
from router.deployment import Deployment
from router.dispatch.names import StrangersNames
from router.dispatch.watchdog import Deadline, Watchdog
from router.domain.budget import LIMIT_NANOUSD_MAX
from router.domain.decision import Choice, Decision, Policy, Prediction
from router.domain.request import GENERATING, NO_TERMS, Endpoint, InferenceRequest
from router.errors import (
    BackendTimedOut,
    BudgetExceeded,
    DeadlinePassed,
    DeadlineUnreachable,
    PriceCeiling,
    Refusal,
    Unauthenticated,
)
from router.failover import Failover
from router.fleet.state import Fleet
from router.intake import Body, Repeat, check_hosts, inference_request, read_body
from router.ledger.budget import Account
from router.recall import Recall, Wanted
from router.selection.affordable import Affordable, affordable
from router.selection.terms import DEADLINE_HEADER, refuse_in_a_rush, within_terms
from router.telemetry.metrics import Metrics
from router.wire.json_body import encode_object
from router.wire.parse import parse
from router.wire.terms import read_terms
from router.work import Work


class Pipeline:
    """deployment: what the configuration amounts to now; a reload sets another, requests keep theirs. classifier: of what comes;
    a reload sets another, too."""

    def __init__(
        self,
        deployment: Deployment,
        fleet: Fleet,
        bursar: Bursar,
        classifier: Classifier,
        metrics: Metrics,
        clock: Clock,
        watchdog: Watchdog,
        repeats: Repeats,
        names: StrangersNames,
        recall: Recall,
        failover: Failover,
        cohort: Cohort,
    ) -> None:
        self.deployment = deployment
        self.metrics = metrics
        self._fleet = fleet
        self._bursar = bursar
        self.classifier = classifier
        self._clock = clock
        self._watchdog = watchdog
        self._repeats = repeats
        self._names = names
        self._recall = recall
        self._failover = failover
        self._cohort = cohort
        self._limits = RequestLimits()
        self._wrong_keys = WrongKeyThrottle()

    async def run(self, call: Conversation, endpoint: Endpoint, request_id: str) -> None:
        """Answer one request. Raises Refusal where it could not be answered."""
        received_ns = self._clock.now_ns()
        deployment = self.deployment
        identity = self.authenticate(call.headers, call.address, deployment)
        try:
            await self._run(call, endpoint, request_id, identity, deployment, received_ns)
        except Refusal as refusal:
            refusal.tenant, refusal.api_key_name = identity.tenant, identity.api_key_name
            raise

    async def _run(
        self,
        call: Conversation,
        endpoint: Endpoint,
        request_id: str,
        identity: Identity,
        deployment: Deployment,
        received_ns: int,
    ) -> None:
        self._limits.admit(identity, self._fleet.clock())
        body = await read_body(call, endpoint, deployment, self._repeats)
        if body.parsed.media_hosts:
            await check_hosts(body.parsed.media_hosts, self._names, deployment.bounds.media)
        terms = read_terms(call.header_values)
        request = inference_request(request_id, identity, endpoint, body.parsed, body.bytes, terms, deployment)
        if body.repeat is None:
            with self._cohort:
                await self._serve(call, request, body, identity, deployment, received_ns)
        else:
            await self._serve_once(call, request, body, identity, deployment, received_ns, body.repeat)

    async def _serve_once(
        self,
        call: Conversation,
        request: InferenceRequest,
        body: Body,
        identity: Identity,
        deployment: Deployment,
        received_ns: int,
        repeat: Repeat,
    ) -> None:
        """Under an `Idempotency-Key`: the answer that was given before, or this one, to be given again."""
        name = repeat_name(identity.tenant, repeat.key)
        answer = await self._repeats.claim(name, repeat.fingerprint)
        if answer is not None:
            self.metrics.repeated()
            await call.repeat(answer)
            return
        call.copy = copy = self._repeats.copy()
        try:
            with self._cohort:
                await self._serve(call, request, body, identity, deployment, received_ns)
        except BaseException:
            self._repeats.free(name)
            raise
        else:
            self._repeats.keep(name, copy)
        finally:
            copy.close()

    async def _serve(
        self,
        call: Conversation,
        request: InferenceRequest,
        body: Body,
        identity: Identity,
        deployment: Deployment,
        received_ns: int,
    ) -> None:
        """The steps between the request that was read and the answer."""
        await self._cohort.assemble()
        prediction = self.classify(request)
        await self._cohort.assemble()
        accounts = self._bursar.of(identity.tenant, identity.api_key_name)
        spent: BudgetExceeded | None = None
        try:
            decision = self.decide(request, identity, deployment, prediction, accounts)
        except BudgetExceeded as refusal:
            if not self._recall.may_know(call, request, body.parsed.members):
                raise
            spent, decision = refusal, self.decide(request, identity, deployment, prediction, accounts, is_free=True)
        if decision.is_degraded and spent is None:
            self.metrics.degraded(identity.tenant)
        await self._cohort.assemble()
        if body.upload is None:  # an upload is watched once it has passed
            call.watch()
        task = call.task
        total_seconds, own_seconds = deployment.total_seconds, request.terms.deadline_seconds
        is_own = own_seconds is not None and own_seconds <= total_seconds
        if own_seconds is not None:
            spent_seconds = (self._clock.now_ns() - received_ns) / 1e9
            total_seconds = min(total_seconds, own_seconds - spent_seconds)
        deadline = Deadline(task, time.monotonic() + total_seconds)
        self._watchdog.watch(deadline)
        try:
            if spent is not None:
                if not await self._recall.tell(Wanted(call, request, body.parsed.members, decision, received_ns)):
                    raise spent
                return
            work = Work(call, request, body, decision, accounts, deployment, received_ns, deadline)
            if self._recall.cache.is_on:
                wanted = Wanted(call, request, body.parsed.members, decision, received_ns)
                await self._recall.answer(wanted, lambda tape: self._failover.dispatch(work._replace(tape=tape)))
            else:
                await self._failover.dispatch(work)
        except asyncio.CancelledError:
            if task is None or call.is_gone or not deadline.has_passed:
                raise
            task.uncancel()
            if is_own:
                raise DeadlinePassed(
                    f"The answer was not there within the request's own deadline of {own_seconds:g} s.",
                    param=DEADLINE_HEADER,
                ) from None
            raise BackendTimedOut(f"The request took longer than {total_seconds:g} s in all.") from None
        finally:
            self._watchdog.unwatch(deadline)

    def explain(
        self, headers: Sequence[Header], address: str, endpoint: Endpoint, members: dict[str, Any], request_id: str
    ) -> tuple[InferenceRequest, Decision, Policy]:
        """What would be decided for this body now, and by what. Nothing is dispatched."""
        deployment = self.deployment
        identity = self.authenticate(headers, address, deployment)
        parsed = parse(endpoint, members, deployment.bounds)
        terms = read_terms(by_name(headers))
        size = len(encode_object(members))
        request = inference_request(request_id, identity, endpoint, parsed, size, terms, deployment)
        accounts = self._bursar.of(identity.tenant, identity.api_key_name)
        named = deployment.policies.pick(identity.tenant, request.model, self._clock.now_ns())
        return request, self.decide(request, identity, deployment, self.classify(request), accounts), named.policy

    def authenticate(self, headers: Sequence[Header], address: str, deployment: Deployment) -> Identity:
        try:
            return deployment.api_keys.authenticate(headers)
        except Unauthenticated:
            self._wrong_keys.failed(address, self._fleet.clock())
            raise

    def classify(self, request: InferenceRequest) -> Prediction | None:
        """None where no text is generated."""
        return self.classifier.predict(request.prompt) if request.endpoint in GENERATING else None

    def decide(
        self,
        request: InferenceRequest,
        identity: Identity,
        deployment: Deployment,
        prediction: Prediction | None,
        accounts: Sequence[Account],
        *,
        is_free: bool = False,
    ) -> Decision:
        """Find candidates that the budgets allow, rank. Dispatches nothing: `/jeton/explain` ends here.

        is_free: nothing will be dispatched, so budgets steer as they did but refuse nobody, and nobody is held out or turned
        away in a rush.
        """
        try:
            allowed = self._allowed(request, identity, deployment, prediction, accounts, is_free, takes_doubtful=False)
        except (PriceCeiling, DeadlineUnreachable, BudgetExceeded) as refusal:
            try:
                allowed = self._allowed(
                    request, identity, deployment, prediction, accounts, is_free, takes_doubtful=True
                )
            except (PriceCeiling, DeadlineUnreachable, BudgetExceeded):
                raise refusal from None
        candidates, exclusions, is_degraded = allowed
        named = deployment.policies.pick(identity.tenant, request.model, self._clock.now_ns())
        choices: Sequence[Choice] = named.policy.rank(request, candidates)
        if is_free:
            return Decision(named.name, choices, exclusions, prediction, deployment.baseline, is_degraded)
        choices = deployment.holdout.apply(request, choices)
        shedding = deployment.shedding
        if choices[0].candidate.ttft_seconds > shedding.limit_seconds(request.terms.criticality):  # hardly ever
            refuse_in_a_rush(request, candidates, shedding)
        return Decision(named.name, choices, exclusions, prediction, deployment.baseline, is_degraded)

    def _allowed(
        self,
        request: InferenceRequest,
        identity: Identity,
        deployment: Deployment,
        prediction: Prediction | None,
        accounts: Sequence[Account],
        is_free: bool,
        *,
        takes_doubtful: bool,
    ) -> Affordable:
        """The candidates that the request's terms and the budgets leave, at least one. takes_doubtful: of those, too, that are
        asked only where nobody else can be."""
        fleet = self._fleet
        candidates, exclusions = deployment.finder.find(
            request,
            deployment.scopes.resolve(request.model, identity.models),
            fleet.snapshot,
            fleet.all_loads,
            prediction,
            fleet.clock(),
            tenancy=deployment.tenancies.get(identity.tenant),
            are_holds_wanted=bool(accounts) or request.terms.cost_nanousd_max is not None,
            takes_doubtful=takes_doubtful,
        )
        is_degraded = False
        if request.terms is not NO_TERMS:
            candidates, beyond = within_terms(request, candidates)
            exclusions += beyond
        if accounts:
            allowance = self._bursar.allowance(accounts)
            if is_free:
                allowance = replace(allowance, left_nanousd=LIMIT_NANOUSD_MAX)
            candidates, unaffordable, is_degraded = affordable(
                candidates, allowance, self._clock.now_ns(), request.endpoint
            )
            exclusions += unaffordable
        return Affordable(candidates, exclusions, is_degraded)
