"""What providers' headers say of how long to wait."""

import pytest

from router.wire.rate_limits import duration_seconds, wait_seconds

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50 GMT"}, 30),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:10 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "2500", "retry-after": "3"}, 2.5),
        # OpenAI, Groq: only the limit of which nothing remains counts.
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "7.66s",
                "x-ratelimit-remaining-tokens": "17997",
                "x-ratelimit-reset-tokens": "2m59.56s",
            },
            7.66,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360,
        ),
        ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "1s"}, None),
        # Together: bare seconds.
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12"}, 12),
        # Anthropic: RFC 3339.
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:14:00Z",
            },
            40,
        ),
        # OpenRouter: Unix time in milliseconds.
        ({"x-ratelimit-reset": "1790000060000"}, 60),
        ({"x-ratelimit-reset": "1789999000000"}, 0),
    ],
)
def test_the_wait_is_read_in_every_dialect(headers: dict[str, str], seconds: float | None) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert wait_seconds(pairs, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h2m3s", 3723), ("6m0s", 360), ("2m", 120), ("15ms", 0.015), ("0", 0), ("", None), ("1x", None), ("s", None)],
)
def test_durations_are_read_as_go_prints_them(text: str, seconds: float | None) -> None:
    assert duration_seconds(text) == seconds
