"""Asks every replica how it is: `/health` and `/metrics` of vLLM, one-token probes, and whether our API key is accepted.

One task per replica, so that a slow one delays nobody. Replicas that do not speak vLLM, or scale to zero, are not scraped:
requests tell their health, and only one that refused our API key is asked again. Addresses come from configuration alone: no
redirect is followed, no proxy or credentials are taken from the environment. The replica's API key is sent under `/v1` and
nowhere else.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from router.domain.fleet import Backend, EngineKind, HealthState, Replica
from router.fleet.probe import Probe, probe_of
from router.fleet.state import Fleet
from router.wire.vllm_metrics import parse_metrics

# A real /metrics is 55–95 KB; an answer past this bound is not one.
BODY_BYTES_MAX = 4 * 2**20
# A probe waits in the engine's queue as any request does; it decides alone whether the replica gets work again.
PROBE_SECONDS = 10.0
# How often a replica that refused our API key is asked whether it takes it now: seldom, since its limits may be low.
CREDENTIALS_SECONDS = 30.0
# vLLM closes idle keep-alive connections after 5 s; leave first.
KEEPALIVE_SECONDS = 4.0


class Scraper:
    """Keeps a `Fleet` informed. `follow` begins, and again after every new configuration; `close` ends.

    Times in seconds. jitter_ratio: each pause is the interval ± this share of it. uniform: random in [0, 1).
    addresses: of a replica's host, the best first; raises OSError. Those that requests go to, so that both see the same; None
    leaves it to the HTTP client.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        interval_seconds: float = 2.0,
        timeout_seconds: float = 1.0,
        jitter_ratio: float = 0.2,
        credentials_seconds: float = CREDENTIALS_SECONDS,
        uniform: Callable[[], float] = random.random,
        addresses: Callable[[str], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        self._fleet = fleet
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._jitter_ratio = jitter_ratio
        self._credentials_seconds = credentials_seconds
        self._uniform = uniform
        self._addresses = addresses
        self._watching: dict[tuple[Backend, Replica], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # those cancelled and not yet ended too
        # No bound on connections: a pool that runs out would let replicas that hang delay those that do not.
        self._client = httpx.AsyncClient(
            timeout=None,  # every call is under one `asyncio.timeout`, which a trickle of bytes does not renew
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_SECONDS),
            headers={"accept-encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )

    def follow(self, backends: Iterable[Backend]) -> None:
        """Watch the replicas of exactly these backends: new and changed ones from now on, vanished ones no more."""
        wanted = {(backend, replica) for backend in backends for replica in backend.replicas}
        for gone in self._watching.keys() - wanted:
            self._watching.pop(gone).cancel()
        for backend, replica in wanted - self._watching.keys():
            task = asyncio.create_task(self._watch(backend, replica), name=f"scrape {replica.id}")
            self._watching[backend, replica] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop watching and close the connections."""
        self._watching.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _watch(self, backend: Backend, replica: Replica) -> None:
        """One replica's rounds, for ever. The first is at once; jitter then keeps the replicas' rounds apart."""
        clock = self._fleet.clock
        # To ask one that is stopped would start it, and to go on asking would keep it.
        is_asked = backend.engine is EngineKind.VLLM and backend.scale_to_zero is None
        probe = probe_of(backend) if is_asked else None
        pause_seconds_max = self._interval_seconds * (1 + self._jitter_ratio)
        locked_out_at: float | None = None  # when it was last asked, or found, to refuse our API key
        while True:
            if is_asked:
                await self._check(replica)
                await self._scrape(replica)
            # A probe before the ejection's time is over is ahead of the first request.
            if probe is not None and self._fleet.begin_probe(replica.id, pause_seconds_max):
                await self._probe(replica, probe)
            self._fleet.refresh(replica.id)
            health = self._fleet.snapshot.health.get(replica.id)
            if health is None or health.state is not HealthState.LOCKED_OUT:
                locked_out_at = None
            elif locked_out_at is None:
                locked_out_at = clock()
            elif clock() - locked_out_at >= self._credentials_seconds:
                locked_out_at = clock()
                if backend.provider:  # only its own file knows what to show; the next request tells
                    self._fleet.accepted_credentials(replica.id)
                else:
                    await self._try_credentials(replica)
            await asyncio.sleep(self._interval_seconds * (1 + self._jitter_ratio * (2 * self._uniform() - 1)))

    async def _check(self, replica: Replica) -> None:
        status, _, fault = await self._fetch("GET", replica, "/health", self._timeout_seconds)
        if status == 200:
            self._fleet.check_passed(replica.id)
        else:
            self._fleet.check_missed(replica.id, fault or f"http_{status}")

    async def _scrape(self, replica: Replica) -> None:
        """A failure leaves the last scrape in place: its age tells."""
        status, body, _ = await self._fetch("GET", replica, "/metrics", self._timeout_seconds)
        if status == 200:
            self._fleet.scraped(replica.id, parse_metrics(body, self._fleet.clock()))

    async def _probe(self, replica: Replica, probe: Probe) -> None:
        status, body, fault = await self._fetch("POST", replica, probe.path, PROBE_SECONDS, probe.body)
        if status in (401, 403):
            self._fleet.refused_credentials(replica.id)
        elif probe.is_answered(status, body):
            self._fleet.succeeded(replica.id)
        else:
            self._fleet.failed(replica.id, fault or (f"http_{status}" if status != 200 else "no_finish"))

    async def _try_credentials(self, replica: Replica) -> None:
        status, _, _ = await self._fetch("GET", replica, "/v1/models", self._timeout_seconds)
        if status == 200:
            self._fleet.accepted_credentials(replica.id)

    async def _fetch(
        self, method: str, replica: Replica, path: str, timeout_seconds: float, body: dict[str, Any] | None = None
    ) -> tuple[int, bytes, str]:
        """Status, body and "", or 0, nothing and a fault word when no whole answer came in time."""
        headers: dict[str, str] = {}
        if path.startswith("/v1/") and replica.api_key is not None:
            is_bearer = replica.api_key_header.lower() == "authorization"
            headers[replica.api_key_header] = f"Bearer {replica.api_key}" if is_bearer else replica.api_key
        try:
            async with asyncio.timeout(timeout_seconds):
                request = self._client.build_request(method, replica.url.rstrip("/") + path, headers=headers, json=body)
                answer = await self._client.send(await self._at_address(request), stream=True)
                async with aclosing(answer):
                    content = bytearray()
                    async for piece in answer.aiter_raw():
                        content += piece
                        if len(content) > BODY_BYTES_MAX:
                            return 0, b"", "too_large"
                    return answer.status_code, bytes(content), ""
        except TimeoutError:
            return 0, b"", "timeout"
        except (httpx.ConnectError, OSError):
            return 0, b"", "connect"
        except Exception:  # whatever a replica or its address may provoke, watching goes on
            return 0, b"", "transport"

    async def _at_address(self, request: httpx.Request) -> httpx.Request:
        """The request, to go to its host's address; the host stays in its head and in the check of a certificate."""
        host = request.url.host
        if self._addresses is not None and host:
            request.extensions["sni_hostname"] = host
            request.url = request.url.copy_with(host=(await self._addresses(host))[0])
        return request
