"""The traffic that a ledger has seen becomes a trace that every tool of the laboratory reads."""

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SECOND, SMALL, answered, facts
from click.testing import CliRunner, Result

from load.__main__ import main
from load.traces import Arrival, Trace, read_trace
from load.traces.formats import columns
from router.accounting.accountant import Accountant
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.usage import Usage
from router.ledger.sqlite import SqliteLedger

START = 1_795_000_000 * SECOND  # 2026-11-18 11:06:40 UTC


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three requests ten seconds apart, each failed at first and answered elsewhere."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    store = SqliteLedger(path, commit_seconds=0.0005)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    for number in range(3):
        at_ns = START + 10 * number * SECOND
        one = facts(f"req_{number}", tenant="acme" if number else "zeta")
        accountant.open(one, SMALL, EDGE_PRICE, 100, 50, at_ns)
        accountant.close(one.attempt_id, AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "reset"), at_ns + SECOND)
        two = facts(f"req_{number}", LARGE, number=2, tenant=one.tenant)
        accountant.open(two, LARGE, CLOUD_PRICE, 100, 50, at_ns + SECOND)
        accountant.close(two.attempt_id, answered(), at_ns + 2 * SECOND)
    accountant.advance(START + 60 * SECOND)
    asyncio.run(store.published(10.0))
    yield path
    store.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["record", *arguments])


def test_a_request_is_in_the_trace_once_at_its_first_attempt_and_as_long_as_its_last(
    ledger: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ours.csv.gz"
    result = run(str(out), "--ledger", str(ledger))
    assert result.exit_code == 0, result.output
    assert "3 requests over 20 s" in result.output
    usage = answered().usage
    assert [
        (one.seconds, one.prompt_tokens, one.completion_tokens, one.tenant) for one in read_trace(out).arrivals
    ] == [
        (0.0, usage.prompt_tokens, usage.completion_tokens, "zeta"),
        (10.0, usage.prompt_tokens, usage.completion_tokens, "acme"),
        (20.0, usage.prompt_tokens, usage.completion_tokens, "acme"),
    ]
    assert out.read_bytes()[:2] == gzip.compress(b"")[:2]


def test_a_time_of_which_there_is_nothing_is_told(ledger: Path, tmp_path: Path) -> None:
    result = run(str(tmp_path / "none.csv"), "--ledger", str(ledger), "--to", "2020-01-01")
    assert result.exit_code == 1
    assert "nothing of that time" in result.output
    assert not (tmp_path / "none.csv").exists()


def test_a_trace_that_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    arrivals = [
        Arrival(0.0, 1000, 10, session="a, b", turn=0, kind="agent", tenant='q"x', blocks=(range(2),)),
        Arrival(
            1.5, 2000, 20, session="a, b", turn=1, think_seconds=0.25, kind="agent", blocks=(range(2), range(7, 9))
        ),
        Arrival(2.0, 30, 3),
    ]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(columns.lines(Trace(arrivals, 512))) + "\n")
    again = read_trace(path)
    assert list(again.arrivals) == arrivals
    assert again.block_tokens == 512
