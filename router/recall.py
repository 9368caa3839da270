"""A request that has but one answer: from the response cache, from an identical request under way, or dispatched and recorded.

A recalled answer is booked as an attempt in a pool of its own, `cache`, where tokens cost nothing: it shows the tokens that the
client was served, while no provider's totals move, and what the baseline would have cost is saved. Clients steer it by
`Cache-Control`: `no-cache` has the answer made anew (and kept), `no-store` leaves no trace. Held-out requests are always
dispatched, for they measure. Whoever has no money left may still be told what is known, for it costs nothing.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from router.accounting.accountant import Accountant
from router.cache.answer import StoredAnswer
from router.cache.key import TELLING_HEADERS, Served, answer_key, is_deterministic
from router.cache.responses import ResponseCache, Tape
from router.conversation import ClientGone, Conversation, Header
from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus, Charge
from router.domain.decision import Decision
from router.domain.fleet import CACHE, Backend, Billing, EngineKind, Pool, PoolKind
from router.domain.money import usd_text
from router.domain.periods import HOLDOUT_REASON
from router.domain.request import InferenceRequest
from router.domain.usage import Usage, UsageSource
from router.errors import BudgetRefusal, PriceCeiling, Unavailable
from router.pricing.price import MeteredPrice, TokenRates
from router.telemetry.metrics import Metrics
from router.wire.answers import is_complete
from router.wire.media import fetches_media

HIT, SHARED, MISS, BYPASS = "hit", "shared", "miss", "bypass"
NO_CACHE, NO_STORE = b"no-cache", b"no-store"
# With one of them a client wants no answer that is known already.
UNKNOWING = frozenset({NO_CACHE, NO_STORE})
FREE = MeteredPrice(CACHE, TokenRates(0, 0, 0, 0))
BACKEND = Backend(
    name=CACHE, pool=Pool(CACHE, PoolKind.EDGE, Billing.METERED), model="", served_model="", tier="", quantization="",
    engine=EngineKind.OPENAI, context_tokens=0, capabilities=frozenset(), price=CACHE, profile="", replicas=(),
)  # fmt: skip
STREAMED = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
COST_USD = (b"x-jeton-cost-usd", usd_text(0).encode())
# What the recorded request cost, in its stream's last usage chunk; inside JSON strings quotes are escaped, so it is nothing else.
COST_MEMBER = re.compile(rb'"jeton_cost"\s*:\s*\{[^{}]*\}')
NO_COST = b'"jeton_cost":{"usd":0.000000000,"nanousd":0,"basis":"metered","usage_source":"%b"}'

# How a request ends through nobody's fault but its own: whoever waits for the same answer may have more time, or money.
LEADERS_OWN = (asyncio.CancelledError, ClientGone, BudgetRefusal, PriceCeiling)

Dispatch = Callable[[Tape | None], Awaitable[None]]


class Wanted(NamedTuple):
    """What is asked, and what was decided."""

    call: Conversation
    request: InferenceRequest
    members: dict[str, Any]
    decision: Decision
    received_ns: int

    @property
    def served(self) -> Served:
        """By the first choice."""
        return served_by(self.decision.choices[0].candidate.backend)

    @property
    def key(self) -> bytes:
        """The name of its answer."""
        headers = [self.call.header(name) for name in TELLING_HEADERS]
        return answer_key(self.request.tenant, self.request.endpoint, self.served, self.members, headers)


class Recall:
    """cache: off, it is not asked."""

    def __init__(
        self, cache: ResponseCache, accountant: Accountant, metrics: Metrics, now_ns: Callable[[], int]
    ) -> None:
        self.cache = cache
        self._accountant = accountant
        self._metrics = metrics
        self._now_ns = now_ns

    def may_know(self, call: Conversation, request: InferenceRequest, members: dict[str, Any]) -> bool:
        """Whether an answer that was kept, or is just being made for another, can be this one's."""
        return (
            self.cache.is_on
            and is_deterministic(request.endpoint, members)
            and not fetches_media(members)
            and _directives(call).isdisjoint(UNKNOWING)
        )

    async def answer(self, wanted: Wanted, dispatch: Dispatch) -> None:
        """Answer it, from what is known or by `dispatch`, whose tape is to be recorded on."""
        request, cache = wanted.request, self.cache
        choice = wanted.decision.choices[0]
        members = wanted.members
        if choice.reason == HOLDOUT_REASON or not is_deterministic(request.endpoint, members) or fetches_media(members):
            await dispatch(None)
            return
        served, directives = wanted.served, _directives(wanted.call)
        if NO_STORE in directives:
            self._metrics.cache_asked(BYPASS)
            await dispatch(Tape(cache, served, cache_header(BYPASS)))
            return
        key = wanted.key
        is_fresh_wanted = NO_CACHE in directives
        if not is_fresh_wanted and await self._tell(wanted, key):
            return
        label = BYPASS if is_fresh_wanted else MISS
        self._metrics.cache_asked(label)
        call = wanted.call
        with cache.taping(key, served, cache_header(label), leads=not is_fresh_wanted) as tape:
            call.is_awaited = lambda: tape.is_followed
            tape.watch(call.end_if_deserted)
            try:
                await dispatch(tape)
            except LEADERS_OWN:
                tape.leave()
                raise
            finally:
                tape.watch(None)
                call.is_awaited = None

    async def tell(self, wanted: Wanted) -> bool:
        """Answer it from what is known, where it `may_know`, or is just being made for another; False where that is nothing, and
        nothing was sent. Never dispatches."""
        return await self._tell(wanted, wanted.key)

    async def _tell(self, wanted: Wanted, key: bytes) -> bool:
        for label, look in ((HIT, self.cache.get), (SHARED, self.cache.join)):
            found = await look(key)
            if found is not None and await self._give(wanted, found, label):
                return True
        return False

    async def _give(self, wanted: Wanted, answer: StoredAnswer, label: str) -> bool:
        """Book it and send it; False where it cannot be booked."""
        charge = self._booked(wanted, answer, label)
        if charge is None:
            return False
        self._metrics.cache_asked(label)
        self._metrics.attempt(charge, overhead_seconds=(charge.opened_ns - wanted.received_ns) / 1e9)
        call, decision = wanted.call, wanted.decision
        headers: list[Header] = [
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"x-request-id", wanted.request.request_id.encode()),
            (b"x-jeton-backend", answer.backend.encode()),
            (b"x-jeton-model", answer.model.encode()),
            (b"x-jeton-tier", answer.tier.encode()),
            (b"x-jeton-policy", decision.policy.encode()),
            (b"x-jeton-reason", charge.facts.reason.encode()),
            (b"x-jeton-attempts", b"0"),
            cache_header(label),
        ]
        if answer.is_stream:
            await call.start(200, [*headers, *STREAMED])
            await call.finish(answer.body)
        else:
            await call.answer(200, [*headers, COST_USD], answer.body)
        return True

    def _booked(self, wanted: Wanted, answer: StoredAnswer, label: str) -> Charge | None:
        request, decision = wanted.request, wanted.decision
        facts = AttemptFacts(
            attempt_id=f"{request.request_id}.1",
            request_id=request.request_id,
            number=1,
            tenant=request.tenant,
            api_key_name=request.api_key_name,
            endpoint=request.endpoint.value,
            asked_model=request.model,
            pool=CACHE,
            backend=CACHE,
            replica=CACHE,
            model=answer.model,
            tier=answer.tier,
            policy=decision.policy,
            reason=f"cache {label}",
            baseline=decision.baseline,
            category=decision.prediction.category if decision.prediction is not None else "",
            prompt_tokens_estimate=answer.prompt_tokens,
            completion_tokens_estimate=answer.completion_tokens,
        )
        usage = Usage(
            answer.prompt_tokens,
            answer.completion_tokens,
            reasoning_tokens=answer.reasoning_tokens,
            source=UsageSource.ESTIMATED if answer.is_estimated else UsageSource.PROVIDER,
        )
        now_ns = self._now_ns()
        try:
            self._accountant.open(facts, BACKEND, FREE, 0, 0, now_ns, is_streaming=answer.is_stream)
        except Unavailable:  # the ledger is full: then as if nothing were known
            return None
        return self._accountant.close(facts.attempt_id, AttemptEnd(AttemptStatus.OK, usage, http_status=200), now_ns)


