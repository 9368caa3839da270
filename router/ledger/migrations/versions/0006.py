"""Several workers may share a ledger: who they are, what they have told, and what they told too late."""

from alembic import op

revision = "6"
down_revision = "5"

WORKERS = """
CREATE TABLE workers (
    worker {words} NOT NULL, state {words} NOT NULL, started_ns {number} NOT NULL, watermark_ns {number} NOT NULL,
    beats {number} NOT NULL, reported_seq {number} NOT NULL, booked_seq {number} NOT NULL, in_flight {words} NOT NULL,
    PRIMARY KEY (worker)
) {options}
"""
REPORTS = """
CREATE TABLE reports (
    worker {words} NOT NULL, seq {number} NOT NULL, subject {words} NOT NULL, kind {words} NOT NULL, at_ns {number} NOT NULL,
    detail {words}, PRIMARY KEY (worker, seq)
) {options}
"""
CORRECTIONS = """
CREATE TABLE corrections (
    seq {number} NOT NULL, booked_ns {number} NOT NULL, corrected_nanousd {number} NOT NULL, attempt_id {words} NOT NULL,
    request_id {words} NOT NULL, number {number} NOT NULL, tenant {words} NOT NULL, api_key_name {words} NOT NULL,
    endpoint {words} NOT NULL, asked_model {words} NOT NULL, pool {words} NOT NULL, backend {words} NOT NULL,
    replica {words} NOT NULL, model {words} NOT NULL, tier {words} NOT NULL, policy {words} NOT NULL, reason {words} NOT NULL,
    baseline {words} NOT NULL, category {words} NOT NULL, prompt_tokens_estimate {number} NOT NULL,
    completion_tokens_estimate {number} NOT NULL, billing {words} NOT NULL, price_id {words} NOT NULL,
    opened_ns {number} NOT NULL, first_token_ns {number}, ended_ns {number} NOT NULL, status {words} NOT NULL,
    fault {words} NOT NULL, http_status {number} NOT NULL, prompt_tokens {number} NOT NULL, cached_tokens {number} NOT NULL,
    cache_write_tokens {number} NOT NULL, completion_tokens {number} NOT NULL, reasoning_tokens {number} NOT NULL,
    audio_seconds {real} NOT NULL, provider_cost_nanousd {number}, usage_source {words} NOT NULL, cost_status {words} NOT NULL,
    cost_nanousd {number}, standard_nanousd {number}, baseline_nanousd {number}, cost_prompt_nanousd {number},
    cost_cached_nanousd {number}, standard_prompt_nanousd {number}, standard_cached_nanousd {number}, PRIMARY KEY (attempt_id)
) {strict}
"""
SQLITE = {"words": "TEXT", "number": "INTEGER", "real": "REAL", "options": "STRICT, WITHOUT ROWID", "strict": "STRICT"}
POSTGRES = {"words": 'TEXT COLLATE "C"', "number": "BIGINT", "real": "DOUBLE PRECISION", "options": "", "strict": ""}


def upgrade() -> None:
    kinds = SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRES
    for table in (WORKERS, REPORTS, CORRECTIONS):
        op.execute(table.format(**kinds))
