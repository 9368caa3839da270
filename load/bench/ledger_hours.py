"""How large the ledger's hours grow, and how long a report on them takes: `python -m load.bench.ledger_hours`.

A synthetic month of a fleet at 100 requests a second: every hour has every combination of replica, tenant and outcome that it
could have, with sums as large as so much traffic makes them. It goes through the real `roll`, one charge standing for all the
charges of a combination; then the charges are taken out, and what is left on disk is the hours. Nothing is kept. Seconds are of
CPU. What a charge with its journal takes, `ledger_throughput.py` tells.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from router.commands.report import ALL_HOURS, PLACES
from router.domain.attempt import AttemptFacts, AttemptStatus, Charge, CostStatus
from router.domain.periods import HOURS_PER_DAY, NS_PER_HOUR, month_of
from router.domain.usage import Usage
from router.ledger import rollups
from router.ledger.database import Database, transaction
from router.ledger.periods import read_periods
from router.ledger.rows import PLACED_CHARGE_COLUMNS, charge_row
from router.ledger.schema import open_writer
from router.reporting import page
from router.reporting.focus import COLUMNS, focus_rows, restated
from router.reporting.focus_rules import broken_rules
from router.reporting.report import as_json, build

REQUESTS_PER_SECOND = 100
LEASED_REPLICAS, METERED_REPLICAS, TENANTS = 8, 2, 20
OUTCOMES = ((AttemptStatus.OK, ""), (AttemptStatus.CANCELLED, "client_gone"), (AttemptStatus.FAILED, "reset"))
PER_HOUR = (LEASED_REPLICAS + METERED_REPLICAS) * TENANTS * len(OUTCOMES)
FIRST_HOUR = 494_000  # 2026-05-10
DAYS = 30


def main(months: int) -> None:
    hours = months * DAYS * HOURS_PER_DAY
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        with closing(open_writer(path)) as database:
            empty = _size(database, path)
            roll_seconds = 0.0
            for hour in range(FIRST_HOUR, FIRST_HOUR + hours):
                with transaction(database):
                    first, month = (hour - FIRST_HOUR) * PER_HOUR + 1, month_of(hour * NS_PER_HOUR)
                    charges = [(seq, month, *charge_row(one)) for seq, one in enumerate(_combinations(hour), first)]
                    database.insert_new("charges", PLACED_CHARGE_COLUMNS, charges)
                    _move_leases(database, hour)
                    roll_seconds += _timed(lambda: rollups.roll(database))
                    database.execute("DELETE FROM charges")
            size = _size(database, path) - empty
            (rows,) = database.execute("SELECT count(*) FROM charge_hours").fetchone()
        print(
            f"{months} month(s): {rows:,} rows of charges by the hour, {size / 1e6:,.1f} MB, {size / rows:.0f} bytes a row"
        )
        print(f"  rolled {rows:,} charges in {roll_seconds:.1f} s, {roll_seconds / rows * 1e6:.1f} µs each")
        _query(path, hours)


def _query(path: Path, hours: int) -> None:
    with read_periods(path) as periods:
        for name, hours_asked in (("a day", 24), ("a month", DAYS * 24), ("all", hours)):
            end = FIRST_HOUR + hours
            period = periods.whole()._replace(first_hour=max(FIRST_HOUR, end - hours_asked), end_hour=end)
            begin = time.process_time()
            leased = periods.leased(period)
            report = build(
                periods.spent(period, by=PLACES),
                periods.corrected(period, by=PLACES),
                periods.spent(period, by=("tenant", "outcome"), hours=ALL_HOURS),
                leased,
                periods.arms(period),
                {},
                {},
                {},
                first_hour=period.first_hour,
                end_hour=period.end_hour,
                made_at=datetime.fromtimestamp(0, UTC),
                baseline="cloud",
            )
            built = time.process_time()
            pages = len(page.html(report)) + len(json.dumps(as_json(report)))
            told = time.process_time()
            days = periods.leased(period, hours=HOURS_PER_DAY)
            rows = list(
                focus_rows(
                    restated(
                        periods.spent(period, hours=HOURS_PER_DAY), periods.corrected(period, hours=HOURS_PER_DAY)
                    ),
                    days,
                    {},
                    {},
                    first_hour=period.first_hour,
                    end_hour=period.end_hour,
                    account="bench",
                )
            )
            exported = time.process_time()
            broken = broken_rules(COLUMNS, rows)
            checked = time.process_time()
            assert not broken, broken[:3]
            assert sum(Decimal(row["BilledCost"] or 0) for row in rows) * 10**9 == report.whole.bill
            print(
                f"  {name}: query {built - begin:.2f} s, page and JSON {told - built:.2f} s ({pages / 1e6:.1f} MB),"
                f" {len(rows):,} FOCUS rows {exported - told:.2f} s, checked in {checked - exported:.2f} s"
            )


def _combinations(hour: int) -> Iterator[Charge]:
    attempts = REQUESTS_PER_SECOND * 3600 // PER_HOUR
    for replica in range(LEASED_REPLICAS + METERED_REPLICAS):
        is_leased = replica < LEASED_REPLICAS
        for tenant in range(TENANTS):
            for status, fault in OUTCOMES:
                name = f"{hour}-{replica}-{tenant}-{status}"
                one = _charge(name, f"replica-{replica}", f"tenant-{tenant}", is_leased, (hour + 1) * NS_PER_HOUR - 1)
                # One charge for as many as the combination would have: its sums, not its size, are what counts.
                yield replace(
                    one,
                    status=status,
                    fault=fault,
                    usage=Usage(1155 * attempts, 211 * attempts, 300 * attempts),
                    cost_nanousd=(one.cost_nanousd or 0) * attempts,
                    standard_nanousd=(one.standard_nanousd or 0) * attempts,
                    baseline_nanousd=(one.baseline_nanousd or 0) * attempts,
                    cost_prompt_nanousd=(one.cost_prompt_nanousd or 0) * attempts,
                    cost_cached_nanousd=(one.cost_cached_nanousd or 0) * attempts,
                    standard_prompt_nanousd=(one.standard_prompt_nanousd or 0) * attempts,
                    standard_cached_nanousd=(one.standard_cached_nanousd or 0) * attempts,
                )


def _charge(name: str, replica: str, tenant: str, is_leased: bool, ended_ns: int) -> Charge:
    backend = ("central-" if is_leased else "cloud-") + replica
    facts = AttemptFacts(
        attempt_id=f"req_{name}.1",
        request_id=f"req_{name}",
        number=1,
        tenant=tenant,
        api_key_name="notebooks",
        endpoint="chat",
        asked_model="auto",
        pool="central" if is_leased else "cloud",
        backend=backend,
        replica=replica,
        model="llama-3.1-8b-instruct",
        tier="small",
        policy="one_of_them",
        reason="cheapest that is good enough",
        baseline="cloud-large",
        category="chat",
        prompt_tokens_estimate=1200,
        completion_tokens_estimate=200,
    )
    return Charge(
        facts=facts,
        billing="leased" if is_leased else "metered",
        price_id="central-h100@2026-05-07#0123abcd" if is_leased else "cloud-large@2026-08-01#0123abcd",
        opened_ns=ended_ns - 4_000_000_000,
        first_token_ns=ended_ns - 3_000_000_000,
        ended_ns=ended_ns,
        status=AttemptStatus.OK,
        fault="",
        http_status=200,
        usage=Usage(1155, 211, 300),
        cost_status=CostStatus.PRICED,
        cost_nanousd=61_234,
        standard_nanousd=50_123,
        baseline_nanousd=3_998_000,
        cost_prompt_nanousd=11_111,
        cost_cached_nanousd=111,
        standard_prompt_nanousd=9_999,
        standard_cached_nanousd=99,
    )


def _move_leases(database: Database, hour: int) -> None:
    """As the accountant does, but once an hour."""
    elapsed = hour + 1 - FIRST_HOUR
    for replica in range(LEASED_REPLICAS):
        name = f"replica-{replica}"
        database.execute(
            "INSERT OR REPLACE INTO leases VALUES"
            " (?, ?, 'central', ?, 'central-h100@2026-05-07#0123abcd', ?, ?, NULL, ?, ?, NULL, 0)",
            (
                f"{name}~0123456789abcdef0123456789abcdef",
                name,
                f"central-{name}",
                FIRST_HOUR * NS_PER_HOUR,
                (hour + 1) * NS_PER_HOUR,
                3_780_000_000 * elapsed,
                780_000_000 * elapsed,
            ),
        )
    database.execute("UPDATE position SET at_ns = ?", ((hour + 1) * NS_PER_HOUR,))


def _size(database: Database, path: Path) -> int:
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return os.path.getsize(path)


def _timed(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
