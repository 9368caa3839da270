"""Hosted tools, those that a provider runs itself and bills beside the tokens: which of them a request asks for, and what of them
an answer says was called.

A tool has its provider's name for it without the version that a request gives: `web_search`. What a client runs (functions,
shells, computers) and what is said to cost nothing but tokens (fetched pages, MCP) is no hosted tool here. A call of a kind that
is not known is counted: what it costs a price must say.
"""

from collections.abc import Iterable
from typing import Any

from router.domain.request import Endpoint, HostedTools
from router.domain.usage import TOOL_CHARACTERS_MAX, ToolCalls

# By the beginnings of their kinds in a request.
_ASKED = {
    Endpoint.RESPONSES: ("web_search", "file_search", "code_interpreter", "image_generation", "x_search"),
    Endpoint.MESSAGES: ("web_search", "code_execution"),
}
# Billed by the time that a container stands, which an answer does not tell: each container that it names is a call.
_IN_CONTAINERS = frozenset({"code_interpreter", "code_execution"})
# Items of a response by these names are what its client runs, or MCP, for which OpenAI takes nothing (its price list, 2026).
_UNBILLED_ITEMS = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "tool_search_call",
        "mcp_call",
    }
)
# Of Anthropic's, what costs nothing but tokens (its documentation of web fetch and of tool search, 2026).
_UNBILLED_REQUESTS = frozenset({"web_fetch", "tool_search"})
# How many calls there are at most of a tool that a request does not bound: an assumption, for no provider says.
CALLS_UNBOUNDED = 10
CALLS_MAX = 10**6
# Of an item or a block, what its calls are counted by.
COUNTED_MEMBERS = ("type", "name", "action", "container_id")


def asked_tools(endpoint: Endpoint, members: dict[str, Any]) -> HostedTools | None:
    """None where the request asks for none, or lets none be called.

    A chat asks for one search by `web_search_options`: the models that know it search once for every request (OpenAI's
    documentation of Chat Completions, 2026).
    """
    if endpoint is Endpoint.CHAT:
        return HostedTools((("web_search", 1),), 1) if members.get("web_search_options") is not None else None
    kinds = _ASKED.get(endpoint, ())
    tools = members.get("tools")
    if not kinds or type(tools) is not list or members.get("tool_choice") == "none":
        return None
    together = members.get("max_tool_calls") if endpoint is Endpoint.RESPONSES else None
    unbounded = _bound(together, CALLS_UNBOUNDED)
    calls: dict[str, int] = {}
    for tool in tools:
        asked = tool.get("type") if type(tool) is dict else None
        if type(asked) is not str or asked == "function":
            continue
        for kind in kinds:
            if asked == kind or asked.startswith(f"{kind}_"):
                own = tool.get("max_uses") if endpoint is Endpoint.MESSAGES else None
                most = 1 if kind in _IN_CONTAINERS else _bound(own, unbounded)
                calls[kind] = calls.get(kind, 0) + most
    calls_max = sum(calls.values())
    calls_max = min(calls_max, _bound(together, calls_max))
    return HostedTools(tuple(sorted(calls.items())), calls_max) if calls_max else None


def _bound(value: object, unbounded: int) -> int:
    """What a client wrote; what is no bound is for the backend to refuse."""
    return min(value, CALLS_MAX) if type(value) is int and value >= 0 else unbounded


def calls_in_output(items: Iterable[Any]) -> ToolCalls:
    """Of the items of a response's output."""
    calls: dict[str, int] = {}
    containers: set[tuple[str, object]] = set()
    for item in items:
        kind = item.get("type") if type(item) is dict else None
        if type(kind) is not str or not kind.endswith("_call") or kind in _UNBILLED_ITEMS:
            continue
        tool = _named(kind.removesuffix("_call"))
        action = item.get("action")
        if tool == "web_search" and type(action) is dict and action.get("type") not in (None, "search"):
            continue  # a page that it opened, or looked for something in; searches are what is billed
        if tool in _IN_CONTAINERS:
            container = item.get("container_id")
            if type(container) is str and (tool, container) in containers:
                continue
            containers.add((tool, container))
        calls[tool] = calls.get(tool, 0) + 1
    return tuple(sorted(calls.items()))


def calls_in_usage(usage: Any) -> dict[str, int] | None:
    """Of a `server_tool_use`, as Anthropic and OpenRouter have it; None where there is none."""
    told = usage.get("server_tool_use") if type(usage) is dict else None
    if type(told) is not dict:
        return None
    calls: dict[str, int] = {}
    for name, value in told.items():
        tool = _named(name.removesuffix("_requests"))
        if name.endswith("_requests") and type(value) is int and value > 0 and tool not in _UNBILLED_REQUESTS:
            calls[tool] = value
    return calls


def calls_in_message(usage: Any, blocks: Iterable[Any], *, has_container: bool) -> ToolCalls:
    """Of a message: as its usage says, or by its blocks where that says nothing (a search that failed is a block, and free)."""
    calls = calls_in_usage(usage)
    if calls is None:
        calls = {}
        for block in blocks:
            name = block.get("name") if type(block) is dict and block.get("type") == "server_tool_use" else None
            if type(name) is str and name not in _UNBILLED_REQUESTS:
                if "code_execution" in name:  # its shell and its editor, too
                    has_container = True
                else:
                    calls[_named(name)] = calls.get(_named(name), 0) + 1
    if has_container:
        calls.setdefault("code_execution", 1)
    return tuple(sorted(calls.items()))


def told_calls(endpoint: Endpoint, answer: dict[str, Any]) -> ToolCalls | None:
    """Of a whole answer; None where it does not say."""
    if endpoint is Endpoint.RESPONSES:
        output = answer.get("output")
        return calls_in_output(output) if type(output) is list else None
    if endpoint is Endpoint.MESSAGES:
        content = answer.get("content")
        usage, has_container = answer.get("usage"), type(answer.get("container")) is dict
        if type(content) is not list and type(usage) is not dict:
            return None
        return calls_in_message(usage, content if type(content) is list else (), has_container=has_container)
    calls = calls_in_usage(answer.get("usage"))
    return None if calls is None else tuple(sorted(calls.items()))


def _named(told: str) -> str:
    """A tool as an answer names it, fit to be shown."""
    return (told if told.isprintable() else ascii(told))[:TOOL_CHARACTERS_MAX]
