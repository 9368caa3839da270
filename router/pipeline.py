"""One request: authenticate, parse, classify, find candidates, decide, dispatch, meter, settle, record. In that order.

The detail lives in the rooms; here values are passed between them. Rooms that do I/O do not know one another.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import structlog

from router.access.keys import Identity
from router.access.limits import RequestLimits, WrongKeyThrottle
from router.accountant import Accountant
from router.attempt import Attempt
from router.classify.classifier import Classifier
from router.clock import Clock
from router.conversation import Conversation, Header, require_content_type
from router.deployment import Deployment
from router.dispatch.relay import AttemptFailed, Parcel, Relay, StreamRelay, header_value, is_event_stream, read_whole
from router.dispatch.retries import RetryBudget
from router.dispatch.upstream import Exchange
from router.dispatch.watchdog import Deadline, Watchdog
from router.domain.attempt import AttemptFacts, Charge
from router.domain.decision import Choice, Decision
from router.domain.fleet import EngineKind
from router.domain.money import usd_text
from router.domain.request import Endpoint, InferenceRequest
from router.domain.usage import Usage
from router.errors import BackendTimedOut, BodyTooLarge, RateLimited, Refusal, Unauthenticated
from router.fleet.state import Fleet
from router.telemetry.metrics import Metrics
from router.upload import Upload, read_upload
from router.wire.answers import read_answer
from router.wire.json_body import KEY_COUNT_BYTES_MIN, key_counts, parse_object
from router.wire.outgoing import FORWARDED_HEADERS, PATHS, cache_salt, outgoing_body
from router.wire.parse import ParsedBody, parse
from router.wire.streams import CompletionStream, EventedStream, Stream

log = structlog.get_logger("jeton.pipeline")

# Endpoints whose answer is generated text, so that difficulty and length can be predicted.
GENERATING = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES})
# `.value` is a descriptor's call; this is a look-up.
ENDPOINT_NAMES = {endpoint: endpoint.value for endpoint in Endpoint}
ANSWER_BYTES_MAX = 256 * 2**20
UPLOADING = frozenset({Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS})
USER_AGENT = (b"user-agent", b"jeton")
ACCEPT_STREAM = (b"accept", b"text/event-stream")
ACCEPT_JSON = (b"accept", b"application/json")
JSON_TYPE = (b"content-type", b"application/json")
STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Pipeline:
    """deployment: what the configuration amounts to now; a reload sets another, requests keep theirs."""

    def __init__(
        self,
        deployment: Deployment,
        fleet: Fleet,
        relay: Relay,
        accountant: Accountant,
        classifier: Classifier,
        metrics: Metrics,
        clock: Clock,
        watchdog: Watchdog,
    ) -> None:
        self.deployment = deployment
        self.metrics = metrics
        self._fleet = fleet
        self._relay = relay
        self._accountant = accountant
        self._classifier = classifier
        self._clock = clock
        self._watchdog = watchdog
        self._limits = RequestLimits()
        self._wrong_keys = WrongKeyThrottle()
        self._retries = RetryBudget(deployment.retries.budget_ratio, deployment.retries.budget_per_second)

    async def run(self, call: Conversation, endpoint: Endpoint, request_id: str) -> None:
        """Answer one request. Raises Refusal where it could not be answered."""
        received_ns = self._clock.now_ns()
        deployment = self.deployment
        identity = self.authenticate(call.headers, call.address, deployment)
        self._limits.admit(identity, self._fleet.clock())
        body = await self._read(call, endpoint, deployment)
        request = _request(request_id, identity, endpoint, body.parsed)
        decision = self.decide(request, identity, deployment)
        if body.upload is None:  # an upload is watched once it has passed
            call.watch()
        task = call.task
        deadline = Deadline(task, time.monotonic() + deployment.total_seconds)
        self._watchdog.watch(deadline)
        try:
            await self._dispatch(_Work(call, request, body, decision, deployment, received_ns, deadline))
        except asyncio.CancelledError:
            if task is None or call.is_gone or not deadline.has_passed:
                raise
            task.uncancel()
            raise BackendTimedOut(f"The request took longer than {deployment.total_seconds:g} s in all.") from None
        finally:
            self._watchdog.unwatch(deadline)

    def explain(
        self, headers: Sequence[Header], address: str, endpoint: Endpoint, members: dict[str, Any], request_id: str
    ) -> tuple[InferenceRequest, Decision]:
        """What would be decided for this body now. Nothing is dispatched."""
        deployment = self.deployment
        identity = self.authenticate(headers, address, deployment)
        parsed = parse(endpoint, members, deployment.bounds)
        request = _request(request_id, identity, endpoint, parsed)
        return request, self.decide(request, identity, deployment)

    def authenticate(self, headers: Sequence[Header], address: str, deployment: Deployment) -> Identity:
        try:
            return deployment.api_keys.authenticate(headers)
        except Unauthenticated:
            self._wrong_keys.failed(address, self._fleet.clock())
            raise

    def decide(self, request: InferenceRequest, identity: Identity, deployment: Deployment) -> Decision:
        """Classify, find candidates, rank. Dispatches nothing: `/jeton/explain` ends here."""
        scope = deployment.scopes.resolve(request.model, identity.models)
        prediction = self._classifier.predict(request.prompt) if request.endpoint in GENERATING else None
        fleet = self._fleet
        candidates, exclusions = deployment.finder.find(
            request, scope, fleet.snapshot, fleet.loads, prediction, fleet.clock()
        )
        choices = deployment.holdout.apply(request, deployment.policy.rank(request, candidates))
        return Decision(deployment.policy_name, choices, exclusions, prediction, deployment.baseline)

    async def _read(self, call: Conversation, endpoint: Endpoint, deployment: Deployment) -> "_Body":
        server = deployment.server
        if endpoint in UPLOADING:
            content_type = require_content_type(call, b"multipart/form-data")
            upload = await read_upload(call, endpoint, content_type, server.body_bytes_max, server.body_seconds)
            return _Body(upload.parsed, upload)
        require_content_type(call, b"application/json")
        body = await call.body(server.body_bytes_max, server.body_seconds)
        if len(body) > KEY_COUNT_BYTES_MIN:
            for keys in key_counts(body):
                if keys > server.json_keys_max:
                    raise BodyTooLarge(f"The body has more than {server.json_keys_max} members, objects and arrays.")
                await asyncio.sleep(0)
        return _Body(parse(endpoint, parse_object(body), deployment.bounds))

    async def _dispatch(self, work: "_Work") -> None:
        """Try the choices in order until one answers; after the first byte there is no other."""
        self._retries.request()
        failures: list[AttemptFailed] = []
        for choice in work.decision.choices:
            if len(failures) == work.deployment.retries.attempts_max:
                break
            if failures and not self._retries.take(self._fleet.clock()):
                break
            attempt = self._open(work, choice, number=len(failures) + 1)
            try:
                await attempt.durable()
                await self._attempt(work, attempt)
            except AttemptFailed as failure:
                self._record(work, attempt, attempt.fail(failure))
                # A request that the backend rightly refused is the client's affair, not the operator's.
                say = log.info if failure.fault == "refused" else log.warning
                say("attempt failed", **_facts_for_log(attempt), fault=failure.fault, detail=failure.refusal.detail)
                if work.call.has_started or not (failure.is_retryable and work.body.can_be_sent_again):
                    raise failure.refusal from None
                failures.append(failure)
            except BaseException as error:
                self._record(work, attempt, attempt.cancel(work.why_cut_short(error)))
                raise
            else:
                assert attempt.charge is not None
                self._record(work, attempt, attempt.charge)
                return
        raise _refusal_for(failures)

    async def _attempt(self, work: "_Work", attempt: Attempt) -> None:
        parcel = self._parcel(work, attempt)
        exchange = await self._relay.send(attempt.candidate.replica, parcel, work.deployment.patience)
        if is_event_stream(exchange):
            await self._stream(work, attempt, exchange)
        else:
            await self._answer(work, attempt, exchange)

    async def _answer(self, work: "_Work", attempt: Attempt, exchange: Exchange) -> None:
        """A whole answer: read, judged and priced before its first byte goes out."""
        backend = attempt.candidate.backend
        try:
            body = await read_whole(exchange, work.deployment.patience.first_byte_seconds, ANSWER_BYTES_MAX)
        finally:
            exchange.release()
        answer = read_answer(
            work.request.endpoint,
            body,
            model=backend.model,
            context_tokens=backend.context_tokens,
            choices=work.request.choices,
        )
        if answer.fault:
            raise AttemptFailed.from_answer(answer.fault)
        charge = attempt.succeed(answer.usage, answer.completion_tokens_estimate)
        headers = [(b"content-type", header_value(exchange, b"content-type")), *_labels(attempt)]
        if charge.cost_nanousd is not None:
            headers.append((b"x-jeton-cost-usd", usd_text(charge.cost_nanousd).encode()))
        await work.call.answer(200, headers, answer.body)

    async def _stream(self, work: "_Work", attempt: Attempt, exchange: Exchange) -> None:
        """A stream: nothing goes out before the first event that means something; then piece by piece."""
        attempt.stream = stream = _stream_reader(work, attempt)
        relayed = StreamRelay(exchange, stream, work.deployment.patience)
        try:
            piece: bytes | None = await relayed.first()
            attempt.first_token()
            await work.call.start(200, [*STREAM_HEADERS, *_labels(attempt)])
            while piece is not None:
                await work.call.write(piece)
                piece = await relayed.next()
            last = stream.end()
            attempt.succeed(stream.usage(), stream.events)
            await work.call.finish(last)
        finally:
            relayed.release()

    def _open(self, work: "_Work", choice: Choice, number: int) -> Attempt:
        request, decision, candidate = work.request, work.decision, choice.candidate
        facts = AttemptFacts(
            attempt_id=f"{request.request_id}.{number}",
            request_id=request.request_id,
            number=number,
            tenant=request.tenant,
            api_key_name=request.api_key_name,
            endpoint=ENDPOINT_NAMES[request.endpoint],
            asked_model=request.model,
            pool=candidate.backend.pool.name,
            backend=candidate.backend.name,
            replica=candidate.replica.id,
            model=candidate.backend.model,
            tier=candidate.backend.tier,
            policy=decision.policy,
            reason=choice.reason,
            baseline=decision.baseline,
            category=decision.prediction.category if decision.prediction is not None else "",
            prompt_tokens_estimate=request.prompt.tokens_estimate,
            completion_tokens_estimate=round(candidate.completion_tokens),
        )
        price = work.deployment.prices.get(candidate.backend.name)
        return Attempt(
            facts,
            candidate,
            price,
            self._fleet,
            self._accountant,
            self._clock.now_ns,
            is_streaming=request.is_streaming,
        )

    def _parcel(self, work: "_Work", attempt: Attempt) -> Parcel:
        request, backend, upload = work.request, attempt.candidate.backend, work.body.upload
        headers = [USER_AGENT, (b"x-request-id", attempt.facts.attempt_id.encode())]
        headers += [header for header in work.call.headers if header[0] in FORWARDED_HEADERS]
        path = PATHS[request.endpoint]
        if upload is not None:
            headers.append((b"content-type", upload.content_type))
            return Parcel(request.endpoint, path, headers, upload.body(backend), None)
        members = work.body.parsed.members
        body = outgoing_body(
            members,
            endpoint=request.endpoint,
            engine=backend.engine,
            served_model=backend.served_model,
            is_streaming=request.is_streaming,
            salt=cache_salt(request.tenant, members.get("cache_salt")),
        )
        headers += [JSON_TYPE, ACCEPT_STREAM if request.is_streaming else ACCEPT_JSON]
        return Parcel(request.endpoint, path, headers, body, request.is_streaming)

    def _record(self, work: "_Work", attempt: Attempt, charge: Charge) -> None:
        self.metrics.attempt(charge, overhead_seconds=(attempt.opened_ns - work.received_ns) / 1e9)


class _Body(NamedTuple):
    """What came in: a JSON body, or a form that is still arriving."""

    parsed: ParsedBody
    upload: Upload | None = None

    @property
    def can_be_sent_again(self) -> bool:
        return self.upload is None or not self.upload.is_begun


class _Work(NamedTuple):
    """One request on its way: what every attempt at it shares."""

    call: Conversation
    request: InferenceRequest
    body: _Body
    decision: Decision
    deployment: Deployment
    received_ns: int
    deadline: Deadline

    def why_cut_short(self, error: BaseException) -> str:
        """The fault of an attempt that ended through no fault of the backend's."""
        if self.call.is_gone:
            return "client_gone"
        if self.deadline.has_passed:
            return "deadline"
        if isinstance(error, asyncio.CancelledError):
            return "shutdown"
        return "refused_here" if isinstance(error, Refusal) else "internal"


