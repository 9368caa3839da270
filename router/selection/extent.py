"""How large a request can turn out to be at a backend: bounds, where everything else in this room is an expectation.

Tokens are not counted here but bounded. No tokenizer makes more than one token of a byte, and the body holds every byte of
text with more around it than a chat template adds, tools and schemas included; a prompt also fits the context window, or is
refused. (A bound by what a prompt is expected to have, four bytes a token, would be passed by rare scripts and by long digits.)
"""

from typing import NamedTuple

from router.domain.fleet import Backend
from router.domain.request import AUDIO, AUDIO_TOKENS_PER_SECOND, InferenceRequest
from router.selection.eligibility import WINDOWED

# What a template may add to a short conversation: a system prompt of its own, a date.
TEMPLATE_TOKENS = 64
GENERATING = AUDIO | WINDOWED
# AMR-NB's lowest mode, 4.75 kbit/s: nothing that is called speech has fewer.
AUDIO_BYTES_PER_SECOND_MIN = 594


class Extent(NamedTuple):
    """prompt_tokens, completion_tokens: of all prompts and choices together."""

    prompt_tokens: int
    completion_tokens: int
    audio_seconds: float


def extent(request: InferenceRequest, backend: Backend) -> Extent:
    endpoint = request.endpoint
    completion_tokens = 0
    if endpoint in GENERATING:
        cap_tokens = backend.completion_tokens_max or backend.context_tokens
        asked_tokens = request.completion_tokens_max
        completion_tokens = request.choices * (cap_tokens if asked_tokens is None else min(asked_tokens, cap_tokens))
    if endpoint in AUDIO:
        audio_seconds = request.body_bytes / AUDIO_BYTES_PER_SECOND_MIN
        return Extent(int(audio_seconds * AUDIO_TOKENS_PER_SECOND) + 1, completion_tokens, audio_seconds)
    if endpoint not in WINDOWED:
        return Extent(request.body_bytes + TEMPLATE_TOKENS, completion_tokens, 0.0)
    window_tokens = backend.context_tokens * request.prompts
    # A link to an image is shorter than the image, the name of an earlier answer than that, and a search brings more.
    if request.prompt.is_partly_elsewhere or request.hosted_tools is not None:
        return Extent(window_tokens, completion_tokens, 0.0)
    return Extent(min(request.body_bytes + TEMPLATE_TOKENS, window_tokens), completion_tokens, 0.0)
