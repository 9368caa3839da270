"""A price feed over HTTP that says what a test wants said."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

NS = 10**9


def document(at_ns: int, **usd_per_hour: Any) -> bytes:
    """As a feed tells it; names with `_` for `-`."""
    moment = datetime.fromtimestamp(at_ns / NS, UTC).isoformat()
    amounts = {name.replace("_", "-"): value for name, value in usd_per_hour.items()}
    return json.dumps({"at": moment, "usd_per_hour": amounts}, default=_plain).encode()


def _plain(value: Decimal) -> str:
    return f"{value:f}"


class FeedServer:
    """status, headers, body: of the next answers; `usd_per_hour`, where there is one, is told as of now instead of the body.
    hangs: it answers nothing. asked: how often it was."""

    def __init__(self) -> None:
        self.status = 200
        self.headers = ""
        self.body = b""
        self.usd_per_hour: dict[str, Any] = {}
        self.hangs = False
        self.asked = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                if self.hangs:
                    await reader.read()
                    break
                body = document(time.time_ns(), **self.usd_per_hour) if self.usd_per_hour else self.body
                head = f"HTTP/1.1 {self.status} X\r\n{self.headers}content-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
        writer.close()


@asynccontextmanager
async def feed_server() -> AsyncIterator[FeedServer]:
    feed = FeedServer()
    server = await asyncio.start_server(feed.serve, "127.0.0.1", 0)
    feed.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/spot.json"
    async with server:
        yield feed
