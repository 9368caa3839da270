"""A lane: those that decode at one pace, so that one clock moves them all and their blocks are counted together.

An engine has one, unless it is told that drafts are accepted more or less often by the kind of answer: then each such kind has
its own. A step is one step for all lanes; only what it yields differs.
"""

import heapq

from load.engine.memory import DecodeMemory
from load.engine.pace import TokenClock
from load.engine.sequence import EngineSequence


class Lane:
    """decoding: how many are in it, those among them that decode from the next step on included; base_tokens: Σ `_base` of them.

    endings: a heap, at which value of the clock who has all its tokens; fillings: at which one whose block is full. fresh: blocks
    that those in `memory` lack for the step that is being planned.
    """

    __slots__ = ("base_tokens", "clock", "decoding", "endings", "fillings", "fresh", "memory")

    def __init__(self, clock: TokenClock, memory: DecodeMemory) -> None:
        self.clock = clock
        self.memory = memory
        self.decoding = 0
        self.base_tokens = 0
        self.fresh = 0
        self.endings: list[tuple[int, int, EngineSequence]] = []
        self.fillings: list[tuple[int, int, EngineSequence]] = []

    def steps_until_one_ends(self) -> int:
        endings, clock = self.endings, self.clock
        while endings[0][2]._ends_tokens != endings[0][0] or endings[0][2]._clock is None:
            heapq.heappop(endings)  # of one that was aborted or preempted meanwhile
        return clock.until(endings[0][0]) if clock.is_speculating else endings[0][0] - clock.tokens

    def growth_after(self, steps: int) -> int:
        """Blocks that it takes beyond those it has now, for so many steps from now on."""
        clock = self.clock
        return self.memory.growth(clock.after(steps - 1) if clock.is_speculating else clock.tokens + steps - 1)
