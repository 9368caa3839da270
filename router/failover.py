"""One choice after another, until one of them answers; after the first byte there is no other.

Each try is an attempt with a hold, a journal entry and a charge of its own, however it ends. What a replica that is taken away
leaves unfinished is given up here, so that another may take over.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from router.accounting.bursar import Bursar
from router.attempt import Accounts, Attempt
from router.clock import Clock
from router.cohort import Cohort
from router.conversation import ClientGone
from router.delivery import NotAccepted, deliver_answer, deliver_stream, patience_for
from router.dispatch.failure import LIMITED, AttemptFailed
from router.dispatch.relay import Relay, StreamRelay, is_event_stream
from router.dispatch.retries import RetryBudget
from router.domain.attempt import SHADOW_TENANT, AttemptFacts, AttemptStatus, Charge
from router.domain.decision import Choice
from router.domain.fleet import Billing
from router.domain.request import Endpoint
from router.domain.usage import UsageSource
from router.errors import BudgetRefusal, RateLimited, Refusal
from router.fleet.state import Fleet
from router.ledger.budget import Hold
from router.leftovers import Leftovers
from router.missing_rates import MissingRates
from router.parcels import parcel_for
from router.recount import Recount
from router.selection.acceptance import why_untested
from router.selection.terms import ceiling_reached
from router.shadows import Shadows
from router.telemetry.metrics import Metrics
from router.wire.acceptance import Probe
from router.wire.prompts import tokens_estimate
from router.work import Work

log = structlog.get_logger("jeton.failover")

# `.value` is a descriptor's call; this is a look-up.
ENDPOINT_NAMES = {endpoint: endpoint.value for endpoint in Endpoint}


class Failover:
    """For one event loop. retries: how many there may be, over all requests."""

    def __init__(
        self,
        fleet: Fleet,
        relay: Relay,
        accountant: Accounts,
        bursar: Bursar,
        metrics: Metrics,
        clock: Clock,
        cohort: Cohort,
        retries: RetryBudget,
        recount: Recount,
        shadows: Shadows,
        leftovers: Leftovers,
    ) -> None:
        self._fleet = fleet
        self._relay = relay
        self._accountant = accountant
        self._bursar = bursar
        self._metrics = metrics
        self._clock = clock
        self._cohort = cohort
        self._retries = retries
        self._recount = recount
        self._shadows = shadows
        self._leftovers = leftovers
        self._under_way: dict[Attempt, asyncio.Task[Any]] = {}
        self._given_up: set[Attempt] = set()
        self._reading_on = 0
        self._missing_rates = MissingRates()

    async def dispatch(self, work: Work) -> None:
        """Try the choices in order until one answers; after the first byte there is no other."""
        self._retries.request()
        sleepers = work.deployment.finder.lessons.sleepers
        if sleepers:
            sleepers.passed(work.decision.choices, self._fleet.clock())
        failures: list[AttemptFailed] = []
        over_budget: BudgetRefusal | None = None
        discarded = overflown_tokens = 0
        spent_nanousd: int | None = 0
        ceiling_nanousd = work.request.terms.cost_nanousd_max
        spent_nanousd_max = 0  # as spent_nanousd, but what is not known is counted at its worst
        passed_over_nanousd: list[int] = []
        for place, choice in enumerate(work.decision.choices):
            if len(failures) == work.deployment.retries.attempts_max:
                break
            if overflown_tokens and choice.candidate.backend.context_tokens <= overflown_tokens:
                continue
            if ceiling_nanousd is not None and spent_nanousd_max + choice.candidate.hold_nanousd > ceiling_nanousd:
                passed_over_nanousd.append(choice.candidate.hold_nanousd)
                continue
            if failures and failures[-1].fault != "leaving" and not self._retries.take(self._fleet.clock()):
                break
            hold = None
            if work.accounts:
                try:
                    hold = await self._bursar.reserve(
                        work.accounts, choice.candidate.hold_nanousd, work.hold_ns, work.request.endpoint
                    )
                except BudgetRefusal as refusal:  # somebody else was quicker; a cheaper choice may still fit
                    over_budget = over_budget or refusal
                    continue
            attempt = self._open(work, choice, number=len(failures) + discarded + 1, hold=hold)
            attempt.earlier_nanousd = spent_nanousd
            work.call.attempt = attempt
            probe = None
            if choice.acceptance is not None and not why_untested(
                work.request, work.decision.choices, place, spent_nanousd_max
            ):
                probe = Probe(choice.acceptance, work.body.parsed.members)
            try:
                await attempt.durable()
                await self._attempt(work, attempt, probe)
            except NotAccepted as discard:
                discarded += 1
                if discard.rest is not None:  # what it cost is not known in time
                    self._read_on_beside(work, attempt, discard.rest)
                else:
                    assert attempt.charge is not None
                    self._record(work, attempt, attempt.charge)
                spent_nanousd = attempt.request_nanousd
                spent_nanousd_max += _cost_nanousd_max(attempt)
                if work.call.is_deserted:  # nobody waits for a better one
                    raise ClientGone from None
            except AttemptFailed as failure:
                self._record(work, attempt, attempt.fail(failure))
                # A request that the backend rightly refused is the client's affair, not the operator's.
                say = log.info if failure.fault == "refused" else log.warning
                say("attempt failed", **_facts_for_log(attempt), fault=failure.fault, detail=failure.refusal.detail)
                if (
                    work.call.has_started
                    or work.call.is_deserted
                    or not (failure.is_retryable and work.body.can_be_sent_again)
                ):
                    raise failure.refusal from None
                failures.append(failure)
                spent_nanousd = attempt.request_nanousd
                spent_nanousd_max += _cost_nanousd_max(attempt)
                if failure.is_too_long:
                    overflown_tokens = choice.candidate.backend.context_tokens
            except BaseException as error:
                self._cancel(work, attempt, work.why_cut_short(error))
                raise
            else:  # in the loop's next turn, together with those of the others that have ended by then
                loop = asyncio.get_running_loop()
                loop.call_soon(self._succeeded, work, attempt)
                if work.deployment.shadow.is_on:
                    loop.call_soon(self._cast_shadow, work, attempt)
                return
        if over_budget is not None and not failures:
            raise over_budget
        if ceiling_nanousd is not None and passed_over_nanousd:
            raise ceiling_reached(ceiling_nanousd, spent_nanousd_max, min(passed_over_nanousd), work.request.endpoint)
        raise _refusal_for(failures)

    def give_up(self, replica_id: str) -> int:
        """End what still runs at a replica that is about to be taken away: another takes over, where nothing of the answer has
        gone out, else the client hears that it broke. Returns how many attempts that are."""
        found = [attempt for attempt in self._under_way if attempt.facts.replica == replica_id]
        for attempt in found:
            self._given_up.add(attempt)
            self._under_way[attempt].cancel()
        return len(found)

    async def _attempt(self, work: Work, attempt: Attempt, probe: Probe | None) -> None:
        task = work.call.task
        assert task is not None
        self._under_way[attempt] = task
        try:
            await self._cohort.assemble()
            parcel = parcel_for(work, attempt, probe)
            if attempt.candidate.backend.reads_on:
                work.call.outlast = partial(self._read_on, work, attempt)
            patience = patience_for(work, attempt)
            attempt.is_sent = True
            exchange = await self._relay.send(attempt.candidate.replica, parcel, patience)
            if is_event_stream(exchange):
                await deliver_stream(work, attempt, exchange, parcel, probe)
            else:
                await deliver_answer(work, attempt, exchange, parcel, patience, probe, self._cohort)
        except asyncio.CancelledError:
            if attempt not in self._given_up or work.call.is_deserted or work.deadline.has_passed:
                raise
            task.uncancel()
            raise AttemptFailed.leaving(has_begun=work.call.has_started) from None
        finally:
            del self._under_way[attempt]
            self._given_up.discard(attempt)
            work.call.outlast = None
            if attempt.outlasts_client:
                self._reading_on -= 1

    def _read_on(self, work: Work, attempt: Attempt) -> bool:
        """The client has left what is billed to its end: wait for that, for what it used, unless too many are waited for."""
        if attempt.outlasts_client:
            return True
        bounds = work.deployment.read_on
        if self._reading_on >= bounds.at_once_max:
            return False
        self._reading_on += 1
        attempt.outlasts_client = True
        work.deadline.deadline_seconds = min(work.deadline.deadline_seconds, time.monotonic() + bounds.seconds_max)
        return True

    def _read_on_beside(self, work: Work, attempt: Attempt, rest: StreamRelay) -> None:
        """What was discarded is billed to its end: it is read on as if its client had left, while the next one is asked."""
        if self._reading_on >= work.deployment.read_on.at_once_max:
            rest.release()
            self._record(work, attempt, attempt.discard(rest.stream.usage(), rest.stream.events))
            return
        self._reading_on += 1
        self._under_way[attempt] = self._leftovers.read(
            work, rest, lambda failure: self._read_to_its_end(work, attempt, rest, failure)
        )

    def _read_to_its_end(self, work: Work, attempt: Attempt, rest: StreamRelay, failure: AttemptFailed | None) -> None:
        self._reading_on -= 1
        del self._under_way[attempt]
        self._given_up.discard(attempt)
        if failure is None:
            self._record(work, attempt, attempt.discard(rest.stream.usage(), rest.stream.events))
            return
        self._record(work, attempt, attempt.fail(failure))
        log.warning("attempt failed", **_facts_for_log(attempt), fault=failure.fault, detail=failure.refusal.detail)

    def _succeeded(self, work: Work, attempt: Attempt) -> None:
        if attempt.charge is not None:
            self._record(work, attempt, attempt.charge)
            return
        stream, said = attempt.stream, attempt.said
        assert said is not None, "it was delivered without a charge"
        estimate = stream.events if stream is not None else tokens_estimate(" ".join(said.texts))
        self._recount.later(work, attempt, said, lambda: self._record(work, attempt, attempt.succeed(None, estimate)))

    def _cast_shadow(self, work: Work, attempt: Attempt) -> None:
        facts, choices = attempt.facts, work.decision.choices
        choice = work.deployment.shadow.choice(facts.request_id, choices, facts.backend)
        if choice is not None and work.body.can_be_sent_again:
            number = facts.number + 1
            self._shadows.cast(
                work,
                lambda: self._open(work, choice, number, hold=None, is_shadow=True),
                lambda shadow, charge: self._record(work, shadow, charge),
            )

    def _cancel(self, work: Work, attempt: Attempt, why: str) -> None:
        stream, said = attempt.stream, attempt.said
        if said is None and attempt.charge is None and stream is not None and stream.events and stream.usage() is None:
            said = stream.said()  # of one that had not begun there is nothing to count
        if said is None:
            self._record(work, attempt, attempt.cancel(why))
        else:
            self._recount.later(work, attempt, said, lambda: self._record(work, attempt, attempt.cancel(why)))

    def _open(self, work: Work, choice: Choice, number: int, hold: Hold | None, *, is_shadow: bool = False) -> Attempt:
        """Raises Unavailable when it cannot be recorded; nothing is held for it then. A shadow nobody has asked for: it is in
        nobody's budget, and no arm of what is measured."""
        request, decision, candidate = work.request, work.decision, choice.candidate
        facts = AttemptFacts(
            attempt_id=f"{request.request_id}.{number}",
            request_id=request.request_id,
            number=number,
            tenant=SHADOW_TENANT if is_shadow else request.tenant,
            api_key_name="" if is_shadow else request.api_key_name,
            endpoint=ENDPOINT_NAMES[request.endpoint],
            asked_model="" if is_shadow else request.model,
            pool=candidate.backend.pool.name,
            backend=candidate.backend.name,
            replica=candidate.replica.id,
            model=candidate.backend.model,
            tier=candidate.backend.tier,
            policy=decision.policy,
            reason=choice.reason if choice.reason.isprintable() else " ".join(choice.reason.split()),
            baseline=decision.baseline,
            category=decision.prediction.category if decision.prediction is not None else "",
            prompt_tokens_estimate=request.prompt.tokens_estimate,
            completion_tokens_estimate=round(candidate.completion_tokens),
            service_tier=request.service_tier,
            tool_calls_estimate=() if request.hosted_tools is None else request.hosted_tools.expected_calls,
        )
        price = work.deployment.prices.get(candidate.backend.name)
        try:
            attempt = Attempt(
                facts,
                candidate,
                price,
                self._fleet,
                self._accountant,
                self._clock.now_ns,
                request,
                is_shadow=is_shadow,
                settle=partial(self._bursar.settle, hold) if hold is not None else None,
            )
        except BaseException:
            if hold is not None:
                self._bursar.void(hold)
            raise
        if candidate.backend.scale_to_zero is not None:
            work.deployment.finder.lessons.sleepers.opened(candidate, self._fleet.clock())
        return attempt

    def _record(self, work: Work, attempt: Attempt, charge: Charge) -> None:
        quality = None if work.decision.prediction is None else attempt.candidate.quality
        self._metrics.attempt(charge, (attempt.opened_ns - work.received_ns) / 1e9, quality)
        if charge.cost_nanousd is None:
            self._missing_rates.heed(charge, work.deployment.prices.get(charge.facts.backend))
        lessons = work.deployment.finder.lessons
        if attempt.candidate.backend.pool.billing is Billing.METERED:
            lessons.experiences.observe(charge)
        else:
            lessons.drifts.observe(attempt.candidate, charge)
            lessons.yields.observe(attempt.candidate, charge, work.request)
        if attempt.candidate.backend.scale_to_zero is not None:
            lessons.sleepers.ended(charge, self._fleet.clock())
        if work.request.prefix and (charge.first_token_ns is not None or charge.status is AttemptStatus.OK):
            lessons.prefixes.sent(charge.facts.replica, work.request.prefix)
        if charge.status is AttemptStatus.OK and charge.usage.source is not UsageSource.ESTIMATED:
            lessons.lengths.observe(work.request, work.decision.prediction, charge.usage.completion_tokens)


