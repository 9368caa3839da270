"""What chance decides of each request of a workload: whose it is, for which model, which question, and whether it is streamed.

Seed and number decide, whoever asks and in whatever order: a body that is sent over HTTP (`workload.py`) and a request in
simulated time (`simulate/asks.py`) are the same request. Pure.
"""

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from struct import Struct
from typing import NamedTuple

from load.traces import Arrival

# A hash is as good as a random generator for four numbers, and a fifteenth of what seeding one takes.
DRAWS, DRAW_BYTES = 4, 8
RANGE = 1 << 8 * DRAW_BYTES
LOTS = Struct(f"<{DRAWS}Q")


@dataclass(frozen=True, slots=True)
class Mix:
    """What is asked for and by whom, as weights; streaming_ratio: the share of requests that is streamed, 0–1, where the trace
    does not say."""

    models: Mapping[str, float]
    tenants: Mapping[str, float]
    streaming_ratio: float


class Draw(NamedTuple):
    """question: its place among the questions."""

    tenant: str
    model: str
    question: int
    is_streaming: bool


class Draws:
    """questions: how many there are."""

    def __init__(self, mix: Mix, questions: int, seed: int) -> None:
        self._known_tenants = frozenset(mix.tenants)
        self._tenants, self._models = _Urn(mix.tenants), _Urn(mix.models)
        self._questions = questions
        self._streaming_ratio = mix.streaming_ratio
        self._seed = seed

    def draw(self, number: int, arrival: Arrival) -> Draw:
        """Of the request with this number. A tenant that the trace names, and the mix knows, is kept."""
        lots = blake2b(b"%d/%d" % (self._seed, number), digest_size=DRAWS * DRAW_BYTES).digest()
        tenant, model, question, streams = LOTS.unpack(lots)
        return Draw(
            arrival.tenant if arrival.tenant in self._known_tenants else self._tenants.drawn(tenant / RANGE),
            self._models.drawn(model / RANGE),
            int(question / RANGE * self._questions),
            streams / RANGE < self._streaming_ratio if arrival.streams is None else arrival.streams,
        )


class _Urn:
    """Names by weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._names = list(weights)
        self._bounds = list(accumulate(weights.values()))

    def drawn(self, lot: float) -> str:
        """lot: 0 to below 1."""
        if len(self._names) == 1:
            return self._names[0]
        return self._names[min(bisect(self._bounds, lot * self._bounds[-1]), len(self._names) - 1)]
