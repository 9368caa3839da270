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

    def now_seconds(self) -> float:
        """The engine's time."""
        return (self._loop.time() - self._began) * self._time_factor

    def submit(self, work: Sequence[tuple[EngineSequence, Listener]]) -> None:
        """Queue sequences at one moment. A listener is called after each step in which its sequence progressed, the last
        time when that is over. Raises ValueError as the engine does."""
        self._tick()
        now_seconds = self.now_seconds()
        for sequence, listener in work:
            self.engine.submit(sequence, now_seconds)
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
        """Let every step end that is due, one by one: when the loop was late, each token still goes out by itself and in
        the order of the engine."""
        now_seconds = self.now_seconds()
        while (due := self.engine.next_step_seconds) is not None and due <= now_seconds:
            for step in self.engine.advance_steps(due):
                self._deliver(step)

    def _deliver(self, step: Step) -> None:
        if self._on_step is not None:
            self._on_step(step)
        for sequence in step.progressed:
            listener = self._listeners.get(sequence)
            if listener is not None:
                if sequence.is_over:
                    del self._listeners[sequence]
                listener(sequence)

    def _wake(self) -> None:
        self._timer = None
        try:
            self._tick()
        finally:  # one answer that fails must not stop the engine for the others
            self._arm()

    def _arm(self) -> None:
        due = self.engine.next_step_seconds
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(self._began + due / self._time_factor, self._wake)
