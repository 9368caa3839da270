"""Refusals as bodies and stream events, in the shape that the endpoint's SDK understands; and a backend's error, read.

An SSE `data: {"error": …}` raises `APIError` in openai-python and openai-node, with message and code kept. A clean end
without `[DONE]` would count as success, so a stream that cannot go on always ends with this event.
"""

from typing import Any

import orjson

from router.domain.request import Endpoint
from router.errors import Refusal

MESSAGE_CHARACTERS_MAX = 2000

# Anthropic's error types by status; the rest is api_error.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


# What the code or the type of an error says that came under a status of 200, where it is about how much is asked and not about
# what: as numbers at OpenRouter, in words at Anthropic and OpenAI, as exceptions in Bedrock's streams.
_TOLD_FAULTS = {
    "429": "limited",
    "rate_limit_error": "limited",
    "rate_limit_exceeded": "limited",
    "throttlingException": "limited",
    "503": "overloaded",
    "529": "overloaded",
    "overloaded_error": "overloaded",
    "serviceUnavailableException": "overloaded",
}


def error_body(refusal: Refusal, endpoint: Endpoint | None = None) -> bytes:
    return orjson.dumps(_error_object(refusal, endpoint))


def error_event(refusal: Refusal, endpoint: Endpoint, cost: bytes | None = None) -> bytes:
    """The last event of a stream that cannot go on. cost: JSON for its `jeton_cost`, which SDKs keep with the rest of an error's
    members; None where it is not told."""
    if endpoint is Endpoint.MESSAGES:
        return b"event: error\ndata: " + error_body(refusal, endpoint) + b"\n\n"
    if endpoint is Endpoint.RESPONSES:
        event = {"type": "error", "code": refusal.code, "message": refusal.message, "param": refusal.param}
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"
    told = _error_object(refusal, endpoint)
    if cost is not None:
        told["error"]["jeton_cost"] = orjson.Fragment(cost)
    return b"data: " + orjson.dumps(told) + b"\n\n"


def _error_object(refusal: Refusal, endpoint: Endpoint | None) -> dict[str, Any]:
    if endpoint is Endpoint.MESSAGES:
        kind = _ANTHROPIC_TYPES.get(refusal.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": refusal.message}}
    return {"error": {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}}


def read_error(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, param and code of a backend's 4xx. vLLM alone has four shapes: an object, a string, `detail`, Anthropic's."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "The backend refused the request without saying why.", None, None
    error: Any = answer.get("error", answer.get("detail")) if type(answer) is dict else None
    if type(error) is str:
        return error[:MESSAGE_CHARACTERS_MAX], None, None
    if type(error) is dict and type(error.get("message")) is str:
        param, code = error.get("param"), error.get("code")
        return (
            error["message"][:MESSAGE_CHARACTERS_MAX],
            param if type(param) is str else None,
            code if type(code) is str else None,
        )
    return "The backend refused the request without saying why.", None, None


def told_fault(error: Any, otherwise: str) -> str:
    """The fault of an attempt that was answered with this error under a status of 200: limited, overloaded, or `otherwise`."""
    if type(error) is not dict:
        return otherwise
    fault = _TOLD_FAULTS.get(str(error.get("code"))) or _TOLD_FAULTS.get(str(error.get("type")))
    return fault or otherwise


def told_wait_seconds(error: Any) -> float | None:
    """What OpenRouter says that the provider behind it asked for: `metadata.retry_after_seconds`."""
    metadata = error.get("metadata") if type(error) is dict else None
    wait = metadata.get("retry_after_seconds") if type(metadata) is dict else None
    return float(wait) if isinstance(wait, int | float) and type(wait) is not bool and wait >= 0 else None
