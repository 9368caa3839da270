"""What one configuration amounts to, ready for use: an immutable value that a reload swaps and a request keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from router.access.keys import ApiKeys
from router.config import RouterConfig
from router.config.server import MediaConfig, ServerConfig
from router.config.upstream import ReadOnConfig, RetryConfig
from router.config_file import LoadedConfig
from router.dispatch.provider import Provider
from router.dispatch.relay import Patience
from router.domain.fleet import Backend
from router.fleet.health import HealthRules
from router.fleet_config import build_prices
from router.pricing.drift import Drifts
from router.pricing.feed import FedPrice
from router.pricing.price import Price
from router.pricing.profile import EngineProfile
from router.selection.affinity import PrefixIndex
from router.selection.candidates import Finder
from router.selection.experience import Experiences
from router.selection.holdout import Holdout
from router.selection.scope import Scopes
from router.selection.sleep import Sleepers
from router.selection.tenancy import Tenancy
from router.selection.terms import Shedding
from router.selection.timetable import Timetable
from router.wire.constraints import ConstraintBounds, Constraints
from router.wire.media import MediaRules
from router.wire.parse import Bounds


@dataclass(frozen=True, slots=True)
class Deployment:
    """prices, profiles and providers by backend's name; a backend without one is not in it. tenancies: of the tenants that have
    rules of their own."""

    server: ServerConfig
    retries: RetryConfig
    read_on: ReadOnConfig
    bounds: Bounds
    patience: Patience
    total_seconds: float
    rules: HealthRules
    api_keys: ApiKeys
    scopes: Scopes
    backends: tuple[Backend, ...]
    tiers: tuple[str, ...]
    finder: Finder
    prices: Mapping[str, Price]
    profiles: Mapping[str, EngineProfile]
    providers: Mapping[str, Provider]
    policies: Timetable
    tenancies: Mapping[str, Tenancy]
    shedding: Shedding
    follows_prefixes: bool
    baseline: str
    holdout: Holdout
    aliases: tuple[str, ...]
    tenants: tuple[str, ...]


def _bounds(server: ServerConfig, media: MediaConfig) -> Bounds:
    constraints = ConstraintBounds(
        server.schema_bytes_max,
        server.schema_depth_max,
        server.pattern_bytes_max,
        server.pattern_nesting_max,
        server.pattern_states_max,
    )
    return Bounds(
        server.completion_tokens_max, server.choices_max, Constraints(constraints), MediaRules(frozenset(media.domains))
    )


def deploy(
    loaded: LoadedConfig,
    day: date,
    drifts: Drifts | None = None,
    fed: Callable[[str], FedPrice | None] = lambda name: None,
    prefixes: PrefixIndex | None = None,
    sleepers: Sleepers | None = None,
    experiences: Experiences | None = None,
) -> Deployment:
    """From checked files to a deployment, with the prices in force on `day`.

    drifts, prefixes, sleepers, experiences: what was learned before it. fed: what a feed has told of a price.
    """
    config = loaded.config
    prices = build_prices(config, loaded.book, day, fed)
    return Deployment(
        server=config.server,
        retries=config.retries,
        read_on=config.read_on,
        bounds=_bounds(config.server, config.media),
        patience=Patience(
            config.timeouts.connect_seconds, config.timeouts.first_byte_seconds, config.timeouts.chunk_seconds
        ),
        total_seconds=config.timeouts.total_seconds,
        rules=HealthRules(
            config.health.failures_to_eject, config.health.ejection_seconds, config.health.cooldown_seconds_max
        ),
        api_keys=ApiKeys(config.tenants, loaded.secrets.pepper.get_secret_value().encode()),
        scopes=Scopes(config.aliases, loaded.backends),
        backends=loaded.backends,
        tiers=config.tiers,
        finder=Finder(
            tiers=config.tiers,
            prices=prices,
            profiles=loaded.profiles,
            stale_seconds=config.health.stale_seconds,
            drifts=drifts,
            prefixes=prefixes,
            sleepers=sleepers,
            experiences=experiences,
            seats_max=config.replicas_considered,
        ),
        prices=prices,
        profiles={backend.name: loaded.profiles[backend.profile] for backend in loaded.backends if backend.profile},
        providers=loaded.providers,
        policies=loaded.policies,
        tenancies=_tenancies(config),
        shedding=Shedding(config.shedding.sheddable_wait_seconds, config.shedding.standard_wait_seconds),
        follows_prefixes=config.prefix_affinity and sum(len(one.replicas) for one in loaded.backends) > 1,
        baseline=config.baseline,
        holdout=Holdout(config.baseline, config.holdout_ratio),
        aliases=tuple(config.aliases),
        tenants=tuple(tenant.name for tenant in config.tenants),
    )


def _tenancies(config: RouterConfig) -> dict[str, Tenancy]:
    """A tenant that may go everywhere has none, unless somebody's backends are dedicated."""
    has_dedicated = any(backend.dedicated_to for pool in config.pools for backend in pool.backends)
    return {
        tenant.name: Tenancy(
            tenant.name,
            frozenset(tenant.pools),
            frozenset(tenant.residency),
            tenant.isolation == "dedicated",
            tenant.region,
        )
        for tenant in config.tenants
        if has_dedicated or tenant.pools or tenant.residency or tenant.isolation == "dedicated" or tenant.region
    }
