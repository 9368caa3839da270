"""Shape of router.yaml: pools, their backends, and the replicas of those, listed or found."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from router.config.section import DNS_NAME, ENVIRONMENT_NAME, NAME, URL, Shape
from router.domain.fleet import Billing, EngineKind, PoolKind
from router.domain.request import Capability

NAMESERVER = re.compile(r"([0-9.]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")


class ReplicaConfig(Shape):
    """One vLLM process or provider endpoint. url: scheme, host, port, and a path prefix if need be, without `/v1`."""

    url: str = Field(pattern=URL)
    name: str | None = Field(
        default=None,
        pattern=NAME,
        description="what it is called in logs, metrics and the ledger; `<backend>/<n>` where left out",
    )
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
    parameters: dict[str, Any] = Field(default={})


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


class ScaleToZeroConfig(Shape):
    """Replicas that a platform stops when nothing is asked of them, and starts for the next request (Knative, KServe, Modal,
    RunPod); each url is one that holds a request until its replica is there. A lease runs from start to stop."""

    cold_start_seconds: float = Field(
        ge=0, le=3600, description="from a request that wakes one until the engine answers"
    )
    idle_seconds: float = Field(ge=0, le=86400, description="how long one stays after its last answer")
    billed_seconds_min: float = Field(default=0.0, ge=0, le=86400, description="of each start, at least")


class PreemptionConfig(Shape):
    """What is thought of how often spot replicas are taken away, your provider's figure; what was seen in the last 30 days moves
    it, over restarts too."""

    per_hour: float = Field(ge=0, le=60, description="of one replica")
    prior_hours: float = Field(default=100.0, gt=0, description="as so many replica-hours of watching that counts")
    away_seconds: float = Field(default=300.0, ge=0, le=86400, description="until one that was taken serves again")


class BackendConfig(Shape):
    """One model at one quantization and price. profile: for leased vLLM backends, a name in `profiles`, or of a measured
    engine that comes with jeton. provider: whose API it is, where not vLLM's or plainly OpenAI's; what that cannot do is
    taken from the capabilities. Its replicas are listed, or found by `discovery`."""

    name: str = Field(pattern=NAME)
    model: str = Field(pattern=NAME, description="what clients may ask for")
    served_model: str | None = Field(
        default=None, description="what it is called at the replicas; `model` where left out"
    )
    tier: str = Field(
        default="large", pattern=NAME, description="one of `tiers`: how good its answers are expected to be"
    )
    quantization: str = "bf16"
    quality_ratio: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="how probably its answer is as good as one of its tier's model unquantized, as you measured it: on your own"
        " questions, right answers of the quantized model ÷ those of the full one; its quality is its tier's times it",
    )
    engine: EngineKind = Field(
        default=EngineKind.VLLM, description="`openai`: speaks the API and is no vLLM, as where a `provider` is named"
    )
    context_tokens: int = Field(gt=0, description="the context window; vLLM's `--max-model-len`")
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
    price: str = Field(description="a name in the price book: dollars an hour of one replica, or by the million tokens")
    profile: str | None = None
    dedicated_to: tuple[str, ...] = Field(default=(), description="the tenants that it serves, and nobody else")
    when_client_leaves: Literal["stop", "read_on"] | None = Field(
        default=None,
        description="of metered ones: stop the backend, or read its answer on, within `read_on`, where it is billed to its end;"
        " left out: `read_on` at providers that are known to bill so, else `stop`",
    )
    provider: AnyProviderConfig | None = None
    replicas: tuple[ReplicaConfig, ...] = ()
    discovery: DiscoveryConfig | None = None
    scale_to_zero: ScaleToZeroConfig | None = None
    preemption: PreemptionConfig | None = None

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
    billing: Billing = Field(description="`leased`: paid by the hour, used or not; `metered`: paid by the token")
    region: str = ""
    rtt_seconds: float = Field(default=0.0, ge=0, le=5)
    rtt_seconds_from: dict[str, Annotated[float, Field(ge=0, le=5)]] = Field(default={})
    residency: str | None = None
    egress_usd_per_gb: Decimal = Field(
        default=Decimal(0), ge=0, le=1000, description="what the network asks for what leaves the pool; in quotes only"
    )
    backends: tuple[BackendConfig, ...] = Field(min_length=1)
