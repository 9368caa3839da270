"""/v1/embeddings, /pooling, rerank and score: prompts that are read but not continued.

A vector is the sum of a fixed random direction per token, at length 1: texts with words in common lie near each other, so
that rankings look sane. What must not live here: text generation.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from load.emulator import language
from load.emulator.bodies import parse_json
from load.emulator.completions import prompts_of
from load.emulator.errors import ApiError, bad_request, invalid_body
from load.emulator.generation import Choice, Generation, completion_limit, new_generation
from load.emulator.http import Answer, HttpRequest
from load.emulator.reply import Reply
from load.engine import EngineSequence

if TYPE_CHECKING:
    from load.emulator.replica import Replica

Vector = NDArray[np.float32]

_CLS, _SEP = language.IM_START, language.IM_END  # what BERT puts around every text
_NO_REPLY = Reply((), (), "stop")


def embeddings(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = _body(replica, request)
    if body.get("messages") is not None:
        raise bad_request(
            "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the"
            " tokenizer does not define one."
        )
    if "input" not in body:
        raise _missing("input", body)
    if body.get("dimensions") is not None:
        name, asked = replica.spec.model, body["dimensions"]
        raise bad_request(
            f"Model '{name}' does not support Matryoshka embeddings; dimensions must be unset (received dimensions={asked})."
        )
    prompts = _inputs(replica, body)
    generation = new_generation(replica, answer, request, "embd", body.get("request_id"))
    encoding = str(body.get("encoding_format") or "float")

    def spell() -> None:
        vectors = [_vector(prompt, replica.spec.embedding_dimensions) for prompt in prompts]
        if encoding == "bytes":
            _answer_bytes(generation, vectors)
            return
        rows = [
            {"index": index, "object": "embedding", "embedding": _spelled(vector, encoding)}
            for index, vector in enumerate(vectors)
        ]
        value = {**_head(generation), "data": rows, "usage": _usage(generation)}
        answer.respond(200, orjson.dumps(value))

    _start(generation, prompts, spell)


def pooling(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = _body(replica, request)
    if "input" not in body:
        raise _missing("input", body)
    prompts = _inputs(replica, body)
    generation = new_generation(replica, answer, request, "pooling", body.get("request_id"))

    def spell() -> None:
        dimensions = replica.spec.embedding_dimensions
        rows = [
            {"index": index, "object": "pooling", "data": _vector(prompt, dimensions).tolist()}
            for index, prompt in enumerate(prompts)
        ]
        value = {**_head(generation), "data": rows, "usage": _usage(generation)}
        answer.respond(200, orjson.dumps(value))

    _start(generation, prompts, spell)


def score(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = _body(replica, request)
    lefts = _texts(body, "text_1", "queries", "data_1")
    rights = _texts(body, "text_2", "documents", "data_2")
    if len(lefts) not in (1, len(rights)):
        raise bad_request("Input lengths must be either 1:1, 1:N or N:N")
    prompts = [_framed(text) for text in (*lefts, *rights)]
    generation = new_generation(replica, answer, request, "score", body.get("request_id"))

    def spell() -> None:
        pairs = zip(lefts * len(rights) if len(lefts) == 1 else lefts, rights, strict=True)
        rows = [
            {"index": index, "object": "score", "score": _likeness(replica, left, right)}
            for index, (left, right) in enumerate(pairs)
        ]
        value = {**_head(generation), "data": rows, "usage": _usage(generation)}
        answer.respond(200, orjson.dumps(value))

    _start(generation, prompts, spell)


def rerank(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = _body(replica, request)
    query = _texts(body, "query")[0]
    documents = _texts(body, "documents")
    prompts = [_framed(text) for text in (query, *documents)]
    generation = new_generation(replica, answer, request, "score", body.get("request_id"))

    def spell() -> None:
        likenesses = [_likeness(replica, query, document) for document in documents]
        order = sorted(range(len(documents)), key=lambda index: likenesses[index], reverse=True)
        rows = [
            {
                "index": index,
                "document": {"text": documents[index], "multi_modal": None},
                "relevance_score": likenesses[index],
            }
            for index in order
        ]
        count = body.get("top_n") or len(rows)
        tokens = generation.usage().prompt_tokens
        value = {
            "id": generation.id,
            "model": replica.spec.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "results": rows[:count],
        }
        answer.respond(200, orjson.dumps(value))

    _start(generation, prompts, spell)


# ---------------------------------------------------------------------- input


def _body(replica: "Replica", request: HttpRequest) -> dict[str, Any]:
    body = parse_json(request.body, request.headers.get("content-type", ""))
    model = body.get("model")
    if isinstance(model, str) and model and model not in replica.spec.served_names:
        raise ApiError(404, f"The model `{model}` does not exist.", "NotFoundError")
    return body


def _inputs(replica: "Replica", body: Mapping[str, Any]) -> list[list[int]]:
    """Token ids of every input, with the model's frame; cut to `truncate_prompt_tokens` where asked."""
    given = body["input"]
    if isinstance(given, str) or (isinstance(given, list) and given and all(isinstance(part, str) for part in given)):
        prompts = [_framed(text) for text in ([given] if isinstance(given, str) else given)]
    else:
        prompts = prompts_of(given)
    limit = body.get("truncate_prompt_tokens")
    context_tokens = replica.spec.context_tokens
    if isinstance(limit, int) and limit != 0:
        prompts = [prompt[: context_tokens if limit < 0 else limit] for prompt in prompts]
    for prompt in prompts:
        if len(prompt) > context_tokens:
            completion_limit(len(prompt), None, context_tokens)
    return prompts


