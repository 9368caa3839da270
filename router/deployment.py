"""What one configuration amounts to, ready for use: an immutable value that a reload swaps and a request keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from router.pricing.feed import FedPrice
from router.pricing.price import Price
from router.pricing.profile import EngineProfile
from router.selection.candidates import Finder
from router.selection.holdout import Holdout
from router.selection.lessons import Lessons
from router.selection.scope import Scopes
from router.selection.shadow import Shadow
from router.selection.tenancy import Tenancy
from router.selection.terms import Shedding
from router.selection.timetable import Timetable
from router.wire.constraints import ConstraintBounds, Constraints
from router.wire.media import MediaRules
from router.wire.parse import Bounds
from router.wire.prefix import marks_secret


@dataclass(frozen=True, slots=True)
class Deployment:
    """prices, profiles and providers by backend's name; a backend without one is not in it. tenancies: of the tenants that have
    rules of their own. marks_secret: what marks along prompts are keyed with."""

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
    marks_secret: bytes = field(repr=False)
    baseline: str
    holdout: Holdout
    shadow: Shadow
    shadows_at_once_max: int
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
    lessons: Lessons | None = None,
    fed: Callable[[str], FedPrice | None] = lambda name: None,
) -> Deployment:
    """From checked files to a deployment, with the prices in force on `day`.

    lessons: what was learned before it. fed: what a feed has told of a price.
    """
    config, pepper = loaded.config, loaded.secrets.pepper.get_secret_value().encode()
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
        api_keys=ApiKeys(config.tenants, pepper),
        scopes=Scopes(config.aliases, loaded.backends),
        backends=loaded.backends,
        tiers=config.tiers,
        finder=Finder(
            tiers=config.tiers,
            prices=prices,
            profiles=loaded.profiles,
            stale_seconds=config.health.stale_seconds,
            lessons=lessons,
            seats_max=config.replicas_considered,
        ),
        prices=prices,
        profiles={backend.name: loaded.profiles[backend.profile] for backend in loaded.backends if backend.profile},
        providers=loaded.providers,
        policies=loaded.policies,
        tenancies=tenancies(config),
        shedding=Shedding(config.shedding.sheddable_wait_seconds, config.shedding.standard_wait_seconds),
        follows_prefixes=config.prefix_affinity and sum(len(one.replicas) for one in loaded.backends) > 1,
        marks_secret=marks_secret(pepper),
        baseline=config.baseline,
        holdout=Holdout(config.baseline, config.holdout_ratio),
        shadow=Shadow(config.shadow.ratio, config.shadow.backends),
        shadows_at_once_max=config.shadow.at_once_max,
        aliases=tuple(config.aliases),
        tenants=tuple(tenant.name for tenant in config.tenants),
    )


def tenancies(config: RouterConfig) -> dict[str, Tenancy]:
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
