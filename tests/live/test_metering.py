"""What jeton books against what a real vLLM has counted, and what is left running when a client leaves."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
from jeton_server import JetonServer
from openai import OpenAI
from vllm_server import VllmFleet

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

PROMPT = [{"role": "user", "content": "Tell me a long story."}]
# About 10 s of work for these models: whatever still runs after a client has left is not about to end by itself.
LONG = 3000
SETTLE_SECONDS_MAX = 10.0

Tokens = Counter[str]


@pytest.fixture
def client(jeton: JetonServer) -> Iterator[OpenAI]:
    environment = jeton.client_environment
    with OpenAI(base_url=environment["OPENAI_BASE_URL"], api_key=environment["OPENAI_API_KEY"]) as client:
        yield client


def counted(fleet: VllmFleet) -> Tokens:
    """Prompt and completion tokens by backend, as the vLLM servers have counted them since their start."""
    return Counter(
        {
            f"{server.model} {kind}": int(server.counter(metric))
            for kind, metric in (("prompt", "prompt_tokens_total"), ("completion", "generation_tokens_total"))
            for server in fleet.servers
        }
    )


def booked(jeton: JetonServer) -> Tokens:
    """The same from jeton's ledger."""
    tokens: Tokens = Counter()
    for charge in jeton.charges():
        tokens[f"{charge['backend']} prompt"] += charge["prompt_tokens"]
        tokens[f"{charge['backend']} completion"] += charge["completion_tokens"]
    return tokens


def since(now: Tokens, before: Tokens) -> dict[str, int]:
    return {name: now[name] - before[name] for name in now | before if now[name] != before[name]}


def until_equal(
    jeton: JetonServer, fleet: VllmFleet, books: Tokens, counters: Tokens
) -> tuple[dict[str, int], dict[str, int]]:
    """What was booked and what was counted since then, once both have settled (jeton commits within milliseconds)."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        both = since(booked(jeton), books), since(counted(fleet), counters)
        if (both[0] and both[0] == both[1]) or time.monotonic() > deadline:
            return both
        time.sleep(0.2)


def ask(client: OpenAI) -> None:
    for model in ("chat-small", "chat-large", "auto"):
        client.chat.completions.create(model=model, messages=PROMPT, max_tokens=40)
        client.completions.create(model=model, prompt=["one", "two words"], max_tokens=8)
        client.chat.completions.create(model=model, messages=PROMPT, max_tokens=8, n=3)
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
    in_ledger, in_vllm = until_equal(jeton, fleet, books, counters)
    assert in_ledger == in_vllm
    assert {"small completion", "large completion", "embed prompt"} <= in_ledger.keys()
    assert all(charge["usage_source"] == "provider" for charge in jeton.charges() if charge["status"] == "ok")


def test_cached_tokens_reach_the_ledger(jeton: JetonServer, client: OpenAI) -> None:
    shared = [{"role": "user", "content": "word " * 400}]
    answers = [client.chat.completions.create(model="chat-small", messages=shared, max_tokens=4) for _ in range(2)]
    cached = answers[1].usage.prompt_tokens_details.cached_tokens
    assert cached > 0
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while [c["cached_tokens"] for c in jeton.charges()][-1:] != [cached] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert jeton.charges()[-1]["cached_tokens"] == cached


def leave_stream(http: httpx.Client, model: str, chunks: int, **more: object) -> None:
    body = {"model": model, "messages": PROMPT, "max_tokens": LONG, "stream": True, **more}
    with http.stream("POST", "/chat/completions", json=body) as response:
        for _ in zip(range(chunks), response.iter_lines(), strict=False):
            pass


def leave_completion_stream(http: httpx.Client, model: str) -> None:
    body = {"model": model, "prompt": "Once", "max_tokens": LONG, "stream": True}
    with http.stream("POST", "/completions", json=body) as response:
        next(response.iter_lines())


def leave_whole_answer(http: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": PROMPT, "max_tokens": LONG}
    with pytest.raises(httpx.ReadTimeout):
        http.post("/chat/completions", json=body, timeout=1.0)


LEAVING: dict[str, Callable[[httpx.Client, str], None]] = {
    "after the first chunk": lambda http, model: leave_stream(http, model, chunks=1),
    "after a hundred chunks": lambda http, model: leave_stream(http, model, chunks=200),
    "with four choices": lambda http, model: leave_stream(http, model, chunks=20, n=4),
    "a text completion": leave_completion_stream,
    "before a whole answer": leave_whole_answer,
}


@pytest.mark.parametrize("model", ["small", "large"])
@pytest.mark.parametrize("leaving", LEAVING)
def test_f18_nothing_runs_in_vllm_100_ms_after_the_client_left(
    jeton: JetonServer, fleet: VllmFleet, leaving: str, model: str
) -> None:
    environment = jeton.client_environment
    books, counters = booked(jeton), counted(fleet)
    rows = len(jeton.charges())
    headers = {"authorization": f"Bearer {jeton.api_key}"}
    with httpx.Client(base_url=environment["OPENAI_BASE_URL"], headers=headers, timeout=60) as http:
        LEAVING[leaving](http, model)
        left = time.monotonic()
    time.sleep(max(0.0, left + 0.1 - time.monotonic()))
    assert [server.counter("num_requests_running") for server in fleet.servers] == [0, 0, 0, 0]

    in_ledger, in_vllm = until_equal(jeton, fleet, books, counters)
    print(f"{model}, {leaving}: booked {in_ledger}, counted {in_vllm}")
    [charge] = jeton.charges()[rows:]
    assert charge["status"] == "cancelled"
    assert in_ledger == in_vllm
