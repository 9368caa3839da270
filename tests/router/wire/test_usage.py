"""Golden vectors: what providers' usage objects say, in one convention, with nothing counted twice."""

from typing import Any

import pytest

from router.domain.request import Endpoint
from router.domain.usage import Usage
from router.wire.usage import read_usage

VECTORS: dict[str, tuple[Endpoint, dict[str, Any], Usage]] = {
    "OpenAI: cached inside the prompt, reasoning inside the completion": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        Usage(100, 40, cached_tokens=64, reasoning_tokens=30),
    ),
    "OpenAI's Responses": (
        Endpoint.RESPONSES,
        {
            "input_tokens": 100,
            "output_tokens": 40,
            "total_tokens": 140,
            "input_tokens_details": {"cached_tokens": 64},
            "output_tokens_details": {"reasoning_tokens": 30},
        },
        Usage(100, 40, cached_tokens=64, reasoning_tokens=30),
    ),
    "Gemini behind Vertex, Grok: reasoning beside the completion": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 140,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        Usage(100, 40, reasoning_tokens=30),
    ),
    "Gemini behind Vertex: reasoning beside the completion, outside of any details": (
        Endpoint.CHAT,
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 140, "reasoning_tokens": 30},
        Usage(100, 40, reasoning_tokens=30),
    ),
    "Gemini's own API of OpenAI's shape: reasoning in the total alone": (
        Endpoint.CHAT,
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 140},
        Usage(100, 40, reasoning_tokens=30),
    ),
    "DeepSeek: cached tokens by a name of its own": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        Usage(100, 40, cached_tokens=64),
    ),
    "Kimi, GLM: cached tokens outside of any details": (
        Endpoint.CHAT,
        {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140, "cached_tokens": 64},
        Usage(100, 40, cached_tokens=64),
    ),
    "a provider that says them twice": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "cached_tokens": 64,
            "prompt_cache_hit_tokens": 64,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
        Usage(100, 40, cached_tokens=64),
    ),
    "OpenRouter with our own key at the provider behind it: its fee, and what that provider bills us": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "cost": 0.00000725,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 0.000138},
        },
        Usage(100, 40, provider_cost_nanousd=145_250),
    ),
    "the same within what is free of a fee": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "cost": 0,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 0.0360795},
        },
        Usage(100, 40, provider_cost_nanousd=36_079_500),
    ),
    "the same where nobody says what that provider bills: the list price has to do": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "cost": 0.00000725,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": None},
        },
        Usage(100, 40),
    ),
    "OpenRouter with its own keys, which tells what it paid, too": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "cost": 0.000145,
            "is_byok": False,
            "cost_details": {"upstream_inference_cost": 0.000145},
        },
        Usage(100, 40, provider_cost_nanousd=145_000),
    ),
    "OpenRouter: written to the cache inside the prompt, and what it billed": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 50},
            "cost": 0.00014525,
        },
        Usage(100, 40, cached_tokens=20, cache_write_tokens=50, provider_cost_nanousd=145_250),
    ),
    "Azure: with members that are null": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        Usage(100, 40),
    ),
    "Anthropic: cached and written beside the input": (
        Endpoint.MESSAGES,
        {"input_tokens": 30, "output_tokens": 40, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 50},
        Usage(100, 40, cached_tokens=20, cache_write_tokens=50),
    ),
    "Anthropic: of what is written, some for an hour": (
        Endpoint.MESSAGES,
        {
            "input_tokens": 30,
            "output_tokens": 40,
            "cache_creation_input_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        },
        Usage(80, 40, cache_write_tokens=50, cache_write_hour_tokens=30),
    ),
    "Anthropic, translated by us": (
        Endpoint.CHAT,
        {
            "prompt_tokens": 80,
            "completion_tokens": 40,
            "prompt_tokens_details": {"cache_write_tokens": 50, "cache_write_hour_tokens": 30},
        },
        Usage(80, 40, cache_write_tokens=50, cache_write_hour_tokens=30),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a08_each_provider_is_read_in_its_own_convention(name: str) -> None:
    endpoint, usage, expected = VECTORS[name]
    assert read_usage(endpoint, usage, context_tokens=1000, choices=1) == expected


@pytest.mark.parametrize(
    ("cost", "nanousd"),
    [
        (0.95, 950_000_000),
        (1e-9, 1),
        (0.1 + 0.2, 300_000_000),
        ("0.000000013", 13),
        (2.5e-9, 2),
        (3.5e-9, 4),
        (0, 0),
        (-1, None),
        (float("inf"), None),
        ("many", None),
        ("1e999999", None),
        ("1e999999999", None),
        (True, None),
    ],
)
def test_a_bill_in_dollars_is_read_to_the_nano_dollar(cost: Any, nanousd: int | None) -> None:
    found = read_usage(
        Endpoint.CHAT, {"prompt_tokens": 1, "completion_tokens": 1, "cost": cost}, context_tokens=10, choices=1
    )
    assert found is not None
    assert found.provider_cost_nanousd == nanousd
