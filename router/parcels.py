"""A request as the backend that was chosen gets it: path, headers and body, OpenAI's or those of a provider's own API."""

from collections.abc import Sequence

from router.attempt import Attempt
from router.dispatch.failure import AttemptFailed
from router.dispatch.provider import Header, Order, Provider
from router.dispatch.relay import Parcel
from router.domain.fleet import Backend
from router.errors import Untranslatable
from router.wire.acceptance import Probe, asking_logprobs
from router.wire.outgoing import FORWARDED_HEADERS, PATHS, cache_salt, outgoing_body
from router.work import Work

USER_AGENT = (b"user-agent", b"jeton")
JSON_TYPE = (b"content-type", b"application/json")
STREAM_ASKED = (USER_AGENT, JSON_TYPE, (b"accept", b"text/event-stream"))
ANSWER_ASKED = (USER_AGENT, JSON_TYPE, (b"accept", b"application/json"))


def parcel_for(work: Work, attempt: Attempt, probe: Probe | None) -> Parcel:
    """probe: a test of the answer, which may need more of it than the client asked for. Raises AttemptFailed where a provider's
    API has no place for what is asked."""
    request, backend, upload = work.request, attempt.candidate.backend, work.body.upload
    headers = [(b"x-request-id", attempt.facts.attempt_id.encode())]
    forwarded = [header for header in work.call.headers if header[0] in FORWARDED_HEADERS]
    if backend.provider:
        return _provider_parcel(work.deployment.providers[backend.name], work, backend, headers, forwarded)
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


def _provider_parcel(
    provider: Provider, work: Work, backend: Backend, headers: list[Header], forwarded: Sequence[Header]
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
