"""The command drives a server as told, from processes of its own, and says what came of it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from load.__main__ import main
from load.drive.process import Target
from load.drive.run import drive
from load.drive.schedule import sessions
from load.emulator.fleet import EmulatedFleet
from load.emulator.replica import Replica
from load.emulator.spec import ReplicaSpec
from load.traces import Arrival, Trace
from load.workload import Mix, Workload, read_prompts

QUICK = Mix({"small": 1.0}, {"": 1.0}, streaming_ratio=0.5)


@contextmanager
def emulated(spec: ReplicaSpec) -> Iterator[Replica]:
    """A replica on an event loop in a thread of its own: the driver's own main is not asynchronous."""
    import asyncio

    ready, done = threading.Event(), threading.Event()
    found: list[Replica] = []

    async def serve() -> None:
        async with EmulatedFleet.start([spec]) as fleet:
            found.append(fleet.replicas[0])
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield found[0]
    finally:
        done.set()
        thread.join()


def driven(replica: Replica, trace: Trace, *, processes: int = 1, until_seconds: float = 60.0) -> Any:
    return drive(
        Target(f"{replica.url}/v1", {"": "sk-x"}),
        Workload(trace, read_prompts(), QUICK, seed=3, keeps_lengths=True),
        sessions(trace),
        processes=processes,
        until_seconds=until_seconds,
        grace_seconds=60.0,
        timeout_seconds=60.0,
    )


def test_every_request_is_sent_once_and_not_before_its_time_whatever_the_number_of_processes() -> None:
    trace = Trace([Arrival(0.05 * number, 60, 5) for number in range(40)])
    with emulated(ReplicaSpec(model="small", api_key="sk-x")) as replica:
        outcomes = driven(replica, trace, processes=2)
    assert [one.number for one in outcomes] == list(range(40))
    assert {one.error for one in outcomes} == {""}
    assert all(one.sent_seconds >= one.scheduled_seconds == trace.arrivals[one.number].seconds for one in outcomes)
    assert {one.completion_tokens for one in outcomes} == {5}


def test_a_turn_is_sent_after_the_answer_before_it_and_its_think_time_and_hits_the_cache() -> None:
    trace = Trace(
        [Arrival(0.0, 600, 30, session="s")]
        + [Arrival(0.001 * n, 600 + 200 * n, 30, session="s", turn=n, think_seconds=0.1) for n in range(1, 4)]
    )
    with emulated(ReplicaSpec(model="small", has_prompt_tokens_details=True)) as replica:
        outcomes = driven(replica, trace)
    assert [one.number for one in outcomes] == [0, 1, 2, 3]
    for earlier, later in pairwise(outcomes):
        assert later.scheduled_seconds == pytest.approx(earlier.ended_seconds + 0.1)
        assert later.cached_tokens >= 384  # all whole blocks of 128 that the first prompt had before its question


def test_a_conversation_that_breaks_off_has_no_next_turn_and_time_up_sends_nothing_more() -> None:
    trace = Trace([
        Arrival(0.0, 50, 5, session="s"), Arrival(1.0, 50, 5, session="s", turn=1), Arrival(500.0, 50, 5),
    ])  # fmt: skip
    with emulated(ReplicaSpec(model="small")) as replica:
        replica.faults(status=500)
        outcomes = driven(replica, trace, until_seconds=2.0)
    assert [(one.number, one.error) for one in outcomes] == [(0, "http_500")]


def test_the_command_prints_a_table_and_writes_every_figure(tmp_path: Path) -> None:
    with emulated(ReplicaSpec(model="small")) as replica:
        told = tmp_path / "figures.json"
        arguments = [
            "drive", "--url", f"{replica.url}/v1", "--model", "small", "--rate", "20", "--seconds", "2", "--warmup", "0",
            "--keep-lengths", "--objective", "ttft=30", "--json", str(told), "--label", "a run",
        ]  # fmt: skip
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    found = json.loads(told.read_text())
    assert result.exit_code == (0 if found["verdict"]["is_believable"] else 3), result.output
    assert "TTFT p50 / p99" in result.stdout
    assert found["label"] == "a run"
    assert found["request_count"]["avg"] == found["time_to_first_token"]["count"] > 10
    assert found["slo_attainment_ratio"]["avg"] == 1.0
    assert found["cost"]["requests_with_known_cost"] == 0


def test_a_price_book_prices_what_a_server_does_not(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "prices:\n  cloud:\n    - {kind: tokens, from: 2026-01-01, source: a test, prompt_usd_per_million: 1.5, "
        "completion_usd_per_million: 2.5}\n"
    )
    with emulated(ReplicaSpec(model="small")) as replica:
        told = tmp_path / "figures.json"
        arguments = [
            "drive", "--url", f"{replica.url}/v1", "--model", "small", "--rate", "20", "--seconds", "1", "--warmup", "0",
            "--keep-lengths", "--prices", str(prices), "--price", "cloud", "--json", str(told),
        ]  # fmt: skip
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    found = json.loads(told.read_text())
    assert result.exit_code in (0, 3), result.output
    prompt, completion = found["input_sequence_length"], found["output_sequence_length"]
    usd = (1.5 * prompt["avg"] * prompt["count"] + 2.5 * completion["avg"] * completion["count"]) / 1e6
    assert found["cost"]["total"] == pytest.approx(usd, abs=1e-8 * completion["count"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--objective", "speed=1"], "write ttft, tpot, latency and seconds"),
        (["--model", "small=much"], "a name and a weight"),
        (["--model", "small=0"], "a weight is above 0"),
        (["--price", "x"], "--prices and --price go together"),
        (["--window", "9000", "9001"], "no requests between"),
        (["--shape", "ramp:9:60"], "--shape goes with --rate"),
        (["--rate", "2", "--shape", "ramp"], "none of diurnal:"),
    ],
)
def test_what_cannot_be_understood_is_refused_before_anything_is_sent(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(main, ["drive", "--url", "http://127.0.0.1:9/v1", *arguments])
    assert result.exit_code == 2
    assert why in result.stderr


def test_an_api_key_may_hold_an_equals_sign() -> None:
    from load.drive.command import _key

    assert _key("sk-abc==") == ("", "sk-abc==")
    assert _key("acme=sk-abc") == ("acme", "sk-abc")
    assert _key("sk-abc") == ("", "sk-abc")
