"""Those who speak OpenAI's API under paths of their own: Together, Fireworks, DeepInfra, Groq.

Sources: https://docs.together.ai/reference/chat-completions-1, https://docs.fireworks.ai/api-reference/introduction,
https://deepinfra.com/docs/openai_api, https://console.groq.com/docs/openai.
"""

from typing import Any

from load.emulator.errors import ApiError
from load.emulator.fronts.front import Front, body_of, refuse_members
from load.emulator.http import Answer, Headers, HttpRequest


class Together(Front):
    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        logprobs = body_of(request).get("logprobs") if request.body else None
        if isinstance(logprobs, bool):
            raise ApiError(400, "Expected integer, received boolean", "invalid_request_error", "logprobs")
        return super().answer(request, answer)


class Fireworks(Front):
    prefix = "/inference/v1"


class Deepinfra(Front):
    prefix = "/v1/openai"


class Groq(Front):
    """Refuses what it has not, and says of its limits when they begin anew rather than how long to wait."""

    prefix = "/openai/v1"

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        if request.path == "/v1/chat/completions":
            body: dict[str, Any] = body_of(request)
            refuse_members(body, ("logprobs", "top_logprobs", "logit_bias"))
            if body.get("n") not in (None, 1):
                raise ApiError(400, "'n' : number must be at most 1", "invalid_request_error", "n")
        return super().answer(request, answer)

    def error_headers(self, error: ApiError) -> Headers:
        if error.status != 429:
            return ()
        return (
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "7.66s"),
            ("x-ratelimit-remaining-tokens", "17997"),
            ("x-ratelimit-reset-tokens", "2m59.56s"),
        )
