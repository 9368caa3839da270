"""What a million tokens cost, by class, on both bases.

Of served attempts whose parts by class are known (`pricing/classes.py` says how a cost is cut). `prompt` is what was not
cached; cached tokens are a class of their own here, so that no token is in two. What is idle or lost is in no class's price:
`all_in` puts it there, as the bill over all tokens served.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from router.domain.periods import Spent

CLASSES = ("prompt", "cached", "completion")
# A nano-dollar a token is a thousandth of a dollar a million.
USD_PER_MILLION = Decimal(1000)


class ClassPrice(NamedTuple):
    """usd_per_million: None without tokens of that class."""

    pool: str
    backend: str
    token_class: str
    tokens: int
    allocated_nanousd: int
    standard_nanousd: int

    @property
    def allocated_usd_per_million(self) -> Decimal | None:
        return per_million(self.allocated_nanousd, self.tokens)

    @property
    def standard_usd_per_million(self) -> Decimal | None:
        return per_million(self.standard_nanousd, self.tokens)


def class_prices(spent: Iterable[Spent]) -> list[ClassPrice]:
    """By backend, each with its three classes. spent: at least by pool, backend and outcome."""
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in spent:
        if row.is_lost:
            continue
        for name, tokens, allocated, standard in (
            ("prompt", row.prompt_tokens - row.cached_tokens, row.cost_prompt_nanousd, row.standard_prompt_nanousd),
            ("cached", row.cached_tokens, row.cost_cached_nanousd, row.standard_cached_nanousd),
            ("completion", row.completion_tokens, row.cost_completion_nanousd, row.standard_completion_nanousd),
        ):
            entry = sums[row.pool, row.backend, name]
            entry[0] += tokens
            entry[1] += allocated
            entry[2] += standard
    return [ClassPrice(*key, *entry) for key, entry in sums.items()]


def all_in(bills: Mapping[tuple[object, ...], int], spent: Iterable[Spent]) -> dict[tuple[object, ...], Decimal | None]:
    """By (pool, backend): the whole bill, idle and lost money included, over the tokens served."""
    tokens: defaultdict[tuple[object, ...], int] = defaultdict(int)
    for row in spent:
        if not row.is_lost:
            tokens[row.pool, row.backend] += row.prompt_tokens + row.completion_tokens
    return {place: per_million(bill, tokens[place]) for place, bill in bills.items()}


def per_million(nanousd: int, tokens: int) -> Decimal | None:
    return Decimal(nanousd) / tokens / USD_PER_MILLION if tokens else None
