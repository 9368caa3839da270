"""What a ledger said at an instant of its past: its journal reckoned again up to an event and a time, as the audit does."""

from collections import defaultdict
from contextlib import closing
from pathlib import Path

from router.accounting.derivation import derivation_of, replay
from router.domain.totals import LeaseTotal, Totals
from router.ledger.reading import summed_lines
from router.ledger.schema import open_reader


def ledger_at(path: Path, seq: int, at_ns: int) -> Totals:
    """The totals after event `seq`, with leases booked up to at_ns. Beside a running jeton."""
    seen: list[Totals] = []
    with closing(open_reader(path)) as connection:
        connection.execute("BEGIN")
        derivation = derivation_of(connection)

        def look() -> None:
            leases: defaultdict[tuple[str, str], LeaseTotal] = defaultdict(LeaseTotal)
            for lease in derivation.leases.values():
                place = (lease.terms.pool, lease.terms.backend)
                bill, idle = leases[place]
                leases[place] = LeaseTotal(bill + lease.row.bill_nanousd, idle + lease.row.idle_nanousd)
            seen.append(Totals(at_ns, summed_lines(connection, seq), derivation.open_nanousd(), leases, seq))

        for _ in replay(connection, derivation, [(seq, at_ns, look)]):
            pass
        assert not derivation.findings
    [totals] = seen
    return totals
