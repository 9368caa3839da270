"""Why a price of a public table is not believed: each rule a function from an offer to what is wrong with it.

The tables are kept by many hands. Of one, 13 rows were 10,000 to 100,000 times too high; of 116 models that two of them name
alike, 13 differ, by up to nine times (LiteLLM of 2026-08-01, genai-prices of 2026-08-21). A wrong price that looks low draws
all traffic; one that looks high hides a backend. So what is out of line goes to a person first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

from router.pricing.rows import AnyRow, LeaseRow, TokensRow, unusual
from router.pricing.tables.offer import Figures, Offer

WRITES = "cache_write_usd_per_million", "cache_write_hour_usd_per_million"
PROMPT, CACHED, COMPLETION = "prompt_usd_per_million", "cached_usd_per_million", "completion_usd_per_million"
HOUR = "usd_per_hour"
# Of 2,443 rows the completion is nowhere legitimately below a tenth of the prompt (LiteLLM's table, genai-prices).
COMPLETION_PROMPT_RATIO_MIN = Decimal("0.1")
# Fewer others are no witnesses.
NEIGHBOURS_MIN = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Ratios beyond which two figures are not taken for the same price, or for its neighbour.

    change: to the row in force. disagreement: between two tables on one seller's model. neighbour: to the median of what others
    take for the same model or GPU; open models are sold at 1.3 to 80 times their cheapest price, so it is wide.
    """

    change: Decimal = Decimal(3)
    disagreement: Decimal = Decimal("1.05")
    neighbour: Decimal = Decimal(20)


class Witnesses:
    """What else is known: the table itself, and the others to compare it with (by their names)."""

    def __init__(self, offers: Iterable[Offer], others: Mapping[str, Iterable[Offer]]) -> None:
        self.by_name: defaultdict[str, list[Offer]] = defaultdict(list)
        self.by_product: defaultdict[tuple[str, str, str], list[Offer]] = defaultdict(list)
        self.by_key: dict[str, dict[tuple[str, str], Offer]] = {}
        for offer in offers:
            self.by_name[offer.name].append(offer)
            self.by_product[offer.kind, offer.purchase, offer.product].append(offer)
        for table, theirs in others.items():
            # Where a table has several prices for one thing, it is not known which is meant, and it says nothing.
            counts: defaultdict[tuple[str, str], list[Offer]] = defaultdict(list)
            for offer in theirs:
                counts[offer.key].append(offer)
            self.by_key[table] = {
                key: found[0] for key, found in counts.items() if all(same_figures(found[0], one) for one in found)
            }


def suspicions(offer: Offer, witnesses: Witnesses, in_force: AnyRow | None, limits: Limits) -> list[str]:
    """All that speaks against it, in sentences without a subject; empty: it is believed."""
    found = [*offer.faults, *_no_amounts(offer)]
    if not found:  # else there is nothing to compare
        found += _out_of_range(offer)
        found += _zeros(offer, witnesses)
        found += _out_of_proportion(offer)
        found += _duplicates(offer, witnesses)
        found += _disagreements(offer, witnesses, limits)
        found += _far_from_others(offer, witnesses, limits)
        found += _changes(offer, in_force, limits)
    return found


def same_figures(one: Offer, other: Offer) -> bool:
    mine, theirs = ((it.kind, it.figures, it.tiers, it.service_tiers, it.gpus) for it in (one, other))
    return mine == theirs


def _rates(offer: Offer) -> Iterator[tuple[str, Decimal]]:
    for rates in offer.parts:
        yield from ((name, usd) for name, usd in rates.items() if name != "above_prompt_tokens")


def _no_amounts(offer: Offer) -> Iterator[str]:
    for name, usd in _rates(offer):
        if not usd.is_finite():
            yield f"{name} is {usd}, no number"
        elif usd < 0:
            yield f"{name} is negative ({usd:f}), which tables write where the price varies"


def _out_of_range(offer: Offer) -> Iterator[str]:
    for name, usd in _rates(offer):
        if usd and (what := unusual(name, usd / offer.gpus if name == HOUR else usd)):
            yield what


