"""Says once in the log what was served under a service tier that its price has no rates for: what it cost nobody knows.

It is booked as unpriced, and counted (`jeton_unpriced_attempts_total`); which price lacks what is told here.
"""

import structlog

from router.domain.attempt import Charge
from router.domain.fleet import Billing

log = structlog.get_logger("jeton.missing_rates")

# Names are the providers' own; whoever makes up more is not listened to.
REMEMBERED_MAX = 1000


class MissingRates:
    """Of one process. A price that is another, and lacks it still, is told again."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str, str]] = set()

    def heed(self, charge: Charge) -> None:
        """Of an attempt whose cost is not known."""
        backend, price_id, service_tier = charge.facts.backend, charge.price_id, charge.usage.service_tier
        key = backend, price_id, service_tier
        is_for_its_tier = charge.billing == Billing.METERED and price_id and service_tier
        if not is_for_its_tier or key in self._told or len(self._told) >= REMEMBERED_MAX:
            return
        self._told.add(key)
        log.warning(
            "attempts are unpriced: their price has no rates for the service tier that served them",
            backend=backend,
            service_tier=service_tier,
            price_id=price_id,
            remedy=f"state what it costs under `service_tiers` of `{price_id.rpartition('@')[0]}` in prices.yaml",
        )
