"""/tokenize and /detokenize."""

from typing import TYPE_CHECKING

import orjson

from load.emulator import language
from load.emulator.bodies import ChatBody, check_messages, parse_json, validate
from load.emulator.chat import prompt_of
from load.emulator.completions import prompts_of
from load.emulator.http import Answer, HttpRequest

if TYPE_CHECKING:
    from load.emulator.replica import Replica


def tokenize(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = parse_json(request.body, request.headers.get("content-type", ""))
    if "messages" in body:
        chat = validate(ChatBody, body)
        replica.check_model(chat.model)
        ids = prompt_of(replica, chat, check_messages(chat.messages))
    else:
        replica.check_model(body.get("model"))
        ids = prompts_of(body.get("prompt"))[0]
    texts = None
    if body.get("return_token_strs"):
        texts = [language.token_bytes(token).decode("utf-8", "replace").replace(" ", "Ġ") for token in ids]
    value = {"count": len(ids), "max_model_len": replica.spec.context_tokens, "tokens": ids, "token_strs": texts}
    answer.respond(200, orjson.dumps(value))


def detokenize(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = parse_json(request.body, request.headers.get("content-type", ""))
    replica.check_model(body.get("model"))
    tokens = body.get("tokens")
    ids = prompts_of(tokens)[0] if tokens else []
    answer.respond(200, orjson.dumps({"prompt": language.decode(ids)}))
