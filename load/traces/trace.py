"""A trace and one request of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple


class Arrival(NamedTuple):
    """One request of a trace. Tokens are counted in the tokenizer of the source.

    seconds: since the trace began. session: one chain of requests, each with its predecessor's conversation as its prefix; ""
    for a request that stands alone. turn: its place in the chain, from 0. think_seconds: what the client waited after the
    previous answer of the session before it sent this; None where it was not recorded. kind: chat, code, agent, …, as the
    source says. tenant: who sent it, where the source tells clients apart. streams: whether it asked for a stream; None where
    it is not told.
    blocks: the prompt in blocks of the trace's `block_tokens`, as runs of ids; the same id means the same prompt up to there.
    """

    seconds: float
    prompt_tokens: int
    completion_tokens: int
    session: str = ""
    turn: int = 0
    think_seconds: float | None = None
    kind: str = ""
    tenant: str = ""
    streams: bool | None = None
    blocks: tuple[range, ...] = ()

    def block_ids(self) -> Iterator[int]:
        return chain.from_iterable(self.blocks)


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival. block_tokens: of a block of `Arrival.blocks`; 0 without them.

    Raises ValueError for one that is empty, out of order, or has a request without tokens.
    """

    arrivals: Sequence[Arrival]
    block_tokens: int = 0

    def __post_init__(self) -> None:
        if not self.arrivals:
            raise ValueError("it has no requests")
        if any(later.seconds < earlier.seconds for earlier, later in pairwise(self.arrivals)):
            raise ValueError("its requests are not in the order of their arrival")
        for arrival in self.arrivals:
            if arrival.prompt_tokens < 1 or arrival.completion_tokens < 1 or arrival.seconds < 0:
                raise ValueError(f"the request at {arrival.seconds:g} s has no tokens, or came before the trace began")

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def seconds(self) -> float:
        """From the first request to the last."""
        return self.arrivals[-1].seconds - self.arrivals[0].seconds


def runs(ids: Sequence[int]) -> tuple[range, ...]:
    """Block ids as runs of neighbours."""
    found: list[range] = []
    for one in ids:
        if found and found[-1].stop == one:
            found[-1] = range(found[-1].start, one + 1)
        else:
            found.append(range(one, one + 1))
    return tuple(found)
