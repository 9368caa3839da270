"""What a request's own terms leave of the candidates: its price ceiling, its deadline; and who is turned away in a rush.

All of it is settled before a policy sees a candidate, and what is left out is told, as everything is that cannot serve.
"""

from collections.abc import Sequence
from typing import NamedTuple

from router.domain.budget import exact_dollars
from router.domain.decision import Candidate, Exclusion
from router.domain.request import Criticality, Endpoint, InferenceRequest, less_text
from router.errors import DeadlineUnreachable, Overloaded, PriceCeiling

CEILING_HEADER = "x-jeton-max-usd"
DEADLINE_HEADER = "x-jeton-deadline-ms"


class Shedding(NamedTuple):
    """How long a request may have to wait for others before those of its kind are turned away; critical ones never are."""

    sheddable_wait_seconds: float
    standard_wait_seconds: float

    def limit_seconds(self, criticality: Criticality) -> float:
        if criticality is Criticality.CRITICAL:
            return float("inf")
        return self.sheddable_wait_seconds if criticality is Criticality.SHEDDABLE else self.standard_wait_seconds


def within_terms(request: InferenceRequest, candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Exclusion]]:
    """At least one of the candidates, and why the others are none any more. Raises PriceCeiling, DeadlineUnreachable.

    A streamed request meets its deadline with its first token, a whole answer with its last one.
    """
    terms = request.terms
    kept = list(candidates)
    exclusions: list[Exclusion] = []
    ceiling = terms.cost_nanousd_max
    if ceiling is not None:
        affordable = [one for one in kept if one.hold_nanousd <= ceiling]
        if not affordable:
            least = min(one.hold_nanousd for one in kept)
            raise PriceCeiling(
                f"No backend can promise to answer within {exact_dollars(ceiling)}: the cheapest may cost up to"
                f" {exact_dollars(least)}. Raise {CEILING_HEADER}, or {less_text(request.endpoint)}.",
                param=CEILING_HEADER,
            )
        why = "may cost up to {}, above the request's ceiling of " + exact_dollars(ceiling)
        exclusions += [
            _excluded(one, why.format(exact_dollars(one.hold_nanousd))) for one in kept if one.hold_nanousd > ceiling
        ]
        kept = affordable
    deadline = terms.deadline_seconds
    if deadline is not None:
        times = [(one.ttft_seconds if request.is_streaming else one.end_seconds) - one.silent_seconds for one in kept]
        if min(times) > deadline:
            raise DeadlineUnreachable(
                f"No backend is forecast to answer within the deadline of {deadline:g} s; the quickest would take"
                f" {min(times):.2f} s.",
                param=DEADLINE_HEADER,
                retry_after_seconds=max(min(times) - deadline, 1.0),
            )
        exclusions += [
            _excluded(one, f"forecast to take {seconds:.2f} s, beyond the deadline of {deadline:g} s")
            for one, seconds in zip(kept, times, strict=True)
            if seconds > deadline
        ]
        kept = [one for one, seconds in zip(kept, times, strict=True) if seconds <= deadline]
    return kept, exclusions


def ceiling_reached(ceiling_nanousd: int, spent_nanousd: int, least_nanousd: int, endpoint: Endpoint) -> PriceCeiling:
    """What the client hears when earlier attempts left too little of its ceiling for all that could still be asked.

    least_nanousd: what the cheapest of these may cost.
    """
    return PriceCeiling(
        f"No other backend can promise to answer within {exact_dollars(ceiling_nanousd)}: what was tried may have cost"
        f" {exact_dollars(spent_nanousd)}, and the cheapest that is left may cost up to {exact_dollars(least_nanousd)}."
        f" Raise {CEILING_HEADER}, or {less_text(endpoint)}.",
        param=CEILING_HEADER,
    )


def refuse_in_a_rush(request: InferenceRequest, candidates: Sequence[Candidate], shedding: Shedding) -> None:
    """Raises Overloaded where work of this criticality would wait too long for others even at the idlest candidate.

    A long prompt takes its time on an idle replica, too: that is not counted, and neither is silence.
    """
    limit_seconds = shedding.limit_seconds(request.terms.criticality)
    wait_seconds = min(candidate.wait_seconds for candidate in candidates)
    if wait_seconds > limit_seconds:
        raise Overloaded(
            f"Too much is asked for at once: {request.terms.criticality} requests are turned away while they would wait more than"
            f" {limit_seconds:g} s for their turn.",
            retry_after_seconds=max(wait_seconds - limit_seconds, 1.0),
        )


def _excluded(candidate: Candidate, why: str) -> Exclusion:
    return Exclusion(candidate.backend.name, candidate.replica.id, why)
