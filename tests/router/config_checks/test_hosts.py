"""Who can reach a host, as far as it tells."""

import pytest

from router.config_checks.hosts import is_beyond_loopback


@pytest.mark.parametrize(
    ("host", "is_so"),
    [
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.1", True),
        ("", True),
        ("jeton.internal", True),
    ],
)
def test_only_loopback_keeps_others_out(host: str, is_so: bool) -> None:
    assert is_beyond_loopback(host) is is_so
