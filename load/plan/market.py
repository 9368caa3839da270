"""What there is to build with and to pay: the shipped engine profiles, a price book, how good models are. Reads files."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import yaml
from pydantic import Field

from load.plan.fleet import Build
from load.plan.purchase import GpuOffer, TokenOffer, Way
from router.config.section import Shape
from router.config_shape import check_shape
from router.config_source import read_source
from router.pricing.book import PriceBook
from router.pricing.rows import HOURS_PER_YEAR, LeaseRow, OwnedRow, TokensRow
from router.profiles import Catalogue, shipped

PRICES = Path(__file__).with_name("prices.yaml")
QUALITY = Path(__file__).with_name("quality.yaml")
SERVERLESS = "serverless/"
GPUS = (1, 2, 4, 8)
QUANTIZATIONS = ("bf16", "fp8", "int8", "awq-int4", "nvfp4", "mxfp4")
# What a sheet must have a rate for; a quantization that would be computed in another gains nothing that its own kin does not.
NEEDS = {"fp8": "fp8", "int8": "int8", "nvfp4": "fp4"}
# How price books write what profiles call otherwise.
SUFFIXES = ("-sxm", "-80gb", "-sxm-80gb")


class Qualities(Shape):
    """See quality.yaml."""

    mmlu_pro: Mapping[str, float] = Field(min_length=1)
    recovery: Mapping[str, Mapping[str, float]]

    def of(self, model: str, models: Sequence[str]) -> float | None:
        """Relative to the best of these models; None where it is not known."""
        known = [self.mmlu_pro[one] for one in models if one in self.mmlu_pro]
        return self.mmlu_pro[model] / max(known) if model in self.mmlu_pro else None

    def kept(self, model: str, quantization: str) -> float | None:
        rows = self.recovery.get(quantization)
        return None if rows is None else rows.get(model, rows.get("any"))


def read_qualities(path: Path = QUALITY) -> Qualities:
    return Qualities.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def qualities_of(models: Sequence[str], told: Mapping[str, float], table: Qualities) -> dict[str, float]:
    """By model, unquantized; what somebody told goes before what the table says."""
    found = {model: quality for model in models if (quality := table.of(model, models)) is not None}
    return found | {model: quality for model, quality in told.items() if model in models}


def builds(
    models: Sequence[str],
    quantizations: Sequence[str],
    gpus: Sequence[str],
    qualities: Mapping[str, float],
    table: Qualities,
    catalogue: Catalogue | None = None,
) -> list[Build]:
    """Every deployment that fits. Raises LookupError for an unknown model, ValueError for an unknown quantization."""
    catalogue = catalogue or shipped()
    found = []
    for model in models:
        for gpu in gpus:
            sheet = catalogue.gpus[gpu]
            for quantization in quantizations:
                if (need := NEEDS.get(quantization)) and not sheet.tflops.get(need):
                    continue
                if model.startswith("gpt-oss") != (quantization == "mxfp4"):
                    continue  # gpt-oss comes in MXFP4, and nothing else does
                for count in GPUS:
                    deployment = catalogue.deployment(model, gpu, quantization, count)
                    try:
                        profile = catalogue.profile(deployment)
                    except ValueError as error:
                        if "leave no room" in str(error):
                            continue
                        raise
                    kept = table.kept(model, quantization)
                    quality = qualities[model] * kept if model in qualities and kept is not None else None
                    measured = catalogue.fit_of(deployment).points > 0
                    found.append(Build(model, gpu, count, quantization, profile, quality, measured))
    return found


def read_offers(
    path: Path, day: date, catalogue: Catalogue | None = None
) -> tuple[list[GpuOffer], list[TokenOffer], list[str]]:
    """Offers in force on a day, and the names of those that say nothing here: a GPU without a profile, no GPU at all. Raises
    ConfigRefused for what is no price book, OSError."""
    catalogue = catalogue or shipped()
    book = check_shape(read_source(path), PriceBook)
    gpu_offers: list[GpuOffer] = []
    token_offers: list[TokenOffer] = []
    unused: list[str] = []
    for name, rows in book.prices.items():
        current = [row for row in rows if row.is_in_force(day)]
        if not current:
            unused.append(name)
            continue
        row = max(current, key=lambda one: one.first_day)
        if isinstance(row, TokensRow):
            rates = row.token_rates()
            token_offers.append(
                TokenOffer(
                    name, name.rpartition("/")[2], rates.prompt / 1e9, rates.cached / 1e9, rates.completion / 1e9
                )
            )
            continue
        gpu = gpu_named(row.gpu, catalogue)
        if gpu is None:
            unused.append(name)
        elif isinstance(row, OwnedRow):
            per_hour = float(row.usd_per_hour()) / row.gpus
            capital = float(row.capital_usd) / row.gpus
            running = per_hour - capital / float(row.life_years) / HOURS_PER_YEAR
            gpu_offers.append(GpuOffer(name, gpu, Way.OWNED, per_hour, capital, running))
        else:
            gpu_offers.append(GpuOffer(name, gpu, _way(name, row), _per_gpu_hour(row)))
    return gpu_offers, token_offers, unused


def gpu_named(name: str, catalogue: Catalogue) -> str | None:
    """`H100-SXM` is the profiles' `h100`."""
    plain = name.lower()
    for suffix in ("", *SUFFIXES):
        if plain.removesuffix(suffix) in catalogue.gpus:
            return plain.removesuffix(suffix)
    return None


def _way(name: str, row: LeaseRow) -> Way:
    return Way.SERVERLESS if name.startswith(SERVERLESS) else Way(row.purchase)


def _per_gpu_hour(row: LeaseRow) -> float:
    return float(row.usd_per_hour * (1 - row.discount_ratio)) / row.gpus
