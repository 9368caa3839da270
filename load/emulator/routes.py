"""The paths of a replica, by its kind and dialect: which handler answers which. Those that say next to nothing are here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from load.emulator import dev, metrics
from load.emulator.audio import transcriptions, translations
from load.emulator.chat import chat_completions
from load.emulator.completions import completions
from load.emulator.http import Answer, HttpRequest
from load.emulator.language import digest
from load.emulator.messages import count_tokens, messages
from load.emulator.pooling import embeddings, pooling, rerank, score
from load.emulator.responses import responses
from load.emulator.spec import VERSION, Dialect, Kind, ReplicaSpec
from load.emulator.tokenize import detokenize, tokenize

if TYPE_CHECKING:
    from load.emulator.replica import Replica

PathHandler = Callable[["Replica", HttpRequest, Answer], None]


@dataclass(frozen=True, slots=True)
class Route:
    """One path. is_inference: faults apply, and only POST is answered."""

    methods: tuple[str, ...]
    handler: PathHandler
    is_inference: bool = False


def routes_of(spec: ReplicaSpec) -> dict[str, Route]:
    """Every path of such a replica."""
    get, post = ("GET",), ("POST",)
    routes = {"/v1/models": Route(get, _models)}
    routes |= {path: Route(post, handler, is_inference=True) for path, handler in _WORK[spec.kind].items()}
    if spec.dialect is Dialect.VLLM:
        routes |= {path: Route(get, handler) for path, handler in _SMALL.items()}
        routes["/ping"] = Route(("GET", "POST"), _health)
        routes |= {path: Route(post, handler) for path, handler in TOKENIZING.items()}
    else:
        foreign = () if spec.dialect is Dialect.ANTHROPIC else _ANTHROPIC
        routes = {path: route for path, route in routes.items() if path.startswith("/v1/") and path not in foreign}
    return routes | (_DEVELOPMENT if spec.has_dev_mode else {})


def _health(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    answer.respond(200, b"", None)


def _version(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    answer.respond(200, orjson.dumps({"version": VERSION}))


def _load(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    count = len(replica.generations) if replica.spec.has_load_tracking else 0
    answer.respond(200, orjson.dumps({"server_load": count}))


def _metrics(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    text = replica.metrics.text(sleep_level=replica.lifecycle.sleep_level)
    answer.respond(200, text, metrics.CONTENT_TYPE)


def _kv_event_sources(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    answer.respond(200, b"{}")


def _models(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    spec = replica.spec
    if spec.dialect is not Dialect.VLLM:
        rows = [
            {"id": name, "object": "model", "created": replica.created, "owned_by": "system"}
            for name in spec.served_names
        ]
        answer.respond(200, orjson.dumps({"object": "list", "data": rows}))
        return
    permission = {
        "object": "model_permission",
        "created": replica.created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    rows = [
        {
            "id": name,
            "object": "model",
            "created": replica.created,
            "owned_by": "vllm",
            "root": spec.model,
            "parent": None,
            "max_model_len": spec.context_tokens,
            "permission": [{"id": f"modelperm-{digest(name, replica.created):016x}", **permission}],
        }
        for name in spec.served_names
    ]
    answer.respond(200, orjson.dumps({"object": "list", "data": rows}))


_SMALL: dict[str, PathHandler] = {
    "/health": _health,
    "/version": _version,
    "/load": _load,
    "/metrics": _metrics,
    "/kv_event_sources": _kv_event_sources,
}
TOKENIZING: dict[str, PathHandler] = {"/tokenize": tokenize, "/detokenize": detokenize}
_DEVELOPMENT = {
    "/sleep": Route(("POST",), dev.sleep),
    "/wake_up": Route(("POST",), dev.wake_up),
    "/is_sleeping": Route(("GET",), dev.is_sleeping),
    "/pause": Route(("POST",), dev.pause),
    "/resume": Route(("POST",), dev.resume),
    "/is_paused": Route(("GET",), dev.is_paused),
    "/abort_requests": Route(("POST",), dev.abort_requests),
    "/reset_prefix_cache": Route(("POST",), dev.reset_prefix_cache),
    "/reset_mm_cache": Route(("POST",), dev.reset_mm_cache),
}
_ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
_WORK: dict[Kind, dict[str, PathHandler]] = {
    Kind.GENERATE: {
        "/v1/chat/completions": chat_completions,
        "/v1/completions": completions,
        "/v1/responses": responses,
        "/v1/messages": messages,
        "/v1/messages/count_tokens": count_tokens,
        "/invocations": chat_completions,
    },
    Kind.EMBED: {
        "/v1/embeddings": embeddings,
        "/pooling": pooling,
        "/v1/rerank": rerank,
        "/v2/rerank": rerank,
        "/rerank": rerank,
        "/v1/score": score,
        "/score": score,
    },
    Kind.TRANSCRIBE: {
        "/v1/audio/transcriptions": transcriptions,
        "/v1/audio/translations": translations,
    },
}
