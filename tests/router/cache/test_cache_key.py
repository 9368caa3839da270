"""Only what has but one answer has a key, and no two tenants, models or questions share one."""

from typing import Any

import pytest
from payloads import HELLO, WEATHER

from router.cache.key import Served, answer_key, is_deterministic
from router.domain.request import GENERATING, Endpoint

SERVED = Served("llama", "fp8")
COLD: dict[str, Any] = {"model": "auto", "messages": HELLO, "temperature": 0}


def key(
    tenant: str = "a",
    endpoint: Endpoint = Endpoint.CHAT,
    served: Served = SERVED,
    members: dict[str, Any] = COLD,
    headers: tuple[bytes | None, ...] = (None, None, None),
) -> bytes:
    return answer_key(tenant, endpoint, served, members, headers)


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES])
@pytest.mark.parametrize(
    "members", [{"temperature": 0}, {"temperature": 0.0}, {"seed": 7}, {"seed": 0, "temperature": 1}]
)
def test_temperature_0_or_a_seed_makes_a_request_deterministic(endpoint: Endpoint, members: dict[str, Any]) -> None:
    assert is_deterministic(endpoint, members)


def test_an_integer_beyond_64_bits_is_part_of_the_question() -> None:
    large, larger = (COLD | {"metadata": {"a": 10**30 + more}} for more in (0, 1))
    assert key(members=large) == key(members=dict(reversed(large.items()))) != key(members=larger)


@pytest.mark.parametrize(
    "members",
    [
        {"temperature": 0, "tools": [{"type": ["no", "name"]}]},
        {},
        {"temperature": 0.1},
        {"temperature": None},
        {"temperature": False},
        {"temperature": "0"},
        {"seed": None},
    ],
)
def test_no_other_request_is(members: dict[str, Any]) -> None:
    assert not is_deterministic(Endpoint.CHAT, members)


@pytest.mark.parametrize("endpoint", [one for one in Endpoint if one not in GENERATING])
def test_what_generates_no_text_is_not_cached(endpoint: Endpoint) -> None:
    assert not is_deterministic(endpoint, {"temperature": 0, "seed": 1})


@pytest.mark.parametrize(
    ("endpoint", "members"),
    [
        (Endpoint.RESPONSES, {"previous_response_id": "resp_1"}),
        (Endpoint.RESPONSES, {"conversation": "conv_1"}),
        (Endpoint.RESPONSES, {"background": True}),
        (Endpoint.RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (Endpoint.RESPONSES, {"tools": [{"type": "web_search"}]}),
        (Endpoint.CHAT, {"web_search_options": {"search_context_size": "low"}}),
        (Endpoint.CHAT, {"tools": "all"}),
        (Endpoint.MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (Endpoint.MESSAGES, {"container": "c_1"}),
    ],
)
def test_what_depends_on_more_than_the_request_is_not(endpoint: Endpoint, members: dict[str, Any]) -> None:
    assert not is_deterministic(endpoint, {"temperature": 0, **members})


def test_tools_that_the_client_runs_are_part_of_the_request() -> None:
    assert is_deterministic(Endpoint.CHAT, {"temperature": 0, "tools": [WEATHER]})
    assert is_deterministic(Endpoint.MESSAGES, {"temperature": 0, "tools": [{"name": "w", "input_schema": {}}]})
    assert is_deterministic(Endpoint.COMPLETIONS, {"temperature": 0, "prompt": "Once"})


def test_the_same_request_has_the_same_key_however_it_is_written() -> None:
    shuffled = dict(reversed(COLD.items()))
    shuffled["messages"] = [dict(reversed(message.items())) for message in HELLO]
    assert list(shuffled) != list(COLD)
    assert key(members=shuffled) == key()
    assert len(key()) == 32


def test_nothing_else_has() -> None:
    others = [
        key(tenant="b"),
        key(endpoint=Endpoint.COMPLETIONS),
        key(served=Served("llama", "bf16")),
        key(served=Served("llama-3", "fp8")),
        key(members={**COLD, "temperature": 0.0}),
        key(members={**COLD, "stream": True}),
        key(members={**COLD, "user": "u"}),
        key(members={**COLD, "cache_salt": "s"}),
        key(members={**COLD, "messages": [*HELLO, *HELLO]}),
        key(tenant='a","chat'),
        key(headers=(b"prompt-caching", None, None)),
        key(headers=(None, b"prompt-caching", None)),
    ]
    assert len({key(), *others}) == len(others) + 1
