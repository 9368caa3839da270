"""What workers tell one another, through Redis, of what is in which replica's prefix cache; in one task, beside the requests.

Ten times a second a worker adds what it has sent since to a stream and reads what others have added, in one round trip: a request
waits for nothing of it, and pays for putting its new marks on a list. A stream costs what publishing would (a worker reads at its
own pace, many messages at a time, instead of being woken by each), and it has a memory: who begins, or was cut off from Redis,
reads what was told in the last `TAIL_SECONDS`. It is bounded by Redis (`MESSAGES_MAX`), and gone when nobody writes to it.

Without Redis each worker knows what it has sent, and keeps what it would tell, up to a bound; when Redis is back that is told.
News may be lost, come twice or be late: what is not known is a prompt that is forecast, and perhaps computed, as a new one.

A replica's restart every worker notices by itself, and its news say so. Who reads what was told before it listened heeds that,
for it has not seen it; who listened does not, for a worker that cannot reach a replica does not know that its cache is gone.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b

import structlog

from router.config.stores import RedisConfig
from router.domain.fleet import Backend
from router.redis_link import RedisAway, RedisLink
from router.selection.affinity import PrefixIndex, PrefixNews
from router.wire.prefix_news import NotNews, Told, pack_news, replica_name, teller_of, unpack_news

log = structlog.get_logger(__name__)

TELL_SECONDS = 0.1
# Of one message; so many messages at most are told at once, the rest next time.
MESSAGE_MARKS = 1024
MESSAGES_AT_ONCE = 4
# 12 MB of Redis at 500 requests a second and worker; of four workers it is what they told in the last 100 s. If each message were
# of a thousand prompts with one new mark each, 120 MB.
MESSAGES_MAX = 4096
# A worker that begins believes no older ones. Of a fleet that nobody watches any more nothing is known after a while.
TAIL_SECONDS = 300
STREAM_SECONDS = 900
RENEW_SECONDS = 300
# What is heard at once, some 5 ms of work, and in between others have their turn. Who is behind asks again sooner, so that it
# spends at most a fifth of its time on it; who does not catch up like that goes on with what is told now.
READ_MESSAGES = 64
READ_MARKS = 4096
SLICE_MARKS = 256
BEHIND_SECONDS = 0.02
BEHIND_SECONDS_MAX = 10.0

PREFIX = "jeton:prefixes:"
FIELD = b"n"
MessageId = tuple[int, int]
"""Milliseconds of Redis' clock, and a number among those of one millisecond."""
FIRST: MessageId = (0, 0)


