"""DeepInfra. URL: https://api.deepinfra.com

| asked for | |
|---|---|
| chat, completions, embeddings, transcriptions, translations; tools, JSON schema, vision, `n`, `seed`, penalties | as they come |
| log-probabilities of a chat, `logit_bias` | not |
| responses, messages, score, tokenize | not |
"""

from typing import ClassVar

from router.dispatch.providers.openai import Openai
from router.domain.request import Capability


class Deepinfra(Openai, frozen=True):
    capabilities: ClassVar[frozenset[Capability]] = Openai.capabilities - {
        Capability.RESPONSES,
        Capability.LOGPROBS,
        Capability.LOGIT_BIAS,
    }
    prefix: ClassVar[str] = "/v1/openai"
