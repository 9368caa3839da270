"""An answer on its way to the client: read, held to its test, priced, labelled, recorded for the cache, and sent.

Whole, or as a stream from the first event that means something on. What fails before anything has gone out is told upwards, where
somebody else is asked.
"""

from dataclasses import replace
from functools import lru_cache

from router.attempt import Attempt
from router.cohort import Cohort
from router.conversation import ClientGone, Header, also
from router.dispatch.failure import AttemptFailed
from router.dispatch.relay import Parcel, Patience, StreamRelay, header_value, read_whole
from router.dispatch.upstream import Exchange
from router.domain.attempt import Charge
from router.domain.fleet import EngineKind
from router.domain.money import usd_text
from router.domain.request import GENERATING, Capability, Endpoint
from router.domain.usage import Usage
from router.recall import record
from router.wire.acceptance import Probe, ProbedStream
from router.wire.answers import Answer, broken_answer, read_answer
from router.wire.counting import COUNTABLE, said_in_answer
from router.wire.streams import CompletionStream, EventedStream, Stream
from router.work import Work

ANSWER_BYTES_MAX = 256 * 2**20
# A replica that fills up meanwhile slows down: by `jeton profile show llama-3.1-8b fp8 h100` a token takes three times as long
# with 64 at once as alone, and eight times with 256.
PACE_SPARE = 4.0
STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class NotAccepted(Exception):
    """An answer did not pass the test of its choice; the next one is asked. rest: of a stream that is to be read on for what it
    uses, whoever catches this; its attempt is open. None where the attempt is charged."""

    def __init__(self, rest: StreamRelay | None = None) -> None:
        super().__init__()
        self.rest = rest


async def deliver_answer(
    work: Work,
    attempt: Attempt,
    exchange: Exchange,
    parcel: Parcel,
    patience: Patience,
    probe: Probe | None,
    cohort: Cohort,
) -> None:
    """A whole answer: read, judged and priced before its first byte goes out. patience: as of `patience_for`. Raises
    NotAccepted."""
    answer = await whole_answer(work, attempt, exchange, patience)
    text = answer.body
    if probe is not None:
        is_accepted, text = probe.accepts(text)
        if not is_accepted:
            attempt.discard(answer.usage, answer.completion_tokens_estimate)
            raise NotAccepted
    await cohort.assemble()
    charge = None
    if answer.usage is None and can_count(work, attempt):
        attempt.said = said_in_answer(text)
    if attempt.said is None:
        charge = attempt.succeed(answer.usage, answer.completion_tokens_estimate)
        await cohort.assemble()
    headers = [(b"content-type", header_value(exchange, b"content-type")), *_labels(attempt)]
    shown = _shown(parcel, text)
    if charge is not None and (nanousd := attempt.request_nanousd) is not None:
        headers.append(_cost_label(nanousd))
    tape = work.tape
    if tape is not None:
        headers.append(tape.header)
        if charge is not None:
            tape.add(shown)
            record(tape, work.request, attempt.candidate.backend, charge, headers[0][1])
    await work.call.answer(200, headers, shown)


def patience_for(work: Work, attempt: Attempt) -> Patience:
    """How long the attempt is waited for. The status line of an answer that is not streamed comes with its last token: it is
    given besides what all that it may have would take, at a part of the pace that is forecast."""
    patience, request, candidate = work.deployment.patience, work.request, attempt.candidate
    if request.is_streaming or request.endpoint not in GENERATING:
        return patience
    backend = candidate.backend
    tokens = backend.completion_tokens_max or backend.context_tokens
    if request.completion_tokens_max is not None:
        tokens = min(request.completion_tokens_max, tokens)
    answer_seconds = tokens * candidate.tpot_seconds * PACE_SPARE
    return replace(patience, first_byte_seconds=patience.first_byte_seconds + answer_seconds)


async def whole_answer(work: Work, attempt: Attempt, exchange: Exchange, patience: Patience) -> Answer:
    """An answer that is not streamed, read to its end. Raises AttemptFailed where it is none; the attempt knows what it said."""
    backend = attempt.candidate.backend
    try:
        body = await read_whole(exchange, patience.first_byte_seconds, ANSWER_BYTES_MAX)
    except AttemptFailed as failure:
        attempt.answer = broken_answer(work.request.endpoint, failure.body, failure.fault)
        raise
    finally:
        exchange.release()
    attempt.answer = answer = read_answer(
        work.request.endpoint,
        body,
        model=backend.model,
        context_tokens=backend.context_tokens,
        choices=work.request.choices,
    )
    if answer.fault:
        raise AttemptFailed.from_answer(answer.fault, answer.wait_seconds)
    return answer


