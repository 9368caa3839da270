"""`jeton demo` as people run it: the printed snippets work, it ends cleanly, its money adds up, and a crash says whose it was."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from audited import assert_audit_is_clean
from click.testing import CliRunner
from running_demo import STEP_SECONDS_MAX, running

from load.demo import demo
from router.__main__ import main

AMOUNT = r"(\d+\.\d{9})"


def assert_money_adds_up(output: str) -> None:
    """Rows of the summary sum to its total, the bill is charges and idle, and every leased backend has cost something."""
    rows = {
        name: [Decimal(amount) for amount in amounts]
        for name, *amounts in re.findall(rf"^ (\S+) .*? {AMOUNT} {AMOUNT} {AMOUNT} *$", output, re.MULTILINE)
    }
    total = rows.pop("total")
    assert rows.keys() >= {"edge-small", "central-small", "central-large"}
    assert [sum(column) for column in zip(*rows.values(), strict=True)] == total
    assert all(bill > 0 for *_, bill in rows.values())

    identity = re.search(
        rf"^bill \${AMOUNT} = charges \${AMOUNT} \+ idle \${AMOUNT}(?: \+ residue \${AMOUNT})?$", output, re.M
    )
    assert identity
    bill, charges, idle, residue = (Decimal(amount or 0) for amount in identity.groups())
    assert bill == charges + idle + residue
    assert [charges, idle, bill] == total
    assert residue < Decimal("1e-6")  # less than a nano-dollar for each lease, and for each attempt cut off


def test_the_printed_snippets_work_and_ctrl_c_ends_everything_cleanly(tmp_path: Path) -> None:
    with running(tmp_path) as demo:
        printed = "".join(demo.output)
        curl = printed[printed.index("curl ") : printed.index("\n\nfrom openai")]
        answer = subprocess.run(
            ["bash", "-c", f"{curl} --silent --show-error --fail"],
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS_MAX,
        )
        assert answer.returncode == 0, answer.stderr
        head, body = answer.stdout.split("\n\n", 1)
        assert re.search(r"^x-jeton-cost-usd: 0\.0*[1-9]", head, re.MULTILINE)
        assert json.loads(body)["choices"][0]["message"]["content"]

        python = printed[printed.index("from openai") : printed.index("\n\nCtrl-C")]
        answer = subprocess.run(
            [sys.executable, "-c", python], capture_output=True, text=True, timeout=STEP_SECONDS_MAX
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.strip()

        demo.read_until(r"^Rates, prices and times")
        view = "".join(demo.output)
        assert demo.children.keys() == {"load.demo.emulation", "router"}
        demo.process.send_signal(signal.SIGINT)
        code, output = demo.finish()

    assert code == 0, output
    for pool in ("edge", "central"):
        row = re.search(rf"^ {pool} +(\d+) +\d+ +[\d,]+ +([\d.]+) ", view, re.MULTILINE)
        assert row, view
        assert float(row[2]) > 0
    assert_money_adds_up(output)
    assert "your own requests: 2, $0.0" in output
    assert list(tmp_path.iterdir()) == []


def test_it_ends_after_the_seconds_it_was_given_and_keeps_its_files_if_told_to(tmp_path: Path) -> None:
    with running(tmp_path, "--seconds", "8", "--speed", "2", "--keep") as demo:
        [reading] = re.findall(r"^The ledger is kept, .*: jeton (ledger .*)$", "".join(demo.output), re.MULTILINE)
        demo.read_until(r"^Rates, prices and times")
        read = CliRunner().invoke(main, reading.split())
        assert (read.exit_code, "attempt" in read.output) == (0, True), read.output
        code, output = demo.finish()
    assert code == 0, output
    assert_money_adds_up(output)
    assert re.search(r"^traffic: \d+ × 200", output, re.MULTILINE)
    [kept] = tmp_path.iterdir()
    assert f"kept: {kept}; its ledger: jeton {reading}" in output
    assert {file.name for file in kept.iterdir()} >= {"router.yaml", "prices.yaml", "jeton.sqlite", "router.log"}
    assert assert_audit_is_clean(kept / "jeton.sqlite").attempts > 0


@pytest.mark.parametrize(("component", "module"), [("router", "router"), ("fleet", "load.demo.emulation")])
def test_a_component_that_crashes_is_named_with_the_end_of_its_log(tmp_path: Path, component: str, module: str) -> None:
    with running(tmp_path) as demo:
        os.kill(demo.children[module], signal.SIGKILL)
        code, output = demo.finish()
    assert code == 1
    told = output[output.index("Error: ") :]
    assert told.startswith(f"Error: the {component} has ended by SIGKILL; the end of its log:\n  ")
    assert ("ready" in told) == (component == "router")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(demo, ["--port", str(port)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: the router cannot listen on port {port} (")
    assert "jeton demo --port" in result.output
    assert "starting" not in result.output
