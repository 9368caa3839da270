"""A workload is decided by its seed, keeps the trace's times and lengths, and never ends."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise

import pytest

from load.emulator.language import chat_prompt
from load.traces import Arrival, read_trace
from load.workload import LIBRARY_TOKENS, Mix, TimedRequest, read_prompts, timed_requests

MIX = Mix(models={"auto": 3, "pinned": 1}, tenants={"a": 1, "b": 1}, streaming_ratio=0.5)
QUESTIONS = read_prompts()


def take(count: int, trace: Sequence[Arrival], *, seed: int = 7, mix: Mix = MIX) -> list[TimedRequest]:
    return list(islice(timed_requests(trace, QUESTIONS, mix, seed=seed), count))


def prompt_tokens(request: TimedRequest) -> int:
    return len(chat_prompt([(message["role"], message["content"]) for message in request.body["messages"]]))


def test_the_same_seed_makes_the_same_requests_and_another_seed_others() -> None:
    trace = read_trace().arrivals
    assert take(50, trace) == take(50, trace)
    assert take(50, trace) != take(50, trace, seed=8)


def test_requests_come_at_the_traces_times_and_start_over_after_its_end() -> None:
    trace = [Arrival(seconds, 100, 10) for seconds in (5.0, 6.0, 9.0)]
    times = [request.at_seconds for request in take(7, trace)]
    assert times == [0.0, 1.0, 4.0, 6.0, 7.0, 10.0, 12.0]  # laps of 4 s, and a gap of 2 s, the mean


def test_times_never_run_backwards_on_the_real_trace() -> None:
    trace = read_trace().arrivals
    assert all(earlier.at_seconds <= later.at_seconds for earlier, later in pairwise(take(len(trace) + 100, trace)))


def test_prompts_are_as_long_as_recorded_where_a_question_leaves_room() -> None:
    trace = read_trace().arrivals[:300]
    for arrival, request in zip(trace, take(300, trace), strict=True):
        system, *question = request.body["messages"]
        if question:
            assert abs(prompt_tokens(request) - arrival.prompt_tokens) <= 2
            assert question[0]["content"] in QUESTIONS
        else:
            assert system["content"] in QUESTIONS
            assert prompt_tokens(request) > arrival.prompt_tokens - 50


def test_a_prompt_longer_than_the_library_is_cut_to_it() -> None:
    [request] = take(1, [Arrival(0.0, 10 * LIBRARY_TOKENS, 1)])
    assert LIBRARY_TOKENS < prompt_tokens(request) < 2 * LIBRARY_TOKENS


@pytest.mark.parametrize(("streaming_ratio", "streamed"), [(0.0, 0), (1.0, 40)])
def test_the_mix_decides_what_is_streamed(streaming_ratio: float, streamed: int) -> None:
    mix = Mix(MIX.models, MIX.tenants, streaming_ratio)
    assert sum("stream" in request.body for request in take(40, read_trace().arrivals, mix=mix)) == streamed


def test_models_and_tenants_come_by_their_weights() -> None:
    requests = take(400, [Arrival(0.0, 1, 1)])
    models = Counter(request.body["model"] for request in requests)
    tenants = Counter(request.tenant for request in requests)
    assert models.keys() == MIX.models.keys()
    assert 0.65 < models["auto"] / 400 < 0.85
    assert 0.4 < tenants["a"] / 400 < 0.6
