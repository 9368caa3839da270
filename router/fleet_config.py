"""From the configuration to the fleet's nouns: backends with their replicas, engine profiles, the prices of a day.

The configuration has been checked by then (`config_checks.py`); nothing is refused here.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from router.config import (
    ApiKeyConfig,
    BackendConfig,
    BudgetConfig,
    DiscoveryConfig,
    ModelProfileConfig,
    ProfileConfig,
    ReplicaConfig,
    RouterConfig,
    TenantConfig,
)
from router.domain.budget import Budget, Degrade
from router.domain.fleet import Backend, Pool, Replica
from router.domain.money import nanousd_from_usd
from router.pricing.book import Price, PriceBook, PriceMissing
from router.pricing.feed import FedPrice
from router.pricing.profile import EngineProfile, Speculation, roofline_profile
from router.profiles import shipped


def build_fleet(config: RouterConfig, environ: Mapping[str, str]) -> tuple[Backend, ...]:
    """Every backend, in the file's order. Replicas' API keys are read from `environ`; KeyError when one is missing."""
    return tuple(
        Backend(
            name=backend.name,
            pool=Pool(pool.name, pool.kind, pool.billing, pool.region, pool.rtt_seconds),
            model=backend.model,
            served_model=backend.served_model or backend.model,
            tier=backend.tier,
            quantization=backend.quantization,
            engine=backend.engine,
            context_tokens=backend.context_tokens,
            capabilities=frozenset(backend.capabilities),
            price=backend.price,
            profile=backend.profile or "",
            replicas=tuple(_replica(backend, position, environ) for position in range(len(backend.replicas))),
            completion_tokens_max=backend.completion_tokens_max or 0,
        )
        for pool in config.pools
        for backend in pool.backends
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


def _replica(backend: BackendConfig, position: int, environ: Mapping[str, str]) -> Replica:
    replica: ReplicaConfig = backend.replicas[position]
    api_key = environ[replica.api_key_env] if replica.api_key_env else None
    return Replica(replica_id(backend, position), backend.name, replica.url.rstrip("/"), api_key)
