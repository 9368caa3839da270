"""How many tokens an attempt used, and how we know."""

from enum import StrEnum

from router.domain.immutable import immutable


class UsageSource(StrEnum):
    """provider: its final usage. recovered: its running count when the stream was cut. tokenized: it said none, and its
    tokenizer counted the texts. estimated: ours. missing: none."""

    PROVIDER = "provider"
    RECOVERED = "recovered"
    TOKENIZED = "tokenized"
    ESTIMATED = "estimated"
    MISSING = "missing"


@immutable
class Usage:
    """Language tokens. Subsets are not added: cached is inside prompt, reasoning inside completion (OpenAI's convention;
    `wire/usage.py` converts Anthropic's, where cached tokens stand beside).

    cached_tokens: read from the prefix cache; cache_write_tokens: written to it at a price of their own (Anthropic).
    audio_seconds: input audio, where billed by time.
    provider_cost_nanousd: what the provider says it charged, None where it does not say.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_seconds: float = 0.0
    provider_cost_nanousd: int | None = None
    source: UsageSource = UsageSource.PROVIDER
