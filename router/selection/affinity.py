"""What was sent where: which replica's prefix cache is likely to hold how much of a conversation. Pure; no clock, no I/O.

A conversation is known by marks along its prompt (`wire/prefix.py`), each a hash of all the text until there, salted with its
tenant: tenants share no cache (`cache_salt`), so they share no mark. For each replica the index holds as many marks as its KV
cache holds tokens, the least recently used go first, and of one prompt its end before its beginning, as vLLM evicts blocks. An
answer's own text is in it only once it comes back in the next prompt.

It may know of other workers' work, too (`prefix_news.py`): what is new to it is kept for whoever tells them (`take_untold`), and
what they tell is `heard`. Then each replica's shelf is filled by all that all workers send there, as its cache is, and drops what
the replica drops; an index that knows one worker of four sees a quarter of what fills the cache, and thinks conversations to be
there four times as long as they are. Only what is new is told, so that a turn costs the others what it adds to its conversation,
not the conversation. That the rest was used again they know by following each mark to the one before it, which they do when an
eighth of the cache was computed since: a beginning is dropped an eighth of the cache too early at worst.

When the cache is worth going to is not decided here. A cached prefix makes a forecast earlier and a quote smaller, and waiting
makes them later and dearer: as soon as that costs more than computing the prompt anew, another replica is the better one.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.domain.request import PrefixMark

# A million tokens of a large model's KV cache in DRAM or beyond; what a provider keeps is not known.
TOKENS_UNKNOWN_MAX = 1_000_000
MARKS_MAX = 16_384  # of one replica, about 8 MB
# A prompt's last token is always computed, and vLLM shares whole blocks (`block_size`, 16 by default).
BLOCK_TOKENS = 16
# Of all that waits to be told; the oldest is given up.
UNTOLD_MARKS_MAX = 16_384
# A part of a replica's cache: when so much was computed since, the whole of a conversation that goes on is taken for used again.
FRESH_SHARE = 8
# How far marks are followed to the beginning: as many as a prompt has (`wire/prefix.py`), whoever says what they follow.
STEPS_MAX = 512
NO_MARK = PrefixMark(0, 0)


class PrefixNews(NamedTuple):
    """A replica has computed a prompt. marks: those that were new, or the last where none was; before: the one before them, or
    NO_MARK. Without marks: its cache is gone."""

    replica: str
    before: PrefixMark
    marks: tuple[PrefixMark, ...]


class PrefixIndex:
    """For one thread. It outlives a configuration: `follow` says which replicas there are, and what their caches hold.

    is_shared: somebody takes what there is to tell, and tells what is heard. given_up: news that nobody took in time.
    own_tokens, heard_tokens: prompt tokens that the replica which computed them was known to hold, by whose work that was known.
    """

    __slots__ = (
        "_holders",
        "_shelves",
        "_untold",
        "_untold_marks",
        "given_up",
        "heard_tokens",
        "is_shared",
        "own_tokens",
    )

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        self._holders: dict[int, set[str]] = {}  # replicas by mark
        self._untold: deque[PrefixNews] = deque()
        self._untold_marks = 0
        self.is_shared = False
        self.given_up = 0
        self.own_tokens = 0
        self.heard_tokens = 0

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
        while shelf is not None and shelf.kept:
            self._drop(replica, shelf)

    def restarted(self, replica: str) -> None:
        """Its cache is gone, and that is to be told: what was told of it before is no longer so."""
        self.forget(replica)
        if self.is_shared:
            self._untold = deque(news for news in self._untold if news.replica != replica)
            self._untold_marks = sum(len(news.marks) for news in self._untold)
            self._untold.append(PrefixNews(replica, NO_MARK, ()))

    def sent(self, replica: str, prefix: Sequence[PrefixMark]) -> None:
        """The replica has computed a prompt with these marks."""
        shelf = self._shelves.get(replica)
        if shelf is None or not prefix or prefix[-1].tokens > shelf.capacity_tokens:
            return
        kept = shelf.kept
        deepest_known, first_new = -1, len(prefix)
        for position in range(len(prefix) - 1, -1, -1):  # the beginning last: it is the most recently used
            mark = prefix[position]
            if mark.key in kept:
                kept.move_to_end(mark.key)
                if deepest_known < 0:
                    deepest_known = position
                continue
            first_new = position
            before = prefix[position - 1] if position else NO_MARK
            self._keep(replica, shelf, mark.key, mark.tokens - before.tokens, before.key, shelf.computed_tokens, False)
        if deepest_known >= 0:
            known = prefix[deepest_known]
            if kept[known.key][3]:
                self.heard_tokens += known.tokens
            else:
                self.own_tokens += known.tokens
        if self.is_shared:
            self._tell(replica, prefix, min(first_new, len(prefix) - 1))
        self._shrink(replica, shelf)

    def heard(self, replica: str, before: int, keys: Sequence[int], tokens: Sequence[int]) -> None:
        """The replica has computed a prompt of another worker's, with these new marks. before: the mark that they follow, 0 at
        the beginning. tokens: that each adds. Of a replica that is not in the fleet nothing is kept."""
        shelf = self._shelves.get(replica)
        if shelf is None or not keys:
            return
        kept = shelf.kept
        fresh_at = shelf.computed_tokens
        is_stale = False
        parent = kept.get(before)
        if parent is not None:
            is_stale = (fresh_at - parent[2]) * FRESH_SHARE > shelf.capacity_tokens
            if is_stale:
                kept[before] = (parent[0], parent[1], fresh_at, parent[3])
            else:
                fresh_at = parent[2]
        for position in range(len(keys) - 1, -1, -1):
            key = keys[position]
            if key in kept:
                kept.move_to_end(key)
            else:
                self._keep(
                    replica, shelf, key, tokens[position], keys[position - 1] if position else before, fresh_at, True
                )
        if is_stale:
            key = before
            for _ in range(STEPS_MAX):
                one = kept.get(key)
                if one is None:
                    break
                kept.move_to_end(key)
                key = one[1]
        self._shrink(replica, shelf)

    def take_untold(self, marks_max: int) -> list[PrefixNews]:
        """The oldest that nobody was told: with so many marks in all, or one that has more."""
        taken: list[PrefixNews] = []
        marks = 0
        while self._untold and (not taken or marks + len(self._untold[0].marks) <= marks_max):
            news = self._untold.popleft()
            marks += len(news.marks)
            taken.append(news)
        self._untold_marks -= marks
        return taken

    def cached_tokens(self, prefix: Sequence[PrefixMark]) -> Mapping[str, int]:
        """Of this prompt's tokens, those that a replica's cache holds; a replica that holds none is not in it."""
        found: dict[str, int] = {}
        holders = self._holders
        # Of what was heard the beginning may be missing, for it was told before we listened.
        if not holders or (not self.is_shared and prefix[0].key not in holders):
            return found
        most = prefix[-1].tokens - BLOCK_TOKENS
        for mark in reversed(prefix):
            holding = holders.get(mark.key)
            if holding is not None:
                for replica in holding:
                    if replica not in found:
                        found[replica] = min(mark.tokens, most)
        return found

    def _keep(
        self, replica: str, shelf: "_Shelf", key: int, tokens: int, before: int, fresh_at: int, is_heard: bool
    ) -> None:
        shelf.kept[key] = (tokens, before, fresh_at, is_heard)
        shelf.tokens += tokens
        shelf.computed_tokens += tokens
        self._holders.setdefault(key, set()).add(replica)

    def _tell(self, replica: str, prefix: Sequence[PrefixMark], first: int) -> None:
        marks = tuple(prefix[first:])
        self._untold.append(PrefixNews(replica, prefix[first - 1] if first else NO_MARK, marks))
        self._untold_marks += len(marks)
        while self._untold_marks > UNTOLD_MARKS_MAX:
            self._untold_marks -= len(self._untold.popleft().marks)
            self.given_up += 1

    def _shrink(self, replica: str, shelf: "_Shelf") -> None:
        while shelf.tokens > shelf.capacity_tokens or len(shelf.kept) > MARKS_MAX:
            self._drop(replica, shelf)

    def _drop(self, replica: str, shelf: "_Shelf") -> None:
        key, one = shelf.kept.popitem(last=False)
        shelf.tokens -= one[0]
        holding = self._holders[key]
        holding.discard(replica)
        if not holding:
            del self._holders[key]


class _Shelf:
    """What one replica holds, the least recently used first.

    kept: by mark the tokens that it adds to the one before it, that one, when those before it were last taken for used, and
    whether it was heard of. computed_tokens: ever, by which that time is told.
    """

    __slots__ = ("capacity_tokens", "computed_tokens", "kept", "tokens")

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity_tokens = capacity_tokens
        self.tokens = 0
        self.computed_tokens = 0
        self.kept: OrderedDict[int, tuple[int, int, int, bool]] = OrderedDict()
