"""Every backend has a price in force, of its pool's kind, that will last and comes from where it can be believed."""

from collections.abc import Iterator
from datetime import timedelta

from router.config_checks.hosts import is_private
from router.config_checks.reading import Reading
from router.config_source import Finding
from router.domain.fleet import Billing
from router.pricing.book import LeasedPrice
from router.pricing.freshness import PriceState, standing
from router.pricing.price import Purchase

PRICE_ENDS_SOON = timedelta(days=30)


def check_prices(reading: Reading) -> Iterator[Finding]:
    if reading.book is None:
        return
    for place, pool, backend in reading.backends():
        try:
            price = reading.book.in_force(backend.price, reading.day)
        except LookupError as error:
            what, _, remedy = str(error.args[0]).partition("; ")
            what = f"the backend `{backend.name}` has no price in force on {reading.day}: {what}"
            yield reading.source.finding((*place, "price"), what, remedy or f"add a row to {reading.config.prices}")
            continue
        is_leased = isinstance(price, LeasedPrice)
        if is_leased != (pool.billing is Billing.LEASED):
            price_kind, needed = ("by the hour", "by the token") if is_leased else ("by the token", "by the hour")
            what = f"the price `{backend.price}` is {price_kind}, but the pool `{pool.name}` is {pool.billing.value}"
            remedy = f"name a price {needed}, or move the backend to a pool that is billed so"
            yield reading.source.finding((*place, "price"), what, remedy)
        is_spot = isinstance(price, LeasedPrice) and price.purchase is Purchase.SPOT
        if backend.preemption is not None and not is_spot:
            what = f"replicas of `{backend.name}` are not taken away: its price `{backend.price}` is none of spot"
            remedy = "remove `preemption`, or give the price `purchase: spot`"
            yield reading.source.finding((*place, "preemption"), what, remedy, at_member=True)


def prices_that_end(reading: Reading) -> Iterator[Finding]:
    if reading.book is None:
        return
    soon = reading.day + PRICE_ENDS_SOON
    for place, _, backend in reading.backends():
        try:
            reading.book.in_force(backend.price, soon)
        except LookupError:
            what = f"the price `{backend.price}` ends before {soon}; jeton will not start without one"
            yield reading.source.finding((*place, "price"), what, f"add its successor to {reading.config.prices}")


def stale_prices(reading: Reading) -> Iterator[Finding]:
    if reading.book is None:
        return
    for place, _, backend in reading.backends():
        if reading.book.feed_of(backend.price) is None:
            one = standing(reading.book, backend.price, reading.now_seconds)
            if one.state is PriceState.STALE:
                what, _, remedy = one.why.partition("; ")
                yield reading.source.finding(
                    (*place, "price"), f"the price `{backend.price}` is stale: it {what}", remedy
                )


def prices_over_plain_http(reading: Reading) -> Iterator[Finding]:
    for feed, terms in reading.book.feeds.items() if reading.book is not None else ():
        if terms.url is not None and terms.url.startswith("http:") and not is_private(terms.url):
            what = f"the price feed `{feed}` is read from {terms.url} in clear text: whoever is on the way sets prices"
            yield reading.source.finding(("prices",), what, "use https://")
