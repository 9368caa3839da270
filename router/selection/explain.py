"""The JSON of `/jeton/explain`: a decision in full, for people and for tools. Contains no prompt and no address."""

from typing import Any

from pydantic import BaseModel

from router.domain.budget import dollars
from router.domain.decision import Candidate, Choice, Decision, Policy
from router.domain.money import usd_text
from router.domain.request import InferenceRequest, Terms
from router.pricing.yields import answer_kind
from router.selection.acceptance import why_untested
from router.selection.lessons import Lessons

EXCLUSIONS_SUMMED_UP = 3


def explain(
    request: InferenceRequest,
    decision: Decision,
    lessons: Lessons | None = None,
    policy: Policy | None = None,
) -> dict[str, Any]:
    """What was seen of the request and predicted, how every candidate ranks and why, and why the others are none; and the
    whole in a few sentences.

    Money in USD and nano-dollars. Whether an answer is tested is told as if what is before it had cost nothing.
    lessons: what was learned of the candidates, which is in their forecasts and quotes. policy: the one that ranked them.
    """
    prediction = decision.prediction
    length = lessons.lengths.of(request, prediction) if lessons else None
    kind = answer_kind(request, prediction.category if prediction is not None else "")
    return {
        "summary": _summary(request, decision),
        "features": {
            "model": request.model,
            "endpoint": request.endpoint.value,
            "needs": sorted(request.needs),
            "prompt_tokens_estimate": request.prompt.tokens_estimate,
            "completion_tokens_max": request.completion_tokens_max,
            "choices": request.choices,
            "turns": request.prompt.turns,
            "is_streaming": request.is_streaming,
            "service_tier": request.service_tier or None,
            "hosted_tools": request.hosted_tools and dict(request.hosted_tools.calls),
            "terms": _terms(request.terms),
        },
        "policy": decision.policy,
        "policy_parameters": policy.model_dump(mode="json") if isinstance(policy, BaseModel) else {},
        "baseline": decision.baseline,
        "is_degraded": decision.is_degraded,
        "prediction": prediction
        and {
            "small_suffices": prediction.small_suffices,
            "completion_tokens": prediction.completion_tokens,
            "category": prediction.category,
            "uncertainty": prediction.uncertainty,
        },
        "length_correction": length and {"ratio": length.ratio, "answers": length.answers},
        "ranking": [
            _choice(rank, choice, lessons, kind, why_untested(request, decision.choices, rank - 1))
            for rank, choice in enumerate(decision.choices, start=1)
        ],
        "exclusions": [
            {"backend": exclusion.backend, "replica": exclusion.replica or None, "why": exclusion.why}
            for exclusion in decision.exclusions
        ],
    }


def _summary(request: InferenceRequest, decision: Decision) -> str:
    sentences = []
    if decision.choices:
        first, *others = decision.choices
        one = first.candidate
        sentences.append(
            f"{one.replica.id} would answer, by `{decision.policy}`: {first.reason}. Its quality is taken to be"
            f" {one.quality:.2f}, its first token is expected in {one.ttft_seconds:.2f} s, and of some"
            f" {one.completion_tokens:.0f} tokens the last in {one.end_seconds:.1f} s; it would add"
            f" {dollars(one.marginal_nanousd)} to the bill."
        )
        untested = why_untested(request, decision.choices, 0)
        if first.acceptance is not None and untested:
            sentences.append(f"Its answer would be kept without a test: {untested}.")
        if others:
            next_one = others[0].candidate
            when = "If it fails" if untested else "If it fails, or its answer does not pass its test"
            sentences.append(
                f"{when}, {next_one.replica.id} is next: {others[0].reason} (quality {next_one.quality:.2f},"
                f" {next_one.ttft_seconds:.2f} s, {dollars(next_one.marginal_nanousd)})."
            )
    if decision.is_degraded:
        sentences.append("A budget is nearly spent, so that dearer tiers or pools were left out.")
    if decision.exclusions:
        told = [f"{one.replica or one.backend}: {one.why}" for one in decision.exclusions[:EXCLUSIONS_SUMMED_UP]]
        more = len(decision.exclusions) - len(told)
        sentences.append(f"Left out: {'; '.join(told)}{f'; and {more} more' if more else ''}.")
    return " ".join(sentences)


