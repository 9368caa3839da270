"""Workers in processes of their own, to be killed, and whoever clears up behind them."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import busy_worker
from bookkeeping import FLEET, PRICES, PROFILES
from ledgers import Place

from router.accounting.bookkeeper import Bookkeeper
from router.ledger.address import Address, PostgresAddress
from router.ledger.journals import Journals
from router.ledger.shared import SharedLedger

SUPPORT = Path(busy_worker.__file__)
# On two cores under a load of 28 a worker was there after 52 s, and 54 s after PostgreSQL was back the books went on.
PATIENCE_SECONDS = 240.0


class Busy:
    """A worker in a process of its own. What it says goes to a file, so that it never waits for us."""

    def __init__(self, place: Place, seed: int) -> None:
        self.output = place.directory / f"said-{seed}"
        self.log = place.directory / f"log-{seed}"
        address = place.address
        ledger = address.url if isinstance(address, PostgresAddress) else str(address)
        with self.output.open("wb") as said, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SUPPORT), ledger, str(seed), str(place.directory / "spool")],
                stdout=said,
                stderr=log,
            )

    def leads(self) -> bool:
        """Whether it keeps the books, or did before it lost them."""
        return any(word == "posted" for word, _ in self.said())

    def heard(self, word: str) -> int:
        """How often it has said this."""
        return sum(said == word for said, _ in self.said())

    def said(self) -> list[tuple[str, str]]:
        text = self.output.read_text()
        lines = (line.partition(" ") for line in text.splitlines(keepends=True) if line.endswith("\n"))
        return [(word, rest.strip()) for word, _, rest in lines]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL, self.log.read_text()[-3000:]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.02)


def booked_events(place: Place) -> int:
    ((last,),) = place.rows("SELECT coalesce(max(seq), 0) FROM journal")
    return int(last)


async def take_up(address: Address) -> None:
    """An accountant books what the dead have told, and closes what they left open."""
    now_seconds = 0.0

    keeper = Bookkeeper(
        Journals(address),
        lambda: SharedLedger(address),
        time.time_ns,
        silence_seconds=1.0,
        monotonic=lambda: now_seconds,
    )
    keeper.set_fleet(FLEET, PRICES, PROFILES)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await keeper.lead():  # PostgreSQL frees the lock of a session that ended when it notices
            await asyncio.sleep(0.01)
    for _ in range(3):
        await keeper.go_on(is_asked=True)
        now_seconds += 2.0
    await keeper.close()
