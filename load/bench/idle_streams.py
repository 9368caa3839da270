"""What an idle stream weighs: `python -m load.bench.idle_streams [STREAMS]`.

A router of its own process, an engine that says one token and then nothing, and clients that wait. Told is by how much the
router's resident memory grows, and what it holds open, for each stream. Acceptance row F36: at most 64 KB.
"""

import asyncio
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from load.bench.hot_path import EVENT, PRICES
from router.access.keys import api_key_hash, new_api_key
from router.config_file import PEPPER

STREAMS = 2000
AT_ONCE = 50
STEPS = 4
BODY = orjson.dumps({"model": "mock", "messages": [{"role": "user", "content": "hello"}], "stream": True})
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
CONFIG = """
server: {{port: {port}, streams_expected: {streams}}}
baseline: mock
timeouts: {{chunk_seconds: 3600, first_byte_seconds: 600}}
tenants: [{{name: bench, api_keys: [{{name: bench, hash: "{hash}"}}]}}]
profiles:
  h100: {{parameters_billion: 8.03, layers: 32, kv_bytes_per_token: 131072, weight_bytes_per_parameter: 1, memory_gb: 80,
         bandwidth_gb_per_second: 3350, tflops: 1978, sequences_max: 100000}}
pools:
  - name: bench
    kind: central
    billing: leased
    backends:
      - {{name: mock, model: mock, context_tokens: 8192, price: gpu, profile: h100, replicas: [{{url: "http://127.0.0.1:{engine}"}}]}}
"""


class Weight(NamedTuple):
    """Of the router's process, with so many idle streams. kb_per_stream: beyond what it had with the first of them."""

    streams: int
    resident_kb: int
    kb_per_stream: float
    open_files: int


def main(streams: int = STREAMS) -> None:
    table = Table("idle streams", "resident MB", "KB a stream", "open files", title="the router's process")
    for weight in weigh(streams):
        resident_mb = f"{weight.resident_kb / 1024:.1f}"
        table.add_row(str(weight.streams), resident_mb, f"{weight.kb_per_stream:.1f}", str(weight.open_files))
    Console().print(table)


def weigh(streams: int) -> list[Weight]:
    """In steps up to so many streams. Takes two open files for each, here and in the router."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0), backlog=4096) as engine:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        key = new_api_key()
        hashed = api_key_hash(key, b"")
        config = CONFIG.format(port=port, streams=streams, hash=hashed, engine=engine.getsockname()[1])
        (Path(directory) / "router.yaml").write_text(config)
        (Path(directory) / "prices.yaml").write_text(PRICES)
        command = [sys.executable, "-m", "router", "serve", "--config", "router.yaml"]
        environment = {name: value for name, value in os.environ.items() if name != PEPPER}
        with (Path(directory) / "log").open("wb") as log:
            router = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
        try:
            return asyncio.run(_weigh(router, engine, port, key, streams))
        finally:
            router.kill()
            router.wait()


async def _weigh(
    router: "subprocess.Popen[bytes]", engine: socket.socket, port: int, key: str, streams: int
) -> list[Weight]:
    await asyncio.start_server(_say_one_token, sock=engine)
    await _until_it_listens(port, router)
    held = [await _stream(port, key) for _ in range(AT_ONCE)]  # what the first ones bring into being is not theirs
    before_kb, base = _resident_kb(router.pid), len(held)
    weights = []
    for step in range(1, STEPS + 1):
        while len(held) - base < streams * step // STEPS:
            held += await asyncio.gather(*(_stream(port, key) for _ in range(AT_ONCE)))
        now_kb, more = _resident_kb(router.pid), len(held) - base
        weights.append(Weight(len(held), now_kb, (now_kb - before_kb) / more, _open_files(router.pid)))
    for _, writer in held:
        writer.transport.abort()
    return weights


async def _stream(port: int, key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One that has had its first token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY)
    await reader.readuntil(b"data: ")
    return reader, writer


async def _say_one_token(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                writer.write(HEAD + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            else:
                writer.write(NOTHING)
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
        writer.close()


def _resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _until_it_listens(port: int, router: "subprocess.Popen[bytes]") -> None:
    while router.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("the router did not start")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
