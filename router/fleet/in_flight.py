"""Our own work in flight, replica by replica: the one load figure that is never stale.

A ticket remembers what it added and takes exactly that away again, once, so the counts cannot drift. Hold it with
`with`: between `enter` and the block nothing awaits, hence no cancellation can come between them. A replica with
nothing in flight has no entry, so replicas that are gone leave nothing behind. For one event loop; not for threads.
"""

from collections.abc import Mapping
from typing import Self

from router.domain.fleet import IDLE, Load


class InFlight:
    """The counts. `loads` is a live view by replica id, to be read only; a replica that is not in it is idle. `all_loads` has the
    work of other workers in it, too, as they told it last. Whose work has not changed has the same `Load` as before: by that the
    forecasts know what to work out again."""

    def __init__(self) -> None:
        # Plain dictionaries, for every candidate of every request is looked up in them.
        self._loads: dict[str, Load] = {}
        self._together: dict[str, Load] = {}
        self._elsewhere: Mapping[str, int] = {}
        self.loads: Mapping[str, Load] = self._loads
        self.all_loads: Mapping[str, Load] = self._loads

    def hear(self, elsewhere: Mapping[str, int]) -> None:
        """Other workers have so many attempts in flight, by replica."""
        self._elsewhere = {replica_id: attempts for replica_id, attempts in elsewhere.items() if attempts}
        if not self._elsewhere:
            self.all_loads = self._loads
            return
        self._together = dict(self._loads)
        for replica_id in self._elsewhere:
            self._put_together(replica_id)
        self.all_loads = self._together

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
        else:
            self._loads[replica_id] = Load(
                attempts,
                load.prefill_tokens + prefill_tokens,
                load.decoding + decoding,
                load.context_tokens + context_tokens,
            )
        if self._elsewhere:
            self._put_together(replica_id)

    def _put_together(self, replica_id: str) -> None:
        """Ours and others'. Of an attempt elsewhere nothing but its being there is known: it is taken to decode, on the context
        that ours have on average; the replica's own metrics know better."""
        load, others = self._loads.get(replica_id, IDLE), self._elsewhere.get(replica_id, 0)
        if not load.attempts and not others:
            self._together.pop(replica_id, None)
            return
        context_tokens = load.context_tokens // load.decoding * others if load.decoding else 0
        self._together[replica_id] = Load(
            load.attempts + others,
            load.prefill_tokens,
            load.decoding + others,
            load.context_tokens + context_tokens,
        )


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
