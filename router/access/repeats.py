"""A request that a client sends twice under one `Idempotency-Key` is done once: its answer is kept, and given again.

A key belongs to its tenant. The first request under it runs; the same body again gets the answer that the first one got, another
body is refused, and so is any while the first still runs. Only answers with status 200 that went out whole are kept: what was
refused, broke or was left by its client frees the key, so that trying again runs again.

Answers lie in this process's memory, within `memory_bytes_max` (the oldest make room) and for `kept_seconds`. With Redis they lie
there as well, and workers know of one another's; a running request's claim there is a lease, renewed while its worker lives.
When Redis is away each worker knows only its own: that a repeat reaches another worker and runs again is then possible.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import orjson

from router.config.stores import RedisConfig, RepeatsConfig
from router.errors import BadRequest, RepeatNotKept, RepeatRunning, RepeatWithOtherBody
from router.redis_link import RedisAway, RedisLink

KEY_BYTES_MAX = 255
# What an entry takes beside its body and headers: the name, the fingerprint, the objects (620 bytes, measured with nine headers).
ENTRY_BYTES = 1024
# Of a claim in Redis; a worker that is killed frees its keys so much later.
LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
PREFIX = "jeton:repeats:"
RUNNING, KEPT = b"r", b"k"
FINGERPRINT_BYTES = 32
# Only what is still this claim's own may be freed or renewed.
FREE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"

Header = tuple[bytes, bytes]


class KeptAnswer(NamedTuple):
    """An answer with status 200 as its client got it. is_stream: it went out piece by piece."""

    is_stream: bool
    headers: tuple[Header, ...]
    body: bytes

    @property
    def bytes(self) -> int:
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


class AnswerCopy:
    """What a client is being sent, copied. Given up, `is_whole` then being false, where it grows too large."""

    __slots__ = ("_budget", "_bytes", "_bytes_max", "_pieces", "headers", "is_stream", "is_whole")

    def __init__(self, budget: "_CopyBudget", bytes_max: int) -> None:
        self.is_whole = True
        self.is_stream = False
        self.headers: tuple[Header, ...] = ()
        self._budget = budget
        self._bytes_max = bytes_max
        self._bytes = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        if not self.is_whole or not piece:
            return
        self._bytes += len(piece)
        self._budget.bytes += len(piece)
        self._pieces.append(piece)
        if self._bytes > self._bytes_max or self._budget.bytes > self._budget.bytes_max:
            self.is_whole = False
            self.close()

    def close(self) -> None:
        self._budget.bytes -= self._bytes
        self._bytes = 0
        self._pieces = []

    def answer(self) -> KeptAnswer | None:
        """None where it was given up."""
        return KeptAnswer(self.is_stream, self.headers, b"".join(self._pieces)) if self.is_whole else None


class _CopyBudget:
    """Of all copies that are being made, together."""

    __slots__ = ("bytes", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self.bytes_max = bytes_max


class _Entry(NamedTuple):
    fingerprint: bytes
    answer: KeptAnswer | None
    expires_seconds: float

    @property
    def bytes(self) -> int:
        return ENTRY_BYTES + (self.answer.bytes if self.answer is not None else 0)


class Repeats:
    """For one event loop. password: of Redis. clock: monotonic seconds."""

    def __init__(
        self,
        config: RepeatsConfig,
        redis: RedisConfig | None = None,
        password: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._clock = clock
        self._copies = _CopyBudget(config.memory_bytes_max)
        self._running: dict[str, bytes] = {}  # fingerprints by name
        self._kept: OrderedDict[str, _Entry] = OrderedDict()  # the first to expire first
        self._kept_bytes = 0
        self._shared = _SharedAnswers(redis, password, clock) if redis is not None else None

    @property
    def is_on(self) -> bool:
        return self._config.kept_seconds > 0

    @property
    def bytes_held(self) -> int:
        """What is kept and being copied."""
        return self._kept_bytes + self._copies.bytes

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Renews claims in Redis while the block runs."""
        if self._shared is None:
            yield
            return
        async with self._shared.running():
            yield

    async def claim(self, name: str, fingerprint: bytes) -> KeptAnswer | None:
        """The answer to give again, or None: the request is the caller's to run, and to `keep` or `free` at its end.

        Raises RepeatWithOtherBody, RepeatRunning, RepeatNotKept.
        """
        self._expire()
        if (running := self._running.get(name)) is not None:
            raise _refusal_while_running(running, fingerprint)
        if (entry := self._kept.get(name)) is not None:
            return _again(entry.fingerprint, entry.answer, fingerprint)
        self._running[name] = fingerprint
        if self._shared is None:
            return None
        try:
            answer = await self._shared.claim(name, fingerprint)
        except BaseException:
            del self._running[name]
            raise
        if answer is not None:
            del self._running[name]
        return answer

    def copy(self) -> AnswerCopy:
        return AnswerCopy(self._copies, self._config.answer_bytes_max)

    def keep(self, name: str, copy: AnswerCopy) -> None:
        """The request has been answered. A copy that was given up is remembered as such: a repeat must not run again."""
        fingerprint = self._running.pop(name)
        answer = copy.answer()
        entry = _Entry(fingerprint, answer, self._clock() + self._config.kept_seconds)
        self._kept[name] = entry
        self._kept_bytes += entry.bytes
        while self._kept_bytes > self._config.memory_bytes_max:
            self._drop_oldest()
        if self._shared is not None:
            self._shared.keep(name, fingerprint, answer, self._config.kept_seconds)

    def free(self, name: str) -> None:
        """The request was not answered: whoever repeats it runs it."""
        del self._running[name]
        if self._shared is not None:
            self._shared.free(name)

    def _expire(self) -> None:
        now_seconds = self._clock()
        while self._kept and next(iter(self._kept.values())).expires_seconds <= now_seconds:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, entry = self._kept.popitem(last=False)
        self._kept_bytes -= entry.bytes


