"""The cache blocks of all that decode, counted without looking at any of them.

A decoding sequence takes one more block every `block_tokens` tokens. All gain tokens together (`TokenClock`), so it is enough
to know how many of them cross a block's edge at which of the clock's values, modulo the block.
"""

from load.kv_cache import BlockPool


class DecodeMemory:
    """Holds blocks in the pool for `count` sequences, as many as their steps up to the clock's `grown_tokens` need.

    draft_tokens: beyond its next token a step also writes what it drafts.
    """

    __slots__ = ("_block_tokens", "_crossing", "_draft_tokens", "_pool", "count", "grown_tokens")

    def __init__(self, pool: BlockPool, block_tokens: int, draft_tokens: int) -> None:
        self._pool = pool
        self._block_tokens = block_tokens
        self._draft_tokens = draft_tokens
        self._crossing = [0] * block_tokens
        self.count = 0
        self.grown_tokens = 0

    def blocks(self, total_tokens: int) -> int:
        """What a sequence of so many tokens, of which the last is to be computed, must hold."""
        return (total_tokens + self._draft_tokens - 1) // self._block_tokens + 1

    def join(self, base_tokens: int) -> None:
        """A sequence that holds what it needs at `grown_tokens`."""
        self._crossing[(1 - self._draft_tokens - base_tokens) % self._block_tokens] += 1
        self.count += 1

    def leave(self, base_tokens: int) -> int:
        """How many blocks it holds; they are the caller's from now on."""
        self._crossing[(1 - self._draft_tokens - base_tokens) % self._block_tokens] -= 1
        self.count -= 1
        return self.blocks(base_tokens + self.grown_tokens)

    def growth(self, tokens: int) -> int:
        """Blocks that are lacking for a step at the clock's value `tokens`."""
        gained = tokens - self.grown_tokens
        if gained <= 0 or not self.count:
            return 0
        crossing, block_tokens = self._crossing, self._block_tokens
        if gained == 1:
            return crossing[tokens % block_tokens]
        whole, rest = divmod(gained, block_tokens)
        start = (self.grown_tokens + 1) % block_tokens
        end = start + rest
        blocks = whole * self.count + sum(crossing[start:end])
        return blocks + sum(crossing[: end - block_tokens]) if end > block_tokens else blocks

    def grow(self, tokens: int) -> None:
        """Take them. Whoever planned the steps has seen to it that they are there."""
        self.grow_by(self.growth(tokens), tokens)

    def grow_by(self, fresh: int, tokens: int) -> None:
        """`grow`, for a caller that knows the growth already."""
        if fresh and not self._pool.take_fresh(fresh):
            raise AssertionError("a step was planned beyond the KV cache")
        if tokens > self.grown_tokens:
            self.grown_tokens = tokens
