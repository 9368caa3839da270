"""A backend that answers every POST with the same bytes, for answers that no emulated vLLM would give."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

OK_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
OK_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def json_answer(body: bytes, headers: bytes = b"") -> bytes:
    return OK_JSON + headers + b"content-length: %d\r\n\r\n" % len(body) + body


def stream_answer(*events: bytes) -> bytes:
    """An event stream that ends properly. events: what stands after `data: `."""
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    return OK_STREAM + b"content-length: %d\r\n\r\n" % len(body) + body


class ScriptedBackend:
    """answer: what it says, head and body, once `speaks` is set, as it is from the start. heads: of the POSTs that it got."""

    def __init__(self) -> None:
        self.answer = b""
        self.heads: list[bytes] = []
        self.url = ""
        self.speaks = asyncio.Event()
        self.speaks.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                    await reader.readexactly(length)
                    self.heads.append(head)
                    await self.speaks.wait()
                writer.write(self.answer if head.startswith(b"POST") else NOTHING)
        writer.close()

    def at(self, pool: int) -> Callable[[dict[str, Any]], None]:
        """A change of the configuration that puts it in the place of the pool's first backend's replicas."""

        def change(config: dict[str, Any]) -> None:
            config["pools"][pool]["backends"][0]["replicas"] = [{"url": self.url}]

        return change


@asynccontextmanager
async def scripted_backend() -> AsyncIterator[ScriptedBackend]:
    backend = ScriptedBackend()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield backend
