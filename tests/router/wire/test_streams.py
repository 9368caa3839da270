"""Streams: what passes untouched, what is taken out, and what counts as a real finish."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.request import Endpoint
from router.domain.usage import Usage, UsageSource
from router.wire.sse import EventSplitter, EventTooLong
from router.wire.streams import DONE, CompletionStream, EventedStream, without_member

USAGE = {"prompt_tokens": 15, "total_tokens": 17, "completion_tokens": 2, "completion_tokens_details": None}


def event(**members: Any) -> bytes:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", **members}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def choice(content: str = "", finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {"content": content}, "logprobs": None, "finish_reason": finish_reason}


def reader(**options: Any) -> CompletionStream:
    return CompletionStream(
        **{
            "endpoint": Endpoint.CHAT,
            "model": "tiny",
            "choices": 1,
            "context_tokens": 4096,
            "wants_usage": False,
            "wants_continuous_usage": False,
            "is_usage_continuous": True,
            "cost_member": lambda usage: b'{"usd":0.5}',
            **options,
        }
    )


def play(stream: CompletionStream | EventedStream, *events: bytes) -> bytes:
    return b"".join(stream.feed(one) for one in events) + stream.end()


def test_usage_that_we_forced_is_taken_out_again_to_the_byte() -> None:
    stream = reader()
    out = play(
        stream,
        event(choices=[choice("a")], usage=USAGE),
        event(
            choices=[choice("b", "stop")], usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 0, "x": {"y": 1}}}
        ),
        event(choices=[], usage=USAGE),
        DONE,
    )
    assert out == event(choices=[choice("a")]) + event(choices=[choice("b", "stop")]) + DONE
    assert stream.usage() == Usage(15, 2)


def test_a_member_before_usage_and_one_after_it_both_stay() -> None:
    assert play(reader(), event(choices=[choice("a")], usage=USAGE, prompt_token_ids=None)) == event(
        choices=[choice("a")], prompt_token_ids=None
    )


def test_text_that_spells_a_usage_member_is_left_alone() -> None:
    text = 'the "usage":{"prompt_tokens":1} and "finish_reason":"stop" and "error":{} of it'
    one = event(choices=[choice(text)])
    stream = reader()
    assert stream.feed(one) == one
    assert not stream.is_finished
    assert not stream.fault
    assert stream.usage() is None


@pytest.mark.parametrize("is_counting", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        {"delta": {"content": "usage"}},
        {
            "delta": {"content": "usage"},
            "logprobs": {"content": [{"token": "usage", "logprob": -0.5, "top_logprobs": []}]},
        },
        {"text": "usage", "logprobs": {"tokens": ["usage"], "top_logprobs": [{"usage": -0.5, " use": -2.0}]}},
    ],
)
def test_a_token_that_is_the_word_usage_is_no_usage(said: dict[str, Any], is_counting: bool) -> None:
    one = event(choices=[{"index": 0, "finish_reason": None, **said}])
    stream = reader(keeps_text=not is_counting)
    came = event(choices=[{"index": 0, "finish_reason": None, **said}], usage=USAGE) if is_counting else one
    assert stream.feed(came) == one
    assert stream.usage() == (Usage(15, 2, source=UsageSource.RECOVERED) if is_counting else None)
    told = stream.said()
    assert told is None if is_counting else told is not None and told.texts == ("usage",)


def test_a_client_that_asked_for_usage_gets_it_as_vllm_sends_it_with_the_cost_inside() -> None:
    stream = reader(wants_usage=True)
    out = play(stream, event(choices=[choice("a", "stop")], usage=USAGE), event(choices=[], usage=USAGE), DONE)
    last = event(choices=[], usage=USAGE, jeton_cost={"usd": 0.5})
    assert out == event(choices=[choice("a", "stop")]) + last + DONE


def test_a_client_that_asked_for_running_counts_gets_every_one() -> None:
    stream = reader(wants_usage=True, wants_continuous_usage=True)
    one = event(choices=[choice("a")], usage=USAGE)
    assert stream.feed(one) == one


def test_the_fingerprint_moves_to_the_last_chunk_that_the_client_sees() -> None:
    out = play(
        reader(),
        event(choices=[choice("a", "stop")], usage=USAGE),
        event(choices=[], usage=USAGE, system_fingerprint="vllm-1"),
        DONE,
    )
    assert out == event(choices=[choice("a", "stop")], system_fingerprint="vllm-1") + DONE


def test_a03_usage_on_a_last_chunk_with_choices_is_read_and_a_later_one_wins() -> None:
    stream = reader(wants_usage=True, is_usage_continuous=False)
    first = event(
        choices=[choice("a", "stop")], usage={"prompt_tokens": 15, "completion_tokens": 1, "total_tokens": 16}
    )
    out = play(stream, first, event(choices=[], usage=USAGE), DONE)
    assert out.startswith(first)
    assert stream.usage() == Usage(15, 2)


def test_the_model_is_named_as_the_fleet_names_it() -> None:
    stream = reader(model="qwen3-8b")
    assert json.loads(stream.feed(event(choices=[choice('"model":"tiny"')]))[6:])["model"] == "qwen3-8b"
    again = json.loads(stream.feed(event(choices=[choice('"model":"tiny"')]))[6:])
    assert again["choices"][0]["delta"]["content"] == '"model":"tiny"'


def test_done_without_a_finish_reason_is_no_success() -> None:
    stream = reader()
    assert play(stream, event(choices=[choice("a")]), DONE) == event(choices=[choice("a")])
    assert stream.is_done
    assert not stream.is_finished


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "repetition"])
def test_a_real_finish_reason_is_a_finish(reason: str) -> None:
    stream = reader()
    stream.feed(event(choices=[choice("a", reason)]))
    assert stream.is_finished


def test_an_engine_that_gave_up_is_no_finish() -> None:
    stream = reader()
    stream.feed(event(choices=[choice("", "abort")]))
    assert stream.fault == "aborted"
    assert not stream.is_finished


def test_every_choice_must_finish() -> None:
    stream = reader(choices=2)
    stream.feed(event(choices=[choice("a", "stop")]))
    assert not stream.is_finished
    stream.feed(event(choices=[choice("b", "length", index=1)]))
    assert stream.is_finished


def test_an_error_event_is_a_failure_and_stays_here() -> None:
    stream = reader()
    assert stream.feed(b'data: {"error": {"message": "EngineCore at 0x7f3a", "code": 500}}\n\n') == b""
    assert stream.fault == "error_event"


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down.", "error": None}, "limited"),
        ({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}, "limited"),
        ({"type": "response.failed", "response": {"error": {"code": "server_error"}}}, "error_event"),
        ({"type": "response.failed", "response": None}, "error_event"),
        ({"type": "error", "error": "no object"}, "error_event"),
    ],
)
def test_an_error_as_a_named_event_tells_a_limit_from_a_failure_and_is_nothing_of_an_answer(
    payload: dict[str, Any], fault: str
) -> None:
    stream = EventedStream(endpoint=Endpoint.RESPONSES, model="m", context_tokens=4096)
    assert stream.feed(b"data: " + json.dumps(payload).encode() + b"\n\n") == b""
    assert (stream.fault, stream.events) == (fault, 0)


@pytest.mark.parametrize("bad", [b"data: {not json\n\n", b"data: <html>\n\n", b"data: [1]\n\n", b'data: {"a":1\n\n'])
def test_f10_an_event_that_is_no_object_is_unusable(bad: bytes) -> None:
    stream = reader()
    assert stream.feed(bad) == b""
    assert stream.fault == "bad_event"


def test_f10_legal_variants_of_framing_pass() -> None:
    whole = event(choices=[choice("é")])
    payload = whole[6:-2]
    for raw in (b"data:" + payload + b"\n\n", b"data: " + payload + b"\r\n\r\n"):
        stream, splitter = reader(), EventSplitter()
        assert b"".join(stream.feed(one) for one in splitter.feed(raw)) == whole
    comment = b": ping\n\n"
    assert reader().feed(comment) == comment


def test_a_stream_that_was_cut_knows_the_running_count() -> None:
    stream = reader()
    stream.feed(event(choices=[choice("a")], usage=USAGE))
    assert stream.usage() == Usage(15, 2, source=UsageSource.RECOVERED)


def running(index: int, prompt_tokens: int, completion_tokens: int) -> bytes:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return event(choices=[choice("a", index=index)], usage=usage)


def test_f18_running_counts_of_several_choices_are_added_and_a_prompt_is_counted_once() -> None:
    stream = reader(choices=4, prompts=2)  # two prompts with two choices each
    for one in (running(0, 10, 1), running(1, 10, 5), running(0, 10, 2), running(3, 7, 4)):
        stream.feed(one)
    assert stream.usage() == Usage(17, 11, source=UsageSource.RECOVERED)
    stream.feed(event(choices=[], usage={"prompt_tokens": 17, "completion_tokens": 20}))
    assert stream.usage() == Usage(17, 20, source=UsageSource.RECOVERED)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 1, "completion_tokens": 10**9},
        {"prompt_tokens": "1", "completion_tokens": 2},
        {"tokens": 3},
        [],
        None,
    ],
)
def test_f13_usage_that_cannot_be_true_is_none(usage: object) -> None:
    stream = reader()
    stream.feed(event(choices=[choice("a", "stop")]))
    stream.feed(event(choices=[], usage=usage))
    assert stream.usage() is None


def test_a_responses_stream_finishes_with_its_completed_event() -> None:
    stream = EventedStream(endpoint=Endpoint.RESPONSES, model="m", context_tokens=4096)
    created = b'event: response.created\ndata: {"response":{"model":"tiny","usage":null},"type":"response.created"}\n\n'
    usage = {"input_tokens": 13, "output_tokens": 4, "total_tokens": 17, "input_tokens_details": {"cached_tokens": 5}}
    done = {"response": {"model": "tiny", "usage": usage}, "type": "response.completed"}
    completed = b"event: response.completed\ndata: " + json.dumps(done, separators=(",", ":")).encode() + b"\n\n"
    assert stream.feed(created) == created.replace(b"tiny", b"m")
    assert not stream.is_finished
    assert stream.feed(completed) == completed.replace(b"tiny", b"m")
    assert stream.is_finished
    assert stream.usage() == Usage(13, 4, cached_tokens=5)


def test_a08_a_messages_stream_counts_cached_tokens_beside_the_input_as_anthropic_does() -> None:
    stream = EventedStream(endpoint=Endpoint.MESSAGES, model="m", context_tokens=4096)
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 10, "output_tokens": 1,
             "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}}}  # fmt: skip
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
    for one in (start, delta, {"type": "message_stop"}):
        stream.feed(b"event: " + str(one["type"]).encode() + b"\ndata: " + json.dumps(one).encode() + b"\n\n")
    assert stream.is_finished
    assert stream.is_done
    assert stream.usage() == Usage(130, 7, cached_tokens=100, cache_write_tokens=20)


@pytest.mark.parametrize("usage", [{"input_tokens": 13, "output_tokens": 4}, None])
def test_a_response_that_failed_is_charged_by_the_usage_that_it_tells(usage: dict[str, int] | None) -> None:
    stream = EventedStream(endpoint=Endpoint.RESPONSES, model="m", context_tokens=4096)
    failed = {
        "type": "response.failed",
        "response": {"error": {"code": "server_error", "message": "no"}, "usage": usage},
    }
    stream.feed(b"event: response.failed\ndata: " + json.dumps(failed).encode() + b"\n\n")
    assert stream.fault
    assert not stream.is_finished
    assert stream.usage() == (None if usage is None else Usage(13, 4))


def test_a08_a_messages_stream_that_was_cut_knows_its_prompt_and_what_of_it_was_cached() -> None:
    stream = EventedStream(endpoint=Endpoint.MESSAGES, model="m", context_tokens=4096)
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 10, "output_tokens": 1,
             "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}}}  # fmt: skip
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}
    assert stream.usage() is None
    for one in (start, piece, piece):
        stream.feed(b"event: " + str(one["type"]).encode() + b"\ndata: " + json.dumps(one).encode() + b"\n\n")
    assert not stream.is_finished
    assert stream.usage() == Usage(
        130, stream.events, cached_tokens=100, cache_write_tokens=20, source=UsageSource.ESTIMATED
    )


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), min_size=1), st.data())
def test_events_come_out_whole_however_the_bytes_are_cut(texts: list[str], data: st.DataObject) -> None:
    events = [b"data: " + text.encode() + b"\n\n" for text in texts]
    raw, splitter, out = b"".join(events), EventSplitter(), []
    while raw:
        cut = data.draw(st.integers(1, len(raw)))
        out += splitter.feed(raw[:cut])
        raw = raw[cut:]
    assert out == events
    assert splitter.is_empty


@given(st.data())
def test_crlf_events_come_out_whole_however_the_bytes_are_cut(data: st.DataObject) -> None:
    raw, splitter, out = b"data: a\r\n\r\ndata: b\r\ndata: c\r\n\r\n: x\r\n\r\n", EventSplitter(), []
    while raw:
        cut = data.draw(st.integers(1, len(raw)))
        out += splitter.feed(raw[:cut])
        raw = raw[cut:]
    assert out == [b"data: a\n\n", b"data: b\ndata: c\n\n", b": x\n\n"]


def test_f10_an_event_without_end_is_refused_before_it_swamps_us() -> None:
    splitter = EventSplitter(event_bytes_max=1000)
    splitter.feed(b"x" * 1000)
    with pytest.raises(EventTooLong):
        splitter.feed(b"x")


MEMBERS = st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 9), max_size=3)


@given(MEMBERS, MEMBERS, st.none() | st.dictionaries(st.sampled_from("xyz"), st.none() | MEMBERS), st.booleans())
def test_a_member_is_taken_out_wherever_it_stands(
    before: dict[str, object], after: dict[str, object], usage: object, is_compact: bool
) -> None:
    after = {name.upper(): value for name, value in after.items()}
    separators = (",", ":") if is_compact else (", ", ": ")
    text = json.dumps({**before, "usage": usage, **after}, separators=separators).encode()
    assert json.loads(without_member(text, text.find(b'"usage"'))) == {**before, **after}
