"""From the configuration to the fleet's nouns: backends with their replicas, engine profiles, the prices of a day.

The configuration has been checked by then (`config_checks/`); nothing is refused here.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from router.config import RouterConfig
from router.config.fleet import BackendConfig, DiscoveryConfig, PoolConfig, ReplicaConfig
from router.config.profiles import ModelProfileConfig, ProfileConfig
from router.config.tenants import ApiKeyConfig, BudgetConfig, TenantConfig
from router.domain.budget import Budget, Degrade
from router.domain.fleet import Backend, Pool, Preemption, Replica, ScaleToZero
from router.domain.money import nanousd_from_usd
from router.domain.request import ASSUMED, Capability
from router.pricing.book import Price, PriceBook, PriceMissing
from router.pricing.feed import FedPrice
from router.pricing.profile import EngineProfile, Speculation, roofline_profile
from router.profiles import shipped


class KeyFile(NamedTuple):
    """What stands in a file that holds an API key; problem: why there is none, else "". path: absolute."""

    path: str
    key: str = ""
    problem: str = ""

    def __repr__(self) -> str:  # a key must not reach a log through a repr
        return f"KeyFile(path={self.path!r})"


def build_fleet(
    config: RouterConfig,
    environ: Mapping[str, str],
    key_files: Mapping[Path, KeyFile] = MappingProxyType({}),
    able: Mapping[str, frozenset[Capability]] = MappingProxyType({}),
    billed_to_the_end: Collection[str] = (),
) -> tuple[Backend, ...]:
    """Every backend, in the file's order. Replicas' API keys are taken from `environ`, or from `key_files` by the path that
    the configuration gives; KeyError when one is missing. able: what a provider can do, by backend. billed_to_the_end: backends
    whose providers bill answers that nobody waits for."""
    return tuple(
        Backend(
            name=backend.name,
            pool=_pool(pool),
            model=backend.model,
            served_model=backend.served_model or backend.model,
            tier=backend.tier,
            quantization=backend.quantization,
            engine=backend.engine,
            context_tokens=backend.context_tokens,
            capabilities=_capabilities(backend, able.get(backend.name)),
            price=backend.price,
            profile=backend.profile or "",
            replicas=tuple(
                _replica(backend, position, environ, key_files) for position in range(len(backend.replicas))
            ),
            completion_tokens_max=backend.completion_tokens_max or 0,
            dedicated_to=frozenset(backend.dedicated_to),
            provider=backend.provider.name if backend.provider is not None else "",
            scale_to_zero=None if (sleep := backend.scale_to_zero) is None else ScaleToZero(**sleep.model_dump()),
            preemption=None if (taken := backend.preemption) is None else Preemption(**taken.model_dump()),
            reads_on=_reads_on(backend, billed_to_the_end),
            quality_ratio=backend.quality_ratio,
        )
        for pool in config.pools
        for backend in pool.backends
    )


def _reads_on(backend: BackendConfig, billed_to_the_end: Collection[str]) -> bool:
    if backend.when_client_leaves is None:
        return backend.name in billed_to_the_end
    return backend.when_client_leaves == "read_on"


def _pool(pool: PoolConfig) -> Pool:
    return Pool(
        pool.name,
        pool.kind,
        pool.billing,
        pool.region,
        pool.rtt_seconds,
        tuple(pool.rtt_seconds_from.items()),
        pool.region if pool.residency is None else pool.residency,
        nanousd_from_usd(pool.egress_usd_per_gb),
    )


@dataclass(frozen=True, slots=True)
class DiscoveryTerms:
    """How a backend's replicas are found. folder: that files are relative to."""

    config: DiscoveryConfig
    api_key: str | None
    folder: Path


def build_discoveries(config: RouterConfig, environ: Mapping[str, str], folder: Path) -> dict[str, DiscoveryTerms]:
    """By backend, of those whose replicas are not listed. KeyError when an API key is missing in `environ`."""
    return {
        backend.name: DiscoveryTerms(one, environ[one.api_key_env] if one.api_key_env else None, folder)
        for pool in config.pools
        for backend in pool.backends
        if (one := backend.discovery) is not None
    }


