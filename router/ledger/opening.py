"""The store that the configuration names."""

from pathlib import Path

from router.config.stores import LedgerConfig
from router.ledger.address import Address, PostgresAddress, configured_address
from router.ledger.schema import reading
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerError
from router.ledger.workers import unbooked_reports
from router.ledger.writer import BatchedLedger


def open_ledger(config: LedgerConfig, password: str) -> BatchedLedger:
    """For one process alone. Raises LedgerError, also where workers that shared the ledger have told what nobody has booked.

    psycopg is imported only where it is needed.
    """
    address = configured_address(config, password)
    if not isinstance(address, Path) or address.exists():
        _refuse_unbooked(address)
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


def _refuse_unbooked(address: Address) -> None:
    try:
        with reading(address) as database:
            waiting = unbooked_reports(database)
    except LedgerError:
        return  # not there yet, or of an older jeton: opening it to write tells
    if waiting:
        raise LedgerError(
            f"{address}: {waiting:,} events that workers have told are not booked yet; start it once with ledger.accountant:"
            " inside, which books them, and stop it again"
        )
