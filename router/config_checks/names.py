"""Names that are given twice, or hide what has the same name elsewhere."""

from collections.abc import Iterator

from router.config.tenants import ApiKeyConfig
from router.config_checks.reading import Reading, refuse_repeated
from router.config_source import Finding, Place
from router.domain.attempt import OTHER, SHADOW_TENANT
from router.domain.fleet import CACHE

# What a tenant may not be called, and whose name it is.
NO_TENANTS = {
    SHADOW_TENANT: "shadows of requests are booked",
    OTHER: "metrics count tenants that they have no room for",
}


def check_names(reading: Reading) -> Iterator[Finding]:
    tenants = [(("tenants", position), tenant) for position, tenant in enumerate(reading.config.tenants)]
    keys: list[tuple[Place, str, ApiKeyConfig]] = [
        ((*place, "api_keys", position), tenant.name, key)
        for place, tenant in tenants
        for position, key in enumerate(tenant.api_keys)
    ]
    yield from refuse_repeated(reading, "pool", ((pool.name, (*place, "name")) for place, pool in reading.pools()))
    yield from refuse_repeated(
        reading, "backend", ((backend.name, (*place, "name")) for place, _, backend in reading.backends())
    )
    yield from refuse_repeated(reading, "tenant", ((tenant.name, (*place, "name")) for place, tenant in tenants))
    yield from refuse_repeated(reading, "tier", ((tier, ("tiers", n)) for n, tier in enumerate(reading.config.tiers)))
    if reading.config.admin is not None:
        admin: Place = ("admin", "api_keys")
        keys += [((*admin, position), "", key) for position, key in enumerate(reading.config.admin.api_keys)]
    for tenant_name in {tenant for _, tenant, _ in keys}:
        own = ((key.name, (*place, "name")) for place, tenant, key in keys if tenant == tenant_name)
        whose = f"API key of tenant `{tenant_name}`" if tenant_name else "admin's API key"
        yield from refuse_repeated(reading, whose, own)
    seen: dict[str, str] = {}
    for place, tenant_name, key in keys:
        if key.hash in seen:
            what = f"the API key `{key.name}` has the hash of `{seen[key.hash]}`: it is the same key"
            yield reading.source.finding((*place, "hash"), what, "make a key of its own with `jeton key`")
        seen.setdefault(key.hash, f"{tenant_name or 'admin'}/{key.name}")


def check_name_of_the_cache(reading: Reading) -> Iterator[Finding]:
    for place, kind, name in (
        *(((*place, "name"), "pool", pool.name) for place, pool in reading.pools()),
        *(((*place, "name"), "backend", backend.name) for place, _, backend in reading.backends()),
    ):
        if name == CACHE:
            what = f"the {kind} `{CACHE}` has the name under which answers from the response cache are booked"
            yield reading.source.finding(place, what, "give it another name")


def check_names_of_tenants(reading: Reading) -> Iterator[Finding]:
    for position, tenant in enumerate(reading.config.tenants):
        if (taken := NO_TENANTS.get(tenant.name)) is not None:
            what = f"the tenant `{tenant.name}` has the name under which {taken}"
            yield reading.source.finding(("tenants", position, "name"), what, "give it another name")


def hidden_models(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        others = [
            other.name for _, _, other in reading.backends() if other is not backend and other.model == backend.name
        ]
        if others:
            what = f"who asks for the model `{backend.name}` gets the backend of that name, never {', '.join(others)}"
            yield reading.source.finding((*place, "name"), what, "give the backend a name that no model has")