def _request(request_id: str, identity: Identity, endpoint: Endpoint, parsed: ParsedBody) -> InferenceRequest:
    return InferenceRequest(
        request_id=request_id,
        tenant=identity.tenant,
        api_key_name=identity.api_key_name,
        endpoint=endpoint,
        model=parsed.model,
        is_streaming=parsed.is_streaming,
        prompt=parsed.prompt,
        needs=parsed.needs,
        completion_tokens_max=parsed.completion_tokens_max,
        choices=parsed.choices,
        prompts=parsed.prompts,
        wants_usage=parsed.wants_usage,
        wants_continuous_usage=parsed.wants_continuous_usage,
    )


def _labels(attempt: Attempt) -> list[Header]:
    facts = attempt.facts
    return [
        (b"x-request-id", facts.request_id.encode()),
        *_place_labels(facts.backend, facts.model, facts.tier, facts.policy, facts.reason),
        (b"x-jeton-attempts", b"%d" % facts.number),
    ]


@lru_cache(maxsize=1024)
def _place_labels(backend: str, model: str, tier: str, policy: str, reason: str) -> tuple[Header, ...]:
    """The labels that many answers share."""
    return (
        (b"x-jeton-backend", backend.encode()),
        (b"x-jeton-model", model.encode()),
        (b"x-jeton-tier", tier.encode()),
        (b"x-jeton-policy", policy.encode()),
        (b"x-jeton-reason", reason.encode()),
    )


