"""Google Vertex AI: tokens for assertions that a service account has signed, OpenAI's API under a project and a location, errors
in a list, thought counted beside the completion.

Sources: https://developers.google.com/identity/protocols/oauth2/service-account#httprest,
https://cloud.google.com/vertex-ai/generative-ai/docs/start/openai, https://google.aip.dev/193.
"""

import json
import re
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson

from load.emulator.cloud import CloudAnswer, check_parameters
from load.emulator.errors import ApiError
from load.emulator.fronts.front import Front, moved, no_such_path
from load.emulator.http import Answer, Exchange, Headers, HttpRequest
from load.emulator.retelling import Retelling
from load.emulator.spec import ReplicaSpec

TOKEN_PATH = "/token"
# For which google-auth signs, wherever it sends the assertion.
AUDIENCE = "https://oauth2.googleapis.com/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PATH = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/endpoints/openapi(/chat/completions)")
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Vertex(Front):
    """Of the spec: service_account is the file of the one account that may have tokens. tokens: those that hold, with their ends
    (monotonic)."""

    def __init__(self, spec: ReplicaSpec) -> None:
        super().__init__(spec)
        self.tokens: dict[str, float] = {}
        self.tokens_issued = 0

    def serves(self, exchange: Exchange) -> bool:
        """The token endpoint, which is Google's and not the model's."""
        request = exchange.request
        if request.path != TOKEN_PATH:
            return False
        try:
            token = self._token_for(request)
        except ValueError as error:
            exchange.respond(400, orjson.dumps({"error": "invalid_grant", "error_description": str(error)}))
        else:
            body = {"access_token": token, "expires_in": self.spec.token_seconds, "token_type": "Bearer"}
            exchange.respond(200, orjson.dumps(body))
        return True

    def admitted(self, request: HttpRequest) -> HttpRequest:
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise no_such_path(request.path)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.spec.service_account is not None and self.tokens.get(token, 0.0) <= time.monotonic():
            raise ApiError(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED")
        return moved(request, f"/v1{found[1]}")

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        return CloudAnswer(_BesideAnswer(answer), check_parameters(request.path, request.body))

    def error_body(self, error: ApiError, path: str) -> bytes:
        told: dict[str, Any] = {
            "code": error.status,
            "message": error.message,
            "status": _STATUSES.get(error.status, "UNKNOWN"),
        }
        if error.status == 429:
            told["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13s"}]
        return orjson.dumps([{"error": told}])

    def error_headers(self, error: ApiError) -> Headers:
        return ()

    def _token_for(self, request: HttpRequest) -> str:
        """Raises ValueError for an assertion that this account has not signed."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
        from google.auth import jwt

        form = parse_qs(request.body.decode("ascii", "replace"))
        if self.spec.service_account is None or form.get("grant_type") != [GRANT] or "assertion" not in form:
            raise ValueError("not an assertion of a service account")
        account = json.loads(Path(self.spec.service_account).read_text())
        public = load_pem_private_key(account["private_key"].encode(), None).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        claims = jwt.decode(form["assertion"][0], certs=pem, audience=[account["token_uri"], AUDIENCE])
        if claims.get("iss") != account["client_email"] or "cloud-platform" not in str(claims.get("scope")):
            raise ValueError("another account, or another scope")
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self.tokens[token] = time.monotonic() + self.spec.token_seconds
        self.tokens_issued += 1
        return token


class _BesideAnswer(Retelling):
    """Between OpenAI's shape and the socket: thought is taken out of the completion's tokens."""

    def retold(self, value: dict[str, Any]) -> dict[str, Any]:
        return _beside(value)

    def send(self, event: bytes) -> None:
        if event.startswith(b"data: {"):
            event = b"data: %b\n\n" % orjson.dumps(_beside(orjson.loads(event[6:])))
        self._answer.send(event)


def _beside(value: dict[str, Any]) -> dict[str, Any]:
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return value
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    return {**value, "usage": {**usage, "completion_tokens": usage["completion_tokens"] - thought}}
