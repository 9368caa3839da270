"""Errors of the rules over all mixes, profiles and loads, and how near the truth's rule is to Shapley's value; as Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import NamedTuple

from load.attribution import rules
from load.attribution.mixes import CONCURRENCIES, MIXES, Mix
from load.attribution.run import Outcome, run
from load.engine import StepMember
from load.engine.shares import shapley_seconds, shares_of_step, step_of
from router.pricing.profile import EngineProfile

MEDIAN_MAX = 0.10
P95_MAX = 0.30
# A cell whose 95th percentile is beyond this part of the goal is told of twice.
NEAR_RATIO = 0.6

# Requests of a cell: enough for a 95th percentile, and several generations of every client.
REQUESTS = 400
REQUESTS_PER_CLIENT = 8
SHAPLEY_MEMBERS_MAX = 8
SHAPLEY_PERMUTATIONS = 50


class Errors(NamedTuple):
    """|charged ÷ true − 1| over requests; 0.1 is 10 %."""

    median: float
    p95: float

    @property
    def holds(self) -> bool:
        return self.median <= MEDIAN_MAX and self.p95 <= P95_MAX

    def __str__(self) -> str:
        return f"{_percent(self.median)} / {_percent(self.p95)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One cell: every rule's errors. known_lengths: the meter's, when the router knows how long each completion will be.
    unknown_hits: the meter's, when it does not know what is cached. whole: the meter's, for answers that are not streamed, so
    that no first token is seen."""

    profile: str
    mix: str
    clients: int
    seed: int
    preemptions: int
    meter: Errors
    known_lengths: Errors
    unknown_hits: Errors | None
    whole: Errors
    flat: Errors
    fixed: Errors
    wall: Errors

    @property
    def holds(self) -> bool:
        return self.meter.holds


def rows(
    profiles: Mapping[str, EngineProfile],
    mixes: Sequence[Mix] = MIXES,
    concurrencies: Sequence[int] = CONCURRENCIES,
    *,
    seed: int = 1,
) -> Iterator[Row]:
    for name, profile in profiles.items():
        for mix in mixes:
            for clients in concurrencies:
                yield row(name, profile, mix, clients, seed=seed)


def row(name: str, profile: EngineProfile, mix: Mix, clients: int, *, seed: int = 1) -> Row:
    wanted = REQUESTS + REQUESTS_PER_CLIENT * clients
    outcome = run(profile, mix, clients, wanted, seed=seed)
    counted = range(clients, wanted)  # after the first of every client, all under the same load
    expected = mix.completion_tokens_mean()

    def errors(charges: Sequence[float]) -> Errors:
        return _errors(outcome, charges, counted)

    requests = outcome.requests
    unknown = rules.metered(profile, outcome, expected, is_hit_known=False) if mix.prefix_groups else None
    return Row(
        name,
        mix.name,
        clients,
        seed,
        outcome.engine.counters.preemptions,
        errors(rules.metered(profile, outcome, expected)),
        errors(rules.metered(profile, outcome, None)),
        None if unknown is None else errors(unknown),
        errors(rules.metered(profile, outcome, expected, is_streaming=False)),
        errors(rules.flat_per_token(requests)),
        errors(rules.fixed_ratio(requests)),
        errors(rules.wall_time(requests)),
    )


def _errors(outcome: Outcome, charges: Sequence[float], counted: range) -> Errors:
    """Over those that took some of the engine: one that left before its first step has no true share to compare with."""
    found = sorted(
        abs(charges[position] / request.truth_seconds - 1)
        for position in counted
        if (request := outcome.requests[position]).truth_seconds > 0
    )
    return Errors(median(found), found[min(len(found) - 1, int(0.95 * len(found)))])


class Nearness(NamedTuple):
    """|share ÷ Shapley's value − 1| over the sequences of steps, those with prompts and those without."""

    profile: str
    mix: str
    steps: int
    prompts: Errors
    decodes: Errors


