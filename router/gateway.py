"""The bare ASGI application of the relay path; everything that is not inference goes on to the FastAPI application.

Here: which path is which endpoint, and how a refusal is put to the client. Decided by the ASGI path alone, never by Host or
URL. What happens to a request is `pipeline.py`'s.
"""

import asyncio
import math
import time
from random import Random, SystemRandom

import structlog

from router.conversation import ClientGone, Conversation, Header, Message, Receive, Send
from router.delivery import refused_cost, refused_labels
from router.dispatch.watchdog import Watchdog
from router.domain.request import Endpoint
from router.errors import Refusal, Unavailable, WrongMethod
from router.pipeline import Pipeline
from router.wire.error_body import error_body, error_event
from router.wire.outgoing import PATHS

log = structlog.get_logger("jeton.gateway")

ENDPOINTS: dict[str, Endpoint] = {path: endpoint for endpoint, path in PATHS.items()} | {
    "/rerank": Endpoint.RERANK,
    "/v2/rerank": Endpoint.RERANK,
    "/score": Endpoint.SCORE,
}


# Seeded once by the system: an id must be unique, not secret, and asking the kernel for each costs more than the rest of it.
_RANDOM = Random(SystemRandom().getrandbits(256))


def new_request_id() -> str:
    """48 bits of milliseconds, then 80 of chance, as UUIDv7 has them: ids that sort by time keep the ledger's indexes compact."""
    return f"req_{time.time_ns() // 1_000_000:012x}{_RANDOM.getrandbits(80):020x}"


FAILED = "jeton failed; the fault is not in your request."
SHUTTING_DOWN = "This router is shutting down; try again."


class Gateway:
    """app: the FastAPI application."""

    def __init__(self, pipeline: Pipeline, app: object, watchdog: Watchdog) -> None:
        self._pipeline = pipeline
        self._app = app
        self._watchdog = watchdog

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        endpoint = ENDPOINTS.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)  # type: ignore[operator]
            return
        call = Conversation(scope, receive, send, self._watchdog, self._pipeline.deployment.server.write_seconds)
        request_id = new_request_id()
        try:
            if scope["method"] != "POST":
                raise WrongMethod(f"Use POST for {scope['path']}.")
            await self._pipeline.run(call, endpoint, request_id)
        except Refusal as refusal:
            await self._refuse(call, endpoint, request_id, refusal)
        except ClientGone:
            log.debug("client left while sending", request_id=request_id)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None:
                current.uncancel()
            if not call.is_gone:  # we are shutting down, and the time for that is over
                await self._refuse(call, endpoint, request_id, Unavailable(SHUTTING_DOWN, retry_after_seconds=1))
        except Exception:
            log.exception("unexpected", request_id=request_id, endpoint=endpoint.value)
            await self._refuse(call, endpoint, request_id, Refusal(FAILED))
        finally:
            call.close()

    async def _refuse(self, call: Conversation, endpoint: Endpoint, request_id: str, refusal: Refusal) -> None:
        self._pipeline.metrics.refused(endpoint, refusal)
        log.info(
            "refused",
            request_id=request_id,
            endpoint=endpoint.value,
            status=refusal.status,
            code=refusal.code,
            tenant=refusal.tenant,
            api_key_name=refusal.api_key_name,
            detail=refusal.detail,
        )
        if call.has_started:
            await call.finish(error_event(refusal, endpoint, refused_cost(call.attempt)))
            return
        body = error_body(refusal, endpoint)
        # Where the body was not read to its end, the connection is of no more use.
        closes = refusal.status in (408, 413, 415)
        headers = [*refusal_headers(refusal, request_id), *refused_labels(call.attempt)]
        await call.answer(refusal.status, headers, body, closes=closes)


def refusal_headers(refusal: Refusal, request_id: str) -> list[Header]:
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
    if refusal.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(refusal.retry_after_seconds)))
    if refusal.status in (409, 429, 504) and not refusal.is_retryable:
        headers.append((b"x-should-retry", b"false"))  # OpenAI's SDKs would try twice more
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 405:
        headers.append((b"allow", b"POST"))
    return headers
