"""How much of the large model's price can be saved at which quality, and by whom: `python -m load.bench.quality_cost --data DIR`.

Recorded outcomes of real models, no fleet: for each question it is known what a small and a large model made of it. Between the
oracle, who knows it too, and chance lies what a router can do that has only read the question, and what a cascade can that has
seen an answer. Every prediction is by a classifier that has not seen the question.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from zlib import crc32

import click
import numpy as np
import numpy.typing as npt

from router.classify.classifier import Classifier
from router.classify.evaluation import predict_unseen
from router.classify.outcomes import PUBLIC_PAIRS, Outcome, Pair, folds, trainable
from router.classify.training import fit
from router.commands.outcome_files import read_outcomes

Doubles = npt.NDArray[np.float64]

# The three benchmarks that the shipped questions are from, a third each, and the pairs of models as in `load/data/README.md`.
MIXTURE = ("gsm8k", "mmlu", "mmlu_pro")
LLAMA = Pair("llama-3.1-8b-instruct", "llama-3.1-70b-instruct")
# gpt-4o-mini to gpt-4.1, prompt and completion alike (`comparison/scenarios/prices.yaml`).
PRICE_RATIO = 0.075
FOLDS = 5
RESAMPLES = 200
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
QUALITIES = (1.0, 0.99, 0.95, 0.9)
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
RIDGE = 5.0
# Models of at most nine billion parameters that answered the same questions: what a second small opinion may come from.
SECONDS = (
    "gemma-2-9b-it", "qwen2-7b-instruct", "phi-3.5-mini-instruct", "llama-3-8b-instruct", "mathstral-7b",
    "phi-3-mini-4k-instruct", "mistral-7b-instruct-v0.2", "qwen1.5-7b-chat",
)  # fmt: skip
AUCS = (0.5, 0.6, 0.7, 0.8, 0.9)


# What the figures say; written by hand, of the page as it was made on 2026-11-27.
FINDINGS = [
    "## What that says of the aim",
    "",
    "The aim was 60 % below always large at equal quality. The oracle reaches 76 %: the outcomes have it. A router that reads",
    "the question does not: at equal quality it saves next to nothing, at 99 % about a tenth, at 95 % a third, at 90 % half.",
    "Eight times the training data moved the quality at half small by 1.4 points, and the last doubling by 0.2. Nor does it help",
    "to know how hard a question is better than its text tells: with the answers of nine other models to each question of",
    "MMLU-Pro, half of them answered by the small model keep 90 % (no bound, for a text may tell of one pair of models what",
    "others' answers do not, but a hint of where one would be). Where that decides (GSM8K: 99 %) a router gets",
    "near the aim.",
    "",
    "What can reach it looks at an answer: with a test of AUC 0.9 a cascade saves half at equal quality, and on GSM8K a second",
    "small opinion saves 63 % at 101 %; on MMLU-Pro it saves a quarter at 95 %. So: a floor for what a router can promise,",
    "`cascade` where answers can be checked (a schema, a test, a second opinion), and `jeton eval` on your own outcomes before",
    "you believe either.",
    "",
]


def qualities(score: Doubles, small: Doubles, large: Doubles, weight: Doubles) -> tuple[Doubles, Doubles]:
    """The share that goes to the small model, highest score first, from none to all; the mixture's quality ÷ the large one's."""
    order = np.argsort(-score, kind="stable")
    share = np.concatenate(([0.0], np.cumsum(weight[order]))) / weight.sum()
    gained = np.concatenate(([0.0], np.cumsum((weight * (small - large))[order])))
    return share, 1 + gained / float(weight @ large)


def saving(quality_min: float, score: Doubles, small: Doubles, large: Doubles, weight: Doubles) -> float:
    """The most that is saved of always-large's cost while the quality is kept."""
    share, quality = qualities(score, small, large, weight)
    return float(share[quality >= quality_min - 1e-12].max()) * (1 - PRICE_RATIO)


def chance_saving(quality_min: float, small: Doubles, large: Doubles, weight: Doubles) -> float:
    """`saving` of whoever draws lots: quality falls in a straight line."""
    loss = 1 - float(weight @ small) / float(weight @ large)
    return min(1.0, (1 - quality_min) / loss) * (1 - PRICE_RATIO)


def cascade_saving(quality_min: float, auc: float, small: Doubles, large: Doubles, weight: Doubles) -> float:
    """`saving` of asking the small model first, each time, and the large one where a test is not passed.

    The test's score is normal, for right answers d higher than for wrong ones, AUC = Φ(d ÷ √2); it knows nothing else.
    """
    normal, best = NormalDist(), float("-inf")
    distance = sqrt(2) * normal.inv_cdf(auc)
    of_large = float(weight @ large)
    right, wrong = weight * (small > 0.5), weight * (small <= 0.5)
    for threshold in np.linspace(-6, 8, 281):
        if_right, if_wrong = 1 - normal.cdf(threshold - distance), 1 - normal.cdf(threshold)
        accepted = (if_right * right.sum() + if_wrong * wrong.sum()) / weight.sum()
        answered = if_right * (right @ small) + if_wrong * (wrong @ small)
        answered += (1 - if_right) * (right @ large) + (1 - if_wrong) * (wrong @ large)
        if answered / of_large >= quality_min - 1e-9:
            best = max(best, accepted - PRICE_RATIO)
    return best


