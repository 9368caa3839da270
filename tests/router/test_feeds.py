"""Feeds are read from files and addresses; what is not believed changes nothing, and the bill stays exact whatever is told."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from audited import assert_audit_is_clean
from bookkeeping import FLEET, PRICES, PROFILES, SMALL, answered, assert_books_balance, assert_file_is_consistent, facts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from price_feed import NS, document, feed_server

from router.accounting.accountant import Accountant
from router.feeds import Feeds, PollResult
from router.ledger.sqlite import SqliteLedger
from router.pricing.book import PriceBook
from router.pricing.price import LeasedPrice

START = 1_795_714_200 * NS
ROW = {"kind": "lease", "purchase": "spot", "from": "2026-01-01", "usd_per_hour": 2, "source": "a test"}


class Listener:
    """Feeds with a clock in hand."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None, **terms: Any) -> None:
        self.now_ns = START
        self.folder = folder
        self.changes = 0
        self.results: list[str] = []
        self.terms = terms
        self.feeds = Feeds(lambda: self.now_ns, self._changed, lambda feed, result: self.results.append(result))
        self.follow(rows or [ROW])

    def follow(self, rows: list[dict[str, Any]], **terms: Any) -> None:
        self.terms |= terms
        feed = {"prices": ["spot"], "poll_seconds": 86_400, **self.terms}
        self.book = PriceBook.model_validate({"prices": {"spot": rows}, "feeds": {"market": feed}})
        self.feeds.follow(self.book, self.folder)

    async def poll(self) -> PollResult:
        return await self.feeds.poll("market", self.book.feeds["market"])

    async def hears(self, usd: Any, *, seconds: float = 60) -> PollResult:
        self.now_ns += int(seconds * NS)
        (self.folder / "spot.json").write_bytes(document(self.now_ns, spot=usd))
        return await self.poll()

    @property
    def price(self) -> LeasedPrice:
        today = datetime.fromtimestamp(self.now_ns / NS, UTC).date()
        price = self.book.in_force("spot", today, self.feeds.fed("spot"))
        assert isinstance(price, LeasedPrice)
        return price

    @property
    def usd(self) -> Decimal:
        return Decimal(self.price.nanousd_per_hour) / NS

    @property
    def trouble(self) -> str:
        return self.feeds.hearings["spot"].trouble

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    return Listener(tmp_path, file="spot.json")


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as events:
        yield events


async def test_a_price_moves_with_its_feed(listener: Listener) -> None:
    row_id = listener.price.price_id
    assert await listener.hears("2.5") is PollResult.CHANGED
    assert (listener.usd, listener.changes) == (Decimal("2.5"), 1)
    assert listener.price.price_id.startswith(f"{row_id}~2.5~2026")
    moved = listener.price
    assert await listener.hears("2.50") is PollResult.UNCHANGED
    assert listener.price == moved, "the same price is the same snapshot"
    assert listener.changes == 1
    assert await listener.hears("2") is PollResult.CHANGED


async def test_a_first_value_that_is_the_rows_own_changes_nothing(listener: Listener) -> None:
    assert await listener.hears("2") is PollResult.UNCHANGED
    assert (listener.usd, listener.changes) == (2, 0)


@pytest.mark.parametrize("nonsense", ["7", "0", "-1", "free", None, "NaN", "300"])
async def test_a_bad_value_is_refused_loudly_and_the_last_good_one_stays(
    listener: Listener, log: list[Any], nonsense: Any
) -> None:
    await listener.hears("1.8")
    heard_ns = listener.feeds.hearings["spot"].heard_ns
    for _ in range(3):
        assert await listener.hears(nonsense) is PollResult.REFUSED
    assert (listener.usd, listener.changes) == (Decimal("1.8"), 1)
    assert listener.feeds.hearings["spot"].heard_ns == heard_ns, "it grows stale"
    told = [event for event in log if event["log_level"] == "warning"]
    assert [(event["feed"], event["price"]) for event in told] == [("market", "spot")], "once, not at every poll"
    assert await listener.hears("1.9") is PollResult.CHANGED
    assert listener.trouble == ""


async def test_a_value_older_than_the_last_is_refused(listener: Listener) -> None:
    await listener.hears("1.8")
    (listener.folder / "spot.json").write_bytes(document(listener.now_ns - NS, spot="1.9"))
    assert await listener.poll() is PollResult.REFUSED
    assert listener.usd == Decimal("1.8")


async def test_a_file_that_is_not_there_or_no_document_changes_nothing(listener: Listener) -> None:
    assert await listener.poll() is PollResult.UNREACHABLE
    assert "No such file" in listener.trouble
    path = listener.folder / "spot.json"
    path.write_text("{")
    assert await listener.poll() is PollResult.REFUSED
    path.write_bytes(b" " * (2**20 + 1))
    assert await listener.poll() is PollResult.REFUSED
    assert "larger than" in listener.trouble
    path.unlink()
    path.mkdir()
    assert await listener.poll() is PollResult.UNREACHABLE
    assert listener.usd == 2