def cost_member(charge: Charge) -> bytes:
    """The `jeton_cost` of a last usage chunk. An unknown cost is null, never 0."""
    usd = usd_text(charge.cost_nanousd) if charge.cost_nanousd is not None else "null"
    nanousd = charge.cost_nanousd if charge.cost_nanousd is not None else "null"
    basis = "allocated" if charge.billing == "leased" else "metered"
    return f'{{"usd":{usd},"nanousd":{nanousd},"basis":"{basis}","usage_source":"{charge.usage_source}"}}'.encode()


def _stream_reader(work: _Work, attempt: Attempt) -> Stream:
    request, backend, upload = work.request, attempt.candidate.backend, work.body.upload
    if request.endpoint in (Endpoint.RESPONSES, Endpoint.MESSAGES):
        return EventedStream(endpoint=request.endpoint, model=backend.model, context_tokens=backend.context_tokens)

    def priced(usage: Usage | None) -> bytes:
        return cost_member(attempt.succeed(usage, 0))

    return CompletionStream(
        endpoint=request.endpoint,
        model=backend.model,
        choices=request.choices,
        prompts=request.prompts,
        context_tokens=backend.context_tokens,
        wants_usage=request.wants_usage if upload is None else upload.wants_usage,
        wants_continuous_usage=request.wants_continuous_usage,
        is_usage_continuous=backend.engine is EngineKind.VLLM,
        cost_member=priced,
    )


def _refusal_for(failures: Sequence[AttemptFailed]) -> Refusal:
    """What the client hears when all attempts failed: 429 only if every one was limited, with the smallest wait."""
    if all(failure.fault == "limited" for failure in failures):
        waits = [failure.retry_after_seconds for failure in failures if failure.retry_after_seconds is not None]
        return RateLimited(failures[-1].refusal.message, retry_after_seconds=min(waits, default=1.0))
    return next(failure for failure in reversed(failures) if failure.fault != "limited").refusal


def _facts_for_log(attempt: Attempt) -> Mapping[str, Any]:
    facts = attempt.facts
    return {"request_id": facts.request_id, "attempt": facts.number, "backend": facts.backend, "replica": facts.replica}
