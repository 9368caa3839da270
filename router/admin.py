"""What administers a running router, on a port and with keys of its own: never on the data port, never without a key.

Here a replica's departure is announced (a spot instance that will be taken away, a node to be drained) and called off, and a
reload asked for. Of several workers whichever is asked has all of them obey, and answers when they have. What is only read
(`/health`, `/ready`, `/metrics`, `/docs`) stays on the data port, as vLLM has it.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from router import orders
from router.access.keys import ApiKeys
from router.access.limits import WrongKeyThrottle
from router.api import add_refusal_handlers, refusal_response
from router.config.server import AdminConfig, ServerConfig
from router.config.tenants import TenantConfig
from router.errors import BadRequest, Refusal, Unauthenticated, Unavailable, UnknownReplica, UnsupportedBody
from router.orders import Give, Obeyed, Order
from router.server import build_server

log = structlog.get_logger("jeton.admin")

# AWS and Azure give a spot instance's notice two minutes and half a minute before they take it.
NOTICE_SECONDS = 120.0
NOTICE_SECONDS_MAX = 86_400.0
STOP_SECONDS_MAX = 5.0


class Notice(BaseModel, extra="forbid"):
    """seconds: until the replica is taken away. why: for the log and people."""

    seconds: float = Field(default=NOTICE_SECONDS, ge=0, le=NOTICE_SECONDS_MAX)
    why: str = Field(default="announced", min_length=1, max_length=100)


class AdminDoor:
    """An ASGI application that lets nobody by without an admin key. `keys` may be replaced while it runs."""

    def __init__(self, keys: ApiKeys, app: FastAPI) -> None:
        self.keys = keys
        self._app = app
        self._wrong_keys = WrongKeyThrottle()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            self.keys.authenticate(scope["headers"])
        except Unauthenticated as refusal:
            client = scope.get("client")
            await self._refuse(refusal, client[0] if client else "", scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _refuse(self, refusal: Refusal, address: str, scope: Any, receive: Any, send: Any) -> None:
        try:
            self._wrong_keys.failed(address, time.monotonic())
        except Refusal as throttled:
            refusal = throttled
        log.warning("refused", status=refusal.status, path=scope["path"][:200], address=address)
        await refusal_response(refusal)(scope, receive, send)


def admin_keys(config: AdminConfig, pepper: bytes) -> ApiKeys:
    return ApiKeys([TenantConfig(name="admin", api_keys=config.api_keys)], pepper)


def build_admin(give: Give, keys: ApiKeys) -> AdminDoor:
    """give: an order to all that serve."""
    api = FastAPI(title="jeton admin", docs_url=None, redoc_url=None, openapi_url=None)

    @api.get("/replicas")
    async def replicas() -> dict[str, Any]:
        obeyed = await _given(give, orders.REPLICAS)
        answer: dict[str, Any] = {"replicas": orders.merged(list(obeyed.results.values()))}
        return answer | ({"missing_workers": obeyed.missing} if obeyed.missing else {})

    @api.post("/replicas/{replica:path}/leave", status_code=202)
    async def leave(replica: str, notice: Notice | None = None) -> dict[str, Any]:
        notice = notice or Notice()
        workers = _confirmed(await _given(give, orders.leave(replica, notice.seconds, notice.why)), replica)
        return {"replica": replica, "seconds": notice.seconds, "workers": workers}

    @api.post("/replicas/{replica:path}/stay", status_code=202)
    async def stay(replica: str) -> dict[str, Any]:
        return {"replica": replica, "workers": _confirmed(await _given(give, orders.stay(replica)), replica)}

    @api.post("/reload", status_code=202)
    async def reload() -> dict[str, Any]:
        return {"asked": True, "workers": _confirmed(await _given(give, orders.RELOAD))}

    add_refusal_handlers(api)
    api.add_exception_handler(RequestValidationError, _invalid)
    return AdminDoor(keys, api)


async def _given(give: Give, order: Order) -> Obeyed:
    try:
        return await give(order)
    except TimeoutError:
        raise Unavailable("The supervisor of the workers does not answer.", retry_after_seconds=1) from None


def _confirmed(obeyed: Obeyed, replica: str = "") -> int:
    """How many workers have obeyed: all. Raises UnknownReplica where nobody knows it, else Unavailable that names who has not:
    the order may be given again."""
    unaware = [worker for worker, is_known in obeyed.results.items() if not is_known]
    if unaware and len(unaware) == len(obeyed.results):
        raise UnknownReplica(f"There is no replica {replica[:200]!r}; GET /replicas lists them.")
    if unaware or obeyed.missing:
        absent = [f"{worker} does not know it" for worker in unaware] + [
            f"{one} did not answer" for one in obeyed.missing
        ]
        confirmed, workers = len(obeyed.results) - len(unaware), len(obeyed.results) + len(obeyed.missing)
        raise Unavailable(
            f"{confirmed} of {workers} workers have obeyed: {', '.join(absent)}. Ask again.", retry_after_seconds=1
        )
    return len(obeyed.results)


@asynccontextmanager
async def admin_port(app: AdminDoor, config: AdminConfig, listening: socket.socket | None = None) -> AsyncIterator[int]:
    """Listens while the block runs, on that socket where one is given; yields the port. Raises OSError where it cannot."""
    limits = ServerConfig(host=config.host, port=config.port, body_bytes_max=64 * 2**10)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = listening or socket.create_server((config.host, config.port), family=family)
    server = build_server(app, limits, lambda: None)
    server.config.lifespan = "off"
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]  # they are the data port's
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            if serving.done():
                serving.result()
                raise OSError("the admin port could not be opened")
            await asyncio.sleep(0.001)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        _, pending = await asyncio.wait([serving], timeout=STOP_SECONDS_MAX)
        if pending:
            server.force_exit = True
            await serving
        listening.close()


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"] == ("body",) and not request.headers.get("content-type", "").startswith("application/json"):
        return refusal_response(UnsupportedBody("The body must be JSON, with `Content-Type: application/json`."))
    if first["type"] == "json_invalid":
        why = f"{first['ctx']['error']} at character {first['loc'][-1]}"
        return refusal_response(BadRequest(f"The body is not valid JSON: {why}."))
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return refusal_response(BadRequest(f"`{where or 'body'}`: {first['msg']}.", param=where or None))
