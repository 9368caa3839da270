"""The scraper against real HTTP servers on the loopback interface: quick, slow, hanging, lying and dead ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from router.domain.fleet import UP, Backend, Billing, EngineKind, HealthState, Pool, PoolKind, Replica
from router.domain.request import Capability
from router.fleet.health import HealthRules
from router.fleet.scraper import Scraper
from router.fleet.state import Fleet

METRICS = b'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
DONE = b'{"choices":[{"index":0,"text":"x","finish_reason":"length"}]}'
LEASED = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
INTERVAL_SECONDS = 0.02


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: str = ""
    after: asyncio.Event | None = None  # hang until it is set


@dataclass
class Server:
    """A replica by hand: answers by path, and keeps every request's head, lower case."""

    answers: dict[str, Answer]
    port: int = 0
    heads: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[str]:
        return [head for head in self.heads if head.split(" ", 2)[1] == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next((int(line.split(":")[1]) for line in head.split("\r\n") if "content-length" in line), 0)
                await reader.readexactly(length)
                self.heads.append(head)
                answer = self.answers.get(head.split(" ", 2)[1], Answer(404))
                if answer.after is not None:
                    await answer.after.wait()
                size = f"content-length: {len(answer.body)}\r\n"
                writer.write(f"HTTP/1.1 {answer.status} X\r\n{size}{answer.headers}\r\n".encode() + answer.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answers: dict[str, Answer]) -> AsyncIterator[Server]:
    server = Server(answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        for answer in answers.values():
            if answer.after is not None:
                answer.after.set()
        listener.close()


def healthy() -> dict[str, Answer]:
    return {"/health": Answer(), "/metrics": Answer(body=METRICS), "/v1/completions": Answer(body=DONE)}


def backend(*replicas: Replica, engine: EngineKind = EngineKind.VLLM, pool: Pool = LEASED) -> Backend:
    can = frozenset({Capability.CHAT, Capability.COMPLETIONS})
    return Backend("a", pool, "m", "m", "small", "fp8", engine, 8192, can, "p", "h", replicas)


Watch = Callable[..., Awaitable[Fleet]]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    scrapers: list[Scraper] = []

    async def start(
        *backends: Backend, ejection_seconds: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> Fleet:
        rules = HealthRules(ejection_seconds=ejection_seconds)
        fleet = Fleet(backends, ("small", "large"), rules, clock=clock)
        scraper = Scraper(
            fleet, interval_seconds=INTERVAL_SECONDS, timeout_seconds=0.5, credentials_seconds=0.05, uniform=lambda: 0.5
        )
        scrapers.append(scraper)
        scraper.follow(backends)
        return fleet

    yield start
    for scraper in scrapers:
        await scraper.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("scrape ")]


async def until(holds: Callable[[], bool]) -> None:
    """Waits for a state that must come about; a test's time-out is the only clock."""
    while not holds():
        await asyncio.sleep(0.005)


async def test_a_healthy_vllm_is_scraped_with_its_age(watch: Watch) -> None:
    async with serving(healthy()) as server:
        before = time.monotonic()
        fleet = await watch(backend(Replica("a/0", "a", server.url)))
        assert "a/0" not in fleet.snapshot.scrapes  # not yet asked: missing, not zero
        await until(lambda: "a/0" in fleet.snapshot.scrapes)
        scrape = fleet.snapshot.scrapes["a/0"]
        assert (scrape.running, scrape.waiting, scrape.kv_usage_ratio) == (3, 1, None)
        assert before <= scrape.at_seconds <= time.monotonic()
        await until(lambda: fleet.snapshot.scrapes["a/0"].at_seconds > scrape.at_seconds)


async def test_a_replica_that_hangs_delays_no_other_and_goes_down(watch: Watch) -> None:
    async with serving({"/health": Answer(after=asyncio.Event())}) as hanging, serving(healthy()) as server:
        fleet = await watch(backend(Replica("a/0", "a", hanging.url), Replica("a/1", "a", server.url)))
        await until(lambda: len(server.asked("/health")) >= 4)
        assert len(hanging.asked("/health")) == 1
        await until(lambda: fleet.snapshot.health["a/0"].state is HealthState.DOWN)
        assert "timeout" in fleet.snapshot.health["a/0"].why
        assert fleet.snapshot.health["a/1"] == UP


async def test_a_trickle_of_bytes_does_not_outlast_the_time_out(watch: Watch) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            writer.close()

    listener = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        fleet = await watch(backend(Replica("a/0", "a", f"http://127.0.0.1:{port}")))
        await until(lambda: fleet.snapshot.health["a/0"].state is HealthState.DOWN)


async def test_a_replica_that_is_not_there_goes_down_and_comes_back(watch: Watch) -> None:
    async with serving(healthy()) as server:
        port = server.port
    fleet = await watch(backend(Replica("a/0", "a", f"http://127.0.0.1:{port}")))
    await until(lambda: fleet.snapshot.health["a/0"].state is HealthState.DOWN)
    again = Server(healthy(), port)
    listener = await asyncio.start_server(again.serve, "127.0.0.1", port)
    async with listener:
        await until(lambda: fleet.snapshot.health["a/0"] == UP)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503),
        Answer(302, headers="location: http://127.0.0.1:1/health\r\n"),
        Answer(200, body=b"", headers="content-length: 5\r\n"),
    ],
)
async def test_an_answer_that_is_no_plain_200_is_a_missed_check(watch: Watch, answer: Answer) -> None:
    async with serving({"/health": replace(answer)}) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url)))
        await until(lambda: fleet.snapshot.health["a/0"].state is HealthState.DOWN)


