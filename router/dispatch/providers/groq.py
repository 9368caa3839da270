"""Groq. URL: https://api.groq.com

| asked for | |
|---|---|
| chat, responses, transcriptions, translations; tools, JSON schema, vision, `seed`, `reasoning_effort` | as they come |
| `n` > 1, log-probabilities, `logit_bias` | not: a 400 there |
| penalties | not: no model of theirs has them |
| completions, embeddings, messages, score, tokenize | not |

413 with the code `rate_limit_exceeded` is a prompt beyond our tokens per minute, which says nothing of the prompt: another
backend is asked. 498 is a flexible tier that is full.
"""

from typing import ClassVar

from router.dispatch.failure import AttemptFailed, overloaded, refused
from router.dispatch.providers.openai import Openai
from router.dispatch.upstream import Headers
from router.domain.request import Capability
from router.wire.error_body import read_error


class Groq(Openai, frozen=True):
    bills_to_the_end: ClassVar[bool] = True
    capabilities: ClassVar[frozenset[Capability]] = Openai.capabilities - {
        Capability.COMPLETIONS,
        Capability.EMBEDDINGS,
        Capability.AUDIO,
        Capability.N,
        Capability.LOGPROBS,
        Capability.LOGIT_BIAS,
        Capability.PENALTIES,
    }
    prefix: ClassVar[str] = "/openai/v1"

    def failure(self, status: int, headers: Headers, body: bytes) -> AttemptFailed:
        if status == 498:
            return overloaded(status, None)
        message, param, code = read_error(body)
        if status == 413 and code == "rate_limit_exceeded":
            return refused(status, message, param, code, is_retryable=True)
        return super().failure(status, headers, body)
