"""A small request to each endpoint of the fleet in `whole_app.py`: the path, and what to post there."""

from typing import Any

from payloads import HELLO, form, sound

from router.domain.request import Endpoint

FORM = "multipart/form-data; boundary=limit"


def requests_to_every_endpoint() -> dict[Endpoint, tuple[str, dict[str, Any]]]:
    sounds = {"content": form(("model", "audio-model"), ("file", sound())), "headers": {"content-type": FORM}}
    small = {"model": "small-model", "max_tokens": 3}
    requests: dict[Endpoint, tuple[str, dict[str, Any]]] = {
        Endpoint.CHAT: ("/v1/chat/completions", {"json": {**small, "messages": HELLO}}),
        Endpoint.COMPLETIONS: ("/v1/completions", {"json": {**small, "prompt": "Hello"}}),
        Endpoint.RESPONSES: ("/v1/responses", {"json": {"model": "small-model", "input": "x", "max_output_tokens": 3}}),
        Endpoint.MESSAGES: ("/v1/messages", {"json": {**small, "messages": HELLO}}),
        Endpoint.EMBEDDINGS: ("/v1/embeddings", {"json": {"model": "embed-model", "input": "x"}}),
        Endpoint.RERANK: ("/v1/rerank", {"json": {"model": "embed-model", "query": "x", "documents": ["y"]}}),
        Endpoint.SCORE: ("/v1/score", {"json": {"model": "embed-model", "text_1": "x", "text_2": "y"}}),
        Endpoint.TRANSCRIPTIONS: ("/v1/audio/transcriptions", sounds),
        Endpoint.TRANSLATIONS: ("/v1/audio/translations", sounds),
        Endpoint.TOKENIZE: ("/tokenize", {"json": {"model": "small-model", "prompt": "x"}}),
    }
    assert set(requests) == set(Endpoint)
    return requests
