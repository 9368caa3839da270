"""A run: processes started together, a progress bar, and all outcomes in one list."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from load.drive.outcome import Outcome
from load.drive.process import Errand, Target, run
from load.drive.schedule import Session, share
from load.workload import Workload

# After all are ready, so that the word reaches each in time.
START_SECONDS = 0.2
READY_SECONDS_MAX = 60.0


class DriverDied(Exception):
    """A process of the driver ended before its time; the message says how."""


def drive(
    target: Target,
    workload: Workload,
    sessions: Sequence[Session],
    *,
    processes: int,
    until_seconds: float,
    grace_seconds: float,
    timeout_seconds: float,
    on_progress: Callable[[int, int], None] = lambda sent, ended: None,
) -> list[Outcome]:
    """Send all sessions and wait for their answers. on_progress: told how many were sent and how many ended, now and then.

    Raises DriverDied. Leaves no process behind, whatever happens.
    """
    context = get_context("spawn")
    with ExitStack() as stack:
        pipes: dict[Connection, SpawnProcess] = {}
        for number in range(processes):
            ours, theirs = context.Pipe()
            mine = share(sessions, number, processes)
            errand = Errand(target, workload, mine, until_seconds, grace_seconds, timeout_seconds)
            process = context.Process(target=run, args=(errand, theirs), daemon=True)
            process.start()
            stack.callback(_end, process)
            theirs.close()
            pipes[ours] = process
        for pipe, process in pipes.items():
            if not pipe.poll(READY_SECONDS_MAX):
                raise DriverDied(f"a process was not ready after {READY_SECONDS_MAX:g} s")
            _receive(pipe, process)
        began_seconds = time.monotonic() + START_SECONDS
        for pipe in pipes:
            pipe.send(began_seconds)
        return _collect(pipes, on_progress)


def _collect(pipes: dict[Connection, SpawnProcess], on_progress: Callable[[int, int], None]) -> list[Outcome]:
    counts = dict.fromkeys(pipes, (0, 0))
    outcomes: list[Outcome] = []
    waiting = set(pipes)
    while waiting:
        for pipe in wait(list(waiting)):
            assert isinstance(pipe, Connection)
            told = _receive(pipe, pipes[pipe])
            if isinstance(told, list):
                outcomes += told
                counts[pipe] = (len(told), len(told))
                waiting.discard(pipe)
            else:
                counts[pipe] = told
        on_progress(sum(sent for sent, _ in counts.values()), sum(ended for _, ended in counts.values()))
    return sorted(outcomes, key=lambda one: one.scheduled_seconds)


def _receive(pipe: Connection, process: SpawnProcess) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        process.join(5)
        raise DriverDied(f"a process of the driver ended early, with exit code {process.exitcode}") from None


def _end(process: SpawnProcess) -> None:
    process.join(1)
    if process.is_alive():
        process.kill()
        process.join()
