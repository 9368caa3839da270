"""Structured logs to stderr, JSON or for a console, our own and the libraries' alike. No prompt and no API key gets in.

Three guards, because nobody can look through every call: members that carry requests are dropped by name; whatever looks like
a key is blotted out of every string; of an exception only types and places are told, since its message, its source lines and
its locals may quote a request. Our own refusals and the operating system's errors are exempt from the last, their messages
are ours or the kernel's.

Below the level a call costs a fraction of a microsecond: nothing is formatted.
"""

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from router.errors import Refusal

# Names under which requests, answers and credentials travel through code.
NEVER_LOGGED = frozenset(
    {
        "api_key", "authorization", "body", "content", "headers", "input", "messages", "password", "prompt", "query",
        "secret", "system_text", "text", "token",
    }
)  # fmt: skip
# API keys as their makers print them, `Authorization` values, credentials in a URL.
KEY = re.compile(
    r"\b(?:sk|pk|rk)-[\w-]{8,}|\bhf_\w{8,}|\bgsk_\w{8,}|\bxai-\w{8,}|\bAIza[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\b(?:Bearer|Basic)\s+[\w.~+/=-]+|(?<=://)[^/\s@]+(?=@)",
    re.IGNORECASE,
)
BLOT = "[key]"
STRING_CHARACTERS_MAX = 2000
FRAMES_MAX = 20

EventDict = MutableMapping[str, Any]


def set_up_logs(
    format: Literal["json", "console"] = "console",
    level: Literal["debug", "info", "warning", "error"] = "info",
    stream: TextIO | None = None,
) -> None:
    """Configure structlog, and the standard library's logging under it, for the whole process. stream: default stderr."""
    stream = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        tell_exception_without_values,
        keep_secrets,
    ]
    renderers: dict[str, structlog.typing.Processor] = {
        "json": structlog.processors.JSONRenderer(),
        "console": structlog.dev.ConsoleRenderer(colors=stream.isatty()),
    }
    renderer = renderers[format]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, keep_first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries say little of use below a warning, and some of them quote requests there.
    root.setLevel(max(number, logging.WARNING))


def keep_secrets(_: Any, __: str, event: EventDict) -> EventDict:
    """Drop the members that carry requests; blot keys out of the others, and cut what is long."""
    for name in [name for name in event if name.lower() in NEVER_LOGGED]:
        del event[name]
    for name, value in event.items():
        event[name] = _without_keys(value)
    return event


def keep_first_line(_: Any, __: str, event: EventDict) -> EventDict:
    """Of a library's message: asyncio, for one, puts the repr of a lost exception on the lines below."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


def tell_exception_without_values(_: Any, __: str, event: EventDict) -> EventDict:
    """Replace exc_info by types and places: `ValueError at parse.py:31 in read`, causes first."""
    exc_info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if not exc_info:
        return event
    error = exc_info if isinstance(exc_info, BaseException) else None
    if error is None:
        error = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]
    if error is not None:
        event["error"] = _chain(error)
    return event


def _chain(error: BaseException) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        message = f": {link}" if isinstance(link, Refusal | OSError) else ""
        lines.append(f"{type(link).__name__}{message}{_places(link.__traceback__)}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return lines[::-1]


def _places(trace: TracebackType | None) -> str:
    frames = traceback.StackSummary.extract(traceback.walk_tb(trace), lookup_lines=False)[-FRAMES_MAX:]
    return "".join(f" < {frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def _without_keys(value: Any) -> Any:
    if isinstance(value, str):
        text = KEY.sub(BLOT, value)
        return text if len(text) <= STRING_CHARACTERS_MAX else text[:STRING_CHARACTERS_MAX] + "…"
    if isinstance(value, list | tuple):
        return [_without_keys(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_keys(one) for name, one in value.items() if str(name).lower() not in NEVER_LOGGED}
    if value is None or isinstance(value, bool | int | float):
        return value
    return _without_keys(str(value))
