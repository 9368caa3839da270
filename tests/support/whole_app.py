"""The whole of jeton in the test's own event loop: a real server on a real socket, over an emulated fleet.

In process, so that a test can look at what clients cannot see: work in flight, open attempts, what the watchdog holds. What
every journey must leave behind, which is nothing but a ledger that adds up, is checked by `running` when the journey ends.
"""

import asyncio
import contextlib
import gc
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from bookkeeping import assert_books_balance, assert_ledger_is_consistent
from openai import AsyncOpenAI

from load.emulator.fleet import EmulatedFleet
from load.emulator.replica import Replica
from load.emulator.reply import Style
from load.emulator.spec import Dialect, Kind, ReplicaSpec
from router.access.keys import api_key_hash, new_api_key
from router.app import App
from router.config_file import load
from router.ledger.address import Address, configured_address
from router.server import Server, build_server

PEPPER = "a pepper for tests"
SETTLE_SECONDS_MAX = 5.0
CLOUD_KEY = "sk-cloud-0123456789abcdef"

GENERATING = ("chat", "completions", "responses", "messages", "tokenize", "tools", "json_schema", "logprobs")

# By backend: what its replicas are, and the row of router.yaml that describes it.
SPECS: Mapping[str, Sequence[ReplicaSpec]] = {
    "small": (ReplicaSpec("tiny-8b", has_prompt_tokens_details=True),) * 2,
    "large": (ReplicaSpec("huge-70b", is_multimodal=True, style=Style(reasoning_share=0.3)),),
    "cloud": (ReplicaSpec("gpt-x", dialect=Dialect.OPENAI, api_key=CLOUD_KEY),),
    "embed": (ReplicaSpec("vectors", kind=Kind.EMBED, context_tokens=512),),
    "audio": (ReplicaSpec("scribe", kind=Kind.TRANSCRIBE, context_tokens=4096),),
}
PROFILE = {
    "parameters_billion": 8.03,
    "layers": 32,
    "kv_bytes_per_token": 131072,
    "weight_bytes_per_parameter": 1,
    "memory_gb": 80,
    "bandwidth_gb_per_second": 3350,
    "tflops": 1978,
}
PRICES = {
    "gpu": [{"kind": "lease", "from": "2026-01-01", "usd_per_hour": 3.60, "source": "a round figure for tests"}],
    "tokens": [
        {
            "kind": "tokens",
            "from": "2026-01-01",
            "prompt_usd_per_million": 2,
            "cached_usd_per_million": 0.5,
            "completion_usd_per_million": 8,
            "source": "round figures for tests",
        }
    ],
}


def router_config(urls: Mapping[str, Sequence[str]], api_key: str) -> dict[str, Any]:
    """router.yaml: an edge pool with `small`, a central one with `large`, `embed` and `audio`, a metered one with `cloud`."""

    def backend(name: str, **members: Any) -> dict[str, Any]:
        spec = SPECS[name][0]
        return {
            "name": name,
            "model": name + "-model",
            "served_model": spec.model,
            "context_tokens": spec.context_tokens,
            "capabilities": GENERATING,
            "price": "gpu",
            "profile": "gpu",
            "replicas": [{"url": url} for url in urls[name]],
        } | members

    embed = backend("embed", capabilities=("embeddings", "rerank", "score", "tokenize"))
    audio = backend("audio", capabilities=("transcriptions", "translations"))
    cloud = backend("cloud", engine="openai", price="tokens")
    del cloud["profile"]
    cloud["replicas"] = [{"url": url, "api_key_env": "CLOUD_API_KEY"} for url in urls["cloud"]]
    return {
        "server": {"drain_seconds": 5},
        "health": {"interval_seconds": 0.2},
        "baseline": "large",
        "aliases": {
            "auto": {},
            "chat-small": {"tiers": ["small"]},
            "anything": {"backends": ["small", "large", "cloud"]},
        },
        "tenants": [{"name": "tests", "api_keys": [{"name": "tests", "hash": api_key_hash(api_key, PEPPER.encode())}]}],
        "profiles": {"gpu": PROFILE},
        "pools": [
            {"name": "edge", "kind": "edge", "billing": "leased", "backends": [backend("small", tier="small")]},
            {
                "name": "central",
                "kind": "central",
                "billing": "leased",
                "backends": [backend("large", capabilities=(*GENERATING, "vision")), embed, audio],
            },
            {"name": "cloud", "kind": "cloud", "billing": "metered", "backends": [cloud]},
        ],
        "ledger": {"path": "", "commit_seconds": 0.005},
    }