async def test_metrics_that_fail_leave_the_last_scrape_to_age(watch: Watch) -> None:
    answers = healthy()
    async with serving(answers) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url)))
        await until(lambda: "a/0" in fleet.snapshot.scrapes)
        answers["/metrics"] = Answer(500, body=METRICS)
        seen = len(server.asked("/metrics"))
        await until(lambda: len(server.asked("/metrics")) > seen + 1)
        scrape = fleet.snapshot.scrapes["a/0"]
        seen = len(server.asked("/metrics"))
        await until(lambda: len(server.asked("/metrics")) > seen + 1)
        assert fleet.snapshot.scrapes["a/0"] is scrape
        assert fleet.snapshot.health["a/0"] == UP


async def test_metrics_without_an_end_are_given_up(watch: Watch) -> None:
    answers = {**healthy(), "/metrics": Answer(body=METRICS + b"#" * (5 * 2**20))}
    async with serving(answers) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url)))
        await until(lambda: len(server.asked("/metrics")) > 1)
        assert "a/0" not in fleet.snapshot.scrapes


async def test_a_backend_that_is_no_vllm_is_left_alone(watch: Watch) -> None:
    async with serving(healthy()) as cloud, serving(healthy()) as server:
        other = replace(backend(Replica("b/0", "b", server.url)), name="b")
        await watch(backend(Replica("a/0", "a", cloud.url), engine=EngineKind.OPENAI), other)
        await until(lambda: len(server.asked("/metrics")) > 3)
        assert cloud.heads == []


async def test_f14_a_one_token_probe_readmits_and_until_then_health_200_does_not(watch: Watch) -> None:
    answers = {**healthy(), "/v1/completions": Answer(500)}
    async with serving(answers) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url)))
        for _ in range(5):
            fleet.failed("a/0", "http_500")
        await until(lambda: len(server.asked("/v1/completions")) >= 2)
        assert len(server.asked("/health")) > 2
        assert fleet.snapshot.health["a/0"].state is HealthState.EJECTED
        answers["/v1/completions"] = Answer(body=b'{"choices":[{"text":"","finish_reason":"abort"}]}')
        seen = len(server.asked("/v1/completions"))
        await until(lambda: len(server.asked("/v1/completions")) > seen)
        assert fleet.snapshot.health["a/0"].state is HealthState.EJECTED  # a draining vLLM's 200 is none
        answers["/v1/completions"] = Answer(body=DONE)
        await until(lambda: fleet.snapshot.health["a/0"] == UP)


async def test_f14_while_a_probe_hangs_no_request_is_let_through(watch: Watch) -> None:
    answers = {**healthy(), "/v1/completions": Answer(body=DONE, after=(thaw := asyncio.Event()))}
    async with serving(answers) as server:
        now = [1000.0]
        a = backend(Replica("a/0", "a", server.url))
        fleet = await watch(a, ejection_seconds=30.0, clock=lambda: now[0])
        for _ in range(5):
            fleet.failed("a/0", "stall")
        now[0] += 30.0
        assert fleet.snapshot.health["a/0"].admits(now[0])
        await until(lambda: bool(server.asked("/v1/completions")))
        assert not fleet.snapshot.health["a/0"].admits(now[0])
        thaw.set()
        await until(lambda: fleet.snapshot.health["a/0"] == UP)


