"""What each replica of a site would be for this request: the forecasts and the quote that every policy reads, and how a replica
that sleeps differs. What few policies read a `Prospect` works out by itself.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple

from router.domain.decision import Candidate
from router.domain.fleet import IDLE, Load, Snapshot
from router.pricing.drift import Drifts
from router.pricing.forecast import prompt_work
from router.selection.ask import Ask
from router.selection.prospect import CARRIED, ColdProspect, Prospect, metered_nanousd
from router.selection.site import Seat, Site

# Providers cache nothing shorter (OpenAI and Anthropic document 1,024 tokens).
METERED_CACHED_TOKENS_MIN = 1024


class Sight(NamedTuple):
    """What is known of the fleet now. fresh_from: scrapes from before that time are not believed; is_stale: there are some."""

    snapshot: Snapshot
    loads: Mapping[str, Load]
    now_seconds: float
    fresh_from: float
    is_stale: bool
    drifts: Drifts


def appraise(site: Site, seats: Iterable[Seat], ask: Ask, sight: Sight, candidates: list[Candidate]) -> None:
    """Add the replicas with their forecasts.

    This is what a decision over a large fleet costs, so what is the same for all replicas of a site comes before the loop, what
    changes only with a replica's load is in its outlook, and no function is called for one that nothing has happened to.

    One that we have not heard of for too long may have stood still since: it is forecast to answer that much later, so that
    it is asked last without being refused. One that was never scraped is taken as we know it from our own work.
    """
    lease = site.lease
    backend, quality = site.backend, ask.qualities[site.level] * site.quality_ratio
    hold_nanousd = site.worst_case(ask.request) if ask.are_holds_wanted else 0
    prompt_tokens, cached_tokens = ask.prompt_tokens, ask.cached_tokens
    rtt_seconds = site.rtt_seconds(ask.region) if ask.region else site.own_rtt_seconds
    egress_nanousd = round(ask.egress_bytes * site.egress_nanousd_per_byte) if site.egress_nanousd_per_byte else 0
    cached, is_stale, outlook, steps_ratio = 0, False, None, 1.0
    if lease is None:
        nanousd = metered_nanousd(site, ask, 0) + egress_nanousd
        experience = site.experience
        seconds_per_token = experience.ttft_seconds_per_token
        whole_seconds = ttft_seconds = rtt_seconds + experience.ttft_seconds + seconds_per_token * prompt_tokens
    else:
        is_stale = sight.is_stale
        site.survey(sight.snapshot.scrapes, sight.drifts, is_stale=is_stale)
        if site.drafting is not None:
            steps_ratio = site.drafting.steps_ratio(ask.kind)
        engine_seconds = lease.engine_seconds(prompt_tokens, ask.completion_tokens, 0.0, steps_ratio)
        rounding = egress_nanousd + 0.5
        if site.preempted is not None:
            engine_seconds *= 1 + site.loss_ratio(ask.completion_tokens * steps_ratio)
        work = prompt_work(lease.profile, prompt_tokens)
        own_seconds, work_memory_seconds, work_arithmetic_seconds, miss_ratio = work
        near_tokens, reach_seconds = prompt_tokens or inf, rtt_seconds
    offer = site, ask, steps_ratio
    load_of, new = sight.loads.get, object.__new__
    for seat in seats:
        load = load_of(seat.id, IDLE)
        if cached_tokens:
            cached = cached_tokens.get(seat.id, 0)
        if lease is None:
            if cached_tokens:
                if cached < METERED_CACHED_TOKENS_MIN:
                    cached = 0
                ttft_seconds = whole_seconds - seconds_per_token * cached
                nanousd = metered_nanousd(site, ask, cached) + egress_nanousd
        else:
            if is_stale:  # which may take the outlook away
                reach_seconds = rtt_seconds + seat.silent_seconds(sight.now_seconds, sight.fresh_from)
            outlook = seat.outlook
            if outlook is None or outlook.load is not load:
                outlook = seat.look(lease, load, site.drafting)
            if near_tokens <= outlook.near_tokens and not cached:  # `Pace` has the formula
                ttft_seconds = outlook.memory_seconds + work_memory_seconds
                if miss_ratio:
                    ttft_seconds -= outlook.experts_seconds * miss_ratio
                other_seconds = outlook.arithmetic_seconds + work_arithmetic_seconds
                if ttft_seconds < other_seconds:
                    ttft_seconds = other_seconds
                ttft_seconds = reach_seconds + (own_seconds + ttft_seconds) * outlook.ttft_ratio
                nanousd = int(engine_seconds * outlook.marginal_rate + rounding)
            else:
                ttft_seconds = reach_seconds + outlook.ttft_seconds(prompt_tokens - cached)
                own_engine_seconds = engine_seconds - cached * lease.cache_saving_seconds
                nanousd = int(own_engine_seconds * outlook.marginal_rate + rounding)
        # Field by field, for a call would cost as much again; those left out are properties.
        made = new(Prospect)
        made._offer = offer
        made._outlook = outlook
        made.backend = backend  # type: ignore[misc]
        made.replica = seat.replica  # type: ignore[misc]
        made.load = load  # type: ignore[misc]
        made.ttft_seconds = ttft_seconds  # type: ignore[misc]
        made.quality = quality  # type: ignore[misc]
        made.marginal_nanousd = nanousd  # type: ignore[misc]
        made.hold_nanousd = hold_nanousd  # type: ignore[misc]
        made.cached_tokens = cached  # type: ignore[misc]
        candidates.append(made)
    if site.scale_to_zero is not None:
        _add_cold_starts(site, sight.now_seconds, candidates)


def _add_cold_starts(site: Site, now_seconds: float, candidates: list[Candidate]) -> None:
    """Of the site's candidates, which are the last, those that sleep or are being started are forecast so much later, and those
    that sleep are quoted all the time for which they would be paid, less what was lost already because they slept."""
    terms, lease = site.scale_to_zero, site.lease
    assert terms is not None
    assert lease is not None
    sleepers = {seat.id: seat.sleeper for seat in site.seats}
    for place in range(len(candidates) - 1, -1, -1):
        warm = candidates[place]
        if warm.backend is not site.backend or type(warm) is ColdProspect:  # in a panic seats come one by one
            return
        sleeper = sleepers[warm.replica.id]
        assert isinstance(warm, Prospect)
        if warm.load.attempts == 0 and (sleeper is None or sleeper.is_asleep(now_seconds)):
            cold_start_seconds = terms.cold_start_seconds
            seconds = max(cold_start_seconds + warm.end_seconds + terms.idle_seconds, terms.billed_seconds_min)
            missed_nanousd = 0.0 if sleeper is None else sleeper.missed_nanousd(now_seconds)
            nanousd = max(round(seconds * lease.nanousd_per_second - missed_nanousd), 1)
        elif sleeper is not None and (cold_start_seconds := sleeper.starting_seconds(now_seconds)):
            nanousd = 0
        else:
            continue
        cold = object.__new__(ColdProspect)
        for name in CARRIED:
            object.__setattr__(cold, name, getattr(warm, name))
        cold.ttft_seconds += cold_start_seconds  # type: ignore[misc]
        cold.marginal_nanousd += nanousd  # type: ignore[misc]
        cold._cold = cold_start_seconds, nanousd
        candidates[place] = cold
