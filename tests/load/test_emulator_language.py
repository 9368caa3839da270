"""The emulated model's words: a tokenizer that can be undone, and answers that are decided by their prompt."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.emulator import language
from load.emulator.reply import Channel, ReplyOptions, Style, Tool, plan_reply

PROMPT = language.chat_prompt([("user", "hello world")])
WEATHER = Tool(
    "get_weather",
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
)


@given(st.text())
def test_any_text_survives_its_tokens(text: str) -> None:
    ids = language.encode(text)
    assert language.decode(ids) == text
    assert "".join(language.decode_each(ids)) == text
    assert all(0 <= token < language.VOCABULARY_TOKENS for token in ids)


def test_prose_is_made_of_whole_words_and_grows_at_its_end_only() -> None:
    long = language.prose(Random(1), 200)
    assert len(long) == 200
    assert language.prose(Random(1), 50) == long[:50]
    assert language.encode(language.decode(long)) == long


def test_a_prefix_has_the_same_block_names_and_a_salt_changes_them_all() -> None:
    ids = list(range(400))
    hashes = language.block_hashes(ids, 128)
    assert len(hashes) == 3
    assert language.block_hashes([*ids[:256], *range(900, 1100)], 128)[:2] == hashes[:2]
    assert not set(language.block_hashes(ids, 128, salt="tenant")) & set(hashes)


def test_the_same_prompt_gets_the_same_answer_and_another_seed_another() -> None:
    options = ReplyOptions(500)
    first = plan_reply(PROMPT, options, Style())
    assert plan_reply(list(PROMPT), options, Style()) == first
    assert plan_reply(PROMPT, options, Style(seed=1)).token_ids != first.token_ids
    assert plan_reply(PROMPT, ReplyOptions(500, variation=1), Style()).token_ids != first.token_ids
    assert first.finish_reason == "stop"
    assert first.token_ids[-1] == language.IM_END


def test_lengths_are_spread_around_the_median() -> None:
    lengths = sorted(len(plan_reply([*PROMPT, number], ReplyOptions(5000), Style()).token_ids) for number in range(301))
    assert 130 < lengths[150] < 195
    assert lengths[-1] > 2 * lengths[150]
    assert lengths[0] < lengths[150] / 2


def test_a_bound_cuts_the_answer_and_ignoring_the_end_fills_it() -> None:
    cut = plan_reply(PROMPT, ReplyOptions(8), Style())
    assert (len(cut.token_ids), cut.finish_reason) == (8, "length")
    full = plan_reply(PROMPT, ReplyOptions(900, ignores_eos=True), Style())
    assert (len(full.token_ids), full.finish_reason) == (900, "length")


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_begun_answer_goes_on_where_it_was_cut(cut: int) -> None:
    whole = plan_reply(PROMPT, ReplyOptions(60, ignores_eos=True), Style())
    rest = plan_reply([*PROMPT, *whole.token_ids[:cut]], ReplyOptions(60 - cut, ignores_eos=True), Style())
    assert [*whole.token_ids[:cut], *rest.token_ids] == list(whole.token_ids)


def test_a_begin_that_the_model_would_not_have_said_is_answered_all_the_same() -> None:
    foreign = [*PROMPT, *language.encode("Zounds!")]
    assert plan_reply(foreign, ReplyOptions(20), Style()).text(Channel.CONTENT)


def test_a_stop_string_ends_the_answer_and_the_stream_lags_behind_it() -> None:
    whole = plan_reply(PROMPT, ReplyOptions(100), Style()).text(Channel.CONTENT)
    stop = whole[40:52]
    reply = plan_reply(PROMPT, ReplyOptions(100, stop=(stop,)), Style())
    assert (reply.finish_reason, reply.stop_reason) == ("stop", stop)
    assert reply.text(Channel.CONTENT) == whole[: whole.index(stop)]
    assert len(reply.deltas) == len(reply.token_ids)
    shown = "".join(delta.text for delta in reply.deltas[:5])
    assert len(shown) == len(language.decode(reply.token_ids[:5])) - (len(stop) - 1)
    included = plan_reply(PROMPT, ReplyOptions(100, stop=(stop,), has_stop_in_output=True), Style())
    assert included.text(Channel.CONTENT) == whole[: whole.index(stop) + len(stop)]


def test_a_stop_string_that_never_comes_holds_nothing_back_at_the_end() -> None:
    whole = plan_reply(PROMPT, ReplyOptions(30), Style())
    held = plan_reply(PROMPT, ReplyOptions(30, stop=("never to be said",)), Style())
    assert held.text(Channel.CONTENT) == whole.text(Channel.CONTENT)


def test_a_tool_is_called_when_it_is_spoken_of_or_asked_for() -> None:
    def calls(**members: object) -> list[tuple[str, str]]:
        options = ReplyOptions(200, tools=(WEATHER,), **members)  # type: ignore[arg-type]
        return plan_reply(PROMPT, options, Style()).tool_calls

    assert calls(tool_choice="auto", user_text='the weather in "Rome" for 3 days') == [
        ("get_weather", '{"city": "Rome", "days": 3}')
    ]
    assert calls(tool_choice="auto", user_text="hello") == []
    assert calls(tool_choice="auto", user_text="the weather is fine", may_call=False) == []
    assert calls(tool_choice="none", user_text="the weather") == []
    assert [name for name, _ in calls(tool_choice="required", user_text="hello")] == ["get_weather"]
    assert [name for name, _ in calls(tool_choice="get_weather", user_text="hello")] == ["get_weather"]


def test_several_tools_are_called_at_once_unless_that_is_forbidden() -> None:
    clock = Tool("get_clock", {"type": "object", "properties": {}})
    text = "weather and clock, please"
    both = ReplyOptions(200, tools=(WEATHER, clock), tool_choice="auto", user_text=text)
    assert [name for name, _ in plan_reply(PROMPT, both, Style()).tool_calls] == ["get_weather", "get_clock"]
    one = ReplyOptions(200, tools=(WEATHER, clock), tool_choice="auto", user_text=text, is_parallel=False)
    assert [name for name, _ in plan_reply(PROMPT, one, Style()).tool_calls] == ["get_weather"]


def test_a_model_that_reasons_thinks_before_it_speaks() -> None:
    reply = plan_reply(PROMPT, ReplyOptions(2000), Style(reasoning_share=0.5))
    channels = [delta.channel for delta in reply.deltas]
    assert reply.reasoning_tokens == channels.count(Channel.REASONING) > 0
    assert channels.index(Channel.CONTENT) > reply.reasoning_tokens
    assert reply.token_ids[reply.reasoning_tokens] == language.THINK_END