def record(tape: Tape, request: InferenceRequest, backend: Backend, charge: Charge, content_type: bytes) -> None:
    """The answer on the tape is whole, and was served: it will be kept unless it is another model's, or has no real end."""
    if not tape.is_recording:
        return
    body = tape.body()
    if served_by(backend) != tape.served or not (request.is_streaming or is_complete(request.endpoint, body)):
        tape.give_up()
        return
    usage = charge.usage
    is_estimated = usage.source is not UsageSource.PROVIDER
    source = UsageSource.ESTIMATED if is_estimated else UsageSource.PROVIDER
    tape.keep(
        StoredAnswer(
            is_stream=request.is_streaming,
            content_type=content_type.decode("latin-1"),
            body=at_no_cost(body, source) if request.is_streaming else body,
            model=backend.model,
            tier=backend.tier,
            backend=backend.name,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            is_estimated=is_estimated,
        )
    )


def at_no_cost(stream: bytes, source: UsageSource) -> bytes:
    """A stream that tells what it cost, if it does, as one that cost nothing. source: of its tokens, as they will be booked."""
    return COST_MEMBER.sub(NO_COST % source.value.encode(), stream)


def cache_header(label: str) -> Header:
    return b"x-jeton-cache", label.encode()


def served_by(backend: Backend) -> Served:
    return Served(backend.model, backend.quantization)


def _directives(call: Conversation) -> frozenset[bytes]:
    value = call.header(b"cache-control")
    if value is None:
        return frozenset()
    return frozenset(directive.strip().lower() for directive in value.split(b","))
