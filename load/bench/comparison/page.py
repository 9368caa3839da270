"""The figures of one policy on one scenario, and the page of all of them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import fmean
from typing import Any, Self

from load.bench.comparison.judged import Verdicts
from load.simulate.table import Figure, over_seeds

COLUMNS = (
    "policy", "$/1,000", "of it bought", "$/M tokens", "TTFT p50", "TTFT p99", "in time", "quality", "small",
    "$/1,000 in time",
)  # fmt: skip
# Who is compared in money: those that answer as many in time, and as many right, as the measured policy, but for this share.
ALLOWANCE = 0.01
LARGE = "large tier only, on time"
# The measured policy with other parameters.
VARIANTS = frozenset({LARGE, "floor of 0.6", "floor of 0.75"})


@dataclass(frozen=True, slots=True)
class About:
    """What a page is of. options: of the command that wrote it; folder: of the scenarios; notes: what the figures do not say."""

    title: str
    options: str
    folder: str
    notes: Sequence[str]


MADE_NOTES = (
    "- The aim of 60 % below the large tier on mixed chat holds at nine tenths of its quality (floor 0.55), and no higher;",
    "  *chat* has floors of 0.6 and 0.75 beside it. `docs/quality-cost.md` says why: an oracle could, whoever has only read the",
    "  question cannot. The shipped classifier was trained on these questions among others; on others it is a little worse.",
    "- Where leases have room, nothing is bought and every policy pays the same hours (*agents*, *on demand*, *edge central*).",
    "- *Spot* against *on demand*: what preemptions cost and save.",
    "- Three seeds; nothing was tuned on them (but on seeds 1 to 3). ±: the 95 % interval of their mean. A seed draws the",
    "  questions and the network; but for *bursts* requests come when the trace says, so what hangs on that does not vary.",
    "- The simulated router learns as a real one does, but not how often providers fail, and it has one worker.",
    "- A lease is paid to the end of the run, and a replica that still answers then until it is done.",
    "- `cascade` is not here: emulated words have no log-probability. `docs/quality-cost.md` reckons what a cascade could save.",
)
RECORDED_NOTES = (
    "- The traces are not in the project: `TRACES` is a folder with the files that the scenarios name. One seed.",
    "- That the router learns lengths and how soon clouds begin came of looking at two of these, Azure code and Mooncake,",
    "  where it did badly; of what is asked of a time per token (`policies/__init__.py`) Azure conversation was one of four",
    "  measured. Nothing else was tuned on them.",
    "- Recorded are times and lengths, of Mooncake and the agents also which blocks of the prompts are the same. What is asked",
    "  is drawn, so a question may be of any length.",
    "- The agents' fleet was chosen for its room: on a smaller one sessions lose their KV while a person thinks, 90,000",
    "  tokens are computed anew in several seconds, and half of the first tokens take ten, whatever the policy.",
    "- The simulated router learns as a real one does, but not how often providers fail, and it has one worker.",
    "- A lease is paid to the end of the run, and a replica that still answers then until it is done.",
)
MADE = About("What each policy costs and delivers", "--out docs/policies.md", "scenarios", MADE_NOTES)
RECORDED = About(
    "What each policy costs and delivers on recorded traces",
    "--traces TRACES --out docs/policies-on-traces.md",
    "recorded",
    RECORDED_NOTES,
)


@dataclass(frozen=True, slots=True)
class Row:
    """usd, bought_usd: of 1,000 answered requests, leases included, and of it what was bought by the token; usd_in_time: the bill
    of 1,000 that were answered within the objectives. Shares 0–1. half_width: of the 95 % interval of a mean over the seeds,
    None of one seed."""

    policy: str
    usd: float
    usd_half_width: float | None
    bought_usd: float
    usd_per_million_tokens: float
    ttft_seconds_p50: float
    ttft_seconds_p99: float
    in_time: float
    quality: float
    small: float
    usd_in_time: float
    cached: float
    in_time_half_width: float | None = None
    quality_half_width: float | None = None

    @classmethod
    def of(cls, policy: str, figures: Mapping[str, Figure], verdicts: Sequence[Verdicts]) -> Self:
        mean = {name: figure.mean for name, figure in figures.items()}
        usd = mean["usd_per_1000_requests"]
        return cls(
            policy,
            usd,
            figures["usd_per_1000_requests"].half_width,
            usd * mean["usd_metered"] / max(mean["usd_total"], 1e-12),
            mean["usd_per_million_tokens"],
            mean["ttft_seconds_p50"],
            mean["ttft_seconds_p99"],
            mean["attainment_ratio"],
            fmean(one.quality for one in verdicts),
            fmean(one.small_ratio for one in verdicts),
            usd / max(mean["attainment_ratio"], 1e-3),
            mean["cached_ratio"],
            figures["attainment_ratio"].half_width,
            over_seeds([{"quality": one.quality} for one in verdicts])["quality"].half_width,
        )

    def cells(self) -> list[str]:
        return [
            self.policy,
            f"{self.usd:.3f}" + _give_or_take(self.usd_half_width, ".3f"),
            f"{self.bought_usd:.3f}",
            f"{self.usd_per_million_tokens:.3f}",
            f"{self.ttft_seconds_p50:.2f} s",
            f"{self.ttft_seconds_p99:.2f} s",
            f"{self.in_time:.1%}" + _give_or_take(self.in_time_half_width, ".1f", 100),
            f"{self.quality:.1%}" + _give_or_take(self.quality_half_width, ".1f", 100),
            f"{self.small:.0%}",
            f"{self.usd_in_time:.3f}",
        ]

    def told(self) -> dict[str, Any]:
        return asdict(self)


def _give_or_take(half_width: float | None, form: str, times: int = 1) -> str:
    return "" if half_width is None else f" ± {times * half_width:{form}}"


def equals(rows: Sequence[Row], measured: str) -> list[Row]:
    """Those that keep what the measured policy keeps, the cheapest first; itself among them."""
    mine = next(row for row in rows if row.policy == measured)
    kept = [row for row in rows if row.in_time >= mine.in_time - ALLOWANCE and row.quality >= mine.quality - ALLOWANCE]
    return sorted(kept, key=lambda row: row.usd)


def page(
    found: Mapping[str, Sequence[Row]], said: Mapping[str, str], day: date | str, measured: str, about: About = MADE
) -> str:
    """Markdown. said: a sentence on each scenario. measured: the policy that the others are held against."""
    lines = [
        f"# {about.title}",
        "",
        f"Written by `python -m load.bench.comparison {about.options}` (prices of {day}). Do not edit.",
        "",
        f"Every policy on every scenario of `load/bench/comparison/{about.folder}/`, in simulated time: the router's own finder,",
        "forecasts, prices and policies; engines on their profiles. What requests ask is drawn from 360 benchmark questions of",
        "which it is known what real models made of them (`load/data/README.md`). Prompts are as long as the trace says.",
        "",
        "- *$/1,000*: the bill of 1,000 requests: the leases' hours, used or not, and what was *bought* by the token.",
        "- *in time*: of all requests, those whose first token came within 2 s and then a token in 0.1 s on average.",
        "- *quality*: right answers ÷ those that the large tier would have given: a mean, in which the small tier's count where",
        "  the large one is wrong.",
        "- *small*: the share that the small tier answered.",
        "- *$/1,000 in time*: the bill over those that were in time.",
        "",
        f"Compared in money are those that are in time and right as often as `{measured}`, or at most {100 * ALLOWANCE:.0f} % of",
        "all requests less. Policies with a floor have the same (0.55); parameters are in `load/bench/comparison/policies.yaml`.",
        "",
        f"| scenario | `{measured}` | next of its kind that keeps as much | difference | large tier only, as much in time |",
        "|---|---|---|---|---|",
        *(_summary(name, rows, measured) for name, rows in found.items()),
        "",
    ]
    lines += ["What to know before reading them:", "", *about.notes, ""]
    for name, rows in found.items():
        kept = equals(rows, measured)
        lines += [
            f"## {name.replace('_', ' ').capitalize()}",
            "",
            said[name],
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|" + "---|" * len(COLUMNS),
            *(
                "| " + " | ".join([f"**{row.policy}**" if row in kept else row.policy, *row.cells()[1:]]) + " |"
                for row in sorted(rows, key=lambda row: row.usd)
            ),
            "",
        ]
    lines += [f"Bold: what keeps as much as `{measured}` does.", ""]
    return "\n".join(lines)


def _summary(name: str, rows: Sequence[Row], measured: str) -> str:
    mine = next(row for row in rows if row.policy == measured)
    others = [row for row in equals(rows, measured) if row.policy not in {measured, *VARIANTS}]
    large = next(row for row in rows if row.policy == LARGE)
    cells = [name.replace("_", " "), f"{mine.usd:.3f}, {mine.in_time:.1%} in time, {mine.quality:.1%} right"]
    if others:
        cells += [f"{others[0].policy} {others[0].usd:.3f}", f"{mine.usd / others[0].usd - 1:+.1%}"]
    else:
        cells += ["none", ""]
    cells.append(f"{large.usd:.3f} ({mine.usd / large.usd - 1:+.0%}), {large.in_time:.1%} in time")
    return "| " + " | ".join(cells) + " |"
