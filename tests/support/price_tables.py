"""The extracts of public price tables, read."""

from pathlib import Path

from router.pricing.tables.offer import Offer
from router.pricing.tables.reading import read_table

TABLES = Path(__file__).parents[1] / "data" / "price_tables"
LITELLM = TABLES / "litellm.json"
GENAI_PRICES = TABLES / "genai_prices.json"
OPENROUTER = TABLES / "openrouter.json"
SKYPILOT = TABLES / "nebius" / "vms.csv"


def offers(path: Path) -> list[Offer]:
    return read_table(path.read_text(), cloud="nebius")[1]


def offer(path: Path, name: str) -> Offer:
    """The first of that name."""
    return next(one for one in offers(path) if one.name == name)
