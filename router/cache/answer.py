"""An answer as it is kept: what the client got, without what was true of that one request alone."""

from typing import Any

import orjson

from router.domain.immutable import immutable

# What a kept answer takes beside its body: its name and the objects around it, in a dictionary (measured: 570 bytes).
ENTRY_BYTES = 640


class AnswerUnreadable(ValueError):
    """The bytes are no answer of ours."""


@immutable
class StoredAnswer:
    """is_stream: it went out piece by piece, and does so again. model, tier, backend: what made it. Tokens: what its maker
    counted; reasoning is part of the completion."""

    is_stream: bool
    content_type: str
    body: bytes
    model: str
    tier: str
    backend: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    is_estimated: bool

    @property
    def bytes(self) -> int:
        return ENTRY_BYTES + len(self.body)


def answer_to_bytes(answer: StoredAnswer) -> bytes:
    """One line of JSON, then the body."""
    about = (
        answer.is_stream,
        answer.content_type,
        answer.model,
        answer.tier,
        answer.backend,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.reasoning_tokens,
        answer.is_estimated,
    )
    return orjson.dumps(about) + b"\n" + answer.body


def answer_from_bytes(data: bytes) -> StoredAnswer:
    """Raises AnswerUnreadable."""
    head, line_break, body = data.partition(b"\n")
    try:
        about: list[Any] = orjson.loads(head)
        is_stream, content_type, *rest = about
        answer = StoredAnswer(is_stream, content_type, body, *rest)
    except (ValueError, TypeError) as error:
        raise AnswerUnreadable(f"not an answer ({type(error).__name__})") from None
    texts = (answer.content_type, answer.model, answer.tier, answer.backend)
    counts = (answer.prompt_tokens, answer.completion_tokens, answer.reasoning_tokens)
    flags = (answer.is_stream, answer.is_estimated)
    if not (
        line_break
        and all(type(text) is str for text in texts)
        and all(type(count) is int for count in counts)
        and all(type(flag) is bool for flag in flags)
    ):
        raise AnswerUnreadable("not an answer")
    return answer
