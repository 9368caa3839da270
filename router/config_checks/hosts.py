"""Who can reach a host, as far as its name or address tells."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_beyond_loopback(host: str) -> bool:
    """Whether others than this machine can reach what listens there."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def is_private(url: str) -> bool:
    """Inside a private network, as far as the address tells: a name without dots, or one of a cluster, counts as inside."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".svc", ".localhost"))
