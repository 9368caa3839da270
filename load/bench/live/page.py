"""The figures of one policy, and the page of all of them. Pure but for the date."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from load.bench.live.case import FLEET, OBJECTIVES, TPOT_SECONDS_MAX, TTFT_SECONDS_MAX, Case
from load.drive.outcome import Outcome
from load.drive.result import Objectives

PROJECT = Path(__file__).resolve().parents[3]
# The client itself must keep up for its times to mean anything.
LAG_SECONDS_MAX = 0.1
COLUMNS = (
    "policy", "$/1,000", "of it bought", "charged", "$/M tokens", "TTFT p50", "TTFT p99", "goodput", "quality", "small", "failed",
)  # fmt: skip


@dataclass
class Result:
    """One policy. outcomes: with the question of each. Money in US dollars, from the ledger: leases over the time of sending, of
    it by backend, tokens bought and charges. places: attempts by backend. cached_ratio: of the prompts' tokens."""

    policy: str
    outcomes: Sequence[tuple[str, Outcome]]
    lease_usd: float
    bought_usd: float
    charged_usd: float
    tokens: int
    places: Mapping[str, int]
    objectives: Objectives = OBJECTIVES
    cached_ratio: float = 0.0
    leases: Mapping[str, float] = field(default_factory=dict)

    def row(self, right: Mapping[str, tuple[int, int]]) -> list[str]:
        answered = [(question, one) for question, one in self.outcomes if one.is_ok]
        ttfts = sorted(one.ttft_seconds for _, one in answered if one.ttft_seconds is not None)
        count = max(len(self.outcomes), 1)
        bill_usd = self.lease_usd + self.bought_usd
        quality = sum(right[question][one.tier == "large"] for question, one in answered)
        best = sum(right[question][1] for question, _ in answered)
        return [
            self.policy,
            f"{bill_usd * 1000 / count:.3f}",
            f"{self.bought_usd * 1000 / count:.3f}",
            f"{self.charged_usd * 1000 / count:.3f}",
            f"{bill_usd / max(self.tokens, 1) * 1e6:.3f}",
            f"{quantile(ttfts, 0.5):.2f} s",
            f"{quantile(ttfts, 0.99):.2f} s",
            f"{sum(self.objectives.are_met_by(one) for _, one in self.outcomes) / count:.1%}",
            f"{quality / max(best, 1):.1%}",
            f"{sum(one.tier == 'small' for _, one in answered) / max(len(answered), 1):.0%}",
            f"{len(self.outcomes) - len(answered)}",
        ]

    @property
    def lag_seconds_p99(self) -> float:
        return quantile(sorted(one.sent_seconds - one.scheduled_seconds for _, one in self.outcomes), 0.99)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A policy that cannot serve the fleet, and why."""

    policy: str
    why: str


def page(
    results: Sequence[Result],
    right: Mapping[str, tuple[int, int]],
    case: Case,
    left_out: Sequence[LeftOut] = (),
) -> str:
    """Markdown: a page, or of a scenario its section."""
    large = sum(large for _, large in right.values()) / len(right)
    small = sum(small for small, _ in right.values()) / len(right)
    head = _scenario_head(case) if case.scenario else _head(case, small / large)
    lines = [*head, "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for result in results:
        mark = "" if result.lag_seconds_p99 <= LAG_SECONDS_MAX else " ¹"
        cells = result.row(right)
        lines.append("| " + " | ".join([cells[0] + mark, *cells[1:]]) + " |")
    if any(result.lag_seconds_p99 > LAG_SECONDS_MAX for result in results):
        lines += ["", "¹ The client fell behind its schedule: these times mean nothing."]
    if left_out:
        lines += ["", *(f"- {one.policy} is left out: {one.why}" for one in left_out)]
    lines += ["", "Attempts by backend:", ""]
    lines += [f"- {result.policy}: {_places(result, case)}" for result in results]
    return "\n".join(lines) + "\n"


def _head(case: Case, small_quality: float) -> list[str]:
    command = f"python -m load.bench.policies --seconds {case.seconds:g} --speed {case.speed:g}"
    if case.warmup_seconds:
        command += f" --warmup {case.warmup_seconds:g}"
    if case.fleet != FLEET:
        command += f" --fleet {_place(case.fleet)}"
    return [
        "# What each policy costs and delivers",
        "",
        f"`{command}`, {datetime.now(UTC).date()}.",
        "",
        f"An emulated fleet (`{_place(case.fleet)}`), the router in a process of its own, real HTTP. Requests",
        "come as in Azure's conversation trace of 2023-11-16, with its prompts' lengths; answers' are drawn, with its median.",
        "All are for `auto`, all streamed, and the same for every policy.",
        "",
        "- *$/1,000*: the bill of 1,000 requests: the leases' hours, used or not, and what was *bought* by the token.",
        "- *charged*: what the requests were charged, which leaves idle time out.",
        f"- *goodput*: answered, the first token within {TTFT_SECONDS_MAX:g} s of the scheduled moment, then",
        f"  {TPOT_SECONDS_MAX:g} s a token.",
        "- *quality*: right answers, of those that the large tier would have given, by what real models made of these questions",
        f"  (`load/data/README.md`). Over all questions the small tier has {small_quality:.1%}.",
        "  The classifier was trained on them.",
        "- *small*: the share that the small tier answered.",
    ]


def _scenario_head(case: Case) -> list[str]:
    command = f"python -m load.bench.policies --scenario {case.scenario} --seconds {case.seconds:g}"
    command += f" --warmup {case.warmup_seconds:g} --seed {case.seed}"
    if case.speed != 1:
        command += f" --speed {case.speed:g}"
    lines = [f"## {case.scenario.replace('_', ' ').capitalize()}", "", f"`{command}`, {datetime.now(UTC).date()}."]
    if case.absences:
        told = (f"{one.replica} after {one.gone_seconds:.0f} s" for one in case.absences)
        lines += ["", f"Taken away, with a notice before: {', '.join(told)}."]
    return lines


def _places(result: Result, case: Case) -> str:
    places = ", ".join(f"{place} {count}" for place, count in sorted(result.places.items()))
    if not case.scenario:
        return places
    leases = ", ".join(f"{name} ${usd:.4f}" for name, usd in result.leases.items())
    return f"{places}; cached {result.cached_ratio:.0%}; leases {leases or 'none'}"


def _place(fleet: Path) -> str:
    return str(fleet.relative_to(PROJECT)) if fleet.is_relative_to(PROJECT) else fleet.name


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1] if ordered else math.nan
