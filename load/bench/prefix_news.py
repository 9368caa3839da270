"""What it costs workers to tell one another what is in which prefix cache: `python -m load.bench.prefix_news redis://HOST`.

Conversations go on at a steady rate, each where it was before: a preamble of a thousand tokens that all share, and prompts that
grow from 2,000 to 12,000 tokens. Told are microseconds of CPU a request, all threads of the process together, over what the same
requests cost an index that nobody shares: at the worker that sends them and tells of it, and at one that hears of them, with one
other worker and with seven. idle: at a worker that neither tells nor hears anything, per second, in milliseconds. The marks
themselves are made in advance; what making them costs is the last figure. Nobody pays for the pacing, which is measured without.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import uvloop
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from router.config.stores import RedisConfig
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.domain.request import Endpoint, PrefixMark
from router.prefix_news import PrefixNewsExchange
from router.selection.affinity import PrefixIndex
from router.wire.prefix import marks_secret, prefix_marks

PER_SECOND = 500
SECONDS = 5.0
RUNS = 2
CONVERSATIONS = 200
CAPACITY_TOKENS = 400_000
REPLICAS = tuple(Replica(f"bench/{number}", "bench", f"http://bench-{number}:8000") for number in range(16))
BACKEND = Backend(
    "bench", Pool("bench", PoolKind.CENTRAL, Billing.LEASED), "bench", "bench", "large", "fp8", EngineKind.VLLM, 32_768,
    frozenset(), "", "", REPLICAS,
)  # fmt: skip
CHARACTERS_PER_TOKEN = 4
PREAMBLE = "You answer the questions of our customers, briefly and to the point. " * 58
SENTENCE = "And what becomes of it in the year after that, if nobody pays? "

Sent = tuple[str, tuple[PrefixMark, ...]]


def conversation(number: int, secret: bytes) -> Iterator[tuple[PrefixMark, ...]]:
    """A new one whenever it has got long enough."""
    beginning = 0
    while True:
        beginning += 1
        asked = f"{number}, {beginning}: " + SENTENCE * 65
        messages = [{"role": "system", "content": PREAMBLE}, {"role": "user", "content": asked}]
        while sum(len(message["content"]) for message in messages) < 12_000 * CHARACTERS_PER_TOKEN:
            members = {"model": "bench", "messages": messages}
            yield prefix_marks(Endpoint.CHAT, members, "tenant", secret)
            for role, sentences in (("assistant", 25), ("user", 10)):
                messages.append({"role": role, "content": f"{len(messages)} " + SENTENCE * sentences})


def traffic(secret: bytes) -> tuple[list[Sent], float]:
    """Enough for all runs, mixed in age; and microseconds of CPU that the marks of a request took, texts included."""
    going = [conversation(number, secret) for number in range(CONVERSATIONS)]
    for number, one in enumerate(going):
        for _ in range(number % 17):
            next(one)
    began = time.thread_time()
    wanted = int(PER_SECOND * SECONDS)
    turns = [number % CONVERSATIONS for number in range(wanted)]
    made = [(REPLICAS[one % len(REPLICAS)].id, next(going[one])) for one in turns]
    return made, (time.thread_time() - began) / wanted * 1e6


def new_index() -> PrefixIndex:
    index = PrefixIndex()
    index.follow({replica.id: CAPACITY_TOKENS for replica in REPLICAS})
    return index


async def send(indexes: Sequence[PrefixIndex], sent: Sequence[Sent]) -> float:
    """Microseconds of CPU a request, of one index. Each request is sent by each of them."""
    began_seconds, began_cpu = time.monotonic(), time.process_time()
    for number, (replica, prefix) in enumerate(sent):
        for index in indexes:
            index.sent(replica, prefix)
        if number % 10 == 9:
            await asyncio.sleep(max(began_seconds + (number + 1) / PER_SECOND - time.monotonic(), 0))
    return (time.process_time() - began_cpu) / len(sent) * 1e6


async def run(url: str, tellers: int, listeners: int, sent: Sequence[Sent], secret: bytes) -> tuple[float, float]:
    """Microseconds of CPU, and bytes in Redis, a request. So many workers in this process, of whom the first tell and the others
    hear."""
    redis = Redis.from_url(url)
    indexes = [new_index() for _ in range(tellers + listeners)]
    exchanges = [PrefixNewsExchange(index, RedisConfig(url=url, timeout_seconds=5), "", secret) for index in indexes]
    async with AsyncExitStack() as stack:
        for exchange in exchanges:
            exchange.follow([BACKEND])
            await stack.enter_async_context(exchange.running())
        taken = await send(indexes[:tellers], sent)
        await asyncio.sleep(0.5)
        told = sum(exchange.told for exchange in exchanges)
        for listener in exchanges[tellers:]:
            if listener.heard != told or told != tellers * len(sent):
                raise SystemExit(f"of {tellers * len(sent)} {told} were told and {listener.heard} heard")
        kept_bytes = await redis.memory_usage(exchanges[0].stream, samples=0) or 0
        await redis.delete(exchanges[0].stream)
    await redis.aclose()
    return taken, kept_bytes / told


async def idle_cpu_seconds(url: str) -> float:
    """Of one second."""
    exchange = PrefixNewsExchange(new_index(), RedisConfig(url=url, timeout_seconds=5), "", secrets.token_bytes(32))
    exchange.follow([BACKEND])
    async with exchange.running():
        await asyncio.sleep(0.5)
        began = time.process_time()
        await asyncio.sleep(SECONDS)
        return (time.process_time() - began) / SECONDS


async def measure(url: str) -> None:
    secret = marks_secret(secrets.token_bytes(32))
    sent, marks_us = traffic(secret)

    async def best(tellers: int, listeners: int) -> tuple[float, float]:
        return min([await run(url, tellers, listeners, sent, secret) for _ in range(RUNS)])

    alone = min([await send([new_index()], sent) for _ in range(RUNS)])
    telling, kept_bytes = await best(1, 0)
    hearing = (await best(1, 1))[0] - telling
    seven_tell, _ = await best(7, 0)
    hearing_seven = (await best(7, 1))[0] - seven_tell
    table = Table("", "µs a request")
    table.columns[1].justify = "right"
    table.add_row("sent, by an index that nobody shares, pacing included", f"{alone:.1f}")
    table.add_row("told, at the worker that sends", f"{telling - alone:.1f}")
    table.add_row("heard, one other worker", f"{hearing:.1f}")
    table.add_row("heard, seven others, by each request of each", f"{hearing_seven / 7:.1f}")
    table.add_row("marks made (texts of the benchmark included)", f"{marks_us:.1f}")
    Console().print(table)
    marks = [len(prefix) for _, prefix in sent]
    Console().print(
        f"{PER_SECOND} requests/s and worker, {sum(marks) / len(marks):.1f} marks each; idle"
        f" {await idle_cpu_seconds(url) * 1e3:.1f} ms of CPU a second; {kept_bytes:.0f} bytes of Redis a request"
    )


if __name__ == "__main__":
    uvloop.run(measure(sys.argv[1]))
