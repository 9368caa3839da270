"""`jeton serve`: the router, on its data port, until a signal ends it."""

import gc
import sys
from pathlib import Path

import click
import structlog

from router.app import App
from router.config import RouterConfig
from router.config_checks import is_public
from router.config_file import PEPPER, LoadedConfig, load
from router.config_source import ConfigRefused
from router.ledger.store import LedgerError
from router.open_files import files_needed, raise_file_limit
from router.server import build_server
from router.telemetry.logs import set_up_logs

log = structlog.get_logger("jeton.serve")

# A request makes some hundred objects and no cycles; the collector's own threshold, 700, has it look every few requests.
YOUNG_OBJECTS_MAX = 20_000


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration; see `jeton check`.",
)
@click.option("--host", help="Listen here instead of where the configuration says.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port instead.")
def serve(path: Path, host: str | None, port: int | None) -> None:
    """Run the router."""
    try:
        loaded = load(path)
    except ConfigRefused as refusal:
        click.echo(str(refusal), err=True)
        sys.exit(1)
    run(loaded, host, port)


def run(loaded: LoadedConfig, host: str | None = None, port: int | None = None) -> None:
    """Serve until a signal; the process ends with exit code 0 when it could drain."""
    config = loaded.config
    set_up_logs(config.log.format, config.log.level)
    for warning in loaded.warnings:
        log.warning("configuration", warning=str(warning))
    _check_open_files(config)
    overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    server_config = config.server.model_copy(update=overrides)
    if is_public(server_config.host) and not loaded.secrets.pepper.get_secret_value():
        click.echo(f"{server_config.host} is not the loopback: set {PEPPER} before listening there", err=True)
        sys.exit(1)
    try:
        app = App(loaded)
    except LedgerError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    server = build_server(app.asgi, server_config, app.drain)
    log.info(
        "starting",
        url=f"http://{server_config.host}:{server_config.port}",
        ledger=config.ledger.url or str(config.ledger.path),
    )
    # What start-up made lives as long as the process: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 20)
    server.run()
    if not server.started:  # uvicorn has said why: the port is taken, or the start-up failed
        sys.exit(3)


def _check_open_files(config: RouterConfig) -> None:
    needed = files_needed(config)
    limit = raise_file_limit(needed.wanted)
    if limit < needed.least:
        what = f"this process may open {limit} files, and needs {needed.least} before a single request comes"
        click.echo(f"{what}: raise its limit (`ulimit -n`, LimitNOFILE= of systemd)", err=True)
        sys.exit(1)
    if limit < needed.wanted:
        log.warning(
            "few open files: more streams than these will fail; raise the limit, or lower server.streams_expected",
            limit=limit,
            streams=needed.streams(limit),
            streams_expected=config.server.streams_expected,
        )
