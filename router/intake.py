"""What came in: a request's body and headers, read within bounds, and what is asked by them as one immutable value.

What is decided about it is not known here. A body that was refused has cost nothing but its reading.
"""

import asyncio
from typing import NamedTuple

from router.access.keys import Identity
from router.access.repeats import Repeats, request_fingerprint
from router.conversation import Conversation, require_content_type
from router.deployment import Deployment
from router.dispatch.names import StrangersNames
from router.domain.request import AUDIO, GENERATING, Endpoint, InferenceRequest, PrefixMark, Terms
from router.errors import BadRequest, BodyTooLarge
from router.upload import Upload, read_upload
from router.wire.json_body import KEY_COUNT_BYTES_MIN, key_counts, parse_object
from router.wire.media import MediaRules, is_public, unfetchable
from router.wire.outgoing import PATHS, cache_salt
from router.wire.parse import ParsedBody, parse
from router.wire.prefix import TOKENS_MIN as PREFIX_TOKENS_MIN
from router.wire.prefix import prefix_marks

IDEMPOTENCY_KEY = b"idempotency-key"


class Repeat(NamedTuple):
    """What tells a request that was sent before: its `Idempotency-Key`, and what it asks."""

    key: bytes
    fingerprint: bytes


class Body(NamedTuple):
    """What came in: a JSON body, or a form that is still arriving. bytes: its size, or what it may have at most.

    repeat: None where the client sent no `Idempotency-Key`; of a form it is ignored, for what has passed was not kept.
    """

    parsed: ParsedBody
    bytes: int
    upload: Upload | None = None
    repeat: Repeat | None = None

    @property
    def can_be_sent_again(self) -> bool:
        return self.upload is None or not self.upload.is_begun


async def read_body(call: Conversation, endpoint: Endpoint, deployment: Deployment, repeats: Repeats) -> Body:
    """A form only as far as its `model`. Raises BadRequest, BodyTooLarge, UnsupportedBody, ClientTooSlow, ClientGone."""
    server = deployment.server
    if endpoint in AUDIO:
        content_type = require_content_type(call, b"multipart/form-data")
        upload = await read_upload(call, endpoint, content_type, server.body_bytes_max, server.body_seconds)
        return Body(upload.parsed, call.content_length() or server.body_bytes_max, upload)
    require_content_type(call, b"application/json")
    body = await call.body(server.body_bytes_max, server.body_seconds)
    if len(body) > KEY_COUNT_BYTES_MIN:
        for keys in key_counts(body):
            if keys > server.json_keys_max:
                raise BodyTooLarge(f"The body has more than {server.json_keys_max} members, objects and arrays.")
            await asyncio.sleep(0)
    key = call.header(IDEMPOTENCY_KEY)
    repeat = None
    if key is not None and repeats.is_on:
        repeat = Repeat(key, request_fingerprint(PATHS[endpoint], body))
    return Body(parse(endpoint, parse_object(body), deployment.bounds), len(body), repeat=repeat)


async def check_hosts(hosts: frozenset[str], names: StrangersNames, rules: MediaRules) -> None:
    """hosts: of what a backend would fetch. Raises BadRequest where one leads elsewhere than to public addresses, or nowhere."""
    try:
        addresses = await names.addresses(hosts)
    except OSError as error:
        message = "The host of an image, a sound, a video or a file is not found."
        raise BadRequest(message, detail=str(error)) from None
    if not all(map(is_public, addresses)):
        raise unfetchable(None, rules)


def inference_request(
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
        salt = cache_salt(identity.tenant, members.get("cache_salt"))
        prefix = prefix_marks(endpoint, members, salt, deployment.marks_secret)
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
        service_tier=parsed.service_tier,
        hosted_tools=parsed.hosted_tools,
    )
