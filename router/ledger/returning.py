"""A database that is away is looked for in a thread of its own: connecting may take seconds, and what is to be written down
meanwhile must not wait for that."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from router.ledger.database import Database
from router.ledger.store import LedgerError

log = structlog.get_logger(__name__)

# How often a database that is away is looked for.
RECONNECT_SECONDS = 0.5

Found = TypeVar("Found", bound=Database)


class Returning(threading.Thread, Generic[Found]):
    """Looks for it once. open_: raises LedgerError while it is away. database: when the thread has ended; None: still away."""

    def __init__(self, open_: Callable[[], Found]) -> None:
        super().__init__(name="ledger-return", daemon=True)
        self._open = open_
        self.database: Found | None = None
        self.start()

    def run(self) -> None:
        try:
            self.database = self._open()
        except LedgerError as error:
            log.debug("the ledger is still away", error=str(error))

    def wait(self) -> Found | None:
        self.join()
        return self.database