async def deliver_stream(work: Work, attempt: Attempt, exchange: Exchange, parcel: Parcel, probe: Probe | None) -> None:
    """A stream: nothing goes out before the first event that means something; then piece by piece. Raises NotAccepted."""
    attempt.stream = stream = stream_reader(work, attempt, probe)
    relayed = StreamRelay(exchange, stream, work.deployment.patience)
    is_read_on = False
    try:
        first = await relayed.first()
        attempt.first_token()
        if probe is not None:
            first = await _tested(relayed, probe, first)
            if not probe.is_sure:
                is_told = stream.is_finished and stream.usage() is not None
                is_read_on = attempt.candidate.backend.reads_on and not is_told
                if is_read_on:
                    raise NotAccepted(relayed)
                attempt.discard(stream.usage(), stream.events)
                raise NotAccepted
        tape = work.tape
        told = () if tape is None else (tape.header,)
        await work.call.start(200, [*STREAM_HEADERS, *_labels(attempt), *told])
        piece: bytes | None = first
        unheard_bytes = 0
        while piece is not None:
            if tape is not None:
                tape.add(piece)
            if attempt.outlasts_client:
                unheard_bytes += len(piece)
                if unheard_bytes > work.deployment.read_on.bytes_max:
                    raise ClientGone
            await work.call.write(piece)
            outlet = work.call.outlet()
            if outlet is not None:
                await relayed.pour(outlet if tape is None else also(outlet, tape.add))
            piece = await relayed.next()
        last = _shown(parcel, stream.end())
        usage = stream.usage()
        if usage is None and (said := stream.said()) is not None:
            attempt.said = said
            await work.call.finish(last)
            return
        charge = attempt.succeed(usage, stream.events)
        if tape is not None:
            tape.add(last)
            record(tape, work.request, attempt.candidate.backend, charge, STREAM_HEADERS[0][1])
        await work.call.finish(last)
    finally:
        if not is_read_on:
            relayed.release()


def can_count(work: Work, attempt: Attempt) -> bool:
    """Whether tokens can be asked for where its backend does not say them."""
    backend = attempt.candidate.backend
    return (
        backend.engine is EngineKind.VLLM
        and Capability.TOKENIZE in backend.capabilities
        and work.request.endpoint in COUNTABLE
    )


def refused_labels(attempt: Attempt | None) -> list[Header]:
    """Of a request that ends without an answer: who was asked last, how many were, and what all of it cost, where that is known.

    attempt: the last; None where nobody was asked.
    """
    if attempt is None:
        return [(b"x-jeton-attempts", b"0"), _cost_label(0)]
    labels = _tried_labels(attempt)
    nanousd = attempt.request_nanousd
    return labels if nanousd is None else [*labels, _cost_label(nanousd)]


def refused_cost(attempt: Attempt | None) -> bytes | None:
    """The `jeton_cost` of a stream's last event where that is an error; None where its client did not ask for usage, or the
    tokens are yet to be counted."""
    if attempt is None or attempt.charge is None or attempt.stream is None or not attempt.stream.tells_cost:
        return None
    return cost_member(attempt.charge, attempt.request_nanousd)


def _labels(attempt: Attempt) -> list[Header]:
    return [(b"x-request-id", attempt.facts.request_id.encode()), *_tried_labels(attempt)]


def _tried_labels(attempt: Attempt) -> list[Header]:
    facts = attempt.facts
    return [
        *_place_labels(facts.backend, facts.model, facts.tier, facts.policy, facts.reason),
        (b"x-jeton-attempts", b"%d" % facts.number),
    ]


def _cost_label(nanousd: int) -> Header:
    return b"x-jeton-cost-usd", usd_text(nanousd).encode()


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


def cost_member(charge: Charge, request_nanousd: int | None) -> bytes:
    """The `jeton_cost` of a last usage chunk: of all attempts, the last of which is charged. An unknown cost is null, never 0."""
    usd = usd_text(request_nanousd) if request_nanousd is not None else "null"
    nanousd = request_nanousd if request_nanousd is not None else "null"
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


def stream_reader(work: Work, attempt: Attempt, probe: Probe | None) -> Stream:
    """What reads the attempt's stream, and closes it once it has told all that it used."""
    request, backend, upload = work.request, attempt.candidate.backend, work.body.upload
    if request.endpoint in (Endpoint.RESPONSES, Endpoint.MESSAGES):
        return EventedStream(
            endpoint=request.endpoint,
            model=backend.model,
            context_tokens=backend.context_tokens,
            has_hosted_tools=request.hosted_tools is not None,
        )

    def priced(usage: Usage | None) -> bytes:
        return cost_member(attempt.succeed(usage, made.events), attempt.request_nanousd)

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
        keeps_text=can_count(work, attempt),
    )
    if isinstance(made, ProbedStream) and probe is not None:
        made.probe = probe
    return made


def _shown(parcel: Parcel, data: bytes) -> bytes:
    """What is metered, as the client gets it."""
    return data if parcel.order is None else parcel.order.provider.shown(parcel.order, data)
