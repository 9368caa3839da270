"""What a million tokens of each class cost just now: a gauge over the last five minutes, on both bases.

Kept in memory and of this process alone: it is a rate to look at, not an account, and it begins anew with every start. What
each class made of a cost is decided with the charge (`pricing/classes.py`). Of attempts that were served; a class without
tokens in the window has no price and no sample.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.domain.attempt import AttemptStatus, Charge

WINDOW_SECONDS = 300
SLOT_NS = 10 * 10**9
SLOTS = WINDOW_SECONDS * 10**9 // SLOT_NS
CLASSES = ("prompt", "cached", "completion")
# A nano-dollar a token is a thousandth of a dollar a million.
NANOUSD_PER_TOKEN = 1000

Place = tuple[str, str]
# Tokens of the prompt, those of them cached, of the completion; cost of the prompt that was not cached, of what was, of all; and
# likewise the standard cost.
SUMS = 9
_Sums = defaultdict[Place, list[int]]


class RecentPrices(Collector):
    """`count` is for the event loop's thread, `collect` for any: a slot that is being filled is read a moment early."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._slots: deque[tuple[int, _Sums]] = deque()
        self._sums: _Sums = defaultdict(lambda: [0] * SUMS)
        self._slot_ends_ns = 0

    def count(self, charge: Charge) -> None:
        """An attempt has ended."""
        prompt, cached, cost = charge.cost_prompt_nanousd, charge.cost_cached_nanousd, charge.cost_nanousd
        if prompt is None or cached is None or cost is None or charge.status is not AttemptStatus.OK:
            return
        if charge.ended_ns >= self._slot_ends_ns:
            self._begin(charge.ended_ns // SLOT_NS)
        facts, usage = charge.facts, charge.usage
        entry = self._sums[facts.pool, facts.backend]
        entry[0] += usage.prompt_tokens
        entry[2] += usage.completion_tokens
        entry[3] += prompt
        entry[5] += cost
        entry[6] += charge.standard_prompt_nanousd or 0
        entry[8] += charge.standard_nanousd or 0
        if usage.cached_tokens:
            entry[1] += usage.cached_tokens
            entry[4] += cached
            entry[7] += charge.standard_cached_nanousd or 0

    def _begin(self, slot: int) -> None:
        self._sums = defaultdict(lambda: [0] * SUMS)
        self._slot_ends_ns = (slot + 1) * SLOT_NS
        self._slots.append((slot, self._sums))
        while len(self._slots) > SLOTS + 1:
            self._slots.popleft()

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        oldest = self._now_ns() // SLOT_NS - SLOTS
        window: dict[Place, list[int]] = {}
        for slot, sums in list(self._slots):
            if slot <= oldest:
                continue
            for place, entry in list(sums.items()):
                window[place] = [a + b for a, b in zip(window.get(place, [0] * SUMS), entry, strict=True)]
        for place, (prompt_tokens, cached_tokens, completion_tokens, *amounts) in window.items():
            counts = (prompt_tokens - cached_tokens, cached_tokens, completion_tokens)
            for basis, (prompt, cached, whole) in (("allocated", amounts[:3]), ("standard", amounts[3:])):
                parts = (prompt, cached, whole - prompt - cached)
                for name, tokens, nanousd in zip(CLASSES, counts, parts, strict=True):
                    if tokens:
                        family.add_metric((*place, name, basis), nanousd / tokens / NANOUSD_PER_TOKEN)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "jeton_token_cost_usd_per_million",
            "What a million tokens of a class cost over the last five minutes, US dollars. prompt: not cached. allocated: of"
            " the real bill, idle time aside; standard: at list price, or at a lease's target utilization.",
            labels=("pool", "backend", "class", "basis"),
        )
