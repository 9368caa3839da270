"""The audit as a teardown: whatever a test did, the ledger's bill can be reckoned again from its journal, to the nano-dollar."""

from datetime import UTC, datetime
from decimal import Decimal

from router.accounting.audit import Audit, audit
from router.commands.report import PLACES
from router.ledger.address import Address
from router.ledger.history import Filters, SumBy, grand_total, read_history
from router.ledger.periods import read_periods
from router.reporting.focus import focus_rows, restated
from router.reporting.report import build


def assert_audit_is_clean(address: Address, metrics_text: str | None = None) -> Audit:
    """metrics_text: scraped just before, from the router that writes the ledger. Says row by row what is off."""
    found = audit(address, metrics_text, "scraped")
    assert not found.findings, "\n".join(
        f"{one.table} {one.row}: {one.what} is {one.stored}, should be {one.should_be}" for one in found.findings[:20]
    )
    return found


def assert_what_is_told_is_the_audits(address: Address) -> Audit:
    """Of a ledger that nobody writes any more: `jeton ledger sum`, the report and the FOCUS export come to the audited bill, and
    every dollar of it is in exactly one part."""
    found = assert_audit_is_clean(address)
    bill = sum(one.bill_nanousd for one in found.leases) + found.metered_nanousd
    if found.pruned_before is not None or not found.events:
        return found
    with read_history(address) as history:
        sums = {by: grand_total(history.sums(by, Filters())) for by in SumBy}
    assert {sums[by].bill_nanousd for by in (SumBy.POOL, SumBy.BACKEND)} == {bill}
    assert len({total.total for total in sums.values()}) == 1
    total = sums[SumBy.POOL].total
    with read_periods(address) as periods:
        if periods.waiting:
            return found
        period = periods.whole()
        told = build(
            periods.spent(period, by=PLACES), periods.corrected(period, by=PLACES), [], periods.leased(period), [], {}, {}, {},
            first_hour=period.first_hour, end_hour=period.end_hour, made_at=datetime.now(UTC), baseline="",
        )  # fmt: skip
        spent, corrected = periods.spent(period, hours=24), periods.corrected(period, hours=24)
        focus = focus_rows(
            restated(spent, corrected), periods.leased(period, hours=24), {}, {},
            first_hour=period.first_hour, end_hour=period.end_hour, account="",
        )  # fmt: skip
        billed = sum(Decimal(str(row["BilledCost"])) for row in focus)
    whole = told.whole
    assert whole.bill == bill == billed * 10**9
    assert whole.lost == total.lost_nanousd
    assert whole.useful + whole.thin + whole.unrated + whole.lost == total.cost_nanousd
    assert whole.in_flight == bill - whole.idle - total.cost_nanousd
    return found
