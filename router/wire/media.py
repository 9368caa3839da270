"""Addresses of media in a request: which there are, and which an engine may be sent to fetch.

An engine fetches what a client names, from where it stands: inside the cluster, beside the cloud's metadata service. So one
passes only if its host is one that the configuration lists, or, where it lists `*`, a public one; data URLs carry their content
themselves and always pass. What is read strictly here cannot be read differently there: no user information, no backslash, no
host in other notation than a plain name or an address in its usual form.

A listed host is the operator's word, and not looked up. Of others only the engine's own look-up counts in the end: a name that
changes between ours and its (rebinding), and a redirect that it follows, are beyond what can be seen from here. On vLLM
`--allowed-media-domains` and `VLLM_MEDIA_URL_ALLOW_REDIRECTS=0` close both.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from router.domain.immutable import immutable
from router.errors import BadRequest

ANY = "*"
# Members of the body in which content parts stand, and members of a part whose value is an address or an object with one.
HOLDERS = (
    "messages", "input", "system", "documents", "query", "queries", "items", "data_1", "data_2", "text_1", "text_2",
)  # fmt: skip
MEDIA_MEMBERS = frozenset({"image_url", "audio_url", "video_url", "file_url", "document_url", "media_url"})
# Contents themselves, in base 64; with a scheme before them they would be addresses.
CONTENT_MEMBERS = frozenset({"file_data", "data"})
# What a model made, not media: the arguments of a tool call may hold anything.
TOOL_CALLS = frozenset({"tool_use", "server_tool_use"})

_HTTP = re.compile(
    r"https?://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?(?:[/?][^\x00-\x20\x7f]*)?",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"[\x00-\x20]*[A-Za-z][A-Za-z0-9+.-]*:")
# What the last label of a name may not be: then the whole is read as an IPv4 address, in one notation or another.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Names that never leave the machine or the network (RFC 6761, RFC 8375, RFC 6762; `internal` is reserved by ICANN).
_INNER_NAMES = ("localhost", "local", "internal", "home.arpa", "localdomain", "lan", "intranet", "svc")
# What reaches another IPv4 address, and what is nobody's: beyond what `ipaddress` calls private.
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in ("100.64.0.0/10", "192.88.99.0/24", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32")
)


@immutable
class MediaRules:
    """domains: hosts from which media may be fetched, in lower case; `*` among them: from every public one."""

    domains: frozenset[str] = frozenset()


def media_hosts(members: dict[str, Any], rules: MediaRules) -> frozenset[str]:
    """The names of which must be known that they lead to public addresses.

    Raises BadRequest for an address that may not be fetched; the address itself is not repeated.
    """
    hosts: set[str] = set()
    for holder, value, is_content in _addresses(members):
        if _carries_itself(value, is_content=is_content):
            continue
        host = _host(value)
        if host is None or not _may_be_fetched(host, rules):
            raise unfetchable(holder, rules)
        if host not in rules.domains and not _is_address(host):
            hosts.add(host)
    return frozenset(hosts)


def fetches_media(members: dict[str, Any]) -> bool:
    """Whether an engine would have to fetch something, which may be another thing tomorrow."""
    return any(not _carries_itself(value, is_content=is_content) for _, value, is_content in _addresses(members))


def _carries_itself(value: str, *, is_content: bool) -> bool:
    return value[:5].lower() == "data:" or (is_content and _SCHEME.match(value) is None)


def unfetchable(param: str | None, rules: MediaRules) -> BadRequest:
    if not rules.domains:
        allowed = "media are taken as `data:` URLs only"
    elif ANY in rules.domains:
        allowed = "it must be an http or https URL of a public host"
    else:
        allowed = f"it must be an http or https URL of {', '.join(sorted(rules.domains))}"
    return BadRequest(
        f"The address of an image, a sound, a video or a file may not be fetched: {allowed}.", param=param
    )


def is_public(address: str) -> bool:
    """Whether an address, as a look-up gives it, is one that anybody can reach."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return (
        parsed.is_global
        and not parsed.is_multicast
        and not parsed.is_reserved
        and not any(parsed.version == network.version and parsed in network for network in _NOT_PUBLIC)
    )


def _addresses(members: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each with the body's member that holds it, and whether it may be the content itself."""
    for holder in HOLDERS:
        held = members.get(holder)
        waiting: list[Any] = [held] if type(held) is list or type(held) is dict else []
        while waiting:
            node = waiting.pop()
            if type(node) is list:
                waiting += [item for item in node if type(item) is dict or type(item) is list]
                continue
            kind = node.get("type")
            is_tool_call = type(kind) is str and kind in TOOL_CALLS
            for name, value in node.items():
                if type(value) is str:
                    if name in MEDIA_MEMBERS or (name == "url" and kind == "url"):
                        yield holder, value, False
                    elif name in CONTENT_MEMBERS:
                        yield holder, value, True
                elif type(value) is dict:
                    if name in MEDIA_MEMBERS and type(value.get("url")) is str:
                        yield holder, value["url"], False
                    if not (is_tool_call and name == "input"):
                        waiting.append(value)
                elif type(value) is list:
                    waiting.append(value)


def _host(url: str) -> str | None:
    """In lower case, an IPv6 address in its shortest form; None for what is no plain http or https URL."""
    match = _HTTP.fullmatch(url)
    if match is None:
        return None
    if match["v6"] is not None:
        try:
            return str(IPv6Address(match["v6"]))
        except ValueError:
            return None
    return match["name"].lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _may_be_fetched(host: str, rules: MediaRules) -> bool:
    if host in rules.domains:
        return True
    if ANY not in rules.domains:
        return False
    if _is_address(host):
        return is_public(host)
    labels = host.removesuffix(".").split(".")
    is_name = all(_LABEL.fullmatch(label) for label in labels) and not _NUMBER.fullmatch(labels[-1])
    is_inner = len(labels) == 1 or f".{'.'.join(labels)}".endswith(tuple(f".{name}" for name in _INNER_NAMES))
    return is_name and not is_inner
