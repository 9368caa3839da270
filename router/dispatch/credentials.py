"""What we show a provider so that it knows us: API keys read from files, and credentials that end and are fetched anew.

Nothing here is ever logged or part of an error's text. Reading and fetching block, so they run in threads, ahead of the time
at which somebody would have to wait for them.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from router.domain.fleet import Replica

KEY_BYTES_MAX = 64 * 2**10
# A token is renewed so long before its end, or from half of its life on if that is shorter.
AHEAD_SECONDS = 300.0
# While renewing fails, it is tried so seldom, not with every request.
RETRY_SECONDS = 1.0


class CredentialsMissing(Exception):
    """There is nothing to show. The message is for the log: it names what could not be had, never what was in it."""


def read_key(path: Path | str) -> str:
    """An API key or token from a file: one line, blanks around it do not count. Raises CredentialsMissing."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(KEY_BYTES_MAX + 1).decode("ascii").strip()
    except OSError as error:
        raise CredentialsMissing(f"the key file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CredentialsMissing(f"the key file {path} is not ASCII text") from None
    if not text or len(text) > KEY_BYTES_MAX or not text.isprintable() or " " in text:
        raise CredentialsMissing(f"the key file {path} does not hold one line with a key")
    return text


async def reread(replica: Replica) -> Replica | None:
    """The replica with the key that stands in its file now; None where that is the one it had, or there is no file."""
    if not replica.api_key_file:
        return None
    try:
        api_key = await asyncio.to_thread(read_key, replica.api_key_file)
    except CredentialsMissing:
        return None
    return None if api_key == replica.api_key else replace(replica, api_key=api_key)


class Lent(NamedTuple):
    """A credential and when it ends, Unix time."""

    value: Any
    until_seconds: float

    def __repr__(self) -> str:  # of a task that has fetched one, say
        return f"Lent(until_seconds={self.until_seconds})"


Fetch = Callable[[], Lent]


@dataclass(slots=True, eq=False)
class _Entry:
    fetch: Fetch
    lent: Lent | None = None
    renew_from_seconds: float = 0.0
    renewing: "asyncio.Task[Lent] | None" = None


class Vault:
    """Credentials that end, by a key that says what they are of. Whoever asks waits only for the first, or where renewing failed
    until the old one had ended. clock: Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry] = {}

    async def get(self, key: Hashable, fetch: Fetch) -> Any:
        """The credential. fetch: blocks; run in a thread. Raises CredentialsMissing."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(fetch)
        entry.fetch = fetch
        now = self._clock()
        if entry.lent is None or now >= entry.lent.until_seconds:
            return (await asyncio.shield(self._renew(entry))).value
        if now >= entry.renew_from_seconds:
            self._renew(entry)
        return entry.lent.value

    async def renewed(self, key: Hashable) -> bool:
        """Fetch it anew because it was refused. Whether it is another now."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        before = entry.lent
        try:
            after = await asyncio.shield(self._renew(entry))
        except CredentialsMissing:
            return False
        return before is None or after.value != before.value

    def outdate(self) -> None:
        """What they were made from may have changed: renew each behind the next request that asks for it."""
        for entry in self._entries.values():
            entry.renew_from_seconds = 0.0

    async def aclose(self) -> None:
        renewing = [entry.renewing for entry in self._entries.values() if entry.renewing is not None]
        for task in renewing:
            task.cancel()
        await asyncio.gather(*renewing, return_exceptions=True)

    def _renew(self, entry: _Entry) -> "asyncio.Task[Lent]":
        """One at a time for each."""
        if entry.renewing is None:
            entry.renewing = asyncio.create_task(self._fetched(entry))
            entry.renewing.add_done_callback(_looked_at)
        return entry.renewing

    async def _fetched(self, entry: _Entry) -> Lent:
        try:
            lent = await asyncio.to_thread(entry.fetch)
        finally:
            entry.renewing = None
            entry.renew_from_seconds = self._clock() + RETRY_SECONDS  # where it failed; else see below
        life_seconds = max(0.0, lent.until_seconds - self._clock())
        entry.lent = lent
        entry.renew_from_seconds = lent.until_seconds - min(AHEAD_SECONDS, life_seconds / 2)
        return lent


def _looked_at(task: "asyncio.Task[Lent]") -> None:
    """A renewal that nobody waits for may fail: the old credential serves on, and the next request tries again."""
    if not task.cancelled():
        task.exception()
