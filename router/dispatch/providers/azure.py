"""Azure OpenAI, also as Azure AI Foundry. URL: https://<resource>.openai.azure.com

`served_model` is the name of the deployment. `api_version: v1` (the default) is the surface without versions; a date such as
2024-10-21 the older one, whose paths name the deployment.

Whoever has no API key shows a token of Entra: `auth: entra`, and the token in `api_key_file`, kept fresh by whatever fetches
tokens on that machine (a sidecar, `az account get-access-token` in a timer). jeton takes a new one as soon as it is there. It
brings no client of Entra: azure-identity alone would be heavier than jeton, and no command is run from configuration.

| asked for | |
|---|---|
| chat, completions, responses, embeddings, transcriptions, translations; all members that OpenAI has | as they come |
| messages, rerank, score, tokenize | not |

A prompt or answer that its filter stops is a 400 `content_filter`, or a finish reason of that name, as at OpenAI. What the
filter found in the prompt comes in a first chunk without choices, over which clients of OpenAI stumble: it is moved to the
first chunk that has one.
"""

from datetime import date
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import orjson
from pydantic import Field, field_validator

from router.dispatch.provider import Header, Order
from router.dispatch.providers.openai import Openai
from router.dispatch.translation import EventEditor, TranslatedStream
from router.dispatch.upstream import Exchange
from router.domain.fleet import Replica
from router.domain.request import Endpoint
from router.wire.outgoing import PATHS


class Azure(Openai, frozen=True):
    """api_version: `v1`, `preview`, or the older surface's date, such as 2024-10-21. auth: `entra` shows a token of Entra in the
    place of an API key."""

    prefix: ClassVar[str] = "/openai/v1"

    api_version: str = Field(default="v1", pattern=r"^(v1|preview|\d{4}-\d{2}-\d{2}(-preview)?)$")
    auth: Literal["api_key", "entra"] = "api_key"

    @field_validator("api_version", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        """YAML reads 2024-10-21 as a date."""
        return value.isoformat() if isinstance(value, date) else value

    def path(self, order: Order) -> str:
        if self.api_version == "v1":
            return super().path(order)
        if self.api_version == "preview":
            return f"{super().path(order)}?api-version=preview"
        operation = PATHS[order.endpoint].removeprefix("/v1")
        place = (
            "" if order.endpoint is Endpoint.RESPONSES else f"/deployments/{quote(order.backend.served_model, safe='')}"
        )
        return f"/openai{place}{operation}?api-version={self.api_version}"

    def credentials(self, replica: Replica) -> list[Header]:
        if self.auth == "entra":
            return super().credentials(replica)
        return [(b"api-key", (replica.api_key or "").encode())]

    def received(self, exchange: Exchange, order: Order) -> Exchange:
        return TranslatedStream(exchange, EventEditor(_Filters().moved)) if order.is_streaming else exchange


class _Filters:
    """What the filter found in the prompt, on its way from a chunk without choices to one that has some."""

    def __init__(self) -> None:
        self._results: object = None

    def moved(self, event: bytes) -> bytes:
        if b'"prompt_filter_results"' in event and event.startswith(b"data: {"):
            chunk = orjson.loads(event[6:])
            if chunk.get("choices") == [] and not chunk.get("usage"):
                self._results = chunk["prompt_filter_results"]
                return b""
        if self._results is None or not event.startswith(b"data: {"):
            return event
        chunk = {**orjson.loads(event[6:]), "prompt_filter_results": self._results}
        self._results = None
        return b"data: " + orjson.dumps(chunk) + b"\n\n"
