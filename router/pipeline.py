"""One request: authenticate, parse, classify, find candidates, decide, reserve, dispatch, meter, settle, record, in order.

The detail lives in the rooms; here values are passed between them. Rooms that do I/O do not know one another.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import orjson
import structlog

from router.access.keys import Identity
from router.access.limits import RequestLimits, WrongKeyThrottle
from router.access.repeats import Repeats, repeat_name, request_fingerprint
from router.accountant import Accountant
from router.attempt import Attempt
from router.bursar import Bursar
from router.cache.responses import Tape
from router.classify.classifier import Classifier
from router.clock import Clock
from router.cohort import Cohort
from router.conversation import Conversation, Header, require_content_type
from router.deployment import Deployment
from router.dispatch.failure import AttemptFailed
from router.dispatch.names import StrangersNames
from router.dispatch.provider import Order, Provider
from router.dispatch.relay import Parcel, Relay, StreamRelay, header_value, is_event_stream, read_whole
from router.dispatch.retries import RetryBudget
from router.dispatch.upstream import Exchange
from router.dispatch.watchdog import Deadline, Watchdog
from router.domain.attempt import AttemptFacts, AttemptStatus, Charge
from router.domain.decision import Acceptance, Choice, Decision, Prediction
from router.domain.fleet import Backend, EngineKind
from router.domain.money import usd_text
from router.domain.request import GENERATING, NO_TERMS, Endpoint, InferenceRequest, PrefixMark, Terms
from router.domain.usage import Usage
from router.errors import (
    BackendTimedOut,
    BadRequest,
    BodyTooLarge,
    BudgetRefusal,
    RateLimited,
    Refusal,
    Unauthenticated,
    Untranslatable,
)
from router.fleet.state import Fleet
from router.ledger.budget import Account, Hold
from router.recall import Recall, Wanted, record
from router.selection.affordable import affordable
from router.selection.terms import refuse_in_a_rush, within_terms
from router.telemetry.metrics import Metrics
from router.upload import Upload, read_upload
from router.wire.acceptance import TESTABLE, Probe, ProbedStream, asking_logprobs
from router.wire.answers import read_answer
from router.wire.json_body import KEY_COUNT_BYTES_MIN, key_counts, parse_object
from router.wire.media import MediaRules, is_public, unfetchable
from router.wire.outgoing import FORWARDED_HEADERS, PATHS, cache_salt, outgoing_body
from router.wire.parse import ParsedBody, parse
from router.wire.prefix import TOKENS_MIN as PREFIX_TOKENS_MIN
from router.wire.prefix import prefix_marks
from router.wire.streams import CompletionStream, EventedStream, Stream
from router.wire.terms import read_terms

log = structlog.get_logger("jeton.pipeline")

# `.value` is a descriptor's call; this is a look-up.
ENDPOINT_NAMES = {endpoint: endpoint.value for endpoint in Endpoint}
ANSWER_BYTES_MAX = 256 * 2**20
# An attempt that was cut off at its deadline takes a moment to be closed.
HOLD_SPARE_SECONDS = 60.0
UPLOADING = frozenset({Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS})
IDEMPOTENCY_KEY = b"idempotency-key"
USER_AGENT = (b"user-agent", b"jeton")
JSON_TYPE = (b"content-type", b"application/json")
STREAM_ASKED = (USER_AGENT, JSON_TYPE, (b"accept", b"text/event-stream"))
ANSWER_ASKED = (USER_AGENT, JSON_TYPE, (b"accept", b"application/json"))
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
        bursar: Bursar,
        classifier: Classifier,
        metrics: Metrics,
        clock: Clock,
        watchdog: Watchdog,
        repeats: Repeats,
        names: StrangersNames,
        recall: Recall,
    ) -> None:
        self.deployment = deployment
        self.metrics = metrics
        self._fleet = fleet
        self._relay = relay
        self._accountant = accountant
        self._bursar = bursar
        self._classifier = classifier
        self._clock = clock
        self._watchdog = watchdog
        self._repeats = repeats
        self._under_way: dict[Attempt, asyncio.Task[Any]] = {}
        self._given_up: set[Attempt] = set()
        self._names = names
        self._recall = recall
        self._cohort = Cohort()
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
        if body.parsed.media_hosts:
            await self._check_names(body.parsed.media_hosts, deployment.bounds.media)
        terms = read_terms(call.header_values)
        request = _request(request_id, identity, endpoint, body.parsed, body.bytes, terms, deployment)
        if body.repeat is None:
            with self._cohort:
                await self._serve(call, request, body, identity, deployment, received_ns)
        else:
            await self._serve_once(call, request, body, identity, deployment, received_ns, body.repeat)

    async def _serve_once(
        self,
        call: Conversation,
        request: InferenceRequest,
        body: "_Body",
        identity: Identity,
        deployment: Deployment,
        received_ns: int,
        repeat: "_Repeat",
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
        body: "_Body",
        identity: Identity,
        deployment: Deployment,
        received_ns: int,
    ) -> None:
        """The steps between the request that was read and the answer."""
        await self._cohort.assemble()
        prediction = self.classify(request)
        await self._cohort.assemble()
        accounts = self._bursar.of(identity.tenant, identity.api_key_name)
        decision = self.decide(request, identity, deployment, prediction, accounts)
        if decision.is_degraded:
            self.metrics.degraded(identity.tenant)
        await self._cohort.assemble()
        if body.upload is None:  # an upload is watched once it has passed
            call.watch()
        task = call.task
        total_seconds = deployment.total_seconds
        if request.terms.deadline_seconds is not None:
            spent_seconds = (self._clock.now_ns() - received_ns) / 1e9
            total_seconds = min(total_seconds, request.terms.deadline_seconds - spent_seconds)
        deadline = Deadline(task, time.monotonic() + total_seconds)
        self._watchdog.watch(deadline)
        try:
            work = _Work(call, request, body, decision, accounts, deployment, received_ns, deadline)
            if self._recall.cache.is_on:
                wanted = Wanted(call, request, body.parsed.members, decision, received_ns)
                await self._recall.answer(wanted, lambda tape: self._dispatch(work._replace(tape=tape)))
            else:
                await self._dispatch(work)
        except asyncio.CancelledError:
            if task is None or call.is_gone or not deadline.has_passed:
                raise
            task.uncancel()
            raise BackendTimedOut(f"The request took longer than {total_seconds:g} s in all.") from None
        finally:
            self._watchdog.unwatch(deadline)

    async def _check_names(self, hosts: frozenset[str], rules: MediaRules) -> None:
        """Raises BadRequest where one of them leads elsewhere than to public addresses, or nowhere."""
        try:
            addresses = await self._names.addresses(hosts)
        except OSError as error:
            message = "The host of an image, a sound, a video or a file is not found."
            raise BadRequest(message, detail=str(error)) from None
        if not all(map(is_public, addresses)):
            raise unfetchable(None, rules)

    def give_up(self, replica_id: str) -> int:
        """End what still runs at a replica that is about to be taken away: another takes over, where nothing of the answer has
        gone out, else the client hears that it broke. Returns how many attempts that are."""
        found = [attempt for attempt in self._under_way if attempt.facts.replica == replica_id]
        for attempt in found:
            self._given_up.add(attempt)
            self._under_way[attempt].cancel()
        return len(found)

    def explain(
        self, headers: Sequence[Header], address: str, endpoint: Endpoint, members: dict[str, Any], request_id: str
    ) -> tuple[InferenceRequest, Decision]:
        """What would be decided for this body now. Nothing is dispatched."""
        deployment = self.deployment
        identity = self.authenticate(headers, address, deployment)
        parsed = parse(endpoint, members, deployment.bounds)
        terms = read_terms(dict(headers))
        size = len(orjson.dumps(members))
        request = _request(request_id, identity, endpoint, parsed, size, terms, deployment)
        accounts = self._bursar.of(identity.tenant, identity.api_key_name)
        return request, self.decide(request, identity, deployment, self.classify(request), accounts)

    def authenticate(self, headers: Sequence[Header], address: str, deployment: Deployment) -> Identity:
        try:
            return deployment.api_keys.authenticate(headers)
        except Unauthenticated:
            self._wrong_keys.failed(address, self._fleet.clock())
            raise

    def classify(self, request: InferenceRequest) -> Prediction | None:
        """None where no text is generated."""
        return self._classifier.predict(request.prompt) if request.endpoint in GENERATING else None

    def decide(
        self,
        request: InferenceRequest,
        identity: Identity,
        deployment: Deployment,
        prediction: Prediction | None,
        accounts: Sequence[Account],
    ) -> Decision:
        """Find candidates that the budgets allow, rank. Dispatches nothing: `/jeton/explain` ends here."""
        scope = deployment.scopes.resolve(request.model, identity.models)
        fleet = self._fleet
        candidates, exclusions = deployment.finder.find(
            request,
            scope,
            fleet.snapshot,
            fleet.all_loads,
            prediction,
            fleet.clock(),
            tenancy=deployment.tenancies.get(identity.tenant),
            are_holds_wanted=bool(accounts) or request.terms.cost_nanousd_max is not None,
        )
        is_degraded = False
        if request.terms is not NO_TERMS:
            candidates, beyond = within_terms(request, candidates)
            exclusions += beyond
        if accounts:
            candidates, unaffordable, is_degraded = affordable(
                candidates, self._bursar.allowance(accounts), self._clock.now_ns()
            )
            exclusions += unaffordable
        named = deployment.policies.pick(identity.tenant, request.model, self._clock.now_ns())
        choices = deployment.holdout.apply(request, named.policy.rank(request, candidates))
        shedding = deployment.shedding
        if choices[0].candidate.ttft_seconds > shedding.limit_seconds(request.terms.criticality):  # hardly ever
            refuse_in_a_rush(request, candidates, shedding)
        return Decision(named.name, choices, exclusions, prediction, deployment.baseline, is_degraded)

    async def _read(self, call: Conversation, endpoint: Endpoint, deployment: Deployment) -> "_Body":
        server = deployment.server
        if endpoint in UPLOADING:
            content_type = require_content_type(call, b"multipart/form-data")
            upload = await read_upload(call, endpoint, content_type, server.body_bytes_max, server.body_seconds)
            return _Body(upload.parsed, call.content_length() or server.body_bytes_max, upload)
        require_content_type(call, b"application/json")
        body = await call.body(server.body_bytes_max, server.body_seconds)
        if len(body) > KEY_COUNT_BYTES_MIN:
            for keys in key_counts(body):
                if keys > server.json_keys_max:
                    raise BodyTooLarge(f"The body has more than {server.json_keys_max} members, objects and arrays.")
                await asyncio.sleep(0)
        key = call.header(IDEMPOTENCY_KEY)
        repeat = None
        if key is not None and self._repeats.is_on:
            repeat = _Repeat(key, request_fingerprint(PATHS[endpoint], body))
        return _Body(parse(endpoint, parse_object(body), deployment.bounds), len(body), repeat=repeat)

    async def _dispatch(self, work: "_Work") -> None:
        """Try the choices in order until one answers; after the first byte there is no other."""
        self._retries.request()
        failures: list[AttemptFailed] = []
        over_budget: BudgetRefusal | None = None
        discarded = 0
        for place, choice in enumerate(work.decision.choices):
            if len(failures) == work.deployment.retries.attempts_max:
                break
            if failures and failures[-1].fault != "leaving" and not self._retries.take(self._fleet.clock()):
                break
            hold = None
            if work.accounts:
                try:
                    hold = await self._bursar.reserve(work.accounts, choice.candidate.hold_nanousd, work.hold_ns)
                except BudgetRefusal as refusal:  # somebody else was quicker; a cheaper choice may still fit
                    over_budget = over_budget or refusal
                    continue
            attempt = self._open(work, choice, number=len(failures) + discarded + 1, hold=hold)
            probe = None
            if choice.acceptance is not None and place + 1 < len(work.decision.choices):
                probe = work.probe(choice.acceptance, choice.candidate.backend)
            try:
                await attempt.durable()
                await self._attempt(work, attempt, probe)
            except NotAccepted:
                discarded += 1
                assert attempt.charge is not None
                self._record(work, attempt, attempt.charge)
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
        if over_budget is not None and not failures:
            raise over_budget
        raise _refusal_for(failures)

    async def _attempt(self, work: "_Work", attempt: Attempt, probe: Probe | None) -> None:
        task = work.call.task
        assert task is not None
        self._under_way[attempt] = task
        try:
            await self._cohort.assemble()
            parcel = self._parcel(work, attempt, probe)
            exchange = await self._relay.send(attempt.candidate.replica, parcel, work.deployment.patience)
            if is_event_stream(exchange):
                await self._stream(work, attempt, exchange, parcel, probe)
            else:
                await self._answer(work, attempt, exchange, parcel, probe)
        except asyncio.CancelledError:
            if attempt not in self._given_up or work.call.is_gone or work.deadline.has_passed:
                raise
            task.uncancel()
            raise AttemptFailed.leaving(has_begun=work.call.has_started) from None
        finally:
            del self._under_way[attempt]
            self._given_up.discard(attempt)

    async def _answer(
        self, work: "_Work", attempt: Attempt, exchange: Exchange, parcel: Parcel, probe: Probe | None
    ) -> None:
        """A whole answer: read, judged and priced before its first byte goes out. Raises NotAccepted."""
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
        text = answer.body
        if probe is not None:
            is_accepted, text = probe.accepts(text)
            if not is_accepted:
                attempt.discard(answer.usage, answer.completion_tokens_estimate)
                raise NotAccepted
        await self._cohort.assemble()
        charge = attempt.succeed(answer.usage, answer.completion_tokens_estimate)
        headers = [(b"content-type", header_value(exchange, b"content-type")), *_labels(attempt)]
        if charge.cost_nanousd is not None:
            headers.append((b"x-jeton-cost-usd", usd_text(charge.cost_nanousd).encode()))
        shown = _shown(parcel, text)
        tape = work.tape
        if tape is not None:
            headers.append(tape.header)
            tape.add(shown)
            record(tape, work.request, backend, charge, headers[0][1])
        await work.call.answer(200, headers, shown)

    async def _stream(
        self, work: "_Work", attempt: Attempt, exchange: Exchange, parcel: Parcel, probe: Probe | None
    ) -> None:
        """A stream: nothing goes out before the first event that means something; then piece by piece. Raises NotAccepted."""
        attempt.stream = stream = _stream_reader(work, attempt, probe)
        relayed = StreamRelay(exchange, stream, work.deployment.patience)
        try:
            first = await relayed.first()
            attempt.first_token()
            if probe is not None:
                first = await _tested(relayed, probe, first)
                if not probe.is_sure:
                    attempt.discard(stream.usage(), stream.events)
                    raise NotAccepted
            tape = work.tape
            told = () if tape is None else (tape.header,)
            await work.call.start(200, [*STREAM_HEADERS, *_labels(attempt), *told])
            piece: bytes | None = first
            while piece is not None:
                if tape is not None:
                    tape.add(piece)
                await work.call.write(piece)
                piece = await relayed.next()
            last = _shown(parcel, stream.end())
            charge = attempt.succeed(stream.usage(), stream.events)
            if tape is not None:
                tape.add(last)
                record(tape, work.request, attempt.candidate.backend, charge, STREAM_HEADERS[0][1])
            await work.call.finish(last)
        finally:
            relayed.release()

    def _open(self, work: "_Work", choice: Choice, number: int, hold: Hold | None) -> Attempt:
        """Raises Unavailable when it cannot be recorded; nothing is held for it then."""
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
        try:
            return Attempt(
                facts,
                candidate,
                price,
                self._fleet,
                self._accountant,
                self._clock.now_ns,
                is_streaming=request.is_streaming,
                settle=partial(self._bursar.settle, hold) if hold is not None else None,
            )
        except BaseException:
            if hold is not None:
                self._bursar.void(hold)
            raise

    def _parcel(self, work: "_Work", attempt: Attempt, probe: Probe | None) -> Parcel:
        request, backend, upload = work.request, attempt.candidate.backend, work.body.upload
        headers = [(b"x-request-id", attempt.facts.attempt_id.encode())]
        forwarded = [header for header in work.call.headers if header[0] in FORWARDED_HEADERS]
        if backend.provider:
            return self._parcel_for(work.deployment.providers[backend.name], work, backend, headers, forwarded)
        headers += forwarded
        path = PATHS[request.endpoint]
        if upload is not None:
            headers += [USER_AGENT, (b"content-type", upload.content_type)]
            return Parcel(request.endpoint, path, headers, upload.body(backend), None)
        members = work.body.parsed.members
        if probe is not None:
            members = asking_logprobs(request.endpoint, members)
        body = outgoing_body(
            members,
            endpoint=request.endpoint,
            engine=backend.engine,
            served_model=backend.served_model,
            is_streaming=request.is_streaming,
            salt=cache_salt(request.tenant, members.get("cache_salt")),
        )
        headers += STREAM_ASKED if request.is_streaming else ANSWER_ASKED
        return Parcel(request.endpoint, path, headers, body, request.is_streaming)

    def _parcel_for(
        self, provider: Provider, work: "_Work", backend: Backend, headers: list[Header], forwarded: Sequence[Header]
    ) -> Parcel:
        """As the provider wants it. Raises AttemptFailed where its API has no place for what is asked."""
        request, upload = work.request, work.body.upload
        order = Order(provider, request.endpoint, work.body.parsed.members, backend, request.is_streaming)
        headers += provider.headers(order, forwarded)
        path = provider.path(order)
        if upload is not None:
            headers += [USER_AGENT, (b"content-type", upload.content_type)]
            return Parcel(request.endpoint, path, headers, upload.body(backend), None, order=order)
        try:
            body = provider.body(order)
        except Untranslatable as refusal:
            raise AttemptFailed("untranslatable", refusal) from None
        wanted = provider.stream_type if request.is_streaming else b"application/json"
        headers += [USER_AGENT, JSON_TYPE, (b"accept", wanted)]
        return Parcel(request.endpoint, path, headers, body, request.is_streaming, order=order)

    def _record(self, work: "_Work", attempt: Attempt, charge: Charge) -> None:
        quality = None if work.decision.prediction is None else attempt.candidate.quality
        self.metrics.attempt(charge, (attempt.opened_ns - work.received_ns) / 1e9, quality)
        finder = work.deployment.finder
        finder.drifts.observe(attempt.candidate, charge)
        if work.request.prefix and (charge.first_token_ns is not None or charge.status is AttemptStatus.OK):
            finder.prefixes.sent(charge.facts.replica, work.request.prefix)


class NotAccepted(Exception):
    """An answer did not pass the test of its choice; the next one is asked."""


class _Repeat(NamedTuple):
    """What tells a request that was sent before: its `Idempotency-Key`, and what it asks."""

    key: bytes
    fingerprint: bytes


class _Body(NamedTuple):
    """What came in: a JSON body, or a form that is still arriving. bytes: its size, or what it may have at most.

    repeat: None where the client sent no `Idempotency-Key`; of a form it is ignored, for what has passed was not kept.
    """

    parsed: ParsedBody
    bytes: int
    upload: Upload | None = None
    repeat: _Repeat | None = None

    @property
    def can_be_sent_again(self) -> bool:
        return self.upload is None or not self.upload.is_begun


class _Work(NamedTuple):
    """One request on its way: what every attempt at it shares. tape: where the response cache has to do with it."""

    call: Conversation
    request: InferenceRequest
    body: _Body
    decision: Decision
    accounts: Sequence[Account]
    deployment: Deployment
    received_ns: int
    deadline: Deadline
    tape: Tape | None = None

    def probe(self, acceptance: Acceptance, backend: Backend) -> Probe | None:
        """None where the API's answers cannot be tested, or a provider's own API has no place for what the test asks for."""
        is_testable = self.request.endpoint in TESTABLE and not backend.provider
        return Probe(acceptance, self.body.parsed.members) if is_testable else None

    @property
    def hold_ns(self) -> int:
        """How long an attempt's hold may last: beyond the deadline at which whatever runs is cut off."""
        return int((self.deployment.total_seconds + HOLD_SPARE_SECONDS) * 1e9)

    def why_cut_short(self, error: BaseException) -> str:
        """The fault of an attempt that ended through no fault of the backend's."""
        if self.call.is_gone:
            return "client_gone"
        if self.deadline.has_passed:
            return "deadline"
        if isinstance(error, asyncio.CancelledError):
            return "shutdown"
        return "refused_here" if isinstance(error, Refusal) else "internal"


