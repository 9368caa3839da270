"""The books of the budgets: what is spent, what is held, and whether one more hold fits. Pure: no clock, no I/O.

A hold is taken before an attempt is dispatched, for the most that it can cost, and ends once: settled with what it did cost,
or void. Until then it is not available to others, so the sum of what was spent and what is held never exceeds the limit,
however many ask at once; only a charge above its hold can (`pricing/worst_case.py` says when that may be). A hold that
nobody ends expires at its deadline; should it be settled after all, the charge still counts, once. Where nobody knows what it
cost (a service tier that no price is of), its hold counts in the place of that until the period is over.

What was spent is the ledger's to say. `learn` takes its word and adds the charges that it has not seen; between two words a
charge is added when it is settled. Nothing of this is stored, so nothing drifts: a restart has no holds and asks the ledger
(which has nothing of unknown costs).

Where several workers report to one ledger, it is behind what they have settled. Then a charge stays *unbooked* until the ledger
has it, as a part of what its worker may hold and spend, so that of all workers' words each charge is in one.

Alone, a process has all of a limit. Beside others it has a *share*: what was given to it (`shared_budget.py`) and is not
spent yet, holds included. `claim` and `grant` are its half of that.
"""

from collections.abc import Collection, Iterable, Sequence

from router.domain.budget import Allowance, Budget, Degrade, Period, Span, span_at
from router.domain.immutable import immutable

Key = tuple[str, str, Period]


@immutable
class Spent:
    """The ledger's word on one budget: charges that ended in its period, and in the one after (a clock that was set back has
    been there before). through_seq: all charges up to this position of the journal are counted, and none beyond."""

    nanousd: int
    next_nanousd: int
    through_seq: int


