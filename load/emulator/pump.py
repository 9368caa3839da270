"""One engine on the event loop's clock: wakes when a step ends and tells each sequence's listener what it yielded.

One timer per engine, however many sequences run. What must not live here: HTTP, text.
"""

import asyncio
from collections.abc import Callable

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

    def now_seconds(self) -> float:
        """The engine's time."""
        return (self._loop.time() - self._began) * self._time_factor

    def submit(self, sequence: EngineSequence, listener: Listener) -> None:
        """Queue a sequence; the listener is called once per wake-up in which it progressed, the last time when it is over.
        Raises ValueError as the engine does."""
        self._tick()
        self.engine.submit(sequence, self.now_seconds())
        self._listeners[sequence] = listener
        self._arm()

    def abort(self, sequence: EngineSequence) -> None:
        """Drop a sequence; its listener hears no more."""
        self._listeners.pop(sequence, None)
        self.engine.abort(sequence, self.now_seconds())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for sequence in list(self._listeners):
            self.abort(sequence)

    def _tick(self) -> None:
        steps = self.engine.advance(self.now_seconds())
        progressed: dict[EngineSequence, None] = {}
        for step in steps:
            if self._on_step is not None:
                self._on_step(step)
            progressed.update(dict.fromkeys(step.progressed))
        for sequence in progressed:
            listener = self._listeners.get(sequence)
            if listener is not None:
                if sequence.is_over:
                    del self._listeners[sequence]
                listener(sequence)

    def _wake(self) -> None:
        self._timer = None
        self._tick()
        self._arm()

    def _arm(self) -> None:
        due = self.engine.next_event_seconds
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(self._began + due / self._time_factor, self._wake)
