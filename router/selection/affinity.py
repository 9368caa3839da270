"""What was sent where: which replica's prefix cache is likely to hold how much of a conversation. Pure; no clock, no I/O.

A conversation is known by marks along its prompt (`wire/prefix.py`), each a hash of all the text until there, salted with its
tenant: tenants share no cache (`cache_salt`), so they share no mark. For each replica the index holds as many marks as its KV
cache holds tokens, the least recently used go first, and of one prompt its end before its beginning, as vLLM evicts blocks. It
is this worker's own knowledge: what other workers sent is not in it, and an answer's own text only once it comes back in the
next prompt.

When the cache is worth going to is not decided here. A cached prefix makes a forecast earlier and a quote smaller, and waiting
makes them later and dearer: as soon as that costs more than computing the prompt anew, another replica is the better one.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from router.domain.request import PrefixMark

# A million tokens of a large model's KV cache in DRAM or beyond; what a provider keeps is not known.
TOKENS_UNKNOWN_MAX = 1_000_000
MARKS_MAX = 16_384  # of one replica, about 3 MB
# A prompt's last token is always computed, and vLLM shares whole blocks (`block_size`, 16 by default).
BLOCK_TOKENS = 16


class PrefixIndex:
    """For one thread. It outlives a configuration: `follow` says which replicas there are, and what their caches hold."""

    __slots__ = ("_holders", "_shelves")

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        self._holders: dict[int, set[str]] = {}  # replicas by mark

    def follow(self, capacities: Mapping[str, int]) -> None:
        """Tokens of KV cache by replica id. A replica whose capacity changed has been restarted: its cache is empty."""
        for replica, shelf in list(self._shelves.items()):
            if capacities.get(replica) != shelf.capacity_tokens:
                self.forget(replica)
                del self._shelves[replica]
        for replica, tokens in capacities.items():
            self._shelves.setdefault(replica, _Shelf(tokens))

    def forget(self, replica: str) -> None:
        """Its cache is gone: it was restarted, or slept."""
        shelf = self._shelves.get(replica)
        while shelf is not None and shelf.tokens_by_mark:
            self._drop(replica, shelf)

    def sent(self, replica: str, prefix: Sequence[PrefixMark]) -> None:
        """The replica has computed a prompt with these marks."""
        shelf = self._shelves.get(replica)
        if shelf is None or not prefix or prefix[-1].tokens > shelf.capacity_tokens:
            return
        held, holders = shelf.tokens_by_mark, self._holders
        for position in range(len(prefix) - 1, -1, -1):  # the beginning last: it is the most recently used
            mark = prefix[position]
            if mark.key in held:
                held.move_to_end(mark.key)
                continue
            tokens = mark.tokens - (prefix[position - 1].tokens if position else 0)
            held[mark.key] = tokens
            shelf.tokens += tokens
            holders.setdefault(mark.key, set()).add(replica)
        while shelf.tokens > shelf.capacity_tokens or len(held) > MARKS_MAX:
            self._drop(replica, shelf)

    def cached_tokens(self, prefix: Sequence[PrefixMark]) -> Mapping[str, int]:
        """Of this prompt's tokens, those that a replica's cache holds; a replica that holds none is not in it."""
        found: dict[str, int] = {}
        holders = self._holders
        if not holders or prefix[0].key not in holders:
            return found
        most = prefix[-1].tokens - BLOCK_TOKENS
        for mark in reversed(prefix):
            for replica in holders.get(mark.key, ()):
                if replica not in found:
                    found[replica] = min(mark.tokens, most)
        return found

    def _drop(self, replica: str, shelf: "_Shelf") -> None:
        key, tokens = shelf.tokens_by_mark.popitem(last=False)
        shelf.tokens -= tokens
        holding = self._holders[key]
        holding.discard(replica)
        if not holding:
            del self._holders[key]


class _Shelf:
    """What one replica holds: tokens that each mark adds to the one before it, the least recently used first."""

    __slots__ = ("capacity_tokens", "tokens", "tokens_by_mark")

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity_tokens = capacity_tokens
        self.tokens = 0
        self.tokens_by_mark: OrderedDict[int, int] = OrderedDict()
