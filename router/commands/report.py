"""`jeton report`: where the money of a period went, as a page, as JSON and as FOCUS 1.2, from the ledger.

router.yaml and prices.yaml add what the ledger does not know: regions, power, commitments. They need not pass `jeton check`
for that (an API key may be missing here), only be in shape.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from router.config import RouterConfig
from router.config.stores import LedgerConfig
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source
from router.domain.money import usd_text
from router.domain.periods import HOURS_PER_DAY, Leased
from router.ledger.address import Address
from router.ledger.periods import Period, Periods, read_periods
from router.ledger.store import LedgerError
from router.ledger_options import MOMENT, AddressType, address_in
from router.pricing.book import LeasedPrice, LeaseRow, OwnedRow, PriceBook
from router.pricing.price import Purchase
from router.reporting import page
from router.reporting.energy import LeaseTerms
from router.reporting.focus import COLUMNS, Row, focus_rows, restated
from router.reporting.focus_rules import broken_rules
from router.reporting.report import Report, as_json, build

PLACES = ("pool", "backend", "replica", "billing", "outcome")
ALL_HOURS = 10**9  # more than there are: one row for the whole period
PARTS = ("useful", "thin", "idle", "lost", "unrated", "in_flight", "bill")


@dataclass(frozen=True, slots=True)
class Background:
    """What the configuration says, or nothing of it."""

    address: Address = field(default_factory=lambda: LedgerConfig().path)
    baseline: str = "the baseline"
    regions: Mapping[str, str] = field(default_factory=dict)
    grams_per_kwh: Mapping[str, Decimal] = field(default_factory=dict)
    book: PriceBook | None = None


@click.command()
@click.option("--ledger", "address", type=AddressType(), help="The ledger's file, or the URL of its database.")
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("router.yaml"), show_default=True,
    help="The configuration: its ledger, unless --ledger names one, and its prices and regions.",
)  # fmt: skip
@click.option("--from", "since", type=MOMENT, help="The first hour (UTC); the ledger's first.")
@click.option("--to", "until", type=MOMENT, help="The end, exclusive (UTC); now when left out.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("jeton-report"), show_default=True,
    help="Files are named after it: .html, .json and .focus.csv.",
)  # fmt: skip
@click.option("--account", default="jeton", show_default=True, help="BillingAccountId in the FOCUS file.")
def report(
    address: Address | None, config: Path, since: datetime | None, until: datetime | None, output: Path, account: str
) -> None:
    """Report where the money of a period went.

    Writes a page with plots, the same as JSON, and a FOCUS 1.2 export. Periods are whole hours, UTC.
    """
    try:
        background = read_background(config, is_needed=address is None and config.is_file())
        with read_periods(address or background.address) as periods:
            period = period_of(periods, since, until)
            made = _report(periods, period, background)
            rows = _focus(periods, period, background, account)
    except (LedgerError, ConfigRefused) as error:
        raise click.ClickException(str(error)) from None
    written = [
        _write(output, ".html", page.html(made)),
        _write(output, ".json", json.dumps(as_json(made), indent=1) + "\n"),
        _write_focus(output, rows),
    ]
    whole = made.whole
    parts = [f"{name.replace('_', ' ')} {usd_text(getattr(whole, name))}" for name in PARTS[:-1]]
    click.echo(f"bill ${usd_text(whole.bill)} = {' + '.join(parts)}")
    click.echo(f"wrote {', '.join(map(str, written))}")


def read_background(config: Path, *, is_needed: bool) -> Background:
    """From router.yaml and the prices it names. Without the file, or if it is not needed and cannot be used, nothing."""
    if not config.is_file():
        return Background()
    try:
        found = check_shape(read_source(config), RouterConfig)
        book = check_shape(read_source(config.parent / found.prices), PriceBook)
    except ConfigRefused:
        if is_needed:
            raise
        return Background()
    regions = {pool.name: pool.region for pool in found.pools}
    return Background(address_in(found.ledger), found.baseline, regions, found.carbon_grams_per_kwh, book)


def period_of(periods: Periods, since: datetime | None, until: datetime | None) -> Period:
    """The hours asked for, so far as the ledger has any. Raises ClickException on parts of an hour, and where it has none."""
    whole = periods.whole()
    first_hour = whole.first_hour if since is None else _hour("--from", since)
    end_hour = whole.end_hour if until is None else _hour("--to", until)
    if since is not None and until is not None and first_hour >= end_hour:
        raise click.ClickException("the period is empty: --to is not after --from")
    period = Period(max(first_hour, whole.first_hour), min(end_hour, whole.end_hour))
    if period.first_hour >= period.end_hour:
        raise click.ClickException(
            f"the ledger has nothing in this period: it goes from {_moment_text(whole.first_hour)} to"
            f" {_moment_text(whole.end_hour)}"
        )
    return period


def lease_terms(book: PriceBook | None, price_ids: Iterable[str]) -> dict[str, LeaseTerms]:
    """By price id, of those that are still in the book."""
    terms = {}
    for price_id in price_ids if book is not None else ():
        row = book.row_of(price_id) if book is not None else None
        if not isinstance(row, LeaseRow | OwnedRow):
            continue
        price = row.snapshot(price_id)
        assert isinstance(price, LeasedPrice)
        is_reserved = isinstance(row, LeaseRow) and price.purchase is Purchase.RESERVED
        list_price = row.model_copy(update={"discount_ratio": Decimal(0)}).snapshot(price_id) if is_reserved else price
        terms[price_id] = LeaseTerms(
            name=price_id.rpartition("@")[0],
            purchase=price.purchase,
            list_nanousd_per_hour=list_price.nanousd_per_hour,
            nanousd_per_hour=price.nanousd_per_hour,
            gpu=row.gpu,
            power_kw=row.power_kw,
            idle_power_kw=row.idle_power_kw,
            pue=row.pue,
        )
    return terms


def _report(periods: Periods, period: Period, background: Background) -> Report:
    leased, tenants = periods.leased(period), ("tenant", "outcome")
    return build(
        periods.spent(period, by=PLACES),
        periods.corrected(period, by=PLACES),
        [
            *periods.spent(period, by=tenants, hours=ALL_HOURS),
            *periods.corrected(period, by=tenants, hours=ALL_HOURS),
        ],
        leased,
        periods.arms(period),
        _terms(background, leased),
        background.regions,
        background.grams_per_kwh,
        first_hour=period.first_hour,
        end_hour=period.end_hour,
        made_at=datetime.now(UTC),
        baseline=background.baseline,
        waiting=periods.waiting,
        is_catching_up=periods.is_catching_up,
    )


def _focus(periods: Periods, period: Period, background: Background, account: str) -> list[Row]:
    """Raises ClickException where a row breaks a rule of the specification: such a file is worth nothing."""
    leased = periods.leased(period, hours=HOURS_PER_DAY)
    rows = focus_rows(
        restated(periods.spent(period, hours=HOURS_PER_DAY), periods.corrected(period, hours=HOURS_PER_DAY)),
        leased,
        _terms(background, leased),
        background.regions,
        first_hour=period.first_hour,
        end_hour=period.end_hour,
        account=account,
    )
    listed = list(rows)
    if broken := broken_rules(COLUMNS, listed):
        raise click.ClickException("the FOCUS export breaks rules of the specification:\n" + "\n".join(broken))
    return listed


def _terms(background: Background, leased: Iterable[Leased]) -> dict[str, LeaseTerms]:
    return lease_terms(background.book, {row.price_id for row in leased})


def _moment_text(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%M}"


def _hour(option: str, moment: datetime) -> int:
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    if seconds % 3600:
        raise click.ClickException(
            f"{option} is not a full hour; the ledger keeps hours, so write {moment:%Y-%m-%dT%H:00}"
        )
    return seconds // 3600


def _write(output: Path, suffix: str, text: str) -> Path:
    path = output.with_name(output.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _write_focus(output: Path, rows: list[Row]) -> Path:
    path = output.with_name(output.name + ".focus.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return path
