"""A small fleet, attempts on it, and what the ledger must say of them; shared by the tests of money."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson

from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.domain.totals import Totals
from router.domain.usage import Usage
from router.ledger import rollups
from router.ledger.address import Address
from router.ledger.rows import opening_from_json
from router.ledger.schema import reading
from router.ledger.spending import spending_differences
from router.pricing.price import LeasedPrice, MeteredPrice, Purchase, TokenRates
from router.pricing.profile import EngineProfile

SECOND = 10**9
HOUR = 3600 * SECOND

PROFILE = EngineProfile(
    step_overhead_seconds=2e-3,
    weight_read_seconds=6e-3,
    kv_read_seconds_per_token=4e-8,
    compute_seconds_per_token=3e-5,
    kv_capacity_tokens=400_000,
)
EDGE = Pool("edge", PoolKind.EDGE, Billing.LEASED)
CLOUD = Pool("cloud", PoolKind.CLOUD, Billing.METERED)
EDGE_PRICE = LeasedPrice("edge-l4@2026-01-01#00000001", 3_600_000_000, Purchase.ON_DEMAND)
CLOUD_PRICE = MeteredPrice(
    "cloud-large@2026-01-01#00000002",
    TokenRates(prompt=2_000_000_000, cached=500_000_000, cache_write=2_000_000_000, completion=8_000_000_000),
)


def backend(name: str, pool: Pool = EDGE, replicas: int = 1, tier: str = "small") -> Backend:
    return Backend(
        name=name,
        pool=pool,
        model=f"model-of-{name}",
        served_model=name,
        tier=tier,
        quantization="bf16",
        engine=EngineKind.VLLM,
        context_tokens=32_768,
        capabilities=frozenset(),
        price="",
        profile="",
        replicas=tuple(Replica(f"{name}/{n}", name, "http://127.0.0.1:1") for n in range(replicas)),
    )


SMALL = backend("edge-small", replicas=2)
LARGE = backend("cloud-large", CLOUD, tier="large")
FLEET = (SMALL, LARGE)
PRICES = {SMALL.name: EDGE_PRICE, LARGE.name: CLOUD_PRICE}
PROFILES = {SMALL.name: PROFILE}


def facts(request_id: str, of: Backend = SMALL, number: int = 1, replica: int = 0, **other: object) -> AttemptFacts:
    members: dict[str, object] = {
        "attempt_id": f"{request_id}.{number}",
        "request_id": request_id,
        "number": number,
        "tenant": "acme",
        "api_key_name": "acme-1",
        "endpoint": "chat",
        "asked_model": "auto",
        "pool": of.pool.name,
        "backend": of.name,
        "replica": of.replicas[replica].id,
        "model": of.model,
        "tier": of.tier,
        "policy": "quality_floor",
        "reason": "cheapest",
        "baseline": LARGE.name,
        "category": "chat",
        "prompt_tokens_estimate": 100,
        "completion_tokens_estimate": 50,
        **other,
    }
    return AttemptFacts(**members)  # type: ignore[arg-type]


def answered(prompt_tokens: int = 100, completion_tokens: int = 50, **usage: object) -> AttemptEnd:
    return AttemptEnd(AttemptStatus.OK, Usage(prompt_tokens, completion_tokens, **usage), http_status=200)  # type: ignore[arg-type]


# The tables that version 6 brought.
OF_SEVERAL_WORKERS = ("reports", "workers", "corrections")
# And version 9.
OF_PREEMPTIONS = ("preemptions", "watched_days")
# What takes a ledger, in either engine, back to version 6; SQLite's `user_version` besides.
BACK_TO_VERSION_6 = (
    "ALTER TABLE totals DROP COLUMN lost_nanousd",
    *(f"DROP TABLE {name}" for name in OF_PREEMPTIONS),
    "ALTER TABLE workers DROP COLUMN awake",
    "UPDATE alembic_version SET version_num = '6'",
)


def make_version_6(path: Path) -> None:
    """The file as the jeton left it whose totals did not know what was lost of them."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in BACK_TO_VERSION_6:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 6")
        connection.commit()


