"""Locks between the processes that share a SQLite ledger: files beside it, held by `flock`, gone with whoever dies.

`<ledger>.lock` says whether one process has the ledger to itself or several share it. `<ledger>.accountant` is held by the one
that keeps the books; its process id stands in it. `<ledger>.turn` is taken for each transaction that writes: SQLite lets
writers wait by asking again and again, ever more rarely, and under load some of them never get through; this is a queue.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from router.ledger.store import LedgerError, LockHeld

IN_USE = (
    "another jeton is writing this ledger; stop it, let both share it (ledger.accountant: inside), or give this one a file of"
    " its own (ledger.path)"
)


class FileLock:
    """Not held yet. Raises LedgerError when the file cannot be made."""

    def __init__(self, path: Path, suffix: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path.with_name(path.name + suffix), "a")  # noqa: SIM115 (held as long as the ledger is)
        except OSError as error:
            raise LedgerError(f"{path}: the ledger cannot be created here ({error.strerror})") from None

    def take(self, *, is_shared: bool = False) -> bool:
        """At once or not at all."""
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def sign(self, text: str) -> None:
        """For people, who wonder who has it."""
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        """Let go of it, for good."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Turns:
    """A context for each write, in which nobody else writes. For one thread."""

    def __init__(self, path: Path) -> None:
        self._file = FileLock(path, ".turn")._file

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self._file.close()


class NoTurns:
    """Where the database lets writers wait in order."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...


AnyTurns = Turns | NoTurns


def lock_ledger(path: Path, *, is_shared: bool) -> FileLock:
    """Raises LedgerError when somebody has it who does not share, or when it is shared and wanted alone."""
    lock = FileLock(path, ".lock")
    if not lock.take(is_shared=is_shared):
        lock.close()
        raise LedgerError(f"{path}: {IN_USE}")
    return lock


def lead(path: Path) -> FileLock:
    """The accountant's lock. Raises LockHeld when another has it."""
    lock = FileLock(path, ".accountant")
    if not lock.take():
        lock.close()
        raise LockHeld(f"{path}: another jeton keeps the books of this ledger")
    lock.sign(f"{os.getpid()}\n")
    return lock
