"""What was spent by whom on which day: moved with the charges, and made again where it does not agree."""

import asyncio
from contextlib import closing
from pathlib import Path
from threading import Thread

from bookkeeping import FLEET, LARGE, PRICES, PROFILES, SECOND, answered, assert_ledger_is_consistent, facts
from ledgers import Place

from router.accounting.accountant import Accountant
from router.domain.budget import DAY_NS, Period, Span, span_at
from router.ledger.database import transaction
from router.ledger.schema import open_shared, reading
from router.ledger.spending import prepare_spending, spending_differences
from router.ledger.store import SpentQuestion

NOON = 20_000 * DAY_NS + DAY_NS // 2
COST = 100 * 2000 + 50 * 8000


class Router:
    def __init__(self, place: Place) -> None:
        self.store = place.open()
        self.accountant = Accountant(self.store)
        self.accountant.set_fleet(FLEET, PRICES, PROFILES, NOON)
        self.number = 0

    def spend(self, tenant: str = "acme", key: str = "laptop", at_ns: int = NOON) -> None:
        self.number += 1
        one = facts(f"r{self.store.position}-{self.number}", LARGE, tenant=tenant, api_key_name=key)
        self.accountant.open(one, LARGE, PRICES[LARGE.name], 100, 50, at_ns)
        self.accountant.close(one.attempt_id, answered(), at_ns + SECOND)

    def spent(self, period: Period, tenant: str = "acme", key: str = "", at_ns: int = NOON) -> int:
        question = SpentQuestion(tenant, key, span_at(period, at_ns))
        [amount], through_seq = asyncio.run(self.store.spent([question], 10.0))
        assert through_seq == self.store.position, "nothing is under way: all of it is counted"
        return amount


def test_of_several_that_start_at_once_on_a_new_ledger_one_names_it(place: Place) -> None:
    """Were it two, what is in the spool of the one would be another ledger's when the other comes back to it."""
    with closing(open_shared(place.address)) as first, closing(open_shared(place.address)) as second:
        first.begin()
        name, names = prepare_spending(first), []

        def start() -> None:
            with transaction(second):
                names.append(prepare_spending(second))

        thread = Thread(target=start)
        thread.start()
        thread.join(0.5)
        first.commit()
        thread.join(60)
    assert names == [name]
    assert place.rows("SELECT count(*) FROM identity") == [(1,)]


def test_every_budget_sees_its_own(place: Place) -> None:
    router = Router(place)
    for _ in range(3):
        router.spend()
    router.spend(key="desktop")
    router.spend(at_ns=NOON + DAY_NS)
    router.spend(at_ns=NOON + 60 * DAY_NS)
    router.spend(tenant="other")
    assert router.spent(Period.DAY) == 4 * COST
    assert router.spent(Period.DAY, key="laptop") == 3 * COST
    assert router.spent(Period.MONTH) == 5 * COST
    assert router.spent(Period.TOTAL) == 6 * COST
    assert router.spent(Period.DAY, at_ns=NOON + DAY_NS) == COST
    assert router.spent(Period.DAY, tenant="nobody") == 0
    router.store.close()
    assert_ledger_is_consistent(place.address, is_quiet=True)


def test_it_survives_and_so_does_the_ledgers_id(place: Place) -> None:
    router = Router(place)
    router.spend()
    router.store.close()
    again = Router(place)
    again.spend()
    assert again.spent(Period.TOTAL) == 2 * COST
    assert again.store.ledger_id == router.store.ledger_id
    again.store.close()


def test_f29_what_a_killed_router_left_open_is_spent_once(place: Place) -> None:
    router = Router(place)
    router.accountant.open(facts("r1", LARGE), LARGE, PRICES[LARGE.name], 100, 50, NOON)
    router.store.close()
    for _ in range(2):
        again = Router(place)
        assert again.spent(Period.DAY) == COST, "the estimate, as the charge of the lost attempt says"
        again.store.close()


def test_what_does_not_agree_with_the_totals_is_made_again(place: Place) -> None:
    router = Router(place)
    router.spend()
    router.spend()
    router.store.close()
    for change in ("UPDATE spending SET cost_nanousd = 5", "DELETE FROM spending"):
        place.change(change)
        router = Router(place)
        assert router.spent(Period.TOTAL) == 2 * COST
        router.store.close()
        assert_ledger_is_consistent(place.address, is_quiet=True)


def test_an_audit_is_told_where_it_does_not_agree_with_the_charges(place: Place) -> None:
    router = Router(place)
    router.spend()
    router.spend(key="desktop")
    router.store.close()
    place.change("UPDATE spending SET cost_nanousd = 5 WHERE api_key_name = 'desktop'")
    with reading(place.address) as database:
        assert spending_differences(database) == [("acme", "desktop", NOON // DAY_NS, 5, COST)]


def test_a_question_is_answered_from_few_rows(tmp_path: Path) -> None:
    place = Place(tmp_path / "ledger.sqlite", tmp_path)
    router = Router(place)
    with reading(place.address) as database:
        plan = database.execute(
            "EXPLAIN QUERY PLAN SELECT sum(cost_nanousd) FROM spending WHERE tenant = ? AND day >= ? AND api_key_name = ?",
            ("acme", 1, "laptop"),
        ).fetchall()
    assert "SEARCH" in plan[0][3]
    assert router.spent(Period.TOTAL) == 0
    assert Span(0, None).holds(NOON)
    router.store.close()
