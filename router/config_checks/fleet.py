"""Pools, backends and replicas: addresses at which an engine can be, tiers, providers and what they can do."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from router.config_checks.reading import Reading, refuse_repeated, refuse_unknown
from router.config_shape import nearest_name
from router.config_source import Finding, Place
from router.domain.fleet import Billing, EngineKind
from router.domain.request import ASSUMED
from router.fleet_config import replica_id


def check_replicas(reading: Reading) -> Iterator[Finding]:
    ids: list[tuple[str, Place]] = []
    leased_at: dict[tuple[str, str, int, str], str] = {}
    for place, pool, backend in reading.backends():
        own: set[tuple[str, str, int, str]] = set()
        for position, replica in enumerate(backend.replicas):
            at = (*place, "replicas", position)
            ids.append((replica_id(backend, position), (*at, "name")))
            address = _address(replica.url)
            if isinstance(address, str):
                yield reading.source.finding(
                    (*at, "url"), f"`{replica.url}` {address}", "give the address of the engine"
                )
                continue
            if address[3].endswith("/v1"):
                what = f"`{replica.url}` ends in /v1, which jeton adds itself"
                yield reading.source.finding((*at, "url"), what, f"write {replica.url.rstrip('/')[:-3]}")
            elsewhere = leased_at.get(address) if pool.billing is Billing.LEASED else None
            if address in own or elsewhere:
                what = f"`{replica.url}` is a replica of `{elsewhere or backend.name}` already"
                yield reading.source.finding(
                    (*at, "url"), what, "remove one of them: it would be counted and paid twice"
                )
            own.add(address)
            if pool.billing is Billing.LEASED:
                leased_at.setdefault(address, backend.name)
    yield from refuse_repeated(reading, "replica", ids)


def check_tiers(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        yield from refuse_unknown(reading, (*place, "tier"), "tier", backend.tier, reading.config.tiers)


def check_providers(reading: Reading) -> Iterator[Finding]:
    for place, pool, backend in reading.backends():
        if backend.provider is None:
            continue
        name = backend.provider.name
        if backend.engine is not EngineKind.OPENAI:
            what = f"`{backend.name}` has a provider, so it is not {backend.engine.value}"
            yield reading.source.finding((*place, "engine"), what, "remove `engine`")
        if pool.billing is not Billing.METERED:
            what = f"the provider `{name}` is paid by the token, but the pool `{pool.name}` is {pool.billing.value}"
            yield reading.source.finding((*place, "provider"), what, "move the backend to a metered pool")
        provided = reading.providers.get(backend.name)
        if provided is None:
            continue
        if "capabilities" in backend.model_fields_set:
            for position, capability in enumerate(backend.capabilities):
                if capability not in provided.capabilities:
                    what = f"the provider `{name}` cannot be asked for `{capability}`"
                    remedy = f"remove it; it can do {', '.join(sorted(provided.capabilities - ASSUMED))}"
                    yield reading.source.finding((*place, "capabilities", position), what, remedy)
        if provided.needs_completion_tokens_max and backend.completion_tokens_max is None:
            what = f"the provider `{name}` wants a bound for every completion, and clients need not give one"
            remedy = "add `completion_tokens_max: …`, what the model can write at most"
            yield reading.source.finding(place, what, remedy)
        for position, replica in enumerate(backend.replicas):
            if provided.needs_api_key and replica.api_key_env is None and replica.api_key_file is None:
                what = f"the provider `{name}` wants an API key, and this replica of `{backend.name}` has none"
                remedy = "add `api_key_env: …` or `api_key_file: …`"
                yield reading.source.finding((*place, "replicas", position), what, remedy)


def check_leaving(reading: Reading) -> Iterator[Finding]:
    for place, pool, backend in reading.backends():
        if backend.when_client_leaves == "read_on" and pool.billing is Billing.LEASED:
            what = f"`{backend.name}` is leased: its time is paid whoever waits, and another client can use it"
            yield reading.source.finding(
                (*place, "when_client_leaves"), what, "remove it: the engine is stopped at once"
            )


def check_carbon(reading: Reading) -> Iterator[Finding]:
    regions = [pool.region for _, pool in reading.pools() if pool.region]
    for region in reading.config.carbon_grams_per_kwh:
        if region not in regions:
            what = f"no pool is in the region `{region}`"
            yield reading.source.finding(
                ("carbon_grams_per_kwh", region), what, nearest_name(region, regions), at_member=True
            )


def _address(url: str) -> tuple[str, str, int, str] | str:
    """Scheme, host, port and path, so that two spellings of one address are equal; or why nothing can be there."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not an address (is the port between 1 and 65535?)"
    if port == 0 or not host:
        return "has no port that can be connected to" if host else "has no host"
    try:
        ip = ip_address(host)
    except ValueError:
        pass  # a name; whether it resolves is the network's business, and may change
    else:
        if ip.is_unspecified or ip.is_multicast or ip.is_link_local:
            return "is not the address of a server"
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
