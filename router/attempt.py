"""The books of one try at one replica: in flight, meter, journal and health, opened together and closed together, once.

However an attempt ends (answer, failure, client gone, shutdown) exactly one `close` takes effect, and it leaves a charge.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from router.dispatch.failure import AttemptFailed
from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus, Charge
from router.domain.decision import Candidate
from router.domain.fleet import Backend, Billing
from router.domain.request import InferenceRequest
from router.domain.usage import ToolCalls, Usage
from router.fleet.health import RATE_LIMITED
from router.fleet.state import Fleet
from router.pricing.price import Price
from router.selection.ask import completion_tokens_due
from router.wire.answers import Answer
from router.wire.counting import Said
from router.wire.streams import Stream
from router.wire.usage import estimated_usage

# Faults after which nothing was run, so that no token was used: the request never reached an engine, or was turned away. A stream
# may also tell of a limit in the middle; what it had said by then was run.
NOTHING_RUN = frozenset({"connect", "limited", "overloaded", "no_credit", "credentials", "refused", "untranslatable"})
# What a replica says when it should be left alone for a while, and how that reads in its health.
LEFT_ALONE = {
    "limited": RATE_LIMITED,
    "overloaded": "overloaded, says the backend",
    "no_credit": "our account there is out of credit",
}


class Accounts(Protocol):
    """What an attempt needs of the accountant, whichever it is (`router/accounting/accountant.py`)."""

    def open(
        self,
        facts: AttemptFacts,
        backend: Backend,
        price: Price | None,
        prompt_tokens: int,
        completion_tokens: int,
        at_ns: int,
        *,
        is_streaming: bool = True,
        cached_tokens: int = 0,
    ) -> None: ...
    async def durable(self, attempt_id: str) -> None: ...
    def first_token(self, attempt_id: str, at_ns: int) -> None: ...
    def close(self, attempt_id: str, end: AttemptEnd, at_ns: int) -> Charge: ...


class Attempt:
    """facts.prompt_tokens_estimate and facts.completion_tokens_estimate stand in where the backend does not say.

    stream: set once there is one; it knows what was made when the attempt is cut short. answer: the same of one that comes whole,
    or of what came of it. charge: None while open.
    said: the texts of an answer that came without usage and waits to be counted (`recount.py`); counted: what came of it.
    earlier_nanousd: what other attempts at the same request have cost before it; None where that is not known.
    outlasts_client: its client has left, and it is read on for what it used: that is what a success is then worth.
    is_sent: its replica may have heard of it. Until then nothing is run, whatever becomes of it.
    """

    __slots__ = (
        "_accountant",
        "_fleet",
        "_is_shadow",
        "_now_ns",
        "_request",
        "_settle",
        "_ticket",
        "answer",
        "candidate",
        "charge",
        "counted",
        "earlier_nanousd",
        "ended_ns",
        "facts",
        "first_token_ns",
        "is_sent",
        "opened_ns",
        "outlasts_client",
        "said",
        "stream",
    )

    def __init__(
        self,
        facts: AttemptFacts,
        candidate: Candidate,
        price: Price | None,
        fleet: Fleet,
        accountant: Accounts,
        now_ns: Callable[[], int],
        request: InferenceRequest,
        *,
        is_shadow: bool = False,
        settle: Callable[[Charge], None] | None = None,
    ) -> None:
        """is_shadow: nobody waits for it, and it is booked so, however it ends. settle: told the charge, once; None where no
        budget waits for it. Raises Unavailable when a metered attempt cannot be recorded."""
        self.facts = facts
        self.candidate = candidate
        self.stream: Stream | None = None
        self.answer: Answer | None = None
        self.charge: Charge | None = None
        self.first_token_ns: int | None = None
        self.outlasts_client = False
        self.is_sent = False
        self.earlier_nanousd: int | None = 0
        self.said: Said | None = None
        self.counted: Usage | None = None
        self.ended_ns: int | None = None
        self._fleet = fleet
        self._accountant = accountant
        self._now_ns = now_ns
        self._request = request
        self._settle = settle
        self._is_shadow = is_shadow
        self.opened_ns = now_ns()
        accountant.open(  # first, because it may refuse
            facts,
            candidate.backend,
            price,
            facts.prompt_tokens_estimate,
            facts.completion_tokens_estimate,
            self.opened_ns,
            is_streaming=request.is_streaming,
            cached_tokens=candidate.cached_tokens,
        )
        self._ticket = fleet.enter(
            facts.replica,
            max(facts.prompt_tokens_estimate - candidate.cached_tokens, 0),
            facts.completion_tokens_estimate,
        )

    @property
    def request_nanousd(self) -> int | None:
        """What the request has cost, once this attempt is charged; None where that is not known."""
        cost_nanousd = None if self.charge is None else self.charge.cost_nanousd
        if cost_nanousd is None or self.earlier_nanousd is None:
            return None
        return self.earlier_nanousd + cost_nanousd

    async def durable(self) -> None:
        """On a metered backend nothing is dispatched before the journal says so on disk: it will be billed by others."""
        if self.candidate.backend.pool.billing is Billing.METERED:
            await self._accountant.durable(self.facts.attempt_id)

    def first_token(self) -> None:
        self.first_token_ns = self._now_ns()
        self._ticket.first_token(self.facts.prompt_tokens_estimate)
        self._accountant.first_token(self.facts.attempt_id, self.first_token_ns)

    def succeed(self, usage: Usage | None, completion_tokens_estimate: int) -> Charge:
        """A real finish. Without usage that can be true the tokens are estimated, and flagged."""
        if self.charge is None:
            self._fleet.succeeded(self.facts.replica)
        usage = usage or self._estimate(completion_tokens_estimate)
        if self.outlasts_client:
            return self._close(AttemptStatus.CANCELLED, usage, "client_gone", 200)
        return self._close(AttemptStatus.OK, usage, "", 200)

    def fail(self, failure: AttemptFailed) -> Charge:
        """The backend did not deliver. Its health hears of it; a request that it rightly refused is not its fault."""
        if self.charge is None:
            self._report(failure)
        has_begun = self.stream is not None and self.stream.events > 0
        is_nothing_run = not has_begun and (failure.fault in NOTHING_RUN or failure.fault.startswith("http_"))
        usage = Usage(0, 0) if is_nothing_run else self.usage_so_far()
        return self._close(AttemptStatus.FAILED, usage, failure.fault, failure.http_status)

    def discard(self, usage: Usage | None, completion_tokens_estimate: int) -> Charge:
        """It answered well enough for a backend and not well enough for the client, who gets another's answer. What was made is
        charged."""
        if self.charge is None:
            self._fleet.succeeded(self.facts.replica)
        usage = usage or self._estimate(completion_tokens_estimate)
        return self._close(AttemptStatus.CANCELLED, usage, "not_accepted", 200)

    def cancel(self, fault: str) -> Charge:
        """The client left, or we are shutting down: what was made until now is charged. Where all had been said, it was
        served: a client need not wait for what comes after the finish reason."""
        if self.stream is not None and self.stream.is_finished:
            return self.succeed(self.stream.usage(), self.stream.events)
        return self._close(AttemptStatus.CANCELLED, self.usage_so_far(), fault, 0)

    def end(self) -> None:
        """Nothing more runs; it is closed later, as of now."""
        self.ended_ns = self._now_ns()
        self._ticket.leave()

    def usage_so_far(self) -> Usage:
        if not self.is_sent:
            return Usage(0, 0)
        if self.stream is not None:
            return self.stream.usage() or self._estimate(self.stream.events)
        answer = self.answer
        if answer is not None and answer.usage is not None:
            return answer.usage
        came_tokens = 0 if answer is None else answer.completion_tokens_estimate
        if answer is not None and came_tokens and answer.fault in ("", "aborted"):  # all of its text is there
            return self._estimate(came_tokens)
        elapsed_seconds = ((self.ended_ns or self._now_ns()) - self.opened_ns) / 1e9
        return self._estimate(max(came_tokens, completion_tokens_due(self._request, self.candidate, elapsed_seconds)))

    def _service_tier(self) -> str:
        """Under which it is billed: what the provider says, what was asked for where it does not say. A lease has none, and what
        was asked for is then what the baseline is reckoned by."""
        told = None
        if self.candidate.backend.pool.billing is Billing.METERED:
            if self.stream is not None:
                told = self.stream.service_tier()
            elif self.answer is not None:
                told = self.answer.service_tier
        return self.facts.service_tier if told is None else told

    def _tool_calls(self, usage: Usage) -> ToolCalls:
        """Of hosted tools: what the answer says, what was expected where it does not say and something was run."""
        told = None
        if self.stream is not None:
            told = self.stream.tool_calls()
        elif self.answer is not None:
            told = self.answer.tool_calls
        if told is not None:
            return told
        return self.facts.tool_calls_estimate if usage.prompt_tokens or usage.completion_tokens else ()

    def _estimate(self, completion_tokens: int) -> Usage:
        if self.counted is not None:
            return self.counted
        audio_seconds = None if self.answer is None else self.answer.audio_seconds
        endpoint, prompt_tokens = self._request.endpoint, self.facts.prompt_tokens_estimate
        return estimated_usage(endpoint, prompt_tokens, completion_tokens, audio_seconds)

    def _report(self, failure: AttemptFailed) -> None:
        replica = self.facts.replica
        if failure.fault in LEFT_ALONE:
            self._fleet.limited(replica, failure.retry_after_seconds, LEFT_ALONE[failure.fault])
        elif failure.fault == "untranslatable":
            pass  # it was never asked
        elif failure.fault == "credentials":
            self._fleet.refused_credentials(replica)
        elif failure.fault == "refused":
            self._fleet.succeeded(replica)
        elif failure.fault == "leaving":  # all is known of it
            return
        else:
            self._fleet.failed(replica, failure.fault)

    def _close(self, status: AttemptStatus, usage: Usage, fault: str, http_status: int) -> Charge:
        if self.charge is None:
            self._ticket.leave()
            if service_tier := self._service_tier():
                usage = replace(usage, service_tier=service_tier)
            if tool_calls := self._tool_calls(usage):
                usage = replace(usage, tool_calls=tool_calls)
            end = AttemptEnd(AttemptStatus.SHADOW if self._is_shadow else status, usage, fault, http_status)
            self.charge = charge = self._accountant.close(self.facts.attempt_id, end, self.ended_ns or self._now_ns())
            self._fleet.metered(self.facts.replica, charge.usage.prompt_tokens + charge.usage.completion_tokens)
            if self._settle is not None:
                self._settle(charge)
        return self.charge
