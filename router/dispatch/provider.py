"""The contract of a provider: what it takes to ask somebody whose API is not plainly OpenAI's, and to read the answer.

A provider is one file in `providers/`, found by its name; its fields are the parameters in YAML. An instance is immutable and
shared by every request to a backend. It says where a request goes, how it looks there and what is shown for it, what an error
means, and it hands back an exchange whose bytes are those that OpenAI would have sent, so that all behind it (metering,
streams, fail-over) is the same for everybody. Translations of bodies and streams are pure and live in `wire/`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, ValidationInfo

from router.dispatch.credentials import Vault, reread
from router.dispatch.failure import AttemptFailed, is_read, overloaded, status_failure
from router.dispatch.upstream import Exchange, Headers, UpstreamRequest
from router.domain.fleet import Backend, Replica
from router.domain.request import Capability, Endpoint
from router.wire.rate_limits import wait_seconds

Header = tuple[bytes, bytes]


def _beside(value: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / value


# A file among a provider's parameters: beside router.yaml unless absolute.
FileBeside = Annotated[Path, AfterValidator(_beside)]


class Order(NamedTuple):
    """What is asked of a backend, and whose it is. members: of the client's body, not to be changed; none where a form is on its
    way."""

    provider: "Provider"
    endpoint: Endpoint
    members: dict[str, Any]
    backend: Backend
    is_streaming: bool


class Provider(BaseModel, ABC, frozen=True, extra="forbid"):
    """capabilities: all that can be asked of it through this file; a request that needs more goes elsewhere.

    stream_type: of its streams, before they are OpenAI's. needs_api_key: its replicas must have one.
    needs_completion_tokens_max: its API wants a bound for every completion, so the backend must have one.
    bills_to_the_end: it goes on, and bills, when whoever asked has closed the connection. For streams OpenRouter lists who does
    (https://openrouter.ai/docs/api-reference/streaming, "Stream cancellation": Bedrock, Groq and Google among others).
    """

    capabilities: ClassVar[frozenset[Capability]]
    stream_type: ClassVar[bytes] = b"text/event-stream"
    needs_api_key: ClassVar[bool] = True
    needs_completion_tokens_max: ClassVar[bool] = False
    bills_to_the_end: ClassVar[bool] = False

    @abstractmethod
    def path(self, order: Order) -> str:
        """Where the order goes, behind the replica's URL; with the query, if any."""

    def headers(self, order: Order, forwarded: Sequence[Header]) -> list[Header]:
        """What goes with it beside the usual. forwarded: those of the client's that a backend may see."""
        return list(forwarded)

    @abstractmethod
    def body(self, order: Order) -> bytes:
        """Raises Untranslatable."""

    async def authorize(self, request: UpstreamRequest, replica: Replica, vault: Vault) -> UpstreamRequest:
        """The request with what is shown for it. Raises CredentialsMissing."""
        return request._replace(headers=[*request.headers, *self.credentials(replica)])

    def credentials(self, replica: Replica) -> list[Header]:
        return [(b"authorization", b"Bearer " + (replica.api_key or "").encode())] if replica.api_key else []

    async def renewed(self, replica: Replica, vault: Vault) -> Replica | None:
        """After a refusal of our credentials: the replica to try once more, None where there are no others to show."""
        return await reread(replica)

    def failure(self, status: int, headers: Headers, body: bytes) -> AttemptFailed:
        """What an answer other than 200 means."""
        wait = wait_seconds(headers, time.time())
        if status == 503 and wait is not None:
            return overloaded(status, wait)
        return status_failure(status, wait, body if is_read(status) else b"")

    def received(self, exchange: Exchange, order: Order) -> Exchange:
        """The answer as OpenAI would have sent it."""
        return exchange

    def shown(self, order: Order, data: bytes) -> bytes:
        """A whole answer, or the end of a stream, once it is metered, without what the client did not ask for."""
        return data
