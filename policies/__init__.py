"""Routing policies, one per file, and the orders that they share.

A policy ranks the candidates that may serve a request, best first; the order is also the failover order. The file's name is
the policy's name, its class the same in CamelCase, a frozen pydantic class whose fields are its parameters in YAML:

    rank(request, candidates) -> list[Choice]    every candidate exactly once, each with one of `reasons`
    reasons: ClassVar[tuple[str, ...]]           a fixed vocabulary: a reason becomes a label and a header
    needs: ClassVar[frozenset[str]]              of "quality", "tiers", "price", "ttft", "prefix", "edge", "spot": what it
                                                 decides on; jeton will not start where the fleet lacks it

A file's docstring says what the policy prefers, and after "When:" in which case it is the right one (`jeton policy list`).

No clock, no randomness, no I/O: the same object runs in the router, the simulator and the replay. What must be remembered
between two requests lives on the instance. Nothing is registered; to add a policy, add a file.
"""

from collections.abc import Iterable
from typing import Any

from router.domain.decision import Candidate

# Every order ends in the replica's id, so that equal candidates always come out alike. Before it come the quote and the work
# in flight, so that equal replicas share the work. One sort by tuples: where the first numbers differ, as they do in a busy
# fleet, the others are not looked at.


def cheapest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """By what this request adds to the bill; of equals the least busy."""
    return sorted(candidates, key=_by_quote)


def quickest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """By the time to the first token; of equals the least busy."""
    return sorted(candidates, key=_by_ttft)


# A time at most so much longer than the least is taken to be as short: forecasts may be off by as much (the goal in
# `docs/quote-errors.md`), while prices differ a hundredfold.
ALIKE_RATIO = 1.25

# Nine answers in ten take at most so much longer for a token than the median does, for how many prompts come while one lasts is
# chance: 1.18 to 1.32 on the scenarios of `load/bench/comparison` with chat's lengths, more in bursts and of short answers.
# What is promised for each answer is asked of a forecast with this in hand; that of a first token is late by a fifth as it is.
TPOT_SCATTER_RATIO = 1.25


def soonest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Of those that begin about as soon as the quickest the cheapest first; then the others, the quickest first."""
    ranked = quickest_first(candidates)
    if not ranked:
        return ranked
    latest_seconds = ALIKE_RATIO * ranked[0].ttft_seconds
    alike = [candidate for candidate in ranked if candidate.ttft_seconds <= latest_seconds]
    return cheapest_first(alike) + ranked[len(alike) :]


def on_time_first(candidates: Iterable[Candidate], ttft_seconds_max: float) -> list[Candidate]:
    """Those forecast to begin in time, the cheapest first; then the others, the soonest first."""
    candidates = list(candidates)
    late = [candidate for candidate in candidates if candidate.ttft_seconds > ttft_seconds_max]
    if not late:
        return cheapest_first(candidates)
    on_time = [candidate for candidate in candidates if candidate.ttft_seconds <= ttft_seconds_max]
    return cheapest_first(on_time) + soonest_first(late)


def idlest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """By attempts in flight, then prompt tokens that wait for prefill; of equals the cheapest."""
    return sorted(candidates, key=_by_load)


def _by_quote(one: Candidate) -> tuple[Any, ...]:
    return one.marginal_nanousd, one.load.attempts, one.ttft_seconds, one.replica.id


def _by_ttft(one: Candidate) -> tuple[Any, ...]:
    return one.ttft_seconds, one.load.attempts, one.marginal_nanousd, one.replica.id


def _by_load(candidate: Candidate) -> tuple[Any, ...]:
    load = candidate.load
    return load.attempts, load.prefill_tokens, candidate.marginal_nanousd, candidate.replica.id
