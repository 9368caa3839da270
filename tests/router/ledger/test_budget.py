"""The books of the budgets: what is held and spent never exceeds the limit, and every hold ends once."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.domain.budget import DAY_NS, Budget, Degrade, Period, Span, span_at
from router.ledger.budget import Account, Budgets, Grant, Hold, Spent

SECOND = 10**9
NOON = 20_000 * DAY_NS + DAY_NS // 2
TERM = 100 * SECOND
LIMIT = 1000


def budget(limit: int = LIMIT, period: Period = Period.DAY, key: str = "", degrade: Degrade | None = None) -> Budget:
    return Budget("acme", key, period, limit, degrade)


def books(*of: Budget) -> tuple[Budgets, tuple[Account, ...]]:
    budgets = Budgets()
    budgets.configure(of, NOON)
    return budgets, budgets.of("acme", "laptop")


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        (Period.DAY, "2026-11-26T00:00:00", "2026-11-26", "2026-11-27"),
        (Period.DAY, "2026-12-31T23:59:59", "2026-12-31", "2027-01-01"),
        (Period.MONTH, "2026-11-30T23:59:59", "2026-11-01", "2026-12-01"),
        (Period.MONTH, "2026-12-01T00:00:00", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_a_period_is_a_calendar_day_or_month_in_utc(period: Period, at: str, start: str, end: str) -> None:
    assert span_at(period, ns(at)) == Span(ns(start), ns(end))


@given(st.integers(0, 2**62), st.sampled_from([Period.DAY, Period.MONTH]))
def test_every_instant_is_in_one_period_and_the_next_begins_where_it_ends(at_ns: int, period: Period) -> None:
    span = span_at(period, at_ns)
    assert span.holds(at_ns)
    assert span.end_ns is not None
    assert not span.holds(span.end_ns)
    assert span_at(period, span.end_ns).start_ns == span.end_ns
    assert span_at(period, span.start_ns) == span


def test_a_hold_fits_or_names_the_account_that_lacks_it() -> None:
    budgets, accounts = books(budget(), budget(300, key="laptop"))
    tenant, key = accounts
    hold = budgets.reserve(accounts, 300, NOON, TERM)
    assert isinstance(hold, Hold)
    assert budgets.reserve(accounts, 1, NOON, TERM) is key
    assert (tenant.held_nanousd, key.held_nanousd) == (300, 300), "nothing is held of a hold that did not fit"
    budgets.settle(hold, 10, NOON)
    assert (tenant.left_nanousd, key.left_nanousd) == (990, 290)


def test_other_keys_of_the_tenant_have_the_tenants_budget_alone_and_other_tenants_none() -> None:
    budgets, _ = books(budget(), budget(300, key="laptop"))
    assert [account.budget.api_key_name for account in budgets.of("acme", "desktop")] == [""]
    assert budgets.of("other", "laptop") == ()


def test_f26_a_hold_is_settled_once_however_often_and_however_late() -> None:
    budgets, (account,) = books(budget())
    hold = budgets.reserve((account,), 400, NOON, TERM)
    assert isinstance(hold, Hold)
    assert budgets.sweep(NOON + TERM) == 1
    assert account.left_nanousd == LIMIT
    for _ in range(3):
        budgets.settle(hold, 50, NOON + 2 * TERM)
        budgets.void(hold)
    assert (account.spent_nanousd, account.held_nanousd, budgets.open_holds) == (50, 0, 0)


def test_a14_a_hold_that_nobody_ends_is_swept_at_its_deadline_by_whoever_asks_next() -> None:
    budgets, (account,) = books(budget())
    assert isinstance(budgets.reserve((account,), LIMIT, NOON, TERM), Hold)
    assert budgets.reserve((account,), LIMIT, NOON + TERM - 1, TERM) is account
    assert isinstance(budgets.reserve((account,), LIMIT, NOON + TERM, TERM), Hold)
    assert budgets.expired_total == 1


def test_holds_of_different_terms_expire_each_in_its_time() -> None:
    budgets, (account,) = books(budget())
    budgets.reserve((account,), 1, NOON, 2 * TERM)
    budgets.reserve((account,), 2, NOON, TERM)
    budgets.sweep(NOON + TERM)
    assert account.held_nanousd == 1


def test_a_new_period_starts_with_what_was_spent_in_it_and_keeps_the_holds() -> None:
    budgets, (account,) = books(budget())
    hold = budgets.reserve((account,), 400, NOON, DAY_NS)
    other = budgets.reserve((account,), 100, NOON, DAY_NS)
    assert isinstance(hold, Hold)
    assert isinstance(other, Hold)
    budgets.settle(other, 100, NOON)
    tomorrow = NOON + DAY_NS // 2
    allowance = budgets.allowance((account,), tomorrow)
    assert (allowance.unspent_nanousd, allowance.left_nanousd) == (LIMIT, 600)
    budgets.settle(hold, 5, tomorrow)
    assert (account.spent_nanousd, account.held_nanousd) == (5, 0)


def test_f28_a_clock_that_was_set_back_over_midnight_grants_the_day_once() -> None:
    """The process before us had seen tomorrow, and spent there; the ledger knows."""
    budgets, (account,) = books(budget())
    account.listen()
    account.learn(Spent(700, 300, 10), account.span)
    assert account.left_nanousd == 300
    budgets.allowance((account,), NOON + DAY_NS)
    assert account.spent_nanousd == 300
    budgets.allowance((account,), NOON + 3 * DAY_NS)
    assert account.spent_nanousd == 0
    budgets.allowance((account,), NOON)
    assert account.span == span_at(Period.DAY, NOON + 3 * DAY_NS), "time does not run backwards"


def test_what_is_charged_while_the_ledger_is_asked_is_counted_once() -> None:
    budgets, (account,) = books(budget())
    holds = [budgets.reserve((account,), 10, NOON, TERM) for _ in range(3)]
    assert all(isinstance(hold, Hold) for hold in holds)
    budgets.settle(holds[0], 1, NOON, seq=5)  # type: ignore[arg-type]
    account.listen()
    budgets.settle(holds[1], 2, NOON, seq=6)  # type: ignore[arg-type]
    budgets.settle(holds[2], 4, NOON, seq=7)  # type: ignore[arg-type]
    assert account.learn(Spent(103, 0, through_seq=6), account.span)
    assert account.spent_nanousd == 107


def test_an_answer_about_a_period_that_is_over_is_not_taken() -> None:
    budgets, (account,) = books(budget())
    asked = account.span
    account.listen()
    budgets.allowance((account,), NOON + DAY_NS)
    assert not account.learn(Spent(999, 0, 6), asked)
    assert account.spent_nanousd == 0


def test_a_reload_keeps_accounts_and_changes_limits() -> None:
    budgets, (account,) = books(budget())
    hold = budgets.reserve((account,), 400, NOON, TERM)
    assert isinstance(hold, Hold)
    new = budgets.configure([budget(500), budget(50, key="laptop")], NOON)
    assert [one.budget.api_key_name for one in new] == ["laptop"]
    assert account.left_nanousd == 100
    budgets.configure([], NOON)
    budgets.settle(hold, 7, NOON)
    assert budgets.of("acme", "laptop") == ()


def test_a_budget_is_degraded_by_what_is_spent_and_held() -> None:
    degrade = Degrade(0.8, ("small",))
    budgets, (account,) = books(budget(degrade=degrade))
    assert budgets.allowance((account,), NOON).degrades == ()
    budgets.reserve((account,), 800, NOON, TERM)
    assert budgets.allowance((account,), NOON).degrades == ((degrade, account.budget),)


def test_a_share_is_given_up_at_once_and_charges_come_out_of_it() -> None:
    budgets, (account,) = books(budget())
    account.share_nanousd = 0
    assert budgets.reserve((account,), 10, NOON, TERM) is account
    claim = account.claim(100)
    account.grant(claim, Grant(100, 300, 200))
    assert (account.free_nanousd, account.left_nanousd) == (100, 500)
    hold = budgets.reserve((account,), 60, NOON, TERM)
    assert isinstance(hold, Hold)
    claim = account.claim(10)
    assert (claim.share_nanousd, claim.held_nanousd, claim.more_nanousd) == (70, 60, 0)
    assert account.free_nanousd == 10, "what is given up is gone before anybody can be told"
    budgets.settle(hold, 5, NOON)
    account.grant(claim, Grant(70, 300, 0))
    assert account.free_nanousd == 65


def test_a_cost_that_nobody_knows_counts_as_its_hold_until_the_period_is_over_whatever_the_ledger_says() -> None:
    budgets, (day, month) = books(budget(), budget(5 * LIMIT, Period.MONTH))
    hold = budgets.reserve((day, month), 60, NOON, TERM)
    assert isinstance(hold, Hold)
    budgets.settle(hold, None, NOON)
    budgets.settle(hold, None, NOON)
    day.listen()
    day.learn(Spent(0, 0, 9), day.span)
    allowance = budgets.allowance((day,), NOON)
    assert (day.held_nanousd, day.spent_nanousd) == (0, 0)
    assert (allowance.left_nanousd, allowance.unspent_nanousd) == (LIMIT - 60, LIMIT - 60)
    tomorrow = NOON + DAY_NS
    assert budgets.allowance((day,), tomorrow).left_nanousd == LIMIT
    assert budgets.allowance((month,), tomorrow).left_nanousd == 5 * LIMIT - 60


def test_a_share_keeps_what_counts_for_a_cost_that_nobody_knows() -> None:
    budgets, (account,) = books(budget())
    account.share_nanousd = 100
    hold = budgets.reserve((account,), 60, NOON, TERM)
    assert isinstance(hold, Hold)
    budgets.settle(hold, None, NOON)
    assert account.free_nanousd == 40
    claim = account.claim(10)
    assert (claim.share_nanousd, claim.spent_nanousd, claim.more_nanousd) == (70, 0, 0)
    assert account.free_nanousd == 10


class BudgetMachine(RuleBasedStateMachine):
    """Against a model that keeps every hold in a list. Charges stay within their holds here, as bounds do."""

    def __init__(self) -> None:
        super().__init__()
        self.budgets, self.accounts = books(budget(), budget(400, Period.MONTH), budget(300, key="laptop"))
        self.now = NOON
        self.holds: list[Hold] = []
        self.charged: list[tuple[int, int]] = []

    @rule(nanousd=st.integers(0, 500), term=st.sampled_from([TERM, 3 * TERM]))
    def reserve(self, nanousd: int, term: int) -> None:
        left = min(self.left(account) for account in self.accounts)
        found = self.budgets.reserve(self.accounts, nanousd, self.now, term)
        assert isinstance(found, Hold) == (nanousd <= left)
        if isinstance(found, Hold):
            self.holds.append(found)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        if self.holds:
            hold = data.draw(st.sampled_from(self.holds))
            cost = data.draw(st.none() | st.integers(0, hold.nanousd))
            if not hold.is_settled and hold.is_open:
                self.charged.append((self.now, hold.nanousd if cost is None else cost))
                self.budgets.settle(hold, cost, self.now)
            self.budgets.settle(hold, 10**6, self.now) if hold.is_settled else None

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        if self.holds:
            self.budgets.void(data.draw(st.sampled_from(self.holds)))

    @rule(seconds=st.sampled_from([1, 50, 150, 40_000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    def left(self, account: Account) -> int:
        span = span_at(account.budget.period, self.now)
        spent = sum(cost for at_ns, cost in self.charged if span.holds(at_ns))
        held = sum(h.nanousd for h in self.holds if not h.is_settled and h.deadline_ns > self.now)
        return account.budget.limit_nanousd - spent - held

    @invariant()
    def books_agree(self) -> None:
        self.budgets.sweep(self.now)
        for account in self.accounts:
            self.budgets.allowance((account,), self.now)
            assert account.left_nanousd == self.left(account) >= 0


TestBudgetMachine = BudgetMachine.TestCase


def test_what_the_ledger_has_not_booked_yet_stays_in_the_share_and_is_told_once() -> None:
    budgets = Budgets(is_behind=True)
    budgets.configure([budget()], NOON)
    [account] = budgets.of("acme", "laptop")
    account.share_nanousd = 500
    account.learn(Spent(100, 0, 0), account.span)
    for seq in (1, 2):
        hold = budgets.reserve([account], 200, NOON, TERM)
        assert isinstance(hold, Hold)
        budgets.settle(hold, 150, NOON, seq)
    assert (account.spent_nanousd, account.unbooked_nanousd, account.free_nanousd) == (400, 300, 200)
    told = account.claim(200)
    assert (told.spent_nanousd, told.held_nanousd, told.share_nanousd) == (100, 300, 500)
    account.learn(Spent(100 + 150, 0, 1), account.span)  # one of them is booked
    assert (account.spent_nanousd, account.unbooked_nanousd, account.share_nanousd) == (400, 150, 350)
    assert account.free_nanousd == 200
    told = account.claim(200)
    assert told.spent_nanousd + told.share_nanousd == 100 + 500


def test_a_new_period_begins_with_what_is_held_and_without_what_was_unbooked_in_the_old() -> None:
    budgets = Budgets(is_behind=True)
    budgets.configure([budget()], NOON)
    [account] = budgets.of("acme", "laptop")
    account.share_nanousd = 500
    account.learn(Spent(0, 0, 0), account.span)
    kept = budgets.reserve([account], 200, NOON, DAY_NS)
    assert isinstance(kept, Hold)
    ended = budgets.reserve([account], 200, NOON, DAY_NS)
    assert isinstance(ended, Hold)
    budgets.settle(ended, 150, NOON, 1)
    assert account.turn(NOON + DAY_NS)
    assert (account.unbooked_nanousd, account.share_nanousd, account.free_nanousd) == (0, 200, 0)
    budgets.settle(kept, 120, NOON + DAY_NS, 2)
    assert (account.spent_nanousd, account.unbooked_nanousd, account.free_nanousd) == (120, 120, 80)
