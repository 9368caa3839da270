"""`jeton replay`: what another policy, or other prices, would have changed."""

import json
import os
from collections import Counter
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load.replay import table
from load.replay.recorded import recorded
from load.replay.run import Player, Replayed
from load.simulate.scenario import PolicyChoice
from load.simulate.table import over_seeds
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source
from router.ledger.address import Address
from router.ledger.history import Filters, read_history
from router.ledger.store import LedgerError
from router.ledger_options import MOMENT, AddressType, address_in_file, moment_ns
from router.pricing.book import PriceBook

# What a provider runs is not known; this answers about as quickly as large models in the cloud do.
METERED_PROFILE = "h100x4-llama-3.1-70b-bf16"
MOVES_SHOWN = 8


@click.command("replay")
@click.option("--ledger", "address", type=AddressType(), help="The ledger's file, or the URL of its database.")
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("router.yaml"), show_default=True,
    help="The fleet, the policy and the prices; and the ledger, unless --ledger names one.",
)  # fmt: skip
@click.option("--policy", "name", default=None, help="Another policy; the configuration's where left out.")
@click.option("--parameters", default="{}", show_default=True, help="Its parameters, a JSON object.")
@click.option("--prices", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Another price book.")
@click.option("--from", "since", type=MOMENT, help="The beginning (UTC); the ledger's.")
@click.option("--to", "until", type=MOMENT, help="The end, exclusive (UTC); now when left out.")
@click.option(
    "--attempts-max",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="The latest so many of the ledger's rows.",
)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3, 4, 5), show_default=True)
@click.option(
    "--metered-profile",
    "metered",
    multiple=True,
    metavar="BACKEND=PROFILE",
    help=f"What a metered backend runs; {METERED_PROFILE} where it is not said. Repeatable.",
)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Prices in force on this day; today where left out.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def replay(
    address: Address | None,
    config: Path,
    name: str | None,
    parameters: str,
    prices: Path | None,
    since: datetime | None,
    until: datetime | None,
    attempts_max: int,
    seeds: tuple[int, ...],
    metered: tuple[str, ...],
    day: datetime | None,
    json_path: Path | None,
) -> None:
    """Run the requests of a ledger again, in simulated time, as they were decided and otherwise.

    Of a request the ledger knows when it came, whose it was, how long it and its answer were and where it went, not what it said.
    Both runs are simulated over the configured fleet, so their difference is the policy's or the prices', and how far the first
    is from what was recorded says how far to believe it.
    """
    filters = Filters(since_ns=moment_ns(since), until_ns=moment_ns(until))
    try:
        with read_history(address or address_in_file(config)) as history:
            charges = history.charges(filters, attempts_max)
    except (LedgerError, ConfigRefused) as error:
        raise click.ClickException(str(error)) from error
    requests, left_out = recorded(charges)
    if not requests:
        raise click.ClickException("the ledger has no request of that time that could be replayed")
    prices_of = date.today() if day is None else day.date()
    try:
        book = None if prices is None else check_shape(read_source(prices), PriceBook)
        profiles = dict.fromkeys(Player.metered(config, os.environ, prices_of), METERED_PROFILE)
        profiles |= dict(_pair(one) for one in metered)
        player = Player(config, requests, os.environ, prices_of, metered_profiles=profiles, book=book)
        choice = PolicyChoice(name=name, parameters=_object(parameters)) if name else player.configured
        player.check(choice)
    except ConfigRefused as refused:
        raise click.ClickException(str(refused)) from refused
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    before: list[Replayed] = []
    after: list[Replayed] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=2 * len(seeds))
        for seed in seeds:
            before.append(player.play(player.configured, seed))
            progress.advance(task)
            after.append(player.play(choice, seed, at_other_prices=True))
            progress.advance(task)
    was = table.recorded_figures(requests)
    as_it_was = [table.replayed_figures(requests, one) for one in before]
    otherwise = [table.replayed_figures(requests, one) for one in after]
    same, other = over_seeds(as_it_was), over_seeds(otherwise)
    change = table.differences(as_it_was, otherwise)
    title = f"{len(requests):,} requests over {requests[-1].seconds:,.0f} s"
    shown = Table("", "recorded", "replayed", f"under {choice.called}", "difference", title=title)
    for row in table.rows(was, same, other, change):
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    moved: Counter[tuple[str, str]] = sum(map(table.moves, before, after), Counter())
    for (origin, target), count in moved.most_common(MOVES_SHOWN):
        console.print(f"{count / len(seeds):,.1f} requests from {origin or 'nowhere'} to {target or 'nowhere'}")
    if was["unpriced"]:
        console.print(f"not in what was charged: {was['unpriced']:,.0f} requests whose cost is not known")
    for why, count in left_out.items():
        console.print(f"left out: {count:,} ({why})")
    for note in table.NOTES:
        console.print(note, soft_wrap=True)
    if json_path is not None:
        told = {
            "jeton_version": version("jeton"), "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "policy": choice.called, "seeds": list(seeds), "left_out": dict(left_out),
            "moves": [[*pair, count / len(seeds)] for pair, count in moved.most_common()],
            **table.told(was, same, other, change),
        }  # fmt: skip
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _pair(text: str) -> tuple[str, str]:
    backend, equals, profile = text.partition("=")
    if not (backend and equals and profile):
        raise ValueError(f"--metered-profile is BACKEND=PROFILE, not {text!r}")
    return backend, profile


def _object(text: str) -> dict[str, Any]:
    """The policy's parameters. Raises ValueError."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--parameters is no JSON ({error}); write it as in '{{\"quality_min\": 0.8}}'") from None
    if not isinstance(found, dict):
        raise ValueError(f"--parameters is a JSON object, as in '{{\"quality_min\": 0.8}}', not {text!r}")
    return found
