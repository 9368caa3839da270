"""The paths that vLLM adds in development mode (`VLLM_SERVER_DEV_MODE=1`): sleep, pause, abort, caches. As recorded."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from load.emulator.http import Answer, HttpRequest

if TYPE_CHECKING:
    from load.emulator.replica import Replica


def sleep(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    level = _query(request, "level", "1")
    level_number = int(level) if level in ("0", "1", "2") else 1
    replica.lifecycle.sleep(level_number)
    _respond(answer, {"status": "sleeping", "level": level_number})


def wake_up(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    replica.lifecycle.wake_up()
    _respond(answer, {"status": "awake", "tags": None})


def is_sleeping(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    _respond(answer, {"is_sleeping": replica.lifecycle.sleep_level > 0})


def pause(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    replica.lifecycle.pause(_query(request, "mode", "keep"), lambda: _respond(answer, {"status": "paused"}))


def resume(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    replica.lifecycle.resume()
    _respond(answer, {"status": "resumed"})


def is_paused(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    _respond(answer, {"is_paused": replica.lifecycle.is_paused})


def abort_requests(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    """Counts the ids it was given, whether they were there or not; without any it ends all."""
    try:
        ids = orjson.loads(request.body or b"{}").get("request_ids")
    except (orjson.JSONDecodeError, AttributeError):
        ids = None
    count = len(ids) if ids else len(replica.generations)
    replica.lifecycle.abort(frozenset(map(str, ids)) if ids else None)
    _respond(answer, {"status": "aborted", "aborted": count})


def reset_prefix_cache(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    replica.engine.forget_prefixes()
    _respond(answer, {"success": True})


def reset_mm_cache(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    answer.respond(200, b"", None)


def _query(request: HttpRequest, name: str, default: str) -> str:
    return parse_qs(request.query).get(name, [default])[0]


def _respond(answer: Answer, value: dict[str, object]) -> None:
    answer.respond(200, orjson.dumps(value))