async def test_an_address_is_read_and_nothing_but_a_plain_answer_is_believed(tmp_path: Path) -> None:
    async with feed_server() as server, feed_server() as elsewhere:
        listener = Listener(tmp_path, url=server.url, timeout_seconds=0.5)
        server.body = elsewhere.body = document(START, spot="1.8")
        async with listener.feeds.running():
            while not listener.results:
                await asyncio.sleep(0.01)
            assert (listener.results, listener.usd) == (["changed"], Decimal("1.8"))
            server.body = document(START + NS, spot="1.9")
            for status, headers in ((500, ""), (404, ""), (204, ""), (302, f"location: {elsewhere.url}\r\n")):
                server.status, server.headers = status, headers
                assert await listener.poll() is PollResult.UNREACHABLE
            assert elsewhere.asked == 0, "redirects are not followed"
            server.status, server.headers = 200, ""
            server.hangs = True
            assert await listener.poll() is PollResult.UNREACHABLE
            server.hangs = False
            server.body = b" " * (2**20 + 1)
            assert await listener.poll() is PollResult.REFUSED
            assert listener.usd == Decimal("1.8")
            server.body = document(START + NS, spot="1.9")
            assert await listener.poll() is PollResult.CHANGED
    async with feed_server() as gone:
        listener.follow([ROW], url=gone.url)
    async with listener.feeds.running():
        assert await listener.poll() is PollResult.UNREACHABLE
    assert listener.usd == Decimal("1.9")


async def test_a_feed_is_polled_on_its_beat_and_a_reload_changes_the_beat(tmp_path: Path) -> None:
    async with feed_server() as server:
        listener = Listener(tmp_path, url=server.url)
        server.body = document(START, spot="1.8")
        async with listener.feeds.running():
            while server.asked < 1:
                await asyncio.sleep(0.01)
            listener.follow([ROW], poll_seconds=0.1)
            while server.asked < 4:
                await asyncio.sleep(0.01)
        asked = server.asked
        assert listener.usd == Decimal("1.8"), "what was heard stays over a reload"
        await asyncio.sleep(0.3)
        assert server.asked == asked, "nobody asks any more"


async def test_a_new_row_takes_the_place_of_what_the_feed_had_told(listener: Listener) -> None:
    await listener.hears("1.8")
    listener.follow([ROW, {**ROW, "from": "2026-11-26", "usd_per_hour": 8}])
    assert listener.usd == 8
    assert await listener.hears("7.5") is PollResult.CHANGED, "and it is from the row that the next jump counts"


async def test_a_feed_that_is_taken_out_leaves_the_row(listener: Listener) -> None:
    await listener.hears("1.8")
    listener.feeds.follow(PriceBook.model_validate({"prices": {"spot": [ROW]}}), listener.folder)
    assert listener.usd == 2


steps = st.lists(
    st.tuples(
        st.sampled_from(["hear", "open", "first_token", "close"]),
        st.one_of(st.decimals("0.05", "60", places=4), st.sampled_from(["NaN", "-1", "x", "1e99"])),
        st.floats(0, 600),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_whatever_a_feed_tells_the_bill_is_the_charges_and_the_idle_time(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, Any, float]]
) -> None:
    folder = tmp_path_factory.mktemp("feed")
    listener = Listener(folder, file="spot.json", stale_seconds=10**6)
    store = SqliteLedger(folder / "ledger.sqlite", commit_seconds=0.0005)
    accountant = Accountant(store)

    def set_fleet() -> None:
        accountant.set_fleet(FLEET, {**PRICES, SMALL.name: listener.price}, PROFILES, listener.now_ns)

    listener.feeds.on_change = set_fleet
    set_fleet()
    is_open: list[str] = []
    charged, refused = 0, 0
    for number, (verb, usd, seconds) in enumerate(script):
        if verb == "hear":
            before = listener.usd
            if asyncio.run(listener.hears(usd, seconds=seconds)) is PollResult.REFUSED:
                refused += 1
                assert listener.usd == before
            continue
        listener.now_ns += int(seconds * NS)
        if verb == "open":
            one = facts(f"r{number}")
            accountant.open(one, SMALL, listener.price, 100, 50, listener.now_ns)
            is_open.append(one.attempt_id)
        elif is_open and verb == "first_token":
            accountant.first_token(is_open[-1], listener.now_ns)
        elif is_open:
            charged += accountant.close(is_open.pop(0), answered(), listener.now_ns).cost_nanousd or 0
    for attempt_id in is_open:
        charged += accountant.close(attempt_id, answered(), listener.now_ns).cost_nanousd or 0
    accountant.advance(listener.now_ns)
    totals = asyncio.run(store.published(10.0))
    assert_books_balance(totals, 0)
    assert sum(total.cost_nanousd for total in totals.lines.values()) == charged
    store.close()
    assert_file_is_consistent(folder / "ledger.sqlite", is_quiet=True)
    assert_audit_is_clean(folder / "ledger.sqlite")
