"""Anybody who speaks OpenAI's API under OpenAI's paths, with a bearer key; and what the others of that kind build on.

| asked for | |
|---|---|
| chat, completions, responses, embeddings, transcriptions, translations | as they come |
| tools, JSON schema, vision, audio, log-probabilities, `n`, `seed`, penalties and all other members | as they come |
| messages, rerank, score, tokenize | not |
"""

from typing import ClassVar

from router.dispatch.provider import Order, Provider
from router.domain.fleet import EngineKind
from router.domain.request import ASSUMED, Capability
from router.wire.outgoing import PATHS, outgoing_body


class Openai(Provider, frozen=True):
    """prefix: what stands in the place of `/v1`."""

    capabilities: ClassVar[frozenset[Capability]] = ASSUMED | {
        Capability.CHAT,
        Capability.COMPLETIONS,
        Capability.RESPONSES,
        Capability.EMBEDDINGS,
        Capability.TRANSCRIPTIONS,
        Capability.TRANSLATIONS,
        Capability.TOOLS,
        Capability.JSON_SCHEMA,
        Capability.VISION,
        Capability.AUDIO,
        Capability.LOGPROBS,
    }
    prefix: ClassVar[str] = "/v1"

    def path(self, order: Order) -> str:
        return self.prefix + PATHS[order.endpoint].removeprefix("/v1")

    def body(self, order: Order) -> bytes:
        return outgoing_body(
            order.members,
            endpoint=order.endpoint,
            engine=EngineKind.OPENAI,
            served_model=order.backend.served_model,
            is_streaming=order.is_streaming,
            salt="",
        )
