"""Everything that is not inference, as a FastAPI application: models, health, metrics, explain, the OpenAPI page."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from router.conversation import Header
from router.deployment import Deployment
from router.domain.fleet import Backend
from router.domain.money import usd_text
from router.domain.request import Endpoint
from router.errors import BadRequest, Refusal, UnknownModel, UnknownPath, WrongMethod
from router.gateway import FAILED, new_request_id, refusal_headers
from router.pipeline import Pipeline
from router.pricing.price import LeasedPrice
from router.pricing.standard import standard_prices
from router.selection.explain import explain
from router.wire.error_body import error_body
from router.wire.json_body import parse_object
from router.wire.outgoing import PATHS

# What a client may have meant, the longest first.
MEANT_PATHS = sorted((*PATHS.values(), "/v1/models"), key=len, reverse=True)
# What a body without `endpoint` in the query is taken for, by the member that it has.
ENDPOINT_BY_MEMBER = (
    ("messages", Endpoint.CHAT),
    ("documents", Endpoint.RERANK),
    ("text_1", Endpoint.SCORE),
    ("prompt", Endpoint.COMPLETIONS),
    ("input", Endpoint.RESPONSES),
)


def build_api(
    pipeline: Pipeline,
    *,
    is_ready: Callable[[], str],
    warnings: Callable[[], list[str]],
    render_metrics: Callable[[], Awaitable[tuple[bytes, str]]],
) -> FastAPI:
    """is_ready: "" when requests can be served, else why not. warnings: what is doubtful meanwhile. render_metrics: exposition
    text and its content type."""
    api = FastAPI(title="jeton", description=__doc__ or "", docs_url="/docs", redoc_url=None)

    @api.get("/health", summary="Is the process alive")
    async def health() -> Response:
        return Response(status_code=200)

    @api.get("/ready", summary="Can requests be served")
    async def ready() -> JSONResponse:
        why = is_ready()
        about = {"ready": not why, "why": why, "warnings": warnings()}
        return JSONResponse(about, status_code=503 if why else 200)

    @api.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        text, content_type = await render_metrics()
        return Response(text, headers={"content-type": content_type})

    @api.get("/v1/models", summary="Aliases and backends that the API key may use")
    async def models(request: Request) -> dict[str, Any]:
        deployment, allowed = _authenticated(pipeline, request)
        return {"object": "list", "data": [entry for entry in model_entries(deployment) if _may(entry, allowed)]}

    @api.get("/v1/models/{model:path}", summary="One of them")
    async def model(model: str, request: Request) -> dict[str, Any]:
        deployment, allowed = _authenticated(pipeline, request)
        for entry in model_entries(deployment):
            if entry["id"] == model and _may(entry, allowed):
                return entry
        deployment.scopes.resolve(model, allowed)
        raise UnknownModel(f"The model {model!r} does not exist.", param="model")

    @api.post("/jeton/explain", summary="The decision for any inference body, without dispatching it")
    async def explained(request: Request, endpoint: Endpoint | None = None) -> Response:
        members = parse_object(await _bounded_body(request, pipeline.deployment.server.body_bytes_max))
        found = endpoint or _endpoint_of(members)
        inference_request, decision, policy = pipeline.explain(
            _headers(request), _address(request), found, members, new_request_id()
        )
        answer = explain(inference_request, decision, pipeline.deployment.finder.lessons, policy)
        return Response(orjson.dumps(answer), media_type="application/json")

    add_refusal_handlers(api)
    return api


def add_refusal_handlers(api: FastAPI) -> None:
    """From now on its errors have OpenAI's shape."""
    api.add_exception_handler(Refusal, _refused)
    api.add_exception_handler(HTTPException, _http_refused)
    api.add_exception_handler(Exception, _failed)


def refusal_response(error: Refusal) -> Response:
    response = Response(error_body(error), status_code=error.status)
    response.raw_headers += refusal_headers(error, new_request_id())
    return response


