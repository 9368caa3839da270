"""`jeton prices import`: rows of a public table into prices.yaml; what is not believed into a file beside it."""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from router.config_shape import read_shape
from router.config_source import ConfigRefused
from router.price_file import Addition, LayoutRefused, added, block, write
from router.pricing.book import PriceBook
from router.pricing.imports import Entry, Outcome, plan
from router.pricing.suspicion import Limits, Witnesses
from router.pricing.tables.offer import Offer, TableRefused
from router.pricing.tables.reading import Table, read_table

CANNOT, QUARANTINED = 1, 3
# Of what raises no question, this many are shown unless all are asked for.
SHOWN = 20
COLUMNS = 160
RATIO = click.FloatRange(min=1.0, min_open=True)
DAY = click.DateTime(["%Y-%m-%d"])
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=FILE)
@click.option(
    "--format", "table", type=click.Choice([one.value for one in Table]), help="Told by the content when left out."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("prices.yaml"), show_default=True)
@click.option(
    "--quarantine", type=click.Path(path_type=Path), help="Where doubtful rows go; prices.quarantine.yaml beside."
)
@click.option(
    "--only", multiple=True, metavar="GLOB", help="Names to import, as openai/gpt-4.1* (may be repeated); all."
)
@click.option("--against", multiple=True, type=FILE, help="Another table to compare with (may be repeated).")
@click.option("--accept", multiple=True, metavar="GLOB", help="Names to believe, whatever speaks against them.")
@click.option("--cloud", default="", help="Whose catalogue of SkyPilot's it is; the folder's name when left out.")
@click.option("--date", "moment", type=DAY, help="The rows' first day; today (UTC).")
@click.option("--source", help="What the rows say of their source; the table, the file and its digest.")
@click.option("--change-ratio", type=RATIO, default=3.0, show_default=True, help="Largest change of a price in force.")
@click.option(
    "--disagreement-ratio", type=RATIO, default=1.05, show_default=True, help="Largest difference to another table."
)
@click.option(
    "--neighbour-ratio", type=RATIO, default=20.0, show_default=True, help="Largest difference to what others take."
)
@click.option("--all", "is_whole", is_flag=True, help="Show every price, also those that raise no question.")
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@click.pass_context
def import_(
    ctx: click.Context,
    file: Path,
    table: str | None,
    out: Path,
    quarantine: Path | None,
    only: tuple[str, ...],
    against: tuple[Path, ...],
    accept: tuple[str, ...],
    cloud: str,
    moment: datetime | None,
    source: str | None,
    change_ratio: float,
    disagreement_ratio: float,
    neighbour_ratio: float,
    is_whole: bool,
    dry_run: bool,
) -> None:
    """Import a public price table: SkyPilot's catalogue, LiteLLM's, OpenRouter's or genai-prices'.

    Rows are added to prices.yaml, whose own rows and comments stay; rows that still hold are confirmed. What cannot be true,
    or is out of line, is written to the quarantine file with the reasons instead.

    Exits with 0 when every price was believed, with 3 when some are in quarantine, with 1 when nothing could be imported.
    """
    day = moment.date() if moment is not None else datetime.now(UTC).date()
    aside = quarantine or out.with_name(f"{out.stem}.quarantine.yaml")
    if aside.resolve() in (out.resolve(), file.resolve()):
        raise click.UsageError("--quarantine names the price book, or the table; give it a file of its own")
    limits = Limits(*(Decimal(str(ratio)) for ratio in (change_ratio, disagreement_ratio, neighbour_ratio)))
    try:
        found, offers, others = _read(file, Table(table) if table else None, cloud)
        counts = Counter(path.name for path in against)
        witnesses = Witnesses(
            offers, {path.name if counts[path.name] == 1 else str(path): _read(path, None, "")[1] for path in against}
        )
        text = out.read_text(encoding="utf-8") if out.exists() else ""
        book = read_shape(out, PriceBook) if text else PriceBook(prices={})
        chosen = [offer for offer in offers if not only or _matches(offer.name, only)]
        if offers and not chosen:
            raise TableRefused(f"{file}: none of its {len(offers)} prices has a name like {', '.join(only)}")
        label = source or f"{found.value}, {file.name} (sha256 {_digest(file)}), imported {day}"
        entries = plan(chosen, book, day, label, witnesses, limits, lambda name: _matches(name, accept))
        changed = added(text, _additions(entries), day)
    except ConfigRefused as refusal:
        click.echo(str(refusal), err=True)
        ctx.exit(CANNOT)
    except (TableRefused, LayoutRefused, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from None
    _show(entries, is_whole=is_whole)
    counts = Counter(entry.outcome for entry in entries)
    words = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome]
    if others:
        words.append(f"{others} entries without a price that jeton knows")
    click.echo(", ".join(words))
    doubtful = [entry for entry in entries if entry.outcome is Outcome.QUARANTINED]
    if not dry_run:
        if changed != text:
            write(out, changed)
            click.echo(f"wrote {out}")
        if doubtful or aside.exists():
            write(aside, _quarantine_text(doubtful, label, out))
            click.echo(f"wrote {aside}")
    ctx.exit(QUARANTINED if doubtful else 0)


