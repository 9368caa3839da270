"""Restated figures as Markdown: one table of all, and a section for each. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from load.scenarios.claim import Claim, Form, Restated, written

COMMAND = "make scenarios"
VERDICTS = {
    "agrees": "agrees",
    "more": "more",
    "less": "less",
    "cannot be": "**cannot be**",
    "no figure": "",
}


class Line(NamedTuple):
    """verdict: of `Claim.verdict`; ours: as it is written."""

    claim: Claim
    ours: str
    verdict: str


class Result(NamedTuple):
    name: str
    restated: Restated
    lines: Sequence[Line]


def published_text(claim: Claim) -> str:
    if claim.published is None:
        return "–"
    low, high = claim.published
    if low == high:
        return written(claim.form, low)
    if claim.form is Form.USD:
        return f"{written(claim.form, low)} – {written(claim.form, high)}"
    ends = sorted((low, high), key=abs)
    return f"{written(claim.form, ends[0])} … {written(claim.form, ends[1])}"


def summary(results: Iterable[Result]) -> list[tuple[str, str, str, str, str]]:
    """(scenario, what is said, published, ours, verdict) of every claim."""
    return [
        (result.name, line.claim.says, published_text(line.claim), line.ours, line.verdict)
        for result in results
        for line in result.lines
    ]


def markdown(results: Sequence[Result]) -> str:
    lines = [
        "# Published figures, reckoned again",
        "",
        f"Written by `{COMMAND}` from the files in `load/scenarios/published/`: what is said about the cost of inference, and",
        "what jeton's engine profiles, prices and policies make of it. *Agrees* is within 15 %, *more* and *less* are than was",
        "published; *cannot be* is what contradicts physics, prices or itself. Prices are public ones",
        "(`load/plan/prices.yaml`), in force on 2026-11-01; where an engine was never measured its figures are the roofline's.",
        "",
        "| | what is said | published | ours | |",
        "|---|---|---:|---:|---|",
    ]
    shown = ""
    for name, says, published, ours, verdict in summary(results):
        label = "" if name == shown else f"[{name}](#{name})"
        lines.append(f"| {label} | {says} | {published} | {ours} | {VERDICTS[verdict]} |")
        shown = name
    for result in results:
        restated = result.restated
        lines += ["", f"## {result.name}", "", f"**{restated.title}.** {restated.why.strip()}", ""]
        lines += [
            f"- {line.claim.says}: cannot be. {line.claim.impossible.strip()}"
            for line in result.lines
            if line.claim.impossible
        ]
        if any(line.claim.impossible for line in result.lines):
            lines.append("")
        lines.append(f"Source: {restated.source.strip()}")
    return "\n".join(lines) + "\n"
