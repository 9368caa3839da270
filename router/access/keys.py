"""API key → who pays. A key is known by its HMAC-SHA256 under a pepper; it is never stored, logged or echoed.

It is looked up whole, by its hash: a cache by prefix let strangers in elsewhere (CVE-2026-35030). Whatever is not
exactly one known key is refused; there is no identity without a key (CVE-2026-59822). The work is the same for a
wrong and a nearly right key: one HMAC, and one look-up among hashes that a client cannot steer without the pepper. A right
key that was shown before is recognised whole, in memory alone, without the HMAC.
"""

import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from router.config.tenants import TenantConfig
from router.errors import Unauthenticated

HASH_SCHEME = "hmac-sha256:"
KEY_SCHEME = "sk-jeton-"
KEY_RANDOM_BYTES = 32
KEY_BYTES_MAX = 512  # no key is longer; hashing a header of any length would be work for nothing
PREFIX_CHARACTERS = 12

MISSING = (
    "You didn't provide an API key. Provide it in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or in an x-api-key header."
)
AMBIGUOUS = (
    "Provide your API key once: the request has more than one Authorization or x-api-key header, and they differ."
)
WRONG_SCHEME = "Provide your API key using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
WRONG_KEY = "Incorrect API key provided."


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a request is for. models: the model names it may ask for; empty means every one."""

    tenant: str
    api_key_name: str
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None


class ApiKeys:
    """The keys of every tenant. Immutable: a reload makes another one."""

    def __init__(self, tenants: Iterable[TenantConfig], pepper: bytes) -> None:
        """pepper: mixed into every hash; empty where `JETON_API_KEY_PEPPER` is not set."""
        self._pepper = pepper
        self._identities = {
            bytes.fromhex(api_key.hash.removeprefix(HASH_SCHEME)): Identity(
                tenant.name, api_key.name, tenant.models, tenant.requests_per_minute
            )
            for tenant in tenants
            for api_key in tenant.api_keys
        }
        # Right keys, whole, once they were shown: at most as many as there are. Wrong ones are never remembered.
        self._seen: dict[bytes, Identity] = {}

    def authenticate(self, headers: Sequence[tuple[bytes, bytes]]) -> Identity:
        """Who sent these headers (names in lower case, as ASGI has them).

        The key stands in `Authorization: Bearer`, as OpenAI's clients send it, or in `x-api-key`, as Anthropic's do, or
        in both if it is the same. Raises Unauthenticated for anything else.
        """
        authorization = x_api_key = None
        for name, value in headers:
            if name == b"authorization":
                if authorization is not None:
                    raise Unauthenticated(AMBIGUOUS)
                authorization = value
            elif name == b"x-api-key":
                if x_api_key is not None:
                    raise Unauthenticated(AMBIGUOUS)
                x_api_key = value
        if authorization is not None:
            key = _bearer(authorization)
            if x_api_key is not None and x_api_key != key:
                raise Unauthenticated(AMBIGUOUS)
        elif x_api_key is not None:
            key = x_api_key
        else:
            raise Unauthenticated(MISSING)
        if not key:
            raise Unauthenticated(MISSING)
        if len(key) > KEY_BYTES_MAX:
            raise Unauthenticated(WRONG_KEY)
        identity = self._seen.get(key)
        if identity is None:
            identity = self._identities.get(hmac.digest(self._pepper, key, "sha256"))
            if identity is None:
                raise Unauthenticated(WRONG_KEY)
            self._seen[key] = identity
        return identity


def _bearer(authorization: bytes) -> bytes:
    """The key of an Authorization header. The scheme's name is case-insensitive (RFC 9110, 11.1)."""
    scheme, _, key = authorization.partition(b" ")
    if scheme != b"Bearer" and scheme.lower() != b"bearer":
        raise Unauthenticated(WRONG_SCHEME if scheme else MISSING)
    return key.strip(b" ")


def new_api_key() -> str:
    """A key that nobody can guess: 256 random bits in URL-safe base 64."""
    return KEY_SCHEME + secrets.token_urlsafe(KEY_RANDOM_BYTES)


def api_key_hash(key: str, pepper: bytes) -> str:
    """What is stored of a key: `hmac-sha256:` and 64 hex digits."""
    return HASH_SCHEME + hmac.digest(pepper, key.encode(), "sha256").hex()


def api_key_prefix(key: str) -> str:
    """What a key is recognised by: its first characters, never more than a third of it."""
    return key[: min(PREFIX_CHARACTERS, len(key) // 3)]
