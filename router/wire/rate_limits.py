"""How long a provider asks to be left alone, out of the headers of its refusal, in whichever dialect it says so.

Read in this order: `Retry-After-Ms` (OpenAI, Azure), `Retry-After` (seconds or a date), the reset of a limit of which nothing
remains (`x-ratelimit-*` as OpenAI, Groq, Together and Fireworks have it, `anthropic-ratelimit-*`), and a bare
`X-RateLimit-Reset` (OpenRouter's, a Unix time in milliseconds).
"""

import re
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
# The pairs of headers that say what is left of a limit and when it begins anew.
_LIMITS = tuple(
    (f"x-ratelimit-remaining-{what}".encode(), f"x-ratelimit-reset-{what}".encode()) for what in ("requests", "tokens")
) + tuple(
    (f"anthropic-ratelimit-{what}-remaining".encode(), f"anthropic-ratelimit-{what}-reset".encode())
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
)
# A Unix time in seconds passes this in the year 5138, one in milliseconds did in 1973.
_MILLISECONDS_FROM = 1e11


def wait_seconds(headers: Sequence[tuple[bytes, bytes]], now_seconds: float) -> float | None:
    """None where nothing readable says how long. Header names are lower case; now_seconds is Unix time."""
    found = {name: value.decode("latin-1").strip() for name, value in headers}
    milliseconds = found.get(b"retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1e3
    told = _moment(found.get(b"retry-after", ""), now_seconds)
    if told is not None:
        return told
    waits = [
        wait
        for remaining, reset in _LIMITS
        if _is_none_left(found.get(remaining, "")) and (wait := _moment(found.get(reset, ""), now_seconds)) is not None
    ]
    if waits:
        return max(waits)
    reset = found.get(b"x-ratelimit-reset", "")
    return _moment(reset, now_seconds) if _NUMBER.fullmatch(reset) else None


def duration_seconds(text: str) -> float | None:
    """Of `12`, `0.5`, `7.66s`, `6m0s`, `2h3m`, `120ms`; None for anything else."""
    if _NUMBER.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1e3


def _is_none_left(remaining: str) -> bool:
    return bool(_NUMBER.fullmatch(remaining)) and float(remaining) == 0


def _moment(text: str, now_seconds: float) -> float | None:
    """Seconds from now of a duration, a Unix time, an RFC 3339 time or an HTTP date."""
    duration = duration_seconds(text)
    if duration is not None:
        if duration > _MILLISECONDS_FROM:
            duration = duration / 1e3
        return max(0.0, duration - now_seconds) if duration > 1e9 else duration
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, TypeError):
            continue
        if moment.tzinfo is not None:
            return max(0.0, moment.timestamp() - now_seconds)
    return None
