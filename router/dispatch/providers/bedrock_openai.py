"""Amazon Bedrock where it speaks OpenAI's API. URL: https://bedrock-runtime.<region>.amazonaws.com

With an API key of Bedrock's; signatures are for Converse (`bedrock`).

| asked for | |
|---|---|
| chat; tools, JSON schema, vision, `seed`, penalties and the rest | as they come |
| `n` > 1, log-probabilities, `logit_bias` | not |
| completions, responses, messages, embeddings, audio, rerank, score, tokenize | not |
"""

from typing import ClassVar

from router.dispatch.providers.openai import Openai
from router.domain.request import Capability


class BedrockOpenai(Openai, frozen=True):
    bills_to_the_end: ClassVar[bool] = True
    capabilities: ClassVar[frozenset[Capability]] = Openai.capabilities - {
        Capability.COMPLETIONS,
        Capability.RESPONSES,
        Capability.EMBEDDINGS,
        Capability.TRANSCRIPTIONS,
        Capability.TRANSLATIONS,
        Capability.AUDIO,
        Capability.N,
        Capability.LOGPROBS,
        Capability.LOGIT_BIAS,
    }
    prefix: ClassVar[str] = "/openai/v1"
