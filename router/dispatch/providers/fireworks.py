"""Fireworks AI. URL: https://api.fireworks.ai

| asked for | |
|---|---|
| chat, completions, responses, embeddings; tools, JSON schema, vision, log-probabilities, `n` and the rest | as they come |
| audio (it has a host of its own), messages, score, tokenize | not |
"""

from typing import ClassVar

from router.dispatch.providers.openai import Openai
from router.domain.request import Capability


class Fireworks(Openai, frozen=True):
    capabilities: ClassVar[frozenset[Capability]] = Openai.capabilities - {
        Capability.TRANSCRIPTIONS,
        Capability.TRANSLATIONS,
    }
    prefix: ClassVar[str] = "/inference/v1"
