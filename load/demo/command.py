"""The `jeton demo` command. What it starts is imported when it is started: `jeton --help` asks for this file, too."""

import socket

import click


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Of the router, on loopback."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long; until Ctrl-C when left out.")
@click.option(
    "--speed",
    type=click.FloatRange(0, 20, min_open=True),
    default=1.0,
    show_default=True,
    help="Of the traffic; 1 is as recorded, about 5 requests a second.",
)
@click.option("--plain", is_flag=True, help="Print a table every few seconds instead of a live view.")
@click.option("--keep", is_flag=True, help="Leave configuration, ledger and logs behind, and say where at the start.")
def demo(port: int, seconds: float | None, speed: float, plain: bool, keep: bool) -> None:
    """Show jeton at work: an emulated fleet, real traffic, and what it costs."""
    import uvloop
    from rich.console import Console

    from load.demo.components import Crashed
    from load.demo.run import HOST, Settings, run

    _refuse_taken(HOST, port)
    settings = Settings(port, seconds, speed, is_plain=plain, is_kept=keep)
    try:
        uvloop.run(run(settings, Console(highlight=False)))
    except Crashed as crash:
        raise click.ClickException(str(crash)) from None


def _refuse_taken(host: str, port: int) -> None:
    """Before anything is started. The router has the last word: somebody may still be quicker."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the router will: old connections do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            raise click.ClickException(
                f"the router cannot listen on port {port} ({error.strerror}); name another one: jeton demo --port {port + 1}"
            ) from None
