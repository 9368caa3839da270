"""`jeton prices`: what is in force, and what a public table would change."""

import click

from router.commands.prices_import import import_
from router.commands.prices_show import show


@click.group()
def prices() -> None:
    """Show the price book, or import public price tables."""


prices.add_command(import_)
prices.add_command(show)
