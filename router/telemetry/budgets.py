"""What is left of the budgets, read at every scrape from their books. Counted is nothing here: see `metrics.py`."""

from collections.abc import Collection, Iterable
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.domain.budget import Budget
from router.domain.money import NANOUSD_PER_USD
from router.telemetry.labels import Vocabulary

# A series for each budget: as many as have one; the configuration may have more keys than anybody wants series.
BUDGETS_MAX = 500


class Account(Protocol):
    """One budget's books, as they are now."""

    @property
    def budget(self) -> Budget: ...
    @property
    def unspent_nanousd(self) -> int: ...
    @property
    def used_ratio(self) -> float: ...


class Accounts(Protocol):
    @property
    def accounts(self) -> Collection[Account]: ...


class BudgetCollector(Collector):
    """tenants: those with series of their own; the others share one, which shows the scarcest of them."""

    def __init__(self, books: Accounts, tenants: Vocabulary) -> None:
        self._books = books
        self._tenants = tenants

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        remaining, used = families = self._families()
        scarcest: dict[str, int] = {}
        for account in list(self._books.accounts)[:BUDGETS_MAX]:
            budget, unspent_nanousd = account.budget, account.unspent_nanousd
            used.add_metric((budget.tenant, budget.api_key_name, budget.period.value), account.used_ratio)
            if not budget.api_key_name:
                tenant = self._tenants.fold(budget.tenant)
                scarcest[tenant] = min(unspent_nanousd, scarcest.get(tenant, unspent_nanousd))
        for tenant, unspent_nanousd in scarcest.items():
            remaining.add_metric((tenant,), unspent_nanousd / NANOUSD_PER_USD)
        return families

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "jeton_budget_remaining_usd",
                "Not spent yet of the scarcest of the tenant's budgets; negative where more was spent than that.",
                labels=("tenant",),
            ),
            GaugeMetricFamily(
                "jeton_budget_used_ratio",
                "Spent, or held for running requests, of each budget. api_key is empty for a tenant's own.",
                labels=("tenant", "api_key", "per"),
            ),
        )