def make_version_4(path: Path) -> None:
    """The file as the jeton before revisions left it: without months, a charge's place being that of its row."""
    make_version_6(path)
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE journal_4 (seq INTEGER PRIMARY KEY, subject TEXT NOT NULL, kind TEXT NOT NULL, at_ns INTEGER NOT NULL,
            lease_id TEXT NOT NULL, amount INTEGER NOT NULL, detail TEXT, UNIQUE (subject, kind)) STRICT;
        INSERT INTO journal_4 SELECT seq, subject, kind, at_ns, lease_id, amount, detail FROM journal;
        DROP TABLE journal;
        ALTER TABLE journal_4 RENAME TO journal;
        CREATE TABLE rolled_4 (id INTEGER PRIMARY KEY CHECK (id = 1), attempt_id TEXT NOT NULL) STRICT;
        INSERT INTO rolled_4 SELECT 1, ifnull((SELECT attempt_id FROM charges WHERE charges.seq = rolled.seq), '') FROM rolled;
        DROP TABLE rolled;
        ALTER TABLE rolled_4 RENAME TO rolled;
        """
    )
    for table, left_out in (("charges", "seq, month"), ("totals", "number")):
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        order = left_out.partition(",")[0]
        for name in left_out.split(", "):
            sql = re.sub(rf"\n\s*{name} INTEGER NOT NULL,", "", sql, count=1)
        sql = re.sub(r"PRIMARY KEY \(\w+\),\s*", "", sql).replace("UNIQUE (attempt_id)", "PRIMARY KEY (attempt_id)")
        connection.execute(sql.replace(table, f"{table}_4", 1).replace(f'"{table}"', f"{table}_4", 1))
        names = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table}_4)")]
        connection.execute(f"INSERT INTO {table}_4 SELECT {', '.join(names)} FROM {table} ORDER BY {order}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE {table}_4 RENAME TO {table}")
    connection.execute("CREATE INDEX charges_ended ON charges (ended_ns)")
    connection.execute("ALTER TABLE position DROP COLUMN term")
    for name in ("pruned", "alembic_version", *OF_SEVERAL_WORKERS):
        connection.execute(f"DROP TABLE {name}")
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()


def make_version_3(path: Path) -> None:
    """The file as the jeton before the hours left it: charges without parts by class of token, nothing rolled up."""
    make_version_4(path)
    connection = sqlite3.connect(path)
    for name in ("cost_prompt_nanousd", "cost_cached_nanousd", "standard_prompt_nanousd", "standard_cached_nanousd"):
        connection.execute(f"ALTER TABLE charges DROP COLUMN {name}")
    connection.execute(
        "UPDATE journal SET detail = json_remove(detail, '$[12]', '$[11]', '$[10]', '$[9]') WHERE kind = 'closed'"
    )
    for name in ("rolled", "rolled_leases", "charge_hours", "charge_keys", "lease_hours", "arm_hours", "arm_totals"):
        connection.execute(f"DROP TABLE {name}")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()


def make_version_2(path: Path) -> None:
    """The file as the jeton before price snapshots left it: openings as objects and only of what a commit left open, no word on
    how attempts ended, no prices."""
    make_version_3(path)
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE journal SET subject = lease_id || '~' || json_extract(detail, '$[3]') || '~' || at_ns WHERE kind = 'repriced'"
    )
    # How weights grew stays: it was not known then, but without it these would be other charges.
    connection.execute(
        "UPDATE journal SET detail = NULL WHERE kind NOT IN ('opened', 'first_token')"
        " OR kind = 'opened' AND subject IN (SELECT attempt_id FROM charges)"
    )
    open_ones = "SELECT subject, detail FROM journal WHERE kind = 'opened' AND detail IS NOT NULL"
    for subject, text in connection.execute(open_ones).fetchall():
        opening = orjson.loads(orjson.dumps(opening_from_json(subject, text)))
        for name in ("service_tier", "tool_calls_estimate"):  # which nobody knew of then
            del opening["facts"][name]
        text = orjson.dumps(opening).decode()
        connection.execute("UPDATE journal SET detail = ? WHERE subject = ? AND kind = 'opened'", (text, subject))
    connection.execute("ALTER TABLE journal RENAME COLUMN detail TO opening")
    connection.execute("ALTER TABLE position DROP COLUMN seq")
    connection.execute("ALTER TABLE position DROP COLUMN whole_from_seq")
    connection.execute("DROP TABLE prices")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()


def assert_books_balance(totals: Totals, open_attempts: int) -> None:
    """Bill = Σ cost + open + idle + residue at every place, 0 ≤ residue < 1 for each open attempt and each lease."""
    for (pool, name), lease in totals.leases.items():
        place = (pool, name, Billing.LEASED.value)
        cost = sum(total.cost_nanousd for line, total in totals.lines.items() if line.account[:3] == place)
        owed = sum(owed for account, owed in totals.open_nanousd.items() if account[:3] == place)
        residue = lease.bill_nanousd - cost - owed - lease.idle_nanousd
        assert 0 <= residue <= open_attempts + LEASES_MAX, (pool, name, residue)


# More than any test starts at one place.
LEASES_MAX = 40


def assert_file_is_consistent(path: Path, *, is_quiet: bool = False) -> None:
    """The file is whole, and what is in it is consistent."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert_ledger_is_consistent(path, is_quiet=is_quiet)


