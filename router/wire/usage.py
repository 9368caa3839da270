"""From a backend's usage object to ours, whichever convention it follows; what cannot be true is not taken for usage.

OpenAI counts cached tokens inside `prompt_tokens` and reasoning inside `completion_tokens`; Anthropic counts cache reads and
writes beside `input_tokens`, and how long writes are kept in `cache_creation`. Ours (`domain/usage.py`) is OpenAI's. Those that
we translate write the latter as `prompt_tokens_details.cache_write_tokens`, as OpenRouter does, and `cache_write_hour_tokens`.
Some leave OpenAI's details out: DeepSeek says `prompt_cache_hit_tokens`, Kimi and GLM `cached_tokens`, in the usage itself.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

from router.domain.money import nanousd_from_usd
from router.domain.request import AUDIO, Endpoint, heard_seconds
from router.domain.usage import Usage, UsageSource, service_tier_named

# Beyond it a cost is nonsense, and its decimals may be too many to reckon with.
USD_MAX = 10**9


def read_usage(
    endpoint: Endpoint, usage: Any, *, context_tokens: int, choices: int, source: UsageSource = UsageSource.PROVIDER
) -> Usage | None:
    """None where the object is absent, of an unknown shape, or says what cannot be: a negative count, or more than the
    context window holds for every choice."""
    if type(usage) is not dict:
        return None
    if usage.get("type") == "duration":  # transcription billed by the second of audio
        seconds = usage.get("seconds")
        if not isinstance(seconds, int | float) or type(seconds) is bool or seconds < 0:
            return None
        return Usage(0, 0, audio_seconds=float(seconds), source=source)
    read = _read_anthropic if endpoint is Endpoint.MESSAGES else _read_openai
    found = read(usage, source)
    if found is None or not _is_possible(found, context_tokens, choices):
        return None
    return found


def told_service_tier(endpoint: Endpoint, answer: dict[str, Any]) -> str | None:
    """Under which service tier an answer, a chunk of it, or a response or message in an event says that it was served, "" for the
    plain one; None where it does not say. OpenAI's stands beside the usage, Anthropic's inside."""
    told = answer.get("service_tier")
    if endpoint is Endpoint.MESSAGES:
        usage = answer.get("usage")
        told = usage.get("service_tier") if type(usage) is dict else None
    return service_tier_named(told) if type(told) is str else None


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
    reasoning = _count(completion_details, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    beside = _count(usage, "total_tokens") - prompt - completion
    if beside > 0 and reasoning in (0, beside):
        # Some (Gemini, Grok) count thought beside the completion, or in the total alone, which gives it away.
        completion, reasoning = completion + beside, beside
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=(
            _count(prompt_details, "cached_tokens")
            or _count(usage, "cached_tokens")
            or _count(usage, "prompt_cache_hit_tokens")
        ),
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
    """OpenRouter's `usage.cost`, in US dollars. Where our own key at the provider behind it was used, that is its fee alone; what
    that provider bills us stands beside, and where it does not, the bill is not known."""
    usd = _dollars(usage, "cost")
    if usd is not None and usage.get("is_byok") is True:
        upstream = _dollars(usage.get("cost_details"), "upstream_inference_cost")
        usd = usd + upstream if upstream else None
    return None if usd is None else nanousd_from_usd(usd)


def _dollars(members: Any, name: str) -> Decimal | None:
    """Read through its shortest decimal text, which is what was sent."""
    value = members.get(name) if type(members) is dict else None
    if type(value) not in (int, float, str):
        return None
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and 0 <= usd <= USD_MAX else None


def _is_possible(usage: Usage, context_tokens: int, choices: int) -> bool:
    cached_tokens, written_tokens = usage.cached_tokens, usage.cache_write_tokens
    return (
        cached_tokens >= 0
        and 0 <= usage.cache_write_hour_tokens <= written_tokens
        and cached_tokens + written_tokens <= usage.prompt_tokens
        and 0 <= usage.reasoning_tokens <= usage.completion_tokens <= context_tokens * choices
    )


def estimated_usage(
    endpoint: Endpoint, prompt_tokens: int, completion_tokens: int, audio_seconds: float | None = None
) -> Usage:
    """What we reckon when the backend does not say; flagged as such for ever. audio_seconds: None where nobody told how long the
    sound is; then it is as long as its prompt was estimated from."""
    seconds = (
        heard_seconds(endpoint, prompt_tokens) if audio_seconds is None or endpoint not in AUDIO else audio_seconds
    )
    return Usage(prompt_tokens, completion_tokens, audio_seconds=seconds, source=UsageSource.ESTIMATED)
