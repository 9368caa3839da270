"""The headers of a request's own terms, and what is said of those that make no sense."""

import pytest

from router.domain.request import NO_TERMS, Criticality, Terms
from router.errors import BadRequest
from router.wire.terms import read_terms


def test_a_request_without_them_has_none() -> None:
    assert read_terms({b"host": b"x", b"x-jeton-other": b"1"}) is NO_TERMS


@pytest.mark.parametrize(
    ("headers", "terms"),
    [
        ({b"x-jeton-max-usd": b"0.05"}, Terms(cost_nanousd_max=50_000_000)),
        ({b"x-jeton-max-usd": b" 1e-9 "}, Terms(cost_nanousd_max=1)),
        ({b"x-jeton-deadline-ms": b"1500"}, Terms(deadline_seconds=1.5)),
        ({b"x-jeton-criticality": b"Sheddable"}, Terms(criticality=Criticality.SHEDDABLE)),
        ({b"x-jeton-region": b"eu-west"}, Terms(region="eu-west")),
        (
            {b"x-jeton-deadline-ms": b"1", b"x-jeton-criticality": b"critical"},
            Terms(deadline_seconds=0.001, criticality=Criticality.CRITICAL),
        ),
    ],
)
def test_they_are_read(headers: dict[bytes, bytes], terms: Terms) -> None:
    assert read_terms(headers) == terms


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            b"x-jeton-max-usd",
            (
                b"",
                b"0",
                b"0.0000000001",
                b"9e-10",
                b"-1",
                b"NaN",
                b"Infinity",
                b"1e9",
                b"1_000",
                b"five",
                b"\xff",
                b"$1",
            ),
        ),
        (b"x-jeton-deadline-ms", (b"", b"0", b"-5", b"1.5", b"soon", b"9" * 30, b"\xb2", b"86400001")),
        (b"x-jeton-criticality", (b"", b"high", b"\xff")),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name: bytes, values: tuple[bytes, ...]) -> None:
    for value in values:
        with pytest.raises(BadRequest) as refused:
            read_terms({name: value})
        assert refused.value.param == name.decode()
        assert f"The header `{name.decode()}` must be" in refused.value.message