def assert_ledger_is_consistent(address: Address, *, is_quiet: bool = False) -> None:
    """Straight from the tables: totals are the sums of the charges, every charge has its event and no other, and no lease
    has given out more than its bill. is_quiet: nothing is open, so that what it has not given out is below a nano-dollar."""
    with reading(address) as database:
        tokens = ["prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens"]
        line = "pool, backend, billing, model, tier, tenant, status, usage_source"
        parts = database.execute(
            f"SELECT {line}, count(*), count(*) - count(cost_nanousd), {', '.join(f'sum({name})' for name in tokens)},"
            " coalesce(sum(cost_nanousd), 0), coalesce(sum(standard_nanousd), 0),"
            " coalesce(sum(baseline_nanousd - cost_nanousd), 0), coalesce(sum(CASE WHEN status IN ('failed', 'lost', 'shadow')"
            " OR (status = 'cancelled' AND fault <> 'client_gone') THEN cost_nanousd END), 0)"
            f" FROM charges GROUP BY {line} ORDER BY {line}"
        ).fetchall()
        wholes = database.execute(
            f"SELECT {line}, attempts, unpriced, {', '.join(tokens)}, cost_nanousd, standard_nanousd, saved_nanousd,"
            " lost_nanousd"
            f" FROM totals ORDER BY {line}"
        ).fetchall()
        assert parts == wholes
        assert spending_differences(database) == []
        closed = database.execute("SELECT subject FROM journal WHERE kind = 'closed' ORDER BY 1").fetchall()
        assert closed == database.execute("SELECT attempt_id FROM charges ORDER BY 1").fetchall()
        assert list(rollups.differences(database)) == []
        not_given_out = database.execute(
            """
            SELECT lease_id, bill_nanousd - idle_nanousd - (
                SELECT coalesce(sum(cost_nanousd), 0) FROM journal JOIN charges ON attempt_id = subject
                WHERE journal.lease_id = leases.lease_id AND kind = 'closed'
            ) FROM leases
            """
        ).fetchall()
        for lease_id, nanousd in not_given_out:
            assert nanousd >= 0, lease_id
            assert nanousd <= 1 or not is_quiet, lease_id
        if is_quiet:
            opened = database.execute("SELECT subject FROM journal WHERE kind = 'opened' ORDER BY 1").fetchall()
            assert opened == closed
