"""One price as a public table has it, in the words of `prices.yaml` and not yet believed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Self

# Sellers that the tables call differently. What a table calls a route of a seller's is a seller of its own.
SELLERS = {
    "fireworks_ai": "fireworks",
    "together_ai": "together",
    "x-ai": "xai",
    "x_ai": "xai",
    "cohere_chat": "cohere",
    "moonshot": "moonshotai",
}
# As fine as an amount in `prices.yaml`.
PLACES = Decimal("1e-9")
# Of a binary floating-point number; beyond it lies where `Decimal` itself overflows.
EXPONENT_MAX = 308

Figures = Mapping[str, Decimal]


class TableRefused(ValueError):
    """The text is not the table that it was taken for: what is wrong."""


class Members(dict[str, Any]):
    """An object of JSON. earlier: what else stands there under a name that is used again, and that a `dict` would lose."""

    earlier: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, Any]]) -> Self:
        made, earlier = cls(), []
        for name, value in pairs:
            if name in made:
                earlier.append((name, made[name]))
            made[name] = value
        made.earlier = tuple(earlier)
        return made


@dataclass(frozen=True, slots=True)
class OfferedTier:
    """What is taken under a service tier, in the place of an offer's own figures and tiers."""

    figures: Figures
    tiers: tuple[Figures, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """name: what the price is called in `prices.yaml`: `<seller>/<model>`, or `<cloud>/<instance type>/<region>` and `/spot`.

    kind: of its row, `tokens` or `lease`. figures: by the row's members, US dollars; one that is no amount (NaN, negative)
    stands as the table has it. tiers: for longer prompts, each with `above_prompt_tokens`. service_tiers: those that the table
    tells whole. product: what others sell as well,
    a model without its seller or a GPU. first_day: where the table dates it; else the day of the import. faults: what its
    reader found wrong. makes_text: its completion tokens are made, and so cost something.
    """

    name: str
    kind: str
    figures: Figures
    seller: str
    product: str
    tiers: tuple[Figures, ...] = ()
    service_tiers: Mapping[str, OfferedTier] = field(default_factory=dict)
    purchase: str = "on_demand"
    gpu: str = ""
    gpus: int = 1
    makes_text: bool = True
    first_day: date | None = None
    faults: tuple[str, ...] = field(default=())

    @property
    def key(self) -> tuple[str, str]:
        """Who sells what: the same in every table."""
        return self.seller, self.product

    @property
    def parts(self) -> tuple[Figures, ...]:
        """Every set of rates."""
        inner = (part for tier in self.service_tiers.values() for part in (tier.figures, *tier.tiers))
        return (self.figures, *self.tiers, *inner)

    def row(self, day: date, source: str) -> dict[str, Any]:
        """As a row of `prices.yaml`, dated `day` unless the table has a later date. Figures are exact decimal text."""
        first_day = max(day, self.first_day) if self.first_day is not None else day
        row: dict[str, Any] = {"kind": self.kind, "from": first_day.isoformat()}
        if self.kind == "lease":
            if self.purchase != "on_demand":
                row["purchase"] = self.purchase
            row |= {"gpu": self.gpu, "gpus": self.gpus}
        row |= _told(self.figures, self.tiers)
        if self.service_tiers:
            row["service_tiers"] = {name: _told(one.figures, one.tiers) for name, one in self.service_tiers.items()}
        return row | {"source": source}


def _told(figures: Figures, tiers: Iterable[Figures]) -> dict[str, Any]:
    told: dict[str, Any] = {name: amount_text(usd) for name, usd in figures.items()}
    longer = [
        {name: int(value) if name == "above_prompt_tokens" else amount_text(value) for name, value in tier.items()}
        for tier in tiers
    ]
    return told | {"tiers": longer} if longer else told


def seller_of(name: str) -> str:
    """By one name, whatever the table calls it."""
    return SELLERS.get(name.lower(), name.lower())


def product_of(model: str) -> str:
    """A model's name without its seller, its variant for nothing, and the paths that some sellers put before it."""
    return model.rsplit("/", 1)[-1].lower().removesuffix(":free")


def amount(value: Any) -> Decimal:
    """A figure as it is written; NaN where it is no number, infinite where no figure of money can be so large."""
    if isinstance(value, bool):
        return Decimal("nan")
    try:
        written = Decimal(str(value).strip())
    except InvalidOperation:
        return Decimal("nan")
    if written.is_nan():
        return Decimal("nan")  # a signalling one would raise wherever it is reckoned with
    return Decimal("Infinity").copy_sign(written) if written.adjusted() > EXPONENT_MAX else written


def per_million(value: Any) -> Decimal:
    """A price of one token as that of a million, to the nano-dollar: tables have binary fractions in their last places."""
    return rounded(amount(value) * 1_000_000)


def rounded(usd: Decimal) -> Decimal:
    return usd.quantize(PLACES).normalize() if usd.is_finite() and abs(usd) < 10**15 else usd


def amount_text(usd: Decimal) -> str:
    return f"{usd:f}" if usd.is_finite() and abs(usd) < 10**15 else str(usd)
