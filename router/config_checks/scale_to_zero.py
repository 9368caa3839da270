"""Replicas that are stopped when nothing is asked of them: leased by the second, at addresses that stay, and waited for."""

from collections.abc import Iterator

from router.config_checks.reading import Reading
from router.config_source import Finding
from router.domain.fleet import Billing
from router.pricing.book import LeasedPrice
from router.pricing.price import Purchase


def check_scale_to_zero(reading: Reading) -> Iterator[Finding]:
    timeouts = reading.config.timeouts
    for place, pool, backend in reading.backends():
        terms = backend.scale_to_zero
        if terms is None:
            continue
        at = (*place, "scale_to_zero")
        if pool.billing is not Billing.LEASED:
            what = f"`{backend.name}` is paid by the token, whether or not anything runs"
            yield reading.source.finding(
                at, what, "remove `scale_to_zero`, or move the backend to a leased pool", at_member=True
            )
            continue
        if backend.discovery is not None:
            what = f"a replica of `{backend.name}` that is stopped would not be found, and so never be woken"
            remedy = "list under `replicas` the addresses at which requests are held until a replica is there"
            yield reading.source.finding((*place, "discovery"), what, remedy, at_member=True)
        if terms.cold_start_seconds >= timeouts.first_byte_seconds:
            seconds = terms.cold_start_seconds
            what = (
                f"a cold start of {seconds:g} s outlasts `timeouts.first_byte_seconds`, {timeouts.first_byte_seconds:g}"
            )
            remedy = f"raise that to what a start may take at most, {2 * seconds:g} for instance"
            yield reading.source.finding((*at, "cold_start_seconds"), what, remedy)
        if reading.book is None:
            continue
        try:
            price = reading.book.in_force(backend.price, reading.day)
        except LookupError:
            continue  # told by the prices
        if isinstance(price, LeasedPrice) and price.purchase in (Purchase.RESERVED, Purchase.OWNED):
            what = f"the price `{backend.price}` is {price.purchase.value}: it is paid while nothing runs, too"
            yield reading.source.finding(
                at, what, "remove `scale_to_zero`, or name a price that is paid as it is used", at_member=True
            )
