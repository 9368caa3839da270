"""The data port: uvicorn on uvloop and httptools, and how it ends. What a connection does is `connection.py`'s."""

import signal
from collections.abc import Callable
from typing import Any

import uvicorn

from router.config.server import ServerConfig
from router.connection import KEEP_ALIVE_SECONDS, guarded_protocol
from router.dispatch.outbox import Outbox

BACKLOG = 4096


class Server(uvicorn.Server):
    """uvicorn's server, ending with exit code 0 when a signal asked it to end, as a drained router should."""

    def __init__(self, config: uvicorn.Config, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_drain = on_drain

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        self._on_drain()


def build_server(app: Any, limits: ServerConfig, on_drain: Callable[[], None], outbox: Outbox | None = None) -> Server:
    """on_drain: called from the signal's handler when the server stops accepting and lets streams finish. outbox: the one that
    the relay writes to, too."""
    config = uvicorn.Config(
        app,
        host=limits.host,
        port=limits.port,
        loop="uvloop",
        http=guarded_protocol(limits, outbox or Outbox()),
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(limits.drain_seconds),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    return Server(config, on_drain)
