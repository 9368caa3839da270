"""Which ledger a command reads: the one named on the command line, or the configuration's."""

import os
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from router.config.stores import LedgerConfig
from router.config_source import read_source
from router.ledger.address import Address, address_from_text, configured_address


class AddressType(click.ParamType[Address]):
    """A file, or the URL of a database. The password of one stands in PGPASSWORD or libpq's password file."""

    name = "file or url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        return address_from_text(value) if isinstance(value, str) else value


def address_in(config: LedgerConfig) -> Address:
    return configured_address(config, os.environ.get(config.password_env or "", ""))


def address_in_file(path: Path) -> Address:
    """From router.yaml, without checking the rest of it: the ledger is open to who has it. Raises ConfigRefused."""
    if not path.is_file():
        return address_in(LedgerConfig())
    members = read_source(path).value
    section = members.get("ledger") if isinstance(members, dict) else None
    if not isinstance(section, dict):
        return address_in(LedgerConfig())
    told = {name: section[name] for name in ("path", "url", "password_env") if name in section}
    try:
        return address_in(LedgerConfig.model_validate(told))
    except ValidationError:
        raise click.ClickException(f"{path}: `ledger` does not say where it is; `jeton check` tells why") from None
