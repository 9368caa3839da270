"""What tests of several processes on one ledger wait for, and what they write for them."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from jeton_server import LEASE

PATIENCE_SECONDS = 60.0


def until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)


def is_booked(ledger: Path) -> bool:
    """Nothing that was told waits for the accountant."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("SELECT count(*) = 0 FROM reports").fetchone()[0])


def write_config(directory: Path, config: dict[str, Any]) -> None:
    (directory / "router.yaml").write_text(json.dumps(config))
    (directory / "prices.yaml").write_text(json.dumps({"prices": {"gpu": [LEASE]}}))