@dataclass
class WholeApp:
    """A running router. fleet: the emulated replicas by backend. events: what was logged, as structlog's dicts."""

    directory: Path
    app: App
    server: Server
    port: int
    api_key: str
    fleet: Mapping[str, Sequence[Replica]]
    emulated: EmulatedFleet
    config: dict[str, Any]
    events: list[Any]
    _clients: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ledger_path(self) -> Path:
        return self.directory / "jeton.sqlite"

    @property
    def ledger(self) -> Address:
        return configured_address(self.app._loaded.config.ledger, "")

    @property
    def sdk(self) -> AsyncOpenAI:
        """OpenAI's own client. It would try again by itself; here it must not."""
        client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0, timeout=60)
        self._clients.append(client)
        return client

    @property
    def http(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.api_key}"}
        client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=False)
        self._clients.append(client)
        return client

    async def raw(self, data: bytes = b"", *, limit: int = 2**16) -> "RawClient":
        """A bare connection, on which `data` was sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        client = RawClient(reader, writer)
        self._clients.append(client)
        writer.write(data)
        return client

    def request(self, path: str, body: bytes | Mapping[str, Any], **headers: str) -> bytes:
        """A POST as bytes."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {
            "host": f"127.0.0.1:{self.port}",
            "authorization": f"Bearer {self.api_key}",
            "content-type": "application/json",
            "content-length": str(len(text)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + text

    def replica(self, backend: str, number: int = 0) -> Replica:
        return self.fleet[backend][number]

    def seen(self, backend: str) -> list[dict[str, Any]]:
        """The JSON bodies of the inference requests that its replicas got, replica by replica."""
        return [
            json.loads(request.body)
            for replica in self.fleet[backend]
            for request in replica.requests_seen
            if request.method == "POST" and not is_probe(request.body)
        ]

    @property
    def in_flight(self) -> dict[str, int]:
        return {replica: load.attempts for replica, load in self.app._fleet.loads.items()}

    @property
    def health(self) -> dict[str, str]:
        return {replica: health.state.value for replica, health in self.app._fleet.snapshot.health.items()}

    async def charges(self) -> list[sqlite3.Row]:
        """The ledger's rows on disk, in the order in which attempts were opened."""
        books = self.app._books
        if books.journal is None or books.keeper is None:
            self.app._accountant.advance(self.app._clock.now_ns())
            await self.app._accountant.posted()
        else:  # reported, and booked up to there
            await books.journal.committed(books.journal.position, SETTLE_SECONDS_MAX)
            await self.until(lambda: books.shows_money)
            await books.keeper.posted(SETTLE_SECONDS_MAX)
        return read_charges(self.ledger_path)

    async def until(self, is_so: Callable[[], bool], seconds: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until it is so. Raises AssertionError when it does not become so in time."""
        await until(is_so, seconds)

    async def settled(self) -> None:
        """Nothing is under way any more: not here, and not in the engines."""
        await until(lambda: not self.in_flight and not self.app._accountant.open_attempts and self._engines_are_idle)
        await until(lambda: not len(self.app._watchdog))

    @property
    def _engines_are_idle(self) -> bool:
        return all(replica.engine.is_idle for replicas in self.fleet.values() for replica in replicas)

    async def close_clients(self) -> None:
        for client in self._clients:
            await (client.aclose() if hasattr(client, "aclose") else client.close())


@dataclass
class RawClient:
    """A socket, for what no HTTP client would do."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        return int(lines[0].split()[1]), {name.lower(): value for name, value in pairs}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer, whole; one with `Content-Length`."""
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        """All that comes until the other side closes."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read(-1)
        return b""

    def leave(self) -> None:
        """Gone, without a word."""
        self.writer.transport.abort()

    async def aclose(self) -> None:
        self.writer.transport.abort()


async def until(is_so: Callable[[], bool], seconds: float = SETTLE_SECONDS_MAX) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, f"it did not become so within {seconds} s"
        await asyncio.sleep(0.002)


def is_probe(body: bytes) -> bool:
    """Whether jeton itself asked, to see whether an ejected replica generates again (`router/fleet/probe.py`)."""
    members = json.loads(body)
    return members.get("max_tokens") == 1 and members.get("prompt") == "1"


def read_charges(path: Path) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute("SELECT * FROM charges ORDER BY opened_ns, number").fetchall()


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    change: Callable[[dict[str, Any]], object] = lambda config: None,
    specs: Mapping[str, Sequence[ReplicaSpec]] = SPECS,
    alarms: Collection[str] = (),
    make: Callable[[Mapping[str, Sequence[str]], str], dict[str, Any]] = router_config,
    prices: Mapping[str, Any] = PRICES,
) -> AsyncIterator[WholeApp]:
    """Start everything; at the end check that nothing is left behind and that the books balance.

    change: edits the configuration before it is written. specs: what the replicas are, by backend. alarms: what the log may
    tell as an error. make: another configuration than the one above, of the replicas' urls by backend and an API key; `specs` has
    all of its backends then.
    """
    errors: list[Mapping[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    api_key = new_api_key()
    all_specs = {**SPECS, **specs} if make is router_config else specs
    names = [(backend, spec) for backend, of_backend in all_specs.items() for spec in of_backend]
    async with EmulatedFleet.start([spec for _, spec in names]) as emulated:
        fleet: dict[str, list[Replica]] = {}
        for (backend, _), replica in zip(names, emulated.replicas, strict=True):
            fleet.setdefault(backend, []).append(replica)
        urls = {backend: [replica.url for replica in replicas] for backend, replicas in fleet.items()}
        config = make(urls, api_key)
        config["ledger"]["path"] = str(directory / "jeton.sqlite")
        change(config)
        (directory / "router.yaml").write_text(json.dumps(config))  # JSON is YAML
        (directory / "prices.yaml").write_text(json.dumps({"prices": prices}, default=str))
        environ = {"JETON_API_KEY_PEPPER": PEPPER, "CLOUD_API_KEY": CLOUD_KEY}
        loaded = load(directory / "router.yaml", environ=environ)
        with structlog.testing.capture_logs() as events:
            app = App(loaded)
            limits = loaded.config.server.model_copy(update={"port": 0})
            server = build_server(app.asgi, limits, app.drain, app.outbox)
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # they are the test runner's
            serving = asyncio.create_task(server.serve())
            try:
                await until(lambda: server.started or serving.done())
                port = server.servers[0].sockets[0].getsockname()[1]
                whole = WholeApp(directory, app, server, port, api_key, fleet, emulated, config, events)
                yield whole
                await whole.close_clients()
                await whole.settled()
                if not server.should_exit:  # what it shows is what it has booked, while it still books
                    text, _ = await app._render_metrics()
                    assert_audit_is_clean(whole.ledger, text.decode())
            finally:
                server.should_exit = True
                await serving
    gc.collect()  # a task whose exception nobody has seen says so when it is collected
    assert not errors, errors
    told = [event["event"] for event in events if event["log_level"] in ("error", "critical")]
    assert [event for event in told if event not in alarms] == []
    assert_ledger_is_consistent(whole.ledger, is_quiet=True)
    assert_what_is_told_is_the_audits(whole.ledger)
    assert_books_balance(app._accountant.totals(), open_attempts=0)
