"""Which requests have but one answer, and under what name it is kept.

A request is taken to be deterministic when it sets `temperature` to 0 or gives a `seed`, and depends on nothing that is not
in it: no conversation kept at the provider, no tool that the provider runs, no media to be fetched (`wire/media.py`).
(Engines are not deterministic to the last bit across batches; who sends such a request has asked for the same answer as far
as there is one.)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from router.domain.request import GENERATING, Endpoint

# Request headers that backends see and that may change an answer.
TELLING_HEADERS = (b"anthropic-beta", b"anthropic-version", b"openai-beta")
# Members that refer to what the provider keeps or looks up, so that the same request may mean another thing tomorrow.
OPEN_ENDED = {
    Endpoint.CHAT: ("web_search_options",),
    Endpoint.COMPLETIONS: (),
    Endpoint.RESPONSES: ("previous_response_id", "conversation", "background", "prompt"),
    Endpoint.MESSAGES: ("container", "mcp_servers"),
}
# Tools that the client runs; Anthropic's have no type.
OWN_TOOLS = frozenset({"function", "custom"})


class Served(NamedTuple):
    """What answers alike wherever it runs."""

    model: str
    quantization: str


def is_deterministic(endpoint: Endpoint, members: Mapping[str, Any]) -> bool:
    if endpoint not in GENERATING:
        return False
    temperature = members.get("temperature")
    is_cold = type(temperature) in (int, float) and temperature == 0
    if not is_cold and type(members.get("seed")) is not int:
        return False
    return not any(members.get(name) for name in OPEN_ENDED[endpoint]) and _runs_own_tools(members.get("tools"))


def answer_key(
    tenant: str, endpoint: Endpoint, served: Served, members: Mapping[str, Any], headers: Sequence[bytes | None]
) -> bytes:
    """32 bytes: the same for the same tenant, model and body, however its members are ordered and spaced.

    headers: the values of `TELLING_HEADERS`.
    """
    told = [None if value is None else value.decode("latin-1") for value in headers]
    named = [tenant, endpoint.value, *served, told, members]
    try:
        text = orjson.dumps(named, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer beyond 64 bits
        text = json.dumps(named, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(text, digest_size=32).digest()


def _runs_own_tools(tools: Any) -> bool:
    if not tools:
        return True
    return type(tools) is list and all(type(tool) is dict and _is_own(tool.get("type")) for tool in tools)


def _is_own(kind: Any) -> bool:
    return kind is None or (type(kind) is str and kind in OWN_TOOLS)
