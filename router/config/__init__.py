"""The shape of router.yaml, whole; each of its sections has a file here. Nothing unknown is accepted; secrets come from the
environment, never from the file.

Reading the file, naming the line of a mistake and checking it against prices and policies is `config_file.py`'s.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from router.config.fleet import PoolConfig
from router.config.profiles import AnyProfileConfig
from router.config.routing import AliasConfig, PolicyConfig, PolicyRuleConfig, ShadowConfig, SheddingConfig
from router.config.section import Shape
from router.config.server import AdminConfig, LogConfig, MediaConfig, ServerConfig
from router.config.stores import CacheConfig, LedgerConfig, RedisConfig, RepeatsConfig
from router.config.tenants import TenantConfig
from router.config.upstream import HealthConfig, ReadOnConfig, RetryConfig, TimeoutsConfig

CarbonGrams = Annotated[Decimal, Field(ge=0, le=5000)]


class Secrets(BaseModel, frozen=True):
    """Read from the environment alone. pepper: `JETON_API_KEY_PEPPER`, mixed into every API-key hash."""

    pepper: SecretStr = SecretStr("")
    redis_password: SecretStr = SecretStr("")
    ledger_password: SecretStr = SecretStr("")


class RouterConfig(Shape):
    """router.yaml, whole."""

    server: ServerConfig = ServerConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retries: RetryConfig = RetryConfig()
    read_on: ReadOnConfig = ReadOnConfig()
    health: HealthConfig = HealthConfig()
    policy: PolicyConfig = PolicyConfig()
    policies: tuple[PolicyRuleConfig, ...] = Field(
        default=(), description="for some requests, in the place of `policy`"
    )
    shedding: SheddingConfig = SheddingConfig()
    prefix_affinity: bool = Field(
        default=True, description="remember which replica's prefix cache holds what, where there is a choice"
    )
    replicas_considered: int = Field(
        default=64,
        ge=2,
        description="of one backend, for one request; where it has more, those that hold its prefix, and others by chance",
    )
    baseline: str = Field(description="the backend that savings are measured against")
    holdout_ratio: float = Field(
        default=0.0, ge=0, le=0.5, description="share of `auto` sent to the baseline, to measure"
    )
    shadow: ShadowConfig = ShadowConfig()
    carbon_grams_per_kwh: dict[str, CarbonGrams] = Field(default={}, description="of electricity, by a pool's region")
    tiers: tuple[str, ...] = Field(default=("small", "large"), min_length=1, description="weakest first")
    prices: Path = Field(default=Path("prices.yaml"), description="the price book, beside this file unless absolute")
    classifier: Path | None = Field(
        default=None,
        description="what `jeton train` wrote, beside this file unless absolute; left out: the one that comes with jeton",
    )
    aliases: dict[str, AliasConfig] = Field(
        default={"auto": AliasConfig()},
        description="names that clients may ask for, besides those of models and backends",
    )
    tenants: tuple[TenantConfig, ...] = ()
    profiles: dict[str, AnyProfileConfig] = Field(
        default={}, description="what an engine can do, by a name of your own"
    )
    pools: tuple[PoolConfig, ...] = Field(min_length=1)
    ledger: LedgerConfig = LedgerConfig()
    redis: RedisConfig | None = None
    repeats: RepeatsConfig = RepeatsConfig()
    media: MediaConfig = MediaConfig()
    admin: AdminConfig | None = None
    cache: CacheConfig | None = None
    log: LogConfig = LogConfig()
