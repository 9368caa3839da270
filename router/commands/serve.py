"""`jeton serve`: the router, on its data port, as one process or several, until a signal ends it."""

import asyncio
import gc
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import click
import structlog

from router.app import App
from router.config import RouterConfig
from router.config.server import ServerConfig
from router.config_checks.hosts import is_beyond_loopback
from router.config_file import PEPPER, LoadedConfig, load
from router.config_source import ConfigRefused
from router.group import CANNOT_START, CannotListen, Supervisor, worker_command
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
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="So many processes on one port and one ledger.",
)
@click.option("--listen-fd", type=int, hidden=True)
@click.option("--channel-fd", type=int, hidden=True)
@click.option("--admin-fd", type=int, hidden=True)
def serve(
    path: Path,
    host: str | None,
    port: int | None,
    workers: int,
    listen_fd: int | None,
    channel_fd: int | None,
    admin_fd: int | None,
) -> None:
    """Run the router."""
    try:
        loaded = load(path)
    except ConfigRefused as refusal:
        click.echo(str(refusal), err=True)
        sys.exit(1)
    if listen_fd is not None and channel_fd is not None:
        admin = None if admin_fd is None else socket.socket(fileno=admin_fd)
        run(loaded, host, port, Share(socket.socket(fileno=listen_fd), channel_fd, admin))
    elif workers > 1:
        supervise(loaded, path, host, port, workers)
    else:
        run(loaded, host, port)


class Share(NamedTuple):
    """A worker's part in a group: the socket that it listens on, the number of the one to its supervisor, and the socket that
    listens on the admin port, where there is one."""

    listening: socket.socket
    channel: int
    admin: socket.socket | None = None


def run(loaded: LoadedConfig, host: str | None = None, port: int | None = None, share: Share | None = None) -> None:
    """Serve until a signal; the process ends with exit code 0 when it could drain."""
    config = loaded.config
    server_config = _prepared(loaded, host, port)
    if share is not None:
        _check_shared_budgets(loaded)  # the configuration may be another than the supervisor's by now
    else:
        _check_open_files(config)
        for warning in loaded.warnings:
            log.warning("configuration", warning=str(warning))
    try:
        app = App(loaded) if share is None else App(loaded, share.channel, share.admin)
    except LedgerError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    server = build_server(app.asgi, server_config, app.drain, app.outbox)
    if share is None:
        log.info(
            "starting",
            url=f"http://{server_config.host}:{server_config.port}",
            ledger=config.ledger.url or str(config.ledger.path),
        )
    # What start-up made lives as long as the process: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 20)
    server.run(None if share is None else [share.listening])
    if not server.started:  # uvicorn has said why: the port is taken, or the start-up failed
        sys.exit(3)


def supervise(loaded: LoadedConfig, path: Path, host: str | None, port: int | None, workers: int) -> None:
    """Start so many workers and look after them until a signal."""
    server_config = _prepared(loaded, host, port)
    _check_open_files(loaded.config)  # of each of them: they inherit the limit
    for warning in loaded.warnings:
        log.warning("configuration", warning=str(warning))
    _check_shared_budgets(loaded)
    admin = loaded.config.admin
    arguments = ("serve", "--config", str(path), "--host", server_config.host)
    try:
        group = Supervisor(
            worker_command(*arguments),
            workers,
            server_config.host,
            server_config.port,
            server_config.drain_seconds,
            None if admin is None else (admin.host, admin.port),
        )
    except CannotListen as error:
        click.echo(str(error), err=True)
        sys.exit(CANNOT_START)
    ledger = loaded.config.ledger.url or str(loaded.config.ledger.path)
    log.info("starting", url=f"http://{server_config.host}:{group.port}", ledger=ledger, workers=workers)
    sys.exit(asyncio.run(group.run()))


def _prepared(loaded: LoadedConfig, host: str | None, port: int | None) -> ServerConfig:
    """Logs are set up. Returns where to listen; ends the process where that would not be safe."""
    config = loaded.config
    set_up_logs(config.log.format, config.log.level)
    overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    server_config = config.server.model_copy(update=overrides)
    if is_beyond_loopback(server_config.host) and not loaded.secrets.pepper.get_secret_value():
        click.echo(f"{server_config.host} is not the loopback: set {PEPPER} before listening there", err=True)
        sys.exit(1)
    return server_config


def _check_shared_budgets(loaded: LoadedConfig) -> None:
    """Of several workers; without Redis each would have all of a budget for itself."""
    if loaded.budgets and loaded.config.redis is None:
        click.echo("there are budgets, and several workers share them through Redis: set redis.url", err=True)
        sys.exit(1)


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
