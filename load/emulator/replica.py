"""One emulated replica: who may ask, what is counted, and what goes wrong on demand.

Which path is answered by what is `routes.py`'s. Handlers are plain functions of (replica, request, answer); they answer at once
or leave a generation behind that does. What must not live here: how a path spells its answers, scheduling, listening.
"""

import hmac
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import parse_qs

import orjson
from pydantic import ValidationError

from load.emulator.activator import Activator
from load.emulator.bodies import UnreadableBody
from load.emulator.errors import ApiError, bad_request, unknown_model
from load.emulator.faults import Fault, FaultSwitch, FaultyAnswer, answer_instead
from load.emulator.fronts.every import front_of
from load.emulator.generation import Generation
from load.emulator.http import Answer, Exchange, Headers, HttpRequest
from load.emulator.language import digest
from load.emulator.lifecycle import Lifecycle
from load.emulator.metrics import Metrics
from load.emulator.pump import Pump
from load.emulator.routes import TOKENIZING, routes_of
from load.emulator.spec import VERSION, Dialect, ReplicaSpec
from load.engine import Engine

logger = logging.getLogger(__name__)

# What tests and curious people can look back on: so many requests, so much of each body.
SEEN_MAX = 256
SEEN_BODY_BYTES_MAX = 2**18
FAULTS_PATH = "/emulator/faults"


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as it arrived, for tests to look at; a long body is cut."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Replica:
    """State and paths of one replica; `port` and `url` are set when it listens.

    apply_fault is how a fault reaches the listener (`refuse`); the fleet sets it.
    """

    def __init__(self, spec: ReplicaSpec) -> None:
        profile = spec.profile
        if spec.sequences_max is not None:
            profile = profile.model_copy(update={"sequences_max": spec.sequences_max})
        self.engine = Engine(
            profile,
            block_tokens=spec.block_tokens,
            has_prefix_cache=spec.has_prefix_cache,
            is_by_priority=spec.is_by_priority,
            seed=spec.style.seed,
            acceptance_by_kind=spec.acceptance_by_kind,
        )
        context_tokens = min(spec.context_tokens, self.engine.sequence_tokens_max)
        is_cloud = spec.dialect is not Dialect.VLLM
        has_details = spec.has_prompt_tokens_details or is_cloud
        self.spec = replace(spec, context_tokens=context_tokens, has_prompt_tokens_details=has_details)
        self.metrics = Metrics(self.engine, spec.model)
        self.lifecycle = Lifecycle(self)
        self.pump = Pump(self.engine, time_factor=spec.time_factor, on_step=self.metrics.stepped)
        self.fingerprint = f"vllm-{VERSION}-{digest(spec.model, profile) % 16**8:08x}"
        self.created = int(time.time())
        self.requests_seen: deque[SeenRequest] = deque(maxlen=SEEN_MAX)
        self.port = 0
        self.apply_fault: Callable[[Fault | None], None] = self.set_fault
        self.find_sibling: Callable[[int], Replica | None] = lambda _: self
        self._switch = FaultSwitch()
        self._front = front_of(self.spec)
        self._routes = routes_of(spec)
        self._in_flight = 0
        self._generations: set[Generation] = set()
        self.activator: Activator | None = None
        if spec.cold_start_seconds is not None:
            self.activator = Activator(
                spec.cold_start_seconds,
                spec.idle_seconds,
                handle=self._answer,
                is_at_work=lambda: bool(self._generations),
                stopped=self.engine.forget_prefixes,
            )
        self._recent: deque[float] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # ------------------------------------------------------------------ faults

    def faults(self, fault: Fault | None = None, **members: object) -> None:
        """Put a fault in force: `replica.faults(stall_after_chunks=3, times=1)`. It replaces the one before."""
        self.apply_fault(fault if fault is not None else Fault.model_validate(members))

    def clear_faults(self) -> None:
        self.apply_fault(None)

    def set_fault(self, fault: Fault | None) -> None:
        self._switch.set(fault)

    @property
    def fault_hits(self) -> int:
        """Requests that the fault in force was applied to."""
        return self._switch.hits

    # ------------------------------------------------------------------ requests

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, now or later. Never raises."""
        request = exchange.request
        began = time.monotonic()
        if request.path != FAULTS_PATH:
            self.requests_seen.append(
                SeenRequest(request.method, request.path, request.headers, request.body[:SEEN_BODY_BYTES_MAX])
            )
        if self.spec.has_request_id_headers or self._front is not None:
            request_id = request.headers.get("x-request-id") or secrets.token_hex(16)
            exchange.extra_headers = (("x-request-id", request_id),)
        exchange.on_over = partial(self._tally, began)
        if self.activator is None or request.path == FAULTS_PATH:
            self._answer(exchange)
        else:
            self.activator.pass_on(exchange)

    def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            self._dispatch(exchange)
        except ApiError as error:
            headers = self.error_headers(error)
            exchange.respond(error.status, self.error_body(error, request.path), headers=headers)
        except UnreadableBody:
            exchange.respond(400, b'{"detail":"There was an error parsing the body"}')
        except Exception:  # what FastAPI does with a bug of the server's own
            logger.exception("%s %s", request.method, request.path)
            exchange.respond(500, b"Internal Server Error", "text/plain; charset=utf-8")

    def _tally(self, began: float, exchange: Exchange) -> None:
        """Count an answer that is over. One that never began, because its client left, has no status to count."""
        request = exchange.request
        if exchange.status:
            handler = request.path if request.path in self._routes else "none"
            sizes = (len(request.body), exchange.body_bytes)
            self.metrics.answered(handler, request.method, exchange.status, *sizes, time.monotonic() - began)

    def _dispatch(self, exchange: Exchange) -> None:
        """Find the path and let it answer."""
        request = exchange.request
        if request.path == FAULTS_PATH:
            return self._answer_faults(exchange)
        if self._front is not None:
            if self._front.serves(exchange):
                return None
            request = self._front.admitted(request)
        elif request.path.startswith("/v1") and not self._is_authorized(request):
            exchange.respond(401, b'{"error":"Unauthorized"}')
            return None
        if request.method == "OPTIONS" and "origin" in request.headers:
            return _refuse_origin(exchange)
        route = self._routes.get(request.path)
        if route is None:
            return self._find_no_path(exchange)
        if request.method not in route.methods:
            allowed = (("allow", ", ".join(route.methods)),)
            return exchange.respond(405, b'{"detail":"Method Not Allowed"}', headers=allowed)
        needs_engine = route.is_inference or request.path in TOKENIZING
        if needs_engine and self.lifecycle.answer_instead(exchange):
            return None
        if not route.is_inference:
            return route.handler(self, request, exchange)
        _check_rank(request)
        if self._is_over_rate(exchange):
            return None
        answer: Answer = exchange
        fault = self._switch.take()
        if fault is not None:
            error_body = partial(self.error_body, path=request.path)
            hits = self._switch.hits
            if answer_instead(fault, exchange, hits=hits, error_body=error_body, error_headers=self.error_headers):
                return None
            endings = () if self._front is None else (self._front.error_event, self._front.done)
            answer = FaultyAnswer(exchange, fault, error_body, *endings)
        if self._front is not None:
            answer = self._front.answer(request, answer)
        return route.handler(self, request, answer)

    def _find_no_path(self, exchange: Exchange) -> None:
        """Starlette's redirect for a slash too many, FastAPI's 404 for the rest."""
        request = exchange.request
        bare = request.path.rstrip("/")
        if bare in self._routes:
            exchange.respond(307, b"", None, (("location", f"http://{request.headers.get('host', '')}{bare}"),))
        else:
            exchange.respond(404, b'{"detail":"Not Found"}')

    def check_model(self, model: str | None) -> None:
        """Raises vLLM's 404 for a name that is not served. None and "" mean the one that is."""
        if model and model not in self.spec.served_names:
            raise unknown_model(model, self.spec.served_names)

    def error_body(self, error: ApiError, path: str) -> bytes:
        """An error in the shape that the path's API and the dialect have."""
        if self._front is not None:
            return self._front.error_body(error, path)
        return error.anthropic_body() if path.startswith("/v1/messages") else error.body()

    def error_headers(self, error: ApiError) -> Headers:
        return () if self._front is None else self._front.error_headers(error)

    def _is_authorized(self, request: HttpRequest) -> bool:
        if self.spec.api_key is None:
            return True
        given = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {self.spec.api_key}".encode())

    def _is_over_rate(self, exchange: Exchange) -> bool:
        """`requests_per_minute` over a sliding minute; says 429 itself."""
        limit = self.spec.requests_per_minute
        if limit is None:
            return False
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) < limit:
            self._recent.append(now)
            return False
        wait = (("retry-after", str(max(1, math.ceil(self._recent[0] + 60 - now)))),)
        error = ApiError(429, f"Rate limit reached: {limit} requests per minute.", "Too Many Requests")
        exchange.respond(429, self.error_body(error, exchange.request.path), headers=wait)
        return True

    def _answer_faults(self, exchange: Exchange) -> None:
        """GET, POST, DELETE; `?replica=N` reaches a sibling, which may not be listening."""
        request = exchange.request
        wanted = parse_qs(request.query).get("replica")
        target = self.find_sibling(int(wanted[0])) if wanted and wanted[0].isdigit() else self
        if target is None:
            return exchange.respond(404, b'{"detail":"No such replica"}')
        if request.method == "GET":
            return exchange.respond(200, orjson.dumps(target._switch.seen()))
        fault: Fault | None = None
        if request.method == "POST":
            try:
                fault = Fault.model_validate_json(request.body)
            except ValidationError as error:
                detail = error.errors(include_url=False, include_context=False)
                return exchange.respond(400, orjson.dumps({"detail": detail}))
        exchange.respond(200, orjson.dumps({"fault": fault.model_dump(exclude_defaults=True) if fault else None}))
        return target.apply_fault(fault)

    # ------------------------------------------------------------------ generations under way

    def opened(self, generation: Generation) -> None:
        self._generations.add(generation)

    def closed(self, generation: Generation) -> None:
        self._generations.discard(generation)
        self.lifecycle.work_ended()
        if self.activator is not None:
            self.activator.work_ended()

    @property
    def generations(self) -> list[Generation]:
        """Requests under way in the engine, waiting or running."""
        return list(self._generations)


def _check_rank(request: HttpRequest) -> None:
    """One engine, so one data-parallel rank. Raises vLLM's 400 for any other."""
    rank = request.headers.get("x-data-parallel-rank", "0")
    if rank.isdigit() and int(rank) > 0:
        raise bad_request(f"data_parallel_rank {rank} is out of range [0, 1).")


def _refuse_origin(exchange: Exchange) -> None:
    names = ("Origin", *(f"Access-Control-Request-{name}" for name in ("Method", "Headers", "Private-Network")))
    headers = (
        ("vary", ", ".join(names)),
        ("access-control-allow-methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"),
        ("access-control-max-age", "600"),
    )
    exchange.respond(400, b"Disallowed CORS origin", "text/plain; charset=utf-8", headers)
