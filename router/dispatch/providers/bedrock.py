"""Amazon Bedrock's Converse. URL: https://bedrock-runtime.<region>.amazonaws.com

`served_model` is a model, an inference profile, or the ARN of either. A replica with an API key of Bedrock's shows that; one
without is signed for (signature version 4) with the credentials that botocore finds: the environment, a file, the container's
or the machine's role. `credentials_file` and `profile` say which file and part of it, `region` for which region is signed, where
the URL does not say.

| asked for | |
|---|---|
| system messages | `system`, all of them, wherever they stood |
| text, images (base64), tools, calls, results, `tool_choice` auto, required or one tool | translated |
| `max_tokens`, `max_completion_tokens`, `temperature` and `top_p` up to 1, `stop` | `inferenceConfig` |
| `response_format` with a JSON schema; `reasoning_effort` low to max | `outputConfig`; models without it refuse |
| `tool_choice: none` | no tools are named; after a call another backend, or a 400 that says so |
| `temperature` above 1, audio, files, names | another backend, or a 400 that says so |
| images by address, `user`, `parallel_tool_calls: false`, log-probabilities, `n` > 1, `seed`, `logit_bias`, penalties, JSON without a schema, other members | not: another backend |
| completions, responses, messages, embeddings, audio, rerank, score, tokenize | not |

Throttling, and a model that is not ready, leave it alone for a second or as long as it says; what a quota of ours forbids as well.
Input read from the cache and written to it stands beside `inputTokens` and is priced apart.
"""  # noqa: E501

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer, ParserError
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from pydantic import Field

from router.dispatch.credentials import CredentialsMissing, Lent, Vault, reread
from router.dispatch.failure import FAILED, AttemptFailed, limited, overloaded, refused, says_why
from router.dispatch.provider import FileBeside, Order, Provider
from router.dispatch.translation import TranslatedAnswer, TranslatedStream
from router.dispatch.upstream import Exchange, Headers, UpstreamRequest
from router.domain.fleet import Replica
from router.domain.request import Capability
from router.errors import BackendFailed
from router.wire.converse import ConverseTranslator, chat_answer, converse_body
from router.wire.error_body import MESSAGE_CHARACTERS_MAX
from router.wire.rate_limits import wait_seconds

REGION = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com|api\.aws)")
# botocore renews what ends ten minutes before it does, so what it hands out is good for that long.
RENEWAL_SECONDS = 300.0
# Headers that say what a request is; a proxy may change others on the way.
SIGNED_HEADERS = frozenset({b"content-type"})


