"""Anthropic's Messages API: a key of its own header or as a bearer's, a version, a bound for every completion, errors by type.

The answers are the emulated vLLM's, which speaks Messages; the counts in a stream's first event are complete here.
Sources: https://platform.claude.com/docs/en/api/messages, …/errors, …/versioning.
"""

import secrets

import orjson

from load.emulator.errors import ApiError
from load.emulator.fronts.front import Front, body_of, is_key, moved, no_such_path, stranger
from load.emulator.http import Answer, Headers, HttpRequest

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Since 2026-10-21 without temperature, top_p and top_k, whatever the model.
_VERSIONS = ("2023-06-01", "2026-10-21")
_PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/v1/models")
_MEMBERS = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "system",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "tools",
        "tool_choice",
        "metadata",
        "thinking",
        "output_config",
        "service_tier",
        "cache_control",
        "container",
        "context_management",
        "mcp_servers",
        "inference_geo",
        "speed",
    }
)
# What vLLM's own Messages do not know.
_UNHEARD = ("top_k", "metadata", "thinking", "output_config", "service_tier")


class Anthropic(Front):
    error_event = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},'
        b'"request_id":"req_emulated"}\n\n'
    )
    done = b""

    def admitted(self, request: HttpRequest) -> HttpRequest:
        if request.path not in _PATHS:
            raise no_such_path(request.path)
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not is_key(given, self.spec.api_key):
            raise stranger("invalid x-api-key")
        version = request.headers.get("anthropic-version")
        if version not in _VERSIONS:
            raise _bad(
                "anthropic-version: header is required" if version is None else "anthropic-version: not a version"
            )
        if request.path != "/v1/messages" or request.method != "POST":
            return request
        body = body_of(request)
        for name in body:
            if name not in _MEMBERS:
                raise _bad(f"{name}: Extra inputs are not permitted")
        if not isinstance(body.get("max_tokens"), int):
            raise _bad("max_tokens: Field required")
        for name in ("temperature", "top_p", "top_k"):
            if version != "2023-06-01" and name in body:
                raise _bad(f"{name}: removed in API version {version}")
        if (body.get("temperature") or 0) > 1:
            raise _bad("temperature: range: 0..1")
        _check_turns(body.get("messages"))
        schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
        heard = {name: value for name, value in body.items() if name not in _UNHEARD}
        if schema is not None:
            heard["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return moved(request, request.path, orjson.dumps(heard))

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        return answer

    def error_body(self, error: ApiError, path: str) -> bytes:
        message = "Overloaded" if error.status == 529 else error.message
        kind = _TYPES.get(error.status, "api_error")
        told = {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": f"req_{secrets.token_hex(12)}",
        }
        return orjson.dumps(told)

    def error_headers(self, error: ApiError) -> Headers:
        return (("retry-after", "11"),) if error.status == 429 else ()


def _bad(message: str) -> ApiError:
    return ApiError(400, message, "invalid_request_error")


def _check_turns(messages: object) -> None:
    """What the Messages API refuses and vLLM bears: roles of OpenAI's, blocks without text, results without their calls."""
    calls: set[str] = set()
    for position, message in enumerate(messages if isinstance(messages, list) else []):
        if message.get("role") not in ("user", "assistant"):
            raise _bad(f'messages: Unexpected role "{message.get("role")}"')
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        for block in blocks:
            kind = block.get("type")
            if kind == "text" and not block.get("text"):
                raise _bad("messages: text content blocks must be non-empty")
            if kind == "tool_result" and block.get("tool_use_id") not in calls:
                raise _bad(f"messages.{position}: `tool_result` without its `tool_use` in the message before")
            if kind not in ("text", "image", "tool_use", "tool_result", "thinking"):
                raise _bad(f"messages.{position}.content: Input tag '{kind}' found using 'type' does not match")
        calls = {block.get("id") for block in blocks if block.get("type") == "tool_use"}
