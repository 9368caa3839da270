"""How sure an answer is, and what of the test the client sees."""

from typing import Any

import orjson
import pytest

from router.domain.decision import Acceptance
from router.domain.request import Endpoint
from router.wire.acceptance import Probe, asking_logprobs

TEST = Acceptance(-0.5, 3)


def chat(*logprobs: float, text: str = "hello", index: int = 0) -> dict[str, Any]:
    tokens = [{"token": "a", "logprob": value, "bytes": [97], "top_logprobs": []} for value in logprobs]
    return {"index": index, "message": {"content": text}, "logprobs": {"content": tokens}, "finish_reason": "stop"}


def body(*choices: dict[str, Any]) -> bytes:
    return orjson.dumps({"choices": list(choices)})


@pytest.mark.parametrize(
    ("choices", "is_accepted"),
    [
        ([chat(-0.4, -0.6)], True),
        ([chat(-0.4, -0.7)], False),
        ([chat(-0.1), chat(-2.0)], False),  # of all choices together
        ([chat()], False),  # nothing is known
        ([{"index": 0, "text": "x", "logprobs": {"token_logprobs": [None, -0.2]}}], True),  # text completions
        ([{"index": 0, "message": {"content": "x"}, "logprobs": None}], False),
    ],
)
def test_an_answer_passes_by_its_mean_log_probability(choices: list[dict[str, Any]], is_accepted: bool) -> None:
    assert Probe(TEST, {}).accepts(body(*choices))[0] is is_accepted


def test_what_the_client_did_not_ask_for_is_taken_out_again() -> None:
    _, text = Probe(TEST, {}).accepts(body(chat(-0.1)))
    assert orjson.loads(text)["choices"][0]["logprobs"] is None
    asked = body(chat(-0.1))
    assert Probe(TEST, {"logprobs": True}).accepts(asked)[1] is asked


@pytest.mark.parametrize(
    ("text", "is_accepted"), [('{"a": 1}', True), ('{"a": ', False), ("", False), ("hello", False)]
)
def test_where_json_was_asked_for_it_must_be_json(text: str, is_accepted: bool) -> None:
    assert Probe(Acceptance(-0.5, 3, must_parse=True), {}).accepts(body(chat(-0.1, text=text)))[0] is is_accepted


def test_a_stream_is_tested_event_by_event_until_there_is_enough() -> None:
    probe = Probe(TEST, {})
    event = b"data: " + body({"index": 0, "delta": {"content": "a"}, "logprobs": chat(-0.2)["logprobs"]}) + b"\n\n"
    for tokens in (1, 2, 3):
        assert not probe.has_enough
        passed = orjson.loads(probe.event(event)[6:])
        assert passed["choices"][0]["logprobs"] is None
        assert passed["choices"][0]["delta"] == {"content": "a"}
        assert probe.tokens == tokens
    assert probe.has_enough
    assert probe.is_sure


@pytest.mark.parametrize(
    "event",
    [b"data: [DONE]\n\n", b": ping\n\n", b'data: {"choices":[{"logprobs":null}]}\n\n', b'data: {"logprobs"\n\n'],
)
def test_an_event_without_log_probabilities_passes_untouched(event: bytes) -> None:
    assert Probe(TEST, {}).event(event) == event


def test_they_are_asked_for_as_each_api_has_them_and_not_twice() -> None:
    members = {"model": "m"}
    assert asking_logprobs(Endpoint.CHAT, members) == {"model": "m", "logprobs": True}
    assert asking_logprobs(Endpoint.COMPLETIONS, members) == {"model": "m", "logprobs": 1}
    assert members == {"model": "m"}
    asked = {"logprobs": 5}
    assert asking_logprobs(Endpoint.COMPLETIONS, asked) is asked
