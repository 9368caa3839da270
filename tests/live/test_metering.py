"""What jeton books against what a real vLLM has counted, and what is left running when a client leaves."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import httpx
import pytest
from jeton_server import JetonServer
from openai import OpenAI
from vllm_server import VllmFleet

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

PROMPT = [{"role": "user", "content": "Tell me a long story."}]
# About 10 s of work for these models: whatever still runs after a client has left is not about to end by itself.
LONG: dict[str, object] = {"max_tokens": 3000, "ignore_eos": True}
SETTLE_SECONDS_MAX = 10.0
# Where time matters the best of a few counts: a busy machine only adds to it.
ATTEMPTS = 5
# A tenth of that work, as this machine does it when nobody else is busy.
LEAVE_AFTER_SECONDS = 0.3
# What vLLM may make for one sequence between the last event that reached us and its hearing that the client has left.
UNSEEN_TOKENS_MAX = 5

Tokens = Counter[str]


@pytest.fixture
def client(jeton: JetonServer) -> Iterator[OpenAI]:
    assert settled(lambda: is_at_rest(jeton))
    environment = jeton.client_environment
    with OpenAI(base_url=environment["OPENAI_BASE_URL"], api_key=environment["OPENAI_API_KEY"]) as client:
        yield client


def counted(fleet: VllmFleet) -> Tokens:
    """Prompt and completion tokens by backend, as the vLLM servers have counted them since their start."""
    tokens: Tokens = Counter()
    for server in fleet.servers:
        tokens[f"{server.model} prompt"] += int(server.counter("prompt_tokens_total"))
        tokens[f"{server.model} completion"] += int(server.counter("generation_tokens_total"))
    return tokens


def booked(jeton: JetonServer) -> Tokens:
    """The same from jeton's ledger."""
    tokens: Tokens = Counter()
    for charge in jeton.charges():
        tokens[f"{charge['backend']} prompt"] += charge["prompt_tokens"]
        tokens[f"{charge['backend']} completion"] += charge["completion_tokens"]
    return tokens


def since(now: Tokens, before: Tokens) -> Tokens:
    """Equal to a dictionary of what has changed, and 0 for what has not."""
    return Counter({name: now[name] - before[name] for name in now | before if now[name] != before[name]})


def is_at_rest(jeton: JetonServer) -> bool:
    """Nothing is in flight, and what has ended is on disk, for which a scrape waits: else what another test has asked would be
    booked after the first look at the ledger."""
    in_flight = [float(line.rpartition(" ")[2]) for line in jeton.metrics() if line.startswith("jeton_in_flight{")]
    return bool(in_flight) and not any(in_flight)


def settled(holds: Callable[[], bool], pause_seconds: float = 0.1) -> bool:
    """Whether it comes to hold: jeton commits within milliseconds, vLLM counts a step behind."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while not holds() and time.monotonic() < deadline:
        time.sleep(pause_seconds)
    return holds()


def ask(client: OpenAI) -> None:
    for model in ("chat-small", "chat-large", "auto"):
        client.chat.completions.create(model=model, messages=PROMPT, max_tokens=40)
        client.completions.create(model=model, prompt=["one", "two words"], max_tokens=8)
        for options in ({}, {"stream_options": {"include_usage": True}}):
            for _ in client.chat.completions.create(
                model=model, messages=PROMPT, max_tokens=40, stream=True, **options
            ):
                pass
        client.responses.create(model=model, input="Say something.", max_output_tokens=8)
        for _ in client.responses.create(model=model, input="Say something.", max_output_tokens=8, stream=True):
            pass
    client.embeddings.create(model="embed", input=["one", "one and two"])


def test_the_ledger_has_the_tokens_that_vllm_has_counted(jeton: JetonServer, fleet: VllmFleet, client: OpenAI) -> None:
    books, counters = booked(jeton), counted(fleet)
    ask(client)
    settled(lambda: since(booked(jeton), books) == since(counted(fleet), counters))
    in_ledger = since(booked(jeton), books)
    assert in_ledger == since(counted(fleet), counters)
    assert {"small completion", "large completion", "embed prompt"} <= in_ledger.keys()
    assert all(charge["usage_source"] == "provider" for charge in jeton.charges() if charge["status"] == "ok")


@pytest.mark.parametrize("is_streaming", [False, True])
def test_several_choices_are_booked_as_the_usage_says(
    jeton: JetonServer, fleet: VllmFleet, client: OpenAI, is_streaming: bool
) -> None:
    """vLLM's counter has the prompt once for each choice; its usage, which is what we bill, has it once."""
    books, counters = booked(jeton), counted(fleet)
    asked = {"model": "chat-small", "messages": PROMPT, "max_tokens": 8, "n": 3}
    if is_streaming:
        *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    else:
        last = client.chat.completions.create(**asked)
    in_vllm = {"small prompt": 3 * last.usage.prompt_tokens, "small completion": last.usage.completion_tokens}
    assert settled(lambda: since(counted(fleet), counters) == in_vllm)
    in_ledger = in_vllm | {"small prompt": last.usage.prompt_tokens}
    assert settled(lambda: since(booked(jeton), books) == in_ledger)


def test_cached_tokens_reach_the_ledger(jeton: JetonServer, client: OpenAI) -> None:
    shared = [{"role": "user", "content": "word " * 400}]
    answers = [client.chat.completions.create(model="chat-small", messages=shared, max_tokens=4) for _ in range(2)]
    cached = answers[1].usage.prompt_tokens_details.cached_tokens
    assert cached > 0
    assert settled(lambda: jeton.charges()[-1]["cached_tokens"] == cached)