def _read(path: Path, table: Table | None, cloud: str) -> tuple[Table, list[Offer], int]:
    try:
        return read_table(path.read_text(encoding="utf-8-sig"), table, cloud=cloud or _cloud_of(path))
    except TableRefused as refusal:
        raise TableRefused(f"{path}: {refusal}") from None
    except UnicodeDecodeError:
        raise TableRefused(f"{path}: is not UTF-8") from None


def _cloud_of(path: Path) -> str:
    """SkyPilot keeps each cloud's catalogue as `<cloud>/vms.csv`."""
    return path.absolute().parent.name if path.name == "vms.csv" else ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _additions(entries: Iterable[Entry]) -> list[Addition]:
    return [
        Addition(entry.name, entry.row, entry.in_force if entry.outcome is Outcome.UNCHANGED else None)
        for entry in entries
        if entry.outcome is not Outcome.QUARANTINED
    ]


def _show(entries: Sequence[Entry], *, is_whole: bool) -> None:
    table = RichTable(box=SIMPLE_HEAD)
    for heading in ("outcome", "price", "US dollars", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "outcome")
    order: Callable[[Entry], int] = lambda entry: list(Outcome).index(entry.outcome)  # noqa: E731
    shown: Counter[Outcome] = Counter()
    for entry in sorted(entries, key=order):
        shown[entry.outcome] += 1
        is_question = entry.outcome in (Outcome.QUARANTINED, Outcome.CHANGED)
        if is_whole or is_question or shown[entry.outcome] <= SHOWN:
            table.add_row(entry.outcome.value, entry.name, _figures(entry), "; ".join(entry.reasons))
    for outcome in (Outcome.IMPORTED, Outcome.UNCHANGED):
        if not is_whole and shown[outcome] > SHOWN:
            table.add_row(outcome.value, f"… and {shown[outcome] - SHOWN} more (--all shows them)", "", "")
    if not entries:
        return
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = COLUMNS
    console.print(table)


def _figures(entry: Entry) -> str:
    return ", ".join(
        f"{value} {name.replace('_usd_per_million', '').replace('usd_per_hour', 'an hour').replace('_usd', '')}"
        for name, value in entry.row.items()
        if "usd" in name and name != "unusual_price_confirmed"
    )


def _quarantine_text(entries: Iterable[Entry], label: str, out: Path) -> str:
    lines = [
        f"# Prices that were not believed, and why. Source: {label}.",
        f"# One that you have looked at and found right goes to {out.name} by `jeton prices import --accept NAME`, or by hand.",
        "quarantined:",
    ]
    for entry in entries:
        about = block({"name": entry.name, "why": list(entry.reasons)}, "    ")
        lines.append(f"  - {about.removeprefix('    ')}")
        lines.append("    row:")
        lines.append(block(entry.row, "      "))
    if len(lines) == 3:
        lines[-1] += " []"
    return "\n".join(lines) + "\n"
