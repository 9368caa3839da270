"""A multipart form on its way through: fields are read as they pass, the file's bytes are neither kept nor looked at.

The form goes out with a boundary of its own, the model's served name in front, and what metering forces at the end (vLLM
refuses stream options before it knows that it streams, so they come last). Parsing is python-multipart's.
"""

from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from router.errors import BadRequest

FIELD_BYTES_MAX = 64 * 2**10
# Fields of the form that we write ourselves.
OURS = frozenset({"model", "stream_include_usage", "stream_continuous_usage_stats"})


class MultipartForm:
    """Feed it pieces of the client's body; take pieces of the backend's.

    fields: the small fields seen so far, by name, the last of a name. boundary: of the form that goes out.
    """

    def __init__(self, content_type: bytes, boundary: bytes) -> None:
        """Raises BadRequest when the content type names no boundary."""
        _, options = parse_options_header(content_type)
        theirs = options.get(b"boundary")
        if not theirs:
            raise BadRequest("The `Content-Type` of a form must name its boundary.")
        self.boundary = boundary
        self.fields: dict[str, str] = {}
        self.has_file = False
        self.is_complete = False
        self._out: list[bytes] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._name = self._value = b""
        self._field: str | None = None
        self._field_data = bytearray()
        self._is_passed = False
        callbacks: Any = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        self._parser = MultipartParser(theirs, callbacks)

    @property
    def is_streaming(self) -> bool:
        return self.fields.get("stream", "").strip().lower() in ("true", "1", "on", "yes")

    @property
    def wants_usage(self) -> bool:
        return self.fields.get("stream_include_usage", "").strip().lower() in ("true", "1", "on", "yes")

    def feed(self, data: bytes) -> None:
        """Raises BadRequest when the form is malformed or a field that should be small is not."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise BadRequest(f"The form is malformed: {error}") from None

    def take(self) -> bytes:
        """What may go on to the backend."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def opening(self, served_model: str) -> bytes:
        return self.field("model", served_model)

    def closing(self, *, forces_usage: bool) -> bytes:
        """The last parts and the final boundary. Raises BadRequest when the form was cut short."""
        if not self.is_complete:
            raise BadRequest("The form ends before its final boundary.")
        usage = b""
        if self.is_streaming and (forces_usage or self.wants_usage):
            usage = self.field("stream_include_usage", "true")
            if forces_usage:
                usage += self.field("stream_continuous_usage_stats", "true")
        return usage + b"--" + self.boundary + b"--\r\n"

    def field(self, name: str, value: str) -> bytes:
        head = b'--%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n' % (self.boundary, name.encode())
        return head + value.encode() + b"\r\n"

    # python-multipart's side.

    def _part_begin(self) -> None:
        self._headers = []
        self._field = None
        self._field_data.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        disposition = next((value for name, value in self._headers if name == b"content-disposition"), b"")
        _, options = parse_options_header(disposition)
        if b"filename" in options:
            self.has_file = True
        else:
            self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_passed = self._field not in OURS
        if self._is_passed:
            head = b"".join([b"%b: %b\r\n" % header for header in self._headers])
            self._out.append(b"--%b\r\n%b\r\n" % (self.boundary, head))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._field is not None:
            self._field_data += piece
            if len(self._field_data) > FIELD_BYTES_MAX:
                raise BadRequest(f"The form's field `{self._field}` is too large.", param=self._field)
        if self._is_passed:
            self._out.append(piece)

    def _part_end(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._field_data.decode("utf-8", "replace")
        if self._is_passed:
            self._out.append(b"\r\n")

    def _end(self) -> None:
        self.is_complete = True
