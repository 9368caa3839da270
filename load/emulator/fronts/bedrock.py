"""Amazon Bedrock: signature version 4 checked by computing it again, or an API key; Converse and its event stream, in frames
with checksums; exceptions in a header; and, under `/openai/v1`, OpenAI's API.

The signature is reckoned here from the specification, not by the library that the router signs with.
Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html,
https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

import hashlib
import hmac
import re
import struct
import time
from binascii import crc32
from calendar import timegm
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import orjson

from load.emulator.errors import ApiError
from load.emulator.fronts.front import Front, body_of, is_key
from load.emulator.http import JSON, Answer, Headers, HttpRequest
from load.emulator.retelling import Retelling
from load.emulator.spec import ReplicaSpec

EVENTS = "application/vnd.amazon.eventstream"
SKEW_SECONDS_MAX = 300
_MODEL = re.compile(r"/model/([^/]+)/(converse|converse-stream)")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/bedrock/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_EXCEPTIONS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "abort": "malformed_model_output",
}
_INFERENCE = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop"}
_MEMBERS = frozenset(
    {"messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "requestMetadata", "guardrailConfig"}
)


class _Conversation(HttpRequest):
    """A chat that came as Converse's."""

    __slots__ = ()


class Bedrock(Front):
    """Of the spec: api_key is a bearer's; access_key the id and secret to sign with."""

    prefix = "/openai/v1"
    done = b""

    def __init__(self, spec: ReplicaSpec) -> None:
        super().__init__(spec)
        self.error_event = frame({":message-type": "exception", ":exception-type": "modelStreamErrorException"}, b"{}")

    def admitted(self, request: HttpRequest) -> HttpRequest:
        if request.path.startswith(f"{self.prefix}/"):
            return super().admitted(request)
        self._check_signature(request)
        found = _MODEL.fullmatch(request.path)
        if found is None:
            raise ApiError(404, "Unknown operation", "UnknownOperationException")
        model = unquote(found[1])
        if model not in self.spec.served_names:
            raise ApiError(400, "The provided model identifier is invalid.", "ValidationException")
        body = body_of(request)
        for name in body:
            if name not in _MEMBERS:
                raise _invalid(f"{name}: extraneous key [{name}] is not permitted")
        chat = {"model": model, **_as_chat(body)}
        if found[2] == "converse-stream":
            chat |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {**request.headers, "content-type": JSON}
        path = b"/v1/chat/completions"
        return _Conversation("POST", path, headers, orjson.dumps(chat), is_keep_alive=request.is_keep_alive)

    def answer(self, request: HttpRequest, answer: Answer) -> Answer:
        """Converse's where the body was made here; OpenAI's for whoever came under its paths."""
        return _ConverseAnswer(answer) if isinstance(request, _Conversation) else super().answer(request, answer)

    def error_body(self, error: ApiError, path: str) -> bytes:
        if path.startswith(f"{self.prefix}/"):
            return super().error_body(error, path)
        return orjson.dumps({"message": error.message})

    def error_headers(self, error: ApiError) -> Headers:
        kind = error.type if error.type.endswith("Exception") else _EXCEPTIONS.get(error.status, "ValidationException")
        return (("x-amzn-errortype", f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"),)

    def _check_signature(self, request: HttpRequest) -> None:
        given = request.headers.get("authorization", "")
        if given.startswith("Bearer ") and self.spec.api_key is not None:
            if not is_key(given, f"Bearer {self.spec.api_key}"):
                raise _denied("Authentication failed: Please make sure your API Key is valid.", "AccessDeniedException")
            return
        if self.spec.access_key is None and self.spec.api_key is None:
            return
        found = _AUTHORIZATION.fullmatch(given)
        if found is None or self.spec.access_key is None:
            raise _denied("Missing Authentication Token", "MissingAuthenticationTokenException")
        key_id, day, region, signed, signature = found.groups()
        wanted_id, secret = self.spec.access_key
        if key_id != wanted_id:
            raise _denied("The security token included in the request is invalid.", "UnrecognizedClientException")
        moment = request.headers.get("x-amz-date", "")
        if abs(_unix_seconds(moment) - time.time()) > SKEW_SECONDS_MAX or not moment.startswith(day):
            raise _denied("Signature expired", "InvalidSignatureException")
        names = signed.split(";")
        if "host" not in names or "x-amz-date" not in names:
            raise _denied("'Host' must be a 'SignedHeader' in the AWS Authorization.", "InvalidSignatureException")
        scope = f"{day}/{region}/bedrock/aws4_request"
        if not hmac.compare_digest(signature, signature_of(request, names, secret, scope)):
            raise _denied(
                "The request signature we calculated does not match the signature you provided.",
                "InvalidSignatureException",
            )


def signature_of(request: HttpRequest, names: list[str], secret: str, scope: str) -> str:
    """The signature that a request should have. names: of its signed headers. scope: day/region/service/aws4_request."""
    query = sorted(parse_qsl(request.query, keep_blank_values=True))
    canonical = "\n".join(
        [
            request.method,
            quote(request.path, safe="/~"),  # as it came is encoded once; what is signed, twice
            "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names),
            "",
            ";".join(names),
            request.headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of Amazon's event stream; all its headers are strings."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return message + struct.pack("!I", crc32(message))


def _event(kind: str, payload: Mapping[str, Any]) -> bytes:
    headers = {":event-type": kind, ":content-type": JSON, ":message-type": "event"}
    return frame(headers, orjson.dumps({**payload, "p": "abcdefghijklmnop"[: len(kind) % 16]}))


def _unix_seconds(moment: str) -> float:
    try:
        return timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return 0.0


def _denied(message: str, kind: str) -> ApiError:
    return ApiError(403, message, kind)


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, "ValidationException")


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """A Converse body as a chat of OpenAI's. Raises what Bedrock raises."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": _text(block)} for block in body.get("system") or ()]
    for message in body.get("messages") or ():
        if message.get("role") not in ("user", "assistant"):
            raise _invalid(f"Value '{message.get('role')}' at 'messages.role' failed to satisfy constraint")
        if messages and messages[-1]["role"] == message["role"]:
            raise _invalid("A conversation must alternate between user and assistant roles.")
        messages += _turn(message)
    inference = body.get("inferenceConfig") or {}
    chat: dict[str, Any] = {"messages": messages}
    for theirs, ours in _INFERENCE.items():
        if theirs in inference:
            chat[ours] = inference[theirs]
    if (chat.get("temperature") or 0) > 1:
        raise _invalid("inferenceConfig.temperature: must be less than or equal to 1")
    config = body.get("toolConfig")
    if config is None and any("toolUse" in block for m in body["messages"] for block in m["content"]):
        raise _invalid("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
    if config is not None:
        chat["tools"] = [_tool(tool["toolSpec"]) for tool in config["tools"]]
        choice = config.get("toolChoice") or {"auto": {}}
        named = {"type": "function", "function": {"name": (choice.get("tool") or {}).get("name")}}
        chat["tool_choice"] = named if "tool" in choice else "required" if "any" in choice else "auto"
    shape = ((body.get("outputConfig") or {}).get("textFormat") or {}).get("structure")
    if shape is not None:
        schema = orjson.loads(shape["jsonSchema"]["schema"])
        chat["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return chat


def _turn(message: dict[str, Any]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for block in message["content"]:
        if "text" in block:
            parts.append({"type": "text", "text": _text(block)})
        elif "image" in block:
            image = block["image"]
            if not isinstance(image["source"].get("bytes"), str):
                raise _invalid("messages.content.image.source: bytes are wanted")
            url = f"data:image/{image['format']};base64,{image['source']['bytes']}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        elif "toolUse" in block:
            use = block["toolUse"]
            function = {"name": use["name"], "arguments": orjson.dumps(use["input"]).decode()}
            calls.append({"id": use["toolUseId"], "type": "function", "function": function})
        elif "toolResult" in block:
            result = block["toolResult"]
            text = "\n".join(_text(part) for part in result["content"])
            results.append({"role": "tool", "tool_call_id": result["toolUseId"], "content": text})
        else:
            raise _invalid(f"Unknown content block {next(iter(block), '')}")
    turn: dict[str, Any] = {"role": message["role"], "content": parts or None}
    if calls:
        turn["tool_calls"] = calls
    return [*results, turn] if parts or calls else results


def _text(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    if not isinstance(text, str) or not text.strip():
        raise _invalid("The text field in the ContentBlock object is blank.")
    return text


def _tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": spec["name"], "parameters": spec["inputSchema"]["json"]}
    return {
        "type": "function",
        "function": function | ({"description": spec["description"]} if "description" in spec else {}),
    }


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The three kinds of input stand beside one another."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "inputTokens": usage["prompt_tokens"] - cached,
        "outputTokens": usage["completion_tokens"],
        "totalTokens": usage["total_tokens"],
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": 0,
    }


class _ConverseAnswer(Retelling):
    """Between vLLM's chat and the socket."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._block = -1
        self._kind = ""
        self._has_begun = False
        self._stop = ""

    def retold(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return _answer(value)

    def start_stream(self, content_type: str = EVENTS, headers: Headers = ()) -> None:
        self._answer.start_stream(EVENTS, headers)

    def send(self, event: bytes) -> None:
        if not event.startswith(b"data: {"):
            return
        chunk = orjson.loads(event[6:])
        if not self._has_begun:
            self._has_begun = True
            self._answer.send(_event("messageStart", {"role": "assistant"}))
        for choice in chunk.get("choices") or ():
            self._say(choice["delta"])
            if choice.get("finish_reason"):
                self._stop = _STOP_REASONS.get(choice["finish_reason"], "end_turn")
        if not chunk.get("choices") and chunk.get("usage"):
            self._close()
            self._answer.send(_event("messageStop", {"stopReason": self._stop}))
            self._answer.send(_event("metadata", {"usage": _usage(chunk["usage"]), "metrics": {"latencyMs": 1}}))

    def _say(self, delta: Mapping[str, Any]) -> None:
        if delta.get("reasoning"):
            self._fill("reasoning", {"reasoningContent": {"text": delta["reasoning"]}})
        if delta.get("content"):
            self._fill("text", {"text": delta["content"]})
        for call in delta.get("tool_calls") or ():
            function = call["function"]
            if function.get("name"):
                self._close()
                self._open(f"tool{call['index']}")
                use = {"toolUseId": call["id"], "name": function["name"]}
                start = {"contentBlockIndex": self._block, "start": {"toolUse": use}}
                self._answer.send(_event("contentBlockStart", start))
            if function.get("arguments"):
                self._fill(f"tool{call['index']}", {"toolUse": {"input": function["arguments"]}})

    def _fill(self, kind: str, delta: Mapping[str, Any]) -> None:
        if kind != self._kind:
            self._close()
            self._open(kind)
        self._answer.send(_event("contentBlockDelta", {"contentBlockIndex": self._block, "delta": delta}))

    def _open(self, kind: str) -> None:
        self._block += 1
        self._kind = kind

    def _close(self) -> None:
        if self._kind:
            self._kind = ""
            self._answer.send(_event("contentBlockStop", {"contentBlockIndex": self._block}))


def _answer(chat: Mapping[str, Any]) -> dict[str, Any]:
    choice = chat["choices"][0]
    message = choice["message"]
    content: list[dict[str, Any]] = []
    if message.get("reasoning"):
        content.append({"reasoningContent": {"reasoningText": {"text": message["reasoning"]}}})
    if message.get("content"):
        content.append({"text": message["content"]})
    for call in message.get("tool_calls") or ():
        use = {"toolUseId": call["id"], "name": call["function"]["name"]}
        content.append({"toolUse": {**use, "input": orjson.loads(call["function"]["arguments"])}})
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _STOP_REASONS.get(choice["finish_reason"], "end_turn"),
        "usage": _usage(chat["usage"]),
        "metrics": {"latencyMs": 1},
    }
