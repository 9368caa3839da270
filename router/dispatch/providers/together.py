"""Together AI. URL: https://api.together.xyz

| asked for | |
|---|---|
| chat, completions, embeddings, transcriptions, translations; tools, JSON schema, vision, `n`, `seed`, penalties | as they come |
| log-probabilities | not: theirs is a number and comes back in a shape of its own |
| responses, messages, score, tokenize | not |
"""

from typing import ClassVar

from router.dispatch.providers.openai import Openai
from router.domain.request import Capability


class Together(Openai, frozen=True):
    capabilities: ClassVar[frozenset[Capability]] = Openai.capabilities - {Capability.RESPONSES, Capability.LOGPROBS}
