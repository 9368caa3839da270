"""`jeton load record`: the traffic of one's own, from the ledger, as a trace."""

import gzip
from datetime import datetime
from pathlib import Path

import click

from load.traces.formats import charges, columns
from router.config_source import ConfigRefused
from router.ledger.address import Address
from router.ledger.history import Filters, read_history
from router.ledger.store import LedgerError
from router.ledger_options import MOMENT, AddressType, address_in_file, moment_ns


@click.command("record")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--ledger", "address", type=AddressType(), help="The ledger's file, or the URL of its database.")
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("router.yaml"), show_default=True,
    help="The configuration that names the ledger, unless --ledger does.",
)  # fmt: skip
@click.option("--from", "since", type=MOMENT, help="The beginning (UTC); the ledger's.")
@click.option("--to", "until", type=MOMENT, help="The end, exclusive (UTC); now when left out.")
@click.option(
    "--requests-max", type=click.IntRange(1), default=1_000_000, show_default=True, help="The latest so many."
)
def record(
    out: Path,
    address: Address | None,
    config: Path,
    since: datetime | None,
    until: datetime | None,
    requests_max: int,
) -> None:
    """Write the traffic that a ledger has seen to OUT, a trace for `jeton load drive`, `simulate`, `compare` and `jeton plan`.

    When requests came, whose they were, and how long they and their answers were: the ledger knows nothing of what they said.
    What they shared of their prompts it does not know either, so nothing of it is found in a prefix cache. Gzipped where OUT ends
    in .gz.
    """
    filters = Filters(since_ns=moment_ns(since), until_ns=moment_ns(until))
    try:
        with read_history(address or address_in_file(config)) as history:
            trace = charges.read(history.charges(filters, requests_max))
    except (LedgerError, ConfigRefused) as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.ClickException(f"the ledger has nothing of that time to make a trace of: {error}") from error
    text = "".join(f"{line}\n" for line in columns.lines(trace)).encode()
    out.write_bytes(gzip.compress(text, mtime=0) if out.suffix == ".gz" else text)
    click.echo(f"{out}: {len(trace):,} requests over {trace.seconds:,.0f} s")
