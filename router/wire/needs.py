"""What a request needs of whoever is to serve it: the capabilities that its members ask for, beside its endpoint's own."""

from typing import Any

from router.domain.request import Capability, Endpoint, Prompt

# What the Responses API has in `include` for log-probabilities.
LOGPROBS_INCLUDED = "message.output_text.logprobs"
# Members of a chat that every provider can be given; `tools` and images are looked at for themselves.
ORDINARY_MEMBERS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "tools",
        "tool_choice",
    }
)
# Rare members of a chat: the capability that each needs, and the values that ask for nothing.
_RARE_MEMBERS: dict[str, tuple[Capability, tuple[Any, ...]]] = {
    "n": (Capability.N, (1,)),
    "seed": (Capability.SEED, ()),
    "logit_bias": (Capability.LOGIT_BIAS, ({},)),
    "frequency_penalty": (Capability.PENALTIES, (0,)),
    "presence_penalty": (Capability.PENALTIES, (0,)),
    "logprobs": (Capability.LOGPROBS, (False,)),
    "top_logprobs": (Capability.LOGPROBS, (0,)),
    "parallel_tool_calls": (Capability.SINGLE_TOOL_CALL, (True,)),
    "reasoning_effort": (Capability.REASONING_EFFORT, ()),
    "user": (Capability.USER, ()),
    "service_tier": (Capability.EXTENSIONS, ("auto", "default")),
    "response_format": (Capability.CHAT, ()),  # looked at for its type
}
# Of these, those that a completion of plain text can have, too.
_RARE_OF_COMPLETIONS = frozenset({"n", "seed", "logit_bias", "frequency_penalty", "presence_penalty", "user"})
_PLAIN_NEEDS = {endpoint: frozenset({Capability(endpoint.value)}) for endpoint in Endpoint}


def needs_of(endpoint: Endpoint, members: dict[str, Any], prompt: Prompt) -> frozenset[Capability]:
    wants_logprobs = _wants_logprobs(endpoint, members)
    wants_tools = prompt.has_tools and members.get("tool_choice") != "none"
    wants_audio = prompt.has_audio or (endpoint is Endpoint.CHAT and members.get("audio") is not None)
    has_rare = endpoint is Endpoint.CHAT and not ORDINARY_MEMBERS.issuperset(members)
    if endpoint is Endpoint.COMPLETIONS:
        has_rare = not _RARE_OF_COMPLETIONS.isdisjoint(members)
    if not (wants_logprobs or wants_tools or wants_audio or prompt.has_json_schema or prompt.has_images or has_rare):
        return _PLAIN_NEEDS[endpoint]
    needs = {Capability(endpoint.value)}
    if wants_logprobs:
        needs.add(Capability.LOGPROBS)
    if wants_tools:
        needs.add(Capability.TOOLS)
    if wants_audio:
        needs.add(Capability.AUDIO)
    if prompt.has_json_schema:
        needs.add(Capability.JSON_SCHEMA)
    if prompt.has_images:
        needs.add(Capability.VISION)
        if endpoint is Endpoint.CHAT and _has_image_urls(members["messages"]):
            needs.add(Capability.IMAGE_URLS)
    if has_rare:
        rare = members
        if endpoint is Endpoint.COMPLETIONS:
            rare = {name: members[name] for name in _RARE_OF_COMPLETIONS.intersection(members)}
        needs |= _rare_needs(rare)
    return frozenset(needs)


def _wants_logprobs(endpoint: Endpoint, members: dict[str, Any]) -> bool:
    if members.get("prompt_logprobs") is not None:
        return True
    if endpoint is Endpoint.RESPONSES:
        include = members.get("include")
        return bool(members.get("top_logprobs")) or (type(include) is list and LOGPROBS_INCLUDED in include)
    asked = members.get("logprobs")
    if endpoint is Endpoint.COMPLETIONS and type(asked) is int:
        return True  # 0 asks for that of each token that was chosen
    return asked not in (None, False)


def _rare_needs(members: dict[str, Any]) -> set[Capability]:
    """What the members of a chat ask for that not every provider's API has. One that changes nothing asks for nothing."""
    needs: set[Capability] = set()
    for name, value in members.items():
        if name in ORDINARY_MEMBERS or value is None:
            continue
        need, idle = _RARE_MEMBERS.get(name, (Capability.EXTENSIONS, ()))
        if value not in idle:
            needs.add(need)
    shape = members.get("response_format")
    if type(shape) is dict and shape.get("type") not in ("text", "json_schema"):
        needs.add(Capability.JSON_OBJECT)
    return needs


def _has_image_urls(messages: list[Any]) -> bool:
    for message in messages:
        content = message.get("content")
        for part in content if type(content) is list else ():
            image = part.get("image_url") if type(part) is dict else None
            url = image.get("url") if type(image) is dict else image
            if type(url) is str and not url.startswith("data:"):
                return True
    return False
