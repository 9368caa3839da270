"""Tools that OpenAI and Anthropic run themselves, as far as an answer tells of them: the calls that are billed beside the tokens.

Nothing is searched for. Whoever asks for a web search gets two, for a file search one, and for an interpreter one container, in
which it runs twice; a response that searches the web opens a page besides, which costs nothing. Bounds are kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

SEARCHES = 2
_HOSTED = ("web_search", "file_search", "code_interpreter")
Tools = Sequence[Mapping[str, Any]]


def response_items(tools: Tools | None, calls_max: int | None, response_id: str) -> list[dict[str, Any]]:
    """Items of a response's output. calls_max: of all tools together."""
    items: list[dict[str, Any]] = []
    for kind in _HOSTED:
        if not any(str(tool.get("type")).startswith(kind) for tool in tools or ()):
            continue
        if kind == "web_search":
            search = {"type": "search", "query": "an emulated search"}
            items += [{"type": "web_search_call", "action": search} for _ in range(SEARCHES)]
        elif kind == "file_search":
            items.append({"type": "file_search_call", "queries": ["an emulated search"], "results": None})
        else:
            ran = {
                "type": "code_interpreter_call",
                "code": "1 + 1",
                "container_id": f"cntr_{response_id}",
                "outputs": None,
            }
            items += [ran, ran]
    items = items[:calls_max]
    if any(item["type"] == "web_search_call" for item in items) and (calls_max is None or len(items) < calls_max):
        items.append({"type": "web_search_call", "action": {"type": "open_page", "url": "https://example.com/"}})
    return [{"id": f"ws_{response_id}_{place}", "status": "completed", **item} for place, item in enumerate(items)]


def message_searches(tools: Tools | None) -> int | None:
    """How often a message searches the web; None where it is not asked to."""
    for tool in tools or ():
        if is_servers(tool):
            bound = tool.get("max_uses")
            return min(bound, SEARCHES) if isinstance(bound, int) else SEARCHES
    return None


def is_servers(tool: Mapping[str, Any]) -> bool:
    """Of a message's tools: whether Anthropic runs it."""
    return str(tool.get("type")).startswith("web_search_")


def search_blocks(searches: int, message_id: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for place in range(searches):
        use_id = f"srvtoolu_{message_id}_{place}"
        found = {
            "type": "web_search_result",
            "url": "https://example.com/",
            "title": "Example",
            "encrypted_content": "",
        }
        blocks += [
            {"type": "server_tool_use", "id": use_id, "name": "web_search", "input": {"query": "an emulated search"}},
            {"type": "web_search_tool_result", "tool_use_id": use_id, "content": [found]},
        ]
    return blocks