class PrefixNewsExchange:
    """index: this worker's own, which is told to others and hears of theirs. secret: what marks are keyed with; only workers with
    the same understand one another, and they alone share a stream. clock: monotonic seconds.

    told, heard: news. unreadable: messages in the stream that are none. failures: commands that Redis did not answer."""

    def __init__(
        self,
        index: PrefixIndex,
        config: RedisConfig,
        password: str,
        secret: bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        without = "of prefix caches each worker knows what it has sent itself"
        self._link = RedisLink(config, password, without, clock, connections_max=2)
        self.stream = PREFIX + blake2b(secret, digest_size=8).hexdigest()
        self._clock = clock
        self._teller = secrets.randbits(64)
        self._machine = socket.gethostname()
        self._replicas: dict[int, str] = {}
        self._names: dict[str, int] = {}
        self._untold: list[bytes] = []
        self._untold_news = 0
        self._read_until: MessageId | None = None
        # What was told up to then we read late.
        self._past_until: MessageId = FIRST
        self._is_lost = True
        self._behind_since: float | None = None
        self._renew_at = 0.0
        self._is_ending = False
        self.told = 0
        self.heard = 0
        self.unreadable = 0

    @property
    def failures(self) -> int:
        return self._link.failures

    def follow(self, backends: Iterable[Backend]) -> None:
        """The replicas from now on; none where there is no choice, and nothing to tell."""
        self._replicas = {
            replica_name(replica, self._machine): replica.id for backend in backends for replica in backend.replicas
        }
        self._names = {replica: name for name, replica in self._replicas.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tells and hears while the block runs, and tells the last at its end."""
        self._index.is_shared = True
        exchanging = asyncio.create_task(self._exchange_for_ever())
        try:
            yield
        finally:
            self._is_ending = True  # redis-py can swallow a cancellation that comes in the midst of a command
            exchanging.cancel()
            with suppress(asyncio.CancelledError):
                await exchanging
            self._pack_untold()
            if self._untold and self._read_until is not None and not self._link.is_away:
                await self._link.tell(self._put_and_get)
            await self._link.aclose()

    async def exchange(self) -> bool:
        """Once: tell what there is, and hear what there is up to a bound. Whether there is more."""
        if self._link.is_away or not self._replicas:
            return False
        try:
            if self._is_lost:
                await self._link.ask(self._find_place)
            self._pack_untold()
            messages = await self._link.ask(self._put_and_get)
        except RedisAway:
            self._is_lost = True
            return False
        self.told += self._untold_news
        self._untold, self._untold_news = [], 0
        return await self._hear(messages)

    async def _exchange_for_ever(self) -> None:
        while not self._is_ending:
            await asyncio.sleep(TELL_SECONDS if self._behind_since is None else BEHIND_SECONDS)
            try:
                is_behind = await self.exchange()
                if not is_behind:
                    self._behind_since = None
                elif self._behind_since is None:
                    self._behind_since = self._clock()
                elif self._clock() - self._behind_since > BEHIND_SECONDS_MAX:
                    self._behind_since = None
                    self._read_until = await self._link.ask(self._newest)
                    log.warning("more is told of prefix caches than can be heard; some of it is passed over")
            except RedisAway:
                self._is_lost = True
            except Exception:
                log.exception("prefix caches of other workers could not be heard of")

    def _pack_untold(self) -> None:
        while len(self._untold) < MESSAGES_AT_ONCE and (news := self._index.take_untold(MESSAGE_MARKS)):
            told = [self._told(one) for one in news if one.replica in self._names]
            self._untold.append(pack_news(self._teller, told))
            self._untold_news += len(told)

    def _told(self, news: PrefixNews) -> Told:
        added, so_far = [], news.before.tokens
        for mark in news.marks:
            added.append(mark.tokens - so_far)
            so_far = mark.tokens
        return Told(self._names[news.replica], news.before.key, [mark.key for mark in news.marks], added)

    async def _put_and_get(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """What others and we have told, from where we stopped."""
        assert self._read_until is not None
        millisecond, number = self._read_until
        async with self._link.redis.pipeline(transaction=False) as pipeline:
            for message in self._untold:
                pipeline.xadd(self.stream, {FIELD: message}, maxlen=MESSAGES_MAX, approximate=True)
            if self._untold and self._clock() >= self._renew_at:
                pipeline.expire(self.stream, STREAM_SECONDS)
                self._renew_at = self._clock() + RENEW_SECONDS
            pipeline.xrange(self.stream, min=f"{millisecond}-{number + 1}", count=READ_MESSAGES)
            messages: list[tuple[bytes, dict[bytes, bytes]]] = (await pipeline.execute())[-1]
        return messages

    async def _newest(self) -> MessageId:
        found = await self._link.redis.xrevrange(self.stream, count=1)
        return _message_id(found[0][0]) if found else FIRST

    async def _find_place(self) -> None:
        """Where to read on: we begin, or do not know how Redis fared. A stream that ends before that was begun anew."""
        newest = await self._newest()
        if self._read_until is None:
            self._read_until = max(newest[0] - TAIL_SECONDS * 1000, 0), 0
        elif newest < self._read_until:
            self._read_until = FIRST
        self._past_until = newest
        self._renew_at = 0.0
        self._is_lost = False

    async def _hear(self, messages: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> bool:
        marks = 0
        for number, (name, fields) in enumerate(messages):
            self._read_until = told_at = _message_id(name)
            marks += await self._hear_message(fields.get(FIELD, b""), is_past=told_at <= self._past_until)
            if marks >= READ_MARKS:
                return number + 1 < len(messages) or len(messages) == READ_MESSAGES
        return len(messages) == READ_MESSAGES

    async def _hear_message(self, message: bytes, *, is_past: bool) -> int:
        """How many marks were in it, beside our own."""
        try:
            if teller_of(message) == self._teller:
                return 0
            told = unpack_news(message)
        except NotNews as error:
            self.unreadable += 1
            log.debug("not news of prefix caches", why=str(error))
            return 0
        marks = sliced = 0
        for news in told:
            self.heard += 1
            replica = self._replicas.get(news.replica)
            if replica is None:
                continue
            if news.marks:
                self._index.heard(replica, news.before, news.marks, news.tokens)
            elif is_past:
                self._index.forget(replica)
            marks += len(news.marks)
            if marks - sliced >= SLICE_MARKS:
                sliced = marks
                await asyncio.sleep(0)
        return marks


def _message_id(name: bytes) -> MessageId:
    millisecond, _, number = name.partition(b"-")
    return int(millisecond), int(number)