def difficulty_scores(outcomes: Sequence[Outcome], small: Doubles, large: Doubles) -> Doubles:
    """What a question's gain is expected to be once it is known which other models get it right: ridge on those and their number,
    each fold by the others."""
    others = sorted(set.intersection(*(set(one.scores) for one in outcomes)) - {LLAMA.small, LLAMA.large})
    right = np.array([[one.scores[name] for name in others] for one in outcomes])
    number = np.rint(right.sum(axis=1)).astype(int)
    known = np.hstack((right, np.eye(len(others) + 1)[number]))
    fold = np.array([crc32(one.question.encode("utf-8", "replace")) % FOLDS for one in outcomes])
    score = np.zeros(len(outcomes))
    for each in range(FOLDS):
        taught = known[fold != each]
        normal = taught.T @ taught + RIDGE * np.eye(known.shape[1])
        score[fold == each] = known[fold == each] @ np.linalg.solve(normal, taught.T @ (small - large)[fold != each])
    return score


def scores_of(outcomes: Sequence[Outcome], pairs: Sequence[Pair] = PUBLIC_PAIRS) -> tuple[Doubles, Doubles]:
    """Of the small and of the large model of the pair that applies."""
    chosen = [(one, next(pair for pair in pairs if pair.applies(one))) for one in outcomes]
    small = np.array([one.scores[pair.small] for one, pair in chosen])
    return small, np.array([one.scores[pair.large] for one, pair in chosen])


def held_out(outcomes: Sequence[Outcome], fraction: float = 1.0) -> Doubles:
    """P(small suffices) by classifiers that have not seen the question, taught by this fraction of the others."""

    def train(teachers: Sequence[Outcome], pairs: Sequence[Pair]) -> Classifier:
        kept = [one for one in teachers if crc32(f"share {one.question}".encode("utf-8", "replace")) < fraction * 2**32]
        return Classifier(fit(kept, pairs))

    splits = folds(outcomes, FOLDS)
    return np.array([one.small_suffices for one in predict_unseen(outcomes, splits, PUBLIC_PAIRS, train)])


def interval(of: Callable[[Doubles], float], strata: Sequence[str]) -> str:
    """With its 95 % interval: questions drawn anew within each dataset; `of` gets their weights, the same in sum for each."""
    names, which = np.unique(strata, return_inverse=True)
    even = 1 / np.bincount(which)[which]
    random = np.random.default_rng(2026)
    drawn = []
    for _ in range(RESAMPLES):
        times = np.zeros(len(which))
        for each in range(len(names)):
            rows = np.flatnonzero(which == each)
            times[rows] = np.bincount(random.integers(0, len(rows), len(rows)), minlength=len(rows))
        drawn.append(of(times * even))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{of(even):.1%} [{low:.1%}, {high:.1%}]"


def agreements(path: Path) -> list[str]:
    """Lines: the small answer is kept where a second small model gives the same."""
    with gzip.open(path, "rt", encoding="utf-8") as text:
        rows = [json.loads(line) for line in text]
    rows = [row for row in rows if LLAMA.small in row["scores"] and LLAMA.large in row["scores"]]
    lines = []
    for second in SECONDS:
        both = [row for row in rows if second in row["answers"] and LLAMA.small in row["answers"]]
        if not both:
            continue
        same = np.array([row["answers"][LLAMA.small] not in (None, "") for row in both]) & np.array(
            [row["answers"][LLAMA.small] == row["answers"][second] for row in both]
        )
        small, large = (np.array([row["scores"][name] for row in both]) for name in (LLAMA.small, LLAMA.large))
        quality = float(np.where(same, small, large).mean() / large.mean())
        saved = float(same.mean()) - 2 * PRICE_RATIO
        lines.append(f"| {path.name.split('.')[0]} | {second} | {same.mean():.0%} | {quality:.1%} | {saved:.0%} |")
    return lines


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def quality_cost(data: Path, out: Path) -> None:
    """Write the page from a directory of outcome files (`jeton train` says what is in them)."""
    outcomes = trainable(read_outcomes(data), PUBLIC_PAIRS)
    out.write_text(page(outcomes, data), encoding="utf-8")
    click.echo(f"written to {out}")


