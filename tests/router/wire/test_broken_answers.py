"""What is taken to have been made of a whole answer that broke off."""

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
