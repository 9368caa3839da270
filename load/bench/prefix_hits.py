"""What workers find of each other's conversations: `python -m load.bench.prefix_hits redis://HOST` (five minutes).

`jeton serve` with one worker, with four that keep to themselves what they sent where, and with four that tell one another, each
before four emulated H100 that have just started. Conversations of up to ten turns begin with a text of their own of 2,000 tokens,
grow by some 400 tokens a turn, and go on two to six seconds after an answer, on a new connection, so that any worker may have
the next turn. Told is the share of prompt tokens that the replicas found in their prefix caches, by their own count, after a
warm-up; what could be found at most, had every turn come to the replica of the one before; and the mean time of an answer.
"""

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import click
import uvloop
import yaml
from rich.console import Console
from rich.table import Table

from load.bench.live.run import HOST, free_port, ready
from load.demo.components import Component
from load.emulator.fleet import EmulatedFleet
from load.emulator.spec import ReplicaSpec
from load.profiles import BUILT_IN, profile_named
from router.access.keys import api_key_hash, new_api_key
from router.config_file import PEPPER

PROFILE = "h100-llama-3.1-8b-fp8"
MODEL = "bench"
REPLICAS = 4
WARMUP_SECONDS = 20.0
SECONDS = 60.0
CONVERSATIONS = 40
TURNS_MAX = 10
THINK_SECONDS = (2.0, 6.0)
SEED = 20_261_127
WORDS = "what the house of every river in winter makes of those who pay for light and bread while others sing"
PRICES = """
prices: {gpu: [{kind: lease, from: 2026-01-01, usd_per_hour: 3.60, source: the benchmark's own}]}
"""


@dataclass
class Asked:
    """prompt_tokens and common_tokens: of all that were answered, and those of them that the turn before had, too."""

    answers: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    common_tokens: int = 0


def config(urls: list[str], key: str, pepper: str, redis: dict[str, Any]) -> dict[str, Any]:
    backend = {
        "name": MODEL, "model": MODEL, "tier": "large", "context_tokens": 32_768, "price": "gpu", "profile": PROFILE,
        "replicas": [{"url": url} for url in urls],
    }  # fmt: skip
    return {
        "baseline": MODEL,
        "tenants": [{"name": "bench", "api_keys": [{"name": "bench", "hash": api_key_hash(key, pepper.encode())}]}],
        "profiles": {PROFILE: yaml.safe_load(BUILT_IN.read_text(encoding="utf-8"))[PROFILE]},
        "pools": [{"name": "central", "kind": "central", "billing": "leased", "backends": [backend]}],
        "redis": redis,
    }


def text(random: Random, tokens: int) -> str:
    return " ".join(random.choices(WORDS.split(), k=tokens))


async def converse(url: str, key: str, random: Random, asked: Asked, until_seconds: float) -> None:
    """One conversation after another. A new connection for each turn."""
    headers = {"authorization": f"Bearer {key}"}
    await asyncio.sleep(random.uniform(0, THINK_SECONDS[1]))
    while True:
        messages = [{"role": "system", "content": text(random, 2000)}]
        common_tokens = 0
        for _ in range(random.randint(2, TURNS_MAX)):
            if time.monotonic() > until_seconds:
                return
            messages.append({"role": "user", "content": text(random, 350)})
            began = time.monotonic()
            async with aiohttp.ClientSession(headers=headers) as session:
                body = {"model": MODEL, "messages": messages, "max_tokens": 48}
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    told = await answer.json()
                    if answer.status != 200:
                        raise SystemExit(f"{answer.status}: {told}")
            asked.answers += 1
            asked.seconds += time.monotonic() - began
            asked.prompt_tokens += told["usage"]["prompt_tokens"]
            asked.common_tokens += common_tokens
            common_tokens = told["usage"]["prompt_tokens"]
            messages.append(told["choices"][0]["message"])
            await asyncio.sleep(random.uniform(*THINK_SECONDS))


async def measure(workers: int, redis: dict[str, Any]) -> tuple[float, float, float]:
    """Share found, share that could be found, mean seconds of an answer."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-prefix-hits-"))
    key, pepper, port = new_api_key(), secrets.token_hex(16), free_port()
    spec = ReplicaSpec(model=MODEL, profile=profile_named(PROFILE), stream_interval=8)
    try:
        async with EmulatedFleet.start([spec] * REPLICAS) as emulated:
            told = config([replica.url for replica in emulated.replicas], key, pepper, redis)
            (directory / "router.yaml").write_text(json.dumps(told), encoding="utf-8")
            (directory / "prices.yaml").write_text(PRICES, encoding="utf-8")
            command = (
                sys.executable, "-m", "router", "serve", "--workers", str(workers), "--host", HOST, "--port", str(port),
            )  # fmt: skip
            async with Component.running("jeton", directory, *command, environment={PEPPER: pepper}) as router:
                url = f"http://{HOST}:{port}"
                await ready(url, router)
                return await converse_all(url, key, emulated)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def converse_all(url: str, key: str, emulated: EmulatedFleet) -> tuple[float, float, float]:
    def found() -> tuple[int, int]:
        counters = [replica.engine.counters for replica in emulated.replicas]
        return sum(one.prefix_hits for one in counters), sum(one.prefix_queries for one in counters)

    asked = Asked()
    until_seconds = time.monotonic() + WARMUP_SECONDS + SECONDS
    going = [
        asyncio.create_task(converse(url, key, Random(f"{SEED}/{number}"), asked, until_seconds))
        for number in range(CONVERSATIONS)
    ]
    await asyncio.sleep(WARMUP_SECONDS)
    hits, queries = found()
    asked.answers = asked.prompt_tokens = asked.common_tokens = 0
    asked.seconds = 0.0
    await asyncio.gather(*going)
    hits, queries = found()[0] - hits, found()[1] - queries
    return hits / queries, asked.common_tokens / asked.prompt_tokens, asked.seconds / asked.answers


@click.command()
@click.argument("redis")
def main(redis: str) -> None:
    """Print what is found, of what could be found."""
    table = Table("", "found", "could be found", "an answer")
    for name, workers, shares in (("one worker", 1, False), ("four, apart", 4, False), ("four, sharing", 4, True)):
        settings = {"url": redis, "shares_prefixes": shares, "timeout_seconds": 1}
        found, could, seconds = uvloop.run(measure(workers, settings))
        table.add_row(name, f"{found:.1%}", f"{could:.1%}", f"{seconds:.3f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