def nearness(name: str, profile: EngineProfile, mix: Mix, *, seed: int = 1) -> Nearness:
    """Over the steps with prompts, and every twentieth of the others, of a run with few clients."""
    random = Random(seed)
    prompts: list[float] = []
    decodes: list[float] = []
    seen = taken = 0

    def compare(members: list[StepMember]) -> None:
        nonlocal seen, taken
        seen += 1
        if not any(member.prefill_tokens for member in members) and seen % 20:
            return
        taken += 1
        value: Callable[[Sequence[StepMember]], float] = lambda some: step_of(profile, some)  # noqa: E731
        exact = shapley_seconds(members, value, SHAPLEY_PERMUTATIONS, random)
        for member, share, wanted in zip(members, shares_of_step(profile, members), exact, strict=True):
            (prompts if member.prefill_tokens else decodes).append(abs(share / wanted - 1))

    run(profile, mix, SHAPLEY_MEMBERS_MAX, 60, seed=seed, on_step=compare)
    return Nearness(name, mix.name, taken, _summary(prompts), _summary(decodes))


def _summary(found: list[float]) -> Errors:
    ordered = sorted(found)
    return Errors(median(ordered), ordered[int(0.95 * (len(ordered) - 1))])


# ---------------------------------------------------------------------- Markdown


def page(rows: Sequence[Row], near: Sequence[Nearness], *, date: str, version: str, data: str) -> str:
    """The whole document. rows: of one seed or more; the first's are shown in full. data: what the profiles were fitted to."""
    seeds = list(dict.fromkeys(one.seed for one in rows))
    found = [one for one in rows if one.seed == seeds[0]]
    again = {(one.profile, one.mix, one.clients, one.seed): one for one in rows}
    holding = " and in ".join(
        f"{sum(one.holds for one in rows if one.seed == seed)} of {len(found)} cells of seed {seed}" for seed in seeds
    )
    lines = [
        "# What the meter charges against what a request took",
        "",
        f"Written by `jeton attribution --out docs/attribution-errors.md` on {date} (jeton {version}). Do not edit.",
        f"The profiles' constants are fitted to: {data}.",
        "",
        "The engine of `load/engine` shares the time of every step among the sequences in it (`router/pricing/shares.py`): that",
        "is the truth. `router/pricing/meter.py` divides the same time by weights (`router/pricing/weigher.py`) that it is told",
        "at three events a request: dispatched, first token, ended. An error is |charged ÷ true − 1| of one request; each cell",
        "says the median and the 95th percentile over the requests of a run. Clients ask again 50 ms after an answer",
        "(exponential), so many at once all the time; the router expects the mix's mean completion, not the request's own.",
        "",
        "Beside it: *flat* charges every token alike; *1:4* a completion token as four prompt tokens, and a cached one as a",
        "tenth; *wall time* by how long a request took. These three are scaled to the true total, which flatters them.",
        "",
        f"Goal: median ≤ {_percent(MEDIAN_MAX)}, p95 ≤ {_percent(P95_MAX)}. It holds in {holding};",
        "**where it does not, the cell is bold**.",
        "",
        "What a prompt took is settled when its first token comes, so how long its completion will be, and whether its client",
        "leaves, is no matter; a decode pays alike with all that decode, whose number the meter knows at any time, and by its",
        "cache, with which its weight grows. What remains is what nobody outside the engine sees: with twice as many long",
        "prompts as the cache holds some are preempted and read anew, and those that decode meanwhile pay for that.",
        "",
        "## Every mix, over all profiles and loads",
        "",
        "| mix | meter: mean | meter: worst of all seeds | flat: mean | 1:4: mean | wall time: mean |",
        "|---|---|---|---|---|---|",
    ]
    for mix in dict.fromkeys(one.mix for one in found):
        cells = [one for one in found if one.mix == mix]
        meters = [one.meter for one in rows if one.mix == mix]
        worst = Errors(max(one.median for one in meters), max(one.p95 for one in meters))
        means = [_mean([getattr(one, rule) for one in cells]) for rule in ("meter", "flat", "fixed", "wall")]
        lines.append(f"| {mix} | {means[0]} | {worst} | {means[1]} | {means[2]} | {means[3]} |")
    for profile in dict.fromkeys(one.profile for one in found):
        lines += [
            "",
            f"## {profile}",
            "",
            f"| mix | at once | {' | '.join(f'meter, seed {seed}' for seed in seeds)} | flat | 1:4 | wall time | preemptions |",
            "|---|---|" + "---|" * (len(seeds) + 4),
        ]
        for one in found:
            if one.profile == profile:
                of_seeds = [again[one.profile, one.mix, one.clients, seed] for seed in seeds]
                meters_seen = " | ".join(
                    str(other.meter) if other.holds else f"**{other.meter}**" for other in of_seeds
                )
                lines.append(
                    f"| {one.mix} | {one.clients} | {meters_seen} | {one.flat} | {one.fixed} | {one.wall} | {one.preemptions} |"
                )
    lines += _known_lengths(found)
    lines += _unknown_hits(found)
    lines += _whole(found)
    lines += [
        "",
        "## The truth's rule against Shapley's value",
        "",
        f"Steps of at most {SHAPLEY_MEMBERS_MAX} sequences: |share ÷ value − 1| of each, the value by sampling"
        f" {SHAPLEY_PERMUTATIONS} orders and all",
        "their rotations. Median and 95th percentile over sequences and steps; every step with a prompt, one in twenty of the",
        "others.",
        "",
        "| profile | mix | steps | prompts | decodes |",
        "|---|---|---|---|---|",
        *(f"| {one.profile} | {one.mix} | {one.steps:,} | {one.prompts} | {one.decodes} |" for one in near),
        "",
    ]
    return "\n".join(lines)


