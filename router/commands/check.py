"""`jeton check`: the fleet as a table, with what it costs, and who is served where by which policy; or all that is wrong with the
configuration."""

import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from router.commands.check_routing import deciding, place_lines, policy_lines
from router.config_file import LoadedConfig, load
from router.config_source import ConfigRefused
from router.domain.budget import Period, dollars
from router.domain.fleet import Backend
from router.domain.money import NANOUSD_PER_USD
from router.pricing.price import LeasedPrice
from router.pricing.standard import TARGET_UTILIZATION_RATIO, standard_prices
from router.selection.scope import Scopes

# Below this rich would cut figures short; a line that the terminal wraps shows them all.
COLUMNS_MIN = 130
# In a file or pipe, where rich would assume 80.
COLUMNS_PIPE = 160


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration; the prices it names are checked with it.",
)
@click.option(
    "--day", "moment", type=click.DateTime(["%Y-%m-%d"]), help="By the prices of another day than today (UTC)."
)
@click.pass_context
def check(ctx: click.Context, path: Path, moment: datetime | None) -> None:
    """Print the fleet, its prices and who is served where, or all that is wrong with router.yaml.

    Below the table each line tells by its first word what it is of: rules and policies, tenants, where data may go, budgets.

    Exits with 0 when `jeton serve` would start with this configuration, with 1 when it would not.
    """
    try:
        loaded = load(path, day=None if moment is None else moment.date())
    except ConfigRefused as refusal:
        click.echo(str(refusal), err=True)
        count = len(refusal.mistakes)
        click.echo(f"{count} {'mistake' if count == 1 else 'mistakes'}; jeton would not start", err=True)
        ctx.exit(1)
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.width = max(console.width, COLUMNS_MIN) if console.is_terminal else COLUMNS_PIPE
    console.print(_fleet(loaded))
    for line in _summary(loaded):
        console.print(line, soft_wrap=True)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)


def _fleet(loaded: LoadedConfig) -> Table:
    """One row for each backend. Standard prices are at the replica's target utilization."""
    table = Table(
        box=SIMPLE_HEAD,
        caption="$/hour: of one replica. $/M: standard price per million tokens; on leased replicas at "
        f"{TARGET_UTILIZATION_RATIO:.0%} utilization, on metered ones as listed.",
    )
    table.add_column("pool", no_wrap=True)
    table.add_column("backend", no_wrap=True)
    table.add_column("model", overflow="fold", min_width=12)
    table.add_column("tier", no_wrap=True)
    for heading in ("replicas", "$/hour", "$/M prompt", "$/M cached", "$/M completion", "context"):
        table.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    table.add_column("capabilities", overflow="fold", min_width=14)
    pool = ""
    for backend in loaded.backends:
        if pool and pool != backend.pool.name:
            table.add_section()
        pool = backend.pool.name
        table.add_row(*_row(loaded, backend))
    return table


def _row(loaded: LoadedConfig, backend: Backend) -> Iterator[str]:
    price = loaded.prices[backend.name]
    standard = standard_prices(price, loaded.profiles.get(backend.profile))
    pool, kind = backend.pool.name, backend.pool.kind.value
    yield pool if pool == kind else f"{pool} ({kind})"
    yield backend.name
    yield f"{backend.model} ({backend.quantization})" if isinstance(price, LeasedPrice) else backend.model
    yield backend.tier
    yield "found" if backend.name in loaded.discoveries else str(len(backend.replicas))
    yield _usd(Decimal(price.nanousd_per_hour) / NANOUSD_PER_USD) if isinstance(price, LeasedPrice) else "–"
    yield from (_usd(standard[name]) for name in ("prompt", "cached", "completion"))
    yield f"{backend.context_tokens:,}"
    yield " ".join(sorted(backend.capabilities))


def _summary(loaded: LoadedConfig) -> Iterator[str]:
    config = loaded.config
    leases = [
        price.nanousd_per_hour * len(backend.replicas)
        for backend in loaded.backends
        if isinstance(price := loaded.prices[backend.name], LeasedPrice) and backend.scale_to_zero is None
    ]
    others = [", beside what is discovered"] if loaded.discoveries else []
    if any(backend.scale_to_zero is not None for backend in loaded.backends):
        others.append(", beside what is started when it is asked for")
    beyond = "".join(others)
    yield f"leases    ${_usd(Decimal(sum(leases)) / NANOUSD_PER_USD)} an hour, busy or not{beyond}"
    for feed, terms in loaded.book.feeds.items():
        yield (
            f"feed      {feed}: {', '.join(terms.prices)} from {terms.place}, every {terms.poll_seconds:g} s,"
            f" stale after {terms.stale_seconds:g} s"
        )
    yield from policy_lines(loaded)
    scopes = Scopes(config.aliases, loaded.backends)
    for name in config.aliases:
        yield f"alias     {name} → {', '.join(backend.name for backend in scopes.resolve(name).backends)}"
    for tenant in config.tenants:
        keys, may = len(tenant.api_keys), ", ".join(tenant.models) or "everything"
        asks = f"{keys} {'API key' if keys == 1 else 'API keys'}, may ask for {may}"
        yield f"tenant    {tenant.name}: {asks}{deciding(loaded, tenant)}"
    yield from place_lines(loaded)
    for budget in loaded.budgets:
        degrade = budget.degrade
        then = "" if degrade is None else f", from {degrade.at_ratio:.0%} on {degrade}"
        per = "in total" if budget.period is Period.TOTAL else f"a {budget.period.value}"
        whose = "/".join(filter(None, (budget.tenant, budget.api_key_name)))
        yield f"budget    {whose}: {dollars(budget.limit_nanousd)} {per}{then}"


def _usd(usd: Decimal) -> str:
    """Four decimal places, or six where four would show nothing: a cached token may cost that little."""
    return f"{usd:.4f}" if usd >= Decimal("0.001") or not usd else f"{usd:.6f}"