def _request(
    request_id: str,
    identity: Identity,
    endpoint: Endpoint,
    parsed: ParsedBody,
    body_bytes: int,
    terms: Terms,
    deployment: Deployment,
) -> InferenceRequest:
    prefix: tuple[PrefixMark, ...] = ()
    if deployment.follows_prefixes and parsed.prompt.tokens_estimate >= PREFIX_TOKENS_MIN and endpoint in GENERATING:
        members = parsed.members
        prefix = prefix_marks(endpoint, members, cache_salt(identity.tenant, members.get("cache_salt")))
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
        body_bytes=body_bytes,
        terms=terms,
        prefix=prefix,
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


async def _tested(relayed: StreamRelay, probe: Probe, first: bytes) -> bytes:
    """The beginning of a stream, as long as its test asks for, or all of it."""
    held = [first]
    while not probe.has_enough:
        piece = await relayed.next()
        if piece is None:
            break
        held.append(piece)
    return b"".join(held)


def _stream_reader(work: _Work, attempt: Attempt, probe: Probe | None) -> Stream:
    request, backend, upload = work.request, attempt.candidate.backend, work.body.upload
    if request.endpoint in (Endpoint.RESPONSES, Endpoint.MESSAGES):
        return EventedStream(endpoint=request.endpoint, model=backend.model, context_tokens=backend.context_tokens)

    def priced(usage: Usage | None) -> bytes:
        return cost_member(attempt.succeed(usage, 0))

    made = (CompletionStream if probe is None else ProbedStream)(
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
    if isinstance(made, ProbedStream) and probe is not None:
        made.probe = probe
    return made


def _shown(parcel: Parcel, data: bytes) -> bytes:
    """What is metered, as the client gets it."""
    return data if parcel.order is None else parcel.order.provider.shown(parcel.order, data)


def _refusal_for(failures: Sequence[AttemptFailed]) -> Refusal:
    """What the client hears when all attempts failed: 429 only if every one was limited, with the smallest wait; that the
    request cannot be put to a provider only if nobody was asked."""
    failures = [failure for failure in failures if failure.fault != "untranslatable"] or failures
    if all(failure.fault == "limited" for failure in failures):
        waits = [failure.retry_after_seconds for failure in failures if failure.retry_after_seconds is not None]
        return RateLimited(failures[-1].refusal.message, retry_after_seconds=min(waits, default=1.0))
    return next(failure for failure in reversed(failures) if failure.fault != "limited").refusal


def _facts_for_log(attempt: Attempt) -> Mapping[str, Any]:
    facts = attempt.facts
    return {"request_id": facts.request_id, "attempt": facts.number, "backend": facts.backend, "replica": facts.replica}