class Account:
    """One budget at work. Made and changed by `Budgets` alone; others read.

    span: the period that the amounts are of. held_nanousd: by holds that are open. share_nanousd: what this process may still
    hold and spend, holds and what is unbooked included; None when there is nobody else. unbooked_nanousd: settled here in this
    period, and not in the ledger yet (a part of spent_nanousd); only where is_behind says that the ledger books later.
    unknown_nanousd: held for what ended in this period at a cost that nobody knows. elsewhere_…: of other processes, as last
    heard.
    """

    __slots__ = (
        "_unseen",
        "budget",
        "elsewhere_share_nanousd",
        "elsewhere_spent_nanousd",
        "held_nanousd",
        "is_behind",
        "next_nanousd",
        "share_nanousd",
        "span",
        "spent_nanousd",
        "unbooked_nanousd",
        "unknown_nanousd",
    )

    def __init__(self, budget: Budget, at_ns: int, *, is_behind: bool = False) -> None:
        self.budget = budget
        self.is_behind = is_behind
        self.unbooked_nanousd = 0
        self.span: Span = span_at(budget.period, at_ns)
        self.spent_nanousd = 0
        self.next_nanousd = 0
        self.held_nanousd = 0
        self.unknown_nanousd = 0
        self.share_nanousd: int | None = None
        self.elsewhere_spent_nanousd = 0
        self.elsewhere_share_nanousd = 0
        # Charges that the ledger has not told of, each with its place in the journal: those since it was asked, None while nobody
        # asks; all of them where it is behind.
        self._unseen: list[tuple[int, int, int]] | None = [] if is_behind else None

    @property
    def unspent_nanousd(self) -> int:
        """Of the limit, whatever is held; negative when more was spent."""
        return self.budget.limit_nanousd - self.spent_nanousd - self.unknown_nanousd - self.elsewhere_spent_nanousd

    @property
    def left_nanousd(self) -> int:
        """What a hold may take now, as far as this process knows: it may still have to ask for a larger share."""
        return self.unspent_nanousd - self.elsewhere_share_nanousd - self.held_nanousd

    @property
    def free_nanousd(self) -> int:
        """What a hold may take now without asking anybody."""
        return self.left_nanousd if self.share_nanousd is None else self.share_nanousd - self._used_nanousd

    @property
    def _used_nanousd(self) -> int:
        """Of the share."""
        return self.held_nanousd + self.unbooked_nanousd + self.unknown_nanousd

    @property
    def used_ratio(self) -> float:
        """Spent and held, of the limit."""
        return 1 - self.left_nanousd / self.budget.limit_nanousd

    def add(self, cost_nanousd: int, ended_ns: int, seq: int) -> None:
        if self._unseen is not None:
            self._unseen.append((cost_nanousd, ended_ns, seq))
        self._count(cost_nanousd, ended_ns)
        if self.is_behind:
            self.unbooked_nanousd += cost_nanousd if self.span.holds(ended_ns) else 0
        elif self.share_nanousd is not None:
            self.share_nanousd -= cost_nanousd

    def add_unknown(self, held_nanousd: int, ended_ns: int) -> None:
        """What was held for an attempt whose cost nobody knows. It stays a part of the share, so that it is nobody else's."""
        if self.span.holds(ended_ns):
            self.unknown_nanousd += held_nanousd

    def _count(self, cost_nanousd: int, ended_ns: int) -> None:
        if self.span.holds(ended_ns):
            self.spent_nanousd += cost_nanousd
        elif self.span.end_ns is not None and ended_ns >= self.span.end_ns:
            self.next_nanousd += cost_nanousd

    def turn(self, at_ns: int) -> bool:
        """Go on to the period of this instant, if it is a later one. Holds stay: what they become is charged there."""
        end_ns = self.span.end_ns
        if end_ns is None or at_ns < end_ns:
            return False
        span = span_at(self.budget.period, at_ns)
        self.spent_nanousd = self.next_nanousd if span.start_ns == end_ns else 0
        self.next_nanousd = self.elsewhere_spent_nanousd = self.elsewhere_share_nanousd = self.unknown_nanousd = 0
        self.span = span
        self.unbooked_nanousd = self._unbooked()
        if self.share_nanousd is not None:
            self.share_nanousd = self._used_nanousd
        return True

    def _unbooked(self) -> int:
        """Of this period; what ended in another is in no share any more."""
        if not self.is_behind:
            return 0
        return sum(cost_nanousd for cost_nanousd, ended_ns, _ in self._unseen or () if self.span.holds(ended_ns))

    def listen(self) -> None:
        """The ledger is being asked: remember what is charged meanwhile."""
        if not self.is_behind:
            self._unseen = []

    def learn(self, spent: Spent, span: Span) -> bool:
        """What the ledger said of `span`. False when that period is over: ask again."""
        unseen, self._unseen = self._unseen or [], None
        if self.is_behind:
            self._unseen = unseen = [charge for charge in unseen if charge[2] > spent.through_seq]
        if span != self.span:
            return False
        self.spent_nanousd, self.next_nanousd = spent.nanousd, spent.next_nanousd
        for cost_nanousd, ended_ns, seq in unseen:
            if seq > spent.through_seq:
                self._count(cost_nanousd, ended_ns)
        before_nanousd, self.unbooked_nanousd = self.unbooked_nanousd, self._unbooked()
        if self.share_nanousd is not None:
            self.share_nanousd -= before_nanousd - self.unbooked_nanousd  # the ledger speaks for it now
        return True

    # Beside others

    def claim(self, free_nanousd: int) -> "Claim":
        """Give up what is more than this beside the holds, and say what is kept and how much more is wanted.

        What is given up is gone at once, so that nobody else can be given it while it is spent here.
        """
        used = self._used_nanousd
        kept = min(max(self.share_nanousd or 0, used), used + free_nanousd)
        self.share_nanousd = kept
        booked = self.spent_nanousd - self.unbooked_nanousd
        return Claim(self.span, booked, used, kept, used + free_nanousd - kept)

    def grant(self, claim: "Claim", grant: "Grant") -> None:
        """The answer to a claim; what was held and charged since stays taken into account."""
        if claim.span != self.span or self.share_nanousd is None:
            return
        self.share_nanousd += grant.share_nanousd - claim.share_nanousd
        self.elsewhere_spent_nanousd = grant.elsewhere_spent_nanousd
        self.elsewhere_share_nanousd = grant.elsewhere_share_nanousd


@immutable
class Claim:
    """What a process tells the others of one budget. spent_nanousd: all that its ledger has of the period. held_nanousd: a
    part of share_nanousd, with what is unbooked. more_nanousd: wanted beside it."""

    span: Span
    spent_nanousd: int
    held_nanousd: int
    share_nanousd: int
    more_nanousd: int


@immutable
class Grant:
    """share_nanousd: what the process may hold and spend from the claim on. is_rebuilding: shares are being told anew, and
    nothing more is given until all have."""

    share_nanousd: int
    elsewhere_spent_nanousd: int
    elsewhere_share_nanousd: int
    is_rebuilding: bool = False


class Hold:
    """A reservation in every account that the attempt counts against. is_open: its amount is still held."""

    __slots__ = ("accounts", "deadline_ns", "is_open", "is_settled", "nanousd", "term_ns")

    def __init__(self, accounts: Sequence[Account], nanousd: int, deadline_ns: int, term_ns: int) -> None:
        self.accounts = accounts
        self.nanousd = nanousd
        self.deadline_ns = deadline_ns
        self.term_ns = term_ns
        self.is_open = True
        self.is_settled = False


