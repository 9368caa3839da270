"""Journal and charges know their month, charges their place in the journal: what PostgreSQL partitions by and both prune by.

SQLite only, as all before it: ledgers in PostgreSQL begin here. The two large tables are written anew, once.
"""

from alembic import op

revision = "5"
down_revision = "4"

# Months never go back as the journal goes on (`tables.py`); times may, by little, around midnight.
JOURNAL = """
CREATE TABLE journal_5 (
    seq INTEGER NOT NULL, month INTEGER NOT NULL, worker TEXT DEFAULT '' NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL,
    at_ns INTEGER NOT NULL, lease_id TEXT NOT NULL, amount INTEGER NOT NULL, detail TEXT,
    PRIMARY KEY (seq), UNIQUE (subject, kind)
) STRICT
"""
MOVE_JOURNAL = """
INSERT INTO journal_5 (seq, month, subject, kind, at_ns, lease_id, amount, detail)
SELECT seq, max(CAST(strftime('%Y%m', at_ns / 1000000000, 'unixepoch') AS INTEGER)) OVER (ORDER BY seq),
    subject, kind, at_ns, lease_id, amount, detail
FROM journal ORDER BY seq
"""
SAME = """
request_id TEXT NOT NULL, number INTEGER NOT NULL, tenant TEXT NOT NULL, api_key_name TEXT NOT NULL, endpoint TEXT NOT NULL,
asked_model TEXT NOT NULL, pool TEXT NOT NULL, backend TEXT NOT NULL, replica TEXT NOT NULL, model TEXT NOT NULL,
tier TEXT NOT NULL, policy TEXT NOT NULL, reason TEXT NOT NULL, baseline TEXT NOT NULL, category TEXT NOT NULL,
prompt_tokens_estimate INTEGER NOT NULL, completion_tokens_estimate INTEGER NOT NULL, billing TEXT NOT NULL,
price_id TEXT NOT NULL, opened_ns INTEGER NOT NULL, first_token_ns INTEGER, ended_ns INTEGER NOT NULL, status TEXT NOT NULL,
fault TEXT NOT NULL, http_status INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
cache_write_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
audio_seconds REAL NOT NULL, provider_cost_nanousd INTEGER, usage_source TEXT NOT NULL, cost_status TEXT NOT NULL,
cost_nanousd INTEGER, standard_nanousd INTEGER, baseline_nanousd INTEGER, cost_prompt_nanousd INTEGER,
cost_cached_nanousd INTEGER, standard_prompt_nanousd INTEGER, standard_cached_nanousd INTEGER
"""
CHARGES = f"""
CREATE TABLE charges_5 (
    seq INTEGER NOT NULL, month INTEGER NOT NULL, attempt_id TEXT NOT NULL, {SAME}, PRIMARY KEY (seq), UNIQUE (attempt_id)
) STRICT
"""
NAMES = ", ".join(column.split()[0] for column in SAME.replace("\n", " ").split(", "))
# A charge without the event that closed its attempt, which an audit names, keeps the order it had.
MOVE_CHARGES = f"""
INSERT INTO charges_5 (seq, month, attempt_id, {NAMES})
SELECT coalesce(journal_5.seq, -charges.rowid), coalesce(journal_5.month, 197001), attempt_id, {NAMES}
FROM charges LEFT JOIN journal_5 ON subject = attempt_id AND journal_5.kind = 'closed'
"""
TOTALS = """
CREATE TABLE totals_5 (
    number INTEGER NOT NULL, pool TEXT NOT NULL, backend TEXT NOT NULL, billing TEXT NOT NULL, model TEXT NOT NULL,
    tier TEXT NOT NULL, tenant TEXT NOT NULL, status TEXT NOT NULL, usage_source TEXT NOT NULL, attempts INTEGER NOT NULL,
    unpriced INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL, standard_nanousd INTEGER NOT NULL, saved_nanousd INTEGER NOT NULL,
    PRIMARY KEY (number), UNIQUE (pool, backend, billing, model, tier, tenant, status, usage_source)
) STRICT
"""
REST = (
    "ALTER TABLE position ADD COLUMN term INTEGER DEFAULT 0 NOT NULL",
    "CREATE TABLE rolled_5 (id INTEGER NOT NULL CHECK (id = 1), seq INTEGER NOT NULL, PRIMARY KEY (id)) STRICT",
    "INSERT INTO rolled_5 SELECT 1, coalesce((SELECT seq FROM charges WHERE attempt_id = rolled.attempt_id), 0) FROM rolled",
    "DROP TABLE rolled",
    "ALTER TABLE rolled_5 RENAME TO rolled",
    """
    CREATE TABLE pruned (
        id INTEGER NOT NULL CHECK (id = 1), month INTEGER NOT NULL, seq INTEGER NOT NULL, kept TEXT NOT NULL, PRIMARY KEY (id)
    ) STRICT
    """,
    # These two were made beside the versions until now.
    """
    CREATE TABLE IF NOT EXISTS spending (
        tenant TEXT NOT NULL, api_key_name TEXT NOT NULL, day INTEGER NOT NULL, cost_nanousd INTEGER NOT NULL,
        PRIMARY KEY (tenant, api_key_name, day)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS identity (ledger_id TEXT NOT NULL) STRICT",
)


def upgrade() -> None:
    for statement in (
        JOURNAL,
        MOVE_JOURNAL,
        CHARGES,
        MOVE_CHARGES,
        TOTALS,
        "INSERT INTO totals_5 SELECT rowid, * FROM totals",
    ):
        op.execute(statement)
    for table in ("journal", "charges", "totals"):
        op.execute(f"DROP TABLE {table}")
        op.execute(f"ALTER TABLE {table}_5 RENAME TO {table}")
    op.execute("CREATE INDEX charges_ended ON charges (ended_ns)")
    for statement in REST:
        op.execute(statement)
