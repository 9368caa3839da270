"""The most that one attempt can cost: what a budget holds for it until the real cost is known.

On a metered backend this is a bound: price × the largest usage that the request and the backend allow. A provider that charges
above its own list, one that serves under a dearer service tier than it was asked for, `best_of`, and hosted tools (the calls that
a request does not bound are assumed, `wire/hosted_tools.py`; each may have the prompt read again) are all that can exceed it.

On a leased one nothing bounds an attempt but its deadline, and a budget that held an hour of a GPU for every request would be
of no use. It holds ALONE_FACTOR × what the attempt costs alone on the replica for its largest completion, where it pays for
every second, and where every step yields one token, whatever was drafted; in company it takes longer, and pays for a part of it.
A client that reads slowly on an otherwise idle replica can exceed this; the excess is charged all the same, and is then the
overshoot.
"""

from math import ceil

from router.domain.request import HostedTools
from router.pricing.cost import TOKENS_PER_RATE
from router.pricing.price import MeteredPrice, Tariff, TokenRates
from router.pricing.quote import Lease
from router.pricing.standard import SECONDS_PER_HOUR

# Profiles miss measured times by 11 % in the median (`profile.py`), charges by 14–24 % at the 95th percentile (`weights.py`).
ALONE_FACTOR = 2
# What an attempt takes beside the engine's work: connecting, the engine's HTTP server, our own.
HANDLING_SECONDS = 0.05


def metered_worst_case(tariff: Tariff, prompt_tokens: int, completion_tokens: int, audio_seconds: float = 0.0) -> int:
    """Nano-dollars, rounded up; all arguments at their largest. Each token at the dearest rate that it can meet."""
    reachable = [tariff.rates, *(tier.rates for tier in tariff.tiers if prompt_tokens > tier.above_prompt_tokens)]
    tokens = prompt_tokens * max(map(_dearest_prompt, reachable)) + completion_tokens * max(
        rates.completion for rates in reachable
    )
    audio = audio_seconds * tariff.audio_nanousd_per_hour / SECONDS_PER_HOUR
    return -(-tokens // TOKENS_PER_RATE) + int(audio) + bool(audio) + tariff.request_nanousd


def tools_worst_case(price: MeteredPrice, tools: HostedTools) -> int:
    """Nano-dollars of the calls of hosted tools beside the tokens: the dearest first, as long as there can be any. Those that the
    price has no fee for are left out."""
    fees = [(price.tool_nanousd(tool), calls) for tool, calls in tools.calls]
    left, nanousd = tools.calls_max, 0
    for fee, calls in sorted(((fee, calls) for fee, calls in fees if fee is not None), reverse=True):
        made = min(calls, left)
        nanousd += made * fee
        left -= made
    return nanousd


def leased_worst_case(
    lease: Lease, prompt_tokens: int, completion_tokens: int, rtt_seconds: float, *, starting_seconds: float = 0.0
) -> int:
    """Nano-dollars, at least 1 where an hour costs anything. starting_seconds: what the replica takes to be started, paid by whom
    it is started for."""
    handling = (HANDLING_SECONDS + 2 * rtt_seconds) * lease.nanousd_per_second
    starting = starting_seconds * lease.nanousd_per_second
    return ceil(ALONE_FACTOR * (lease.alone_nanousd(prompt_tokens, completion_tokens) + starting) + handling)


def _dearest_prompt(rates: TokenRates) -> int:
    return max(rates.prompt, rates.cached, rates.cache_write, rates.hour_write)
