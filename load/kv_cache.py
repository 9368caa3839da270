"""The KV cache of one engine: blocks that sequences hold, share by content, and leave behind for reuse.

Pure bookkeeping in whole blocks, after vLLM's block pool: a full block whose content is named by a hash can be shared by
every sequence with the same prefix, outlives its last holder, and is evicted least recently used first. Nothing here knows
about time, steps or tokens' text.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """`capacity` blocks. `used` of them are held by sequences; the rest are free or evictable, which is the same to a taker."""

    __slots__ = ("_holders", "_idle", "capacity", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._holders: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def usage_ratio(self) -> float:
        return self.used / self.capacity

    @property
    def is_remembering(self) -> bool:
        """Whether blocks are named that nobody holds, so that taking one too many is felt by somebody."""
        return bool(self._idle)

    def match(self, hashes: Sequence[int]) -> int:
        """How many leading blocks of `hashes` are here already."""
        for position, block in enumerate(hashes):
            if block not in self._holders and block not in self._idle:
                return position
        return len(hashes)

    def take(self, shared: Sequence[int], fresh: int) -> bool:
        """Hold the blocks named in `shared` (all of them must match) and `fresh` new ones, or nothing at all.

        Returns whether there was room.
        """
        if shared:
            if not self.has_room(shared, fresh):
                return False
            holders, idle = self._holders, self._idle
            for block in shared:
                if block in holders:
                    holders[block] += 1
                else:
                    holders[block] = 1
                    del idle[block]
                    self.used += 1
        return self.take_fresh(fresh)

    def take_fresh(self, fresh: int) -> bool:
        """`take` with nothing shared."""
        used = self.used + fresh
        if used > self.capacity:
            return False
        self.used = used
        idle = self._idle
        while idle and used + len(idle) > self.capacity:
            idle.popitem(last=False)
        return True

    def has_room(self, shared: Sequence[int], fresh: int) -> bool:
        """Whether `take` would succeed."""
        if self.used + fresh + len(shared) <= self.capacity:
            return True
        holders = self._holders
        return self.used + fresh + sum(block not in holders for block in shared) <= self.capacity

    def publish(self, block: int) -> bool:
        """Name a private block by its content, so that others can share it.

        Returns False when the same content is already held under that name: the caller's copy stays private, as in vLLM.
        """
        if block in self._holders:
            return False
        self._idle.pop(block, None)
        self._holders[block] = 1
        return True

    def release(self, shared: Iterable[int], private: int) -> None:
        """Give up one hold on each block of `shared` and `private` unnamed blocks. Pass `shared` last block first, so that
        the tail of a prefix is evicted before its head."""
        self.used -= private
        for block in shared:
            holders = self._holders[block] - 1
            if holders:
                self._holders[block] = holders
            else:
                del self._holders[block]
                self._idle[block] = None
                self.used -= 1

    def clear(self) -> None:
        """Forget every block that nobody holds."""
        self._idle.clear()