def _cost_nanousd_max(attempt: Attempt) -> int:
    """What an attempt that has ended cost; at its worst, where that is not known: a provider that told no usage may bill more
    than we estimate."""
    charge = attempt.charge
    if charge is None or charge.cost_nanousd is None:
        return attempt.candidate.hold_nanousd
    is_metered = attempt.candidate.backend.pool.billing is Billing.METERED
    is_told = charge.usage_source is UsageSource.PROVIDER
    return charge.cost_nanousd if is_told or not is_metered else attempt.candidate.hold_nanousd


def _refusal_for(failures: Sequence[AttemptFailed]) -> Refusal:
    """What the client hears when all attempts failed: 429 only if every one was limited, with the smallest wait; that the
    request cannot be put to a provider only if nobody was asked."""
    failures = [failure for failure in failures if failure.fault != "untranslatable"] or failures
    if all(failure.fault == "limited" for failure in failures):
        waits = [failure.retry_after_seconds for failure in failures if failure.retry_after_seconds is not None]
        return RateLimited(LIMITED, retry_after_seconds=min(waits, default=1.0))
    return next(failure for failure in reversed(failures) if failure.fault != "limited").refusal


def _facts_for_log(attempt: Attempt) -> Mapping[str, Any]:
    facts = attempt.facts
    return {"request_id": facts.request_id, "attempt": facts.number, "backend": facts.backend, "replica": facts.replica}
