"""Azure OpenAI: deployments in the path with a dated version, or the surface without; an API key of its own header, or Entra's
token; what its filter found, in a first chunk that has no choices.

Sources: https://learn.microsoft.com/azure/ai-services/openai/reference,
https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter.
"""

import re
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from load.emulator.errors import ApiError
from load.emulator.fronts.front import Front, body_of, is_key, moved, no_such_path, stranger
from load.emulator.http import EVENT_STREAM, Answer, Headers, HttpRequest
from load.emulator.retelling import Retelling

_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)(/.+)")
_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
PROMPT_FILTER_RESULTS = [{"prompt_index": 0, "content_filter_results": _SAFE}]


class Azure(Front):
    """entra_token: of the spec; with one, a bearer token is asked for in the place of the key."""

    prefix = "/openai/v1"

    def admitted(self, request: HttpRequest) -> HttpRequest:
        found = _DEPLOYMENT.fullmatch(request.path)
        version = parse_qs(request.query).get("api-version", [""])[0]
        if found is None:
            if version not in ("", "preview"):
                raise ApiError(400, "API version not supported", "invalid_request_error")
            return super().admitted(request)
        self.check_key(request)
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", version):
            raise no_such_path(request.path)
        deployment = unquote(found[1])
        if deployment not in self.spec.served_names:
            raise ApiError(404, "The API deployment for this resource does not exist.", "DeploymentNotFound")
        body = orjson.dumps({**body_of(request), "model": deployment})
        return moved(request, f"/v1{found[2]}", body)

    def check_key(self, request: HttpRequest) -> None:
        if self.spec.entra_token is not None:
            if not is_key(request.headers.get("authorization", ""), f"Bearer {self.spec.entra_token}"):
                raise stranger(
                    "Unauthorized. Access token is missing, invalid, audience is incorrect, or have expired."
                )
        elif not is_key(request.headers.get("api-key", ""), self.spec.api_key):
            raise stranger("Access denied due to invalid subscription key or wrong API endpoint.")

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        return super().answer(request, _FilteredAnswer(answer))

    def error_body(self, error: ApiError, path: str) -> bytes:
        if error.status == 401:
            return orjson.dumps({"error": {"code": "401", "message": error.message}})
        if error.type == "DeploymentNotFound":
            return orjson.dumps({"error": {"code": error.type, "message": error.message}})
        if error.type == "content_filter":
            found = {**_SAFE, "violence": {"filtered": True, "severity": "medium"}}
            inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": found}
            members = {
                "message": error.message,
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
            }
            return orjson.dumps({"error": {**members, "innererror": inner}})
        if error.status == 429:
            return orjson.dumps({"error": {"code": "429", "message": "Requests have exceeded the token rate limit."}})
        return super().error_body(error, path)

    def error_headers(self, error: ApiError) -> Headers:
        return (("retry-after-ms", "2500"), ("retry-after", "3")) if error.status == 429 else ()


class _FilteredAnswer(Retelling):
    """Between OpenAI's shape and the socket."""

    def retold(self, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("object") != "chat.completion":
            return value
        choices = [{**choice, "content_filter_results": _SAFE} for choice in value["choices"]]
        return {**value, "choices": choices, "prompt_filter_results": PROMPT_FILTER_RESULTS}

    def start_stream(self, content_type: str = EVENT_STREAM, headers: Headers = ()) -> None:
        self._answer.start_stream(content_type, headers)
        first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        self._answer.send(b"data: %b\n\n" % orjson.dumps({**first, "prompt_filter_results": PROMPT_FILTER_RESULTS}))
