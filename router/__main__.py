"""The `jeton` command. Every subcommand lives in a file of its own, imported when it is asked for and not before.

Commands outside `router`, which may not be imported from here, are found by the entry-point group `jeton.commands`.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

# name: (where the click command is, its first line of help). The line is repeated here so that `jeton --help` need not
# import every command; a test holds the two together.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("router.commands.serve:serve", "Run the router."),
    "accountant": ("router.commands.accountant:accountant", "Keep the books of workers that serve elsewhere."),
    "check": (
        "router.commands.check:check",
        "Print the fleet, its prices and who is served where, or all that is wrong with router.yaml.",
    ),
    "key": ("router.commands.key:key", "Make an API key, or hash one that exists."),
    "policy": ("router.commands.policy:policy", "Show the routing policies, or begin a new one."),
    "prices": ("router.commands.prices:prices", "Show the price book, or import public price tables."),
    "import": ("router.commands.import_:import_", "Take over the configuration of another proxy."),
    "ledger": ("router.commands.ledger:ledger", "Show what requests have cost."),
    "report": ("router.commands.report:report", "Report where the money of a period went."),
    "compile": ("router.commands.compile:compile_", "Compile the modules that every request passes through."),
    "train": ("router.commands.train:train", "Train the classifier on outcomes."),
    "eval": ("router.commands.evaluate:evaluate", "Measure the classifier on outcomes."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported one by one, when named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_outside())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            command = getattr(import_module(module), attribute)
        elif cmd_name in (outside := _outside()):
            command = outside[cmd_name].load()
        else:
            return None
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """A file that cannot be read or written is told in a line, whichever command wanted it."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, line) for name, (_, line) in COMMANDS.items()]
        rows += [(name, self._outside_help(ctx, name)) for name in sorted(_outside())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _outside_help(self, ctx: click.Context, name: str) -> str:
        try:
            command = self.get_command(ctx, name)
        except ImportError as error:  # one broken extension must not take the help of the others away
            return f"(cannot be loaded: {error})"
        return command.get_short_help_str(limit=100) if command else ""


def _outside() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="jeton.commands")}


@click.command(cls=LazyGroup)
@click.version_option(package_name="jeton")
def main() -> None:
    """A cost-aware, OpenAI-compatible router for LLM inference that knows what every token really cost."""


if __name__ == "__main__":
    main(prog_name="jeton")
