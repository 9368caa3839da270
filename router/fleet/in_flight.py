"""Our own work in flight, replica by replica: the one load figure that is never stale.

A ticket remembers what it added and takes exactly that away again, once, so the counts cannot drift. Hold it with
`with`: between `enter` and the block nothing awaits, hence no cancellation can come between them. A replica with
nothing in flight has no entry, so replicas that are gone leave nothing behind. For one event loop; not for threads.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Self

from router.domain.fleet import IDLE, Load


class InFlight:
    """The counts. `loads` is a live, read-only view by replica id; a replica that is not in it is idle. `all_loads` has the work
    of other workers in it, too, as they told it last."""

    def __init__(self) -> None:
        self._loads: dict[str, Load] = {}
        self.loads: Mapping[str, Load] = MappingProxyType(self._loads)
        self.all_loads: Mapping[str, Load] = self.loads

    def hear(self, elsewhere: Mapping[str, int]) -> None:
        """Other workers have so many attempts in flight, by replica."""
        self.all_loads = _Together(self.loads, elsewhere) if elsewhere else self.loads

    def enter(self, replica_id: str, prompt_tokens: int) -> "Ticket":
        """An attempt starts at the replica, its prompt still to be prefilled."""
        ticket = Ticket(self, replica_id, prompt_tokens)
        self._add(replica_id, 1, prompt_tokens, 0, 0)
        return ticket

    def _add(self, replica_id: str, attempts: int, prefill_tokens: int, decoding: int, context_tokens: int) -> None:
        load = self._loads.get(replica_id, IDLE)
        attempts += load.attempts
        if attempts == 0:
            del self._loads[replica_id]
            return
        self._loads[replica_id] = Load(
            attempts,
            load.prefill_tokens + prefill_tokens,
            load.decoding + decoding,
            load.context_tokens + context_tokens,
        )


class _Together(Mapping[str, Load]):
    """Ours and others'. Of an attempt elsewhere nothing but its being there is known: it is taken to decode, on the context that
    ours have on average; the replica's own metrics know better."""

    __slots__ = ("_elsewhere", "_ours")

    def __init__(self, ours: Mapping[str, Load], elsewhere: Mapping[str, int]) -> None:
        self._ours = ours
        self._elsewhere = elsewhere

    def __getitem__(self, replica_id: str) -> Load:
        others = self._elsewhere.get(replica_id, 0)
        if not others:
            return self._ours[replica_id]
        load = self._ours.get(replica_id, IDLE)
        context_tokens = load.context_tokens // load.decoding * others if load.decoding else 0
        return Load(
            load.attempts + others,
            load.prefill_tokens,
            load.decoding + others,
            load.context_tokens + context_tokens,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._ours.keys() | self._elsewhere.keys())

    def __len__(self) -> int:
        return len(self._ours.keys() | self._elsewhere.keys())


class Ticket:
    """One attempt's part of the counts; a context manager that leaves at its end, however that comes about."""

    __slots__ = ("_context_tokens", "_in_flight", "_is_decoding", "_prefill_tokens", "replica_id")

    def __init__(self, in_flight: InFlight, replica_id: str, prompt_tokens: int) -> None:
        self.replica_id = replica_id
        self._in_flight: InFlight | None = in_flight  # None once it has left
        self._prefill_tokens = prompt_tokens
        self._context_tokens = 0
        self._is_decoding = False

    def first_token(self, context_tokens: int) -> None:
        """Prefill is over; from now on the attempt decodes on this much context (again, with more, as it grows)."""
        if self._in_flight is None:
            return
        begins = 0 if self._is_decoding else 1
        grown = context_tokens - self._context_tokens
        self._in_flight._add(self.replica_id, 0, -self._prefill_tokens, begins, grown)
        self._prefill_tokens = 0
        self._context_tokens = context_tokens
        self._is_decoding = True

    def leave(self) -> None:
        """The attempt is over. A second call does nothing."""
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            decoding = 1 if self._is_decoding else 0
            in_flight._add(self.replica_id, -1, -self._prefill_tokens, -decoding, -self._context_tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
