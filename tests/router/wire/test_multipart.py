"""Forms: what passes through, whatever the cuts, and what is written anew."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart import parse_form

from router.errors import BadRequest
from router.wire.multipart import FIELD_BYTES_MAX, MultipartForm

THEIRS = b"XbOuNdArY7"
CONTENT_TYPE = b"multipart/form-data; boundary=" + THEIRS


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    about = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        about += f'; filename="{filename}"\r\nContent-Type: audio/wav'
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (THEIRS, about.encode(), value)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + THEIRS + b"--\r\n"


def pass_through(body: bytes, cuts: list[int], *, forces_usage: bool = True) -> tuple[MultipartForm, bytes]:
    passing = MultipartForm(CONTENT_TYPE, b"ours")
    out, at = b"", 0
    for cut in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        passing.feed(body[at:cut])
        out += passing.take()
        at = cut
    return passing, passing.opening("whisper-served") + out + passing.closing(forces_usage=forces_usage)


def read(body: bytes, boundary: bytes = b"ours") -> list[tuple[str, bytes, str | None]]:
    """What an independent reading of a form finds: name, value, file name; in order."""
    import io

    found: list[tuple[str, bytes, str | None]] = []

    def on_field(field: Any) -> None:
        found.append((field.field_name.decode(), field.value or b"", None))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        found.append((file.field_name.decode(), file.file_object.read(), file.file_name.decode()))

    headers = {
        "Content-Type": "multipart/form-data; boundary=" + boundary.decode(),
        "Content-Length": str(len(body)).encode(),
    }
    parse_form(headers, io.BytesIO(body), on_field, on_file)  # type: ignore[arg-type]
    return found


@given(st.binary(max_size=400), st.lists(st.integers(0, 10**4), max_size=8), st.booleans())
def test_file_and_fields_arrive_whole_with_the_served_name_however_the_body_is_cut(
    audio: bytes, cuts: list[int], model_comes_last: bool
) -> None:
    fields = [part("language", b"en"), part("file", audio, "a.wav"), part("temperature", b"0")]
    model = part("model", b"whisper")
    passing, out = pass_through(form(*([*fields, model] if model_comes_last else [model, *fields])), cuts)
    assert passing.fields["model"] == "whisper"
    assert passing.has_file
    assert read(out) == [
        ("model", b"whisper-served", None),
        ("language", b"en", None),
        ("file", audio, "a.wav"),
        ("temperature", b"0", None),
    ]


def test_usage_is_forced_at_the_end_of_a_form_that_streams_and_nowhere_else() -> None:
    streams = form(part("model", b"m"), part("stream", b"true"))
    assert read(pass_through(streams, [])[1])[-2:] == [
        ("stream_include_usage", b"true", None),
        ("stream_continuous_usage_stats", b"true", None),
    ]
    whole = form(part("model", b"m"))
    assert [name for name, _, _ in read(pass_through(whole, [])[1])] == ["model"]


def test_what_the_client_said_about_usage_is_remembered_and_kept_where_nothing_is_forced() -> None:
    body = form(part("model", b"m"), part("stream", b"true"), part("stream_include_usage", b"true"))
    passing, out = pass_through(body, [], forces_usage=False)
    assert passing.wants_usage
    assert read(out) == [("model", b"whisper-served", None), ("stream", b"true", None),
                         ("stream_include_usage", b"true", None)]  # fmt: skip


def test_a_form_that_is_cut_short_is_refused() -> None:
    with pytest.raises(BadRequest, match="final boundary"):
        pass_through(form(part("model", b"m"))[:-10], [])


def test_a_form_without_boundary_or_with_nonsense_is_refused() -> None:
    with pytest.raises(BadRequest, match="boundary"):
        MultipartForm(b"multipart/form-data", b"ours")
    with pytest.raises(BadRequest, match="malformed"):
        MultipartForm(CONTENT_TYPE, b"ours").feed(b"--not-the-boundary\r\n")


def test_a_field_that_should_be_small_and_is_not_is_refused() -> None:
    with pytest.raises(BadRequest, match="prompt"):
        MultipartForm(CONTENT_TYPE, b"ours").feed(part("prompt", b"x" * (FIELD_BYTES_MAX + 1)))