def _terms(terms: Terms) -> dict[str, Any]:
    ceiling = terms.cost_nanousd_max
    return {
        "cost_usd_max": None if ceiling is None else usd_text(ceiling),
        "deadline_seconds": terms.deadline_seconds,
        "criticality": terms.criticality.value,
        "region": terms.region,
    }


def _choice(rank: int, choice: Choice, lessons: Lessons | None, kind: str, untested: str) -> dict[str, Any]:
    """untested: why its answer is not put to its test, if it is not."""
    candidate, acceptance = choice.candidate, choice.acceptance
    drift = lessons.drifts.of(candidate.replica.id) if lessons else None
    backend = candidate.backend
    experience = lessons.experiences.of(backend.name) if lessons else None
    drafting = lessons.yields.of(backend.name) if lessons else None
    preempted = lessons.preemptions.of(backend.name) if lessons else None
    return {
        "rank": rank,
        "reason": choice.reason,
        "backend": backend.name,
        "replica": candidate.replica.id,
        "pool": backend.pool.name,
        "model": backend.model,
        "quantization": backend.quantization,
        "tier": backend.tier,
        "billing": backend.pool.billing.value,
        "quality": candidate.quality,
        "quality_ratio": backend.quality_ratio,
        "ttft_seconds": candidate.ttft_seconds,
        "tpot_seconds": candidate.tpot_seconds,
        "cold_start_seconds": candidate.cold_start_seconds,
        "profile_correction": drift and {"ttft_ratio": drift.ttft.ratio, "tpot_ratio": drift.tpot.ratio},
        "experience": experience
        and {
            "availability_ratio": experience.availability_ratio,
            "ttft_seconds": experience.ttft_seconds,
            "ttft_seconds_per_token": experience.ttft_seconds_per_token,
            "tpot_seconds": experience.tpot_seconds,
            "attempts": experience.attempts,
            "answers": experience.answers,
        },
        "drafting": drafting
        and {
            "kind": kind,
            "tokens_per_step": drafting.tokens_per_step(kind),
            "profile_tokens_per_step": drafting.prior_tokens_per_step,
            "answers": drafting.answers(kind),
        },
        "preemption": preempted
        and {
            "per_hour": preempted.per_hour,
            "away_seconds": preempted.away_seconds,
            "seen": preempted.count,
            "hours": preempted.hours,
        },
        "completion_tokens": candidate.completion_tokens,
        "cached_tokens": candidate.cached_tokens,
        "fill_ratio": candidate.fill_ratio,
        "acceptance": None
        if acceptance is None or untested
        else {
            "logprob_mean_min": acceptance.logprob_mean_min,
            "stream_tokens": acceptance.stream_tokens,
            "must_parse": acceptance.must_parse,
        },
        "untested_because": None if acceptance is None else untested or None,
        "quote": _quote(candidate),
        "waking": {"usd": usd_text(candidate.waking_nanousd), "nanousd": candidate.waking_nanousd},
        "hold": {"usd": usd_text(candidate.hold_nanousd), "nanousd": candidate.hold_nanousd},
        "load": {
            "attempts": candidate.load.attempts,
            "prefill_tokens": candidate.load.prefill_tokens,
            "decoding": candidate.load.decoding,
            "context_tokens": candidate.load.context_tokens,
        },
    }


def _quote(candidate: Candidate) -> dict[str, dict[str, str | int]]:
    quote = candidate.quote
    bases = {
        "allocated": quote.allocated_nanousd,
        "standard": quote.standard_nanousd,
        "marginal": quote.marginal_nanousd,
    }
    return {basis: {"usd": usd_text(nanousd), "nanousd": nanousd} for basis, nanousd in bases.items()}
