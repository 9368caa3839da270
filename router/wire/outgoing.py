"""The request as a backend gets it: the client's members, with the model's served name and what metering forces."""

import hmac
from functools import lru_cache
from typing import Any

from router.domain.fleet import EngineKind
from router.domain.request import Endpoint
from router.wire.json_body import encode_object

PATHS = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.COMPLETIONS: "/v1/completions",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
    Endpoint.RERANK: "/v1/rerank",
    Endpoint.SCORE: "/v1/score",
    Endpoint.TRANSCRIPTIONS: "/v1/audio/transcriptions",
    Endpoint.TRANSLATIONS: "/v1/audio/translations",
    Endpoint.TOKENIZE: "/tokenize",
}

# Endpoints whose streams carry usage only when `stream_options` asks for it.
USAGE_ON_REQUEST = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})
# Endpoints whose prompts go through vLLM's prefix cache: all that run one. (Speech has none.)
CACHE_SALTED = frozenset(
    {
        Endpoint.CHAT,
        Endpoint.COMPLETIONS,
        Endpoint.RESPONSES,
        Endpoint.MESSAGES,
        Endpoint.EMBEDDINGS,
        Endpoint.RERANK,
        Endpoint.SCORE,
    }
)

# Request headers of the client that a backend may see; all others stay here.
FORWARDED_HEADERS = frozenset({b"anthropic-version", b"anthropic-beta", b"openai-beta", b"traceparent", b"tracestate"})


def cache_salt(tenant: str, clients_own: object) -> str:
    """A salt of the tenant's own, so that prefix-cache timing tells one tenant nothing of another.

    What the client sent as `cache_salt` separates further inside its tenant, and cannot name another tenant's salt.
    """
    return _salt(tenant, clients_own if type(clients_own) is str else "")


@lru_cache(maxsize=4096)
def _salt(tenant: str, own: str) -> str:
    return hmac.digest(tenant.encode(), own.encode(), "sha256").hex()[:32]


def outgoing_body(
    members: dict[str, Any], *, endpoint: Endpoint, engine: EngineKind, served_model: str, is_streaming: bool, salt: str
) -> bytes:
    """Encode the body for one backend. `members` is not changed. Usage is forced on streams; vLLM is asked for the running
    count as well, so that a stream that is cut can be billed for what was made."""
    sent = {**members, "model": served_model}
    if is_streaming and endpoint in USAGE_ON_REQUEST:
        options = {**(members.get("stream_options") or {}), "include_usage": True}
        if engine is EngineKind.VLLM:
            options["continuous_usage_stats"] = True
        sent["stream_options"] = options
    if engine is EngineKind.VLLM:
        if endpoint in CACHE_SALTED:
            sent["cache_salt"] = salt
    else:
        sent.pop("cache_salt", None)
    return encode_object(sent)
