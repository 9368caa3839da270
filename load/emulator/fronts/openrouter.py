"""OpenRouter: comments while it looks for a provider, what it billed beside the usage, errors with a number for their code.

Sources: https://openrouter.ai/docs/use-cases/usage-accounting, https://openrouter.ai/docs/api-reference/errors.
"""

from decimal import Decimal
from typing import Any

import orjson

from load.emulator.cloud import CloudAnswer, check_parameters
from load.emulator.errors import ApiError
from load.emulator.fronts.front import Front, body_of, refuse_members
from load.emulator.http import EVENT_STREAM, Answer, Headers, HttpRequest
from load.emulator.retelling import Retelling

# Dollars a token, as a listed model might have them: odd enough that no price book agrees by accident.
PROMPT_USD = Decimal("0.00000013")
COMPLETION_USD = Decimal("0.00000041")
PROCESSING = b": OPENROUTER PROCESSING\n\n"


def cost_usd(prompt_tokens: int, completion_tokens: int) -> Decimal:
    return prompt_tokens * PROMPT_USD + completion_tokens * COMPLETION_USD


class Openrouter(Front):
    prefix = "/api/v1"
    allowed = frozenset({"usage", "provider", "models", "transforms", "reasoning", "plugins", "route"})

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        body = body_of(request) if request.body else {}
        refuse_members(body, ("n",))
        asked = check_parameters(request.path, request.body, self.allowed)
        accounts = bool((body.get("usage") or {}).get("include"))
        return CloudAnswer(
            _RouterAnswer(answer, accounts=accounts), asked._replace(has_usage=asked.has_usage or accounts)
        )

    def error_body(self, error: ApiError, path: str) -> bytes:
        metadata: dict[str, Any] = {}
        if error.status == 429:
            metadata = {"metadata": {"provider_name": "Emulated", "retry_after_seconds": 17}}
        messages = {402: "Insufficient credits", 429: "Provider returned error"}
        message = messages.get(error.status, error.message)
        return orjson.dumps({"error": {"code": error.status, "message": message, **metadata}, "user_id": "user_1"})

    def error_headers(self, error: ApiError) -> Headers:
        return ()


class _RouterAnswer(Retelling):
    """Between OpenAI's shape and the socket."""

    def __init__(self, answer: Answer, *, accounts: bool) -> None:
        super().__init__(answer)
        self._accounts = accounts

    def retold(self, value: dict[str, Any]) -> dict[str, Any]:
        return {**self._accounted(value), "provider": "Emulated"}

    def start_stream(self, content_type: str = EVENT_STREAM, headers: Headers = ()) -> None:
        self._answer.start_stream(content_type, headers)
        self._answer.send(PROCESSING)

    def send(self, event: bytes) -> None:
        if not event.startswith(b"data: {"):
            self._answer.send(event)
            return
        chunk = self.retold(orjson.loads(event[6:]))
        if chunk.get("choices") == []:
            silent = {"role": "assistant", "content": ""}
            chunk["choices"] = [{"index": 0, "delta": silent, "finish_reason": None, "native_finish_reason": None}]
        if chunk.get("usage") is None:
            chunk.pop("usage", None)
        self._answer.send(b"data: %b\n\n" % orjson.dumps(chunk))

    def _accounted(self, value: dict[str, Any]) -> dict[str, Any]:
        usage = value.get("usage")
        if not self._accounts or not isinstance(usage, dict):
            return value
        cost = cost_usd(usage["prompt_tokens"], usage["completion_tokens"])
        details = {"upstream_inference_cost": None}
        return {**value, "usage": {**usage, "cost": float(cost), "cost_details": details, "is_byok": False}}
