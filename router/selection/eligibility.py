"""What a backend must be able to do for a request, whoever ranks it afterwards, and the words for what it is not.

What may not live here: health and load, which change by the minute.
"""

from enum import IntEnum

from router.domain.fleet import Backend, EngineKind
from router.domain.request import Capability, Endpoint, InferenceRequest

# Tokens are estimated from characters, and only the backend counts them: by script and by runs of blanks the estimate is off
# by up to this factor.
TOKENS_ESTIMATE_ERROR = 2
# Where prompt and completion share one context window. Elsewhere it bounds each input or piece of audio, not their sum.
WINDOWED = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES})


class Fit(IntEnum):
    """Whether a request fits a context window, as far as an estimate can tell."""

    NO = 0
    DOUBTFUL = 1
    YES = 2


def fit(backend: Backend, request: InferenceRequest) -> Fit:
    """NO only when it surely does not fit, or asks outright for more than there is.

    vLLM cuts `max_tokens` silently to what the prompt leaves and refuses only one that is itself above the window; others
    refuse a prompt and a completion that are too long together. Of a completion that is longer than the backend makes some
    providers make less, and others refuse it.
    """
    context_tokens = backend.context_tokens
    completion_tokens = request.completion_tokens_max or 0
    if request.endpoint not in WINDOWED:
        return Fit.YES
    if completion_tokens > context_tokens:
        return Fit.NO
    prompt_tokens = prompt_tokens_estimate(request)
    room_tokens = context_tokens - (1 if backend.engine is EngineKind.VLLM else max(completion_tokens, 1))
    if prompt_tokens <= room_tokens:
        return Fit.DOUBTFUL if _asks_beyond(backend, request) else Fit.YES
    return Fit.DOUBTFUL if prompt_tokens <= room_tokens * TOKENS_ESTIMATE_ERROR else Fit.NO


def prompt_tokens_estimate(request: InferenceRequest) -> int:
    """Of one prompt. Completions take several at once, each with `choices` of its own; their mean is at most the longest."""
    tokens = request.prompt.tokens_estimate
    return tokens // request.choices if request.endpoint is Endpoint.COMPLETIONS else tokens


def why_too_long(backend: Backend, request: InferenceRequest) -> str:
    """For people, of a backend that the request does not or may not fit."""
    if _asks_beyond(backend, request):
        asked = f"{request.completion_tokens_max:,}"
        return f"completions of at most {backend.completion_tokens_max:,} tokens; up to {asked} asked for"
    completion = f", completion of up to {tokens:,} asked for" if (tokens := request.completion_tokens_max) else ""
    return (
        f"context of {backend.context_tokens:,} tokens; prompt of about {prompt_tokens_estimate(request):,}{completion}"
    )


def _asks_beyond(backend: Backend, request: InferenceRequest) -> bool:
    return 0 < backend.completion_tokens_max < (request.completion_tokens_max or 0)


def why_unable(backend: Backend, needs: frozenset[Capability]) -> str:
    """For people, of a backend that lacks some of the capabilities."""
    return f"cannot do {listed(needs - backend.capabilities)}"


def listed(capabilities: frozenset[Capability]) -> str:
    """Capabilities for people, in a fixed order."""
    return ", ".join(sorted(capabilities))
