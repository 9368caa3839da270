"""What is taken to have been made of a whole answer that broke off."""

import orjson
import pytest

from router.domain.request import Endpoint
from router.wire.answers import read_answer

WROTE = b'{"choices": [{"message": {"role": "assistant", "content": "' + b"twelve chars" * 10
RERANKED = b'{"results": [{"index": 0, "document": {"text": "' + b"twelve chars" * 10


@pytest.mark.parametrize(
    ("endpoint", "body", "completion_tokens"),
    [(Endpoint.CHAT, WROTE, 31), (Endpoint.RERANK, RERANKED, 0), (Endpoint.CHAT, b"<html>", 0)],
)
def test_only_what_a_model_wrote_counts(endpoint: Endpoint, body: bytes, completion_tokens: int) -> None:
    answer = read_answer(endpoint, body, model="m", context_tokens=8192, choices=1)
    assert (answer.fault, answer.usage, answer.completion_tokens_estimate) == ("not_json", None, completion_tokens)


@pytest.mark.parametrize("text", [b"Hello there.", b"2024", b"true", b'"Quoted."'])
def test_what_was_heard_may_be_plain_text_whatever_it_reads_like(text: bytes) -> None:
    answer = read_answer(Endpoint.TRANSCRIPTIONS, text, model="m", context_tokens=100, choices=1)
    assert (answer.body, answer.fault, answer.usage) == (text, "", None)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(8.47, 8.47), (3, 3.0), ("8.47", 8.47), ("long", None), ("nan", None), (-1, None), (True, None)],
)
def test_how_long_a_sound_was_may_stand_beside_its_text(duration: object, seconds: float | None) -> None:
    body = orjson.dumps({"text": "Hello", "duration": duration})
    answer = read_answer(Endpoint.TRANSCRIPTIONS, body, model="m", context_tokens=100, choices=1)
    assert (answer.usage, answer.audio_seconds) == (None, seconds)