async def test_a_metered_backend_is_never_probed_at_its_expense(watch: Watch) -> None:
    metered = Pool("cloud", PoolKind.CLOUD, Billing.METERED)
    async with serving(healthy()) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url), pool=metered))
        for _ in range(5):
            fleet.failed("a/0", "http_500")
        await until(lambda: fleet.snapshot.health["a/0"].admits(time.monotonic()))
        seen = len(server.heads)
        await until(lambda: len(server.heads) > seen + 4)
        assert not server.asked("/v1/completions")


@pytest.mark.parametrize("engine", list(EngineKind))
async def test_f09_a_replica_that_refuses_our_key_is_back_once_it_takes_it(watch: Watch, engine: EngineKind) -> None:
    answers = {**healthy(), "/v1/models": Answer(401)}
    async with serving(answers) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url, api_key="secret-1"), engine=engine))
        fleet.refused_credentials("a/0")
        await until(lambda: len(server.asked("/v1/models")) >= 2)
        assert fleet.snapshot.health["a/0"].state is HealthState.LOCKED_OUT
        answers["/v1/models"] = Answer(body=b"{}")
        await until(lambda: fleet.snapshot.health["a/0"] == UP)


@pytest.mark.parametrize(
    ("header", "sent"), [("authorization", "authorization: bearer secret-1"), ("api-key", "api-key: secret-1")]
)
async def test_the_api_key_goes_under_v1_and_nowhere_else(watch: Watch, header: str, sent: str) -> None:
    async with serving(healthy()) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url, "secret-1", header)))
        for _ in range(5):
            fleet.failed("a/0", "http_500")
        await until(lambda: fleet.snapshot.health["a/0"] == UP and len(server.asked("/metrics")) > 2)
        assert all(sent in head.split("\r\n") for head in server.asked("/v1/completions"))
        assert server.asked("/v1/completions")
        assert not any("secret-1" in head for head in server.heads if " /v1/" not in head)


async def test_no_proxy_and_no_netrc_of_the_environment_is_used(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving(healthy()) as server:
        fleet = await watch(backend(Replica("a/0", "a", server.url)))
        await until(lambda: "a/0" in fleet.snapshot.scrapes)


async def test_a_reload_watches_what_is_new_and_leaves_what_is_gone() -> None:
    async with serving(healthy()) as old, serving(healthy()) as new:
        before, after = backend(Replica("a/0", "a", old.url)), backend(Replica("a/0", "a", new.url))
        fleet = Fleet([before], ("small",), HealthRules())
        scraper = Scraper(fleet, interval_seconds=INTERVAL_SECONDS)
        scraper.follow([before])
        await until(lambda: "a/0" in fleet.snapshot.scrapes)
        fleet.configure([after], ("small",), HealthRules())
        scraper.follow([after])
        await until(lambda: len(new.asked("/metrics")) > 2)
        seen = len(old.heads)
        await until(lambda: len(new.asked("/metrics")) > 5)
        assert len(old.heads) == seen
        await scraper.close()


async def test_f34_a_replica_is_asked_where_requests_go_and_under_its_own_name() -> None:
    book: dict[str, str] = {}

    async def addresses(name: str) -> list[str]:
        if name not in book:
            raise OSError("not known")
        return [book[name]]

    async with serving(healthy()) as server:
        named = backend(Replica("a/0", "a", f"http://engine.invalid:{server.port}"))
        fleet = Fleet([named], ("small",), HealthRules())
        scraper = Scraper(fleet, interval_seconds=INTERVAL_SECONDS, addresses=addresses)
        scraper.follow([named])
        await until(lambda: fleet.snapshot.health["a/0"].state is HealthState.DOWN)
        assert fleet.snapshot.health["a/0"].why == "health check fails: connect"
        book["engine.invalid"] = "127.0.0.1"
        await until(lambda: "a/0" in fleet.snapshot.scrapes and fleet.snapshot.health["a/0"].is_usable)
        assert all(f"host: engine.invalid:{server.port}\r\n" in head for head in server.heads)
        await scraper.close()
