"""A price as text and back, whole and exact, so that what it was can be read when no price book has it any more."""

from typing import Any

import orjson
from pydantic import TypeAdapter

from router.pricing.price import LeasedPrice, MeteredPrice, Price

# Said only where there are any, so that the snapshot of any other price is what it was before there were fees.
_NO_TOOL_FEES = b',"tool_call_nanousd":[]'

_READERS: dict[str, TypeAdapter[Any]] = {
    "leased": TypeAdapter(LeasedPrice),
    "metered": TypeAdapter(MeteredPrice),
}


def snapshot_text(price: Price) -> str:
    """JSON with every member of the price, and its kind."""
    kind = "leased" if isinstance(price, LeasedPrice) else "metered"
    return orjson.dumps({"kind": kind, "price": price}).replace(_NO_TOOL_FEES, b"").decode()


def price_from_snapshot(text: str) -> Price:
    """Raises ValueError when it cannot be read as a price."""
    try:
        members = orjson.loads(text)
        price: Price = _READERS[members["kind"]].validate_python(members["price"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a price ({type(error).__name__})") from None
    return price
