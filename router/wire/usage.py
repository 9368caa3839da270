"""From a backend's usage object to ours, whichever convention it follows; what cannot be true is not taken for usage.

OpenAI counts cached tokens inside `prompt_tokens` and reasoning inside `completion_tokens`; Anthropic counts cache reads and
writes beside `input_tokens`, and how long writes are kept in `cache_creation`. Ours (`domain/usage.py`) is OpenAI's. Those that
we translate write the latter as `prompt_tokens_details.cache_write_tokens`, as OpenRouter does, and `cache_write_hour_tokens`.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

from router.domain.money import nanousd_from_usd
from router.domain.request import Endpoint
from router.domain.usage import Usage, UsageSource


def read_usage(
    endpoint: Endpoint, usage: Any, *, context_tokens: int, choices: int, source: UsageSource = UsageSource.PROVIDER
) -> Usage | None:
    """None where the object is absent, of an unknown shape, or says what cannot be: a negative count, or more than the
    context window holds for every choice."""
    if type(usage) is not dict:
        return None
    if usage.get("type") == "duration":  # transcription billed by the second of audio
        seconds = usage.get("seconds")
        if not isinstance(seconds, int | float) or seconds < 0:
            return None
        return Usage(0, 0, audio_seconds=float(seconds), source=source)
    read = _read_anthropic if endpoint is Endpoint.MESSAGES else _read_openai
    found = read(usage, source)
    if found is None or not _is_possible(found, context_tokens, choices):
        return None
    return found


def begun_usage(endpoint: Endpoint, usage: Any, *, context_tokens: int, completion_tokens: int) -> Usage | None:
    """Of a stream that was cut, where its beginning had told the prompt (Anthropic's `message_start`). How long the answer was
    by then is counted, `completion_tokens` where that is more than was told; so it is an estimate, but what was cached is not."""
    name = "output_tokens" if endpoint is Endpoint.MESSAGES else "completion_tokens"
    if type(usage) is not dict or type(usage.get(name)) is not int:
        return None
    usage = {**usage, name: max(usage[name], completion_tokens)}
    return read_usage(endpoint, usage, context_tokens=context_tokens, choices=1, source=UsageSource.ESTIMATED)


def _read_openai(usage: dict[str, Any], source: UsageSource) -> Usage | None:
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens"))
    if completion is None:  # rerank and score say prompt and total alone
        total = usage.get("total_tokens")
        completion = total - prompt if type(total) is int and type(prompt) is int else None
    if type(prompt) is not int or type(completion) is not int:
        return None
    prompt_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    reasoning = _count(completion_details, "reasoning_tokens")
    if reasoning > 0 and usage.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # some (Gemini, Grok) count thought beside the completion; the total gives it away
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=_count(prompt_details, "cached_tokens"),
        cache_write_tokens=_count(prompt_details, "cache_write_tokens"),
        cache_write_hour_tokens=_count(prompt_details, "cache_write_hour_tokens"),
        reasoning_tokens=reasoning,
        provider_cost_nanousd=_provider_cost(usage),
        source=source,
    )


def _read_anthropic(usage: dict[str, Any], source: UsageSource) -> Usage | None:
    uncached, completion = usage.get("input_tokens"), usage.get("output_tokens")
    if type(uncached) is not int or type(completion) is not int:
        return None
    cached = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    return Usage(
        prompt_tokens=uncached + cached + written,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_hour_tokens=_count(usage.get("cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning_tokens=_count(usage.get("output_tokens_details"), "thinking_tokens"),
        provider_cost_nanousd=_provider_cost(usage),
        source=source,
    )


def _count(details: Any, name: str) -> int:
    value = details.get(name) if type(details) is dict else None
    return value if type(value) is int else 0


def _provider_cost(usage: dict[str, Any]) -> int | None:
    """OpenRouter's `usage.cost`, in US dollars. Read through its shortest decimal text, which is what was sent."""
    cost = usage.get("cost")
    if type(cost) not in (int, float, str):
        return None
    try:
        usd = Decimal(str(cost))
    except InvalidOperation:
        return None
    return nanousd_from_usd(usd) if usd.is_finite() and usd >= 0 else None


def _is_possible(usage: Usage, context_tokens: int, choices: int) -> bool:
    cached_tokens, written_tokens = usage.cached_tokens, usage.cache_write_tokens
    return (
        cached_tokens >= 0
        and 0 <= usage.cache_write_hour_tokens <= written_tokens
        and cached_tokens + written_tokens <= usage.prompt_tokens
        and 0 <= usage.reasoning_tokens <= usage.completion_tokens <= context_tokens * choices
    )


def estimated_usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    """What we reckon when the backend does not say; flagged as such for ever."""
    return Usage(prompt_tokens, completion_tokens, source=UsageSource.ESTIMATED)
