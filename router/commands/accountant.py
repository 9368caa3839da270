"""`jeton accountant`: keeps the books of workers that serve elsewhere, until a signal ends it."""

import sys
from pathlib import Path

import click
import structlog

from router.accounting.process import Accounting
from router.config.stores import AccountantPlace
from router.config_file import load
from router.config_source import ConfigRefused
from router.ledger.store import LedgerError
from router.server import build_server
from router.telemetry.logs import set_up_logs

log = structlog.get_logger("jeton.accountant")


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration of the workers.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Serve /metrics and /health here …")
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="… on this port.")
def accountant(path: Path, host: str, port: int) -> None:
    """Keep the books of workers that serve elsewhere."""
    try:
        loaded = load(path)
    except ConfigRefused as refusal:
        click.echo(str(refusal), err=True)
        sys.exit(1)
    config = loaded.config
    if config.ledger.accountant is AccountantPlace.ALONE:
        click.echo(f"{path}: ledger.accountant is `alone`: `jeton serve` keeps its books itself; set `apart`", err=True)
        sys.exit(1)
    set_up_logs(config.log.format, config.log.level)
    try:
        accounting = Accounting(loaded)
    except LedgerError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    limits = config.server.model_copy(update={"host": host, "port": port})
    server = build_server(accounting.asgi, limits, lambda: None)
    log.info("starting", url=f"http://{host}:{port}", ledger=config.ledger.url or str(config.ledger.path))
    server.run()
    if not server.started:
        sys.exit(3)
