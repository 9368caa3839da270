"""Shape of router.yaml: where jeton keeps things: its books, what workers share, answers that may be given again."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from router.config.section import ENVIRONMENT_NAME, POSTGRES_URL, REDIS_URL, Shape


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
    password_env: str | None = Field(
        default=None, pattern=ENVIRONMENT_NAME, description="environment variable that holds the password"
    )
    spool: SpoolConfig = SpoolConfig()
    lock_seconds: float = Field(default=5.0, ge=0, le=3600)
    commit_seconds: float = Field(
        default=0.02, gt=0, le=1, description="how long events wait for others to be committed with"
    )
    accountant: AccountantPlace = Field(
        default=AccountantPlace.ALONE,
        description="who keeps the books. `alone`: this process, which has the ledger to itself; `inside`: one of several that"
        " share it; `apart`: a `jeton accountant`",
    )
    silence_seconds: float = Field(default=10.0, ge=2, le=3600)


class RedisConfig(Shape):
    """Where workers share budgets, and what they know of replicas' prefix caches. Without it each has both to itself. The
    password is in the environment."""

    url: str = Field(pattern=REDIS_URL)
    username: str | None = None
    password_env: str | None = Field(
        default=None, pattern=ENVIRONMENT_NAME, description="environment variable that holds the password"
    )
    timeout_seconds: float = Field(default=0.05, gt=0, le=5, description="of connecting, and of an answer")
    shares_prefixes: bool = Field(
        default=True, description="workers tell one another which replica's prefix cache holds what (`prefix_affinity`)"
    )


class RepeatsConfig(Shape):
    """Answers to requests with an `Idempotency-Key`, kept to be given again; `kept_seconds: 0` ignores the header.

    memory_bytes_max: of all answers that a worker keeps, and again of those that it is copying. A larger answer than
    answer_bytes_max is not kept, and a repeat of its request refused.
    """

    kept_seconds: float = Field(default=3600.0, ge=0, le=7 * 86_400)
    answer_bytes_max: int = Field(default=2**20, gt=0)
    memory_bytes_max: int = Field(default=64 * 2**20, gt=0)


class CacheStore(StrEnum):
    """Where answers are kept. redis: that of `redis`, for all workers."""

    MEMORY = "memory"
    REDIS = "redis"


class CacheConfig(Shape):
    """Answers to deterministic requests, kept for the tenant that asked. `cache: {}` switches it on.

    memory_bytes_max: of kept answers, and again of those that are being recorded; where Redis keeps them, whose `maxmemory`
    bounds the kept ones, of the latter alone. A larger answer than answer_bytes_max is not kept.
    """

    store: CacheStore = Field(
        default=CacheStore.MEMORY, description="`memory`: each worker its own; `redis`: that of `redis`, for all"
    )
    ttl_seconds: float = Field(default=3600.0, gt=0, le=30 * 86_400)
    memory_bytes_max: int = Field(default=64 * 2**20, gt=0)
    answer_bytes_max: int = Field(default=2**20, gt=0)
