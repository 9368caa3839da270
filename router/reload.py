"""Hot reload: the configuration is read again when its files change or on SIGHUP, and replaces the old one if it is good.

A bad file changes nothing: the old configuration stays, the log says why with file, line and remedy, and it is counted.
Requests in flight keep what they started with, because what is handed over is a new immutable value.
"""

import asyncio
import hashlib
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path

import structlog
from watchfiles import awatch

from router.config_file import LoadedConfig, load
from router.config_source import ConfigRefused

log = structlog.get_logger("jeton.reload")

# Editors and deployments write in several steps (truncate and write, both files of a pair): let them finish.
SETTLE_MILLISECONDS = 200
# Network file systems tell nothing, and a watch is blind while it is set up: look at the files anyway now and then.
LOOK_MILLISECONDS = 5_000
# Members of `server` with which the socket and its connections were made; the others are read anew for each request.
OF_THE_SOCKET = (
    "host", "port", "header_bytes_max", "header_count_max", "header_seconds", "drain_seconds", "streams_expected",
)  # fmt: skip


class ReloadResult(StrEnum):
    """The label of `jeton_reloads_total`. refused: mistakes in the files. failed: a fault of ours while applying them."""

    APPLIED = "applied"
    REFUSED = "refused"
    FAILED = "failed"


class Reloader:
    """Watches the files of one configuration. `current` is the last one that was applied.

    apply: called in the event loop with each good configuration; if it raises, the old one counts as current.
    count: called once for each attempt.
    """

    def __init__(
        self,
        current: LoadedConfig,
        apply: Callable[[LoadedConfig], None],
        count: Callable[[ReloadResult], None],
        read: Callable[[Path], LoadedConfig] = load,
    ) -> None:
        self.current = current
        self._started = current  # the members that only a start puts into effect are still as here
        self._apply = apply
        self._count = count
        self._read = read
        self._paths = current.paths
        self._seen = _digest(current.paths)
        self._asked = asyncio.Event()
        self._moved = asyncio.Event()

    def ask(self) -> None:
        """Reload soon, whether or not a file has changed. Asking twice at once is asking once."""
        self._asked.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watches, listens to SIGHUP (in the main thread, where signals arrive) and reloads while the block runs."""
        hears_signals = threading.current_thread() is threading.main_thread()
        loop = asyncio.get_running_loop()
        if hears_signals:
            loop.add_signal_handler(signal.SIGHUP, self.ask)
        running = [asyncio.create_task(self._watch()), asyncio.create_task(self._serve())]
        try:
            yield
        finally:
            if hears_signals:
                loop.remove_signal_handler(signal.SIGHUP)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _serve(self) -> None:
        """One reload after the other, never two at once."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload()

    async def _watch(self) -> None:
        """Ask for a reload whenever the bytes of the files are others than at the last reading.

        What is watched are the folders, of the names given and of the files they lead to: an editor puts a new file in
        the place of the old, and Kubernetes swaps the symbolic link `..data` beside them.
        """
        while True:
            self._moved.clear()
            try:
                await self._look()  # at what changed while nothing was watched
                await self._watch_folders(_folders(self._paths))
            except (OSError, RuntimeError):  # no watches left (inotify's limit), or a folder went while we looked
                log.warning("files cannot be watched; looking at them now and then", exc_info=True)
                await asyncio.sleep(LOOK_MILLISECONDS / 1e3)

    async def _watch_folders(self, folders: tuple[Path, ...]) -> None:
        """Until the files lead to other folders."""
        changes = awatch(
            *folders,
            recursive=False,
            watch_filter=None,
            step=SETTLE_MILLISECONDS // 4,
            debounce=SETTLE_MILLISECONDS,
            rust_timeout=LOOK_MILLISECONDS,
            yield_on_timeout=True,
            stop_event=self._moved,
        )
        async for _ in changes:
            await self._look()
            if _folders(self._paths) != folders:
                return

    async def _look(self) -> None:
        digest = await asyncio.to_thread(_digest, self._paths)
        if digest != self._seen:
            self._seen = digest
            self.ask()

    async def _reload(self) -> None:
        # Taken before reading: what is written afterwards is seen as another change.
        self._seen = await asyncio.to_thread(_digest, self._paths)
        path = self.current.paths[0]
        try:
            loaded = await asyncio.to_thread(self._read, path)
            for what in restart_needed(self._started, loaded):
                log.warning("configuration change takes effect at the next start", member=what)
            self._apply(loaded)
        except ConfigRefused as refusal:
            await self._follow(refusal.paths)
            mistakes = [str(mistake) for mistake in refusal.mistakes]
            log.error("configuration refused, the old one stays", path=str(path), mistakes=mistakes)
            self._count(ReloadResult.REFUSED)
        except Exception:
            log.exception("configuration not applied, the old one stays", path=str(path))
            self._count(ReloadResult.FAILED)
        else:
            self.current = loaded
            await self._follow(loaded.paths)
            for warning in loaded.warnings:
                log.warning("configuration", warning=str(warning))
            log.info("configuration applied", path=str(path))
            self._count(ReloadResult.APPLIED)

    async def _follow(self, paths: tuple[Path, ...]) -> None:
        """Watch other files from now on, when router.yaml names another file of prices."""
        if paths and paths != self._paths:
            self._paths = paths
            self._seen = await asyncio.to_thread(_digest, paths)
            self._moved.set()


def restart_needed(old: LoadedConfig, new: LoadedConfig) -> list[str]:
    """Changed members that only a start can put into effect: the socket and the ledger are open, the log is set up."""
    pairs = {
        f"server.{name}": (getattr(old.config.server, name), getattr(new.config.server, name)) for name in OF_THE_SOCKET
    } | {
        "ledger": (old.config.ledger, new.config.ledger),
        "redis": (old.config.redis, new.config.redis),
        "repeats": (old.config.repeats, new.config.repeats),
        "admin": (_listens(old), _listens(new)),
        "log": (old.config.log, new.config.log),
    }
    return [member for member, (before, after) in pairs.items() if before != after]


def _listens(loaded: LoadedConfig) -> tuple[str, int] | None:
    admin = loaded.config.admin
    return (admin.host, admin.port) if admin is not None else None


def _digest(paths: tuple[Path, ...]) -> bytes:
    """What stands in the files. Bytes, not times: copying the same file again is no change, and a clock may be wrong."""
    digest = hashlib.sha256()
    for path in paths:
        content = b"\0"
        with suppress(OSError):  # gone for a moment while it is replaced; reading it for good tells what is wrong
            content = path.read_bytes()
        digest.update(len(content).to_bytes(8) + content)
    return digest.digest()


def _folders(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders in which a change can change what the paths read."""
    folders = {folder for path in paths for folder in (path.absolute().parent, path.resolve().parent)}
    return tuple(sorted(folder for folder in folders if folder.is_dir()))
