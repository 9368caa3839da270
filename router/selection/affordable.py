"""Which candidates a budget leaves: first those whose worst case fits what is left, then those to which it is degraded.

A budget under pressure steers what can be steered and refuses last: where none of the tiers and pools to which it is degraded
can serve a request (a model that was asked for by name, embeddings), the request goes where it would have gone.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from router.domain.budget import Allowance, Period, dollars
from router.domain.decision import Candidate, Exclusion
from router.domain.request import Endpoint, less_text
from router.errors import BudgetExceeded

# A budget may be raised before it renews, so nobody is told to stay away for a month.
RETRY_SECONDS_MAX = 3600.0
# Running requests hold their worst case; most give back nearly all of it within seconds.
HELD_RETRY_SECONDS = 1.0
NS_PER_SECOND = 1e9


class Affordable(NamedTuple):
    candidates: list[Candidate]
    exclusions: list[Exclusion]
    is_degraded: bool


def affordable(candidates: list[Candidate], allowance: Allowance, now_ns: int, endpoint: Endpoint) -> Affordable:
    """At least one of the candidates, and why the others are none any more. Raises BudgetExceeded."""
    exclusions: list[Exclusion] = []
    fitting = []
    for candidate in candidates:
        if candidate.hold_nanousd <= allowance.left_nanousd:
            fitting.append(candidate)
        else:
            exclusions.append(_excluded(candidate, _too_dear(candidate.hold_nanousd, allowance)))
    if not fitting:
        least_nanousd = min(candidate.hold_nanousd for candidate in candidates)
        raise refuse_over_budget(least_nanousd, allowance, now_ns, endpoint).of(allowance.budget.tenant)
    is_degraded = False
    for degrade, budget in allowance.degrades:
        kept = [
            candidate for candidate in fitting if degrade.admits(candidate.backend.tier, candidate.backend.pool.name)
        ]
        if not kept or len(kept) == len(fitting):
            continue
        why = f"{degrade.at_ratio:.0%} of the {budget} is used, so {degrade} serves"
        exclusions += [_excluded(candidate, why) for candidate in fitting if candidate not in kept]
        fitting, is_degraded = kept, True
    return Affordable(fitting, exclusions, is_degraded)


def refuse_over_budget(hold_nanousd: int, allowance: Allowance, now_ns: int, endpoint: Endpoint) -> BudgetExceeded:
    """429: which budget, how much is left, when it renews, and what else would help."""
    budget, span = allowance.budget, allowance.span
    left_nanousd = max(allowance.left_nanousd, 0)
    message = f"The {budget} cannot take this request: it may cost up to {dollars(hold_nanousd)}, and "
    message += f"{dollars(left_nanousd)} is left."
    if hold_nanousd > budget.limit_nanousd:
        return BudgetExceeded(f"{message} That is more than the whole budget: {less_text(endpoint)}.")
    retry_after_seconds: float | None = None
    advice = f", or {less_text(endpoint)}." if left_nanousd else "."
    if hold_nanousd <= allowance.unspent_nanousd:
        message += (
            f" Running requests hold {dollars(allowance.unspent_nanousd - left_nanousd)}; try again when they end"
        )
        retry_after_seconds = HELD_RETRY_SECONDS
    elif span.end_ns is None or budget.period is Period.TOTAL:
        message += " It does not renew"
        advice = f": {less_text(endpoint)}." if left_nanousd else "."
    else:
        message += f" It renews at {_time_text(span.end_ns)}"
        advice = f"; until then {less_text(endpoint)}." if left_nanousd else "."
        retry_after_seconds = min(max((span.end_ns - now_ns) / NS_PER_SECOND, 1.0), RETRY_SECONDS_MAX)
    return BudgetExceeded(message + advice, retry_after_seconds=retry_after_seconds)


def _too_dear(hold_nanousd: int, allowance: Allowance) -> str:
    left = dollars(max(allowance.left_nanousd, 0))
    return f"may cost up to {dollars(hold_nanousd)}, and {left} is left of the {allowance.budget}"


def _excluded(candidate: Candidate, why: str) -> Exclusion:
    return Exclusion(candidate.backend.name, candidate.replica.id, why)


def _time_text(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns / NS_PER_SECOND, UTC):%Y-%m-%dT%H:%MZ}"