class Budgets:
    """All budgets of one configuration. `reserve`, `settle` and `void` cost the same however many holds are open.

    Times are nanoseconds of one clock that does not run backwards. is_behind: the ledger books what is settled here later.
    """

    def __init__(self, *, is_behind: bool = False) -> None:
        self._is_behind = is_behind
        self._accounts: dict[Key, Account] = {}
        self._by_identity: dict[tuple[str, str], tuple[Account, ...]] = {}
        self._by_tenant: dict[str, tuple[Account, ...]] = {}
        # Open holds by how long they were given: of one term, those taken first expire first.
        self._open: dict[int, dict[Hold, None]] = {}
        self.expired_total = 0

    @property
    def accounts(self) -> Collection[Account]:
        return self._accounts.values()

    @property
    def open_holds(self) -> int:
        return sum(map(len, self._open.values()))

    def configure(self, budgets: Iterable[Budget], at_ns: int) -> list[Account]:
        """These are the budgets from now on. One that was there before keeps its account. Returns the new accounts, which
        know nothing yet of what was spent."""
        accounts: dict[Key, Account] = {}
        new = []
        for budget in budgets:
            account = self._accounts.get(budget.key)
            if account is None:
                account = Account(budget, at_ns, is_behind=self._is_behind)
                new.append(account)
            account.budget = budget
            accounts[budget.key] = account
        self._accounts = accounts  # whole: a scrape in another thread reads it
        by_tenant: dict[str, list[Account]] = {}
        for account in self._accounts.values():
            if not account.budget.api_key_name:
                by_tenant.setdefault(account.budget.tenant, []).append(account)
        self._by_tenant = {tenant: tuple(accounts) for tenant, accounts in by_tenant.items()}
        by_identity: dict[tuple[str, str], list[Account]] = {}
        for account in self._accounts.values():
            tenant, api_key_name = account.budget.tenant, account.budget.api_key_name
            if api_key_name:
                own = by_identity.setdefault((tenant, api_key_name), list(by_tenant.get(tenant, ())))
                own.append(account)
        self._by_identity = {identity: tuple(accounts) for identity, accounts in by_identity.items()}
        return new

    def of(self, tenant: str, api_key_name: str) -> tuple[Account, ...]:
        """The accounts that a request with this key counts against: the tenant's and the key's own."""
        return self._by_identity.get((tenant, api_key_name)) or self._by_tenant.get(tenant, ())

    def allowance(self, accounts: Sequence[Account], at_ns: int) -> Allowance:
        """What is left in the scarcest of these accounts (at least one), and which of them are to be degraded."""
        degrades: list[tuple[Degrade, Budget]] = []
        scarcest = accounts[0]
        for account in accounts:
            account.turn(at_ns)
            if account.left_nanousd < scarcest.left_nanousd:
                scarcest = account
            degrade = account.budget.degrade
            if degrade is not None and account.used_ratio >= degrade.at_ratio:
                degrades.append((degrade, account.budget))
        return Allowance(
            scarcest.budget, scarcest.span, scarcest.left_nanousd, scarcest.unspent_nanousd, tuple(degrades)
        )

    def reserve(self, accounts: Sequence[Account], nanousd: int, at_ns: int, term_ns: int) -> Hold | Account:
        """Hold so much in all of the accounts, or in none: then the account that lacks it."""
        self.sweep(at_ns)
        for account in accounts:
            account.turn(at_ns)
            if nanousd > account.free_nanousd:
                return account
        for account in accounts:
            account.held_nanousd += nanousd
        hold = Hold(accounts, nanousd, at_ns + term_ns, term_ns)
        self._open.setdefault(term_ns, {})[hold] = None
        return hold

    def settle(self, hold: Hold, cost_nanousd: int | None, ended_ns: int, seq: int = 0) -> None:
        """The attempt has ended and cost so much, None: nobody knows. seq: the charge's place in the journal. A second time
        changes nothing."""
        if hold.is_settled:
            return
        hold.is_settled = True
        self._release(hold)
        for account in hold.accounts:
            account.turn(ended_ns)
            if cost_nanousd is None:
                account.add_unknown(hold.nanousd, ended_ns)
            else:
                account.add(cost_nanousd, ended_ns, seq)

    def void(self, hold: Hold) -> None:
        """Nothing was dispatched."""
        hold.is_settled = True
        self._release(hold)

    def sweep(self, at_ns: int) -> int:
        """Let go of the holds whose deadline has passed; how many."""
        swept = 0
        for holds in self._open.values():
            while holds and (hold := next(iter(holds))).deadline_ns <= at_ns:
                self._release(hold)
                swept += 1
        self.expired_total += swept
        return swept

    def _release(self, hold: Hold) -> None:
        if not hold.is_open:
            return
        hold.is_open = False
        del self._open[hold.term_ns][hold]
        for account in hold.accounts:
            account.held_nanousd -= hold.nanousd
