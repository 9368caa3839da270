"""Where a tenant's requests may go, whatever they ask for: its own pools, the places its data may be in, its own replicas."""

from router.domain.fleet import Backend
from router.domain.immutable import immutable


@immutable
class Tenancy:
    """pools, residencies: empty means every one. is_isolated: only backends that serve nobody else. region: of its clients."""

    tenant: str
    pools: frozenset[str] = frozenset()
    residencies: frozenset[str] = frozenset()
    is_isolated: bool = False
    region: str = ""


def why_not_for(tenancy: Tenancy | None, backend: Backend) -> str:
    """For people, why the tenant's requests may not go there; "" when they may. Names no other tenant."""
    pool = backend.pool
    if backend.dedicated_to and (tenancy is None or tenancy.tenant not in backend.dedicated_to):
        return "dedicated to other tenants"
    if tenancy is None:
        return ""
    if tenancy.is_isolated and not backend.dedicated_to:
        return "shared with other tenants, and this one is isolated"
    if tenancy.pools and pool.name not in tenancy.pools:
        return f"the pool {pool.name} is not open to this tenant"
    if tenancy.residencies and pool.residency not in tenancy.residencies:
        where = pool.residency or "an undeclared place"
        return f"data would be in {where}, and may only be in {', '.join(sorted(tenancy.residencies))}"
    return ""
