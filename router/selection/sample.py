"""Which replicas of a backend a request looks at, where the backend has more than can be looked at each time.

Those that hold the beginning of its prompt, and others by chance. Of a few by chance the best is nearly as good as that of all
(Mitzenmacher, "The power of two choices in randomized load balancing", 2001), and a decision takes the same time over a thousand
replicas as over fifty. Chance is a hash of the request's id: a request that is asked about again sees the same ones, and so does
the simulation. Pure.
"""

from collections.abc import Iterator, Mapping
from zlib import crc32

from router.selection.site import Seat, Site

# Of those that are looked at, so many may be there because of their prefix cache, so that others have a chance.
HOLDERS_RATIO = 0.5


def by_chance(site: Site, request_id: str, seats_max: int) -> list[Seat]:
    """The first of `in_order_of_chance` where nobody holds anything of the prompt: no more of them than the site has."""
    seats, lot, strides = site.seats, crc32(request_id.encode()), site.strides
    count, stride = len(seats), strides[lot % len(strides)]
    at = (lot >> 8) % count
    return [seats[place % count] for place in range(at, at + stride * seats_max, stride)]


def in_order_of_chance(site: Site, request_id: str, cached_tokens: Mapping[str, int], seats_max: int) -> Iterator[Seat]:
    """Every seat of the site once: first who holds most of the prompt, then the others in an order of chance."""
    seats, holders = site.seats, tuple[Seat, ...]()
    if cached_tokens:
        holders = tuple(site.holders(cached_tokens, int(seats_max * HOLDERS_RATIO)))
        yield from holders
    lot, count = crc32(request_id.encode()), len(seats)
    strides = site.strides
    stride, at = strides[lot % len(strides)], (lot >> 8) % count
    for _ in range(count):
        seat = seats[at]
        at = (at + stride) % count
        if seat not in holders:
            yield seat
