"""Money is an integer number of nano-US-dollars; `Decimal` only while a price is being worked out.

Floats of money exist at the Prometheus boundary and nowhere else.
"""

from decimal import ROUND_HALF_EVEN, Decimal

NANOUSD_PER_USD = 1_000_000_000


def nanousd_from_usd(usd: Decimal) -> int:
    """Round an amount in US dollars to the nearest nano-dollar, halves to even."""
    return int((usd * NANOUSD_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def usd_text(nanousd: int) -> str:
    """An amount as exact decimal US dollars, nine places: 1_500 -> '0.000001500'."""
    sign = "-" if nanousd < 0 else ""
    whole, fraction = divmod(abs(nanousd), NANOUSD_PER_USD)
    return f"{sign}{whole}.{fraction:09d}"
