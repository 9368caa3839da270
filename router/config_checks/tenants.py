"""Tenants: what they may ask for, where their requests may go, and what their budgets come to."""

from collections.abc import Iterator

from router.config.routing import AliasConfig
from router.config.tenants import BudgetConfig, DegradeConfig
from router.config_checks.reading import Reading, refuse_unknown
from router.config_checks.routing import serves
from router.config_shape import nearest_name
from router.config_source import Finding, Place


def check_models_of_tenants(reading: Reading) -> Iterator[Finding]:
    known = {*reading.config.aliases, *reading.backend_names(), *reading.model_names()}
    for number, tenant in enumerate(reading.config.tenants):
        for position, model in enumerate(tenant.models):
            place: Place = ("tenants", number, "models", position)
            yield from refuse_unknown(reading, place, "alias, backend or model", model, known)


def check_tenancies(reading: Reading) -> Iterator[Finding]:
    """Where tenants may go: pools that are there, data where there is capacity, replicas that are dedicated to them."""
    tenants = [tenant.name for tenant in reading.config.tenants]
    pools = [pool.name for pool in reading.config.pools]
    residencies = {pool.region if pool.residency is None else pool.residency for pool in reading.config.pools} - {""}
    dedicated: set[str] = set()
    for place, _, backend in reading.backends():
        dedicated.update(backend.dedicated_to)
        for position, name in enumerate(backend.dedicated_to):
            yield from refuse_unknown(reading, (*place, "dedicated_to", position), "tenant", name, tenants)
    for number, tenant in enumerate(reading.config.tenants):
        at: Place = ("tenants", number)
        for position, name in enumerate(tenant.pools):
            yield from refuse_unknown(reading, (*at, "pools", position), "pool", name, pools)
        for position, name in enumerate(tenant.residency):
            if name not in residencies:
                what = f"no pool processes data in `{name}`"
                yield reading.source.finding((*at, "residency", position), what, nearest_name(name, residencies))
        if tenant.isolation == "dedicated" and tenant.name not in dedicated:
            what = f"the tenant `{tenant.name}` is isolated, but no backend is dedicated to it"
            remedy = f"say `dedicated_to: [{tenant.name}]` of a backend, or take the isolation out"
            yield reading.source.finding((*at, "isolation"), what, remedy)


def check_budgets(reading: Reading) -> Iterator[Finding]:
    for place, budgets, _ in _budget_lists(reading):
        periods: set[str] = set()
        for position, budget in enumerate(budgets):
            at: Place = (*place, position)
            if budget.per in periods:
                what = (
                    f"there is another budget {'in total' if budget.per == 'total' else f'a {budget.per.value}'} here"
                )
                yield reading.source.finding((*at, "per"), what, "keep the smaller of them: it is the one that counts")
            periods.add(budget.per)
            if budget.degrade is not None:
                yield from _degrade(reading, (*at, "degrade"), budget.degrade)


def budgets_never_reached(reading: Reading) -> Iterator[Finding]:
    for place, budgets, around in _budget_lists(reading):
        for position, budget in enumerate(budgets):
            if any(other.per == budget.per and other.usd <= budget.usd for other in around):
                what = "the key's budget is never reached: its tenant's own for the same period is not larger"
                yield reading.source.finding((*place, position, "usd"), what, "make it smaller, or take it out")


def nobody_may_ask(reading: Reading) -> Iterator[Finding]:
    if not any(tenant.api_keys for tenant in reading.config.tenants):
        what = "no tenant has an API key: every request will be refused with 401"
        yield reading.source.finding(("tenants",), what, "make one with `jeton key`", at_member=True)


def _degrade(reading: Reading, place: Place, degrade: DegradeConfig) -> Iterator[Finding]:
    if not degrade.tiers and not degrade.pools:
        remedy = "name the `tiers` or `pools` to which requests go, or take it out"
        yield reading.source.finding(place, "`degrade` restricts nothing", remedy, at_member=True)
        return
    pools = [pool.name for pool in reading.config.pools]
    unknown = [
        finding
        for member, kind, wanted, known in (
            ("tiers", "tier", degrade.tiers, reading.config.tiers),
            ("pools", "pool", degrade.pools, pools),
        )
        for position, name in enumerate(wanted)
        for finding in refuse_unknown(reading, (*place, member, position), kind, name, known)
    ]
    yield from unknown
    target = AliasConfig(tiers=degrade.tiers, pools=degrade.pools)
    if not unknown and not any(serves(target, pool, backend) for _, pool, backend in reading.backends()):
        what = "no backend is in the tiers and pools to which `degrade` restricts"
        yield reading.source.finding(place, what, "take out one of its restrictions", at_member=True)


def _budget_lists(reading: Reading) -> Iterator[tuple[Place, tuple[BudgetConfig, ...], tuple[BudgetConfig, ...]]]:
    """Every list of budgets: where it stands, its own, and those of the tenant around it (for a key's)."""
    for number, tenant in enumerate(reading.config.tenants):
        yield ("tenants", number, "budgets"), tenant.budgets, ()
        for position, api_key in enumerate(tenant.api_keys):
            yield ("tenants", number, "api_keys", position, "budgets"), api_key.budgets, tenant.budgets
