"""`jeton ledger audit` and `jeton ledger rebuild`: the ledger held against its journal, and made anew from it."""

from dataclasses import asdict
from typing import Any

import click
import httpx
import orjson

from router.accounting.audit import Audit, LeaseAccount, audit
from router.accounting.derivation import Finding
from router.accounting.rebuild import rebuild
from router.domain.money import usd_text
from router.domain.periods import month_text
from router.ledger.address import Address
from router.ledger.store import LedgerError
from router.ledger_options import AddressType

FINDINGS_SHOWN = 100
METRICS_SECONDS_MAX = 10.0


@click.command("audit")
@click.option("--metrics-url", default="", help="Compare with the /metrics of the jeton that writes this ledger, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_obj
def audit_ledger(address: Address, /, metrics_url: str, as_json: bool) -> None:
    """Reckon the bill again from the journal, and name every row that is off.

    To the last nano-dollar, while jeton runs or after it died. Exit status 1 when anything is off.
    """
    try:
        # The metrics first: what they count is then in the ledger that is read.
        found = audit(address, _fetch(metrics_url) if metrics_url else None, metrics_url)
    except LedgerError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(orjson.dumps(_as_json(found), option=orjson.OPT_INDENT_2).decode())
    else:
        for line in _told(found, metrics_url):
            click.echo(line)
    if not found.is_clean:
        raise click.exceptions.Exit(1)


@click.command("rebuild")
@click.option(
    "--out",
    type=AddressType(),
    required=True,
    help="The fresh ledger: a file that is not there yet, or an empty database.",
)
@click.pass_obj
def rebuild_ledger(address: Address, /, out: Address) -> None:
    """Make a fresh ledger from the journal: charges, leases and totals are derived again, not copied.

    The old one stays as it is. To use the fresh one, stop jeton and name it in router.yaml, or put its file in the old one's
    place. Exit status 1 when the journal itself has something wrong with it.
    """
    try:
        rebuilt = rebuild(address, out)
    except (LedgerError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{out}: {rebuilt.charges:,} charges and {rebuilt.leases:,} leases from {rebuilt.events:,} events; `jeton ledger"
        f" --ledger {out} audit` checks it"
    )
    if rebuilt.taken_on_trust:
        click.echo(_on_trust(rebuilt.taken_on_trust))
    for finding in rebuilt.findings[:FINDINGS_SHOWN]:
        click.echo(_finding_text(finding))
    if rebuilt.findings:
        raise click.exceptions.Exit(1)


def _fetch(url: str) -> str:
    address = url if url.rstrip("/").endswith("/metrics") else url.rstrip("/") + "/metrics"
    try:
        answer = httpx.get(address, timeout=METRICS_SECONDS_MAX, trust_env=False)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.ClickException(f"{address}: no metrics there ({error})") from None
    return answer.text


def _told(found: Audit, metrics_url: str) -> list[str]:
    lines = [
        f"journal  {found.events:,} events, {found.attempts:,} attempts ended, {found.open_attempts:,} open",
        f"metered  {usd_text(found.metered_nanousd)} charged by usage",
        *(_account_text(account) for account in found.leases),
        *_corrections_text(found),
        *(f"metrics  compared: {source}" for source in found.metrics_from),
    ]
    if found.pruned_before is not None:
        lines.append(
            f"pruned   before {month_text(found.pruned_before)}: {found.pruned_attempts:,} attempts, taken as they were summed up"
        )
    if found.drift:
        lines += [
            f"drift    {backend}: {ratio:.4f} of the replicas' own tokens" for backend, ratio in found.drift.items()
        ]
    else:
        why = "not known yet" if metrics_url else "--metrics-url tells it"
        lines.append(f"drift    of our tokens against the replicas' own counters: {why}")
    if found.taken_on_trust:
        lines.append("note     " + _on_trust(found.taken_on_trust))
    lines += [_finding_text(finding) for finding in found.findings[:FINDINGS_SHOWN]]
    if found.is_clean:
        return [*lines, "clean    every row is what the journal makes it"]
    count = f"more than {len(found.findings) - 1:,}" if found.is_cut_short else f"{len(found.findings):,}"
    return [*lines, f"OFF      {count} finding{'s' if len(found.findings) > 1 else ''}"]


def _corrections_text(found: Audit) -> list[str]:
    if not found.corrections:
        return []
    amount = usd_text(found.corrected_nanousd)
    return [
        f"late     {found.corrections:,} attempts that were lost were told of after all, which corrects by {amount}"
    ]


def _account_text(account: LeaseAccount) -> str:
    return (
        f"lease    {account.lease_id} ({account.pool}, {account.backend}): bill {usd_text(account.bill_nanousd)} ="
        f" charges {usd_text(account.charged_nanousd)} + idle {usd_text(account.idle_nanousd)}"
        f" + open {usd_text(account.open_nanousd)} + residue {usd_text(account.residue_nanousd)}"
    )


def _finding_text(finding: Finding) -> str:
    return f"OFF      {finding.table}: {finding.row}: {finding.what} is {finding.stored}, should be {finding.should_be}"


def _on_trust(attempts: int) -> str:
    return (
        f"{attempts:,} attempts were booked by an older jeton, of which only their charges tell the tokens and the price;"
        " the shares of leases among them were reckoned again all the same"
    )


def _as_json(found: Audit) -> dict[str, Any]:
    return {
        "is_clean": found.is_clean,
        "is_cut_short": found.is_cut_short,
        "pruned_before": None if found.pruned_before is None else month_text(found.pruned_before),
        "pruned_attempts": found.pruned_attempts,
        "findings": [finding._asdict() for finding in found.findings],
        "events": found.events,
        "attempts": found.attempts,
        "open_attempts": found.open_attempts,
        "metered_nanousd": found.metered_nanousd,
        "taken_on_trust": found.taken_on_trust,
        "corrections": found.corrections,
        "corrected_nanousd": found.corrected_nanousd,
        "leases": [asdict(lease) | {"residue_nanousd": lease.residue_nanousd} for lease in found.leases],
        "metrics_compared": found.metrics_from,
        "meter_drift_ratio": dict(found.drift),
    }
