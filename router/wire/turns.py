"""A chat as providers with an API of their own want it: system text apart, turns of blocks, and what bounds the answer.

Read once from OpenAI's members, written by each provider's own file (`anthropic.py`, `converse.py`). Nothing is left out in
silence: what has no place here raises Untranslatable, with the member's name. Capabilities keep most of it from getting here.

| OpenAI | here |
|---|---|
| system and developer messages, wherever they stand | system text, in their order |
| messages that follow one another with the same role, results of tools among the user's | one turn |
| `reasoning` of earlier answers | left out, as chat templates do |
| `detail` of an image | the provider decides |
| names of participants, audio, files, custom tools, a choice among some of the tools | untranslatable |
"""

from collections.abc import Sequence
from typing import Any

import orjson

from router.domain.immutable import immutable
from router.errors import Untranslatable
from router.wire.needs import ORDINARY_MEMBERS

# What an Ask is read from. `stream`, `stream_options` and `model` are dealt with elsewhere.
READ_MEMBERS = ORDINARY_MEMBERS | {"parallel_tool_calls", "response_format", "reasoning_effort", "user", "cache_salt"}
# Values that ask for nothing, of members that have no place here.
IDLE_VALUES: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "service_tier": ("auto", "default"),
}
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
TOOL_CHOICES = frozenset({"auto", "none", "required"})
# What both APIs know; OpenAI's `minimal` and `none` they do not.
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})


@immutable
class Text:
    text: str


@immutable
class Image:
    """media_type and data (base64), or url."""

    media_type: str = ""
    data: str = ""
    url: str = ""


@immutable
class Call:
    """A tool that the model called."""

    id: str
    name: str
    arguments: dict[str, Any]


@immutable
class Result:
    """What a tool answered."""

    call_id: str
    content: Sequence[Text | Image]


Block = Text | Image | Call | Result


@immutable
class Turn:
    """role: user | assistant."""

    role: str
    blocks: list[Block]


@immutable
class Tool:
    name: str
    description: str
    parameters: dict[str, Any]
    is_strict: bool

    @property
    def optional_members(self) -> dict[str, Any]:
        """What both APIs have beside a tool's name and parameters, as far as it was said."""
        description = {"description": self.description} if self.description else {}
        return description | ({"strict": True} if self.is_strict else {})


@immutable
class Ask:
    """tool_choice: auto | none | required, or the name of one tool after `=`; "" where none was made. schema: of the answer,
    with its name, None where it is free."""

    system: list[str]
    turns: list[Turn]
    completion_tokens_max: int | None
    temperature: float | None
    top_p: float | None
    stop: list[str]
    tools: list[Tool]
    tool_choice: str
    is_single_tool_call: bool
    schema: dict[str, Any] | None
    schema_name: str
    reasoning_effort: str
    user: str

    @property
    def effort(self) -> str:
        """`reasoning_effort`, "" where none was asked for. Raises Untranslatable for one that neither API knows."""
        if self.reasoning_effort and self.reasoning_effort not in EFFORTS:
            what = f"`reasoning_effort` must be one of {', '.join(sorted(EFFORTS))} at this model's provider."
            raise Untranslatable(what, param="reasoning_effort")
        return self.reasoning_effort


def read_ask(members: dict[str, Any]) -> Ask:
    """Raises Untranslatable."""
    for name, value in members.items():
        if value is not None and name not in READ_MEMBERS and value not in IDLE_VALUES.get(name, ()):
            raise Untranslatable(f"`{name}` has no place in the API of this model's provider.", param=name)
    system: list[str] = []
    turns: list[Turn] = []
    for position, message in enumerate(members["messages"]):
        _add_message(message, f"messages.{position}", system, turns)
    schema, schema_name = _schema(members.get("response_format"))
    stop = members.get("stop")
    return Ask(
        system=system,
        turns=turns,
        completion_tokens_max=members.get("max_completion_tokens") or members.get("max_tokens"),
        temperature=_number(members, "temperature", most=1.0),
        top_p=_number(members, "top_p", most=1.0),
        stop=[stop] if type(stop) is str else _texts(stop, "stop"),
        tools=[_tool(tool, f"tools.{position}") for position, tool in enumerate(_array(members.get("tools"), "tools"))],
        tool_choice=_tool_choice(members.get("tool_choice")),
        is_single_tool_call=members.get("parallel_tool_calls") is False,
        schema=schema,
        schema_name=schema_name,
        reasoning_effort=_text(members.get("reasoning_effort"), "reasoning_effort"),
        user=_text(members.get("user"), "user"),
    )