def model_entries(deployment: Deployment) -> list[dict[str, Any]]:
    """As OpenAI lists models, with an extra member `jeton`: kind, and of a backend's model tier, context and price."""
    entries: list[dict[str, Any]] = []
    for name in deployment.aliases:
        backends = deployment.scopes.resolve(name).backends
        about = {"kind": "alias", "backends": [backend.name for backend in backends]}
        entries.append(_entry(name, "jeton", max(backend.context_tokens for backend in backends), about))
    for backend in deployment.backends:
        entries.append(_entry(backend.name, backend.pool.name, backend.context_tokens, _about(backend, deployment)))
    by_model: dict[str, list[Backend]] = {}
    for backend in deployment.backends:
        by_model.setdefault(backend.model, []).append(backend)
    known = {entry["id"] for entry in entries}
    for name, serving in by_model.items():
        if name not in known:
            about = {"kind": "model", "backends": [backend.name for backend in serving]}
            entries.append(_entry(name, "jeton", max(backend.context_tokens for backend in serving), about))
    return entries


def _entry(name: str, owner: str, context_tokens: int, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": owner,
        "max_model_len": context_tokens,
        "jeton": about,
    }


def _about(backend: Backend, deployment: Deployment) -> dict[str, Any]:
    return {
        "kind": "backend",
        "model": backend.model,
        "pool": backend.pool.name,
        "tier": backend.tier,
        "quantization": backend.quantization,
        "context_tokens": backend.context_tokens,
        "capabilities": sorted(backend.capabilities),
        "billing": backend.pool.billing.value,
        "price": _price(backend, deployment),
    }


def _price(backend: Backend, deployment: Deployment) -> dict[str, Any]:
    """US dollars as decimal text: an hour of a replica where leased, and a million tokens by class (`standard` where leased).
    Empty where no price is in force."""
    price = deployment.prices.get(backend.name)
    if price is None:
        return {}
    about: dict[str, Any] = {"price_id": price.price_id}
    if isinstance(price, LeasedPrice):
        about["usd_per_hour"] = usd_text(price.nanousd_per_hour)
        if backend.name not in deployment.profiles:
            return about
    rates = standard_prices(price, deployment.profiles.get(backend.name))
    return about | {"usd_per_million": {name: f"{usd:f}" for name, usd in rates.items()}}


def _may(entry: dict[str, Any], allowed: tuple[str, ...]) -> bool:
    return not allowed or entry["id"] in allowed


def _endpoint_of(members: dict[str, Any]) -> Endpoint:
    for member, endpoint in ENDPOINT_BY_MEMBER:
        if member in members:
            return endpoint
    names = ", ".join(endpoint.value for endpoint in Endpoint)
    raise BadRequest(
        f"The body is of no endpoint that can be told; name it in the query: `?endpoint=` and one of {names}."
    )


def _authenticated(pipeline: Pipeline, request: Request) -> tuple[Deployment, tuple[str, ...]]:
    deployment = pipeline.deployment
    identity = pipeline.authenticate(_headers(request), _address(request), deployment)
    return deployment, identity.models


async def _bounded_body(request: Request, bytes_max: int) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise BadRequest(f"The body is larger than {bytes_max} bytes.")
    return body


def _headers(request: Request) -> list[Header]:
    return list(request.scope["headers"])


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal_response(error)


async def _failed(request: Request, error: Exception) -> Response:
    """What nobody expected; it goes on into the log."""
    return refusal_response(Refusal(FAILED))


async def _http_refused(request: Request, error: Exception) -> Response:
    """FastAPI's own 404 and 405 in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 405:
        return await _refused(request, WrongMethod(f"{request.method[:20]} is not allowed for {path}."))
    meant = _meant_path(path)
    hint = f"; did you mean {meant}?" if meant is not None else "."
    return await _refused(request, UnknownPath(f"There is nothing at {path}{hint}"))


def _meant_path(path: str) -> str | None:
    """The path that was meant where there is a slip in the client's base URL: a `/v1` too many or too few, a slash too many."""
    slashed = "/" + "/".join(filter(None, path.split("/")))
    found = next((known for known in MEANT_PATHS if slashed.endswith(known.removeprefix("/v1"))), None)
    return found if found != path else None  # on the admin port there is none of them
