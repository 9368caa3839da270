"""A workload is decided by its seed, keeps the trace's times, lengths and shared prefixes, and never ends."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise, takewhile

import pytest

from load.emulator.language import chat_prompt, encode
from load.traces import Arrival, Trace, read_trace
from load.workload import LIBRARY_TOKENS, Mix, TimedRequest, Workload, read_prompts, timed_requests

MIX = Mix(models={"auto": 3, "pinned": 1}, tenants={"a": 1, "b": 1}, streaming_ratio=0.5)
QUESTIONS = read_prompts()
AZURE = read_trace()


def take(count: int, trace: Trace, *, seed: int = 7, mix: Mix = MIX) -> list[TimedRequest]:
    return list(islice(timed_requests(Workload(trace, QUESTIONS, mix, seed)), count))


def take_of(arrivals: Sequence[Arrival], *, block_tokens: int = 0) -> list[TimedRequest]:
    return take(len(arrivals), Trace(arrivals, block_tokens))


def prompt_tokens(request: TimedRequest) -> int:
    return len(chat_prompt([(message["role"], message["content"]) for message in request.body["messages"]]))


def context(request: TimedRequest) -> str:
    return str(request.body["messages"][0]["content"])


def tokens_in_common(one: TimedRequest, other: TimedRequest) -> int:
    pairs = zip(encode(context(one)), encode(context(other)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def test_the_same_seed_makes_the_same_requests_and_another_seed_others() -> None:
    assert take(50, AZURE) == take(50, AZURE)
    assert take(50, AZURE) != take(50, AZURE, seed=8)


def test_a_request_is_the_same_whoever_asks_for_it_and_in_whatever_order() -> None:
    one, other = (Workload(AZURE, QUESTIONS, MIX, 7) for _ in range(2))
    numbers = [31, 2, 17]
    backwards = {number: one.request(number, AZURE.arrivals[number]) for number in reversed(numbers)}
    assert backwards == {number: other.request(number, AZURE.arrivals[number]) for number in numbers}


def test_requests_come_at_the_traces_times_and_start_over_after_its_end() -> None:
    trace = Trace([Arrival(seconds, 100, 10) for seconds in (5.0, 6.0, 9.0)])
    times = [request.at_seconds for request in take(7, trace)]
    assert times == [0.0, 1.0, 4.0, 6.0, 7.0, 10.0, 12.0]  # laps of 4 s, and a gap of 2 s, the mean


def test_times_never_run_backwards_on_the_real_trace() -> None:
    assert all(earlier.at_seconds <= later.at_seconds for earlier, later in pairwise(take(len(AZURE) + 100, AZURE)))


def test_prompts_are_as_long_as_recorded_where_a_question_leaves_room() -> None:
    arrivals = AZURE.arrivals[:300]
    for arrival, request in zip(arrivals, take_of(arrivals), strict=True):
        system, *question = request.body["messages"]
        if question:
            assert abs(prompt_tokens(request) - arrival.prompt_tokens) <= 2
            assert question[0]["content"] in QUESTIONS
        else:
            assert system["content"] in QUESTIONS
            assert prompt_tokens(request) > arrival.prompt_tokens - 50


def test_a_prompt_longer_than_the_library_is_cut_to_it() -> None:
    [request] = take_of([Arrival(0.0, 10 * LIBRARY_TOKENS, 1)])
    assert LIBRARY_TOKENS < prompt_tokens(request) < 2 * LIBRARY_TOKENS


def test_prompts_share_exactly_the_blocks_that_they_share_in_the_trace() -> None:
    shared = range(6)
    one, other, apart = take_of(
        [
            Arrival(0.0, 64 * 46, 1, blocks=(shared, range(100, 140))),
            Arrival(1.0, 64 * 46 - 10, 1, blocks=(shared, range(200, 240))),
            Arrival(2.0, 64 * 46, 1, blocks=(range(300, 346),)),
        ],
        block_tokens=64,
    )
    instruction = tokens_in_common(one, apart)
    assert tokens_in_common(one, other) - instruction in range(
        6 * 64 - 2, 6 * 64 + 3
    )  # words may chance to be the same
    assert prompt_tokens(one) == pytest.approx(64 * 46, abs=2)
    assert prompt_tokens(other) == pytest.approx(64 * 46 - 10, abs=2)


def test_a_session_without_blocks_repeats_its_text_and_no_other_sessions() -> None:
    first, second, other = take_of(
        [
            Arrival(0.0, 500, 1, session="s"),
            Arrival(1.0, 900, 1, session="s", turn=1),
            Arrival(2.0, 900, 1, session="t"),
        ]
    )
    assert tokens_in_common(first, second) == len(encode(context(first)))
    assert tokens_in_common(second, other) < 40
    assert prompt_tokens(second) == pytest.approx(900, abs=2)


@pytest.mark.parametrize(("streaming_ratio", "streamed"), [(0.0, 0), (1.0, 40)])
def test_the_mix_decides_what_is_streamed(streaming_ratio: float, streamed: int) -> None:
    mix = Mix(MIX.models, MIX.tenants, streaming_ratio)
    assert sum("stream" in request.body for request in take(40, AZURE, mix=mix)) == streamed


@pytest.mark.parametrize("streams", [True, False])
def test_the_trace_decides_what_is_streamed_where_it_says(streams: bool) -> None:
    requests = take(20, Trace([Arrival(0.0, 20, 1, streams=streams)]))
    assert {"stream" in request.body for request in requests} == {streams}


def test_completions_are_as_long_as_recorded_where_that_is_asked_for() -> None:
    workload = Workload(AZURE, QUESTIONS, MIX, 7, keeps_lengths=True)
    _, body = workload.request(0, AZURE.arrivals[0])
    assert (body["max_tokens"], body["ignore_eos"]) == (AZURE.arrivals[0].completion_tokens, True)


def test_models_and_tenants_come_by_their_weights_and_the_traces_tenants_where_they_are_known() -> None:
    requests = take(400, Trace([Arrival(0.0, 1, 1)]))
    models = Counter(request.body["model"] for request in requests)
    tenants = Counter(request.tenant for request in requests)
    assert models.keys() == MIX.models.keys()
    assert 0.65 < models["auto"] / 400 < 0.85
    assert 0.4 < tenants["a"] / 400 < 0.6
    assert {request.tenant for request in take(20, Trace([Arrival(0.0, 1, 1, tenant="b")]))} == {"b"}
    assert {request.tenant for request in take(40, Trace([Arrival(0.0, 1, 1, tenant="client7")]))} == {"a", "b"}
