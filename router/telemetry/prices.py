"""What a million tokens of each class cost just now: a gauge over the last five minutes, on both bases.

Kept in memory and of this process alone: it is a rate to look at, not an account, and it begins anew with every start. What
each class made of a cost is decided with the charge (`pricing/classes.py`). Of attempts that were served; a class without
tokens in the window has no price and no sample.
"""

import time
from collections import deque
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


class RecentPrices(Collector):
    """`count` is for the event loop's thread, `collect` for any: a slot that is being filled is read a moment early."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._slots: deque[tuple[int, dict[Place, list[int]]]] = deque()

    def count(self, charge: Charge) -> None:
        """An attempt has ended."""
        prompt, cached = charge.cost_prompt_nanousd, charge.cost_cached_nanousd
        standard = charge.standard_nanousd
        if charge.status is not AttemptStatus.OK or prompt is None or cached is None or charge.cost_nanousd is None:
            return
        slot = charge.ended_ns // SLOT_NS
        slots = self._slots
        if not slots or slots[-1][0] < slot:
            slots.append((slot, {}))
            while len(slots) > SLOTS + 1:
                slots.popleft()
        facts, usage, sums = charge.facts, charge.usage, slots[-1][1]
        place = (facts.pool, facts.backend)
        entry = sums.get(place)
        if entry is None:
            entry = sums[place] = [0] * 9
        entry[0] += usage.prompt_tokens - usage.cached_tokens
        entry[1] += usage.cached_tokens
        entry[2] += usage.completion_tokens
        entry[3] += prompt
        entry[4] += cached
        entry[5] += charge.cost_nanousd - prompt - cached
        standard_prompt, standard_cached = charge.standard_prompt_nanousd or 0, charge.standard_cached_nanousd or 0
        entry[6] += standard_prompt
        entry[7] += standard_cached
        entry[8] += (standard or 0) - standard_prompt - standard_cached

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
                window[place] = [a + b for a, b in zip(window.get(place, [0] * 9), entry, strict=True)]
        for place, sums_ in window.items():
            for number, name in enumerate(CLASSES):
                if tokens := sums_[number]:
                    for offset, basis in ((3, "allocated"), (6, "standard")):
                        price = sums_[offset + number] / tokens / NANOUSD_PER_TOKEN
                        family.add_metric((*place, name, basis), price)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "jeton_token_cost_usd_per_million",
            "What a million tokens of a class cost over the last five minutes, US dollars. prompt: not cached. allocated: of"
            " the real bill, idle time aside; standard: at list price, or at a lease's target utilization.",
            labels=("pool", "backend", "class", "basis"),
        )
