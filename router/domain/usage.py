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


# What providers call the tier that they serve and bill under when nobody asks for another: OpenAI (`default`), Anthropic
# (`standard`, asked for as `standard_only`) and Groq (`on_demand`); `auto` leaves it to them.
PLAIN_SERVICE_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})
SERVICE_TIER_CHARACTERS_MAX = 64


def service_tier_named(told: str) -> str:
    """A service tier as a request or an answer names it, fit to be shown; "" for the plain one."""
    if told in PLAIN_SERVICE_TIERS:
        return ""
    return (told if told.isprintable() else ascii(told))[:SERVICE_TIER_CHARACTERS_MAX]


# Calls of hosted tools, those that a provider runs itself and bills beside the tokens: how many of each, by its name. Of what is
# billed by the time that a container stands (code execution), a container is a call.
ToolCalls = tuple[tuple[str, int], ...]
TOOL_CHARACTERS_MAX = 64


@immutable
class Usage:
    """Language tokens. Subsets are not added: cached is inside prompt, reasoning inside completion (OpenAI's convention;
    `wire/usage.py` converts Anthropic's, where cached tokens stand beside).

    cached_tokens: read from the prefix cache; cache_write_tokens: written to it at a price of their own (Anthropic), and of these
        cache_write_hour_tokens to be kept for an hour, at another.
    audio_seconds: input audio, where billed by time.
    provider_cost_nanousd: what the provider says it charged, None where it does not say.
    service_tier: under which the provider says it has served, or was asked to where it does not say; "" for its plain one, that
        it serves under when nobody asks for another.
    tool_calls: of hosted tools, as the provider tells them, or as was expected where it does not tell; sorted by name.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_seconds: float = 0.0
    provider_cost_nanousd: int | None = None
    source: UsageSource = UsageSource.PROVIDER
    # In the order of their coming, for the journal tells members by their place.
    cache_write_hour_tokens: int = 0
    service_tier: str = ""
    tool_calls: ToolCalls = ()