def repeat_name(tenant: str, key: bytes) -> str:
    """By what a tenant's key is known, here and in Redis. Raises BadRequest for a key that is none."""
    if not 0 < len(key) <= KEY_BYTES_MAX or not key.isascii() or not key.decode("ascii").isprintable():
        raise BadRequest(f"The `Idempotency-Key` must be 1 to {KEY_BYTES_MAX} printable ASCII characters.")
    digest = hashlib.sha256(len(tenant.encode()).to_bytes(4) + tenant.encode() + key)
    return digest.hexdigest()


def request_fingerprint(path: str, body: bytes) -> bytes:
    """What must be the same for two requests to be one."""
    return hashlib.sha256(path.encode() + b"\0" + body).digest()


class _SharedAnswers:
    """The same in Redis. Each value is one letter, the fingerprint, and a claim's own token or the answer."""

    def __init__(self, config: RedisConfig, password: str, clock: Callable[[], float]) -> None:
        self._link = RedisLink(config, password, "repeats are known to the worker that answered alone", clock)
        self._redis = self._link.redis
        self._claims: dict[str, bytes] = {}  # ours, by name: what stands in Redis
        self._working: set[asyncio.Task[None]] = set()
        self._is_ending = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew_for_ever())
        try:
            yield
        finally:
            self._is_ending = True  # redis-py can swallow a cancellation that comes in the midst of a command
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            await asyncio.gather(*self._working)
            await self._link.aclose()

    async def claim(self, name: str, fingerprint: bytes) -> KeptAnswer | None:
        if self._link.is_away:
            return None
        mine = RUNNING + fingerprint + secrets.token_bytes(16)
        for _ in range(2):
            try:
                found = await self._link.ask(lambda: self._claimed(name, mine))
            except RedisAway:
                return None
            if found == mine:
                self._claims[name] = mine
                return None
            if found is not None:
                return _read_value(found, fingerprint)
        return None  # it expired under our eyes, twice: nobody else has it

    def keep(self, name: str, fingerprint: bytes, answer: KeptAnswer | None, kept_seconds: float) -> None:
        if self._claims.pop(name, None) is not None:
            value = KEPT + fingerprint + _write_answer(answer)
            self._start(partial(self._redis.set, PREFIX + name, value, px=round(kept_seconds * 1000)))

    def free(self, name: str) -> None:
        mine = self._claims.pop(name, None)
        if mine is not None:
            self._start(partial(self._redis.eval, FREE, 1, PREFIX + name, mine))

    async def _claimed(self, name: str, mine: bytes) -> bytes | None:
        """What stands there now: `mine` where nothing did; None for what has just expired."""
        if await self._redis.set(PREFIX + name, mine, nx=True, px=round(LEASE_SECONDS * 1000)):
            return mine
        found: bytes | None = await self._redis.get(PREFIX + name)
        return found

    async def _renew_for_ever(self) -> None:
        while not self._is_ending:
            await asyncio.sleep(RENEW_SECONDS)
            for name, mine in list(self._claims.items()):
                lease_ms = round(LEASE_SECONDS * 1000)
                await self._link.tell(partial(self._redis.eval, RENEW, 1, PREFIX + name, mine, lease_ms))

    def _start(self, command: Callable[[], Awaitable[Any]]) -> None:
        """Nobody waits for it: the client has its answer."""
        task = asyncio.get_running_loop().create_task(self._link.tell(command))
        self._working.add(task)
        task.add_done_callback(self._working.discard)


def _refusal_while_running(running: bytes, fingerprint: bytes) -> Exception:
    if running != fingerprint:
        return RepeatWithOtherBody()
    return RepeatRunning()


def _again(fingerprint_then: bytes, answer: KeptAnswer | None, fingerprint: bytes) -> KeptAnswer:
    if fingerprint_then != fingerprint:
        raise RepeatWithOtherBody
    if answer is None:
        raise RepeatNotKept
    return answer


def _read_value(value: bytes, fingerprint: bytes) -> KeptAnswer:
    kind, then, rest = value[:1], value[1 : 1 + FINGERPRINT_BYTES], value[1 + FINGERPRINT_BYTES :]
    if kind == RUNNING:
        raise _refusal_while_running(then, fingerprint)
    return _again(then, _read_answer(rest), fingerprint)


def _write_answer(answer: KeptAnswer | None) -> bytes:
    """One line of JSON, then the body."""
    if answer is None:
        return b""
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers]
    return orjson.dumps([answer.is_stream, headers]) + b"\n" + answer.body


def _read_answer(text: bytes) -> KeptAnswer | None:
    if not text:
        return None
    head, _, body = text.partition(b"\n")
    is_stream, headers = orjson.loads(head)
    pairs = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
    return KeptAnswer(is_stream, pairs, body)