class AwsKeys(NamedTuple):
    """Compared when they were refused; never printed."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "AwsKeys(…)"


class Bedrock(Provider, frozen=True):
    """region: for which is signed, the URL's unless told. profile, credentials_file: botocore's usual ones unless told."""

    bills_to_the_end: ClassVar[bool] = True
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.CHAT,
            Capability.TOOLS,
            Capability.JSON_SCHEMA,
            Capability.VISION,
            Capability.REASONING_EFFORT,
        }
    )
    stream_type: ClassVar[bytes] = b"application/vnd.amazon.eventstream"
    needs_api_key: ClassVar[bool] = False

    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    profile: str | None = None
    credentials_file: FileBeside | None = None

    def path(self, order: Order) -> str:
        operation = "converse-stream" if order.is_streaming else "converse"
        return f"/model/{quote(order.backend.served_model, safe='')}/{operation}"

    def headers(self, order: Order, forwarded: Any) -> list[tuple[bytes, bytes]]:
        return []

    def body(self, order: Order) -> bytes:
        return converse_body(order.members, completion_tokens_max=order.backend.completion_tokens_max)

    async def authorize(self, request: UpstreamRequest, replica: Replica, vault: Vault) -> UpstreamRequest:
        if replica.api_key is not None:
            return await super().authorize(request, replica, vault)
        keys: AwsKeys = await vault.get(self._vault_key, self._fetch)
        return _signed(request, keys, self._region(replica))

    async def renewed(self, replica: Replica, vault: Vault) -> Replica | None:
        if replica.api_key is not None:
            return await reread(replica)
        return replica if await vault.renewed(self._vault_key) else None

    def failure(self, status: int, headers: Headers, body: bytes) -> AttemptFailed:
        kind, message = _error(headers, body)
        if kind in (
            "ThrottlingException",
            "ModelNotReadyException",
            "ServiceQuotaExceededException",
            "TooManyRequestsException",
        ):
            wait = wait_seconds(headers, time.time())
            return overloaded(status, wait) if kind == "ModelNotReadyException" else limited(status, wait)
        if kind == "ServiceUnavailableException":
            return overloaded(status, wait_seconds(headers, time.time()))
        if kind in ("ModelErrorException", "ModelTimeoutException", "ModelStreamErrorException"):
            return AttemptFailed("http_other", BackendFailed(FAILED, detail=kind), http_status=status)
        if says_why(status):
            return refused(status, message, code=kind or None)
        return super().failure(status, headers, b"")

    def received(self, exchange: Exchange, order: Order) -> Exchange:
        model, created = order.backend.model, int(time.time())
        answer_id = f"chatcmpl-{token_hex(12)}"
        if order.is_streaming:
            return TranslatedStream(
                exchange, _Frames(ConverseTranslator(answer_id=answer_id, model=model, created=created))
            )
        return TranslatedAnswer(exchange, partial(chat_answer, answer_id=answer_id, model=model, created=created))

    @property
    def _vault_key(self) -> tuple[str, str | None, Path | None]:
        return ("aws", self.profile, self.credentials_file)

    def _region(self, replica: Replica) -> str:
        found = REGION.search(replica.url)
        region = self.region or (found[1] if found else None)
        if region is None:
            raise CredentialsMissing(f"the URL of {replica.id} names no region to sign for; add the parameter `region`")
        return region

    def _fetch(self) -> Lent:
        """Blocks: files are read, and a role's credentials may be asked for over the network."""
        session = Session(profile=self.profile)
        if self.credentials_file is not None:
            session.set_config_variable("credentials_file", str(self.credentials_file))
        try:
            credentials = session.get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials is not None else None
        except BotoCoreError as error:
            raise CredentialsMissing(f"AWS credentials cannot be had: {type(error).__name__}") from None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise CredentialsMissing("there are no AWS credentials in the environment, a file or a role")
        keys = AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)
        return Lent(keys, time.time() + 2 * RENEWAL_SECONDS)


def _signed(request: UpstreamRequest, keys: AwsKeys, region: str) -> UpstreamRequest:
    url = f"{request.origin.scheme}://{request.origin.authority}{request.path.decode()}"
    signing = AWSRequest(
        method="POST",
        url=url,
        data=request.body,
        headers={name.decode(): value.decode() for name, value in request.headers if name in SIGNED_HEADERS},
    )
    SigV4Auth(Credentials(*keys), "bedrock", region).add_auth(signing)
    ours = [
        (name.lower().encode(), value.encode())
        for name, value in signing.headers.items()
        if name.lower() in ("authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
    ]
    return request._replace(headers=[*request.headers, *ours])


def _error(headers: Headers, body: bytes) -> tuple[str, str]:
    """The exception's name and its message."""
    kind = next((value.decode("latin-1") for name, value in headers if name == b"x-amzn-errortype"), "")
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = {}
    if type(told) is not dict:
        told = {}
    kind = kind or str(told.get("__type") or told.get("code") or "")
    message = told.get("message") or told.get("Message")
    text = message if type(message) is str else "The backend refused the request without saying why."
    return kind.partition(":")[0].rpartition("#")[2], text[:MESSAGE_CHARACTERS_MAX]


class _Frames:
    """Amazon's event-stream framing around the events. A checksum that is wrong ends the stream as unreadable."""

    def __init__(self, translator: ConverseTranslator) -> None:
        self._buffer = EventStreamBuffer()
        self._translator = translator

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer.add_data(data)
        try:
            for message in self._buffer:
                yield self._translated(message)
        except ParserError as error:
            raise ValueError(type(error).__name__) from None

    def end(self) -> bytes:
        return b""

    def usage_told(self) -> None:
        """Told at the end alone."""

    def _translated(self, message: Any) -> bytes:
        headers = message.headers
        if headers.get(":message-type") == "event":
            return self._translator.event(headers[":event-type"], orjson.loads(message.payload))
        return self._translator.exception(str(headers.get(":exception-type") or headers.get(":error-code")))
