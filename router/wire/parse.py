"""From a JSON body to what routing needs to know of it.

Only what we route, bound and bill on is looked at; everything else is the backend's business and reaches it untouched.
"""

from typing import Any, NamedTuple

from router.domain.immutable import immutable
from router.domain.request import GENERATING, Capability, Endpoint, HostedTools, Prompt
from router.domain.usage import SERVICE_TIER_CHARACTERS_MAX, service_tier_named
from router.wire.constraints import CONSTRAINING, Constraints
from router.wire.hosted_tools import asked_tools
from router.wire.json_body import wrong_member
from router.wire.media import MediaRules, media_hosts
from router.wire.needs import needs_of
from router.wire.prompts import READERS

# vLLM's own default ceiling is 20 (`--max-logprobs`); above this some versions hang.
LOGPROBS_MAX = 100
RARE_INTEGERS = frozenset({"best_of", "logprobs", "top_logprobs", "prompt_logprobs", "min_tokens"})
# What bounds an answer, by endpoint. Backends pass over each other's names, so those bound nothing there; of a chat's two they
# take either, so that the larger is the bound.
COMPLETION_BOUNDS = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.COMPLETIONS: ("max_tokens",),
    Endpoint.RESPONSES: ("max_output_tokens",),
    Endpoint.MESSAGES: ("max_tokens",),
}
EVERY_COMPLETION_BOUND = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Members that steer other proxies to another host or key. A client must not be able to.
STEERING_MEMBERS = frozenset({"api_base", "base_url", "api_key", "api_version", "custom_llm_provider"})


@immutable
class Bounds:
    """What a request may ask for at most; from the server's configuration."""

    completion_tokens_max: int = 1_000_000
    choices_max: int = 128
    constraints: Constraints = Constraints()
    media: MediaRules = MediaRules()


class ParsedBody(NamedTuple):
    """The body's members (ours to copy, never to change) and what was read from them; see `InferenceRequest` for the fields.

    media_hosts: from which the engine would fetch media, if these lead to public addresses.
    """

    members: dict[str, Any]
    model: str
    is_streaming: bool
    prompt: Prompt
    needs: frozenset[Capability]
    completion_tokens_max: int | None
    choices: int
    prompts: int
    wants_usage: bool
    wants_continuous_usage: bool
    media_hosts: frozenset[str] = frozenset()
    service_tier: str = ""
    hosted_tools: HostedTools | None = None


def parse(endpoint: Endpoint, members: dict[str, Any], bounds: Bounds) -> ParsedBody:
    """Raises BadRequest naming the member that is missing, of the wrong type or out of bounds."""
    model = members.get("model")
    if type(model) is not str or not model:
        raise wrong_member("model", "a string: an alias such as `auto`, or the name of a model", model)
    if not STEERING_MEMBERS.isdisjoint(members):
        members = {key: value for key, value in members.items() if key not in STEERING_MEMBERS}
    is_streaming = members.get("stream")
    if is_streaming is not None and type(is_streaming) is not bool:
        raise wrong_member("stream", "true or false", is_streaming)
    if is_streaming and endpoint not in GENERATING:  # the whole answer would be taken for a backend's failure
        raise wrong_member("stream", "false or left out, for this is not streamed", is_streaming)
    if not CONSTRAINING.isdisjoint(members):
        bounds.constraints.check(members)
    content = READERS[endpoint](members)
    choices = _choices(members, bounds) * content.parallel_prompts
    options = members.get("stream_options")
    if options is not None and type(options) is not dict:
        raise wrong_member("stream_options", "an object", options)
    wants_usage = bool(options and options.get("include_usage"))
    hosted_tools = None
    if content.prompt.has_tools or "web_search_options" in members:
        hosted_tools = asked_tools(endpoint, members)
    return ParsedBody(
        members=members,
        model=model,
        is_streaming=bool(is_streaming),
        prompt=content.prompt,
        needs=needs_of(endpoint, members, content.prompt),
        completion_tokens_max=_completion_tokens_max(endpoint, members, bounds),
        choices=choices,
        prompts=content.parallel_prompts,
        wants_usage=wants_usage,
        wants_continuous_usage=wants_usage and bool(options and options.get("continuous_usage_stats")),
        media_hosts=media_hosts(members, bounds.media) if content.has_parts else frozenset(),
        service_tier=_service_tier(members) if "service_tier" in members else "",
        hosted_tools=hosted_tools,
    )


def _choices(members: dict[str, Any], bounds: Bounds) -> int:
    if not RARE_INTEGERS.isdisjoint(members):
        _integer(members, "best_of", 1, bounds.choices_max)
        for name in ("logprobs", "top_logprobs", "prompt_logprobs"):
            if type(members.get(name)) is not bool:
                _integer(members, name, 0, LOGPROBS_MAX)
        _integer(members, "min_tokens", 0, bounds.completion_tokens_max)
    return _integer(members, "n", 1, bounds.choices_max) or 1


def _service_tier(members: dict[str, Any]) -> str:
    value = members["service_tier"]
    if value is None:
        return ""
    if type(value) is not str or len(value) > SERVICE_TIER_CHARACTERS_MAX or not value.isprintable():
        raise wrong_member("service_tier", "the name of a service tier, such as `auto`, `flex` or `priority`", value)
    return service_tier_named(value)


def _completion_tokens_max(endpoint: Endpoint, members: dict[str, Any], bounds: Bounds) -> int | None:
    least = 0 if members.get("echo") else 1  # evaluation harnesses ask for nothing but the prompt's log-probabilities
    own = COMPLETION_BOUNDS.get(endpoint, ())
    found = None
    for name in EVERY_COMPLETION_BOUND:
        if name in members:
            value = _integer(members, name, least, bounds.completion_tokens_max)
            if value is not None and name in own:
                found = value if found is None else max(found, value)
    return found


def _integer(members: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise wrong_member(name, f"an integer from {least} to {most}", value)
    return value
