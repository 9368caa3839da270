"""One engine on the event loop's clock: wakes when a step ends and tells each sequence's listener what it yielded.

One timer per engine, however many sequences run. What must not live here: HTTP, text.
"""

import asyncio
from collections.abc import Callable, Sequence

from load.engine import Engine, EngineSequence, Step

Listener = Callable[[EngineSequence], None]


class Pump:
    """time_factor: engine seconds per second of the wall clock; 2.0 runs the engine twice as fast.

    on_step is told of every step, in order, before the listeners are.
    """

    def __init__(
        self, engine: Engine, *, time_factor: float = 1.0, on_step: Callable[[Step], None] | None = None
    ) -> None:
        self.engine = engine
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._time_factor = time_factor
        self._on_step = on_step
        self._listeners: dict[EngineSequence, Listener] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._frozen_at: float | None = None
        self._delivered_seconds: float | None = None  # until when, while listeners are being told

    def now_seconds(self) -> float:
        """The engine's time."""
        now = self._loop.time() if self._frozen_at is None else self._frozen_at
        return (now - self._began) * self._time_factor

    def freeze(self) -> None:
        """The engine's time stands still."""
        if self._frozen_at is None:
            self._tick()
            self._frozen_at = self._loop.time()
            self._disarm()

    def thaw(self) -> None:
        """It goes on from where it stood."""
        if self._frozen_at is not None:
            self._began += self._loop.time() - self._frozen_at
            self._frozen_at = None
            self._arm()

    def pause(self, *, is_finishing: bool = False) -> None:
        """Begin no further step; is_finishing: but let those that run come to their end."""
        self.engine.pause(self._tick(), is_finishing=is_finishing)

    def resume(self) -> None:
        self.engine.resume(self._tick())
        self._arm()

    def submit(self, work: Sequence[tuple[EngineSequence, Listener]]) -> None:
        """Queue sequences at one moment. A listener is called after each step in which its sequence progressed, the last
        time when that is over. Raises ValueError as the engine does."""
        now_seconds = self._tick()
        for sequence, listener in work:
            self.engine.submit(sequence, now_seconds)
            self._listeners[sequence] = listener
        self._arm()

    def abort(self, sequence: EngineSequence) -> None:
        """Drop a sequence; its listener hears no more."""
        self._listeners.pop(sequence, None)
        if self._delivered_seconds is None:
            self.engine.abort(sequence, self._tick())
        else:  # asked by a listener: the engine is as far as what it was told
            self.engine.abort(sequence, self._delivered_seconds)

    def close(self) -> None:
        self._disarm()
        for sequence in list(self._listeners):
            self.abort(sequence)

    def _tick(self) -> float:
        """Let every step end that is due, one by one: when the loop was late, each token still goes out by itself and in
        the order of the engine. Returns the engine's time up to which all is told; what is asked of the engine next must
        be asked at that time, for it would pass in silence over a step that ended since."""
        now_seconds = self.now_seconds()
        while (due := self.engine.next_step_seconds) is not None and due <= now_seconds:
            for step in self.engine.advance_steps(due):
                self._delivered_seconds = step.ended_seconds
                try:
                    self._deliver(step)
                finally:
                    self._delivered_seconds = None
        return now_seconds

    def _deliver(self, step: Step) -> None:
        if self._on_step is not None:
            self._on_step(step)
        for sequence in step.progressed:
            listener = self._listeners.get(sequence)
            if listener is not None:
                if sequence.is_over:
                    del self._listeners[sequence]
                listener(sequence)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        try:
            self._tick()
        finally:  # one answer that fails must not stop the engine for the others
            self._arm()

    def _arm(self) -> None:
        due = self.engine.next_step_seconds
        if due is not None and self._timer is None and self._frozen_at is None:
            self._timer = self._loop.call_at(self._began + due / self._time_factor, self._wake)
