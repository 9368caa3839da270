"""What vLLM 0.32 says when it refuses: status, type and shape, as recorded.

ApiError
├── bad_request          400  BadRequestError       a value the server checked itself
├── invalid_body         400  Bad Request           a body that pydantic refused
├── unknown_model        404  NotFoundError
├── overloaded           503  Service Unavailable   the queue is full (--max-num-queued-reqs)
├── engine_dead          500  InternalServerError   the engine has died under the API server
└── after_shutdown       500  InternalServerError   the API server drains after SIGTERM (--shutdown-timeout)
"""

from collections.abc import Sequence

import orjson

DONE = b"data: [DONE]\n\n"
ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
# vLLM writes this one event with json.dumps, blanks and all; recorded.
ENGINE_DEAD_EVENT = (
    b'data: {"error": {"message": "%b", "type": "InternalServerError", "param": null, "code": 500}}\n\n'
    % ENGINE_DEAD.encode()
)


class ApiError(Exception):
    """An answer that is an error. `param` names the body's member, where vLLM does."""

    def __init__(self, status: int, message: str, type: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param

    def body(self) -> bytes:
        """The shape of every OpenAI path."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.status}
        return orjson.dumps({"error": error})

    def anthropic_body(self) -> bytes:
        """The shape of /v1/messages."""
        return orjson.dumps({"type": "error", "error": {"type": self.type, "message": self.message}})

    def openai_body(self) -> bytes:
        """The shape of a cloud that is not vLLM: OpenAI's own types, and codes that are words."""
        kinds = {
            401: ("invalid_request_error", "invalid_api_key"),
            404: ("invalid_request_error", "model_not_found"),
            429: ("requests", "rate_limit_exceeded"),
        }
        default = ("server_error", None) if self.status >= 500 else ("invalid_request_error", None)
        kind, code = kinds.get(self.status, default)
        return orjson.dumps({"error": {"message": self.message, "type": kind, "param": self.param, "code": code}})


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """A 400 of vLLM's own checks. With a value the message ends in vLLM's "(parameter=…, value=…)"."""
    if param is not None and value is not None:
        message = f"{message} (parameter={param}, value={value})"
    return ApiError(400, message, "BadRequestError", param)


def bad_parameter(message: str, param: str) -> ApiError:
    """A 400 whose message names the parameter but not its value."""
    return ApiError(400, f"{message} (parameter={param})", "BadRequestError", param)


def invalid_body(problems: Sequence[str], param: str | None) -> ApiError:
    """A 400 of FastAPI's validation; vLLM shows the first ten problems."""
    count = len(problems)
    lines = [f"{count} validation error{'s' if count != 1 else ''}:", *problems[:10]]
    if count > 10:
        lines.append(f"...and {count - 10} more errors")
    return ApiError(400, "\n  ".join(lines), "Bad Request", param)


def unknown_model(model: str, aliases: Sequence[str]) -> ApiError:
    return ApiError(
        404, f"The model `{model}` does not exist. Valid aliases: {', '.join(aliases)}.", "NotFoundError", "model"
    )


def overloaded() -> ApiError:
    return ApiError(
        503,
        "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.",
        "Service Unavailable",
    )


def engine_dead() -> ApiError:
    return ApiError(500, ENGINE_DEAD, "InternalServerError")


def after_shutdown() -> ApiError:
    return ApiError(500, "cannot schedule new futures after shutdown", "InternalServerError")