def page(outcomes: Sequence[Outcome], data: Path) -> str:
    rows = [row for row, one in enumerate(outcomes) if one.dataset in MIXTURE]
    mixture = [outcomes[row] for row in rows]
    small, large = scores_of(mixture)
    strata = [one.dataset for one in mixture]
    by_fraction = {fraction: held_out(outcomes, fraction)[rows] for fraction in FRACTIONS}
    guessed = by_fraction[1.0]
    lots = np.random.default_rng(2026).random(len(rows))

    def at(score: Doubles, share: float) -> str:
        def of(weight: Doubles) -> float:
            shares, quality = qualities(score, small, large, weight)
            return float(np.interp(share, shares, quality))

        return interval(of, strata)

    def least(quality_min: float, score: Doubles) -> str:
        return interval(lambda weight: saving(quality_min, score, small, large, weight), strata)

    even = 1 / np.unique(strata, return_counts=True)[1][np.unique(strata, return_inverse=True)[1]]
    mean = even / even.sum()
    kinds = {
        "both right": (small > 0.5) & (large > 0.5),
        "only the large one": (small <= 0.5) & (large > 0.5),
        "only the small one": (small > 0.5) & (large <= 0.5),
        "neither": (small <= 0.5) & (large <= 0.5),
    }
    lines = [
        "# What quality costs",
        "",
        "Written by `python -m load.bench.quality_cost --data <outcomes> --out docs/quality-cost.md`. Do not edit.",
        "",
        f"{len(rows):,} questions of GSM8K, MMLU and MMLU-Pro, a third of the weight each, and what real models made of them",
        "(pairs of `load/data/README.md`). *Quality* is the mean score of all answers ÷ the large model's mean score: where the",
        "small model is right and the large one wrong that counts for the mixture, so it can be better than the large one. It is",
        f"what `docs/policies.md` counts, too. The small model costs {PRICE_RATIO:.1%} of the large one (gpt-4o-mini, gpt-4.1).",
        "Brackets: 95 % intervals, questions drawn anew. The classifier has not seen the questions that it is asked here.",
        "",
        "Right are: " + ", ".join(f"{name} {float(mean @ kind):.1%}" for name, kind in kinds.items()) + ".",
        f"Always small has {float(mean @ small) / float(mean @ large):.1%} of the quality at {PRICE_RATIO:.1%} of the cost.",
        "",
        "## Quality by the share that the small model answers",
        "",
        "| share small | cost of always large | oracle | classifier | lots |",
        "|---|---|---|---|---|",
        *(
            f"| {share:.0%} | {1 - share * (1 - PRICE_RATIO):.0%} | {at(small - large, share)} | {at(guessed, share)} |"
            f" {at(lots, share)} |"
            for share in SHARES
        ),
        "",
        "## What can be saved at a quality",
        "",
        "| quality | oracle | classifier | lots | cascade, test of AUC "
        + " | ".join(f"{auc:g}" for auc in AUCS)
        + " |",
        "|" + "---|" * (4 + len(AUCS)),
        *(
            f"| {quality:.0%} | {least(quality, small - large)} | {least(quality, guessed)} |"
            f" {chance_saving(quality, small, large, even):.1%} | "
            + " | ".join(
                "nothing" if (saved := cascade_saving(quality, auc, small, large, even)) < 0 else f"{saved:.1%}"
                for auc in AUCS
            )
            + " |"
            for quality in QUALITIES
        ),
        "",
        "The oracle knows both answers. A cascade asks the small model each time, and pays for it; its test tells right answers",
        "from wrong ones with the AUC given (normal scores; the mean log-probability that `cascade` goes by is such a test; how",
        "good it is depends on the model).",
        "",
        "## Would more data, or a better classifier, do?",
        "",
        "More data: the same classifier taught by a part of it, quality with half of the questions answered by the small model.",
        "",
        "| part of the training data | quality at 50 % small | saved at 95 % |",
        "|---|---|---|",
        *(f"| {fraction:.1%} | {at(score, 0.5)} | {least(0.95, score)} |" for fraction, score in by_fraction.items()),
        "",
        "A better one: suppose a classifier knew how hard a question is so well that it told which of nine (MMLU-Pro) to 27",
        "*other* real models get it right. This is the quality of the Llama pair (8B, 70B) by such knowledge:",
        "",
        "| questions | " + " | ".join(f"{share:.0%} small" for share in SHARES) + " |",
        "|" + "---|" * (1 + len(SHARES)),
    ]
    for name in ("mmlu_pro", "gsm8k_z", "math_l5"):
        asked = [one for one in outcomes if one.dataset == name and LLAMA.applies(one)]
        theirs, ours = scores_of(asked, [LLAMA])
        shares, quality = qualities(difficulty_scores(asked, theirs, ours), theirs, ours, np.ones(len(asked)))
        cells = " | ".join(f"{float(np.interp(share, shares, quality)):.1%}" for share in SHARES)
        lines.append(f"| {name} ({len(asked):,}) | {cells} |")
    lines += [
        "",
        "## A second small opinion",
        "",
        "The answer of Llama 3.1 8B is kept where another small model gives the same, else Llama 3.1 70B is asked. *Saved*: of",
        "always large, with two small answers paid for each time.",
        "",
        "| questions | second model | kept | quality | saved |",
        "|---|---|---|---|---|",
        *agreements(data / "gsm8k_z.jsonl.gz"),
        *agreements(data / "mmlu_pro.jsonl.gz"),
        "",
        *FINDINGS,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    quality_cost()