def leave_stream(http: httpx.Client, model: str, events: int, **more: object) -> None:
    body = {"model": model, "messages": PROMPT, "stream": True, **LONG, **more}
    leave(http, "/chat/completions", body, events)


def leave(http: httpx.Client, path: str, body: dict[str, object], events: int) -> None:
    with http.stream("POST", path, json=body) as response:
        data = (line for line in response.iter_lines() if line.startswith("data:"))
        assert len(list(islice(data, events))) == events


def leave_whole_answer(http: httpx.Client, model: str) -> None:
    """Hangs up in the middle of it, of which `was_left_at_work` tells afterwards whether it was: while vLLM works at such an
    answer it may answer nobody else for seconds, so nobody can look. A read time-out would not do: a client that wakes late
    finds the answer there.
    """
    request = http.build_request("POST", "/chat/completions", json={"model": model, "messages": PROMPT, **LONG})
    lines = [f"POST {request.url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    with socket.create_connection((request.url.host, request.url.port or 80), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())
        time.sleep(LEAVE_AFTER_SECONDS)


def was_left_at_work(jeton: JetonServer, fleet: VllmFleet, rows: int, counters: Tokens, model: str) -> bool:
    """Whether vLLM had begun, and the answer had not come. rows, counters: of before; all has ended since, and nothing but
    that request was sent.
    """
    assert settled(lambda: is_idle(fleet) and len(jeton.charges()) == rows + 1)
    has_begun = since(counted(fleet), counters)[f"{model} prompt"] > 0
    return has_begun and jeton.charges()[-1]["status"] != "ok"


LEAVING_A_STREAM: dict[str, Callable[[httpx.Client, str], None]] = {
    "after the first event": lambda http, model: leave_stream(http, model, events=1),
    "after a hundred events": lambda http, model: leave_stream(http, model, events=100),
    "four choices": lambda http, model: leave_stream(http, model, events=100, n=4),
    "a text completion": lambda http, model: leave(
        http, "/completions", {"model": model, "prompt": "Once", "stream": True, **LONG}, events=10
    ),
}
LEAVING = LEAVING_A_STREAM | {"a whole answer": leave_whole_answer}
CHOICES = {"four choices": 4}


@pytest.fixture
def http(jeton: JetonServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {jeton.api_key}"}
    with httpx.Client(base_url=f"{jeton.url}/v1", headers=headers, timeout=60) as http:
        yield http


@pytest.mark.parametrize("model", ["small", "large"])
@pytest.mark.parametrize("leaving", LEAVING_A_STREAM)
def test_f18_a_stream_that_is_left_stops_in_vllm_and_is_booked_as_far_as_it_went(
    jeton: JetonServer, fleet: VllmFleet, http: httpx.Client, leaving: str, model: str
) -> None:
    choices = CHOICES.get(leaving, 1)
    unseen = []
    for _ in range(ATTEMPTS):
        books, counters, rows = booked(jeton), counted(fleet), len(jeton.charges())
        LEAVING_A_STREAM[leaving](http, model)
        assert settled(lambda rows=rows: is_idle(fleet) and len(jeton.charges()) == rows + 1)
        charge = jeton.charges()[-1]
        assert (charge["status"], charge["usage_source"]) == ("cancelled", "recovered")
        in_ledger, in_vllm = since(booked(jeton), books), since(counted(fleet), counters)
        assert choices * in_ledger[f"{model} prompt"] == in_vllm[f"{model} prompt"]
        unseen.append(in_vllm[f"{model} completion"] - in_ledger[f"{model} completion"])
        print(f"{model}, {leaving}: {in_vllm[f'{model} completion']} tokens in vLLM, {unseen[-1]} of them unseen")
        assert unseen[-1] >= 0
    assert min(unseen) <= choices * UNSEEN_TOKENS_MAX


@pytest.mark.parametrize("model", ["small", "large"])
def test_f18_a_whole_answer_that_is_left_stops_in_vllm_and_is_booked_as_an_estimate(
    jeton: JetonServer, fleet: VllmFleet, http: httpx.Client, model: str
) -> None:
    """Nothing of it has been seen, so nothing can be recovered; the money is the lease's share all the same."""
    for _ in range(ATTEMPTS):
        rows, counters = len(jeton.charges()), counted(fleet)
        leave_whole_answer(http, model)
        if was_left_at_work(jeton, fleet, rows, counters, model):
            break
    else:
        pytest.fail("never left at work")
    charge = jeton.charges()[-1]
    assert (charge["status"], charge["usage_source"]) == ("cancelled", "estimated")
    assert charge["prompt_tokens"] > 0
    assert charge["cost_nanousd"] > 0


@pytest.mark.parametrize("leaving", LEAVING)
def test_f18_nothing_runs_in_vllm_100_ms_after_the_client_left(
    jeton: JetonServer, fleet: VllmFleet, http: httpx.Client, leaving: str
) -> None:
    """Reading vLLM's metrics takes some of the time, too, and a busy machine adds to it: once in so many times will do."""
    seconds: list[float] = []
    for _ in range(4 * ATTEMPTS):
        rows, counters = len(jeton.charges()), counted(fleet)
        LEAVING[leaving](http, "small")
        left = time.monotonic()
        assert settled(lambda: is_idle(fleet), pause_seconds=0.002)
        took = time.monotonic() - left
        if was_left_at_work(jeton, fleet, rows, counters, "small"):
            seconds.append(took)
        if min(seconds, default=1.0) <= 0.1:
            break
    print(f"{leaving}: idle after {', '.join(f'{1000 * s:.0f}' for s in seconds)} ms")
    assert min(seconds) <= 0.1


def is_idle(fleet: VllmFleet) -> bool:
    return fleet.small.counter("num_requests_running") == 0 and not any(
        server.counter("num_requests_running") for server in fleet.large
    )
