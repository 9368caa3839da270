"""The headers by which a client sets terms for one request: `x-jeton-max-usd`, `-deadline-ms`, `-criticality`, `-region`."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from router.domain.money import nanousd_from_usd
from router.domain.request import NO_TERMS, Criticality, Terms
from router.errors import BadRequest

CEILING = b"x-jeton-max-usd"
DEADLINE = b"x-jeton-deadline-ms"
CRITICALITY = b"x-jeton-criticality"
REGION = b"x-jeton-region"
HEADERS = frozenset({CEILING, DEADLINE, CRITICALITY, REGION})

USD_MIN = Decimal("1e-9")  # what amounts are counted in
USD_MAX = Decimal(10**6)
DEADLINE_MS_MAX = 24 * 3600 * 1000
REGION_CHARACTERS_MAX = 64


def read_terms(headers: Mapping[bytes, bytes]) -> Terms:
    """headers: by name in lower case. Raises BadRequest naming the header that makes no sense: terms that were not understood
    must not be passed over."""
    if HEADERS.isdisjoint(headers):
        return NO_TERMS
    return Terms(
        _ceiling(headers.get(CEILING)),
        _deadline(headers.get(DEADLINE)),
        _criticality(headers.get(CRITICALITY)),
        _region(headers.get(REGION)),
    )


def _ceiling(value: bytes | None) -> int | None:
    if value is None:
        return None
    try:
        text = value.decode("ascii").strip()
        usd = Decimal("" if "_" in text else text)  # Decimal takes 1_000 for a thousand
    except (InvalidOperation, UnicodeDecodeError):
        raise _wrong(CEILING, "an amount in US dollars, such as 0.05") from None
    if not usd.is_finite() or not USD_MIN <= usd <= USD_MAX:
        raise _wrong(CEILING, f"an amount in US dollars from {USD_MIN:f} up to {USD_MAX}")
    return nanousd_from_usd(usd)


def _deadline(value: bytes | None) -> float | None:
    if value is None:
        return None
    text = value.strip()
    if not text.isdigit() or len(text) > 12 or not 0 < int(text) <= DEADLINE_MS_MAX:
        raise _wrong(DEADLINE, f"a whole number of milliseconds from 1 to {DEADLINE_MS_MAX}")
    return int(text) / 1000


def _criticality(value: bytes | None) -> Criticality:
    if value is None:
        return Criticality.STANDARD
    try:
        return Criticality(value.decode("ascii").strip().lower())
    except (ValueError, UnicodeDecodeError):
        raise _wrong(CRITICALITY, "one of " + ", ".join(Criticality)) from None


def _region(value: bytes | None) -> str:
    """Any name: one that no pool knows has no round trip of its own."""
    return "" if value is None else value.decode("latin-1").strip()[:REGION_CHARACTERS_MAX]


def _wrong(header: bytes, right: str) -> BadRequest:
    name = header.decode()
    return BadRequest(f"The header `{name}` must be {right}.", param=name)
