"""Anthropic's Messages. URL: https://api.anthropic.com

`/v1/messages` passes as it comes. A chat of OpenAI's is translated:

| asked for | |
|---|---|
| system messages | `system`, all of them, wherever they stood |
| text, images (base64 or by address), tools, calls, results, `tool_choice`, `parallel_tool_calls: false` | translated |
| `max_tokens`, `max_completion_tokens` | `max_tokens`, else the backend's `completion_tokens_max` |
| `temperature`, `top_p` up to 1; `stop` | the same, `stop_sequences`; since version 2026-10-21 only `stop` |
| `response_format` with a JSON schema | `output_config.format` |
| `reasoning_effort` low to max | `output_config.effort`; models without it refuse |
| `user` | `metadata.user_id` |
| `temperature` above 1, `reasoning_effort: none` or `minimal`, audio, files, names | another backend, or a 400 that says so |
| log-probabilities, `n` > 1, `seed`, `logit_bias`, penalties, JSON without a schema, other members | not: another backend |
| completions, responses, embeddings, audio, rerank, score, tokenize | not |

Input read from the cache and written to it stands beside `input_tokens` and is priced apart (`cached_usd_per_million`,
`cache_write_usd_per_million`, and `cache_write_hour_usd_per_million` for what is written to be kept an hour).
"""

import time
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator

from router.dispatch.failure import AttemptFailed, no_credit
from router.dispatch.provider import Header, Order, Provider
from router.dispatch.translation import TranslatedAnswer, TranslatedStream
from router.dispatch.upstream import Exchange, Headers
from router.domain.fleet import EngineKind, Replica
from router.domain.request import Capability, Endpoint
from router.wire.anthropic import MessagesTranslator, chat_answer, messages_body, refuse_sampling
from router.wire.error_body import read_error
from router.wire.outgoing import outgoing_body

# The first version of the API in which no model takes `temperature` or `top_p`.
WITHOUT_SAMPLING = "2026-10-21"
# Said with status 400 and the type of a bad request, as if it were the client's fault.
EMPTY_ACCOUNT = "credit balance is too low"


class Anthropic(Provider, frozen=True):
    """version: the header `anthropic-version`, where a client of Messages does not send its own. The older of the two still lets
    clients choose a temperature where the model has one; the newer refuses that of every model."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.CHAT,
            Capability.MESSAGES,
            Capability.TOOLS,
            Capability.JSON_SCHEMA,
            Capability.VISION,
            Capability.IMAGE_URLS,
            Capability.SINGLE_TOOL_CALL,
            Capability.REASONING_EFFORT,
            Capability.USER,
        }
    )
    needs_completion_tokens_max: ClassVar[bool] = True

    version: str = Field(default="2023-06-01", pattern=r"^\d{4}-\d{2}-\d{2}$")

    @field_validator("version", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        """YAML reads 2026-10-21 as a date."""
        return value.isoformat() if isinstance(value, date) else value

    def path(self, order: Order) -> str:
        return "/v1/messages"

    def headers(self, order: Order, forwarded: Sequence[Header]) -> list[Header]:
        is_native = order.endpoint is Endpoint.MESSAGES
        if is_native and any(name == b"anthropic-version" for name, _ in forwarded):
            return list(forwarded)
        others = [header for header in forwarded if header[0] != b"anthropic-version"]
        return [*others, (b"anthropic-version", self.version.encode())]

    def body(self, order: Order) -> bytes:
        backend = order.backend
        if order.endpoint is Endpoint.MESSAGES:
            return outgoing_body(
                order.members,
                endpoint=order.endpoint,
                engine=EngineKind.OPENAI,
                served_model=backend.served_model,
                is_streaming=order.is_streaming,
                salt="",
            )
        if self.version >= WITHOUT_SAMPLING:
            refuse_sampling(order.members)
        return messages_body(
            order.members,
            served_model=backend.served_model,
            completion_tokens_max=backend.completion_tokens_max,
            is_streaming=order.is_streaming,
        )

    def credentials(self, replica: Replica) -> list[Header]:
        return [(b"x-api-key", (replica.api_key or "").encode())]

    def failure(self, status: int, headers: Headers, body: bytes) -> AttemptFailed:
        if status == 400 and EMPTY_ACCOUNT in read_error(body)[0]:
            return no_credit(status)
        return super().failure(status, headers, body)

    def received(self, exchange: Exchange, order: Order) -> Exchange:
        if order.endpoint is Endpoint.MESSAGES:
            return exchange
        model, created = order.backend.model, int(time.time())
        if order.is_streaming:
            return TranslatedStream(exchange, MessagesTranslator(model=model, created=created))
        return TranslatedAnswer(exchange, partial(chat_answer, model=model, created=created))
