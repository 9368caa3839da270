"""The shape of router.yaml. Nothing unknown is accepted; secrets come from the environment, never from the file.

Reading the file, naming the line of a mistake and checking it against prices and policies is `config_file.py`'s.
"""

import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, SecretStr, Tag, field_validator, model_validator

from router.domain.budget import Period
from router.domain.fleet import Billing, EngineKind, PoolKind
from router.domain.request import Capability

NAME = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,99}$"
URL = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
REDIS_URL = r"^rediss?://[^\s/?#@]+(/[0-9]{1,4})?$"
# As libpq has it, with a user and without a password.
POSTGRES_URL = r"^postgres(ql)?://([^\s/?#@:]+@)?[^\s/?#@]*/[^\s/?#]+(\?[^\s#]*)?$"
HOST = r"^(\*|[a-z0-9_][a-z0-9._-]{0,252}|[0-9a-f:.]*:[0-9a-f:.]*)$"  # in lower case; an IPv6 address without brackets
DNS_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?$"
NAMESERVER = re.compile(r"([0-9.]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
ENVIRONMENT_NAME = r"^[A-Z][A-Z0-9_]*$"  # capitals only: a key put here by mistake rarely passes for a name
API_KEY_HASH = re.compile(r"hmac-sha256:[0-9a-f]{64}")


CarbonGrams = Annotated[Decimal, Field(ge=0, le=5000)]


class Shape(BaseModel):
    """What every section has in common: immutable, and no unknown member passes."""

    model_config = {"frozen": True, "extra": "forbid"}


class ServerConfig(Shape):
    """Where the data port listens and what it accepts. A header or body that does not arrive in time gets a 408."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    body_bytes_max: int = Field(default=32 * 2**20, gt=0)
    header_bytes_max: int = Field(default=64 * 2**10, gt=0)
    header_count_max: int = Field(default=200, gt=0)
    header_seconds: float = Field(default=5.0, gt=0)
    body_seconds: float = Field(default=10.0, gt=0, description="silence allowed while a body is on its way")
    write_seconds: float = Field(default=30.0, gt=0, description="how long a client may read nothing of an answer")
    drain_seconds: float = Field(default=30.0, ge=0, description="how long streams may go on after SIGTERM")
    streams_expected: int = Field(
        default=10_000, gt=0, description="at once; the limit on open files is raised at start so that they fit"
    )
    completion_tokens_max: int = Field(default=1_000_000, gt=0)
    choices_max: int = Field(default=128, gt=0)
    json_keys_max: int = Field(default=100_000, gt=0)
    schema_bytes_max: int = Field(
        default=256 * 2**10, gt=0, description="of each member that shapes an answer: `response_format`, `tools`, …"
    )
    schema_depth_max: int = Field(default=64, gt=0, le=1000, description="levels of JSON in it")
    pattern_bytes_max: int = Field(default=8 * 2**10, gt=0, description="of all patterns in such a member")
    pattern_nesting_max: int = Field(default=1, gt=0, description="repetitions of repetitions: `(a+)+` is 2")
    pattern_states_max: int = Field(default=10_000, gt=0, description="characters of a pattern, its counts written out")


class TimeoutsConfig(Shape):
    """Of upstream calls. total_seconds bounds an attempt whatever it does."""

    connect_seconds: float = Field(default=2.0, gt=0)
    first_byte_seconds: float = Field(
        default=60.0, gt=0, description="until the answer's status line (streams: its first event)"
    )
    chunk_seconds: float = Field(default=30.0, gt=0, description="silence allowed inside a stream")
    total_seconds: float = Field(default=3600.0, gt=0)


class RetryConfig(Shape):
    """Failover before the first byte. Retries in all ≤ ratio × requests + per_second: an outage is not multiplied."""

    attempts_max: int = Field(default=3, ge=1, le=10)
    budget_ratio: float = Field(default=0.2, ge=0)
    budget_per_second: float = Field(default=10.0, ge=0)


class HealthConfig(Shape):
    """Health checks, scrapes, and what takes a replica out.

    jitter_ratio spreads the checks; a scrape older than stale_seconds is not believed.
    """

    interval_seconds: float = Field(default=2.0, gt=0)
    timeout_seconds: float = Field(default=1.0, gt=0)
    jitter_ratio: float = Field(default=0.2, ge=0, le=1)
    stale_seconds: float = Field(default=10.0, gt=0)
    failures_to_eject: int = Field(default=5, ge=1)
    ejection_seconds: float = Field(default=30.0, gt=0)
    cooldown_seconds_max: float = Field(default=60.0, gt=0, description="cap on a backend's Retry-After")


class PolicyConfig(Shape):
    """name: a file in `policies/`. parameters: its own, checked by the policy itself."""

    name: str = "quality_floor"
    parameters: dict[str, Any] = {}


class PolicyRuleConfig(PolicyConfig):
    """Another policy for some requests; the first rule that covers a request decides, else `policy`.

    tenants, models: who asks, and for which name; empty means all. hours: `HH:MM-HH:MM` in UTC, over midnight where it ends
    before it starts. days: of `mon` to `sun`.
    """

    name: str
    tenants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    hours: str = ""
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()


class SheddingConfig(Shape):
    """How long requests may be forecast to wait for others' work before they are refused with 503, by their
    `x-jeton-criticality`. Critical ones are never refused."""

    sheddable_wait_seconds: float = Field(default=2.0, gt=0)
    standard_wait_seconds: float = Field(default=60.0, gt=0)


class AliasConfig(Shape):
    """A model name of your own. Empty lists do not restrict: `auto: {}` may go anywhere."""

    tiers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


class DegradeConfig(Shape):
    """From `at_ratio` of the budget on, requests go to these tiers and pools where one of them can serve them."""

    at_ratio: float = Field(default=0.8, gt=0, lt=1)
    tiers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()


class BudgetConfig(Shape):
    """What may be spent in a calendar day or month (UTC), or in all. Reached, requests are refused until it renews."""

    usd: Decimal = Field(gt=0, le=Decimal("9e9"), max_digits=19, decimal_places=9)
    per: Period
    degrade: DegradeConfig | None = None


class ApiKeyConfig(Shape):
    """hash: `hmac-sha256:` and 64 hex digits, as `jeton key` prints it. prefix: the first characters, for people."""

    name: str = Field(pattern=NAME)
    hash: str
    prefix: str = Field(default="", max_length=12)
    budgets: tuple[BudgetConfig, ...] = ()

    @field_validator("hash")
    @classmethod
    def _is_a_hash(cls, value: str) -> str:
        if API_KEY_HASH.fullmatch(value) is None:
            raise ValueError(
                "is not `hmac-sha256:` and 64 hex digits, so it may be a key in clear text; "
                "put the hash that `jeton key --hash` prints, and make a new key if this one was real"
            )
        return value


class TenantConfig(Shape):
    """Who pays. models: what it may ask for (empty: everything). budgets: of all its keys together.

    pools, residency: where its requests may go, and where its data may be; empty means everywhere. isolation: `dedicated` keeps
    it to backends that serve nobody else. region: where its clients are, for round trips.
    """

    name: str = Field(pattern=NAME)
    api_keys: tuple[ApiKeyConfig, ...] = ()
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = Field(default=None, gt=0)
    budgets: tuple[BudgetConfig, ...] = ()
    pools: tuple[str, ...] = ()
    residency: tuple[str, ...] = ()
    isolation: Literal["shared", "dedicated"] = "shared"
    region: str = ""


class ReplicaConfig(Shape):
    """One vLLM process or provider endpoint. url: scheme, host, port, and a path prefix if need be, without `/v1`."""

    url: str = Field(pattern=URL)
    name: str | None = Field(default=None, pattern=NAME)
    api_key_env: str | None = Field(
        default=None, pattern=ENVIRONMENT_NAME, description="environment variable that holds the replica's own API key"
    )
    api_key_file: Path | None = Field(
        default=None,
        description="file that holds it instead, beside router.yaml unless absolute; read again when it changes",
    )


class ProviderConfig(Shape):
    """name: a file in `dispatch/providers/`. parameters: its own, checked by the provider itself."""

    name: str
    parameters: dict[str, Any] = {}


def _provider_word(value: Any) -> Any:
    """`provider: groq` is short for `provider: {name: groq}`."""
    return {"name": value} if isinstance(value, str) else value


AnyProviderConfig = Annotated[ProviderConfig, BeforeValidator(_provider_word)]


class FoundReplicaConfig(Shape):
    """One replica in a file of `discovery`."""

    url: str = Field(pattern=URL)
    name: str | None = Field(default=None, pattern=NAME)


class KubernetesConfig(Shape):
    """A service, by its EndpointSlices. namespace: the pod's own when left out. port: a number, or a name in the slices; may be
    left out where there is one. server, token_file, ca_file: of the API server; inside of a cluster they are known."""

    service: str = Field(pattern=DNS_NAME)
    namespace: str | None = Field(default=None, pattern=DNS_NAME)
    port: int | str | None = Field(default=None)
    server: str | None = Field(default=None, pattern=URL)
    token_file: Path | None = None
    ca_file: Path | None = None


class DiscoveryConfig(Shape):
    """Where a backend's replicas are found: exactly one of file, dns and kubernetes. The file is relative to router.yaml.

    dns: a name whose addresses are replicas on `port`; without a port, its SRV records say both. grace_seconds: how long a
    replica that is no longer found stays; its lease ends then. api_key_env: the key of every replica that is found.
    """

    file: Path | None = None
    dns: str | None = Field(default=None, pattern=DNS_NAME)
    kubernetes: KubernetesConfig | None = None
    port: int | None = Field(default=None, gt=0, le=65535)
    scheme: Literal["http", "https"] = "http"
    nameservers: tuple[str, ...] = Field(default=(), description="host:port; the system's when empty")
    interval_seconds: float = Field(default=5.0, gt=0, le=3600, description="between two questions to DNS")
    grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    api_key_env: str | None = Field(default=None, pattern=ENVIRONMENT_NAME)

    @field_validator("nameservers")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if NAMESERVER.fullmatch(one) is None:
                raise ValueError(f"`{one}` is no address and port; write it as in 127.0.0.1:8600")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "DiscoveryConfig":
        named = [name for name in ("file", "dns", "kubernetes") if getattr(self, name) is not None]
        if len(named) != 1:
            what = "names no source" if not named else f"names {' and '.join(named)}"
            raise ValueError(f"{what}; give one of `file`, `dns` and `kubernetes`")
        useless = [name for name in ("port", "nameservers") if named != ["dns"] and name in self.model_fields_set]
        if useless:
            remedy = "put it under `kubernetes`" if (named, useless[0]) == (["kubernetes"], "port") else "remove it"
            raise ValueError(f"`{useless[0]}` is of `dns` alone; {remedy}")
        return self


class BackendConfig(Shape):
    """One model at one quantization and price. profile: for leased vLLM backends, a name in `profiles`, or of a measured
    engine that comes with jeton. provider: whose API it is, where not vLLM's or plainly OpenAI's; what that cannot do is
    taken from the capabilities. Its replicas are listed, or found by `discovery`."""

    name: str = Field(pattern=NAME)
    model: str = Field(pattern=NAME)
    served_model: str | None = None
    tier: str = Field(default="large", pattern=NAME)
    quantization: str = "bf16"
    engine: EngineKind = EngineKind.VLLM
    context_tokens: int = Field(gt=0)
    completion_tokens_max: int | None = Field(
        default=None, gt=0, description="what a completion may have at most, where that is less than the context"
    )
    capabilities: tuple[Capability, ...] = (
        Capability.CHAT,
        Capability.COMPLETIONS,
        Capability.RESPONSES,
        Capability.MESSAGES,
        Capability.TOKENIZE,
        Capability.TOOLS,
        Capability.JSON_SCHEMA,
        Capability.LOGPROBS,
    )
    price: str
    profile: str | None = None
    dedicated_to: tuple[str, ...] = Field(default=(), description="the tenants that it serves, and nobody else")
    provider: AnyProviderConfig | None = None
    replicas: tuple[ReplicaConfig, ...] = ()
    discovery: DiscoveryConfig | None = None

    @model_validator(mode="after")
    def _has_replicas(self) -> "BackendConfig":
        if not self.replicas and self.discovery is None:
            raise ValueError(
                "has no replicas; list them under `replicas`, or say under `discovery` where they are found"
            )
        if self.replicas and self.discovery is not None:
            raise ValueError("has both `replicas` and `discovery`; keep one")
        return self

    @model_validator(mode="before")
    @classmethod
    def _a_provider_is_no_vllm(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("provider") is not None:
            return {"engine": EngineKind.OPENAI.value, **value}
        return value


class PoolConfig(Shape):
    """Where capacity sits and how it is paid.

    rtt_seconds: of the network, from anywhere; rtt_seconds_from: from the regions of clients that it names. residency: where data
    is processed, `region` unless it says otherwise.
    """

    name: str = Field(pattern=NAME)
    kind: PoolKind
    billing: Billing
    region: str = ""
    rtt_seconds: float = Field(default=0.0, ge=0, le=5)
    rtt_seconds_from: dict[str, Annotated[float, Field(ge=0, le=5)]] = {}
    residency: str | None = None
    egress_usd_per_gb: Decimal = Field(
        default=Decimal(0), ge=0, le=1000, description="what the network asks for what leaves the pool; in quotes only"
    )
    backends: tuple[BackendConfig, ...] = Field(min_length=1)


class SpeculationConfig(Shape):
    """Speculative decoding, as `/metrics` of vLLM tells it: draft_tokens is `num_speculative_tokens`, acceptance_ratio the
    chance that a drafted token is right, given that those before it were, draft_seconds what drafting adds to a step."""

    draft_tokens: int = Field(gt=0, le=32)
    acceptance_ratio: float = Field(ge=0, le=1)
    draft_seconds: float = Field(default=0.0, ge=0)


class ProfileConfig(Shape):
    """An engine profile, from no more than the sheets' figures (see `pricing/profile.py` for the formulas)."""

    parameters_billion: float = Field(gt=0)
    active_parameters_billion: float | None = Field(default=None, gt=0)
    layers: int = Field(gt=0)
    kv_bytes_per_token: int = Field(gt=0)
    weight_bytes_per_parameter: float = Field(gt=0)
    memory_gb: float = Field(gt=0)
    bandwidth_gb_per_second: float = Field(gt=0)
    tflops: float = Field(gt=0)
    chunk_tokens: int = Field(default=8192, gt=0)
    sequences_max: int = Field(default=256, gt=0)
    sequences_target: int = Field(default=32, gt=0)


class ModelProfileConfig(Shape):
    """An engine profile of a model and a GPU that jeton knows: `jeton profile show MODEL QUANTIZATION GPU` says what it is.

    Measured where somebody has measured it, else a roofline of the model's shape and the GPU's sheet. What is left out is
    vLLM's default for the GPU. gpus: of one replica (tensor parallelism). kv_capacity_tokens: what vLLM reports at start
    ("GPU KV cache size"); say it where fp8 or nvfp4 go with a KV cache of 16 bits, for the measured engines had one of 8.
    """

    model: str = Field(min_length=1)
    gpu: str = Field(min_length=1)
    quantization: str = Field(min_length=1)
    gpus: int = Field(default=1, gt=0, le=64)
    chunk_tokens: int | None = Field(default=None, gt=0)
    sequences_max: int | None = Field(default=None, gt=0)
    sequences_target: int | None = Field(default=None, gt=0)
    kv_capacity_tokens: int | None = Field(default=None, gt=0)
    speculation: SpeculationConfig | None = None


def _profile_kind(value: Any) -> str:
    """By its members: one that names a model is looked up, any other spells out its figures."""
    if isinstance(value, dict):
        return "catalogue" if "model" in value or "gpu" in value else "figures"
    return "catalogue" if isinstance(value, ModelProfileConfig) else "figures"


AnyProfileConfig = Annotated[
    Annotated[ProfileConfig, Tag("figures")] | Annotated[ModelProfileConfig, Tag("catalogue")],
    Discriminator(_profile_kind),
]


class AccountantPlace(StrEnum):
    """Who keeps the books. alone: this process, which has the ledger to itself, and what an answer says is what is charged.
    inside: one of several that share it, whichever leads. apart: `jeton accountant`, and no process that serves."""

    ALONE = "alone"
    INSIDE = "inside"
    APART = "apart"


class SpoolConfig(Shape):
    """What is written down here while PostgreSQL is away. bytes_max bounds what it holds; 1 kB a request, or little more. Where
    several workers share a ledger each has its own: path.0, path.1, …"""

    path: Path = Path("var/jeton.spool")
    bytes_max: int = Field(default=256 * 2**20, ge=2**20)


class LedgerConfig(Shape):
    """path: the SQLite file, relative to the working directory; not read where url names a database of PostgreSQL.

    The password is in the environment. lock_seconds: how long a start waits for another jeton to let go of the database.
    silence_seconds: after which a worker that was not heard of is taken for dead.
    """

    path: Path = Path("var/jeton.sqlite")
    url: str | None = Field(default=None, pattern=POSTGRES_URL)
    password_env: str | None = Field(default=None, pattern=ENVIRONMENT_NAME)
    spool: SpoolConfig = SpoolConfig()
    lock_seconds: float = Field(default=5.0, ge=0, le=3600)
    commit_seconds: float = Field(default=0.02, gt=0, le=1)
    accountant: AccountantPlace = AccountantPlace.ALONE
    silence_seconds: float = Field(default=10.0, ge=2, le=3600)


class RedisConfig(Shape):
    """Where workers share budgets. Without it each has its budgets to itself. The password is in the environment."""

    url: str = Field(pattern=REDIS_URL)
    username: str | None = None
    password_env: str | None = Field(default=None, pattern=ENVIRONMENT_NAME)
    timeout_seconds: float = Field(default=0.05, gt=0, le=5, description="of connecting, and of an answer")


class RepeatsConfig(Shape):
    """Answers to requests with an `Idempotency-Key`, kept to be given again; `kept_seconds: 0` ignores the header.

    memory_bytes_max: of all answers that a worker keeps, and again of those that it is copying. A larger answer than
    answer_bytes_max is not kept, and a repeat of its request refused.
    """

    kept_seconds: float = Field(default=3600.0, ge=0, le=7 * 86_400)
    answer_bytes_max: int = Field(default=2**20, gt=0)
    memory_bytes_max: int = Field(default=64 * 2**20, gt=0)


class MediaConfig(Shape):
    """Where engines may fetch images, sounds, videos and files from, if a request gives their address instead of the data.

    domains: host names, in full; `*`: whatever leads to public addresses. Empty: nowhere.
    """

    domains: tuple[Annotated[str, Field(pattern=HOST)], ...] = ()


class AdminConfig(Shape):
    """The admin port (`router/admin.py`): nobody gets by without one of its own keys, made and hashed as those of tenants."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    api_keys: tuple[ApiKeyConfig, ...] = Field(min_length=1)


class CacheStore(StrEnum):
    """Where answers are kept. redis: that of `redis`, for all workers."""

    MEMORY = "memory"
    REDIS = "redis"


class CacheConfig(Shape):
    """Answers to deterministic requests, kept for the tenant that asked.

    memory_bytes_max: of kept answers, and again of those that are being recorded; where Redis keeps them, whose `maxmemory`
    bounds the kept ones, of the latter alone. A larger answer than answer_bytes_max is not kept.
    """

    store: CacheStore = CacheStore.MEMORY
    ttl_seconds: float = Field(default=3600.0, gt=0, le=30 * 86_400)
    memory_bytes_max: int = Field(default=64 * 2**20, gt=0)
    answer_bytes_max: int = Field(default=2**20, gt=0)


class LogConfig(Shape):
    format: Literal["json", "console"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


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
    health: HealthConfig = HealthConfig()
    policy: PolicyConfig = PolicyConfig()
    policies: tuple[PolicyRuleConfig, ...] = ()
    shedding: SheddingConfig = SheddingConfig()
    prefix_affinity: bool = Field(
        default=True, description="remember which replica's prefix cache holds what, where there is a choice"
    )
    baseline: str
    holdout_ratio: float = Field(
        default=0.0, ge=0, le=0.5, description="share of `auto` sent to the baseline, to measure"
    )
    carbon_grams_per_kwh: dict[str, CarbonGrams] = Field(default={}, description="of electricity, by a pool's region")
    tiers: tuple[str, ...] = Field(default=("small", "large"), min_length=1, description="weakest first")
    prices: Path = Path("prices.yaml")
    aliases: dict[str, AliasConfig] = {"auto": AliasConfig()}
    tenants: tuple[TenantConfig, ...] = ()
    profiles: dict[str, AnyProfileConfig] = {}
    pools: tuple[PoolConfig, ...] = Field(min_length=1)
    ledger: LedgerConfig = LedgerConfig()
    redis: RedisConfig | None = None
    repeats: RepeatsConfig = RepeatsConfig()
    media: MediaConfig = MediaConfig()
    admin: AdminConfig | None = None
    cache: CacheConfig | None = None
    log: LogConfig = LogConfig()
