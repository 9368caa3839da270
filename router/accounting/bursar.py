"""The bursar: keeps the tenants' budgets, by joining their books with the ledger, the clock and other workers.

One per process, beside the accountant. What an attempt cost is the accountant's word; what may still be spent is the
bursar's. `reserve` waits for nobody while the process's own share suffices, and for Redis at most its time-out when it does
not; shares are topped up in a task of its own before that. Tenants without budgets never come here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from router.clock import Clock
from router.domain.attempt import Charge
from router.domain.budget import Allowance, Budget, Span, span_at
from router.domain.fleet import Billing
from router.domain.request import Endpoint
from router.errors import BudgetRefusal, BudgetUnavailable
from router.ledger.budget import Account, Budgets, Hold, Spent
from router.ledger.shared_budget import REBUILD_SECONDS, RECLAIM_SECONDS, SHARE_SECONDS, SharedAway, SharedBudgets
from router.ledger.store import LedgerStore, SpentQuestion
from router.selection.affordable import refuse_over_budget

log = structlog.get_logger("jeton.bursar")

# How often the ledger is asked again. Between two of its words our own sums are exact; this is for what we cannot know of,
# such as a correction, and to notice should we be wrong.
LEARN_SECONDS = 60.0
# Where several workers report to it: so soon what is settled is let go of as it is booked.
LEARN_BEHIND_SECONDS = 1.0
LEARN_TIMEOUT_SECONDS = 5.0
# How often an account that is in use tells the others, and one that is not.
CLAIM_SECONDS = 0.5
CLAIM_IDLE_SECONDS = 1.0
# How soon a share that runs low is topped up again; who has to wait for it asks at once.
CLAIM_SECONDS_MIN = 0.01
# Of what nobody has, a worker takes this part beside its holds: an eighth where requests come, and where none do as much as
# the first of them need should Redis be away. Small enough to leave some for the others, and it shrinks with what is left, so
# that the last dollars are asked for request by request.
SHARE_PARTS = 8
SHARE_PARTS_IDLE = 32
# How often the ledger is asked whether it has booked all of a worker that died.
BURY_SECONDS = 0.25
# How often one request asks for a larger share before it gives way to those that take it.
ASKED_MAX = 5
AWAY = "The budget cannot be checked now; try again."


class Bursar:
    """shared: where other workers share the budgets; None where there are none. is_behind: several workers report to the ledger,
    which books later what is settled here."""

    def __init__(
        self,
        store: LedgerStore,
        clock: Clock,
        shared: SharedBudgets | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        is_behind: bool = False,
    ) -> None:
        self._store = store
        self._clock = clock
        self._shared = shared
        self._monotonic = monotonic
        self._budgets = Budgets(is_behind=is_behind)
        self._learn_seconds = LEARN_BEHIND_SECONDS if is_behind else LEARN_SECONDS
        self._desks: dict[Account, _Desk] = {}
        self._ignorant: set[Account] = set()  # what was spent of them has not been learnt yet
        self._learning = asyncio.Lock()
        self._gone: list[Account] = []  # whose shares are still to be given back
        self._dead: set[str] = set()  # workers that are, and whose shares are still to be freed
        self._wake = asyncio.Event()
        self._is_rebuilding = False
        self._claimed_at = 0.0
        self._is_ending = False

    @property
    def accounts(self) -> Collection[Account]:
        return self._budgets.accounts

    @property
    def open_holds(self) -> int:
        return self._budgets.open_holds

    def configure(self, budgets: Iterable[Budget]) -> None:
        """These are the budgets from now on. What was spent of new ones is learnt from the ledger in the next moments."""
        new = self._budgets.configure(budgets, self._clock.now_ns())
        self._ignorant = (self._ignorant | set(new)) & set(self._budgets.accounts)
        if self._shared is not None:
            for account in new:
                account.share_nanousd = 0
            before, self._desks = self._desks, {}
            for account in self._budgets.accounts:
                self._desks[account] = before.pop(account) if account in before else _Desk()
            _answer({account: list(desk.asking) for account, desk in before.items()}, "the budgets have changed")
            self._gone += before
        self._wake.set()

    def of(self, tenant: str, api_key_name: str) -> tuple[Account, ...]:
        """The accounts that a request counts against; most often none."""
        return self._budgets.of(tenant, api_key_name)

    def allowance(self, accounts: Sequence[Account]) -> Allowance:
        return self._budgets.allowance(accounts, self._clock.now_ns())

    async def reserve(self, accounts: Sequence[Account], nanousd: int, term_ns: int, endpoint: Endpoint) -> Hold:
        """Hold so much in all of the accounts, for so long at most. endpoint: in whose words a refusal says what helps. Raises
        BudgetExceeded or BudgetUnavailable."""
        if self._ignorant:
            await self._know(accounts)
        for asked in range(ASKED_MAX + 1):
            found = self._budgets.reserve(accounts, nanousd, self._clock.now_ns(), term_ns)
            if isinstance(found, Hold):
                if self._shared is not None:
                    self._watch_shares(accounts, nanousd)
                return found
            # What is left is known exactly once the others have been asked; others here may have been quicker to take it.
            is_told = asked > 0 and nanousd > found.left_nanousd
            if found.share_nanousd is None or is_told or asked == ASKED_MAX:
                refusal = refuse_over_budget(nanousd, self.allowance((found,)), self._clock.now_ns(), endpoint)
                raise refusal.of(found.budget.tenant)
            await self._ask_for(found, nanousd)
        raise AssertionError("the last round ends above")

    def settle(self, hold: Hold, charge: Charge) -> None:
        """The attempt has ended. A cost that nobody knows counts as what was held for it, though the ledger has nothing of it; on
        a lease it is in the bill of the lease, and counts as nothing."""
        cost_nanousd = charge.cost_nanousd
        if cost_nanousd is None and charge.billing == Billing.LEASED:
            cost_nanousd = 0
        self._budgets.settle(hold, cost_nanousd, charge.ended_ns, self._store.position)

    def void(self, hold: Hold) -> None:
        self._budgets.void(hold)

    async def bury(self, worker: str, is_booked: Callable[[], Awaitable[bool]]) -> None:
        """Another worker of our ledger is dead for certain. Once the ledger has booked all that it spent, and has told us so,
        what is left of its share is nobody's. is_booked: asks the ledger."""
        if self._shared is None:
            return
        given_up_at = self._monotonic() + RECLAIM_SECONDS  # from then on others do it
        while self._monotonic() < given_up_at:
            try:
                if await is_booked() and await self._learn():
                    self._dead.add(worker)
                    self._wake.set()
                    return
            except Exception as error:  # the ledger is away, perhaps: what it has is not known
                log.debug("a dead worker's share is not freed yet", worker=worker, error=str(error))
            await asyncio.sleep(BURY_SECONDS)
        log.warning(
            "a dead worker's share is left to run out: the ledger has not said that all is booked", worker=worker
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Knows what was spent when the block begins; gives its shares back when it ends."""
        await self._learn()
        if self._shared is not None:
            await self._take_shares()
        tasks = [asyncio.create_task(self._learn_for_ever())]
        if self._shared is not None:
            tasks.append(asyncio.create_task(self._claim_for_ever()))
        try:
            yield
        finally:
            self._is_ending = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._shared is not None:
                await self._leave(self._shared)

    # The ledger

    async def _learn_for_ever(self) -> None:
        due_at = self._monotonic() + self._learn_seconds
        while True:
            await asyncio.sleep(0.05 if self._ignorant else 1.0)
            now_ns = self._clock.now_ns()
            self._budgets.sweep(now_ns)
            for account in self._budgets.accounts:
                account.turn(now_ns)
            if self._ignorant or self._monotonic() >= due_at:
                due_at = self._monotonic() + self._learn_seconds
                await self._learn()

    async def _learn(self) -> bool:
        """Ask the ledger what was spent; what is charged meanwhile is kept apart until it answers, so one asks at a time. Whether
        it has answered for all."""
        async with self._learning:
            return await self._ask_ledger(list(self._budgets.accounts))

    async def _know(self, accounts: Sequence[Account]) -> None:
        """Before the ledger has said what was spent, nothing may be. Raises BudgetUnavailable."""
        if self._ignorant.isdisjoint(accounts):
            return
        async with self._learning:
            unknown = [account for account in accounts if account in self._ignorant]
            await self._ask_ledger(unknown)
        for account in unknown:
            if account in self._ignorant:
                raise _unavailable(account, "the ledger has not said yet what was spent")

    async def _ask_ledger(self, accounts: Sequence[Account]) -> bool:
        if not accounts:
            return True
        questions: list[SpentQuestion] = []
        spans: list[Span] = []
        for account in accounts:
            tenant, api_key_name, _ = account.budget.key
            span = account.span
            spans.append(span)
            after = span_at(account.budget.period, span.end_ns) if span.end_ns is not None else Span(0, 0)
            questions += SpentQuestion(tenant, api_key_name, span), SpentQuestion(tenant, api_key_name, after)
            account.listen()
        try:
            amounts, through_seq = await self._store.spent(questions, LEARN_TIMEOUT_SECONDS)
        except Exception:
            log.warning("the ledger does not say what was spent; budgets go on with what is known", exc_info=True)
            return False
        has_answered = True
        for number, (account, span) in enumerate(zip(accounts, spans, strict=True)):
            spent = Spent(amounts[2 * number], amounts[2 * number + 1], through_seq)
            if account.learn(spent, span):
                self._ignorant.discard(account)
            else:
                has_answered = False
        return has_answered

    # Other workers

    def _watch_shares(self, accounts: Sequence[Account], nanousd: int) -> None:
        """Ask for more before it runs out."""
        may_wake = not self._wake.is_set() and self._monotonic() - self._claimed_at > CLAIM_SECONDS_MIN
        for account in accounts:
            desk = self._desks.get(account)
            if desk is None:
                continue
            desk.is_used = True
            desk.largest_nanousd = max(desk.largest_nanousd, nanousd)
            if may_wake and 2 * account.free_nanousd < desk.wanted_nanousd(account):
                self._wake.set()

    async def _ask_for(self, account: Account, nanousd: int) -> None:
        """Until the others were asked for at least so much. Raises BudgetUnavailable."""
        shared, desk = self._shared, self._desks.get(account)
        assert shared is not None
        if desk is None:
            return  # a reload has taken the budget out
        if shared.is_away:
            raise _unavailable(account, "redis is away")
        asking = asyncio.get_running_loop().create_future()
        desk.is_used = True
        desk.asking[asking] = nanousd
        self._wake.set()
        try:
            outcome = await asking
        finally:
            desk.asking.pop(asking, None)
        if outcome:
            raise _unavailable(account, outcome)

    async def _claim_for_ever(self) -> None:
        while not self._is_ending:  # redis-py can swallow a cancellation that comes while it gives a connection up
            with suppress(TimeoutError):
                async with asyncio.timeout(CLAIM_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            now_seconds = self._monotonic()
            due = [
                account
                for account, desk in self._desks.items()
                if self._dead or desk.asking or desk.is_due(account, now_seconds)
            ]
            try:
                await self._claim(due)
                await self._give_back()
            except Exception:
                log.exception("shares of budgets could not be claimed")
                await asyncio.sleep(CLAIM_SECONDS)

    async def _take_shares(self) -> None:
        """Before the first request; in a Redis that knows nothing, once all who may have shares have said so."""
        await self._claim(list(self._desks))
        if self._is_rebuilding:
            await asyncio.sleep(REBUILD_SECONDS + 0.1)
            await self._claim(list(self._desks))

    async def _claim(self, accounts: Sequence[Account]) -> None:
        shared, now_seconds = self._shared, self._monotonic()
        assert shared is not None
        self._claimed_at = now_seconds
        for account, desk in self._desks.items():
            account.turn(self._clock.now_ns())
            if now_seconds - desk.told_at > SHARE_SECONDS and account.share_nanousd is not None:
                account.share_nanousd = min(account.share_nanousd, account.held_nanousd)
        asking = {account: list(self._desks[account].asking) for account in accounts if account in self._desks}
        if shared.is_away:
            _answer(asking, "redis is away")
            return
        if not asking:
            return
        claims = [(account, account.claim(self._desks[account].wanted_nanousd(account))) for account in asking]
        dead = frozenset(self._dead)
        try:
            grants = await shared.claim([(account.budget, claim) for account, claim in claims], dead)
        except SharedAway:
            _answer(asking, "redis is away")
            return
        if asking.keys() == self._desks.keys():
            self._dead -= dead
        for (account, claim), grant in zip(claims, grants, strict=True):
            account.grant(claim, grant)
            self._is_rebuilding = grant.is_rebuilding
            if account in self._desks:
                self._desks[account].told_at, self._desks[account].is_used = now_seconds, False
            _answer({account: asking[account]}, "shares are being told anew" if grant.is_rebuilding else "")

    async def _give_back(self) -> None:
        """The shares of budgets that a reload has taken out."""
        shared = self._shared
        if not self._gone or shared is None or shared.is_away:
            return
        gone, self._gone = self._gone, []
        with suppress(SharedAway):  # then it is given back when others find that nobody claims it
            await shared.leave([(account.budget, account.claim(0)) for account in gone])

    async def _leave(self, shared: SharedBudgets) -> None:
        claims = [(account.budget, account.claim(0)) for account in self._desks]
        try:
            if claims and not shared.is_away:
                await shared.leave(claims)
        except Exception as error:
            log.warning("shares of budgets could not be given back; others wait for them", error=str(error)[:200])
        finally:
            await shared.close()


class _Desk:
    """What one account does with the others. asking: who waits, each for how much. largest_nanousd: a hold seen lately."""

    __slots__ = ("asking", "is_used", "largest_nanousd", "told_at")

    def __init__(self) -> None:
        self.asking: dict[asyncio.Future[str], int] = {}
        self.is_used = False
        self.largest_nanousd = 0
        self.told_at = float("-inf")

    def wanted_nanousd(self, account: Account) -> int:
        """What should be free beside the holds: a part of what nobody has, unless it is too small to be of use; at least what
        is asked for."""
        asked_nanousd = sum(self.asking.values())
        is_busy = self.is_used or account.held_nanousd > 0 or asked_nanousd > 0
        part_nanousd = max(account.left_nanousd, 0) // (SHARE_PARTS if is_busy else SHARE_PARTS_IDLE)
        return max(asked_nanousd, part_nanousd if part_nanousd >= self.largest_nanousd else 0)

    def is_due(self, account: Account, now_seconds: float) -> bool:
        is_busy = self.is_used or account.held_nanousd > 0
        is_low = is_busy and 2 * account.free_nanousd < self.wanted_nanousd(account)
        since_seconds = now_seconds - self.told_at
        return is_low or since_seconds >= (CLAIM_SECONDS if is_busy or account.share_nanousd else CLAIM_IDLE_SECONDS)


def _unavailable(account: Account, why: str) -> BudgetRefusal:
    refusal = BudgetUnavailable(AWAY, retry_after_seconds=1, detail=f"{why}; {account.budget}")
    return refusal.of(account.budget.tenant)


def _answer(asking: dict[Account, list["asyncio.Future[str]"]], outcome: str) -> None:
    """Wake those who wait. outcome: "" when the others were asked, else why not."""
    for futures in asking.values():
        for future in futures:
            if not future.done():
                future.set_result(outcome)
