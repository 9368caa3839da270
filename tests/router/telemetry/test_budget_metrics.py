"""What `/metrics` says of budgets: few series, whatever the configuration holds."""

from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from router.domain.budget import Budget, Period
from router.telemetry.budgets import BudgetCollector
from router.telemetry.labels import Vocabulary

USD = 10**9


def account(tenant: str, key: str = "", unspent: int = USD, period: Period = Period.DAY) -> Any:
    budget = Budget(tenant, key, period, 10 * USD)
    return SimpleNamespace(budget=budget, unspent_nanousd=unspent, used_ratio=1 - unspent / (10 * USD))


def shown(*accounts: Any, tenants_max: int = 100) -> list[str]:
    registry = CollectorRegistry()
    registry.register(BudgetCollector(SimpleNamespace(accounts=accounts), Vocabulary(tenants_max)))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_the_scarcest_of_a_tenants_budgets_is_what_remains_and_each_has_its_ratio() -> None:
    assert shown(
        account("red", unspent=5 * USD), account("red", unspent=2 * USD, period=Period.MONTH), account("red", "key")
    ) == [
        'jeton_budget_remaining_usd{tenant="red"} 2.0',
        'jeton_budget_used_ratio{api_key="",per="day",tenant="red"} 0.5',
        'jeton_budget_used_ratio{api_key="",per="month",tenant="red"} 0.8',
        'jeton_budget_used_ratio{api_key="key",per="day",tenant="red"} 0.9',
    ]


def test_what_was_overspent_is_negative() -> None:
    assert shown(account("red", unspent=-USD))[0] == 'jeton_budget_remaining_usd{tenant="red"} -1.0'


def test_tenants_and_budgets_beyond_the_bound_have_no_series_of_their_own() -> None:
    lines = shown(*(account(f"t{n}", unspent=n * USD) for n in range(9)), tenants_max=2)
    assert [line for line in lines if "remaining" in line] == [
        'jeton_budget_remaining_usd{tenant="t0"} 0.0',
        'jeton_budget_remaining_usd{tenant="t1"} 1.0',
        'jeton_budget_remaining_usd{tenant="other"} 2.0',
    ]
    assert len(shown(*(account("red", f"k{n}") for n in range(2000)))) == 500
