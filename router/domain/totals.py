"""The money and tokens counted so far: what the ledger sums, telemetry shows and the command line prints.

All values are since the ledger began, and immutable. How they are kept is `ledger/`'s; how they look, the reader's.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from router.domain.attempt import AttemptStatus
from router.domain.fleet import Billing
from router.domain.immutable import immutable
from router.domain.periods import ArmSums
from router.domain.usage import UsageSource


class Account(NamedTuple):
    """Whom and what money is counted by. billing: a `Billing` value; every member is a name from configuration."""

    pool: str
    backend: str
    billing: str
    model: str
    tier: str
    tenant: str


class Line(NamedTuple):
    """One total: an account, and how its attempts ended and were measured."""

    account: Account
    status: AttemptStatus
    usage_source: UsageSource


class LineTotal(NamedTuple):
    """Sums over the charges of one line. Unknown amounts are not in the sums; `unpriced` counts the attempts they belong to.

    cached_tokens are a part of prompt_tokens, reasoning_tokens of completion_tokens: subsets are not added.
    saved_nanousd: baseline − cost, over the attempts whose both amounts are known; negative where the baseline was cheaper.
    lost_nanousd: what of the cost bought no answer (`Outcome.is_lost`).
    """

    attempts: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int = 0
    standard_nanousd: int = 0
    saved_nanousd: int = 0
    lost_nanousd: int = 0


class LeaseTotal(NamedTuple):
    """The leases of one backend in one pool, past and present, in nano-dollars.

    bill = cost of its leased lines + open + idle + residue, 0 ≤ residue < 1 per open attempt and 1 per lease.
    """

    bill_nanousd: int = 0
    idle_nanousd: int = 0


@immutable
class Totals:
    """The ledger at one instant, all of it from one transaction.

    at_ns: up to when leases are booked, 0 when nothing was booked yet. lines: in the order of their first charge.
    open_nanousd: what attempts in flight on leased replicas have run up; it moves into a line when they end.
    leases: by (pool, backend). seq: the last event of the journal that is in them. arms: of the hold-out, while there was one.
    corrected_nanousd: what later word has added to the costs of lines or taken away, by (pool, backend); it is not in them.
    """

    at_ns: int
    lines: Mapping[Line, LineTotal]
    open_nanousd: Mapping[Account, int]
    leases: Mapping[tuple[str, str], LeaseTotal]
    seq: int = 0
    arms: Sequence[ArmSums] = ()
    corrected_nanousd: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def bills(self) -> dict[tuple[str, str], int]:
        """What we owe, by (pool, backend), nano-dollars: the leases' bills, and on metered backends the sum of the costs."""
        bills: defaultdict[tuple[str, str], int] = defaultdict(int)
        for place, lease in self.leases.items():
            bills[place] += lease.bill_nanousd
        for line, total in self.lines.items():
            if line.account.billing == Billing.METERED:
                bills[line.account.pool, line.account.backend] += total.cost_nanousd
        return dict(bills)


NOTHING = Totals(at_ns=0, lines={}, open_nanousd={}, leases={})
