"""A front, and the plainest of them: a cloud that speaks OpenAI's API, wants a bearer key and is strict.

A front takes a request of its provider's and hands on one that vLLM's handlers understand; what they answer, and what goes
wrong, it puts into the provider's words. Faults are made of what it has put into words, so that they break the real thing.
What must not live here: how an answer is made.
"""

import hmac
from collections.abc import Sequence
from typing import Any

import orjson

from load.emulator.cloud import CloudAnswer, check_parameters
from load.emulator.errors import DONE, ENGINE_DEAD_EVENT, ApiError
from load.emulator.http import Answer, Exchange, Headers, HttpRequest
from load.emulator.spec import ReplicaSpec


def stranger(message: str = "Incorrect API key provided.") -> ApiError:
    return ApiError(401, message, "invalid_request_error")


def no_such_path(path: str) -> ApiError:
    return ApiError(404, f"Unknown request URL: {path}.", "invalid_request_error")


def is_key(given: str, key: str | None) -> bool:
    return key is None or hmac.compare_digest(given.encode(), key.encode())


def moved(request: HttpRequest, path: str, body: bytes | None = None) -> HttpRequest:
    """The request at another path, with another body."""
    there = HttpRequest(
        request.method,
        path.encode(),
        request.headers,
        request.body if body is None else body,
        is_keep_alive=request.is_keep_alive,
    )
    there.query = request.query
    return there


def body_of(request: HttpRequest) -> dict[str, Any]:
    """The JSON object in the body. Raises a 400."""
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not JSON: {error}", "invalid_request_error") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body is no JSON object.", "invalid_request_error")
    return body


class Front:
    """OpenAI's. prefix: what stands before the paths in the place of `/v1`. allowed: parameters beside OpenAI's own.

    error_event, done: how a stream ends that the engine has left, and how one ends anyway.
    """

    prefix = "/v1"
    allowed: frozenset[str] = frozenset()
    error_event = ENGINE_DEAD_EVENT
    done = DONE

    def __init__(self, spec: ReplicaSpec) -> None:
        self.spec = spec

    def serves(self, exchange: Exchange) -> bool:
        """Whether the request was for something else of the provider's, and is answered."""
        return False

    def admitted(self, request: HttpRequest) -> HttpRequest:
        """The request as vLLM's handlers know it. Raises ApiError for a stranger, an unknown path, a body that is not right."""
        if not request.path.startswith(f"{self.prefix}/"):
            raise no_such_path(request.path)
        self.check_key(request)
        return moved(request, "/v1" + request.path.removeprefix(self.prefix))

    def check_key(self, request: HttpRequest) -> None:
        key = self.spec.api_key
        if not is_key(request.headers.get("authorization", ""), key and f"Bearer {key}"):
            raise stranger()

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        """The answer to an admitted request, put into the provider's words. Raises ApiError for a parameter that it does not
        know."""
        return CloudAnswer(answer, check_parameters(request.path, request.body, self.allowed))

    def error_body(self, error: ApiError, path: str) -> bytes:
        return error.openai_body()

    def error_headers(self, error: ApiError) -> Headers:
        return ()


def refuse_members(body: dict[str, Any], names: Sequence[str]) -> None:
    """Raises a 400 for the first of these members that the body has."""
    for name in names:
        if body.get(name) is not None:
            raise ApiError(400, f"property '{name}' is unsupported", "invalid_request_error", name)
