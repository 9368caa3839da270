"""A provider's usage export against the ledger, by day (UTC) and model.

    matched          the same tokens, and the cost within the tolerance
    price differs    the same tokens, another cost
    usage differs    other tokens; the cost then differs as it will
    missing here     the provider bills a day and model that the ledger does not have
    missing there    the ledger has one that the provider does not bill (yet)

A figure that the export does not have (None) is not compared.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    MATCHED = "matched"
    PRICE_DIFFERS = "price differs"
    USAGE_DIFFERS = "usage differs"
    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"


class Usage(NamedTuple):
    """Of one model on one day, by one side."""

    day: str
    model: str
    requests: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost_nanousd: int | None = None


COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


class Line(NamedTuple):
    """ours or theirs: None where that side has nothing. difference: theirs − ours, nano-dollars; None where they do not say."""

    day: str
    model: str
    verdict: Verdict
    ours: Usage | None
    theirs: Usage | None
    difference_nanousd: int | None


def reconcile(ours: Iterable[Usage], theirs: Iterable[Usage], tolerance_nanousd: int) -> list[Line]:
    """By day and model, in order. Rows of one side with the same day and model are summed first."""
    here, there = _summed(ours), _summed(theirs)
    lines = []
    for day, model in sorted({*here, *there}):
        mine, other = here.get((day, model)), there.get((day, model))
        difference = _cost(other) - _cost(mine) if other is None or other.cost_nanousd is not None else None
        lines.append(Line(day, model, _verdict(mine, other, difference, tolerance_nanousd), mine, other, difference))
    return lines


def _cost(usage: Usage | None) -> int:
    return 0 if usage is None else usage.cost_nanousd or 0


def _verdict(ours: Usage | None, theirs: Usage | None, difference: int | None, tolerance: int) -> Verdict:
    if ours is None:
        return Verdict.MISSING_HERE
    if theirs is None:
        return Verdict.MISSING_THERE
    for name in COUNTS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine is not None and other is not None and mine != other:
            return Verdict.USAGE_DIFFERS
    if difference is not None and abs(difference) > tolerance:
        return Verdict.PRICE_DIFFERS
    return Verdict.MATCHED


def _summed(rows: Iterable[Usage]) -> dict[tuple[str, str], Usage]:
    sums: dict[tuple[str, str], Usage] = {}
    for row in rows:
        key = (row.day, row.model)
        before = sums.get(key)
        if before is None:
            sums[key] = row
            continue
        pairs = zip(before[2:], row[2:], strict=True)
        sums[key] = Usage(*key, *(None if a is None or b is None else a + b for a, b in pairs))
    return sums
