"""Pool ⊃ backend ⊃ replica, and the fleet at one instant.

Everything here is immutable: a snapshot is swapped whole when configuration, health or a scrape changes it. What changes
with every request (work in flight) is not part of it; `Load` is how it is handed over.
"""

from collections.abc import Mapping
from enum import StrEnum

from router.domain.immutable import immutable
from router.domain.request import Capability

# The pool and the backend under which answers from the response cache are booked; no other may be called so.
CACHE = "cache"


class PoolKind(StrEnum):
    EDGE = "edge"
    CENTRAL = "central"
    CLOUD = "cloud"


class Billing(StrEnum):
    """leased: we pay for time, busy or not. metered: we pay per token."""

    LEASED = "leased"
    METERED = "metered"


class EngineKind(StrEnum):
    """Which dialect a backend speaks. vllm: continuous usage, aborts on disconnect, `/metrics`. openai: none of these."""

    VLLM = "vllm"
    OPENAI = "openai"


@immutable
class Pool:
    """rtt_seconds: of the network, from clients of whom nothing else is said; rtt_seconds_from: (their region, seconds).

    residency: where data is processed, for tenants whose data must stay somewhere. egress_nanousd_per_gb: what the network asks
    for what leaves the pool.
    """

    name: str
    kind: PoolKind
    billing: Billing
    region: str = ""
    rtt_seconds: float = 0.0
    rtt_seconds_from: tuple[tuple[str, float], ...] = ()
    residency: str = ""
    egress_nanousd_per_gb: int = 0


@immutable
class Replica:
    """One endpoint. `id` is `<backend>/<n>` or the configured name; it names the replica everywhere.

    api_key_file: where api_key was read, "" if it did not come from a file; it may have changed since.
    """

    id: str
    backend: str
    url: str
    api_key: str | None = None
    api_key_header: str = "authorization"
    api_key_file: str = ""

    def __repr__(self) -> str:  # an API key must not reach a log through a repr
        return f"Replica(id={self.id!r}, url={self.url!r})"


@immutable
class ScaleToZero:
    """A leased backend whose replicas are stopped when nothing is asked of them, and started by the next request.

    cold_start_seconds: from that request until the engine answers. idle_seconds: how long a replica stays after its last answer.
    billed_seconds_min: of each start, however soon it is over.
    """

    cold_start_seconds: float
    idle_seconds: float
    billed_seconds_min: float = 0.0


@immutable
class Preemption:
    """What is thought of how a spot backend's replicas are taken away, before it was seen.

    per_hour: of one replica. prior_hours: as so many hours of watching that counts. away_seconds: until one that was taken, or
    another in its place, serves again.
    """

    per_hour: float
    prior_hours: float
    away_seconds: float


@immutable
class Backend:
    """One model at one quantization and price.

    model: the name clients see; served_model: the name sent to the replicas.
    quality_ratio: how probably its answer is as good as one of its tier's model unquantized, above 0 and at most 1.
    completion_tokens_max: what a completion may have at most, where less than the context; 0 where nothing says so.
    dedicated_to: the tenants that it serves and nobody else; empty: it serves all.
    price: name of a price-book row. profile: name of an engine profile (leased vLLM only, else "").
    provider: whose API it is, where it is not plainly OpenAI's or vLLM's; a file in `dispatch/providers/`.
    scale_to_zero: None where its replicas are always there. preemption: None where they are not known to be taken away.
    reads_on: an answer whose client has left is read to its end, for it is billed to its end.
    """

    name: str
    pool: Pool
    model: str
    served_model: str
    tier: str
    quantization: str
    engine: EngineKind
    context_tokens: int
    capabilities: frozenset[Capability]
    price: str
    profile: str
    replicas: tuple[Replica, ...]
    completion_tokens_max: int = 0
    dedicated_to: frozenset[str] = frozenset()
    provider: str = ""
    scale_to_zero: ScaleToZero | None = None
    preemption: Preemption | None = None
    reads_on: bool = False
    quality_ratio: float = 1.0


@immutable
class Load:
    """Work in flight on one replica: attempts, prompt tokens not yet prefilled, tokens of context in decode.

    endings, renewed_tokens: in a million steps of a completion token each, how many of those in decode would end, and how many
    prompt tokens would have to be computed if one like it came for each that ends. 0: not known. cached_tokens: of the context,
    those that are thought to have been cached, and so to take no room of their own.
    """

    attempts: int = 0
    prefill_tokens: int = 0
    decoding: int = 0
    context_tokens: int = 0
    endings: int = 0
    renewed_tokens: int = 0
    cached_tokens: int = 0


IDLE = Load()


@immutable
class Scrape:
    """What a replica's `/metrics` last said. None means it did not say, which is not zero.

    at_seconds: monotonic time of the scrape, for its age.
    ours: what jeton itself, all workers together, had in flight there at that time. What the scrape counts beyond it is other
        people's, and stays until the next scrape; what we have sent since comes on top, so that nobody herds onto a replica
        that was idle when it was last looked at.
    """

    at_seconds: float
    running: int | None = None
    waiting: int | None = None
    kv_usage_ratio: float | None = None
    prompt_tokens_total: int | None = None
    completion_tokens_total: int | None = None
    ours: Load = IDLE


class HealthState(StrEnum):
    """limited: it asked us to wait (429, or it is overloaded). ejected: its answers failed. leaving: it will be taken away, as a
    spot instance is. down: its health check fails. locked_out: it refuses our API key."""

    UP = "up"
    LIMITED = "limited"
    EJECTED = "ejected"
    LEAVING = "leaving"
    DOWN = "down"
    LOCKED_OUT = "locked_out"


@immutable
class Health:
    """is_usable: new work may be sent. why: for people, when it may not. until_seconds: monotonic, when it is tried
    again (0: at no set time, but when a check passes)."""

    is_usable: bool = True
    why: str = ""
    until_seconds: float = 0.0
    state: HealthState = HealthState.UP

    def admits(self, now_seconds: float) -> bool:
        """Whether new work may be sent now: a time that has passed needs no event to say so."""
        return self.is_usable or 0.0 < self.until_seconds <= now_seconds


UP = Health()


@immutable
class Snapshot:
    """The fleet at one instant. Keys: backend name; replica id. A replica without a scrape has none, not zeros.

    tiers: every tier, weakest first.
    """

    backends: Mapping[str, Backend]
    health: Mapping[str, Health]
    scrapes: Mapping[str, Scrape]
    tiers: tuple[str, ...]