def _add_message(message: dict[str, Any], where: str, system: list[str], turns: list[Turn]) -> None:
    role = message.get("role")
    if message.get("name") is not None and role != "tool":
        raise Untranslatable("The provider's API has no names of participants.", param=f"{where}.name")
    content = _content(message.get("content"), f"{where}.content")
    if role in ("system", "developer"):
        if any(type(block) is not Text for block in content):
            raise Untranslatable("A system message can only have text.", param=f"{where}.content")
        system.extend(block.text for block in content if type(block) is Text)
        return
    blocks: list[Block] = [*content]
    if role == "assistant":
        for name in ("audio", "function_call"):
            if message.get(name) is not None:
                raise Untranslatable(f"The provider's API has no `{name}`.", param=f"{where}.{name}")
        for position, call in enumerate(_array(message.get("tool_calls"), f"{where}.tool_calls")):
            blocks.append(_call(call, f"{where}.tool_calls.{position}"))
    elif role == "tool":
        blocks = [Result(_text(message.get("tool_call_id"), f"{where}.tool_call_id"), content)]
        role = "user"
    elif role != "user":
        raise Untranslatable("The provider's API has no such role.", param=f"{where}.role")
    if turns and turns[-1].role == role:
        turns[-1].blocks.extend(blocks)
    else:
        turns.append(Turn(role, blocks))


def _content(content: Any, where: str) -> list[Text | Image]:
    """Empty text is left out: it says nothing, and both providers refuse it."""
    if content is None:
        return []
    if type(content) is str:
        return [Text(content)] if content else []
    if type(content) is not list:
        raise Untranslatable("The content is neither text nor parts.", param=where)
    blocks: list[Text | Image] = []
    for position, part in enumerate(content):
        if type(part) is str:
            part = {"type": "text", "text": part}
        kind = part.get("type") if type(part) is dict else None
        if kind in ("text", "refusal"):
            text = _text(part.get(kind), f"{where}.{position}.{kind}")
            if text:
                blocks.append(Text(text))
        elif kind == "image_url":
            image = part.get("image_url")
            url = image.get("url") if type(image) is dict else image
            blocks.append(_image(url, f"{where}.{position}.image_url"))
        else:
            raise Untranslatable(
                "The provider's API has no place for this kind of content.", param=f"{where}.{position}.type"
            )
    return blocks


def _image(url: Any, where: str) -> Image:
    if type(url) is not str:
        raise Untranslatable("An image needs a `url`.", param=where)
    if not url.startswith("data:"):
        return Image(url=url)
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options or media_type not in IMAGE_TYPES:
        raise Untranslatable(f"An image in a data URL must be base64 of {', '.join(sorted(IMAGE_TYPES))}.", param=where)
    return Image(media_type, data)


def _call(call: Any, where: str) -> Call:
    function = call.get("function") if type(call) is dict else None
    if type(function) is not dict or call.get("type", "function") != "function":
        raise Untranslatable("The provider's API knows calls of functions only.", param=where)
    text = function.get("arguments") or "{}"
    try:
        arguments = orjson.loads(text) if type(text) is str else text
    except orjson.JSONDecodeError:
        arguments = None
    if type(arguments) is not dict:
        raise Untranslatable("The arguments of a call must be a JSON object here.", param=f"{where}.function.arguments")
    return Call(_text(call.get("id"), f"{where}.id"), _text(function.get("name"), f"{where}.function.name"), arguments)


def _tool(tool: Any, where: str) -> Tool:
    function = tool.get("function") if type(tool) is dict else None
    if type(function) is not dict or tool.get("type") != "function":
        raise Untranslatable("The provider's API knows functions as tools only.", param=where)
    return Tool(
        _text(function.get("name"), f"{where}.function.name"),
        _text(function.get("description"), f"{where}.function.description"),
        function.get("parameters") or {"type": "object", "properties": {}},
        bool(function.get("strict")),
    )


def _tool_choice(choice: Any) -> str:
    if choice is None or (type(choice) is str and choice in TOOL_CHOICES):
        return choice or ""
    function = choice.get("function") if type(choice) is dict and choice.get("type") == "function" else None
    if type(function) is not dict:
        raise Untranslatable("The provider's API has no such choice of tools.", param="tool_choice")
    return "=" + _text(function.get("name"), "tool_choice.function.name")


def _schema(shape: Any) -> tuple[dict[str, Any] | None, str]:
    kind = shape.get("type") if type(shape) is dict else None
    if shape is None or kind == "text":
        return None, ""
    told = shape.get("json_schema") if kind == "json_schema" else None
    schema = told.get("schema") if type(told) is dict else None
    if type(told) is not dict or type(schema) is not dict:
        raise Untranslatable("The provider's API has no such format of answers.", param="response_format")
    return schema, _text(told.get("name"), "response_format.json_schema.name")


def _number(members: dict[str, Any], name: str, *, most: float) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise Untranslatable(f"`{name}` must be a number from 0 to {most:g} at this model's provider.", param=name)
    return float(value)


def _array(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if type(value) is not list:
        raise Untranslatable(f"`{where}` must be an array.", param=where)
    return value


def _texts(values: Any, where: str) -> list[str]:
    if values is None:
        return []
    if type(values) is not list or any(type(value) is not str for value in values):
        raise Untranslatable(f"`{where}` must be a string or an array of strings.", param=where)
    return list(values)


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise Untranslatable(f"`{where}` must be a string.", param=where)
    return value
