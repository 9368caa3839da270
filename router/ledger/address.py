"""Where a ledger is: a file of SQLite, or a database of PostgreSQL."""

import re
from pathlib import Path

from router.config.stores import LedgerConfig
from router.domain.immutable import immutable

POSTGRES = re.compile(r"postgres(ql)?://", re.IGNORECASE)


@immutable
class PostgresAddress:
    """url: without a password, so that it may be shown. password: "" leaves it to libpq (PGPASSWORD, its password file)."""

    url: str
    password: str = ""

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"PostgresAddress({self.url!r})"


Address = Path | PostgresAddress


def address_from_text(text: str) -> Address:
    """As people name a ledger on the command line."""
    return PostgresAddress(text) if POSTGRES.match(text) else Path(text)


def configured_address(config: LedgerConfig, password: str) -> Address:
    return config.path if config.url is None else PostgresAddress(config.url, password)