def _framed(text: str) -> list[int]:
    return [_CLS, *language.encode(text), _SEP]


def _texts(body: Mapping[str, Any], *names: str) -> list[str]:
    """A member that is a text or a list of texts (or of objects with a `text`), under any of its names."""
    for name in names:
        if name in body:
            given = body[name] if isinstance(body[name], list) else [body[name]]
            texts = [part.get("text", "") if isinstance(part, Mapping) else part for part in given]
            if texts and all(isinstance(text, str) for text in texts):
                return texts
            raise bad_request(f"{name} must be a text or a list of texts")
    raise _missing(names[0], body)


def _missing(name: str, body: Mapping[str, Any]) -> ApiError:
    place = f"body.{name}"
    told = f"<dict of {len(body)} items>"
    return invalid_body([str({"type": "missing", "loc": place, "msg": "Field required", "input": told})], place)


# ---------------------------------------------------------------------- work and output


class _PoolingAnswer:
    """Nothing on the way, one body at the end."""

    def __init__(self, spell: Callable[[], None]) -> None:
        self._spell = spell

    def begin(self) -> None:
        pass

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        pass

    def end(self) -> None:
        self._spell()


def _start(generation: Generation, prompts: Sequence[list[int]], spell: Callable[[], None]) -> None:
    for prompt in prompts:
        sequence = EngineSequence(len(prompt), 0)
        generation.choices.append(Choice(len(generation.choices), prompt, _NO_REPLY, sequence))
    generation.start(_PoolingAnswer(spell), is_stream=False)


def _head(generation: Generation) -> dict[str, Any]:
    return {
        "id": generation.id,
        "object": "list",
        "created": generation.created,
        "model": generation.replica.spec.model,
    }


def _usage(generation: Generation) -> dict[str, Any]:
    tokens = generation.usage().prompt_tokens
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


@lru_cache(maxsize=8192)
def _direction(token: int, dimensions: int) -> Vector:
    """A word's direction: the same with and without its blank, capital or not."""
    word = language.token_bytes(token).strip().lower()
    random = np.random.default_rng(language.digest(word))
    return np.asarray(random.standard_normal(dimensions), dtype=np.float32)


def _vector(prompt: Sequence[int], dimensions: int) -> Vector:
    words = [token for token in prompt if token not in (_CLS, _SEP)] or prompt  # the frame says nothing of the text
    total = np.stack([_direction(token, dimensions) for token in words]).sum(axis=0)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


def _likeness(replica: "Replica", left: str, right: str) -> float:
    """Cosine of two texts' vectors, −1 to 1."""
    dimensions = replica.spec.embedding_dimensions
    cosine = float(_vector(_framed(left), dimensions) @ _vector(_framed(right), dimensions))
    return max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else 0.0


def _spelled(vector: Vector, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(vector.tobytes()).decode()
    return vector.tolist()


def _answer_bytes(generation: Generation, vectors: Sequence[Vector]) -> None:
    """`encoding_format: "bytes"`: raw floats, described in a header."""
    size = len(vectors[0].tobytes())
    rows = [
        {
            "index": index,
            "embed_dtype": "float32",
            "endianness": "native",
            "start": index * size,
            "end": (index + 1) * size,
            "shape": [len(vector)],
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = generation.usage().prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    described = {"id": generation.id, "created": generation.created, "model": generation.replica.spec.model}
    metadata = orjson.dumps({**described, "data": rows, "usage": usage}).decode()
    generation.answer.start_stream("application/octet-stream", (("metadata", metadata),))
    for vector in vectors:
        generation.answer.send(vector.tobytes())
    generation.answer.finish()
