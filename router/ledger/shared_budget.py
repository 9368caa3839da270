"""Budgets that several workers share, in Redis: claims go there, grants come back (`shared_budget.lua` has the law).

A worker that has its ledger to itself is known by that ledger's id, so that one that was killed and comes back takes up its own
share. One that is
known to be dead, because its supervisor has seen its end, has its share freed as soon as its ledger has booked all that it spent
(`bursar.py`). One that is only silent may be frozen, or cut off from Redis and still at work: after `RECLAIM_SECONDS` it is taken
for dead by whoever notices, and its share is given back; a worker that hears nothing for `SHARE_SECONDS`, which is less, no
longer spends its own. Both are measured on monotonic clocks by the count of
claims alone: a wall clock that jumps, here or at Redis, gives nothing out twice.

After a fail-over or a restart (another `run_id`, or none that is known) Redis may have lost what it was told. Workers tell it
again with their next claims, and nobody is given more for `REBUILD_SECONDS`, in which all that live have told.

"""

import time
from collections.abc import Callable, Collection, Sequence
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote

import structlog
from redis.exceptions import NoScriptError

from router.config.stores import RedisConfig
from router.domain.budget import Budget, Period
from router.ledger.budget import Claim, Grant
from router.redis_link import RedisAway, RedisLink

log = structlog.get_logger(__name__)

# A worker claims once a second at least (`bursar.py`); these leave room for a loop that is busy, and for a breaker that is open.
REBUILD_SECONDS = 3.0
SHARE_SECONDS = 300.0
RECLAIM_SECONDS = 330.0
# How long a period's hash is kept after its last claim: until the period is over, and then some for people to look at.
KEPT_SECONDS = {Period.DAY: 3 * 86_400, Period.MONTH: 40 * 86_400, Period.TOTAL: 0}

# One slot of a Redis Cluster: a script may only touch keys of one.
PREFIX = "{jeton:budgets}"
RUN_KEY = f"{PREFIX}:run"
REBUILDING_KEY = f"{PREFIX}:rebuilding"
CLAIM = files("router.ledger").joinpath("shared_budget.lua").read_text(encoding="utf-8")
RECLAIM = """
if redis.call('HGET', KEYS[1], 'b:' .. ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'l:' .. ARGV[1], 'b:' .. ARGV[1])
end
"""


class SharedAway(Exception):
    """The shared store did not answer, or has just failed and is not asked."""


class SharedBudgets(Protocol):
    """Where workers share budgets."""

    @property
    def is_away(self) -> bool: ...
    async def claim(self, claims: Sequence[tuple[Budget, Claim]], dead: Collection[str] = ()) -> list[Grant]: ...
    async def leave(self, claims: Sequence[tuple[Budget, Claim]]) -> None: ...
    async def close(self) -> None: ...


class RedisBudgets:
    """ledger: its id. worker: the same, unless several workers share that ledger. clock: monotonic seconds."""

    def __init__(
        self,
        config: RedisConfig,
        password: str,
        ledger: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        worker: str = "",
    ) -> None:
        without = "budgets go on with the shares that are here"
        self._link = RedisLink(config, password, without, clock, connections_max=2, decodes=True)
        self._redis = self._link.redis
        self._ledger = ledger
        self._worker = worker or ledger
        self._clock = clock
        self._claim_sha = self._reclaim_sha = ""
        self._claimed: set[str] = set()  # hashes that this process has told of itself
        # Of each hash, the others' counts of claims and since when they have not moved.
        self._seen: dict[str, dict[str, tuple[str, float]]] = {}

    @property
    def is_away(self) -> bool:
        """Not to be asked now."""
        return self._link.is_away

    async def claim(self, claims: Sequence[tuple[Budget, Claim]], dead: Collection[str] = ()) -> list[Grant]:
        """One round trip for all of them. dead: workers that cannot spend any more, and all that they spent is in the claims;
        what is left of their shares is freed. Raises SharedAway."""

        async def asked() -> list[Grant]:
            try:
                return await self._asked(claims, dead)
            except NoScriptError:  # it was started since, and knows no script: it is there, so this is no failure
                self._claim_sha = ""
                return await self._asked(claims, dead)

        try:
            return await self._link.ask(asked)
        except RedisAway as away:
            self._claim_sha = ""
            raise SharedAway(str(away)) from None

    async def leave(self, claims: Sequence[tuple[Budget, Claim]]) -> None:
        """Give all shares back for good; the claims hold what may not be given back yet."""
        await self.claim(claims)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for budget, claim in claims:
                if not claim.share_nanousd:
                    pipeline.hdel(_key(budget, claim), f"l:{self._worker}", f"b:{self._worker}")
            await pipeline.execute()

    async def close(self) -> None:
        await self._link.aclose()

    async def _asked(self, claims: Sequence[tuple[Budget, Claim]], dead: Collection[str]) -> list[Grant]:
        if not self._claim_sha:  # by hand: redis-py asks for the scripts of a pipeline each time it is executed
            self._reclaim_sha = str(await self._redis.script_load(RECLAIM))
            self._claim_sha = str(await self._redis.script_load(CLAIM))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for budget, claim in claims:
                self._put(pipeline, budget, claim, dead)
            answers = await pipeline.execute()
        grants = []
        for (budget, claim), answer in zip(claims, answers, strict=True):
            key = _key(budget, claim)
            self._claimed.add(key)
            await self._bury(key, answer[4:])
            share, spent, shares = map(int, answer[:3])
            grants.append(Grant(share, spent, shares, is_rebuilding=answer[3] == "1"))
        return grants

    def _put(self, pipeline: Any, budget: Budget, claim: Claim, dead: Collection[str]) -> None:
        key = _key(budget, claim)
        pipeline.evalsha(
            self._claim_sha,
            3,
            key,
            RUN_KEY,
            REBUILDING_KEY,
            self._worker,
            str(budget.limit_nanousd),
            str(max(claim.spent_nanousd, 0)),
            str(claim.held_nanousd),
            str(claim.share_nanousd),
            str(claim.more_nanousd),
            "0" if key in self._claimed else "1",
            str(KEPT_SECONDS[budget.period]),
            str(round(REBUILD_SECONDS * 1000)),
            self._ledger,
            *dead,
        )

    async def _bury(self, key: str, told: Sequence[str]) -> None:
        """Take the share of a worker whose count has not moved for too long."""
        now_seconds, seen = self._clock(), self._seen.get(key, {})
        fresh: dict[str, tuple[str, float]] = {}
        for other, count in zip(told[::2], told[1::2], strict=True):
            before = seen.get(other)
            since_seconds = before[1] if before is not None and before[0] == count else now_seconds
            fresh[other] = count, since_seconds
            if now_seconds - since_seconds > RECLAIM_SECONDS:
                log.warning("another worker is silent; its share of a budget is given back", worker=other, budget=key)
                await self._redis.evalsha(self._reclaim_sha, 1, key, other, count)
        self._seen[key] = fresh


def _key(budget: Budget, claim: Claim) -> str:
    """No two budgets have one key, whatever their names hold."""
    tenant, api_key_name = quote(budget.tenant, safe=""), quote(budget.api_key_name, safe="")
    return f"{PREFIX}:{tenant}:{api_key_name}:{budget.period.value}:{claim.span.start_ns}"
