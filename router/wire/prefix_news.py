"""What workers tell one another of prefix caches, as bytes. Pure.

One message is one worker's news of a moment: who says it, and of each prompt that a replica computed the marks that were new
(`selection/affinity.py`). All integers are unsigned and little-endian, one kind after another, so that a message is read by a
few calls whatever is in it:

    version  1 byte     another version is not read
    teller   8 bytes    chosen by chance when a worker starts; it passes over its own messages
    count    2 bytes    of news, then of each its replica's name (8), the mark before the first (8), how many marks (2)
    marks    8 bytes each, all news' one after another, then
    tokens   2 bytes each, that each mark adds

Whoever can write to the same Redis can write anything: what is not such a message is refused, and what is one is bounded.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from ipaddress import ip_address
from struct import Struct, pack, unpack_from
from struct import error as StructError
from typing import NamedTuple
from urllib.parse import urlsplit

from router.domain.fleet import Replica

VERSION = 1
HEAD = Struct("<BQH")
NEWS = Struct("<QQH")
MARK_BYTES = 10
NEWS_MAX = 0xFFFF
# More than a stretch of text has (`wire/prefix.py`).
TOKENS_MAX = 0xFFFF


class Told(NamedTuple):
    """replica: its name here. before: the mark before the first of these, 0 at a prompt's beginning. tokens: that each mark adds.
    Without marks: the replica's cache is gone."""

    replica: int
    before: int
    marks: Sequence[int]
    tokens: Sequence[int]


class NotNews(Exception):
    """Bytes that are no message of this version; the message says why."""


def replica_name(replica: Replica, machine: str) -> int:
    """By what workers mean the same replica: its id and its URL, whatever else their configurations say. machine: that of the
    worker, which is part of the name where the URL leads to another server on every machine."""
    place = machine if _is_loopback(urlsplit(replica.url).hostname or "") else ""
    named = f"{replica.id}\0{replica.url}\0{place}"
    return int.from_bytes(blake2b(named.encode(), digest_size=8).digest(), "little")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def pack_news(teller: int, told: Sequence[Told]) -> bytes:
    """At most NEWS_MAX news; of a mark that adds more than TOKENS_MAX, that many."""
    marks = [mark for one in told for mark in one.marks]
    tokens = [min(added, TOKENS_MAX) for one in told for added in one.tokens]
    parts = [HEAD.pack(VERSION, teller, len(told))]
    parts += [NEWS.pack(one.replica, one.before, len(one.marks)) for one in told]
    parts.append(pack(f"<{len(marks)}Q{len(tokens)}H", *marks, *tokens))
    return b"".join(parts)


def teller_of(message: bytes) -> int:
    """Who says it. Raises NotNews."""
    try:
        version, teller, _ = HEAD.unpack_from(message)
    except StructError:
        raise NotNews("it is too short") from None
    if version != VERSION:
        raise NotNews(f"it is of version {version}, not {VERSION}")
    return int(teller)


def unpack_news(message: bytes) -> Iterator[Told]:
    """Raises NotNews, before it gives anything."""
    teller_of(message)
    count = HEAD.unpack_from(message)[2]
    marks_at = HEAD.size + count * NEWS.size
    if len(message) < marks_at:
        raise NotNews("it is too short")
    heads = list(NEWS.iter_unpack(message[HEAD.size : marks_at]))
    total = sum(head[2] for head in heads)
    if len(message) != marks_at + total * MARK_BYTES:
        raise NotNews("its length is not what it says")
    numbers = unpack_from(f"<{total}Q{total}H", message, marks_at)
    return _told(heads, numbers, total)


def _told(heads: Sequence[tuple[int, int, int]], numbers: tuple[int, ...], total: int) -> Iterator[Told]:
    at = 0
    for replica, before, count in heads:
        yield Told(replica, before, numbers[at : at + count], numbers[total + at : total + at + count])
        at += count