def build_profiles(config: RouterConfig) -> dict[str, EngineProfile]:
    """Engine profiles by name: the file's own, and those that come with jeton and are named by a backend."""
    profiles = {name: build_profile(profile) for name, profile in config.profiles.items()}
    named = {backend.profile for pool in config.pools for backend in pool.backends if backend.profile}
    return profiles | {name: shipped().named(name) for name in sorted(named - profiles.keys())}


def build_profile(profile: ProfileConfig | ModelProfileConfig) -> EngineProfile:
    """ValueError when a model's weights do not fit its GPU's memory or its quantization is unknown; LookupError for a model or
    a GPU that jeton does not know."""
    if isinstance(profile, ProfileConfig):
        return roofline_profile(**profile.model_dump())
    catalogue = shipped()
    deployment = catalogue.deployment(profile.model, profile.gpu, profile.quantization, profile.gpus)
    limits = profile.model_dump(include={"chunk_tokens", "sequences_max", "sequences_target"}, exclude_none=True)
    built = catalogue.profile(deployment, **limits)
    if profile.kv_capacity_tokens is not None:
        built = built.model_copy(update={"kv_capacity_tokens": profile.kv_capacity_tokens})
    if profile.speculation is not None:
        built = built.model_copy(update={"speculation": Speculation(**profile.speculation.model_dump())})
    return built


def build_prices(
    config: RouterConfig, book: PriceBook, day: date, fed: Callable[[str], FedPrice | None] = lambda name: None
) -> dict[str, Price]:
    """The price in force on a day, by backend, without those that have none. fed: what a feed has told of a price."""
    prices = {}
    for pool in config.pools:
        for backend in pool.backends:
            with suppress(PriceMissing):
                prices[backend.name] = book.in_force(backend.price, day, fed(backend.price))
    return prices


def build_budgets(config: RouterConfig) -> tuple[Budget, ...]:
    """Every budget, a tenant's own before those of its keys."""
    return tuple(
        _budget(budget, tenant, api_key)
        for tenant in config.tenants
        for api_key in (None, *tenant.api_keys)
        for budget in (tenant if api_key is None else api_key).budgets
    )


def _budget(budget: BudgetConfig, tenant: TenantConfig, api_key: ApiKeyConfig | None) -> Budget:
    degrade = budget.degrade
    return Budget(
        tenant=tenant.name,
        api_key_name="" if api_key is None else api_key.name,
        period=budget.per,
        limit_nanousd=nanousd_from_usd(budget.usd),
        degrade=None if degrade is None else Degrade(degrade.at_ratio, degrade.tiers, degrade.pools),
    )


def replica_id(backend: BackendConfig, position: int) -> str:
    """The name of a backend's replica everywhere: the configured one, else `<backend>/<n>`, n from 1."""
    return backend.replicas[position].name or f"{backend.name}/{position + 1}"


def _capabilities(backend: BackendConfig, able: frozenset[Capability] | None) -> frozenset[Capability]:
    """What is configured, and what is taken for granted, as far as the provider can do it."""
    claimed = ASSUMED.union(backend.capabilities)
    return claimed if able is None else claimed & able


def _replica(
    backend: BackendConfig, position: int, environ: Mapping[str, str], key_files: Mapping[Path, KeyFile]
) -> Replica:
    replica: ReplicaConfig = backend.replicas[position]
    api_key = environ[replica.api_key_env] if replica.api_key_env else None
    api_key_file = ""
    if replica.api_key_file is not None:
        key_file = key_files[replica.api_key_file]
        api_key, api_key_file = key_file.key, key_file.path
    return Replica(
        replica_id(backend, position), backend.name, replica.url.rstrip("/"), api_key, api_key_file=api_key_file
    )