def _zeros(offer: Offer, witnesses: Witnesses) -> Iterator[str]:
    figures = offer.figures
    if not any(figures.values()):
        yield "is free, which a price rarely is and a missing one often looks like"
        return
    paid = [name for name in (PROMPT, COMPLETION) if figures.get(name)]
    if offer.makes_text and len(paid) == 1:
        free = COMPLETION if paid[0] == PROMPT else PROMPT
        yield f"{free} is 0 where {paid[0]} is not"
    for name in (CACHED, *WRITES):
        if figures.get(name) == 0 and any(other.figures.get(name) for other in _neighbours(offer, witnesses)):
            yield f"{name} is 0 where others take something"
    for tier in offer.tiers:
        for name in (PROMPT, COMPLETION):
            if figures.get(name) and tier.get(name) == 0:
                yield f"{name} is 0 above {tier['above_prompt_tokens']:f} prompt tokens where it is not below"
    for service_tier, one in offer.service_tiers.items():
        for name in (PROMPT, COMPLETION):
            if figures.get(name) and any(part.get(name) == 0 for part in (one.figures, *one.tiers)):
                yield f"{name} is 0 under the service tier {service_tier} where it is not else"


def _out_of_proportion(offer: Offer) -> Iterator[str]:
    for rates in offer.parts:
        prompt, completion = rates.get(PROMPT), rates.get(COMPLETION)
        if not prompt:
            continue
        if offer.makes_text and completion and completion < prompt * COMPLETION_PROMPT_RATIO_MIN:
            yield f"a completion token ({completion:f}) is cheaper than a tenth of a prompt token ({prompt:f})"
        if rates.get(CACHED, Decimal(0)) > prompt:
            yield f"a cached token ({rates[CACHED]:f}) is dearer than an uncached one ({prompt:f})"


def _duplicates(offer: Offer, witnesses: Witnesses) -> Iterator[str]:
    """Another row of that name that begins on the same day."""
    others = [one for one in witnesses.by_name[offer.name] if one is not offer and one.first_day == offer.first_day]
    if any(not same_figures(one, offer) for one in others):
        yield "stands in the table twice, with different prices"


def _disagreements(offer: Offer, witnesses: Witnesses, limits: Limits) -> Iterator[str]:
    for table, by_key in witnesses.by_key.items():
        other = by_key.get(offer.key)
        if other is None or other.kind != offer.kind:
            continue
        for name in (PROMPT, COMPLETION, HOUR):
            ours, theirs = offer.figures.get(name), other.figures.get(name)
            if ours is not None and theirs is not None and _ratio(ours, theirs) > limits.disagreement:
                yield f"{table} says {theirs:f} for {name}, not {ours:f}"


def _far_from_others(offer: Offer, witnesses: Witnesses, limits: Limits) -> Iterator[str]:
    neighbours = _neighbours(offer, witnesses)
    for name in (PROMPT, COMPLETION, HOUR):
        figures = [other.figures[name] / other.gpus for other in neighbours if other.figures.get(name)]
        usd = offer.figures.get(name)
        if not usd or len(figures) < NEIGHBOURS_MIN:
            continue
        usual, own = median(figures), usd / offer.gpus
        if _ratio(own, usual) > limits.neighbour:
            yield f"{name} ({own.normalize():f}) is far from what {len(figures)} others take (the middle is {usual:f})"


def _changes(offer: Offer, in_force: AnyRow | None, limits: Limits) -> Iterator[str]:
    if in_force is None:
        return
    if in_force.kind != offer.kind:
        yield f"is a price by `{offer.kind}` where one by `{in_force.kind}` is in force"
        return
    for name, now in figures_of(in_force).items():
        new = offer.figures.get(name)
        if new is not None and _ratio(new, now) > limits.change:
            yield f"{name} changes from {now:f} to {new:f}"


def figures_of(row: AnyRow) -> Figures:
    """The amounts of a row in force that an offer can have as well."""
    if isinstance(row, LeaseRow):
        return {HOUR: row.usd_per_hour}
    if isinstance(row, TokensRow):
        names = (PROMPT, CACHED, *WRITES, COMPLETION, "request_usd", "audio_usd_per_hour")
        return {name: usd for name in names if (usd := getattr(row, name)) is not None}
    return {}


def _neighbours(offer: Offer, witnesses: Witnesses) -> list[Offer]:
    """Who else sells the same, one offer for each seller."""
    others = witnesses.by_product[offer.kind, offer.purchase, offer.product]
    return list({one.seller: one for one in others if one.seller != offer.seller}.values())


def _ratio(one: Decimal, other: Decimal) -> Decimal:
    """How many times the smaller the larger is; 1 where both are 0."""
    low, high = sorted((one, other))
    if low == high:
        return Decimal(1)
    return high / low if low else Decimal("Infinity")
