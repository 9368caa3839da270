"""The store that the configuration names."""

from router.config import LedgerConfig
from router.ledger.address import PostgresAddress, configured_address
from router.ledger.sqlite import SqliteLedger
from router.ledger.writer import BatchedLedger


def open_ledger(config: LedgerConfig, password: str) -> BatchedLedger:
    """Raises LedgerError. psycopg is imported only where it is needed."""
    address = configured_address(config, password)
    if not isinstance(address, PostgresAddress):
        return SqliteLedger(address, commit_seconds=config.commit_seconds)
    from router.ledger.postgres import PostgresLedger

    return PostgresLedger(
        address,
        config.spool.path,
        config.spool.bytes_max,
        commit_seconds=config.commit_seconds,
        lock_seconds=config.lock_seconds,
    )
