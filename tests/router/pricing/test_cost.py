"""The cost of metered attempts: price × usage, to the nano-dollar."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.request import Endpoint
from router.domain.usage import Usage
from router.pricing.cost import list_cost, metered_cost, rounded
from router.pricing.price import ContextTier, MeteredPrice, TokenRates
from router.wire.usage import read_usage

MILLI = 10**6  # nano-dollars: rates below are in thousandths of a dollar per million tokens


def price(prompt: float, cached: float, cache_write: float, completion: float, **more: Any) -> MeteredPrice:
    """Rates in dollars per million tokens, as price lists have them."""
    rates = TokenRates(*(round(usd * 1000) * MILLI for usd in (prompt, cached, cache_write, completion)))
    return MeteredPrice("p@2026-08-01#00000000", rates, **more)


# Price lists of 2026-08-01 (LiteLLM's table, MIT). DeepSeek's cached rate of 0.0028 needs a digit more.
GPT_4O = price(2.5, 1.25, 2.5, 10)
GPT_5_MINI = price(0.25, 0.025, 0.25, 2)
SONNET_5 = MeteredPrice(
    "s@2026-08-01#00000000", TokenRates(2_000_000_000, 200_000_000, 2_500_000_000, 10_000_000_000, 4_000_000_000)
)
LLAMA_70B_GROQ = price(0.59, 0.59, 0.59, 0.79)
DEEPSEEK_V4_FLASH = MeteredPrice("d@2026-08-01#00000000", TokenRates(140_000_000, 2_800_000, 140_000_000, 280_000_000))
WHISPER = price(0, 0, 0, 0, audio_nanousd_per_hour=360_000_000)
RERANK = price(0, 0, 0, 0, request_nanousd=2_000_000)

VECTORS = [
    pytest.param(
        # 86 × 2.50 + 1,920 × 1.25 + 300 × 10, in millionths of a dollar
        GPT_4O,
        Endpoint.CHAT,
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        5_615_000,
        id="openai-chat: cached inside",
    ),
    pytest.param(
        GPT_4O,
        Endpoint.RESPONSES,
        {"input_tokens": 2006, "output_tokens": 300, "input_tokens_details": {"cached_tokens": 1920}},
        5_615_000,
        id="openai-responses: cached inside, under other names",
    ),
    pytest.param(
        # The same prompt as Anthropic counts it: 86 beside 1,920. 86 × 2 + 1,920 × 0.20 + 300 × 10
        SONNET_5,
        Endpoint.MESSAGES,
        {"input_tokens": 86, "cache_read_input_tokens": 1920, "cache_creation_input_tokens": 0, "output_tokens": 300},
        3_556_000,
        id="anthropic: cached beside",
    ),
    pytest.param(
        # Written once, at the write price alone: 21 × 2 + 188,086 × 2.50 + 393 × 10
        SONNET_5,
        Endpoint.MESSAGES,
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 188_086,
            "cache_read_input_tokens": 0,
            "output_tokens": 393,
        },
        474_187_000,
        id="anthropic: cache write",
    ),
    pytest.param(
        # Two lifetimes in one request: 21 × 2 + 86 × 2.50 + 188,000 × 4 + 393 × 10
        SONNET_5,
        Endpoint.MESSAGES,
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 188_086,
            "cache_creation": {"ephemeral_5m_input_tokens": 86, "ephemeral_1h_input_tokens": 188_000},
            "cache_read_input_tokens": 0,
            "output_tokens": 393,
        },
        756_187_000,
        id="anthropic: cache writes of five minutes and of an hour",
    ),
    pytest.param(
        # Read afterwards: 21 × 2 + 188,086 × 0.20 + 393 × 10
        SONNET_5,
        Endpoint.MESSAGES,
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 188_086,
            "output_tokens": 393,
        },
        41_589_200,
        id="anthropic: cache read",
    ),
    pytest.param(
        # 104 × 0.14 + 896 × 0.0028 + 50 × 0.28 = 31.0688 millionths of a dollar: rounded once, at the end
        DEEPSEEK_V4_FLASH,
        Endpoint.CHAT,
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 896},
            "prompt_cache_hit_tokens": 896,
            "prompt_cache_miss_tokens": 104,
        },
        31_069,
        id="deepseek: cached inside, hit and miss beside it",
    ),
    pytest.param(
        LLAMA_70B_GROQ,
        Endpoint.CHAT,
        {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000, "prompt_tokens_details": None},
        1_380_000,
        id="vllm and groq: no details",
    ),
    pytest.param(
        # A minute and 3.5 seconds at $0.006 a minute
        WHISPER,
        Endpoint.TRANSCRIPTIONS,
        {"type": "duration", "seconds": 63.5},
        6_350_000,
        id="whisper: by the second of audio",
    ),
    pytest.param(
        RERANK,
        Endpoint.RERANK,
        {"prompt_tokens": 500, "total_tokens": 500},
        2_000_000,
        id="rerank: a fee per request",
    ),
]


def usage(endpoint: Endpoint, body: dict[str, Any]) -> Usage:
    found = read_usage(endpoint, body, context_tokens=1_000_000, choices=1)
    assert found is not None
    return found


@pytest.mark.parametrize(("metered", "endpoint", "body", "nanousd"), VECTORS)
def test_a08_each_provider_s_own_usage_costs_what_its_price_list_says(
    metered: MeteredPrice, endpoint: Endpoint, body: dict[str, Any], nanousd: int
) -> None:
    assert metered_cost(metered, usage(endpoint, body)) == nanousd


def test_a08_both_conventions_of_one_request_cost_the_same() -> None:
    inside = {"prompt_tokens": 2006, "completion_tokens": 300, "prompt_tokens_details": {"cached_tokens": 1920}}
    beside = {"input_tokens": 86, "cache_read_input_tokens": 1920, "output_tokens": 300}
    assert metered_cost(GPT_4O, usage(Endpoint.CHAT, inside)) == metered_cost(GPT_4O, usage(Endpoint.MESSAGES, beside))


def test_a20_reasoning_is_part_of_the_completion_and_not_added_to_it() -> None:
    # 9 × 0.25 + 300 × 2, whatever share of the 300 was reasoning
    body = {"prompt_tokens": 9, "completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 256}}
    assert metered_cost(GPT_5_MINI, usage(Endpoint.CHAT, body)) == 602_250
    assert metered_cost(GPT_5_MINI, Usage(9, 300, reasoning_tokens=0)) == 602_250


def test_a01_a_provider_s_zero_is_not_believed_without_a_zero_price() -> None:
    told = Usage(prompt_tokens=1000, completion_tokens=1000, provider_cost_nanousd=0)
    assert metered_cost(LLAMA_70B_GROQ, told) == 1_380_000
    assert metered_cost(price(0, 0, 0, 0), told) == 0


def test_a01_the_same_usage_costs_the_same_streamed_or_not() -> None:
    whole = {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306}
    last_chunk = {**whole, "cost": 0}
    assert metered_cost(GPT_4O, usage(Endpoint.CHAT, last_chunk)) == metered_cost(GPT_4O, usage(Endpoint.CHAT, whole))


def test_what_the_provider_says_it_charged_is_preferred_to_its_list_price() -> None:
    told = Usage(prompt_tokens=1000, completion_tokens=1000, provider_cost_nanousd=1_500_000)
    assert metered_cost(LLAMA_70B_GROQ, told) == 1_500_000
    assert list_cost(LLAMA_70B_GROQ, told) == 1_380_000


def test_a10_zero_is_a_price_of_a_class_like_any_other() -> None:
    assert metered_cost(price(0, 0, 0, 8), Usage(1000, 1000)) == 8_000_000
    assert metered_cost(price(2, 0, 2, 8), Usage(1000, 0, cached_tokens=1000)) == 0


def test_a_long_prompt_puts_the_whole_request_into_its_tier() -> None:
    long = TokenRates(4 * 10**9, 10**9, 4 * 10**9, 12 * 10**9)
    longer = TokenRates(8 * 10**9, 10**9, 8 * 10**9, 12 * 10**9)
    tiered = price(2, 0.5, 2, 8, tiers=(ContextTier(200_000, long), ContextTier(500_000, longer)))
    assert metered_cost(tiered, Usage(200_000, 0)) == 400_000_000
    assert metered_cost(tiered, Usage(200_001, 0)) == 800_004_000
    assert metered_cost(tiered, Usage(200_001, 0, cached_tokens=200_001)) == 200_001_000
    assert metered_cost(tiered, Usage(500_001, 0)) == 4_000_008_000


@pytest.mark.parametrize(
    "nonsense",
    [
        Usage(-1, 0),
        Usage(0, -1),
        Usage(10, 0, cached_tokens=11),
        Usage(10, 0, cached_tokens=6, cache_write_tokens=6),
        Usage(10, 0, cached_tokens=-1),
        Usage(10, 0, cache_write_tokens=5, cache_write_hour_tokens=6),
        Usage(10, 0, cache_write_tokens=5, cache_write_hour_tokens=-1),
        Usage(10, 0, audio_seconds=-1.0),
    ],
)
def test_counts_that_contradict_themselves_have_no_cost(nonsense: Usage) -> None:
    with pytest.raises(ValueError, match=r"contradict|audio"):
        metered_cost(GPT_4O, nonsense)


counts = st.integers(0, 10**9)
rates = st.builds(TokenRates, *[st.integers(0, 10**12)] * 4)


@given(rates, counts, counts, counts, counts, st.integers(0, 10**8), st.integers(0, 10**9), st.integers(0, 10**6))
def test_the_cost_is_the_exact_sum_of_its_parts_rounded_once(
    token_rates: TokenRates,
    uncached: int,
    cached: int,
    written: int,
    completion: int,
    fee: int,
    audio_rate: int,
    audio_milliseconds: int,
) -> None:
    metered = MeteredPrice("p", token_rates, request_nanousd=fee, audio_nanousd_per_hour=audio_rate)
    used = Usage(uncached + cached + written, completion, cached, written, audio_seconds=audio_milliseconds / 1000)
    exact = (
        Fraction(
            uncached * token_rates.prompt
            + cached * token_rates.cached
            + written * token_rates.cache_write
            + completion * token_rates.completion,
            10**6,
        )
        + fee
        + Fraction(audio_milliseconds, 1000) * audio_rate / 3600
    )
    assert list_cost(metered, used) == round(exact)


@given(st.integers(0, 10**30), st.integers(1, 10**15))
def test_rounding_is_half_to_even_as_a_fraction_rounds(numerator: int, denominator: int) -> None:
    assert rounded(numerator, denominator) == round(Fraction(numerator, denominator))