def _known_lengths(found: Sequence[Row]) -> list[str]:
    holding = sum(one.known_lengths.holds for one in found)
    lines = [
        "",
        "## Completions whose length is known",
        "",
        "Above, every completion is expected to be as long as the mix's mean. Where clients bound theirs, as `max_tokens` does,",
        "the router knows, and with it how soon others leave room where the cache is overcommitted. The goal then holds in"
        f" {holding} of",
        f"{len(found)} cells. Those that miss it in either way, or are not far from it:",
        "",
        "| profile | mix | at once | meter, mean expected | meter, length known | preemptions |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        if max(one.meter.p95, one.known_lengths.p95) > NEAR_RATIO * P95_MAX:
            cells = [str(errors) if errors.holds else f"**{errors}**" for errors in (one.meter, one.known_lengths)]
            lines.append(f"| {one.profile} | {one.mix} | {one.clients} | {cells[0]} | {cells[1]} | {one.preemptions} |")
    return lines


def _unknown_hits(found: Sequence[Row]) -> list[str]:
    lines = [
        "",
        "## Prefix hits that the router does not know of",
        "",
        "Above, the router knows what is cached when it sends a request. When it does not, it takes as much of a prompt for work",
        "as was computed of those that ended before, and gives back what was charged too much when the usage says so:",
        "",
        "| profile | at once | meter, hits known | meter, hits unknown |",
        "|---|---|---|---|",
    ]
    for one in found:
        if one.unknown_hits is not None:
            lines.append(f"| {one.profile} | {one.clients} | {one.meter} | {one.unknown_hits} |")
    return lines


def _whole(found: Sequence[Row]) -> list[str]:
    lines = [
        "",
        "## Answers that are not streamed",
        "",
        "Of these the router sees no first token, so one weight, told at dispatch, stands for prompt and completion, whatever",
        "the lengths turn out to be. If nothing were streamed at all, mean over all profiles and loads:",
        "",
        "| mix | streamed | not streamed | flat |",
        "|---|---|---|---|",
    ]
    for mix in dict.fromkeys(one.mix for one in found):
        cells = [one for one in found if one.mix == mix]
        means = [_mean([getattr(one, rule) for one in cells]) for rule in ("meter", "whole", "flat")]
        lines.append(f"| {mix} | {means[0]} | {means[1]} | {means[2]} |")
    return lines


def _mean(errors: Sequence[Errors]) -> Errors:
    return Errors(sum(one.median for one in errors) / len(errors), sum(one.p95 for one in errors) / len(errors))


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %" if ratio < 0.0995 else f"{100 * ratio:.0f} %"
