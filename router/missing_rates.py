"""Says once in the log what was served that its price has no rates or no fee for: which service tier, calls of which hosted tool.

What it cost nobody knows. It is booked as unpriced, and counted (`jeton_unpriced_attempts_total`); which price lacks what is told
here.
"""

import structlog

from router.domain.attempt import Charge
from router.domain.fleet import Billing
from router.pricing.price import MeteredPrice, Price

log = structlog.get_logger("jeton.missing_rates")

# Names are the providers' own; whoever makes up more is not listened to.
REMEMBERED_MAX = 1000


class MissingRates:
    """Of one process. A price that is another, and lacks it still, is told again."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str, str, str]] = set()

    def heed(self, charge: Charge, price: Price | None) -> None:
        """Of an attempt whose cost is not known. price: that it was charged by."""
        if charge.billing != Billing.METERED or not isinstance(price, MeteredPrice):
            return
        backend, price_id, service_tier = charge.facts.backend, price.price_id, charge.usage.service_tier
        name = price_id.rpartition("@")[0]
        if price.tariff(service_tier) is None and self._is_new(backend, price_id, "service tier", service_tier):
            log.warning(
                "attempts are unpriced: their price has no rates for the service tier that served them",
                backend=backend,
                service_tier=service_tier,
                price_id=price_id,
                remedy=f"state what it costs under `service_tiers` of `{name}` in prices.yaml",
            )
        for tool, _ in charge.usage.tool_calls:
            if price.tool_nanousd(tool) is None and self._is_new(backend, price_id, "tool", tool):
                log.warning(
                    "attempts are unpriced: their price has no fee for calls of a tool that their provider ran",
                    backend=backend,
                    tool=tool,
                    price_id=price_id,
                    remedy=f"state what a call costs under `tool_call_usd` of `{name}` in prices.yaml",
                )

    def _is_new(self, backend: str, price_id: str, kind: str, name: str) -> bool:
        key = backend, price_id, kind, name
        if key in self._told or len(self._told) >= REMEMBERED_MAX:
            return False
        self._told.add(key)
        return True
