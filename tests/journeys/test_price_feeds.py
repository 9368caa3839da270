"""Prices that move while jeton runs: streams go on, the bill is exact, and what is doubtful is said everywhere."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from price_feed import FeedServer, document, feed_server
from prometheus_client.parser import text_string_to_metric_families
from whole_app import CLOUD_KEY, PRICES, WholeApp, running

PATH = "/v1/chat/completions"
LONG: dict[str, Any] = {
    "model": "small-model",
    "messages": HELLO,
    "max_tokens": 30_000,
    "ignore_eos": True,
    "stream": True,
}
USUAL = 3.60


@pytest.fixture
async def feed() -> AsyncIterator[FeedServer]:
    async with feed_server() as server:
        server.usd_per_hour = {"gpu": USUAL}
        yield server


@pytest.fixture
async def jeton(tmp_path: Path, feed: FeedServer) -> AsyncIterator[WholeApp]:
    """Its leased replicas' price is moved by a feed."""

    def change(config: dict[str, Any]) -> None:
        terms = {"url": feed.url, "prices": ["gpu"], "poll_seconds": 0.1, "stale_seconds": 2}
        (tmp_path / "moving.yaml").write_text(json.dumps({"prices": PRICES, "feeds": {"market": terms}}))
        config["prices"] = "moving.yaml"

    async with running(tmp_path, change) as whole:
        yield whole


def hourly_usd(jeton: WholeApp) -> float:
    price = jeton.app._pipeline.deployment.prices["small"]
    return price.nanousd_per_hour / 1e9  # type: ignore[union-attr]


async def metric(jeton: WholeApp, name: str, **labels: str) -> float:
    text = (await jeton.http.get("/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_streams_go_on_and_the_bill_stays_exact_while_the_price_moves(jeton: WholeApp, feed: FeedServer) -> None:
    streams = [await jeton.raw(jeton.request(PATH, LONG)) for _ in range(3)]
    for stream in streams:
        await stream.reader.readuntil(b"}\n\n")
    for usd in (4.25, 2.5, 3.75):
        feed.usd_per_hour = {"gpu": usd}
        await jeton.until(lambda usd=usd: hourly_usd(jeton) == usd, seconds=15)  # type: ignore[misc]
        for stream in streams:
            await stream.reader.readuntil(b"}\n\n")
    for stream in streams:
        stream.leave()
    await jeton.settled()
    charges = await jeton.charges()
    assert {charge["price_id"].count("~") for charge in charges} == {0}, "each keeps the price that it was opened with"
    with closing(sqlite3.connect(jeton.ledger_path)) as ledger:
        moved = ledger.execute(
            "SELECT amount FROM journal WHERE kind = 'repriced' AND lease_id LIKE 'small/1~%'"
        ).fetchall()
        kept = ledger.execute("SELECT count(*) FROM prices WHERE price_id LIKE 'gpu@%~%'").fetchone()
    assert [amount for (amount,) in moved] == [4_250_000_000, 2_500_000_000, 3_750_000_000]
    assert kept == (3,)


async def test_nonsense_is_refused_told_and_grows_stale(jeton: WholeApp, feed: FeedServer) -> None:
    await jeton.until(lambda: jeton.app._price_watch._feeds.hearings["gpu"].fed is not None)
    feed.usd_per_hour = {"gpu": 36_000}
    await jeton.until(lambda: bool(jeton.app._price_watch.warnings()), seconds=15)
    answer = (await jeton.http.get("/ready")).json()
    assert answer["ready"] is True
    assert "the price `gpu` of `small` is stale: the feed `market` has told nothing good for" in answer["warnings"][0]
    assert "36000 USD for a GPU-hour is more than 10 times outside what is known" in answer["warnings"][0]
    assert hourly_usd(jeton) == USUAL
    assert await metric(jeton, "jeton_price_state", backend="small", state="stale") == 1
    assert await metric(jeton, "jeton_price_state", backend="small", state="current") == 0
    assert await metric(jeton, "jeton_price_state", backend="cloud", state="current") == 1
    assert await metric(jeton, "jeton_price_age_seconds", backend="small") > 2
    assert await metric(jeton, "jeton_price_feed_polls_total", feed="market", result="refused") >= 1
    assert [event for event in jeton.events if event["event"].startswith("feed not believed")]
    feed.usd_per_hour = {"gpu": 3.5}
    await jeton.until(lambda: hourly_usd(jeton) == 3.5, seconds=15)
    await jeton.until(lambda: not jeton.app._price_watch.warnings(), seconds=15)


async def test_a_feed_that_cannot_be_read_is_no_reason_not_to_serve(jeton: WholeApp, feed: FeedServer) -> None:
    feed.status = 503
    polls = jeton.app._metrics
    await jeton.until(lambda: polls._feed_polls_total.labels("market", "unreachable").value > 0, seconds=15)
    answer = await jeton.http.post(PATH, json={**LONG, "max_tokens": 3, "stream": False})
    assert answer.status_code == 200
    assert hourly_usd(jeton) == USUAL


async def test_what_was_told_last_stays_in_force_over_a_restart(tmp_path: Path, feed: FeedServer) -> None:
    def change(config: dict[str, Any]) -> None:
        terms = {"url": feed.url, "prices": ["gpu"], "poll_seconds": 0.1}
        (tmp_path / "moving.yaml").write_text(json.dumps({"prices": PRICES, "feeds": {"market": terms}}))
        config["prices"] = "moving.yaml"

    feed.usd_per_hour = {"gpu": 4.5}
    async with running(tmp_path, change) as jeton:
        await jeton.until(lambda: hourly_usd(jeton) == 4.5, seconds=15)
        await jeton.charges()
    feed.status = 503
    async with running(tmp_path, change) as jeton:
        assert hourly_usd(jeton) == 4.5
        await jeton.until(lambda: jeton.app._metrics._feed_polls_total.labels("market", "unreachable").value > 0, 15)
        assert hourly_usd(jeton) == 4.5


async def test_a_feeds_file_is_beside_the_book_wherever_the_keys_are(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text(CLOUD_KEY)
    (tmp_path / "spot.json").write_bytes(document(time.time_ns(), gpu=3.5))

    def change(config: dict[str, Any]) -> None:
        terms = {"file": "spot.json", "prices": ["gpu"], "poll_seconds": 0.1}
        (tmp_path / "moving.yaml").write_text(json.dumps({"prices": PRICES, "feeds": {"market": terms}}))
        config["prices"] = "moving.yaml"
        backends = {backend["name"]: backend for pool in config["pools"] for backend in pool["backends"]}
        (cloud,) = backends["cloud"]["replicas"]
        backends["cloud"]["replicas"] = [{"url": cloud["url"], "api_key_file": "secrets/key"}]

    async with running(tmp_path, change) as jeton:
        await jeton.until(lambda: hourly_usd(jeton) == 3.5, seconds=15)
