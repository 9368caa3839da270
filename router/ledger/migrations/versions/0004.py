"""Charges have parts by class of token, and there are hours: what is there is rolled up from here on, the past first."""

from alembic import op

revision = "4"
down_revision = "3"

PARTS = ("cost_prompt_nanousd", "cost_cached_nanousd", "standard_prompt_nanousd", "standard_cached_nanousd")
ROLLUPS = (
    "CREATE TABLE rolled (id INTEGER PRIMARY KEY CHECK (id = 1), attempt_id TEXT NOT NULL) STRICT",
    "INSERT INTO rolled VALUES (1, '')",
    """
    CREATE TABLE rolled_leases (
        lease_id TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, bill_nanousd INTEGER NOT NULL, idle_nanousd INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE charge_keys (
        key INTEGER PRIMARY KEY, pool TEXT NOT NULL, backend TEXT NOT NULL, replica TEXT NOT NULL, billing TEXT NOT NULL,
        model TEXT NOT NULL, tier TEXT NOT NULL, tenant TEXT NOT NULL, price_id TEXT NOT NULL, outcome TEXT NOT NULL,
        UNIQUE (pool, backend, replica, billing, model, tier, tenant, price_id, outcome)
    ) STRICT
    """,
    """
    CREATE TABLE charge_hours (
        hour INTEGER NOT NULL, key INTEGER NOT NULL REFERENCES charge_keys, attempts INTEGER NOT NULL,
        unpriced INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, cost_nanousd INTEGER NOT NULL,
        cost_prompt_nanousd INTEGER NOT NULL, cost_cached_nanousd INTEGER NOT NULL, cost_completion_nanousd INTEGER NOT NULL,
        standard_nanousd INTEGER NOT NULL, standard_prompt_nanousd INTEGER NOT NULL, standard_cached_nanousd INTEGER NOT NULL,
        standard_completion_nanousd INTEGER NOT NULL, unrated_nanousd INTEGER NOT NULL, baseline_nanousd INTEGER NOT NULL,
        compared_nanousd INTEGER NOT NULL, compared_attempts INTEGER NOT NULL, PRIMARY KEY (hour, key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE lease_hours (
        hour INTEGER NOT NULL, lease_id TEXT NOT NULL, price_id TEXT NOT NULL, replica TEXT NOT NULL, pool TEXT NOT NULL,
        backend TEXT NOT NULL, bill_nanousd INTEGER NOT NULL, idle_nanousd INTEGER NOT NULL, leased_ns INTEGER NOT NULL,
        PRIMARY KEY (hour, lease_id, price_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE arm_hours (
        hour INTEGER NOT NULL, tenant TEXT NOT NULL, arm TEXT NOT NULL, requests INTEGER NOT NULL, unpriced INTEGER NOT NULL,
        allocated_nanousd INTEGER NOT NULL, allocated_squares REAL NOT NULL, own_nanousd INTEGER NOT NULL,
        own_squares REAL NOT NULL, PRIMARY KEY (hour, tenant, arm)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE arm_totals (
        tenant TEXT NOT NULL, arm TEXT NOT NULL, requests INTEGER NOT NULL, unpriced INTEGER NOT NULL,
        allocated_nanousd INTEGER NOT NULL, allocated_squares REAL NOT NULL, own_nanousd INTEGER NOT NULL,
        own_squares REAL NOT NULL, PRIMARY KEY (tenant, arm)
    ) STRICT, WITHOUT ROWID
    """,
)


def upgrade() -> None:
    for name in PARTS:
        op.execute(f"ALTER TABLE charges ADD COLUMN {name} INTEGER")
    for statement in ROLLUPS:
        op.execute(statement)
